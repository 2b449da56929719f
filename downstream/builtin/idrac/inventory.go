package idrac

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

// named are resources by their Id, which read better than a table where there are few with many members.
type named map[string]kit.Item

type systemsOut struct {
	Systems named `json:"systems"`
}

type managersOut struct {
	Managers named `json:"managers"`
	// Of all programs; an iDRAC takes 8.
	SessionsOpen *int `json:"sessions_open,omitempty"`
}

func (b *bmc) addInventory(s *kit.Server) {
	kit.Add(s, kit.Tool{
		Name: "systems", Title: "Servers",
		Description: "The server behind the controller: model, service tag, power state, health, BIOS, CPU and memory, boot override. Look here first.",
	}, func(ctx context.Context, c *kit.Call, _ struct{}) (*systemsOut, error) {
		list, err := b.systems(ctx, c)
		if err != nil {
			return nil, err
		}
		out := &systemsOut{Systems: named{}}
		for _, o := range list {
			out.Systems[o.text("Id")] = system(o)
		}
		return out, nil
	})
	kit.Add(s, kit.Tool{
		Name: "managers", Title: "Controllers",
		Description: "The management controller itself: model, firmware, clock, network addresses, health, open sessions.",
	}, func(ctx context.Context, c *kit.Call, _ struct{}) (*managersOut, error) { return b.managers(ctx, c) })
	kit.Add(s, kit.Tool{
		Name: "hardware", Title: "Processors, memory, network ports", Adjust: kit.PageLimits,
		Description: "CPUs, memory modules and network ports with model, size, speed, MAC address, slot and health.",
	}, b.hardware)
	kit.Add(s, kit.Tool{
		Name: "storage", Title: "Storage", Adjust: kit.PageLimits,
		Description: "RAID controllers, drives and volumes: size, medium, health, predicted failure, life left, slot.",
	}, b.storage)
	kit.Add(s, kit.Tool{
		Name: "firmware", Title: "Firmware", Adjust: kit.PageLimits,
		Description: "Firmware and driver versions of all components, and which can be updated.",
	}, func(ctx context.Context, c *kit.Call, in struct{ kit.Page }) (*kit.Listing, error) {
		root, err := b.root(ctx)
		if err != nil {
			return nil, err
		}
		service, err := b.follow(ctx, root, "UpdateService", false)
		if err != nil && !refused(err) {
			return nil, err
		}
		list, err := b.members(ctx, c, service, "FirmwareInventory", false)
		if err != nil && !refused(err) {
			return nil, err
		}
		if len(list) == 0 {
			return nil, errors.New("this controller lists no firmware: systems and managers show the versions of BIOS and controller")
		}
		items := make([]kit.Item, 0, len(list))
		for _, o := range list {
			it := kit.Item{}
			o.put(it, "Name", "name", "Version", "version", "ReleaseDate", "released", "Updateable", "updateable", "Id", "id")
			o.status(it)
			items = append(items, it)
		}
		return kit.List(items, in.Page, "name", "version", "released", "updateable", "state", "health", "id"), nil
	})
}

// systems returns all servers, as they are now.
func (b *bmc) systems(ctx context.Context, c *kit.Call) ([]object, error) {
	return b.list(ctx, c, "Systems", true)
}

func (b *bmc) list(ctx context.Context, c *kit.Call, what string, fresh bool) ([]object, error) {
	root, err := b.root(ctx)
	if err != nil {
		return nil, err
	}
	if root.link(what) == "" {
		return nil, fmt.Errorf("the controller has no %s (is this a Redfish service?)", strings.ToLower(what))
	}
	return b.members(ctx, c, root, what, fresh)
}

func system(o object) kit.Item {
	it := kit.Item{}
	o.put(it, "Name", "name", "HostName", "host_name", "Manufacturer", "manufacturer", "Model", "model", "SKU", "service_tag",
		"SerialNumber", "serial", "AssetTag", "asset_tag", "UUID", "uuid", "PowerState", "power", "BiosVersion", "bios", "IndicatorLED", "indicator",
		"LocationIndicatorActive", "indicator_on", "LastResetTime", "last_reset")
	o.status(it)
	if p := o.object("ProcessorSummary"); p != nil {
		count, _ := p.number("Count")
		it["processors"] = strings.TrimSpace(fmt.Sprintf("%.0f × %s", count, p.text("Model")))
		p.put(it, "LogicalProcessorCount", "threads")
	}
	o.object("MemorySummary").put(it, "TotalSystemMemoryGiB", "memory_gib")
	if progress := o.object("BootProgress"); progress != nil {
		progress.put(it, "LastState", "boot_state")
	}
	if boot := o.object("Boot"); boot != nil {
		if e := boot.text("BootSourceOverrideEnabled"); e != "" && e != "Disabled" {
			it["boot_override"] = fmt.Sprintf("%s (%s)", boot.text("BootSourceOverrideTarget"), e)
		}
	}
	if r := resetTypes(o); len(r) > 0 {
		it["power_actions"] = r
	}
	return it
}

func (b *bmc) managers(ctx context.Context, c *kit.Call) (*managersOut, error) {
	list, err := b.list(ctx, c, "Managers", true)
	if err != nil {
		return nil, err
	}
	out := &managersOut{Managers: named{}}
	for _, o := range list {
		it := kit.Item{}
		o.put(it, "Name", "name", "ManagerType", "type", "Model", "model", "FirmwareVersion", "firmware", "DateTime", "clock", "UUID", "uuid", "PowerState", "power")
		o.status(it)
		ports, err := b.members(ctx, c, o, "EthernetInterfaces", false)
		if err != nil && !refused(err) {
			return nil, err
		}
		var addresses []string
		for _, p := range ports {
			for _, a := range append(p.objects("IPv4Addresses"), p.objects("IPv6Addresses")...) {
				if ip := a.text("Address"); ip != "" && ip != "::" && ip != "0.0.0.0" {
					addresses = append(addresses, ip)
				}
			}
			p.put(it, "MACAddress", "mac", "HostName", "host_name")
		}
		if addresses != nil {
			it["addresses"] = addresses
		}
		out.Managers[o.text("Id")] = it
	}
	out.SessionsOpen, err = b.sessionsOpen(ctx)
	return out, err
}

// sessionsOpen counts the sessions of all programs, which tells why nobody can log in. Many accounts may not see them.
func (b *bmc) sessionsOpen(ctx context.Context) (*int, error) {
	root, err := b.root(ctx)
	if err != nil {
		return nil, err
	}
	link := root.object("Links").link("Sessions")
	if link == "" {
		return nil, nil
	}
	list, err := b.fetch(ctx, link, true)
	if refused(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	n := len(list.objects("Members"))
	return &n, nil
}

// refused reports whether the controller answered that it does not have or do something.
func refused(err error) bool {
	_, ok := errors.AsType[*kit.Refusal](err)
	return ok
}

type pageArgs struct{ kit.Page }

func (b *bmc) hardware(ctx context.Context, c *kit.Call, in pageArgs) (*kit.Listing, error) {
	systems, err := b.list(ctx, c, "Systems", false)
	if err != nil {
		return nil, err
	}
	var items []kit.Item
	for _, s := range systems {
		for _, part := range []struct {
			member, kind string
			names        []string
		}{
			{"Processors", "cpu", []string{"Model", "model", "Manufacturer", "manufacturer", "TotalCores", "cores", "TotalThreads", "threads", "MaxSpeedMHz", "mhz", "Socket", "slot"}},
			{"Memory", "memory", []string{
				"PartNumber", "model", "Manufacturer", "manufacturer", "CapacityMiB", "mib", "OperatingSpeedMhz", "mhz", "MemoryDeviceType", "type",
				"DeviceLocator", "slot", "SerialNumber", "serial",
			}},
			{"EthernetInterfaces", "network", []string{"MACAddress", "mac", "SpeedMbps", "mbps", "LinkStatus", "link", "Id", "slot"}},
		} {
			list, err := b.members(ctx, c, s, part.member, false)
			if err != nil && !refused(err) {
				return nil, err
			}
			for _, o := range list {
				if o.absent() {
					continue
				}
				it := kit.Item{"kind": part.kind, "name": o.text("Name")}
				if len(systems) > 1 {
					it["system"] = s.text("Id")
				}
				if part.kind == "memory" && o.text("Name") == "" {
					it["name"] = o.text("Id")
				}
				o.put(it, part.names...)
				o.status(it)
				items = append(items, it)
			}
		}
	}
	return kit.List(items, in.Page, "system", "kind", "name", "model", "cores", "threads", "mib", "type", "mhz", "mac", "mbps", "link", "slot", "state", "health", "serial"), nil
}

const gib = 1 << 30

func (b *bmc) storage(ctx context.Context, c *kit.Call, in pageArgs) (*kit.Listing, error) {
	systems, err := b.list(ctx, c, "Systems", false)
	if err != nil {
		return nil, err
	}
	var items []kit.Item
	add := func(s, o object, kind string, names ...string) {
		if o.absent() {
			return
		}
		it := kit.Item{"kind": kind}
		if len(systems) > 1 {
			it["system"] = s.text("Id")
		}
		o.put(it, append([]string{"Id", "name", "Name", "name"}, names...)...)
		if n, ok := o.number("CapacityBytes"); ok {
			it["size_gib"] = float64(int64(n/gib*10)) / 10
		}
		o.status(it)
		items = append(items, it)
	}
	for _, s := range systems {
		list, err := b.members(ctx, c, s, "Storage", false)
		if err != nil && !refused(err) {
			return nil, err
		}
		for _, st := range list {
			controllers := st.objects("StorageControllers")
			if len(controllers) == 0 {
				if controllers, err = b.members(ctx, c, st, "Controllers", false); err != nil && !refused(err) {
					return nil, err
				}
			}
			for _, o := range controllers {
				add(s, o, "controller", "Model", "model", "FirmwareVersion", "firmware")
			}
			drives := st.objects("Drives")
			if err := b.complete(ctx, c, drives, false); err != nil {
				return nil, err
			}
			for _, o := range drives {
				it := []string{
					"Model", "model", "SerialNumber", "serial", "MediaType", "medium", "Protocol", "protocol", "FailurePredicted", "failing",
					"PredictedMediaLifeLeftPercent", "life_left_percent", "HotspareType", "hot_spare", "RotationSpeedRPM", "rpm",
				}
				add(s, o, "drive", it...)
			}
			volumes, err := b.members(ctx, c, st, "Volumes", false)
			if err != nil && !refused(err) {
				return nil, err
			}
			for _, o := range volumes {
				add(s, o, "volume", "RAIDType", "raid", "VolumeType", "raid", "Encrypted", "encrypted")
			}
		}
		if len(list) > 0 {
			continue
		}
		simple, err := b.members(ctx, c, s, "SimpleStorage", false)
		if err != nil && !refused(err) {
			return nil, err
		}
		for _, o := range simple {
			add(s, o, "controller")
			for _, d := range o.objects("Devices") {
				add(s, d, "drive", "Model", "model", "Manufacturer", "manufacturer")
			}
		}
	}
	return kit.List(items, in.Page, "system", "kind", "name", "model", "size_gib", "medium", "protocol", "raid", "state", "health", "failing", "life_left_percent", "serial", "firmware"), nil
}
