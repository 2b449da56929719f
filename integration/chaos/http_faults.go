package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

func staleConnections(ctx context.Context, r *rig) error {
	if err := r.start(ctx, serverSpec{name: "h"}, serverSpec{name: "o", legacy: true}); err != nil {
		return err
	}
	var all []*told
	broken := 0
	begin := time.Now()
	for range r.times(20, 100, 500) {
		for _, name := range []string{"h", "o"} {
			all = append(all, r.together(ctx, 4, mixed(name))...) // leaves connections behind
			broken += r.servers[name].proxy.resetIdle()
			all = append(all, r.together(ctx, 4, mixed(name))...)
		}
	}
	r.healed()
	attempts := 0
	for _, name := range []string{"h", "o"} {
		attempts += len(r.servers[name].proxy.requests(begin, "tools/call"))
	}
	r.check("connections broken", broken >= 2*r.times(20, 100, 500), "one a round or more", "%d", broken)
	r.every("answered", len(pick(all, answered)), len(all))
	r.note(pick(all, not(answered)))
	r.ratio(attempts, len(all), 1.05)
	return nil
}

// ratio checks attempts for each call.
func (r *rig) ratio(attempts, calls int, most float64) {
	got := float64(attempts) / float64(max(calls, 1))
	r.check("attempts/calls", got <= most, fmt.Sprintf("≤ %.2f", most), "%.2f", got)
}

// hits remembers the calls that a fault met.
type hits struct {
	mu    sync.Mutex // guards nonce
	nonce map[string]bool
}

func (h *hits) of(f fault) fault {
	h.nonce = map[string]bool{}
	return func(x *exchange) bool {
		h.mu.Lock()
		h.nonce[x.nonce] = true
		h.mu.Unlock()
		return f(x)
	}
}

func (h *hits) hit(t *told) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.nonce[t.nonce]
}

const bigBudget = "budget: { ratio: 1, burst: 100 }"

func resetsAfter(ctx context.Context, r *rig) error {
	policy := "retry: { initial_delay: 10ms, max_delay: 50ms, " + bigBudget + " }"
	if err := r.start(ctx, serverSpec{name: "h", policy: policy}, serverSpec{name: "o", legacy: true, policy: policy}); err != nil {
		return err
	}
	for _, name := range []string{"h", "o"} {
		var met hits
		p := r.servers[name].proxy
		p.set(firstTime(func(n int) bool { return n%4 == 0 }, met.of(resetAfter)))
		all := r.loadFor(ctx, 100, r.span(time.Second, 3*time.Second, 10*time.Second), mixed(name))
		p.set(nil)
		reads, hitWrites := pick(all, safe), pick(all, both(writes, met.hit))
		r.every(name+": reads answered", len(pick(reads, answered)), len(reads))
		r.note(pick(reads, not(answered)))
		unknown := pick(hitWrites, func(t *told) bool {
			return t.Executed == "unknown" && (t.Class == "connection" || t.Class == "stream_aborted") && t.Attempts == 1
		})
		r.check(name+": writes that were hit", len(unknown) == len(hitWrites) && len(hitWrites) > 0, "all connection, unknown, 1 attempt", "%d of %d", len(unknown), len(hitWrites))
		r.note(pick(hitWrites, func(t *told) bool { return !slices.Contains(unknown, t) }))
		others := pick(all, both(writes, not(met.hit)))
		r.every(name+": other writes answered", len(pick(others, answered)), len(others))
	}
	r.healed()
	return nil
}

// gone waits until no call is left at a proxy and returns how long that took.
func (p *proxy) gone(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	err := until(ctx, 5*time.Second, "the gateway's connections closed", func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.running > 0 {
			return fmt.Errorf("%d calls are still open at the proxy", p.running)
		}
		return nil
	})
	return time.Since(start), err
}

func slowLoris(ctx context.Context, r *rig) error {
	policy := shortAttempts + ", bulkhead: { max_concurrent: 1 }, circuit_breaker: { enabled: false }"
	if err := r.start(ctx, serverSpec{name: "h", policy: policy}, serverSpec{name: "o", legacy: true, policy: policy}); err != nil {
		return err
	}
	for _, name := range []string{"h", "o"} {
		p := r.servers[name].proxy
		p.set(calls(trickle(time.Second)))
		var all []*told
		for range r.times(4, 10, 30) {
			all = append(all, r.client.do(ctx, call{server: name, tool: "write"}))
		}
		r.held(all, 300*time.Millisecond, 30*time.Millisecond)
		closed, err := p.gone(ctx)
		if err != nil {
			return err
		}
		r.within(name+": connection closed", closed, 200*time.Millisecond)
		p.set(nil)
		next := r.client.do(ctx, call{server: name, tool: "write"})
		r.timed(name+": slot free", next.answered && next.took < 200*time.Millisecond, "answered < 200ms", "%s in %s", next.brief(), short(next.took))
	}
	r.healed()
	return nil
}

func silentStream(ctx context.Context, r *rig) error {
	off := ", circuit_breaker: { enabled: false }"
	err := r.start(ctx, serverSpec{name: "h", policy: shortAttempts + off},
		serverSpec{name: "i", policy: "timeouts: { attempt: 600ms, idle: 300ms, progress_max: 1500ms, overall: 5s }, retry: { max_attempts: 1 }" + off})
	if err != nil {
		return err
	}
	n := r.times(4, 10, 30)
	for _, name := range []string{"h", "i"} {
		p := r.servers[name].proxy
		p.set(calls(silence))
		r.held(r.together(ctx, n, only(call{server: name, tool: "write"})), 300*time.Millisecond, 50*time.Millisecond)
		closed, err := p.gone(ctx)
		if err != nil {
			return err
		}
		r.within(name+": connections closed", closed, 200*time.Millisecond)
		p.set(nil)
	}
	r.held(r.together(ctx, n, only(call{server: "i", tool: "write", do: "progress=100ms", token: true})), 1500*time.Millisecond, 100*time.Millisecond)
	_, err = r.servers["i"].proxy.gone(ctx)
	r.healed()
	return err
}

func burst(ctx context.Context, r *rig) error {
	err := r.start(ctx, serverSpec{name: "h", policy: "circuit_breaker: { timeout: 500ms, max_timeout: 2s, probe: { interval: 100ms, timeout: 500ms } }"})
	if err != nil {
		return err
	}
	p := r.servers["h"].proxy
	p.mostAtOnce()
	p.set(status(http.StatusInternalServerError))
	begin := time.Now()
	l := r.load(ctx, 200, mixed("h"))
	if err := r.state(ctx, "h", "open", 5*time.Second); err != nil {
		return err
	}
	c, err := r.circuit(ctx, "h")
	if err != nil {
		return err
	}
	pause(ctx, r.span(3*time.Second, 10*time.Second, time.Minute))
	r.healed()
	p.set(nil)
	end := time.Now()
	got := len(p.requests(begin, "tools/call"))
	if err := r.state(ctx, "h", "closed", 10*time.Second); err != nil {
		return err
	}
	closed := time.Since(end)
	pause(ctx, 300*time.Millisecond)
	openings := r.log.opened("h")
	all := l.end()
	during := pick(all, func(t *told) bool { return t.at.Before(end) })
	after := pick(all, func(t *told) bool { return t.at.After(end.Add(closed)) })
	r.atMost("failures until it opened", c.Totals.Failures, 5+p.mostAtOnce())
	r.atMost(fmt.Sprintf("calls at the server in %d openings", openings), got, 5+3*openings+2)
	rej := pick(during, rejected)
	r.check("rejected", len(rej) > len(during)/2, "most", "%d of %d", len(rej), len(during))
	r.within("rejects p99", quantile(took(rej), 0.99), time.Millisecond+2*r.machine(0.99))
	r.within("closed", closed, 2200*time.Millisecond+300*time.Millisecond)
	r.every("answered afterwards", len(pick(after, answered)), len(after))
	r.ratio(got, len(during), 1.2)
	return nil
}

// everyOf is a fault for a share of requests, spread by the golden ratio: as random draws, but the same in each run.
func everyOf(part float64, f fault) fault {
	var mu sync.Mutex
	x := 0.5
	return func(e *exchange) bool {
		mu.Lock()
		x += 0.6180339887498949
		if x >= 1 {
			x--
		}
		hit := x < part
		mu.Unlock()
		return hit && f(e)
	}
}

func randomErrors(ctx context.Context, r *rig) error {
	// Consecutive failures say nothing about a server that fails at random: this is what the rate is for.
	const breaker = "circuit_breaker: { failure_threshold: 0, failure_rate_threshold: 0.5, minimum_calls: 50 }"
	err := r.start(ctx, serverSpec{name: "h", policy: breaker + ", retry: { initial_delay: 10ms, max_delay: 50ms }"},
		serverSpec{name: "i", policy: breaker + ", retry: { max_attempts: 4, initial_delay: 10ms, max_delay: 50ms, budget: { ratio: 0.6 } }"})
	if err != nil {
		return err
	}
	d := r.span(2*time.Second, 5*time.Second, time.Minute)
	for _, x := range []struct {
		name  string
		ratio float64
		want  float64
	}{{"h", 0.2, 0}, {"i", 0.6, 97}} {
		p := r.servers[x.name].proxy
		p.set(calls(everyOf(0.3, status(http.StatusBadGateway))))
		begin := time.Now()
		all := r.loadFor(ctx, 200, d, only(call{server: x.name, tool: "read"}))
		p.set(nil)
		ok := share(len(pick(all, answered)), len(all))
		r.check(fmt.Sprintf("reads answered, ratio %.1f", x.ratio), ok >= max(x.want, 75), fmt.Sprintf("≥ %.0f %%", max(x.want, 75)), "%.1f %%", ok)
		// What each second earns besides is part of the budget too.
		r.ratio(len(p.requests(begin, "tools/call")), len(all), 1+x.ratio+(10+d.Seconds()+1)/float64(len(all)))
		r.exactly(x.name+": openings", r.log.opened(x.name), 0)
	}
	r.healed()
	return nil
}

func tooMany(ctx context.Context, r *rig) error {
	policy := "retry: { initial_delay: 10ms, max_delay: 50ms, max_retry_after: 5s, " + bigBudget + " }"
	if err := r.start(ctx, serverSpec{name: "h", policy: policy}, serverSpec{name: "i", policy: policy}, serverSpec{name: "j", policy: policy}); err != nil {
		return err
	}
	wait := r.span(time.Second, 3*time.Second, 3*time.Second)
	p := r.servers["h"].proxy
	p.set(firstTime(func(int) bool { return true }, status(http.StatusTooManyRequests, "Retry-After", strconv.Itoa(int(wait.Seconds())))))
	r.pushedBack(ctx, "h", func(first time.Time) time.Time { return first.Add(wait) })
	p = r.servers["i"].proxy
	until := time.Now().Add(wait + time.Second).Truncate(time.Second)
	p.set(firstTime(func(int) bool { return true }, status(http.StatusTooManyRequests, "Retry-After", until.UTC().Format(http.TimeFormat))))
	r.pushedBack(ctx, "i", func(time.Time) time.Time { return until })
	p = r.servers["j"].proxy
	p.set(calls(status(http.StatusTooManyRequests, "Retry-After", "60")))
	t := r.client.do(ctx, call{server: "j", tool: "write"})
	r.healed()
	r.timed("Retry-After: 60", !t.answered && t.took < 500*time.Millisecond && t.RetryAfterMS > 55000 && t.RetryAfterMS <= 61000 && t.Executed == "no", "at once, retry_after 60s, executed no",
		"%s after %s, retry_after %d ms", t.brief(), short(t.took), t.RetryAfterMS)
	for _, name := range []string{"h", "i", "j"} {
		r.exactly(name+": openings", r.log.opened(name), 0)
	}
	return nil
}

// pushedBack makes calls whose first attempt is refused and checks when the second ones come.
func (r *rig) pushedBack(ctx context.Context, name string, earliest func(first time.Time) time.Time) {
	begin := time.Now()
	all := r.together(ctx, 6, mixed(name))
	r.every(name+": answered", len(pick(all, answered)), len(all))
	r.note(pick(all, not(answered)))
	first := map[string]time.Time{}
	early, repeated := 0, 0
	for _, s := range r.servers[name].proxy.requests(begin, "tools/call") {
		at, again := first[s.nonce]
		if !again {
			first[s.nonce] = s.at
			continue
		}
		repeated++
		if s.at.Before(earliest(at)) {
			early++
			r.notes = append(r.notes, fmt.Sprintf("%s: repeated after %s", name, s.at.Sub(at)))
		}
	}
	r.check(name+": repeated too early", early == 0 && repeated >= len(all), "0", "%d of %d", early, repeated)
}

func garbled(ctx context.Context, r *rig) error {
	policy := "retry: { initial_delay: 10ms, max_delay: 50ms, " + bigBudget + " }, bulkhead: { max_concurrent: 100 }"
	if err := r.start(ctx, serverSpec{name: "h", policy: policy}, serverSpec{name: "o", legacy: true, policy: policy}); err != nil {
		return err
	}
	for _, name := range []string{"h", "o"} {
		var met hits
		p := r.servers[name].proxy
		p.set(calls(oneOf(20, met.of(garbage()))))
		begin := time.Now()
		all := r.loadFor(ctx, 100, r.span(time.Second, 3*time.Second, 20*time.Second), func(i int) call {
			c := mixed(name)(i)
			c.do = "delay=50ms" // so that others are in flight when one goes wrong
			return c
		})
		p.set(nil)
		innocent, reads, hitWrites := pick(all, not(met.hit)), pick(all, both(safe, met.hit)), pick(all, both(writes, met.hit))
		r.every(name+": innocent calls answered", len(pick(innocent, answered)), len(innocent))
		r.note(pick(innocent, not(answered)))
		r.every(name+": reads that were hit answered", len(pick(reads, answered)), len(reads))
		r.note(pick(reads, not(answered)))
		told := pick(hitWrites, func(t *told) bool { return !t.answered && t.Executed == "unknown" })
		r.every(name+": writes that were hit told unknown", len(told), len(hitWrites))
		r.exactly(name+": new sessions", len(p.requests(begin, "initialize"))+len(p.requests(begin, "server/discover")), 0)
		r.exactly(name+": openings", r.log.opened(name), 0)
	}
	r.healed()
	return nil
}
