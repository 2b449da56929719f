package gateway

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/resilience"
	"github.com/mcpgw/mcpgw/telemetry"
)

// states are the values of mcpgw.circuit.state.
var states = [...]string{"closed", "open", "half_open", "isolated", "disabled"}

// register makes everything that can be seen at any time be looked at when somebody collects: nothing of it costs a call anything.
func (o *observer) register() (err error) {
	m := o.m
	o.ending, err = m.Meter.RegisterCallback(o.observe,
		m.Attempts, m.CallActive, m.Abandoned, m.RetrySuccess, m.BudgetTokens, m.CircuitState, m.CircuitCalls, m.FailureRate, m.SlowCallRate,
		m.ConsecutiveFailures, m.HalfOpenInFlight, m.CircuitRetryAfter, m.BulkheadLimit, m.BulkheadInFlight, m.BulkheadQueued,
		m.HedgesStarted, m.HedgesWon, m.Panics, m.DownstreamUp)
	return err
}

func (o *observer) observe(_ context.Context, to metric.Observer) error {
	o.g.mu.Lock()
	targets := o.g.sortedTargets()
	o.g.mu.Unlock()
	o.countAttempts(to)
	for _, tg := range targets {
		p := o.placeOf(tg)
		up := int64(0)
		if tg.server.Status().State == downstream.Ready {
			up = 1
		}
		to.ObserveInt64(o.m.DownstreamUp, up, o.observed(of(tg.name, pair{telemetry.AttrTransport, p.transport})))
		to.ObserveInt64(o.m.CallActive, p.active.Load(), o.observed(of(tg.name)))
		for _, c := range tg.policy.guard.Snapshot() {
			o.circuit(to, &c)
			if c.Key == nil {
				o.dependency(to, &c)
			}
		}
	}
	return nil
}

// countAttempts sums up the attempts of all tools of a downstream.
func (o *observer) countAttempts(to metric.Observer) {
	sums := map[eventKey]int64{}
	o.attempts.each(func(k attemptKey, s *attemptPoint) {
		for i, kind := range attemptKinds {
			if n := s.byKind[i].Load(); n > 0 {
				sums[of(k.place.name, pair{telemetry.AttrKind, kind}, pair{telemetry.AttrError, k.err})] += n
			}
		}
	})
	for key, n := range sums {
		to.ObserveInt64(o.m.Attempts, n, o.observed(key))
	}
}

func (o *observer) observed(key eventKey) metric.ObserveOption {
	return o.events.get(key, newOptions).observing
}

// circuit reports one circuit.
func (o *observer) circuit(to metric.Observer, c *resilience.CircuitStatus) {
	for _, s := range states {
		n := int64(0)
		if s == c.State {
			n = 1
		}
		to.ObserveInt64(o.m.CircuitState, n, o.observed(ofCircuit(c.Name, pair{telemetry.AttrState, s})))
	}
	for _, r := range [...]struct {
		result string
		n      uint64
	}{{"success", c.Totals.Successes}, {"failure", c.Totals.Failures}, {"ignored", c.Totals.Ignored}, {"stale", c.Totals.Stale}} {
		to.ObserveInt64(o.m.CircuitCalls, int64(r.n), o.observed(ofCircuit(c.Name, pair{telemetry.AttrResult, r.result}))) //nolint:gosec // far below the limit
	}
	name := o.observed(ofCircuit(c.Name))
	to.ObserveFloat64(o.m.FailureRate, c.FailureRate, name)
	to.ObserveFloat64(o.m.SlowCallRate, c.SlowCallRate, name)
	to.ObserveInt64(o.m.ConsecutiveFailures, int64(c.ConsecutiveFailures), name)
	trials := 0
	if c.HalfOpen != nil {
		trials = c.HalfOpen.InFlight
	}
	to.ObserveInt64(o.m.HalfOpenInFlight, int64(trials), name)
	to.ObserveFloat64(o.m.CircuitRetryAfter, (time.Duration(c.RetryAfterMS) * time.Millisecond).Seconds(), name)
}

// dependency reports what a downstream has only once.
func (o *observer) dependency(to metric.Observer, c *resilience.CircuitStatus) {
	name := o.observed(of(c.Dependency))
	to.ObserveInt64(o.m.Abandoned, int64(c.Abandoned), name)
	if b := c.RetryBudget; b != nil {
		to.ObserveFloat64(o.m.BudgetTokens, b.Tokens, name)
	}
	if b := c.Bulkhead; b != nil {
		to.ObserveInt64(o.m.BulkheadLimit, int64(b.MaxConcurrent), name)
		to.ObserveInt64(o.m.BulkheadInFlight, int64(b.InFlight), name)
		to.ObserveInt64(o.m.BulkheadQueued, int64(b.Queued), name)
	}
	if n := c.Counters; n != nil {
		for _, v := range [...]struct {
			to metric.Int64ObservableCounter
			n  uint64
		}{{o.m.RetrySuccess, n.RetrySuccesses}, {o.m.HedgesStarted, n.Hedges}, {o.m.HedgesWon, n.HedgeWins}, {o.m.Panics, n.Panics}} {
			to.ObserveInt64(v.to, int64(v.n), name) //nolint:gosec // far below the limit
		}
	}
}
