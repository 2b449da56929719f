package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// figures sums up the samples of a variant.
type figures struct {
	p50, p99  time.Duration // medians of the rounds' own
	perSecond float64
	cpu       time.Duration // per call
	mallocs   float64       // per call, 0 if unknown
	kbytes    float64
}

func (v *variant) figures() figures {
	var f figures
	var calls float64
	var elapsed, cpu time.Duration
	var mallocs, size uint64
	for _, s := range v.samples {
		calls += float64(len(s.latencies))
		elapsed += s.elapsed
		cpu += s.cpu
		mallocs += s.mallocs
		size += s.bytes
	}
	f.p50 = median(v.each(func(s *sample) time.Duration { return s.quantile(.5) }))
	f.p99 = median(v.each(func(s *sample) time.Duration { return s.quantile(.99) }))
	f.perSecond = calls / elapsed.Seconds()
	f.cpu = time.Duration(float64(cpu) / calls)
	f.mallocs, f.kbytes = float64(mallocs)/calls, float64(size)/calls/1024
	return f
}

func (v *variant) each(f func(*sample) time.Duration) []time.Duration {
	all := make([]time.Duration, len(v.samples))
	for i := range v.samples {
		all[i] = f(&v.samples[i])
	}
	return all
}

func median[T ~int64 | ~float64](all []T) T {
	all = slices.Clone(all)
	slices.Sort(all)
	return all[len(all)/2]
}

// ratio compares two variants round by round.
type ratio struct{ median, least, most float64 }

// compare returns v's median latency divided by base's, round by round.
func compare(v, base *variant) ratio {
	all := make([]float64, len(v.samples))
	for i := range v.samples {
		all[i] = float64(v.samples[i].quantile(.5)) / float64(base.samples[i].quantile(.5))
	}
	return ratio{median(all), slices.Min(all), slices.Max(all)}
}

// compareCPU returns v's processor time for each call divided by base's, round by round.
func compareCPU(v, base *variant) ratio {
	all := make([]float64, len(v.samples))
	for i := range v.samples {
		a, b := &v.samples[i], &base.samples[i]
		all[i] = a.cpu.Seconds() / float64(len(a.latencies)) / (b.cpu.Seconds() / float64(len(b.latencies)))
	}
	return ratio{median(all), slices.Min(all), slices.Max(all)}
}

func (r ratio) String() string { return fmt.Sprintf("%.2f (%.2f–%.2f)", r.median, r.least, r.most) }

// bar is one line of the table and what was measured.
type bar struct {
	name  string
	want  string
	got   string
	holds bool
}

// report collects what is printed.
type report struct {
	out  io.Writer
	bars []bar
}

func (r *report) check(name, want, got string, holds bool) {
	r.bars = append(r.bars, bar{name, want, got, holds})
}

func (r *report) heading(format string, args ...any) {
	fmt.Fprintf(r.out, "\n### "+format+"\n\n", args...)
}

func (r *report) row(cells ...string) { fmt.Fprintf(r.out, "| %s |\n", strings.Join(cells, " | ")) }

func (r *report) head(cells ...string) {
	r.row(cells...)
	fmt.Fprintln(r.out, "|"+strings.Repeat("---|", len(cells)))
}

// summary prints the bars and returns how many do not hold.
func (r *report) summary() (failed int) {
	if len(r.bars) == 0 {
		return 0
	}
	r.heading("Bars")
	r.head("bar", "wanted", "measured", "")
	for _, b := range r.bars {
		word := "holds"
		if !b.holds {
			word = "**does not hold**"
			failed++
		}
		r.row(b.name, b.want, b.got, word)
	}
	return failed
}

func ms(d time.Duration) string { return fmt.Sprintf("%.3f", float64(d.Nanoseconds())/1e6) }

func us(d time.Duration) string { return fmt.Sprintf("%.0f", float64(d.Nanoseconds())/1e3) }

func eraName(modern bool) string {
	if modern {
		return "2026-07-28"
	}
	return "2025-11-25"
}

func sizeName(n int) string { return fmt.Sprintf("%d KB", n/1024) }
