package resilience

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Config is everything that can be set about one dependency. The zero value applies no policy at all; [DefaultConfig] is the place to
// start from. It is a plain value: it decodes over an already filled value, is copied freely and never changed after Validate.
type Config struct {
	Enabled        bool                 `yaml:"enabled" default:"true" doc:"Apply policies. false calls the dependency directly (kill switch)."`
	Mode           string               `yaml:"mode" default:"enforce" enum:"enforce|shadow" doc:"shadow measures what the policies would do, but never rejects, delays, repeats or ends a call."`
	Rollout        RolloutConfig        `yaml:"rollout" doc:"Which share of the callers the policies apply to."`
	Safety         string               `yaml:"safety" default:"auto" enum:"auto|read_only|idempotent|unsafe" doc:"Whether calls may be repeated. auto: as the caller finds out for each call."`
	Timeouts       TimeoutsConfig       `yaml:"timeouts" doc:"How long a call may take."`
	Retry          RetryConfig          `yaml:"retry" doc:"When a failed call is repeated."`
	CircuitBreaker CircuitBreakerConfig `yaml:"circuit_breaker" doc:"When calls are refused because the dependency is known to be down."`
	Bulkhead       BulkheadConfig       `yaml:"bulkhead" doc:"How many calls run at the same time."`
	RateLimit      RateLimitConfig      `yaml:"rate_limit" doc:"How many calls start in a given time."`
	Hedge          HedgeConfig          `yaml:"hedge" doc:"Asking a second time when the first answer is late. Read-only calls only."`
	ErrorTracking  ErrorTrackingConfig  `yaml:"error_tracking" doc:"What is remembered of failed calls."`
}

// RolloutConfig limits the policies to a share of the callers; the others are only measured.
type RolloutConfig struct {
	Percent float64 `yaml:"percent" default:"100" doc:"Share of the sessions (stable hash of their id) that the policies apply to; the others run as in mode shadow."`
}

// TimeoutsConfig bounds the time of a call. A zero means no bound (only in a Config that is not validated, or for idle and progress_max).
type TimeoutsConfig struct {
	Overall     time.Duration `yaml:"overall" default:"50s" doc:"The whole call: waiting in the queue, all attempts and the pauses between them."`
	Attempt     time.Duration `yaml:"attempt" default:"30s" doc:"One attempt, from the end of the queue to the answer."`
	Idle        time.Duration `yaml:"idle" default:"0s" doc:"An attempt that shows no progress for this long is ended. 0s: off."`
	ProgressMax time.Duration `yaml:"progress_max" default:"30m" doc:"Progress restarts attempt and lifts overall, until an attempt has taken this long. 0s: progress only restarts idle."`
}

// RetryConfig says when a failed attempt is repeated. Only what is safe is repeated, whatever it says; see [Call] and [Outcome].
type RetryConfig struct {
	Enabled           bool          `yaml:"enabled" default:"true" doc:"Repeat failed attempts where that is safe."`
	MaxAttempts       int           `yaml:"max_attempts" default:"3" doc:"Attempts in total, the first included. 1: never repeat."`
	InitialDelay      time.Duration `yaml:"initial_delay" default:"1s" doc:"Pause before the second attempt."`
	MaxDelay          time.Duration `yaml:"max_delay" default:"10s" doc:"Longest pause."`
	Multiplier        float64       `yaml:"multiplier" default:"2" doc:"Growth of the pause from attempt to attempt."`
	Jitter            Jitter        `yaml:"jitter" default:"0.25" doc:"The pause varies by this share, so that callers do not return all at once. true: 0.25, false: 0."`
	RespectRetryAfter bool          `yaml:"respect_retry_after" default:"true" doc:"Wait at least as long as the dependency asks for."`
	MaxRetryAfter     time.Duration `yaml:"max_retry_after" default:"30s" doc:"If the dependency asks for more than this, fail now and say when to come back."`
	Budget            BudgetConfig  `yaml:"budget" doc:"How much repeating may add to the load."`
}

// BudgetConfig bounds repetitions by tokens: calls earn them, repetitions and hedges spend them.
type BudgetConfig struct {
	Ratio        float64 `yaml:"ratio" default:"0.2" doc:"Repetitions earned by each call."`
	MinPerSecond float64 `yaml:"min_per_second" default:"1" doc:"Least repetitions earned in a second, where calls earn fewer, so that rare callers may repeat too."`
	Burst        float64 `yaml:"burst" default:"10" doc:"Most repetitions that can be saved up."`
}

// CircuitBreakerConfig says when a circuit opens and how it closes again. A criterion with value 0 is off.
type CircuitBreakerConfig struct {
	Enabled               bool          `yaml:"enabled" default:"true" doc:"Refuse calls to a dependency that is known to be down."`
	Name                  string        `yaml:"name" doc:"Name of the circuit in logs and status. Default: the name of the dependency."`
	Scope                 string        `yaml:"scope" default:"downstream" enum:"downstream|tool|both" doc:"One circuit for the whole dependency, one for each of its tools, or both."`
	FailureThreshold      int           `yaml:"failure_threshold" default:"5" doc:"Consecutive failures that open the circuit. 0: off."`
	FailureRateThreshold  float64       `yaml:"failure_rate_threshold" default:"0.5" doc:"Share of failures in the window that opens the circuit. 0: off."`
	MinimumCalls          int           `yaml:"minimum_calls" default:"10" doc:"Calls in the window before shares count."`
	Window                time.Duration `yaml:"window" default:"60s" doc:"How far back shares look."`
	SlowCallDuration      time.Duration `yaml:"slow_call_duration" default:"0s" doc:"A call that takes this long is slow. 0s: off."`
	SlowCallRateThreshold float64       `yaml:"slow_call_rate_threshold" default:"0" doc:"Share of slow calls in the window that opens the circuit. 0: off."`
	Timeout               time.Duration `yaml:"timeout" default:"60s" doc:"How long the circuit stays open before trial calls."`
	MaxTimeout            time.Duration `yaml:"max_timeout" default:"2m" doc:"Failed trials lengthen timeout up to this."`
	Backoff               float64       `yaml:"backoff" default:"2" doc:"Growth of timeout from one failed trial to the next. 1: none."`
	Jitter                Jitter        `yaml:"jitter" default:"0.1" doc:"timeout varies by this share."`
	SuccessThreshold      int           `yaml:"success_threshold" default:"2" doc:"Successful trial calls that close the circuit."`
	HalfOpenMaxCalls      int           `yaml:"half_open_max_calls" default:"3" doc:"Trial calls at the same time."`
	HalfOpenTimeout       time.Duration `yaml:"half_open_timeout" default:"30s" doc:"Trials without a verdict after this time open the circuit again."`
	ExcludedErrors        []string      `yaml:"excluded_errors" default:"validation, 401, 403, cancelled" doc:"Classes of errors that say nothing about the health of the dependency."`
	CountRateLimited      bool          `yaml:"count_rate_limited_as_failure" default:"false" doc:"Count HTTP 429 as a failure."`
	Probe                 ProbeConfig   `yaml:"probe" doc:"Looking whether the dependency is back without waiting for a caller."`
}

// ProbeConfig is for the caller's prober, which tests an open circuit with [Guard.Probe]. The library starts no prober of its own.
type ProbeConfig struct {
	Enabled  bool          `yaml:"enabled" default:"true" doc:"Test an open circuit, so that callers' calls need not be the trial."`
	Method   string        `yaml:"method" default:"auto" doc:"What the prober sends. auto: what suits the dependency."`
	Timeout  time.Duration `yaml:"timeout" default:"5s" doc:"One probe."`
	Interval time.Duration `yaml:"interval" default:"30s" doc:"Between probes."`
}

// BulkheadConfig bounds the calls in flight and the queue before them.
type BulkheadConfig struct {
	Enabled       bool          `yaml:"enabled" default:"true" doc:"Bound the calls in flight."`
	MaxConcurrent int           `yaml:"max_concurrent" default:"128" doc:"Calls in flight at the same time."`
	MaxQueued     int           `yaml:"max_queued" default:"100" doc:"Calls that wait for their turn, first come, first served. 0: none waits."`
	Timeout       time.Duration `yaml:"timeout" default:"5s" doc:"Longest wait in the queue."`
}

// RateLimitConfig bounds how often calls start: a token bucket that holds Burst and gains Requests in each Per.
type RateLimitConfig struct {
	Enabled  bool          `yaml:"enabled" default:"false" doc:"Bound how often calls start."`
	Requests int           `yaml:"requests" default:"50" doc:"Calls in each per."`
	Per      time.Duration `yaml:"per" default:"1s" doc:"The time that requests counts in."`
	Burst    int           `yaml:"burst" default:"50" doc:"Calls that may start at once after a quiet time."`
	MaxWait  time.Duration `yaml:"max_wait" default:"2s" doc:"Longest wait for permission; a call that would wait longer is refused at once."`
}

// HedgeConfig says when a late answer is asked for a second time.
type HedgeConfig struct {
	Enabled bool   `yaml:"enabled" default:"false" doc:"Ask again when the answer to a read-only call is late, and take the first answer."`
	Delay   string `yaml:"delay" default:"p95" doc:"When an answer is late: a duration, or p50 to p99 of the recent successful calls (from the 50th call on)."`
	Max     int    `yaml:"max" default:"1" doc:"How many more times to ask."`
}

// ErrorTrackingConfig says what is remembered of failed attempts.
type ErrorTrackingConfig struct {
	Enabled    bool   `yaml:"enabled" default:"true" doc:"Remember failed calls."`
	MaxErrors  int    `yaml:"max_errors" default:"1000" doc:"The latest errors that are kept."`
	ClassifyBy string `yaml:"classify_by" default:"type" enum:"type|tool" doc:"What errors are counted by."`
}

// DefaultConfig returns a Config with every default filled in, which is also the profile "standard".
func DefaultConfig() Config {
	return Config{
		Enabled:  true,
		Mode:     "enforce",
		Rollout:  RolloutConfig{Percent: 100},
		Safety:   "auto",
		Timeouts: TimeoutsConfig{Overall: 50 * time.Second, Attempt: 30 * time.Second, ProgressMax: 30 * time.Minute},
		Retry: RetryConfig{
			Enabled: true, MaxAttempts: 3, InitialDelay: time.Second, MaxDelay: 10 * time.Second, Multiplier: 2, Jitter: 0.25,
			RespectRetryAfter: true, MaxRetryAfter: 30 * time.Second, Budget: BudgetConfig{Ratio: 0.2, MinPerSecond: 1, Burst: 10},
		},
		CircuitBreaker: CircuitBreakerConfig{
			Enabled: true, Scope: "downstream", FailureThreshold: 5, FailureRateThreshold: 0.5, MinimumCalls: 10, Window: time.Minute,
			Timeout: time.Minute, MaxTimeout: 2 * time.Minute, Backoff: 2, Jitter: 0.1,
			SuccessThreshold: 2, HalfOpenMaxCalls: 3, HalfOpenTimeout: 30 * time.Second,
			ExcludedErrors: []string{"validation", "401", "403", "cancelled"},
			Probe:          ProbeConfig{Enabled: true, Method: "auto", Timeout: 5 * time.Second, Interval: 30 * time.Second},
		},
		Bulkhead:      BulkheadConfig{Enabled: true, MaxConcurrent: 128, MaxQueued: 100, Timeout: 5 * time.Second},
		RateLimit:     RateLimitConfig{Requests: 50, Per: time.Second, Burst: 50, MaxWait: 2 * time.Second},
		Hedge:         HedgeConfig{Delay: "p95", Max: 1},
		ErrorTracking: ErrorTrackingConfig{Enabled: true, MaxErrors: 1000, ClassifyBy: "type"},
	}
}

// Profiles returns the names of the built-in profiles, in the order in which documentation should show them.
func Profiles() []string { return []string{"standard", "high_latency", "critical", "development"} }

// ApplyProfile changes in c what the named built-in profile is about and leaves the rest alone, so that it stands between defaults
// and the settings of one dependency. It reports whether there is such a profile.
func ApplyProfile(name string, c *Config) bool {
	switch name {
	case "standard":
	case "high_latency":
		c.Timeouts.Attempt, c.Timeouts.Overall = time.Minute, 2*time.Minute
		c.Retry.MaxDelay = 30 * time.Second
		c.CircuitBreaker.HalfOpenTimeout = time.Minute // a trial may take as long as any other call
	case "critical":
		c.Retry.MaxAttempts = 5
		c.CircuitBreaker.FailureThreshold = 10
	case "development":
		c.CircuitBreaker.Enabled = false
		c.Retry.MaxAttempts = 1
	default:
		return false
	}
	return true
}

// Jitter is the share by which a duration varies up and down: 0.25 makes 150 ms to 250 ms out of 200 ms. As text it is a number,
// or true for 0.25, or false for 0.
type Jitter float64

// UnmarshalText implements encoding.TextUnmarshaler.
func (j *Jitter) UnmarshalText(text []byte) error {
	switch s := strings.TrimSpace(string(text)); strings.ToLower(s) {
	case "true":
		*j = 0.25
	case "false":
		*j = 0
	default:
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return fmt.Errorf("expected true, false or a number from 0 to 1, found %q", s)
		}
		*j = Jitter(f)
	}
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (j Jitter) MarshalText() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(j), 'g', -1, 64), nil
}

// of varies d by j; rnd is a random number in [0,1).
func (j Jitter) of(d time.Duration, rnd float64) time.Duration {
	return time.Duration(float64(d) * (1 + float64(j)*(2*rnd-1)))
}

// parseHedgeDelay returns either a fixed delay or a quantile in (0,1).
func parseHedgeDelay(s string) (fixed time.Duration, quantile float64, err error) {
	if rest, ok := strings.CutPrefix(s, "p"); ok {
		n, err := strconv.ParseFloat(rest, 64)
		if err != nil || math.IsNaN(n) || n < 50 || n > 99.9 {
			return 0, 0, fmt.Errorf("expected a duration or p50 to p99.9, found %q", s)
		}
		return 0, n / 100, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, 0, errors.New("expected a duration of more than 0 such as 300ms, or p50 to p99.9, found " + strconv.Quote(s))
	}
	return d, 0, nil
}
