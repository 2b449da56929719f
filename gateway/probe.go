package gateway

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/resilience"
)

// probe finds out whether a downstream whose circuit is open works again, so that no user's call need be the trial. It runs until ctx is
// done. While the circuit is closed it costs nothing.
//
// It asks when the circuit would let trials through, at the latest after the configured interval, and at once when the Server has opened a
// session again: a server that was restarted has its circuit closed without waiting for the timer.
func (tg *target) probe(ctx context.Context) {
	pol := tg.policy
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last time.Time // of the last probe
	for {
		cfg := pol.guard.Config()
		p := &cfg.CircuitBreaker.Probe
		due := time.Duration(-1)
		if p.Enabled && tripped(pol.guard) {
			if due = nextProbe(pol.guard, p.Interval); tg.isBack(last) {
				due = 0
			}
		}
		if due >= 0 {
			timer.Reset(due)
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return
		case <-pol.wake:
		case <-timer.C:
			if due >= 0 {
				last = time.Now()
				tg.probeNow(ctx, &cfg)
			}
		}
	}
}

// isBack reports whether the server has opened a session since its circuit opened and since the last probe.
func (tg *target) isBack(last time.Time) bool {
	at := time.Unix(0, tg.ready.Load())
	opened := tg.policy.guard.Snapshot()[0].OpenedAt
	return opened != nil && at.After(*opened) && at.After(last)
}

// tripped reports whether a probe would say anything: an operator's decision stands.
func tripped(g *resilience.Guard) bool {
	s := g.State()
	return s == resilience.StateOpen || s == resilience.StateHalfOpen
}

// nextProbe is how long to wait.
func nextProbe(g *resilience.Guard, interval time.Duration) time.Duration {
	if refused, wait := g.Rejecting(); refused && wait > 0 && wait < interval {
		return wait
	}
	return interval - rand.N(interval/10+1) //nolint:gosec // spreads load, guards nothing
}

// probeNow asks as often as it takes to close the circuit, or until an answer fails.
func (tg *target) probeNow(ctx context.Context, cfg *resilience.Config) {
	for n := 0; n < cfg.CircuitBreaker.SuccessThreshold && tripped(tg.policy.guard); n++ {
		began := time.Now()
		err := tg.policy.guard.Probe(ctx, func(ctx context.Context) error {
			_, err := tg.server.Call(ctx, &downstream.Call{Method: tg.probeMethod(cfg.CircuitBreaker.Probe.Method)})
			return err
		})
		if ctx.Err() != nil {
			return
		}
		tg.obs.probed(tg, began, err)
		tg.log.DebugContext(ctx, "probed", "downstream", tg.name, "err", err)
		if err != nil {
			return
		}
	}
}

func (tg *target) probeMethod(method string) string {
	switch {
	case method != "" && method != "auto":
		return method
	case tg.server.Config().Preset != "":
		return "ping" // which a built-in server passes on to its system
	case tg.server.Catalog().Modern():
		return "server/discover"
	}
	return "ping"
}
