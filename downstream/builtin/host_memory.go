package builtin

import (
	"context"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

type memoryReport struct {
	RAM   *ramReport  `json:"ram,omitempty"`
	Swap  *swapReport `json:"swap,omitempty"`
	Notes []string    `json:"notes,omitempty"`
}

type ramReport struct {
	Total       uint64  `json:"total_bytes"`
	Used        uint64  `json:"used_bytes"`
	UsedPercent float64 `json:"used_percent"`
	Available   uint64  `json:"available_bytes"`
	Free        uint64  `json:"free_bytes"`
	Cached      uint64  `json:"cached_bytes"`
}

type swapReport struct {
	Total       uint64  `json:"total_bytes"`
	Used        uint64  `json:"used_bytes"`
	UsedPercent float64 `json:"used_percent"`
}

func (h *hostServer) addMemory(s *mcp.Server) error {
	return addReport(s, "memory", "Memory usage", "RAM and swap: total, used, available, cached.", arguments(), h.memory)
}

func (h *hostServer) memory(ctx context.Context, _ noArgs) (*memoryReport, error) {
	var (
		r memoryReport
		n notes
	)
	together(&n,
		func() {
			if m, ok := read(ctx, h, &n, "ram", h.probes.memory); ok {
				r.RAM = &ramReport{
					Total: m.Total, Used: m.Used, UsedPercent: percent(float64(m.Used), float64(m.Total)),
					Available: m.Available, Free: m.Free, Cached: m.Cached,
				}
			}
		},
		func() {
			if m, ok := read(ctx, h, &n, "swap", h.probes.swap); ok {
				r.Swap = &swapReport{Total: m.Total, Used: m.Used, UsedPercent: percent(float64(m.Used), float64(m.Total))}
			}
		},
	)
	r.Notes = n.all()
	if r.RAM == nil && r.Swap == nil {
		return nil, nothing(ctx, &n)
	}
	return &r, ctx.Err()
}

func (r *memoryReport) text() string {
	var t text
	if m := r.RAM; m != nil {
		t.linef("RAM: %s of %s used (%.1f%%), %s available, %s free, %s cached",
			size(m.Used), size(m.Total), m.UsedPercent, size(m.Available), size(m.Free), size(m.Cached))
	}
	switch m := r.Swap; {
	case m == nil:
	case m.Total == 0:
		t.linef("Swap: none")
	default:
		t.linef("Swap: %s of %s used (%.1f%%)", size(m.Used), size(m.Total), m.UsedPercent)
	}
	return t.end(r.Notes)
}
