package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// scenario is one fault and what must come of it.
type scenario struct {
	number int    // that of resilience.md §6; above 31 are our own
	name   string // a few words
	asked  string // the figures of resilience.md §6
	quick  bool   // part of -quick
	run    func(context.Context, *rig) error
	absent string // why there is nothing to run here, and what shows it instead; "" if there is
}

// result is what came of a scenario.
type result struct {
	scenario

	figures []figure
	summary string
	notes   []string
	log     string
	err     error
	took    time.Duration
}

func (r *result) failed() bool {
	for _, f := range r.figures {
		if !f.ok {
			return true
		}
	}
	return r.err != nil
}

// totals are those of all scenarios.
type totals struct{ calls, twice, lost, wrong, lied int }

func (t *totals) add(x truth) {
	t.calls += x.calls
	t.twice += len(x.twice)
	t.lost += len(x.lost)
	t.wrong += len(x.wrong) + len(x.doubled) + len(x.stranger) + len(x.phantom)
	t.lied += len(x.lied)
}

// scenario runs one and reports it. It always comes to an end.
func (s *suite) scenario(ctx context.Context, sc scenario, race bool) (res result) {
	res = result{scenario: sc}
	if sc.absent != "" {
		return res
	}
	if !s.hasPolicies {
		res.err = errors.New("cannot run: this gateway has no section resilience in its schema")
		return res
	}
	start := time.Now()
	r := &rig{suite: s}
	r.noLatency = race
	limit := 4 * time.Minute
	if s.scale == long || sc.number == soakNumber {
		limit = s.soak + 90*time.Minute // the longest takes an hour
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the scenario took longer than %s", limit))
	defer cancel()
	r.dir = filepath.Join(s.tmp, fmt.Sprintf("scenario-%d", sc.number))
	if res.err = os.Mkdir(r.dir, 0o700); res.err != nil {
		return res
	}
	res.err = sc.run(ctx, r)
	if err := r.finish(ctx); res.err == nil {
		res.err = err
	}
	if s.invariants || race {
		for i := range r.figures {
			f := &r.figures[i]
			f.ok = f.ok || f.timed
		}
	}
	res.figures, res.summary, res.notes, res.took = r.figures, r.summary, r.notes, time.Since(start)
	if r.gw != nil {
		res.log = r.gw.Log()
		if res.failed() && s.keep {
			_ = os.WriteFile(filepath.Join(r.dir, "gateway.log"), []byte(res.log), 0o600)
		}
	}
	return res
}

// report collects results and prints each as it comes.
type report struct {
	verbose bool
	scale   scale
	results []result
}

func (p *report) add(r result) {
	p.results = append(p.results, r)
	fmt.Printf("%-4s %2d %s (%s)\n", p.verdict(&r), r.number, r.name, r.took.Round(10*time.Millisecond))
	if r.absent != "" {
		fmt.Printf("        %s\n", r.absent)
	}
	for _, f := range r.figures {
		if p.verbose || !f.ok {
			fmt.Printf("     %s %s: %s (asked: %s)\n", mark(f.ok), f.name, f.got, f.want)
		}
	}
	if r.err != nil {
		fmt.Printf("     %s %v\n", mark(false), r.err)
	}
	if r.failed() {
		for _, n := range r.notes {
			fmt.Printf("        %.600s\n", n)
		}
		for line := range strings.Lines(r.log[max(0, len(r.log)-4000):]) {
			fmt.Printf("        | %.400s\n", strings.TrimSuffix(line, "\n"))
		}
	}
}

func mark(ok bool) string {
	if ok {
		return "+"
	}
	return "-"
}

func (p *report) verdict(r *result) string {
	switch {
	case r.absent != "":
		return "n/a"
	case r.failed():
		return "FAIL"
	}
	return "pass"
}

func (p *report) failed() (n int) {
	for i := range p.results {
		if p.results[i].failed() {
			n++
		}
	}
	return n
}

// always are the figures that every scenario has; the table shows them only where they do not hold.
var always = map[string]bool{
	"executed twice": true, "lost answers": true, "second answers": true, "wrong caller or answer": true, "executed: no, but executed": true,
	"answered, but not executed": true, "executed not stated": true, "executed, but not asked": true, "neighbour and status errors": true,
	"files, processes afterwards": true, "gateway ends": true, "longest failure text": true,
}

// table is the result as Markdown.
func (p *report) table(t totals, took time.Duration) string {
	var b strings.Builder
	b.WriteString("| # | scenario | asked | measured | |\n|---|---|---|---|---|\n")
	counts := map[string]int{}
	for i := range p.results {
		r := &p.results[i]
		var got []string
		for _, f := range r.figures {
			if !always[f.name] || !f.ok {
				m := f.name + " " + f.got
				if !f.ok {
					m = "**" + m + "** (asked " + f.want + ")"
				}
				got = append(got, m)
			}
		}
		if r.summary != "" {
			got = append(got, r.summary)
		}
		if r.err != nil {
			got = append(got, "**"+strings.ReplaceAll(strings.SplitN(r.err.Error(), "\n", 2)[0], "|", "/")+"**")
		}
		if r.absent != "" {
			got = append(got, "not applicable: "+r.absent)
		}
		v := p.verdict(r)
		counts[v]++
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %s |\n", r.number, r.name, r.asked, strings.Join(got, "; "), v)
	}
	fmt.Fprintf(&b, "\n%d passed, %d failed, %d not applicable in %s. %d calls; executed twice: %d; lost answers: %d; wrong caller or answer: %d; told \"executed: no\" though it was: %d.\n",
		counts["pass"], counts["FAIL"], counts["n/a"], took.Round(time.Second), t.calls, t.twice, t.lost, t.wrong, t.lied)
	return b.String()
}
