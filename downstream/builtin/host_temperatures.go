package builtin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/shirou/gopsutil/v4/sensors"
)

type temperaturesArgs struct {
	Limit int `json:"limit"`
}

type temperaturesReport struct {
	Sensors []temperature `json:"sensors"`
	Left    int           `json:"left_out,omitempty"`
	Notes   []string      `json:"notes,omitempty"`
}

type temperature struct {
	Sensor   string  `json:"sensor"`
	Celsius  float64 `json:"celsius"`
	High     float64 `json:"high_celsius,omitempty"`
	Critical float64 `json:"critical_celsius,omitempty"`
}

func (h *hostServer) addTemperatures(s *mcp.Server) error {
	return addReport(s, "temperatures", "Temperatures",
		"Temperature sensors and their limits, hottest first. Virtual machines and containers usually have none.",
		arguments(intParam("limit", "most sensors", 1, 200, 40)), h.temperatures)
}

func (h *hostServer) temperatures(ctx context.Context, args temperaturesArgs) (*temperaturesReport, error) {
	var n notes
	// Some sensors are read and others are not: then there are values and a warning.
	got, err := run(ctx, &h.runner, "temperatures", maxProbes, probeTime, func(ctx context.Context) (sensorValues, error) {
		t, err := h.probes.sensors(ctx)
		return sensorValues{t, err}, nil
	})
	if err == nil {
		err = got.err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if warnings, ok := errors.AsType[*sensors.Warnings](err); ok {
		n.addf("%d sensors could not be read: %v", len(warnings.List), errors.Join(warnings.List[:min(1, len(warnings.List))]...))
	} else if err != nil {
		n.addf("temperatures: %v", err)
	}
	r := temperaturesReport{Sensors: make([]temperature, 0, len(got.values))}
	for _, t := range got.values {
		r.Sensors = append(r.Sensors, temperature{clean(t.SensorKey, maxName), tenth(t.Temperature), tenth(t.High), tenth(t.Critical)})
	}
	slices.SortStableFunc(r.Sensors, func(a, b temperature) int {
		return cmp.Or(cmp.Compare(b.Celsius, a.Celsius), strings.Compare(a.Sensor, b.Sensor))
	})
	if left := len(r.Sensors) - args.Limit; left > 0 {
		r.Sensors, r.Left = r.Sensors[:args.Limit], left
		n.addf("%d cooler sensors left out; a greater limit (at most 200) shows more", left)
	}
	r.Notes = n.all()
	return &r, nil
}

type sensorValues struct {
	values []sensors.TemperatureStat
	err    error
}

func (r *temperaturesReport) text() string {
	var t text
	for _, s := range r.Sensors {
		var high, critical string
		if s.High != 0 {
			high = fmt.Sprintf("high %.1f °C", s.High)
		}
		if s.Critical != 0 {
			critical = fmt.Sprintf("critical %.1f °C", s.Critical)
		}
		limits := joined(high, critical)
		if limits != "" {
			limits = " (" + limits + ")"
		}
		t.linef("%s: %.1f °C%s", s.Sensor, s.Celsius, limits)
	}
	if len(r.Sensors) == 0 {
		t.linef("None available: this machine shows no temperature sensors.")
	}
	return t.end(r.Notes)
}
