package builtin

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/shirou/gopsutil/v4/cpu"
)

const (
	standardCores = 64
	maxCores      = 1024
)

type cpuArgs struct {
	IntervalMS int `json:"interval_ms"`
	MaxCores   int `json:"max_cores"`
}

type cpuReport struct {
	Model    string      `json:"model,omitempty"`
	MHz      float64     `json:"mhz,omitempty"`
	Physical int         `json:"physical_cores,omitempty"`
	Logical  int         `json:"logical_cpus,omitempty"`
	Usage    *cpuUsage   `json:"usage,omitempty"`
	Cores    []float64   `json:"cores_percent,omitempty" jsonschema:"busy, by logical processor"`
	Left     int         `json:"cores_left_out,omitempty"`
	Load     loadAverage `json:"load,omitempty" jsonschema:"1, 5, 15 minutes"`
	Notes    []string    `json:"notes,omitempty"`
}

type cpuUsage struct {
	Busy       float64 `json:"busy_percent"`
	User       float64 `json:"user_percent"`
	System     float64 `json:"system_percent"`
	IOWait     float64 `json:"iowait_percent"`
	Steal      float64 `json:"steal_percent"`
	IntervalMS int     `json:"interval_ms"`
}

func (h *hostServer) addCPU(s *mcp.Server) error {
	return addReport(s, "cpu", "CPU usage",
		"CPU model, core counts, load averages and usage now, overall and per logical processor.",
		arguments(
			intParam("interval_ms", "how long usage is measured", 50, 2000, 200),
			intParam("max_cores", "most processors listed one by one; 0 for none", 0, maxCores, standardCores),
		), h.cpu)
}

func (h *hostServer) cpu(ctx context.Context, args cpuArgs) (*cpuReport, error) {
	var (
		r     cpuReport
		n     notes
		cores []float64
	)
	together(&n,
		func() {
			if info, ok := read(ctx, h, &n, "model", h.probes.cpuInfo); ok {
				r.Model, r.MHz = cpuModel(info)
			}
		},
		func() {
			r.Physical, _ = read(ctx, h, &n, "physical cores", func(ctx context.Context) (int, error) { return h.probes.cpuCount(ctx, false) })
		},
		func() { r.Logical = h.logicalCPUs(ctx, &n) },
		func() { r.Load = h.loadAverage(ctx, &n) },
		func() { r.Usage, cores = h.cpuUsage(ctx, &n, time.Duration(args.IntervalMS)*time.Millisecond) },
	)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	shown := min(len(cores), args.MaxCores)
	r.Cores, r.Left = cores[:shown], len(cores)-shown
	if r.Left > 0 {
		n.addf("%d of %d processors left out; max_cores=%d shows %d", r.Left, len(cores), min(len(cores), maxCores), min(len(cores), maxCores))
	}
	r.Notes = n.all()
	if r.Model == "" && r.Logical == 0 && r.Usage == nil && r.Load == nil {
		return nil, nothing(ctx, &n)
	}
	return &r, nil
}

// logicalCPUs counts the processors that threads can run on.
func (h *hostServer) logicalCPUs(ctx context.Context, n *notes) int {
	count, ok := read(ctx, h, n, "logical processors", func(ctx context.Context) (int, error) { return h.probes.cpuCount(ctx, true) })
	if !ok || count <= 0 {
		return runtime.NumCPU()
	}
	return count
}

func (h *hostServer) loadAverage(ctx context.Context, n *notes) loadAverage {
	l, ok := read(ctx, h, n, "load", h.probes.load)
	if !ok {
		return nil
	}
	return loadAverage{hundredth(l.Load1), hundredth(l.Load5), hundredth(l.Load15)}
}

// cpuUsage measures over the interval, overall and per processor.
func (h *hostServer) cpuUsage(ctx context.Context, n *notes, interval time.Duration) (*cpuUsage, []float64) {
	times := func(per bool) ([]cpu.TimesStat, bool) {
		t, ok := read(ctx, h, n, "usage", func(ctx context.Context) ([]cpu.TimesStat, error) { return h.probes.cpuTimes(ctx, per) })
		if ok && len(t) == 0 { // gopsutil's way to say that /proc/stat cannot be read
			n.addf("usage: the system gives no processor times")
		}
		return t, ok && len(t) > 0
	}
	began := time.Now()
	first, ok := times(false)
	if !ok {
		return nil, nil
	}
	firstCores, okCores := times(true)
	if pause(ctx, interval) != nil {
		return nil, nil
	}
	second, ok := times(false)
	if !ok {
		return nil, nil
	}
	total := spent(second[0]).minus(spent(first[0]))
	u := &cpuUsage{
		Busy:       percent(total.busy, total.all),
		User:       percent(total.user, total.all),
		System:     percent(total.system, total.all),
		IOWait:     percent(total.iowait, total.all),
		Steal:      percent(total.steal, total.all),
		IntervalMS: int(time.Since(began).Round(time.Millisecond).Milliseconds()),
	}
	if !okCores {
		return u, nil
	}
	secondCores, ok := times(true)
	if !ok {
		return u, nil
	}
	// Processors come and go while we measure; the name says which is which.
	before := make(map[string]cpuSpent, len(firstCores))
	for _, t := range firstCores {
		before[t.CPU] = spent(t)
	}
	cores := make([]float64, 0, len(secondCores))
	for _, t := range secondCores {
		if b, ok := before[t.CPU]; ok {
			d := spent(t).minus(b)
			cores = append(cores, percent(d.busy, d.all))
		}
	}
	return u, cores
}

// cpuSpent is processor time in seconds.
type cpuSpent struct{ all, busy, user, system, iowait, steal float64 }

// spent sums up what gopsutil read. On Linux the time of guests is contained in user and nice, elsewhere it is 0.
func spent(t cpu.TimesStat) cpuSpent {
	s := cpuSpent{user: t.User + t.Nice, system: t.System + t.Irq + t.Softirq, iowait: t.Iowait, steal: t.Steal}
	s.busy = s.user + s.system + s.steal
	s.all = s.busy + s.iowait + t.Idle
	return s
}

// minus returns s without b. Counters that ran backwards, as iowait may, count as unchanged.
func (s cpuSpent) minus(b cpuSpent) cpuSpent {
	d := func(x, y float64) float64 { return max(0, x-y) }
	return cpuSpent{d(s.all, b.all), min(d(s.busy, b.busy), d(s.all, b.all)), d(s.user, b.user), d(s.system, b.system), d(s.iowait, b.iowait), d(s.steal, b.steal)}
}

// cpuModel returns the model names and the greatest clock rate.
func cpuModel(info []cpu.InfoStat) (string, float64) {
	var (
		names []string
		mhz   float64
	)
	for _, i := range info {
		if name := strings.Join(strings.Fields(i.ModelName), " "); name != "" && !slices.Contains(names, name) && len(names) < 4 {
			names = append(names, name)
		}
		mhz = max(mhz, i.Mhz)
	}
	return clean(strings.Join(names, ", "), maxPath), tenth(mhz)
}

func (r *cpuReport) text() string {
	var t text
	var mhz, physical, logical string
	if r.MHz > 0 {
		mhz = fmt.Sprintf("%.1f MHz", r.MHz)
	}
	if r.Physical > 0 {
		physical = fmt.Sprintf("%d physical cores", r.Physical)
	}
	if r.Logical > 0 {
		logical = fmt.Sprintf("%d logical processors", r.Logical)
	}
	t.linef("%s", joined(either(r.Model, "CPU model unknown"), mhz, physical, logical))
	if u := r.Usage; u != nil {
		t.linef("Usage over %d ms: %.1f%% busy (user %.1f%%, system %.1f%%, steal %.1f%%), waiting for I/O %.1f%%",
			u.IntervalMS, u.Busy, u.User, u.System, u.Steal, u.IOWait)
	}
	if len(r.Cores) > 0 {
		cores := make([]string, len(r.Cores))
		for i, c := range r.Cores {
			cores[i] = fmt.Sprintf("%.1f%%", c)
		}
		t.linef("Per processor: %s", strings.Join(cores, " "))
	}
	if r.Load != nil {
		t.linef("Load: %v", r.Load)
	}
	return t.end(r.Notes)
}
