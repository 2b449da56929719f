package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// mixedFaults measures what bad neighbours cost a healthy server: the same load with and without faults, in turns.
func mixedFaults(ctx context.Context, r *rig) error {
	policy := "timeouts: { attempt: 1s, overall: 3s }, circuit_breaker: { timeout: 1s, max_timeout: 1s, probe: { interval: 100ms, timeout: 300ms } }"
	err := r.start(ctx, serverSpec{name: "hung", policy: policy}, serverSpec{name: "failing", policy: policy}, serverSpec{name: "flapping", policy: policy}, serverSpec{name: "healthy", plain: true})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	broken := false
	bad := func(f fault) fault {
		return func(x *exchange) bool {
			mu.Lock()
			on := broken
			mu.Unlock()
			return on && f(x)
		}
	}
	failing := status(http.StatusInternalServerError)
	r.servers["hung"].proxy.set(bad(hang))
	r.servers["failing"].proxy.set(bad(failing))
	r.servers["flapping"].proxy.set(bad(func(x *exchange) bool { return x.at.UnixMilli()/400%2 == 0 && failing(x) }))
	// Twenty callers hammer the three, as often as they may; the healthy one has a steady load. Without faults the same twenty call as often.
	rate := r.times(200, 200, 400)
	names := []string{"hung", "failing", "flapping"}
	bad3 := r.load(ctx, rate, func(i int) call { return mixed(names[i%3])(i / 3) })
	good := r.load(ctx, rate/2, mixed("healthy"))
	direct := newClient("http://"+r.servers["healthy"].role.addr+"/mcp", r.ledger)
	direct.bare = true
	defer direct.close()
	same := r.loadBy(ctx, direct, rate/2, mixed("healthy"))
	slice := r.span(2*time.Second, 3*time.Second, 20*time.Second)
	type window struct{ from, to time.Time }
	var on, off []window
	for i := range 2 * r.times(3, 6, 15) {
		mu.Lock()
		broken = i%2 == 1
		mu.Unlock()
		pause(ctx, 1500*time.Millisecond) // circuits open, or close again
		from := time.Now()
		pause(ctx, slice)
		if i%2 == 1 {
			on = append(on, window{from, time.Now()})
		} else {
			off = append(off, window{from, time.Now()})
		}
	}
	mu.Lock()
	broken = false
	mu.Unlock()
	others := bad3.end()
	calls, without := good.end(), same.end()
	r.healed()
	// The median over the windows of a kind of the p99 in each, so that one stall of the machine does not decide. What the same load met
	// without the gateway in the same windows is the machine's doing, too.
	p99 := func(calls []*told, ws []window) time.Duration {
		var all []time.Duration
		for _, w := range ws {
			all = append(all, quantile(took(pick(calls, func(t *told) bool { return !t.at.Before(w.from) && t.at.Before(w.to) })), 0.99))
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	a, b := p99(calls, off), p99(calls, on)
	machine := max(0, p99(without, on)-p99(without, off))
	r.timed("healthy p99", b <= a*110/100+2*time.Millisecond+machine, "≤ 1.10 × "+short(a).String()+" + 2ms + machine "+short(machine).String(), "%s (%.2f ×)", short(b), float64(b)/float64(max(a, 1)))
	r.every("healthy answered", len(pick(calls, answered)), len(calls))
	r.note(pick(calls, not(answered)))
	rej := pick(others, rejected)
	r.check("neighbours refused", len(rej) > 0, "> 0", "%d of %d", len(rej), len(others))
	return nil
}

// misfortune is one fault of the soak: it hurts a server for a time and then lets it be.
type misfortune struct {
	name  string
	stdio bool // for a server over stdio, otherwise over HTTP
	do    func(ctx context.Context, r *rig, name string, d time.Duration) error
}

// through puts a fault on the proxy of a server for a time.
func through(name string, f fault) misfortune {
	return misfortune{name, false, func(ctx context.Context, r *rig, server string, d time.Duration) error {
		r.servers[server].proxy.set(f)
		pause(ctx, d)
		r.servers[server].proxy.set(nil)
		return nil
	}}
}

// told puts a word into the control file of a server for a time.
func controlled(name, word string) misfortune {
	return misfortune{name, true, func(ctx context.Context, r *rig, server string, d time.Duration) error {
		if err := r.tell(server, word); err != nil {
			return err
		}
		pause(ctx, d)
		return r.tell(server, "")
	}}
}

var misfortunes = []misfortune{
	through("errors", status(http.StatusInternalServerError)),
	through("some errors", calls(everyOf(0.3, status(http.StatusBadGateway)))),
	through("too many", calls(oneOf(3, status(http.StatusTooManyRequests, "Retry-After", "1")))),
	through("unavailable", status(http.StatusServiceUnavailable, "Retry-After", "1")),
	through("resets after", calls(oneOf(3, resetAfter))),
	through("resets before", calls(oneOf(3, resetBefore))),
	through("all resets", resetBefore),
	through("hangs", hang),
	through("silence", calls(silence)),
	through("trickle", calls(trickle(100*time.Millisecond))),
	through("garbage", calls(oneOf(5, garbage()))),
	through("only garbage", garbage()),
	{"refuses", false, func(ctx context.Context, r *rig, server string, d time.Duration) error {
		r.servers[server].proxy.down()
		pause(ctx, d)
		return r.servers[server].proxy.up()
	}},
	{"idle connections reset", false, func(ctx context.Context, r *rig, server string, d time.Duration) error {
		for range int(d / (20 * time.Millisecond)) {
			r.servers[server].proxy.resetIdle()
			pause(ctx, 20*time.Millisecond)
		}
		return nil
	}},
	{"killed", true, func(_ context.Context, r *rig, server string, _ time.Duration) error { return r.kill(server) }},
	{"crash loop", true, func(ctx context.Context, r *rig, server string, d time.Duration) error {
		if err := r.tell(server, "crash"); err != nil {
			return err
		}
		_ = r.kill(server)
		pause(ctx, d)
		return r.tell(server, "")
	}},
	controlled("exits in calls", "exit"),
	controlled("hangs in calls", "hang"),
	controlled("noise", "noise"),
	controlled("slow", "delay=300ms"),
	controlled("too late", "late=1500ms"),
}

// soak lets one server after the other meet misfortune, chosen by the seed, while all of them are called.
func soak(ctx context.Context, r *rig) error {
	policy := "timeouts: { attempt: 1s, overall: 3s }, circuit_breaker: { timeout: 500ms, max_timeout: 2s, probe: { interval: 100ms, timeout: 300ms } }"
	specs := []serverSpec{
		{name: "h1", policy: policy},
		{name: "h2", policy: policy, legacy: true},
		{name: "s1", stdio: true, policy: policy, more: "restart: { initial_delay: 50ms, max_delay: 500ms }"},
		{name: "s2", stdio: true, policy: policy, more: "restart: { initial_delay: 50ms, max_delay: 500ms }", legacy: true},
	}
	if err := r.start(ctx, specs...); err != nil {
		return err
	}
	d := r.soak
	if d == 0 {
		d = r.span(10*time.Second, 30*time.Second, time.Hour)
	}
	rnd := rand.New(rand.NewPCG(r.seed, 31))
	names := []string{"h1", "h2", "s1", "s2"}
	var mu sync.Mutex
	gone := 0
	l := r.load(ctx, 200, func(i int) call {
		c := mixed(names[i%4])(i / 4)
		mu.Lock()
		gone++
		if gone%50 == 0 { // some clients do not wait
			c.limit = 30 * time.Millisecond
		}
		mu.Unlock()
		return c
	})
	begin := time.Now()
	var back []time.Duration
	met := map[string]int{}
	var memory []int64
	var lastSample time.Time
	for time.Since(begin) < d && ctx.Err() == nil {
		m := misfortunes[rnd.IntN(len(misfortunes))]
		server := names[rnd.IntN(2)]
		if m.stdio {
			server = names[2+rnd.IntN(2)]
		}
		length := time.Duration(200+rnd.IntN(1800)) * time.Millisecond
		met[m.name]++
		if err := m.do(ctx, r, server, length); err != nil {
			l.end()
			return fmt.Errorf("%s for %s: %w", m.name, server, err)
		}
		took, err := r.works(ctx, server, 20*time.Second)
		if err != nil {
			l.end()
			return fmt.Errorf("after %s for %s: %w", m.name, server, err)
		}
		back = append(back, took)
		if time.Since(lastSample) > d/20 {
			lastSample = time.Now()
			u, err := measure(r.gw.PID())
			if err != nil {
				l.end()
				return err
			}
			memory = append(memory, u.rss)
		}
	}
	r.healed()
	all := l.end()
	slices.Sort(back)
	r.within(fmt.Sprintf("recovery p95 of %d faults", len(back)), quantile(back, 0.95), 2*time.Second+10*time.Second)
	r.within("longest recovery", quantile(back, 1), 20*time.Second)
	var kinds []string
	for name, n := range met {
		kinds = append(kinds, fmt.Sprintf("%s %d", name, n))
	}
	slices.Sort(kinds)
	r.notes = append(r.notes, strings.Join(kinds, ", "))
	no := len(pick(all, func(t *told) bool { return !t.answered && t.Executed == "no" }))
	unknown := len(pick(all, func(t *told) bool { return !t.answered && t.Executed == "unknown" }))
	r.check("calls under way", len(all) > 0, "> 0", "%d: %d answered, %d executed no, %d unknown", len(all), len(pick(all, answered)), no, unknown)
	// The second half against the middle: at the beginning the heap grows to its size.
	if d >= 10*time.Minute && len(memory) >= 10 {
		half := memory[len(memory)/2:]
		grew := float64(half[len(half)-1]-half[0]) / (1 << 20) / (d.Minutes() / 2) * 10
		r.check("memory", grew < 1, "< +1 MiB in 10 min", "%+.1f MiB in 10 min, %d MiB in all", grew, half[len(half)-1]>>20)
	} else if len(memory) > 1 {
		r.check("memory", true, "(too short to judge)", "%d to %d MiB", memory[0]>>20, memory[len(memory)-1]>>20)
	}
	return nil
}
