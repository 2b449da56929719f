package main

import (
	"context"
	"sync"
	"time"
)

// loading is calls that come at a constant rate, however long the answers take.
type loading struct {
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu    sync.Mutex // guards calls
	calls []*told
}

// load begins to make calls at a rate; next says which. Calls that have begun are finished even when ctx ends.
func (r *rig) load(ctx context.Context, perSecond int, next func(i int) call) *loading {
	return r.loadBy(ctx, r.client, perSecond, next)
}

// loadBy is load by another client than the rig's.
func (*rig) loadBy(ctx context.Context, c *client, perSecond int, next func(i int) call) *loading {
	ctx, stop := context.WithCancel(ctx)
	l := &loading{stop: stop}
	l.wg.Go(func() {
		start := time.Now()
		for i := 0; ; i++ {
			due := start.Add(time.Duration(i) * time.Second / time.Duration(perSecond))
			if wait := time.Until(due); wait > 0 && !pause(ctx, wait) || ctx.Err() != nil {
				return
			}
			l.wg.Go(func() { l.add(c.do(context.WithoutCancel(ctx), next(i))) })
		}
	})
	return l
}

func (l *loading) add(t *told) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, t)
}

// end stops the load, waits for the answers and returns them.
func (l *loading) end() []*told {
	l.stop()
	l.wg.Wait()
	return l.calls
}

// loadFor makes calls at a rate for a time and returns all of them.
func (r *rig) loadFor(ctx context.Context, perSecond int, d time.Duration, next func(i int) call) []*told {
	l := r.load(ctx, perSecond, next)
	pause(ctx, d)
	return l.end()
}

// together makes n calls at the same time and returns all of them.
func (r *rig) together(ctx context.Context, n int, next func(i int) call) []*told {
	return r.begin(ctx, n, next).end()
}

// begin makes n calls at the same time; end waits for them.
func (r *rig) begin(ctx context.Context, n int, next func(i int) call) *loading {
	l := &loading{stop: func() {}}
	for i := range n {
		l.wg.Go(func() { l.add(r.client.do(ctx, next(i))) })
	}
	return l
}

// mixed returns calls to a server that are reads, writes and idempotent ones in turn.
func mixed(server string) func(int) call {
	return func(i int) call { return call{server: server, tool: []string{"read", "write", "idem"}[i%3]} }
}

// only returns calls to a server that are all the same.
func only(c call) func(int) call { return func(int) call { return c } }

// pick returns the calls that f chooses.
func pick(all []*told, f func(*told) bool) []*told {
	var out []*told
	for _, t := range all {
		if f(t) {
			out = append(out, t)
		}
	}
	return out
}

func answered(t *told) bool { return t.answered }
func rejected(t *told) bool { return t.rejected() }
func safe(t *told) bool     { return t.tool != "write" }
func writes(t *told) bool   { return t.tool == "write" }

// not negates f.
func not(f func(*told) bool) func(*told) bool { return func(t *told) bool { return !f(t) } }

// both is f and g.
func both(f, g func(*told) bool) func(*told) bool { return func(t *told) bool { return f(t) && g(t) } }

// machine is how much longer calls took, without the gateway, than before the faults: what is not the gateway's doing.
func (r *rig) machine(q float64) time.Duration {
	r.watch.mu.Lock()
	all := append([]sample(nil), r.watch.direct...)
	r.watch.mu.Unlock()
	now := time.Now()
	return quantile(between(all, r.began, now), q)
}

// share writes a part of a whole in percent.
func share(n, of int) float64 {
	if of == 0 {
		return 100
	}
	return 100 * float64(n) / float64(of)
}
