package builtin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/shirou/gopsutil/v4/process"
)

const (
	processesTime = 10 * time.Second // for reading all processes, besides the interval
	// Two seconds of measuring are allowed, so more than maxProbes calls may be under way.
	maxProcessReads = 64
)

type processesArgs struct {
	Sort       string `json:"sort"`
	Limit      int    `json:"limit"`
	Name       string `json:"name"`
	IntervalMS int    `json:"interval_ms"`
}

type processesReport struct {
	Processes []hostProcess `json:"processes"`
	Matched   int           `json:"matched"`
	Total     int           `json:"total"`
	Left      int           `json:"left_out,omitempty"`
	Notes     []string      `json:"notes,omitempty"`
}

type hostProcess struct {
	PID     int32   `json:"pid"`
	Name    string  `json:"name"`
	User    string  `json:"user,omitempty"`
	State   string  `json:"state,omitempty"`
	CPU     float64 `json:"cpu_percent" jsonschema:"100 is one processor"`
	Memory  uint64  `json:"memory_bytes"`
	Percent float64 `json:"memory_percent,omitempty"`
	Started string  `json:"started,omitempty"`
}

func (h *hostServer) addProcesses(s *mcp.Server) error {
	in := arguments(
		param{"sort", &jsonschema.Schema{Type: "string", Description: "most of this first", Enum: []any{"cpu", "memory"}, Default: json.RawMessage(`"cpu"`)}},
		intParam("limit", "most processes", 1, 100, 10),
		param{"name", &jsonschema.Schema{Type: "string", Description: "only processes whose name contains this, in any case", MaxLength: new(maxName)}},
		intParam("interval_ms", "how long CPU usage is measured", 100, 2000, 500),
	)
	return addReport(s, "processes", "Top processes",
		"The processes that use most CPU now, or most resident memory: pid, name, user, state, start. Command lines are never shown.",
		in, h.processes)
}

func (h *hostServer) processes(ctx context.Context, args processesArgs) (*processesReport, error) {
	var (
		n     notes
		total uint64
		found processList
		err   error
	)
	interval := time.Duration(args.IntervalMS) * time.Millisecond
	together(&n,
		func() {
			if m, ok := read(ctx, h, &n, "memory", h.probes.memory); ok {
				total = m.Total
			}
		},
		// One probe for all processes: a goroutine for each would cost more than reading it.
		func() {
			found, err = run(ctx, &h.runner, "processes", maxProcessReads, processesTime+interval, func(ctx context.Context) (processList, error) {
				return h.probes.top(ctx, args, interval)
			})
		},
	)
	if err != nil {
		return nil, err
	}
	r := processesReport{Processes: make([]hostProcess, 0, len(found.top)), Matched: found.matched, Total: found.total}
	for _, p := range found.top {
		r.Processes = append(r.Processes, hostProcess{
			PID: p.pid, Name: clean(p.name, maxName), User: clean(p.detail.user, maxName), State: clean(p.detail.state, maxName),
			CPU: tenth(p.percent), Memory: p.memory, Percent: percent(float64(p.memory), float64(total)), Started: stamp(p.detail.started),
		})
	}
	if r.Left = r.Matched - len(r.Processes); r.Left > 0 {
		n.addf("%d processes left out; a greater limit (at most 100) or a name shows others", r.Left)
	}
	if found.unreadable > 0 {
		n.addf("%d processes could not be read: %v", found.unreadable, found.why)
	}
	r.Notes = n.all()
	return &r, nil
}

type processSample struct {
	pid     int32
	name    string
	at      time.Time
	seconds float64 // of processor time until at
	percent float64
	memory  uint64
	detail  procDetail
}

type processList struct {
	top            []processSample
	matched, total int
	unreadable     int
	why            error // of the first that could not be read
}

// top measures all processes that match and returns the first of them. It reads the details only of those.
func (p *probes) top(ctx context.Context, args processesArgs, interval time.Duration) (processList, error) {
	var l processList
	pids, err := p.processes(ctx)
	if err != nil {
		return l, fmt.Errorf("listing processes: %w", err)
	}
	l.total = len(pids)
	failed := func(err error) {
		// Processes end while we look; that is no failure.
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) || errors.Is(err, process.ErrorProcessNotRunning) {
			return
		}
		if l.unreadable++; l.why == nil {
			l.why = err
		}
	}
	want := strings.ToLower(args.Name)
	first := make([]processSample, 0, len(pids))
	for _, pid := range pids {
		if ctx.Err() != nil {
			return l, context.Cause(ctx)
		}
		s := processSample{pid: pid}
		if want != "" {
			if s.name, err = p.procName(ctx, pid); err != nil {
				failed(err)
				continue
			}
			if !strings.Contains(strings.ToLower(s.name), want) {
				continue
			}
		}
		if s.seconds, err = p.procCPU(ctx, pid); err != nil {
			failed(err)
			continue
		}
		s.at = time.Now()
		first = append(first, s)
	}
	if err := pause(ctx, interval); err != nil {
		return l, err
	}
	l.top = make([]processSample, 0, len(first))
	for _, s := range first {
		if ctx.Err() != nil {
			return l, context.Cause(ctx)
		}
		seconds, err := p.procCPU(ctx, s.pid)
		if err == nil {
			s.memory, err = p.procMemory(ctx, s.pid)
		}
		if err != nil {
			failed(err)
			continue
		}
		// Less time than before means that the pid is another process by now.
		if passed := time.Since(s.at).Seconds(); passed > 0 {
			s.percent = max(0, seconds-s.seconds) / passed * 100
		}
		l.top = append(l.top, s)
	}
	if len(l.top) == 0 && l.unreadable > 0 {
		return l, fmt.Errorf("none of %d processes could be read: %w", l.total, l.why)
	}
	l.matched = len(l.top)
	slices.SortFunc(l.top, func(a, b processSample) int {
		byCPU, byMemory := cmp.Compare(b.percent, a.percent), cmp.Compare(b.memory, a.memory)
		if args.Sort == "memory" {
			byCPU, byMemory = byMemory, byCPU
		}
		return cmp.Or(byCPU, byMemory, cmp.Compare(a.pid, b.pid))
	})
	l.top = slices.Clone(l.top[:min(len(l.top), args.Limit)])
	for i := range l.top {
		if ctx.Err() != nil {
			return l, context.Cause(ctx)
		}
		s := &l.top[i]
		if s.name == "" {
			s.name, _ = p.procName(ctx, s.pid)
		}
		s.detail = p.procDetail(ctx, s.pid)
	}
	return l, nil
}

func (r *processesReport) text() string {
	var t text
	t.linef("%d of %d processes that match, %d in all", len(r.Processes), r.Matched, r.Total)
	for _, p := range r.Processes {
		memory := size(p.Memory)
		if p.Percent > 0 {
			memory += fmt.Sprintf(" (%.1f%%)", p.Percent)
		}
		t.linef("%d %s: CPU %.1f%%, memory %s%s", p.PID, either(p.Name, "(name unknown)"), p.CPU, memory,
			titled(", ", joined(titled("user ", p.User), p.State, titled("started ", p.Started))))
	}
	return t.end(r.Notes)
}
