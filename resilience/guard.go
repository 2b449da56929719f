package resilience

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options is what a Guard is made with and keeps for its whole life.
type Options struct {
	// Logger gets state changes, repetitions, timeouts and panics; nil discards. Records carry the context of the call, so that a
	// handler can add trace ids.
	Logger *slog.Logger
	// Events is told of the same, and more, for metrics.
	Events Events
	// Classifier says what the attempts come to; nil means [Classify].
	Classifier Classifier
	// Redact cleans the text of an error before it is kept for status and error tracking; nil keeps it. Whatever it returns is cut to
	// 200 bytes.
	Redact func(string) string
	// Detach runs every attempt on a goroutine of its own, so that Do returns when the context of the attempt ends even if the
	// function does not. The slot of such an attempt stays taken, and [Guard.Wait] waits for it. Use it where the function cannot be
	// trusted to watch its context; it costs about a microsecond per attempt.
	Detach bool
}

// A Guard holds the policy state of one dependency: its circuits, its limits, its budget. Make one per dependency with [NewGuard] and
// keep it for as long as the dependency is known, across reloads. Its methods may be called at the same time. It has nothing to close;
// the goroutines that hedging and [Options.Detach] start end with the functions that they run, and Wait waits for them.
type Guard struct {
	*core
	key  string // of a Guard made by Sub; "" for the dependency's own
	plan atomic.Pointer[plan]
}

// core is what the Guard of a dependency and those of its tools share.
type core struct {
	name string
	opts Options
	log  *logger
	base time.Time // the zero of openUntil
	root *Guard    // the dependency's own

	applying sync.Mutex // held by who changes the configuration, before mu

	// openUntil tells without a lock that the circuit of the dependency is open: nanoseconds since base, 0 if it is not.
	openUntil atomic.Int64

	mu         sync.Mutex // guards what follows; never held while anything else is called
	circuit    *circuit   // of the whole dependency
	keys       map[string]*circuit
	subs       map[string]*Guard
	bulkhead   bulkhead
	rate       rateLimit
	budget     budget
	count      Counters
	tracker    tracker
	latencies  latencies
	abandoned  int           // attempts whose caller is gone
	running    int           // attempts on goroutines of their own
	idle       chan struct{} // closed when running falls to 0; nil if nobody waits
	changes    []StateChange // not yet delivered
	delivering bool
}

// NewGuard returns a Guard for the dependency called name. The error is that of [Config.Validate].
func NewGuard(name string, cfg Config, opts Options) (*Guard, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("policies of %q: %w", name, err)
	}
	if opts.Classifier == nil {
		opts.Classifier = Classify
	}
	now := time.Now()
	c := &core{name: name, opts: opts, base: now, log: newLogger(opts.Logger, name), keys: map[string]*circuit{}, subs: map[string]*Guard{}}
	c.circuit = newCircuit(circuitName(name, "", &cfg), "", &cfg.CircuitBreaker, now, c.queueChange)
	g := &Guard{core: c}
	c.root = g
	g.apply(cfg, now)
	return g, nil
}

// circuitName is the name of a circuit in logs and status.
func circuitName(name, key string, cfg *Config) string {
	if cfg.CircuitBreaker.Name != "" {
		name = cfg.CircuitBreaker.Name
	}
	if key != "" {
		name += "/" + key
	}
	return name
}

// Name returns the name of the dependency.
func (g *Guard) Name() string { return g.name }

// Config returns the configuration in force.
func (g *Guard) Config() Config { return g.plan.Load().cfg }

// Reconfigure changes the configuration in place: states, counts, calls in flight and in the queue stay. Calls under way end under the
// configuration with which they began. The error is that of [Config.Validate], and changes nothing.
func (g *Guard) Reconfigure(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("policies of %q: %w", g.name, err)
	}
	g.applying.Lock()
	defer g.applying.Unlock()
	now := time.Now()
	g.apply(cfg, now)
	if g == g.root {
		g.mu.Lock()
		subs := slices.Collect(maps.Values(g.subs))
		g.mu.Unlock()
		for _, s := range subs { // for what they share
			s.apply(s.Config(), now)
		}
	}
	return nil
}

// apply makes cfg, which is valid, the configuration.
func (g *Guard) apply(cfg Config, now time.Time) {
	if g != g.root {
		shared := g.root.Config()
		cfg.Bulkhead, cfg.RateLimit, cfg.Retry.Budget, cfg.ErrorTracking = shared.Bulkhead, shared.RateLimit, shared.Retry.Budget, shared.ErrorTracking
	}
	cfg.CircuitBreaker.ExcludedErrors = slices.Clone(cfg.CircuitBreaker.ExcludedErrors)
	p := newPlan(g, cfg)
	g.mu.Lock()
	if g == g.root {
		g.circuit.reconfigure(&p.cfg.CircuitBreaker, circuitName(g.name, "", &p.cfg), now)
		for key, c := range g.keys {
			if g.subs[key] == nil {
				c.reconfigure(&p.cfg.CircuitBreaker, circuitName(g.name, key, &p.cfg), now)
			}
		}
		g.bulkhead.reconfigure(cfg.Bulkhead)
		g.rate.reconfigure(cfg.RateLimit, now)
		g.budget.reconfigure(cfg.Retry.Budget, now)
		g.tracker.reconfigure(cfg.ErrorTracking)
	} else if c := g.keys[g.key]; c != nil {
		c.reconfigure(&p.cfg.CircuitBreaker, circuitName(g.name, g.key, &p.cfg), now)
	}
	g.plan.Store(p)
	g.mu.Unlock()
}

// Sub returns the Guard for the calls of one tool that has a configuration of its own: timeouts, retry, hedging, classification and,
// where the scope of its circuit is "tool" or "both", the thresholds of that circuit are its own; the circuit of the dependency, the
// bulkhead, the rate limit, the retry budget and the error tracking are shared with g and configured there. Asking again with the same
// key reconfigures the Guard that the first time returned. The error is that of [Config.Validate].
func (g *Guard) Sub(key string, cfg Config) (*Guard, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("policies of %q, %q: %w", g.name, key, err)
	}
	g.applying.Lock()
	defer g.applying.Unlock()
	fresh := &Guard{core: g.core, key: key}
	fresh.plan.Store(newPlan(fresh, cfg))
	g.mu.Lock()
	s := g.subs[key]
	if s == nil {
		s = fresh
		g.subs[key] = s
	}
	g.mu.Unlock()
	s.apply(cfg, time.Now())
	return s, nil
}

// Forget drops the circuits and Guards of keys for which keep returns false, for tools that are gone. Calls under way end in good order.
func (g *Guard) Forget(keep func(key string) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	keys := slices.Collect(maps.Keys(g.keys))
	keys = slices.AppendSeq(keys, maps.Keys(g.subs))
	for _, key := range keys {
		if !keep(key) {
			delete(g.keys, key)
			delete(g.subs, key)
		}
	}
}

// keyed returns the circuit of key, which it makes if need be. It wants mu held.
func (c *core) keyed(key string, p *plan, now time.Time) *circuit {
	k := c.keys[key]
	if k == nil {
		cfg := &p.cfg
		if s := c.subs[key]; s != nil {
			cfg = &s.plan.Load().cfg
		}
		k = newCircuit(circuitName(c.name, key, cfg), key, &cfg.CircuitBreaker, now, c.queueChange)
		c.keys[key] = k
	}
	return k
}

// Wait waits until no attempt runs on a goroutine of its own any more (see [Options.Detach] and hedging), or ctx is done. Call it when
// no new calls are made.
func (g *Guard) Wait(ctx context.Context) error {
	g.mu.Lock()
	if g.running == 0 {
		g.mu.Unlock()
		return nil
	}
	if g.idle == nil {
		g.idle = make(chan struct{})
	}
	idle := g.idle
	n := g.running
	g.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: %d attempts are still running: %w", g.name, n, context.Cause(ctx))
	}
}

func (c *core) enter() {
	c.mu.Lock()
	c.running++
	c.mu.Unlock()
}

func (c *core) leave() {
	c.mu.Lock()
	c.running--
	if c.running == 0 && c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
	c.mu.Unlock()
}

// queueChange keeps a state change for unlock to deliver. It wants mu held.
func (c *core) queueChange(ev StateChange) {
	if ev.Key == "" {
		var until int64
		switch ev.To {
		case StateOpen:
			until = max(1, int64(ev.At.Add(ev.RetryAfter).Sub(c.base)))
		case StateIsolated:
			until = math.MaxInt64
		}
		c.openUntil.Store(until)
	}
	c.changes = append(c.changes, ev)
}

// deliver tells one state change. A panic of the listener must not stop the delivery of all later ones.
func (c *core) deliver(ev StateChange) {
	err := contain(func() error {
		c.log.stateChange(ev)
		if c.opts.Events.StateChange != nil {
			c.opts.Events.StateChange(ev)
		}
		return nil
	})
	if err != nil {
		c.log.broken(err)
	}
}

// unlock releases mu and delivers the state changes, in order, one at a time and without the lock. While one goroutine delivers, the
// others leave theirs to it.
func (c *core) unlock() {
	if len(c.changes) == 0 || c.delivering {
		c.mu.Unlock()
		return
	}
	c.delivering = true
	for len(c.changes) > 0 {
		changes := c.changes
		c.changes = nil
		c.mu.Unlock()
		for _, ev := range changes {
			c.deliver(ev)
		}
		c.mu.Lock()
	}
	c.delivering = false
	c.mu.Unlock()
}
