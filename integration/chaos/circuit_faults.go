package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

func flapping(ctx context.Context, r *rig) error {
	const least, cap = 200 * time.Millisecond, 800 * time.Millisecond
	err := r.start(ctx, serverSpec{name: "h", policy: "retry: { max_attempts: 1 }, circuit_breaker: { failure_threshold: 2, timeout: 200ms, max_timeout: 800ms, backoff: 2, jitter: 0, " +
		"success_threshold: 2, half_open_max_calls: 3, probe: { enabled: false } }"})
	if err != nil {
		return err
	}
	p := r.servers["h"].proxy
	var mu sync.Mutex
	n := 0
	p.set(calls(func(x *exchange) bool {
		mu.Lock()
		n++
		fails := n%3 != 0 // fail, fail, work
		mu.Unlock()
		pause(x.r.Context(), 20*time.Millisecond) // so that trials can meet
		return fails && status(http.StatusInternalServerError)(x)
	}))
	l := r.load(ctx, 200, mixed("h"))
	if err := r.state(ctx, "h", "open", 5*time.Second); err != nil {
		return err
	}
	pause(ctx, 100*time.Millisecond) // what was in flight is over
	p.mostAtOnce()
	pause(ctx, r.span(5*time.Second, 8*time.Second, time.Minute))
	most := p.mostAtOnce()
	l.end()
	r.healed()
	p.set(nil)
	changes := r.log.transitions("h")
	var opened time.Time
	var open []time.Duration
	for _, c := range changes {
		switch c.to {
		case "opened":
			opened = c.at
		case "half-open":
			open = append(open, c.at.Sub(opened).Round(time.Millisecond))
		}
	}
	wrong := 0
	want := least
	for i, d := range open {
		// A circuit becomes half-open when somebody looks: with 200 calls/s, within milliseconds.
		if d < want-5*time.Millisecond || d > want+100*time.Millisecond {
			wrong++
			r.notes = append(r.notes, fmt.Sprintf("open for %s at opening %d, want %s", d, i+1, want))
		}
		want = min(2*want, cap)
	}
	r.atMost("trials at once", most, 3)
	r.timed("open times", wrong == 0 && len(open) > 3, "200ms doubling to 800ms", "%d of %d wrong, the first %v", wrong, len(open), open[:min(4, len(open))])
	r.check("changes per opening", len(changes) <= 2*(len(open)+1), "≤ 2", "%d in %d", len(changes), len(open))
	return nil
}

// openCircuit makes a server fail until its circuit is open.
func (r *rig) openCircuit(ctx context.Context, name string) error {
	r.servers[name].proxy.set(status(http.StatusInternalServerError))
	for range 20 {
		r.client.do(ctx, call{server: name, tool: "write"})
		if c, err := r.circuit(ctx, name); err != nil || c.State == "open" {
			return err
		}
	}
	return fmt.Errorf("the circuit of %s did not open in 20 failing calls", name)
}

func stuckTrial(ctx context.Context, r *rig) error {
	err := r.start(ctx, serverSpec{name: "h", policy: "timeouts: { attempt: 3s, overall: 4s }, retry: { max_attempts: 1 }, " +
		"circuit_breaker: { timeout: 300ms, max_timeout: 600ms, jitter: 0, half_open_timeout: 500ms, probe: { enabled: false } }"})
	if err != nil {
		return err
	}
	if err := r.openCircuit(ctx, "h"); err != nil {
		return err
	}
	p := r.servers["h"].proxy
	p.set(calls(hang))
	begin := len(r.log.transitions("h"))
	l := r.load(ctx, 50, mixed("h"))
	pause(ctx, r.span(2*time.Second, 4*time.Second, 10*time.Second))
	changes := r.log.transitions("h")[begin:]
	p.set(nil)
	r.healed()
	back := time.Now()
	err = r.state(ctx, "h", "closed", 5*time.Second)
	r.within("closed again", time.Since(back), 600*time.Millisecond+500*time.Millisecond+400*time.Millisecond)
	l.end()
	var half time.Time
	var gaveUp []time.Duration
	for _, c := range changes {
		switch {
		case c.to == "half-open":
			half = c.at
		case c.to == "opened" && !half.IsZero():
			gaveUp = append(gaveUp, c.at.Sub(half).Round(time.Millisecond))
		}
	}
	ok := len(gaveUp) > 0
	for _, d := range gaveUp {
		ok = ok && d >= 490*time.Millisecond && d <= 650*time.Millisecond
	}
	r.timed("trials given up", ok, "after 500ms, once or more", "%v", gaveUp[:min(4, len(gaveUp))])
	return err
}

func herd(ctx context.Context, r *rig) error {
	const callers = 500
	err := r.start(ctx, serverSpec{name: "h", policy: "retry: { max_attempts: 1 }, bulkhead: { max_concurrent: 10, max_queued: 1000, timeout: 8s }, " +
		"circuit_breaker: { timeout: 1s, half_open_max_calls: 3, probe: { enabled: false } }"})
	if err != nil {
		return err
	}
	p := r.servers["h"].proxy
	// Five hundred calls at one moment are 100 ms of work for two processors, which whoever comes then waits for.
	r.crowd = 100 * time.Millisecond
	if err := r.openCircuit(ctx, "h"); err != nil {
		return err
	}
	// Its calls now take a while, so that a herd that got through would be seen.
	if err := r.tell("h", "delay=20ms"); err != nil {
		return err
	}
	p.mostAtOnce()
	openings := r.log.opened("h")
	// The trial before the recovery fails: the callers come back for the one after it.
	var mu sync.Mutex
	var up time.Time
	trials := 0
	first := time.Time{}
	p.set(func(x *exchange) bool {
		if x.method != "tools/call" {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		if first.IsZero() {
			first = x.at
		}
		if x.at.Sub(first) < 15*time.Millisecond { // before the first of them is answered
			trials++
		}
		return false
	})
	up = time.Now()
	var wg sync.WaitGroup
	var last time.Time
	for range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				t := r.client.do(ctx, call{server: "h", tool: "write"})
				if t.answered {
					mu.Lock()
					last = t.end()
					mu.Unlock()
					return
				}
				pause(ctx, min(max(time.Duration(t.RetryAfterMS)*time.Millisecond, 20*time.Millisecond), time.Second))
			}
		})
	}
	wg.Wait()
	r.healed()
	r.atMost("trials", trials, 3)
	r.atMost("at once afterwards", p.mostAtOnce(), 10)
	r.exactly("openings", r.log.opened("h")-openings, 0)
	r.within(fmt.Sprintf("all %d answered", callers), last.Sub(up), 5*time.Second)
	return nil
}

func retryStorm(ctx context.Context, r *rig) error {
	policy := "retry: { max_attempts: 3, initial_delay: 5ms, max_delay: 20ms }, circuit_breaker: { enabled: false }, bulkhead: { max_concurrent: 200 }"
	names := []string{"h", "i", "j"}
	if err := r.start(ctx, serverSpec{name: "h", policy: policy}, serverSpec{name: "i", policy: policy}, serverSpec{name: "j", policy: policy}); err != nil {
		return err
	}
	for _, name := range names {
		r.servers[name].proxy.set(calls(status(http.StatusServiceUnavailable)))
	}
	begin := time.Now()
	d := r.span(2*time.Second, 5*time.Second, time.Minute)
	all := r.loadFor(ctx, 300, d, func(i int) call { return call{server: names[i%3], tool: "read"} })
	r.healed()
	attempts := 0
	for _, name := range names {
		attempts += len(r.servers[name].proxy.requests(begin, "tools/call"))
	}
	// Each of the three saves up ten and earns one a second.
	r.ratio(attempts, len(all), 1.2+3*(10+d.Seconds()+1)/float64(len(all)))
	r.exactly("failures told", len(pick(all, not(answered))), len(all))
	return nil
}

func reloads(ctx context.Context, r *rig) error {
	err := r.start(ctx, serverSpec{name: "h", policy: "timeouts: { attempt: 4s, overall: 5s }, retry: { max_attempts: 1 }, circuit_breaker: { timeout: 1s, jitter: 0, success_threshold: 1, probe: { enabled: false } }"},
		serverSpec{name: "o", legacy: true}, serverSpec{name: "s", stdio: true})
	if err != nil {
		return err
	}
	p := r.servers["h"].proxy
	// In flight: calls to all three, while the file changes several times.
	var flights []*loading
	for _, name := range []string{"h", "o", "s"} {
		flights = append(flights, r.begin(ctx, 6, func(i int) call { c := mixed(name)(i); c.do = "delay=400ms"; return c }))
	}
	change := func(threshold int) error {
		s := r.servers["h"]
		s.policy = fmt.Sprintf("timeouts: { attempt: 4s, overall: 5s }, retry: { max_attempts: 1 }, circuit_breaker: { failure_threshold: %d, timeout: 1s, jitter: 0, success_threshold: 1, probe: { enabled: false } }", threshold)
		code, err := r.reload(ctx, r.yaml(""))
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("POST /-/reload: HTTP %d", code)
		}
		return err
	}
	for i := range r.times(5, 20, 50) {
		if err := change(5 + i%2); err != nil {
			return err
		}
	}
	var inFlight []*told
	for _, l := range flights {
		inFlight = append(inFlight, l.end()...)
	}
	r.every("in flight answered", len(pick(inFlight, answered)), len(inFlight))
	r.note(pick(inFlight, not(answered)))

	if err := r.openCircuit(ctx, "h"); err != nil {
		return err
	}
	before, err := r.circuit(ctx, "h")
	if err != nil {
		return err
	}
	if err := change(7); err != nil {
		return err
	}
	after, err := r.circuit(ctx, "h")
	if err != nil {
		return err
	}
	r.check("while open", after.State == "open" && after.Totals.Failures == before.Totals.Failures && after.Totals.Opens == before.Totals.Opens, "open, same totals", "%s, %d failures, %d openings",
		after.State, after.Totals.Failures, after.Totals.Opens)

	// Half-open with a trial under way: the trial decides after the reload.
	p.set(nil)
	if err := r.state(ctx, "h", "half_open", 5*time.Second); err != nil {
		return err
	}
	trial := r.begin(ctx, 1, only(call{server: "h", tool: "write", do: "delay=600ms"}))
	err = until(ctx, 5*time.Second, "a trial under way", func() error {
		c, err := r.circuit(ctx, "h")
		if err == nil && (c.HalfOpen == nil || c.HalfOpen.InFlight == 0) {
			err = errors.New(c.State)
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := change(5); err != nil {
		return err
	}
	during, err := r.circuit(ctx, "h")
	if err != nil {
		return err
	}
	r.check("while half-open", during.State == "half_open" && during.HalfOpen != nil && during.HalfOpen.InFlight == 1, "half_open, 1 trial", "%s", during.State)
	all := trial.end()
	r.healed()
	r.exactly("trial answered", len(pick(all, answered)), len(all))
	end, err := r.circuit(ctx, "h")
	if err != nil {
		return err
	}
	r.check("after the trial", end.State == "closed", "closed", "%s", end.State)
	return nil
}

func inputRequired(ctx context.Context, r *rig) error {
	err := r.start(ctx, serverSpec{name: "h", policy: "timeouts: { attempt: 3s, overall: 4s }, retry: { max_attempts: 3, initial_delay: 10ms }, circuit_breaker: { timeout: 300ms, jitter: 0, success_threshold: 2, probe: { enabled: false } }"})
	if err != nil {
		return err
	}
	p := r.servers["h"].proxy
	if err := r.openCircuit(ctx, "h"); err != nil {
		return err
	}
	p.set(nil)
	// The only calls from here on are questions: if they close the circuit, they are successes.
	asked := 0
	err = until(ctx, 5*time.Second, "questions close the circuit", func() error {
		if t := r.client.do(ctx, call{server: "h", tool: "write", do: "ask"}); t.needs {
			asked++
		}
		c, err := r.circuit(ctx, "h")
		if err == nil && c.State != "closed" {
			err = errors.New(c.State)
		}
		return err
	})
	if err != nil {
		return err
	}
	r.check("questions", asked >= 2, "≥ 2, and the circuit closes", "%d", asked)
	// The first round may be repeated for a read; a round with answers not, once it was sent.
	round := func(tool string) call {
		return call{server: "h", tool: tool, do: "ask", of: r.client.do(ctx, call{server: "h", tool: tool, do: "ask"})}
	}
	writing, repeatable, last := round("write"), round("idem"), round("write")
	p.set(calls(resetAfter))
	begin := time.Now()
	w, i := r.client.do(ctx, writing), r.client.do(ctx, repeatable)
	p.set(nil)
	r.healed()
	ok := r.client.do(ctx, last)
	r.check("round with answers, lost", w.Executed == "unknown" && i.Executed == "unknown" && w.Attempts == 1 && i.Attempts == 1, "executed unknown, 1 attempt", "%s, %s", w.brief(), i.brief())
	r.exactly("sent", len(p.requests(begin, "tools/call"))-1, 2)
	r.check("round with answers", ok.answered && !ok.needs, "answered", "%s", ok.brief())
	return nil
}

func outage(ctx context.Context, r *rig) error {
	// Sessions here are shorter than ten seconds and yet healthy ones.
	const more = "restart: { max_delay: 2s, healthy_after: 200ms }"
	if err := r.start(ctx, serverSpec{name: "h", more: more}, serverSpec{name: "o", legacy: true, more: more}); err != nil {
		return err
	}
	l := r.load(ctx, 100, func(i int) call { return mixed([]string{"h", "o"}[i%2])(i / 2) })
	var back []time.Duration
	for range r.times(2, 5, 20) {
		for _, name := range []string{"h", "o"} {
			r.servers[name].proxy.down()
		}
		pause(ctx, r.span(500*time.Millisecond, time.Second, 5*time.Second))
		for _, name := range []string{"h", "o"} {
			if err := r.servers[name].proxy.up(); err != nil {
				return err
			}
		}
		for _, name := range []string{"h", "o"} {
			d, err := r.works(ctx, name, 10*time.Second)
			if err != nil {
				return err
			}
			back = append(back, d)
		}
		pause(ctx, 300*time.Millisecond)
	}
	r.healed()
	all := l.end()
	var most time.Duration
	for _, d := range back {
		most = max(most, d)
	}
	no := pick(all, func(t *told) bool { return !t.answered && t.Executed == "no" })
	r.within("back", most, 4400*time.Millisecond)
	r.check("refused calls say executed no", len(no) > 0, "> 0", "%d of %d failures", len(no), len(pick(all, not(answered))))
	return nil
}
