package resilience

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// CircuitStatus is one circuit at one moment, in the shape in which tools and operators read it. All times are UTC wall clock; how long
// something lasts is measured by the monotonic clock. What is not known is null, never left out.
type CircuitStatus struct {
	Name       string    `json:"name"`
	Dependency string    `json:"downstream"`
	Scope      string    `json:"scope"` // "downstream" or "tool"
	Key        *string   `json:"tool"`
	State      string    `json:"state"` // closed, open, half_open, isolated or disabled
	StateSince time.Time `json:"state_since"`
	Mode       string    `json:"mode"` // enforce, shadow, or off

	Failures             int     `json:"failures"` // in the window, as are successes and the rates
	Successes            int     `json:"successes"`
	ConsecutiveFailures  int     `json:"consecutive_failures"`
	ConsecutiveSuccesses int     `json:"consecutive_successes"`
	FailureRate          float64 `json:"failure_rate"`
	SlowCallRate         float64 `json:"slow_call_rate"`

	LastFailure        *time.Time `json:"last_failure"`
	LastFailureType    *string    `json:"last_failure_type"`
	LastFailureMessage *string    `json:"last_failure_message"`
	LastSuccess        *time.Time `json:"last_success"`

	OpenedAt         *time.Time `json:"opened_at"` // start of the outage; failed trials do not move it
	NextAttemptAt    *time.Time `json:"next_attempt_at"`
	RetryAfterMS     int64      `json:"retry_after_ms"`
	ConsecutiveOpens int        `json:"consecutive_opens"`

	HalfOpen *HalfOpenStatus `json:"half_open"`
	Rejected uint64          `json:"rejected"`
	Totals   Totals          `json:"totals"`

	// What belongs to the dependency as a whole; nil for the circuit of a tool.
	Bulkhead    *BulkheadStatus  `json:"bulkhead"`
	RateLimit   *RateLimitStatus `json:"rate_limit"`
	RetryBudget *BudgetStatus    `json:"retry_budget"`
	Counters    *Counters        `json:"counters"`
	Abandoned   int              `json:"abandoned_attempts"` // attempts that still run although their caller is gone

	Config CircuitSettings `json:"config"`
}

// HalfOpenStatus tells how the trials go.
type HalfOpenStatus struct {
	MaxCalls  int `json:"max_calls"`
	InFlight  int `json:"in_flight"`
	Available int `json:"available"`
	Successes int `json:"successes"`
	Required  int `json:"required"`
}

// BulkheadStatus tells how full the bulkhead is.
type BulkheadStatus struct {
	MaxConcurrent   int    `json:"max_concurrent"`
	InFlight        int    `json:"in_flight"`
	Queued          int    `json:"queued"`
	MaxQueued       int    `json:"max_queued"`
	RejectedFull    uint64 `json:"rejected_full"`
	RejectedTimeout uint64 `json:"rejected_queue_timeout"`
	MostInFlight    int    `json:"high_water"`
}

// RateLimitStatus tells what is left of the rate limit.
type RateLimitStatus struct {
	Tokens   float64 `json:"tokens"` // below 0: callers are waiting for that many
	Burst    int     `json:"burst"`
	Rejected uint64  `json:"rejected"`
	PausedMS int64   `json:"paused_ms"` // the dependency asked for quiet
}

// BudgetStatus tells what is left for repetitions.
type BudgetStatus struct {
	Tokens  float64 `json:"tokens"`
	Refused uint64  `json:"refused"`
}

// CircuitSettings are the thresholds in force.
type CircuitSettings struct {
	FailureThreshold int   `json:"failure_threshold"`
	SuccessThreshold int   `json:"success_threshold"`
	TimeoutMS        int64 `json:"timeout_ms"`
	HalfOpenMaxCalls int   `json:"half_open_max_calls"`
}

// Counters are what happened at a dependency since the Guard was made.
type Counters struct {
	Calls          uint64 `json:"calls"`
	Attempts       uint64 `json:"attempts"` // that reached the function, and have ended
	Retries        uint64 `json:"retries"`  // of the attempts
	RetrySuccesses uint64 `json:"retry_successes"`
	Exhausted      uint64 `json:"retries_exhausted"`
	NotRepeated    uint64 `json:"retries_suppressed"` // by budget, time, Retry-After or an open circuit
	Timeouts       uint64 `json:"timeouts"`
	Hedges         uint64 `json:"hedges"`
	HedgeWins      uint64 `json:"hedge_wins"`
	Fallbacks      uint64 `json:"fallbacks"`          // that were tried
	Rescued        uint64 `json:"fallback_successes"` // calls that one of them answered
	Panics         uint64 `json:"panics"`
	Late           uint64 `json:"late_answers"`
}

// Snapshot returns the circuits of the dependency: its own first, then those of its tools by name. All of it is read in one critical
// section, so that the numbers fit together. It takes microseconds and waits for no call.
func (g *Guard) Snapshot() []CircuitStatus {
	p := g.plan.Load()
	now := time.Now()
	g.mu.Lock()
	g.circuit.tick(now)
	all := []CircuitStatus{g.circuit.status(g.name, now, &p.cfg)}
	s := &all[0]
	b := &g.bulkhead
	if b.cfg.Enabled {
		s.Bulkhead = &BulkheadStatus{
			MaxConcurrent: b.cfg.MaxConcurrent, InFlight: b.inFlight, Queued: b.queued, MaxQueued: b.cfg.MaxQueued,
			RejectedFull: b.full, RejectedTimeout: b.timedOut, MostInFlight: b.high,
		}
	}
	if g.rate.cfg.Enabled {
		g.rate.refill(now)
		s.RateLimit = &RateLimitStatus{
			Tokens: g.rate.tokens, Burst: g.rate.cfg.Burst, Rejected: g.rate.rejected, PausedMS: max(0, g.rate.paused.Sub(now).Milliseconds()),
		}
	}
	if g.budget.on() {
		g.budget.refill(now)
		s.RetryBudget = &BudgetStatus{Tokens: g.budget.tokens, Refused: g.budget.refused}
	}
	s.Counters = new(g.count)
	s.Abandoned = g.abandoned
	for _, c := range g.keys {
		c.tick(now)
		all = append(all, c.status(g.name, now, &p.cfg))
	}
	g.unlock()
	slices.SortFunc(all[1:], func(a, b CircuitStatus) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// status copies the circuit. It wants the Guard's mutex held.
func (c *circuit) status(dependency string, now time.Time, cfg *Config) CircuitStatus {
	succ, fail, slow := c.win.sums(now)
	s := CircuitStatus{
		Name: c.name, Dependency: dependency, Scope: "downstream", State: c.state.String(), StateSince: c.since.UTC().Round(0), Mode: cfg.Mode,
		Failures: fail, Successes: succ, ConsecutiveFailures: c.consecFail, ConsecutiveSuccesses: c.consecSucc,
		LastFailure: utc(c.lastFail), LastSuccess: utc(c.lastSucc), OpenedAt: utc(c.openedAt), ConsecutiveOpens: c.opens,
		Rejected: c.tot.Rejected, Totals: c.tot,
		Config: CircuitSettings{
			FailureThreshold: c.cfg.FailureThreshold, SuccessThreshold: c.cfg.SuccessThreshold, TimeoutMS: c.cfg.Timeout.Milliseconds(),
			HalfOpenMaxCalls: c.cfg.HalfOpenMaxCalls,
		},
	}
	switch {
	case !cfg.Enabled:
		s.Mode = "off"
	case s.Mode == "":
		s.Mode = "enforce"
	}
	if !cfg.Enabled || !c.cfg.Enabled {
		s.State = StateDisabled.String()
	}
	if c.key != "" {
		s.Scope, s.Key = "tool", new(c.key)
	}
	if n := succ + fail; n > 0 {
		s.FailureRate, s.SlowCallRate = float64(fail)/float64(n), float64(slow)/float64(n)
	}
	if !c.lastFail.IsZero() {
		s.LastFailureType, s.LastFailureMessage = new(c.lastClass), new(c.lastMsg)
	}
	switch c.state {
	case StateOpen:
		wait := c.nextAttempt.Sub(now)
		s.NextAttemptAt = utc(now.Round(0).Add(wait)) // by the wall clock of now, which may have been set since
		s.RetryAfterMS = max(0, wait.Milliseconds())
	case StateHalfOpen:
		s.HalfOpen = &HalfOpenStatus{
			MaxCalls: c.cfg.HalfOpenMaxCalls, InFlight: c.trialsOut, Available: max(0, c.cfg.HalfOpenMaxCalls-c.trialsOut),
			Successes: c.trialSucc, Required: c.cfg.SuccessThreshold,
		}
	}
	return s
}

func utc(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return new(t.UTC().Round(0))
}

// State returns the state of the circuit of g: that of its key for a Guard made by Sub whose scope has one, else that of the dependency.
func (g *Guard) State() State {
	p := g.plan.Load()
	now := time.Now()
	g.mu.Lock()
	c := g.circuit
	if k := g.keys[g.key]; k != nil && g.key != "" && p.useKey {
		c = k
	}
	c.tick(now)
	s := c.state
	g.unlock()
	return s
}

// Rejecting reports whether a call would be refused right now, for work that had better not begin, and for how long, if that is known.
func (g *Guard) Rejecting() (bool, time.Duration) {
	p := g.plan.Load()
	if p.off || p.shadow {
		return false, 0
	}
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if p.useDep {
		if refused, wait := g.circuit.refusing(now, now); refused {
			return true, wait
		}
	}
	if k := g.keys[g.key]; k != nil && g.key != "" && p.useKey {
		return k.refusing(now, now)
	}
	return false, 0
}

// Errors returns what is remembered of failed attempts.
func (g *Guard) Errors() Errors {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := &g.tracker
	e := Errors{Total: t.total, By: make(map[string]uint64, len(t.by)), Recent: t.recent()}
	maps.Copy(e.By, t.by)
	return e
}

// Status is a report about many circuits.
type Status struct {
	Time     time.Time       `json:"time"`
	Circuits []CircuitStatus `json:"circuits"`
	Summary  Summary         `json:"summary"`
}

// Summary counts the circuits of a Status by state.
type Summary struct {
	Total    int    `json:"total"`
	Closed   int    `json:"closed"`
	Open     int    `json:"open"`
	HalfOpen int    `json:"half_open"`
	Isolated int    `json:"isolated"`
	Disabled int    `json:"disabled"`
	Rejected uint64 `json:"rejected"`
	Health   string `json:"health"` // ok, degraded or down
}

// Report takes a snapshot of every Guard, in the order given, and sums up those very copies, so that the summary fits the list.
func Report(guards ...*Guard) Status {
	s := Status{Time: time.Now().UTC().Round(0), Circuits: []CircuitStatus{}}
	for _, g := range guards {
		s.Circuits = append(s.Circuits, g.Snapshot()...)
	}
	s.Summary = Summarize(s.Circuits)
	return s
}

// Summarize counts circuits by state. Health is "down" when every circuit that can refuse calls does, "ok" when all is well.
func Summarize(circuits []CircuitStatus) Summary {
	s := Summary{Total: len(circuits), Health: "ok"}
	for i := range circuits {
		s.Rejected += circuits[i].Rejected
		switch circuits[i].State {
		case "open":
			s.Open++
		case "half_open":
			s.HalfOpen++
		case "isolated":
			s.Isolated++
		case "disabled":
			s.Disabled++
		default:
			s.Closed++
		}
	}
	switch bad := s.Open + s.Isolated; {
	case bad > 0 && bad == s.Total-s.Disabled:
		s.Health = "down"
	case bad+s.HalfOpen > 0:
		s.Health = "degraded"
	}
	return s
}
