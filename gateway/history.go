package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/resilience"
)

// How much of the past the status page shows. All of it is kept in memory, about 60 KB for each downstream.
const (
	historyLook    = time.Second      // how often the states are looked at
	historySample  = 10 * time.Second // one point of the latency line
	historySamples = 360              // an hour
	historyEvents  = 512              // changes of state
	historySpan    = 12 * time.Hour   // of the timeline
)

// condition is what the status page says of a downstream in one word.
type condition string

// The conditions, from well to badly.
const (
	conditionOK       condition = "ok"
	conditionStarting condition = "starting"
	conditionTrial    condition = "half_open"
	conditionOpen     condition = "open"
	conditionIsolated condition = "isolated"
	conditionAway     condition = "away"
	conditionStopped  condition = "stopped"
)

// conditionOf sums up a downstream and its own circuit.
func conditionOf(state downstream.State, c *resilience.CircuitStatus) condition {
	if state == downstream.Stopped {
		return conditionStopped
	}
	if c != nil && c.Mode == "enforce" {
		switch c.State {
		case "isolated":
			return conditionIsolated
		case "open":
			return conditionOpen
		case "half_open":
			return conditionTrial
		}
	}
	switch state {
	case downstream.Ready:
		return conditionOK
	case downstream.Starting:
		return conditionStarting
	}
	return conditionAway
}

// history remembers how the downstreams were. The zero value is ready; its methods may be called at the same time.
type history struct {
	mu     sync.Mutex
	tracks map[string]*track // by the name of the downstream; guarded by mu
}

// track is the past of one downstream.
type track struct {
	changes []change // oldest first
	samples []sample // oldest first
	last    point    // at the last sample
	owner   *target
}

// change is the beginning of a condition.
type change struct {
	at time.Time
	is condition
}

// sample is what happened in historySample.
type sample struct {
	at               time.Time // its end
	calls, failures  uint64
	took             counts
	inFlight, queued int
}

// point is the state of the counters at one moment.
type point struct {
	at              time.Time
	calls, failures uint64
	took            counts
}

// record looks at the downstreams until ctx is done.
func (g *Gateway) record(ctx context.Context) {
	tick := time.NewTicker(historyLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			g.mu.Lock()
			targets := g.sortedTargets()
			g.mu.Unlock()
			g.history.look(now, targets)
		}
	}
}

// look takes down how targets are now, and forgets those that are gone.
func (h *history) look(now time.Time, targets []*target) {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := make(map[string]*track, len(targets))
	for _, tg := range targets {
		t := h.tracks[tg.name]
		if t == nil {
			t = &track{}
		}
		next[tg.name] = t
		t.look(now, tg)
	}
	h.tracks = next
}

func (t *track) look(now time.Time, tg *target) {
	circuit := &tg.policy.guard.Snapshot()[0]
	is := conditionOf(tg.server.Status().State, circuit)
	if n := len(t.changes); n == 0 || t.changes[n-1].is != is {
		if n == historyEvents {
			t.changes = append(t.changes[:0], t.changes[1:]...)
		}
		t.changes = append(t.changes, change{now, is})
	}
	p := point{at: now, failures: circuit.Totals.Failures, took: tg.latency.load()}
	if circuit.Counters != nil {
		p.calls = circuit.Counters.Calls
	}
	if t.owner != tg { // another process or address: its counters began anew
		if t.owner == nil || t.owner.policy != tg.policy || p.calls < t.last.calls {
			t.last = p
		}
		t.last.took, t.owner = p.took, tg
	}
	if now.Sub(t.last.at) < historySample-historyLook/2 {
		return
	}
	s := sample{at: now, calls: p.calls - t.last.calls, failures: p.failures - t.last.failures, took: p.took.minus(t.last.took)}
	if b := circuit.Bulkhead; b != nil {
		s.inFlight, s.queued = b.InFlight, b.Queued
	}
	if len(t.samples) == historySamples {
		t.samples = append(t.samples[:0], t.samples[1:]...)
	}
	t.samples = append(t.samples, s)
	t.last = p
}

// past returns a copy of what is known of a downstream.
func (h *history) past(name string) (changes []change, samples []sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.tracks[name]
	if t == nil {
		return nil, nil
	}
	return append([]change(nil), t.changes...), append([]sample(nil), t.samples...)
}
