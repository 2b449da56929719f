package resilience

import (
	"math/rand/v2"
	"time"
)

// State is what a circuit does with calls.
type State uint8

// The states of a circuit. The last two are set by hand only.
const (
	StateClosed   State = iota // calls pass
	StateOpen                  // calls are refused until a time
	StateHalfOpen              // a few trial calls pass and decide
	StateIsolated              // calls are refused until an operator says otherwise
	StateDisabled              // calls pass whatever happens, and are still measured
)

func (s State) String() string {
	switch s {
	case StateOpen:
		return "open"
	case StateHalfOpen:
		return "half_open"
	case StateIsolated:
		return "isolated"
	case StateDisabled:
		return "disabled"
	}
	return "closed"
}

// Totals are counted since the start or the last Reset.
type Totals struct {
	Successes uint64 `json:"successes"`
	Failures  uint64 `json:"failures"`
	Ignored   uint64 `json:"ignored"`  // outcomes that say nothing about the dependency
	Slow      uint64 `json:"slow"`     // also counted as success or failure
	Rejected  uint64 `json:"rejected"` // refused calls; in shadow mode those that would have been
	Stale     uint64 `json:"stale"`    // outcomes of calls that were let in before the state last changed
	Opens     uint64 `json:"opens"`
}

// permit is the right to make one attempt. It belongs to the generation of the circuit that gave it: an outcome that comes back to a
// later generation is counted, but decides nothing.
type permit struct {
	gen   uint64
	trial bool
	stray bool // let in by shadow mode although the circuit refused
}

// circuit is the state machine of one circuit breaker. Every method wants the Guard's mutex held. Times are compared by their
// monotonic part, so setting the clock of the machine moves nothing.
type circuit struct {
	name string
	key  string
	cfg  *CircuitBreakerConfig // replaced as a whole on reload

	state       State
	gen         uint64 // counts state changes
	since       time.Time
	openedAt    time.Time // start of the outage; failed trials do not move it
	nextAttempt time.Time // StateOpen: when trials begin
	opens       int       // in a row, without closing in between
	consecFail  int
	consecSucc  int
	win         window
	trialsOut   int       // trial permits in use
	trialSince  time.Time // when the first of them was given
	trialSucc   int
	lastFail    time.Time
	lastClass   string
	lastMsg     string
	lastSucc    time.Time
	incidents   [4]any // the latest Outcome.Incident that were counted
	incidentN   int
	tot         Totals

	changed func(StateChange) // queues an event
}

func newCircuit(name, key string, cfg *CircuitBreakerConfig, now time.Time, changed func(StateChange)) *circuit {
	c := &circuit{name: name, key: key, cfg: cfg, since: now, changed: changed}
	c.win.reset(now, cfg.Window)
	return c
}

// reconfigure changes the thresholds and keeps the state.
func (c *circuit) reconfigure(cfg *CircuitBreakerConfig, name string, now time.Time) {
	if cfg.Window != c.cfg.Window {
		c.win.reset(now, cfg.Window)
	}
	c.cfg, c.name = cfg, name
}

// tick makes the state changes that only time causes, so that a circuit which nobody calls does not seem open for ever.
func (c *circuit) tick(now time.Time) {
	switch {
	case c.state == StateOpen && !now.Before(c.nextAttempt):
		c.to(StateHalfOpen, now, "open timeout elapsed")
	case c.state == StateHalfOpen && c.trialsOut > 0 && now.Sub(c.trialSince) >= c.cfg.HalfOpenTimeout:
		c.open(now, "half-open timeout", 0)
	}
}

// acquire asks for a permit. reason is "" if there is one; otherwise wait says when to ask again, if that is known.
func (c *circuit) acquire(now time.Time) (p permit, reason Reason, wait time.Duration) {
	if c.state == StateClosed || c.state == StateDisabled {
		return permit{gen: c.gen}, "", 0
	}
	c.tick(now)
	switch c.state {
	case StateIsolated:
		c.tot.Rejected++
		return permit{}, Isolated, 0
	case StateOpen:
		c.tot.Rejected++
		return permit{}, CircuitOpen, c.nextAttempt.Sub(now)
	}
	if c.trialsOut >= c.cfg.HalfOpenMaxCalls {
		c.tot.Rejected++
		return permit{}, HalfOpenLimit, time.Second // the verdict is near; how near, nobody knows
	}
	if c.trialsOut == 0 {
		c.trialSince = now
	}
	c.trialsOut++
	return permit{gen: c.gen, trial: true}, "", 0
}

// refusing reports whether a call at the time at would be refused, as far as is known now, and for how long from now.
func (c *circuit) refusing(now, at time.Time) (bool, time.Duration) {
	switch c.state {
	case StateIsolated:
		return true, 0
	case StateOpen:
		return at.Before(c.nextAttempt), max(0, c.nextAttempt.Sub(now))
	}
	return false, 0
}

// settle takes back p with what became of the attempt. It must be called exactly once for each permit.
func (c *circuit) settle(p permit, now time.Time, o Outcome, msg string, took time.Duration) {
	effect := o.Breaker
	if effect == Failure && o.Incident != nil && c.known(o.Incident) {
		effect = Ignored
	}
	slow := effect != Ignored && c.cfg.SlowCallDuration > 0 && took >= c.cfg.SlowCallDuration
	switch effect {
	case Success:
		c.tot.Successes++
		c.lastSucc = now
	case Failure:
		c.tot.Failures++
		c.lastFail, c.lastClass, c.lastMsg = now, o.Class, msg
	case Ignored:
		c.tot.Ignored++
	}
	if slow {
		c.tot.Slow++
	}
	if p.gen != c.gen || p.stray {
		c.tot.Stale++
		return
	}
	if p.trial {
		c.trialsOut--
	}
	if effect == Ignored {
		return
	}
	c.win.add(now, effect == Failure, slow)
	if effect == Failure {
		c.consecFail++
		c.consecSucc = 0
	} else {
		c.consecSucc++
		c.consecFail = 0
	}
	switch c.state {
	case StateClosed:
		if reason := c.verdict(now, effect == Failure, slow); reason != "" {
			c.open(now, reason, o.RetryAfter)
		}
	case StateHalfOpen:
		switch {
		case effect == Failure:
			c.open(now, "trial failed", o.RetryAfter)
		case slow && c.cfg.SlowCallRateThreshold > 0:
			c.open(now, "trial was slow", 0)
		default:
			c.trialPassed(now)
		}
	}
}

func (c *circuit) trialPassed(now time.Time) {
	if c.trialSucc++; c.trialSucc >= c.cfg.SuccessThreshold {
		c.to(StateClosed, now, "trial calls succeeded")
	}
}

// known reports whether a failure of this incident has been counted, and remembers it.
func (c *circuit) known(incident any) bool {
	for _, i := range c.incidents {
		if i == incident {
			return true
		}
	}
	c.incidents[c.incidentN%len(c.incidents)] = incident
	c.incidentN++
	return false
}

// verdict says why the circuit has to open; "" if it need not.
func (c *circuit) verdict(now time.Time, failed, slow bool) string {
	k := c.cfg
	if failed && k.FailureThreshold > 0 && c.consecFail >= k.FailureThreshold {
		return "consecutive failures"
	}
	if !(failed && k.FailureRateThreshold > 0) && !(slow && k.SlowCallRateThreshold > 0) {
		return ""
	}
	succ, fail, slows := c.win.sums(now)
	n := succ + fail
	switch {
	case n < k.MinimumCalls:
		return ""
	case failed && k.FailureRateThreshold > 0 && float64(fail) >= k.FailureRateThreshold*float64(n):
		return "failure rate"
	case slow && k.SlowCallRateThreshold > 0 && float64(slows) >= k.SlowCallRateThreshold*float64(n):
		return "slow call rate"
	}
	return ""
}

// open opens the circuit, or opens it again after a failed trial, for longer each time.
func (c *circuit) open(now time.Time, reason string, retryAfter time.Duration) {
	d, limit := float64(c.cfg.Timeout), float64(c.cfg.MaxTimeout)
	for i := 0; i < c.opens && d < limit; i++ {
		d *= c.cfg.Backoff
	}
	wait := c.cfg.Jitter.of(time.Duration(min(d, limit)), rand.Float64())
	// What the dependency asks for may lengthen the pause, but a wrong clock over there must not close us out for a day.
	wait = max(wait, min(retryAfter, c.cfg.MaxTimeout))
	c.opens++
	c.tot.Opens++
	c.nextAttempt = now.Add(wait)
	if c.openedAt.IsZero() {
		c.openedAt = now
	}
	c.to(StateOpen, now, reason)
}

// to changes the state. Permits of the old one are void from here on.
func (c *circuit) to(s State, now time.Time, reason string) {
	ev := StateChange{Circuit: c.name, Key: c.key, From: c.state, To: s, At: now, Reason: reason, Failures: c.consecFail}
	if reason == "failure rate" || reason == "slow call rate" {
		_, fail, slow := c.win.sums(now)
		ev.Failures = fail
		if reason == "slow call rate" {
			ev.Failures = slow
		}
	}
	c.state = s
	c.gen++
	c.since = now
	c.trialsOut, c.trialSucc = 0, 0
	switch s {
	case StateOpen:
		ev.RetryAfter = c.nextAttempt.Sub(now)
	case StateHalfOpen:
		c.consecSucc = 0
	case StateClosed, StateDisabled:
		if !c.openedAt.IsZero() {
			ev.Outage = now.Sub(c.openedAt)
		}
		c.opens, c.consecFail, c.consecSucc = 0, 0, 0
		c.openedAt, c.nextAttempt = time.Time{}, time.Time{}
		c.win.reset(now, c.cfg.Window)
	case StateIsolated:
		if c.openedAt.IsZero() {
			c.openedAt = now
		}
		c.nextAttempt = time.Time{}
	}
	c.changed(ev)
}

// reset closes the circuit and forgets its history. The circuit itself stays: others hold it.
func (c *circuit) reset(now time.Time) {
	c.to(StateClosed, now, "reset")
	c.tot = Totals{}
	c.lastFail, c.lastSucc, c.lastClass, c.lastMsg = time.Time{}, time.Time{}, "", ""
	c.incidents, c.incidentN = [4]any{}, 0
}

// probeNow makes an open circuit ready for trials at once.
func (c *circuit) probeNow(now time.Time) {
	if c.state == StateOpen && now.Before(c.nextAttempt) {
		c.nextAttempt = now
	}
}

// probed takes the outcome of a probe that ran without a permit. A success is a trial that passed, whatever the time; a failure keeps
// an open circuit as it is, because a probe that fails every few seconds must not push the next trial ever further away.
func (c *circuit) probed(now time.Time, o Outcome, msg string) {
	if o.Breaker == Failure {
		c.tot.Failures++
		c.lastFail, c.lastClass, c.lastMsg = now, o.Class, msg
		if c.state == StateClosed {
			c.consecFail++
			c.consecSucc = 0
			c.win.add(now, true, false)
			if reason := c.verdict(now, true, false); reason != "" {
				c.open(now, reason, o.RetryAfter)
			}
		}
		return
	}
	if o.Breaker != Success {
		c.tot.Ignored++
		return
	}
	c.tot.Successes++
	c.lastSucc = now
	switch c.state {
	case StateOpen:
		c.to(StateHalfOpen, now, "probe succeeded")
		c.consecSucc, c.consecFail = 1, 0
		c.trialPassed(now)
	case StateHalfOpen:
		c.consecSucc++
		c.consecFail = 0
		c.trialPassed(now)
	case StateClosed:
		c.consecSucc++
		c.consecFail = 0
		c.win.add(now, false, false)
	}
}
