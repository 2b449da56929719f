package builtin

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

type noArgs struct{}

type overview struct {
	Hostname       string        `json:"hostname,omitempty"`
	OS             string        `json:"os,omitempty" jsonschema:"platform and version"`
	Kernel         string        `json:"kernel,omitempty"`
	Arch           string        `json:"arch,omitempty"`
	Virtualization string        `json:"virtualization,omitempty" jsonschema:"system and role"`
	BootTime       string        `json:"boot_time,omitempty"`
	UptimeSeconds  *uint64       `json:"uptime_seconds,omitempty"`
	Sessions       *int          `json:"user_sessions,omitempty"`
	Processes      *int          `json:"processes,omitempty"`
	CPUs           int           `json:"logical_cpus,omitempty"`
	Load           loadAverage   `json:"load,omitempty" jsonschema:"1, 5, 15 minutes"`
	Memory         *memoryShort  `json:"memory,omitempty"`
	Fullest        *diskFullness `json:"fullest_disk,omitempty"`
	Notes          []string      `json:"notes,omitempty"`
}

// loadAverage holds the averages over 1, 5 and 15 minutes, or nothing.
type loadAverage []float64

func (l loadAverage) String() string {
	return fmt.Sprintf("%.2f, %.2f, %.2f (1, 5, 15 min)", l[0], l[1], l[2])
}

type memoryShort struct {
	Total       uint64  `json:"total_bytes"`
	Available   uint64  `json:"available_bytes"`
	UsedPercent float64 `json:"used_percent"`
}

type diskFullness struct {
	Mountpoint  string  `json:"mountpoint"`
	Free        uint64  `json:"free_bytes"`
	UsedPercent float64 `json:"used_percent"`
}

func (h *hostServer) addOverview(s *mcp.Server) error {
	return addReport(s, "overview", "Machine overview",
		"The machine at a glance: host name, OS, kernel, uptime, user sessions, load, memory, fullest disk. Start here.",
		arguments(), h.overview)
}

func (h *hostServer) overview(ctx context.Context, _ noArgs) (*overview, error) {
	var (
		o    overview
		n    notes
		p    = &h.probes
		disk []fileSystem
	)
	together(&n,
		func() { o.Hostname, _ = read(ctx, h, &n, "host name", p.hostname) },
		func() { o.OS, _ = read(ctx, h, &n, "platform", p.platform) },
		func() { o.Kernel, _ = read(ctx, h, &n, "kernel", p.kernel) },
		func() { o.Arch, _ = read(ctx, h, &n, "architecture", p.arch) },
		func() { o.Virtualization, _ = read(ctx, h, &n, "virtualization", p.virtual) },
		func() {
			if sec, ok := read(ctx, h, &n, "boot time", p.bootTime); ok && sec > 0 {
				o.BootTime = stamp(time.Unix(int64(sec), 0)) //nolint:gosec // seconds since 1970 fit
			}
		},
		func() {
			if sec, ok := read(ctx, h, &n, "uptime", p.uptime); ok {
				o.UptimeSeconds = &sec
			}
		},
		func() {
			if count, ok := read(ctx, h, &n, "user sessions", p.sessions); ok {
				o.Sessions = &count
			}
		},
		func() {
			if pids, ok := read(ctx, h, &n, "processes", p.processes); ok {
				count := len(pids)
				o.Processes = &count
			}
		},
		func() { o.CPUs = h.logicalCPUs(ctx, &n) },
		func() { o.Load = h.loadAverage(ctx, &n) },
		func() {
			if m, ok := read(ctx, h, &n, "memory", p.memory); ok {
				o.Memory = &memoryShort{m.Total, m.Available, percent(float64(m.Used), float64(m.Total))}
			}
		},
		func() { disk = h.fileSystems(ctx, &n, false) },
	)
	for _, f := range disk { // the fullest one is the first that can be written to
		if !f.ReadOnly && f.Error == "" {
			o.Fullest = &diskFullness{f.Mountpoint, f.Free, f.UsedPercent}
			break
		}
	}
	o.Hostname, o.OS, o.Kernel = clean(o.Hostname, maxName), clean(o.OS, maxName), clean(o.Kernel, maxName)
	o.Arch, o.Virtualization = clean(o.Arch, maxName), clean(o.Virtualization, maxName)
	o.Notes = n.all()
	return &o, ctx.Err()
}

func (o *overview) text() string {
	var t text
	t.linef("%s: %s", either(o.Hostname, "(name unknown)"), joined(
		either(o.OS, "platform unknown"), titled("kernel ", o.Kernel), o.Arch, o.Virtualization))
	var up, boot, sessions, processes string
	if o.UptimeSeconds != nil {
		up = "up " + span(*o.UptimeSeconds)
	}
	if o.BootTime != "" {
		boot = "booted " + o.BootTime
	}
	if o.Sessions != nil {
		sessions = fmt.Sprintf("%d user sessions", *o.Sessions)
	}
	if o.Processes != nil {
		processes = fmt.Sprintf("%d processes", *o.Processes)
	}
	if line := joined(up, boot, sessions, processes); line != "" {
		t.linef("%s", line)
	}
	if o.CPUs > 0 {
		t.linef("CPU: %d logical processors", o.CPUs)
	}
	if o.Load != nil {
		t.linef("Load: %v", o.Load)
	}
	if m := o.Memory; m != nil {
		t.linef("Memory: %.1f%% used, %s of %s available", m.UsedPercent, size(m.Available), size(m.Total))
	}
	if d := o.Fullest; d != nil {
		t.linef("Fullest disk: %s %.1f%% used, %s free", d.Mountpoint, d.UsedPercent, size(d.Free))
	}
	return t.end(o.Notes)
}

// joined joins those of parts that are not empty with commas.
func joined(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		if p == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(p)
	}
	return b.String()
}

// titled puts title before s unless s is empty.
func titled(title, s string) string {
	if s == "" {
		return ""
	}
	return title + s
}
