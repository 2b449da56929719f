package resilience

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Action is what can be done to a circuit by hand.
type Action string

// The actions.
const (
	ActionOpen    Action = "open"    // open it; trials follow after the configured time
	ActionClose   Action = "close"   // close it, whatever state it is in
	ActionReset   Action = "reset"   // close it and forget its history
	ActionIsolate Action = "isolate" // refuse every call until close or reset
	ActionDisable Action = "disable" // let every call pass until close or reset, and only measure
	ActionProbe   Action = "probe"   // let trials begin at once
)

// ErrNoCircuit is returned for a circuit that does not exist.
var ErrNoCircuit = errors.New("no such circuit")

// Control does a to the circuit of key; "" is the circuit of the dependency.
func (g *Guard) Control(key string, a Action) error {
	now := time.Now()
	g.mu.Lock()
	c := g.circuit
	if key != "" {
		if c = g.keys[key]; c == nil {
			g.mu.Unlock()
			return fmt.Errorf("%s: circuit of %q: %w", g.name, key, ErrNoCircuit)
		}
	}
	switch a {
	case ActionOpen:
		c.opens = 0
		c.open(now, "manual", 0)
	case ActionClose:
		c.to(StateClosed, now, "manual")
	case ActionReset:
		c.reset(now)
	case ActionIsolate:
		c.to(StateIsolated, now, "manual")
	case ActionDisable:
		c.to(StateDisabled, now, "manual")
	case ActionProbe:
		c.probeNow(now)
		if c == g.circuit {
			g.openUntil.Store(0)
		}
	default:
		g.mu.Unlock()
		return fmt.Errorf("%s: expected open, close, reset, isolate, disable or probe, found %q", g.name, a)
	}
	g.unlock()
	return nil
}

// Open opens the circuit; trials follow after the configured time. Like its siblings Close, Reset, Isolate, Disable and ProbeNow, it is
// about the circuit of g: that of its key for a Guard made by Sub whose scope has one, else that of the dependency.
func (g *Guard) Open() { g.control(ActionOpen) }

// Close closes the circuit, whatever state it is in.
func (g *Guard) Close() { g.control(ActionClose) }

// Reset closes the circuit and forgets its history.
func (g *Guard) Reset() { g.control(ActionReset) }

// Isolate refuses every call until Close or Reset.
func (g *Guard) Isolate() { g.control(ActionIsolate) }

// Disable lets every call pass until Close or Reset, and only measures.
func (g *Guard) Disable() { g.control(ActionDisable) }

// ProbeNow lets trials begin at once, for who knows that the dependency is back: it has been restarted, or connected again.
func (g *Guard) ProbeNow() { g.control(ActionProbe) }

func (g *Guard) control(a Action) {
	key := ""
	if p := g.plan.Load(); g.key != "" && p.useKey {
		key = g.key
		g.mu.Lock()
		g.keyed(key, p, time.Now())
		g.mu.Unlock()
	}
	// The circuit exists and the action is known: nothing is left that could fail.
	if err := g.Control(key, a); err != nil {
		g.log.broken(err)
	}
}

// Probe runs fn once, within the timeout of the configured probe, to find out whether the dependency is back, so that no caller's call
// need be the trial. Success counts as a passed trial even before the open time is over; a failure leaves an open circuit as it is; while
// the circuit is closed, a probe counts like a call. It needs no permit, takes no slot and is not repeated. It returns fn's error, which the Classifier has judged.
func (g *Guard) Probe(ctx context.Context, fn func(context.Context) error) error {
	p := g.plan.Load()
	if d := p.cfg.CircuitBreaker.Probe.Timeout; d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d, &TimeoutError{Reason: AttemptTimeout, Limit: d})
		defer cancel()
	}
	err := contain(func() error { return fn(ctx) })
	o := p.classify(ctx, nil, err)
	if err != nil && ctx.Err() != nil && o.Sent != Answered {
		o.Breaker, o.Class = Ignored, ClassCancelled
		if _, ok := errors.AsType[*TimeoutError](context.Cause(ctx)); ok {
			o.Breaker, o.Class = Failure, ClassTimeout
		}
	}
	msg := g.message(err)
	now := time.Now()
	g.mu.Lock()
	if p.useDep {
		g.circuit.probed(now, o, msg)
	}
	if p.useKey && g.key != "" {
		g.keyed(g.key, p, now).probed(now, o, msg)
	}
	g.unlock()
	return err
}

// Late counts an answer that came after the attempt which asked for it had ended. Attempts that Options.Detach left behind are counted
// without it.
func (g *Guard) Late() {
	g.locked(func() { g.count.Late++ })
}
