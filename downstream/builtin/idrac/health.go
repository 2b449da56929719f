package idrac

import (
	"context"
	"maps"
	"slices"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

func (b *bmc) addHealth(s *kit.Server) {
	kit.Add(s, kit.Tool{
		Name: "power", Title: "Power supplies and consumption",
		Description: "Power supplies with output and health, what the server consumes now, power limit.",
	}, func(ctx context.Context, c *kit.Call, _ struct{}) (*kit.Listing, error) {
		return b.perChassis(ctx, c, b.power, "chassis", "kind", "name", "watts", "capacity_watts", "limit_watts", "average_watts", "peak_watts", "input_volts", "state", "health", "model")
	})
	kit.Add(s, kit.Tool{
		Name: "thermal", Title: "Temperatures and fans",
		Description: "Temperatures with their limits, and fans with their speed and health.",
	}, func(ctx context.Context, c *kit.Call, _ struct{}) (*kit.Listing, error) {
		return b.perChassis(ctx, c, b.thermal, "chassis", "kind", "name", "reading", "unit", "warns_at", "critical_at", "state", "health")
	})
	kit.Add(s, kit.Tool{
		Name: "sensors", Title: "All sensors", Adjust: kit.PageLimits,
		Description: "Every sensor of newer controllers: value, unit, kind, health. Older ones have only power and thermal.",
	}, func(ctx context.Context, c *kit.Call, in pageArgs) (*kit.Listing, error) {
		items, err := b.chassis(ctx, c, b.sensors)
		if err != nil {
			return nil, err
		}
		l := kit.List(items, in.Page, "chassis", "name", "reading", "unit", "kind", "state", "health")
		if len(items) == 0 {
			l.Say("this controller has no list of sensors: power and thermal show what it measures")
		}
		return l, nil
	})
}

// chassis collects the items of every enclosure.
func (b *bmc) chassis(ctx context.Context, c *kit.Call, of func(context.Context, *kit.Call, object) ([]kit.Item, error)) ([]kit.Item, error) {
	all, err := b.list(ctx, c, "Chassis", false)
	if err != nil {
		return nil, err
	}
	var items []kit.Item
	for _, o := range all {
		list, err := of(ctx, c, o)
		if err != nil {
			return nil, err
		}
		if len(all) > 1 {
			for _, it := range list {
				it["chassis"] = o.text("Id")
			}
		}
		items = append(items, list...)
	}
	return items, nil
}

func (b *bmc) perChassis(ctx context.Context, c *kit.Call, of func(context.Context, *kit.Call, object) ([]kit.Item, error), columns ...string) (*kit.Listing, error) {
	items, err := b.chassis(ctx, c, of)
	if err != nil {
		return nil, err
	}
	return kit.List(items, kit.Page{Limit: 500}, columns...), nil
}

// power reads the older Power resource, which nearly all controllers have, or else the newer PowerSubsystem.
func (b *bmc) power(ctx context.Context, c *kit.Call, chassis object) ([]kit.Item, error) {
	o, err := b.follow(ctx, chassis, "Power", true)
	if err != nil && !refused(err) {
		return nil, err
	}
	var items []kit.Item
	for _, p := range o.objects("PowerControl") {
		it := kit.Item{"kind": "consumption"}
		p.put(it, "Name", "name", "PowerConsumedWatts", "watts", "PowerCapacityWatts", "capacity_watts")
		p.object("PowerLimit").put(it, "LimitInWatts", "limit_watts")
		p.object("PowerMetrics").put(it, "AverageConsumedWatts", "average_watts", "MaxConsumedWatts", "peak_watts")
		p.status(it)
		items = append(items, it)
	}
	supply := func(p object) {
		if p.absent() {
			return
		}
		it := kit.Item{"kind": "supply"}
		p.put(it, "Name", "name", "PowerOutputWatts", "watts", "LastPowerOutputWatts", "watts", "PowerCapacityWatts", "capacity_watts",
			"LineInputVoltage", "input_volts", "Model", "model")
		p.status(it)
		items = append(items, it)
	}
	for _, p := range o.objects("PowerSupplies") {
		supply(p)
	}
	if o != nil {
		return items, nil
	}
	sub, err := b.follow(ctx, chassis, "PowerSubsystem", true)
	if err != nil && !refused(err) {
		return nil, err
	}
	supplies, err := b.members(ctx, c, sub, "PowerSupplies", true)
	if err != nil && !refused(err) {
		return nil, err
	}
	for _, p := range supplies {
		supply(p)
	}
	env, err := b.follow(ctx, chassis, "EnvironmentMetrics", true)
	if err != nil && !refused(err) {
		return nil, err
	}
	if w := env.object("PowerWatts"); w != nil {
		it := kit.Item{"kind": "consumption", "name": "whole chassis"}
		w.put(it, "Reading", "watts")
		items = append(items, it)
	}
	return items, nil
}

// thermal reads the older Thermal resource, or else the newer ThermalSubsystem.
func (b *bmc) thermal(ctx context.Context, c *kit.Call, chassis object) ([]kit.Item, error) {
	o, err := b.follow(ctx, chassis, "Thermal", true)
	if err != nil && !refused(err) {
		return nil, err
	}
	var items []kit.Item
	for _, t := range o.objects("Temperatures") {
		if t.absent() {
			continue
		}
		it := kit.Item{"kind": "temperature", "unit": "°C"}
		t.put(it, "Name", "name", "ReadingCelsius", "reading", "UpperThresholdNonCritical", "warns_at", "UpperThresholdCritical", "critical_at")
		t.status(it)
		items = append(items, it)
	}
	for _, f := range o.objects("Fans") {
		if f.absent() {
			continue
		}
		it := kit.Item{"kind": "fan", "unit": "RPM"}
		f.put(it, "FanName", "name", "Name", "name", "ReadingRPM", "reading", "Reading", "reading", "ReadingUnits", "unit", "LowerThresholdCritical", "critical_at")
		f.status(it)
		items = append(items, it)
	}
	if o != nil {
		return items, nil
	}
	sub, err := b.follow(ctx, chassis, "ThermalSubsystem", true)
	if err != nil && !refused(err) {
		return nil, err
	}
	fans, err := b.members(ctx, c, sub, "Fans", true)
	if err != nil && !refused(err) {
		return nil, err
	}
	for _, f := range fans {
		it := kit.Item{"kind": "fan", "unit": "%"}
		f.put(it, "Name", "name")
		f.object("SpeedPercent").put(it, "Reading", "reading")
		if rpm, ok := f.object("SpeedPercent").number("SpeedRPM"); ok {
			it["reading"], it["unit"] = rpm, "RPM"
		}
		f.status(it)
		items = append(items, it)
	}
	metrics, err := b.follow(ctx, sub, "ThermalMetrics", true)
	if err != nil && !refused(err) {
		return nil, err
	}
	for _, t := range metrics.objects("TemperatureReadingsCelsius") {
		it := kit.Item{"kind": "temperature", "unit": "°C"}
		t.put(it, "DeviceName", "name", "Reading", "reading")
		items = append(items, it)
	}
	for _, name := range slices.Sorted(maps.Keys(metrics.object("TemperatureSummaryCelsius"))) {
		it := kit.Item{"kind": "temperature", "unit": "°C", "name": name + " (summary)"}
		metrics.object("TemperatureSummaryCelsius").object(name).put(it, "Reading", "reading")
		if it["reading"] != nil {
			items = append(items, it)
		}
	}
	return items, nil
}

func (b *bmc) sensors(ctx context.Context, c *kit.Call, chassis object) ([]kit.Item, error) {
	list, err := b.members(ctx, c, chassis, "Sensors", true)
	if err != nil && !refused(err) {
		return nil, err
	}
	var items []kit.Item
	for _, o := range list {
		if o.absent() {
			continue
		}
		it := kit.Item{}
		o.put(it, "Name", "name", "Reading", "reading", "ReadingUnits", "unit", "ReadingType", "kind")
		o.status(it)
		items = append(items, it)
	}
	return items, nil
}
