package resilience

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// FieldError says which key of a configuration is wrong and why.
type FieldError struct {
	Path string // relative to the Config, dots between keys: "retry.max_attempts"
	Msg  string // what was expected and what was found
}

func (e *FieldError) Error() string { return e.Path + ": " + e.Msg }

// Field returns Path and Msg, so that code which reports the faults of many packages can match them by this method.
func (e *FieldError) Field() (path, msg string) { return e.Path, e.Msg }

// checker collects faults of the section at path.
type checker struct {
	path   string
	faults *[]error
}

func (c checker) in(section string) checker {
	if c.path != "" {
		section = c.path + "." + section
	}
	return checker{section, c.faults}
}

func (c checker) fault(key, format string, args ...any) {
	if c.path != "" {
		key = c.path + "." + key
	}
	*c.faults = append(*c.faults, &FieldError{Path: key, Msg: fmt.Sprintf(format, args...)})
}

func (c checker) positive(key string, d time.Duration) {
	if d <= 0 {
		c.fault(key, "must be more than 0, found %s", d)
	}
}

func (c checker) notNegative(key string, d time.Duration) {
	if d < 0 {
		c.fault(key, "must not be negative, found %s", d)
	}
}

func (c checker) atLeast(key string, least, n int) {
	if n < least {
		c.fault(key, "must be at least %d, found %d", least, n)
	}
}

// within reports f unless lo <= f <= hi; a NaN is within nothing.
func (c checker) within(key string, lo, hi, f float64) {
	if !(f >= lo && f <= hi) {
		if math.IsInf(hi, 1) {
			c.fault(key, "must be at least %g, found %g", lo, f)
			return
		}
		c.fault(key, "must be from %g to %g, found %g", lo, hi, f)
	}
}

func (c checker) oneOf(key, got string, allowed ...string) {
	if slices.Contains(allowed, got) {
		return
	}
	c.fault(key, "expected one of %s, found %q", strings.Join(allowed, ", "), got)
}

// Validate reports every fault of c, joined, each a *[FieldError]. A section that is the zero value is off and has no faults; one that
// is switched off is checked all the same, so that switching it on later brings no surprise.
func (c *Config) Validate() error {
	var faults []error
	k := checker{"", &faults}
	if c.Mode != "" {
		k.oneOf("mode", c.Mode, "enforce", "shadow")
	}
	if c.Safety != "" {
		k.oneOf("safety", c.Safety, "auto", "read_only", "idempotent", "unsafe")
	}
	k.in("rollout").within("percent", 0, 100, c.Rollout.Percent)
	if c.Timeouts != (TimeoutsConfig{}) {
		c.Timeouts.check(k.in("timeouts"))
	}
	if c.Retry != (RetryConfig{}) {
		c.Retry.check(k.in("retry"))
	}
	if !c.CircuitBreaker.isZero() {
		c.CircuitBreaker.check(k.in("circuit_breaker"))
	}
	if c.Bulkhead != (BulkheadConfig{}) {
		c.Bulkhead.check(k.in("bulkhead"))
	}
	if c.RateLimit != (RateLimitConfig{}) {
		c.RateLimit.check(k.in("rate_limit"))
	}
	if c.Hedge != (HedgeConfig{}) {
		c.Hedge.check(k.in("hedge"))
	}
	if c.ErrorTracking != (ErrorTrackingConfig{}) {
		k := k.in("error_tracking")
		k.atLeast("max_errors", 1, c.ErrorTracking.MaxErrors)
		k.oneOf("classify_by", c.ErrorTracking.ClassifyBy, "type", "tool")
	}
	return errors.Join(faults...)
}

func (t *TimeoutsConfig) check(k checker) {
	k.positive("overall", t.Overall)
	k.positive("attempt", t.Attempt)
	k.notNegative("idle", t.Idle)
	k.notNegative("progress_max", t.ProgressMax)
	if t.Overall > 0 && t.Attempt > t.Overall {
		k.fault("attempt", "must not be longer than timeouts.overall (%s), found %s", t.Overall, t.Attempt)
	}
}

func (r *RetryConfig) check(k checker) {
	k.atLeast("max_attempts", 1, r.MaxAttempts)
	k.notNegative("initial_delay", r.InitialDelay)
	k.notNegative("max_delay", r.MaxDelay)
	if r.InitialDelay > r.MaxDelay {
		k.fault("initial_delay", "must not be longer than retry.max_delay (%s), found %s", r.MaxDelay, r.InitialDelay)
	}
	k.within("multiplier", 1, math.Inf(1), r.Multiplier)
	k.within("jitter", 0, 1, float64(r.Jitter))
	k.notNegative("max_retry_after", r.MaxRetryAfter)
	if b := r.Budget; b != (BudgetConfig{}) {
		k := k.in("budget")
		k.within("ratio", 0, math.Inf(1), b.Ratio)
		k.within("min_per_second", 0, math.Inf(1), b.MinPerSecond)
		k.within("burst", 1, math.Inf(1), b.Burst)
	}
}

func (b *CircuitBreakerConfig) isZero() bool {
	c := *b
	empty := len(c.ExcludedErrors) == 0
	c.ExcludedErrors = nil
	return empty && c.Probe == (ProbeConfig{}) && !c.Enabled && c.Name == "" && c.Scope == "" && c.FailureThreshold == 0 &&
		c.FailureRateThreshold == 0 && c.MinimumCalls == 0 && c.Window == 0 && c.SlowCallDuration == 0 && c.SlowCallRateThreshold == 0 &&
		c.Timeout == 0 && c.MaxTimeout == 0 && c.Backoff == 0 && c.Jitter == 0 && c.SuccessThreshold == 0 && c.HalfOpenMaxCalls == 0 &&
		c.HalfOpenTimeout == 0 && !c.CountRateLimited
}

func (b *CircuitBreakerConfig) check(k checker) {
	k.oneOf("scope", b.Scope, "downstream", "tool", "both")
	k.atLeast("failure_threshold", 0, b.FailureThreshold)
	k.within("failure_rate_threshold", 0, 1, b.FailureRateThreshold)
	k.notNegative("slow_call_duration", b.SlowCallDuration)
	k.within("slow_call_rate_threshold", 0, 1, b.SlowCallRateThreshold)
	if b.SlowCallRateThreshold > 0 && b.SlowCallDuration == 0 {
		k.fault("slow_call_duration", "must be more than 0 where slow_call_rate_threshold is set")
	}
	if b.Enabled && b.FailureThreshold == 0 && b.FailureRateThreshold == 0 && b.SlowCallRateThreshold == 0 {
		k.fault("failure_threshold", "must be at least 1, or failure_rate_threshold or slow_call_rate_threshold more than 0: nothing would open the circuit (enabled: false switches it off)")
	}
	k.atLeast("minimum_calls", 1, b.MinimumCalls)
	if b.Window < time.Second {
		k.fault("window", "must be at least 1s, found %s", b.Window)
	}
	k.positive("timeout", b.Timeout)
	if b.MaxTimeout < b.Timeout {
		k.fault("max_timeout", "must not be shorter than circuit_breaker.timeout (%s), found %s", b.Timeout, b.MaxTimeout)
	}
	k.within("backoff", 1, math.Inf(1), b.Backoff)
	k.within("jitter", 0, 0.9, float64(b.Jitter))
	k.atLeast("success_threshold", 1, b.SuccessThreshold)
	k.atLeast("half_open_max_calls", 1, b.HalfOpenMaxCalls)
	k.positive("half_open_timeout", b.HalfOpenTimeout)
	for i, class := range b.ExcludedErrors {
		if class == "" {
			k.fault(fmt.Sprintf("excluded_errors[%d]", i), "must not be empty")
		}
	}
	if b.Probe != (ProbeConfig{}) {
		k := k.in("probe")
		k.positive("timeout", b.Probe.Timeout)
		k.positive("interval", b.Probe.Interval)
	}
}

func (b *BulkheadConfig) check(k checker) {
	k.atLeast("max_concurrent", 1, b.MaxConcurrent)
	k.atLeast("max_queued", 0, b.MaxQueued)
	if b.MaxQueued > 0 {
		k.positive("timeout", b.Timeout)
	} else {
		k.notNegative("timeout", b.Timeout)
	}
}

func (r *RateLimitConfig) check(k checker) {
	k.atLeast("requests", 1, r.Requests)
	k.positive("per", r.Per)
	k.atLeast("burst", 1, r.Burst)
	k.notNegative("max_wait", r.MaxWait)
}

func (h *HedgeConfig) check(k checker) {
	if _, _, err := parseHedgeDelay(h.Delay); err != nil {
		k.fault("delay", "%s", err)
	}
	k.atLeast("max", 1, h.Max)
}

// Warnings reports what is allowed but unusual, each with the path of the key it is about. Call it on a Config that is valid.
func (c *Config) Warnings() []*FieldError {
	var faults []error
	k := checker{"", &faults}
	if t := c.Timeouts; c.Enabled {
		if t.Overall > time.Minute {
			k.fault("timeouts.overall", "%s: many clients give up after 60s without a sign of progress", t.Overall)
		}
		if t.Idle > 0 && t.Idle >= t.Attempt {
			k.fault("timeouts.idle", "%s has no effect: timeouts.attempt (%s) ends the attempt first", t.Idle, t.Attempt)
		}
	}
	if t := c.Timeouts; c.Enabled && t.ProgressMax > 0 && t.ProgressMax < t.Attempt {
		k.fault("timeouts.progress_max", "%s has no effect: timeouts.attempt (%s) is longer", t.ProgressMax, t.Attempt)
	}
	if b := c.CircuitBreaker; c.Enabled && b.Enabled {
		typical := func(key string, lo, hi, n int) {
			if n != 0 && (n < lo || n > hi) {
				k.fault("circuit_breaker."+key, "%d is outside the usual %d to %d", n, lo, hi)
			}
		}
		typical("failure_threshold", 3, 10, b.FailureThreshold)
		typical("success_threshold", 2, 5, b.SuccessThreshold)
		typical("half_open_max_calls", 1, 5, b.HalfOpenMaxCalls)
		if b.Timeout < 30*time.Second || b.Timeout > 5*time.Minute {
			k.fault("circuit_breaker.timeout", "%s is outside the usual 30s to 5m", b.Timeout)
		}
		if b.MaxTimeout > 5*time.Minute {
			k.fault("circuit_breaker.max_timeout", "%s: a dependency that is back may wait that long for its first caller", b.MaxTimeout)
		}
		if b.HalfOpenTimeout < c.Timeouts.Attempt {
			k.fault("circuit_breaker.half_open_timeout", "%s: a trial that takes longer has failed, although timeouts.attempt allows %s", b.HalfOpenTimeout, c.Timeouts.Attempt)
		}
		if c.Timeouts.Attempt > 0 && b.SlowCallDuration >= c.Timeouts.Attempt {
			k.fault("circuit_breaker.slow_call_duration", "%s has no effect: timeouts.attempt (%s) ends the attempt first", b.SlowCallDuration, c.Timeouts.Attempt)
		}
	}
	if r := c.Retry; c.Enabled && r.Enabled && r.MaxAttempts > 1 && c.Timeouts.Overall > 0 {
		var pauses time.Duration
		for n := 1; n < r.MaxAttempts && pauses <= c.Timeouts.Overall; n++ {
			pauses += r.delay(n, 0.5)
		}
		if pauses > c.Timeouts.Overall {
			k.fault("retry.max_attempts", "%d attempts do not fit: their pauses alone take longer than timeouts.overall (%s)", r.MaxAttempts, c.Timeouts.Overall)
		}
	}
	var warnings []*FieldError
	for _, err := range faults {
		if w, ok := errors.AsType[*FieldError](err); ok {
			warnings = append(warnings, w)
		}
	}
	return warnings
}
