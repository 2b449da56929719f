package resilience_test

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/resilience"
)

// The defaults stand in the tags, for documentation and schema, and in DefaultConfig: they must be the same.
func TestDefaultTags(t *testing.T) {
	var walk func(path string, v reflect.Value)
	walk = func(path string, v reflect.Value) {
		for i := range v.NumField() {
			f := v.Type().Field(i)
			key := path + f.Tag.Get("yaml")
			if f.Tag.Get("yaml") == "" || f.Tag.Get("doc") == "" {
				t.Errorf("%s: no yaml or doc tag", f.Name)
			}
			if v.Field(i).Kind() == reflect.Struct {
				walk(key+".", v.Field(i))
				continue
			}
			var got string
			switch x := v.Field(i).Interface().(type) {
			case []string:
				got = strings.Join(x, ", ")
			case time.Duration:
				d, err := time.ParseDuration(f.Tag.Get("default"))
				if err != nil || d != x {
					t.Errorf("%s: tag says %q, DefaultConfig %s", key, f.Tag.Get("default"), x)
				}
				continue
			default:
				got = fmt.Sprint(x)
			}
			if want := f.Tag.Get("default"); got != want {
				t.Errorf("%s: tag says %q, DefaultConfig %q", key, want, got)
			}
			if enum := f.Tag.Get("enum"); enum != "" && !strings.Contains("|"+enum+"|", "|"+got+"|") {
				t.Errorf("%s: default %q is not one of %s", key, got, enum)
			}
		}
	}
	walk("", reflect.ValueOf(resilience.DefaultConfig()))
}

func TestProfilesAreValid(t *testing.T) {
	for _, name := range resilience.Profiles() {
		cfg := resilience.DefaultConfig()
		cfg.Bulkhead.MaxConcurrent = 77 // what a profile is not about stays
		if !resilience.ApplyProfile(name, &cfg) {
			t.Errorf("no profile %q", name)
		}
		if err := cfg.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if w := cfg.Warnings(); name == "standard" && len(w) > 0 {
			t.Errorf("%s warns: %v", name, w)
		}
		if cfg.Bulkhead.MaxConcurrent != 77 {
			t.Errorf("%s changes the bulkhead", name)
		}
	}
	cfg := resilience.DefaultConfig()
	if resilience.ApplyProfile("nosuch", &cfg) {
		t.Error("an unknown profile was applied")
	}
	resilience.ApplyProfile("high_latency", &cfg)
	resilience.ApplyProfile("critical", &cfg)
	if cfg.Timeouts.Attempt != time.Minute || cfg.Timeouts.Overall != 2*time.Minute || cfg.Retry.MaxDelay != 30*time.Second ||
		cfg.Retry.MaxAttempts != 5 || cfg.CircuitBreaker.FailureThreshold != 10 {
		t.Errorf("high_latency and critical: %+v", cfg)
	}
	resilience.ApplyProfile("development", &cfg)
	if cfg.CircuitBreaker.Enabled || cfg.Retry.MaxAttempts != 1 {
		t.Errorf("development: %+v", cfg)
	}
	if diff := cmp.Diff(func() resilience.Config {
		c := resilience.DefaultConfig()
		resilience.ApplyProfile("standard", &c)
		return c
	}(), resilience.DefaultConfig()); diff != "" {
		t.Error(diff)
	}
}

func TestZeroConfigIsValid(t *testing.T) {
	if err := new(resilience.Config).Validate(); err != nil {
		t.Error(err)
	}
	partial := resilience.Config{Enabled: true, Bulkhead: resilience.BulkheadConfig{Enabled: true, MaxConcurrent: 1}}
	if err := partial.Validate(); err != nil {
		t.Errorf("a Config with one section: %v", err)
	}
}

func TestValidate(t *testing.T) {
	type C = resilience.Config
	tests := []struct {
		want string
		set  func(*C)
	}{
		{`mode: expected one of enforce, shadow, found "off"`, func(c *C) { c.Mode = "off" }},
		{`safety: expected one of auto, read_only, idempotent, unsafe, found "safe"`, func(c *C) { c.Safety = "safe" }},
		{`rollout.percent: must be from 0 to 100, found 101`, func(c *C) { c.Rollout.Percent = 101 }},
		{`rollout.percent: must be from 0 to 100, found NaN`, func(c *C) { c.Rollout.Percent = math.NaN() }},
		{`timeouts.overall: must be more than 0, found 0s`, func(c *C) { c.Timeouts.Overall = 0 }},
		{`timeouts.attempt: must be more than 0, found -1s`, func(c *C) { c.Timeouts.Attempt = -time.Second }},
		{`timeouts.attempt: must not be longer than timeouts.overall (50s), found 1m0s`, func(c *C) { c.Timeouts.Attempt = time.Minute }},
		{`timeouts.idle: must not be negative, found -1ns`, func(c *C) { c.Timeouts.Idle = -1 }},
		{`timeouts.progress_max: must not be negative, found -1ns`, func(c *C) { c.Timeouts.ProgressMax = -1 }},
		{`retry.max_attempts: must be at least 1, found 0`, func(c *C) { c.Retry.MaxAttempts = 0 }},
		{`retry.initial_delay: must not be longer than retry.max_delay (10s), found 11s`, func(c *C) { c.Retry.InitialDelay = 11 * time.Second }},
		{`retry.multiplier: must be at least 1, found 0.5`, func(c *C) { c.Retry.Multiplier = 0.5 }},
		{`retry.jitter: must be from 0 to 1, found 1.5`, func(c *C) { c.Retry.Jitter = 1.5 }},
		{`retry.max_retry_after: must not be negative, found -1s`, func(c *C) { c.Retry.MaxRetryAfter = -time.Second }},
		{`retry.budget.ratio: must be at least 0, found -1`, func(c *C) { c.Retry.Budget.Ratio = -1 }},
		{`retry.budget.min_per_second: must be at least 0, found -1`, func(c *C) { c.Retry.Budget.MinPerSecond = -1 }},
		{`retry.budget.burst: must be at least 1, found 0`, func(c *C) { c.Retry.Budget.Burst = 0 }},
		{`circuit_breaker.scope: expected one of downstream, tool, both, found "all"`, func(c *C) { c.CircuitBreaker.Scope = "all" }},
		{`circuit_breaker.failure_threshold: must be at least 0, found -1`, func(c *C) { c.CircuitBreaker.FailureThreshold = -1 }},
		{
			`circuit_breaker.failure_threshold: must be at least 1, or failure_rate_threshold or slow_call_rate_threshold more than 0: nothing would open the circuit (enabled: false switches it off)`,
			func(c *C) { c.CircuitBreaker.FailureThreshold, c.CircuitBreaker.FailureRateThreshold = 0, 0 },
		},
		{`circuit_breaker.failure_rate_threshold: must be from 0 to 1, found 50`, func(c *C) { c.CircuitBreaker.FailureRateThreshold = 50 }},
		{`circuit_breaker.slow_call_rate_threshold: must be from 0 to 1, found 2`, func(c *C) {
			c.CircuitBreaker.SlowCallDuration, c.CircuitBreaker.SlowCallRateThreshold = time.Second, 2
		}},
		{`circuit_breaker.slow_call_duration: must be more than 0 where slow_call_rate_threshold is set`, func(c *C) { c.CircuitBreaker.SlowCallRateThreshold = 0.5 }},
		{`circuit_breaker.slow_call_duration: must not be negative, found -1s`, func(c *C) { c.CircuitBreaker.SlowCallDuration = -time.Second }},
		{`circuit_breaker.minimum_calls: must be at least 1, found 0`, func(c *C) { c.CircuitBreaker.MinimumCalls = 0 }},
		{`circuit_breaker.window: must be at least 1s, found 10ms`, func(c *C) { c.CircuitBreaker.Window = 10 * time.Millisecond }},
		{`circuit_breaker.timeout: must be more than 0, found 0s`, func(c *C) { c.CircuitBreaker.Timeout = 0 }},
		{`circuit_breaker.max_timeout: must not be shorter than circuit_breaker.timeout (1m0s), found 30s`, func(c *C) { c.CircuitBreaker.MaxTimeout = 30 * time.Second }},
		{`circuit_breaker.backoff: must be at least 1, found 0`, func(c *C) { c.CircuitBreaker.Backoff = 0 }},
		{`circuit_breaker.jitter: must be from 0 to 0.9, found 1`, func(c *C) { c.CircuitBreaker.Jitter = 1 }},
		{`circuit_breaker.success_threshold: must be at least 1, found 0`, func(c *C) { c.CircuitBreaker.SuccessThreshold = 0 }},
		{`circuit_breaker.half_open_max_calls: must be at least 1, found 0`, func(c *C) { c.CircuitBreaker.HalfOpenMaxCalls = 0 }},
		{`circuit_breaker.half_open_timeout: must be more than 0, found 0s`, func(c *C) { c.CircuitBreaker.HalfOpenTimeout = 0 }},
		{`circuit_breaker.excluded_errors[1]: must not be empty`, func(c *C) { c.CircuitBreaker.ExcludedErrors = []string{"401", ""} }},
		{`circuit_breaker.probe.timeout: must be more than 0, found 0s`, func(c *C) { c.CircuitBreaker.Probe.Timeout = 0 }},
		{`circuit_breaker.probe.interval: must be more than 0, found 0s`, func(c *C) { c.CircuitBreaker.Probe.Interval = 0 }},
		{`bulkhead.max_concurrent: must be at least 1, found 0`, func(c *C) { c.Bulkhead.MaxConcurrent = 0 }},
		{`bulkhead.max_queued: must be at least 0, found -1`, func(c *C) { c.Bulkhead.MaxQueued = -1 }},
		{`bulkhead.timeout: must be more than 0, found 0s`, func(c *C) { c.Bulkhead.Timeout = 0 }},
		{`rate_limit.requests: must be at least 1, found 0`, func(c *C) { c.RateLimit.Requests = 0 }},
		{`rate_limit.per: must be more than 0, found 0s`, func(c *C) { c.RateLimit.Per = 0 }},
		{`rate_limit.burst: must be at least 1, found 0`, func(c *C) { c.RateLimit.Burst = 0 }},
		{`rate_limit.max_wait: must not be negative, found -1s`, func(c *C) { c.RateLimit.MaxWait = -time.Second }},
		{`hedge.delay: expected a duration or p50 to p99.9, found "p5"`, func(c *C) { c.Hedge.Delay = "p5" }},
		{`hedge.delay: expected a duration of more than 0 such as 300ms, or p50 to p99.9, found "soon"`, func(c *C) { c.Hedge.Delay = "soon" }},
		{`hedge.max: must be at least 1, found 0`, func(c *C) { c.Hedge.Max = 0 }},
		{`error_tracking.max_errors: must be at least 1, found 0`, func(c *C) { c.ErrorTracking.MaxErrors = 0 }},
		{`error_tracking.classify_by: expected one of type, tool, found "mood"`, func(c *C) { c.ErrorTracking.ClassifyBy = "mood" }},
	}
	for _, tt := range tests {
		cfg := resilience.DefaultConfig()
		tt.set(&cfg)
		err := cfg.Validate()
		if err == nil || err.Error() != tt.want {
			t.Errorf("got  %v\nwant %s", err, tt.want)
			continue
		}
		f, ok := errors.AsType[*resilience.FieldError](err)
		if !ok {
			t.Errorf("%s: no *FieldError", tt.want)
			continue
		}
		if path, msg := f.Field(); path+": "+msg != tt.want {
			t.Errorf("Field() = %q, %q", path, msg)
		}
	}
	// All faults at once, and a section that is off is checked too.
	cfg := resilience.DefaultConfig()
	cfg.Retry.MaxAttempts, cfg.Hedge.Max, cfg.CircuitBreaker.Enabled, cfg.CircuitBreaker.SuccessThreshold = 0, 0, false, 0
	err := cfg.Validate()
	if many, ok := err.(interface{ Unwrap() []error }); !ok || len(many.Unwrap()) != 3 {
		t.Errorf("err = %v, want three faults", err)
	}
}

func TestWarnings(t *testing.T) {
	cfg := resilience.DefaultConfig()
	if w := cfg.Warnings(); len(w) != 0 {
		t.Errorf("the defaults warn: %v", w)
	}
	cfg.Timeouts.Overall, cfg.Timeouts.Idle, cfg.Timeouts.ProgressMax = 2*time.Minute, time.Minute, time.Second
	b := &cfg.CircuitBreaker
	b.FailureThreshold, b.SuccessThreshold, b.HalfOpenMaxCalls = 50, 1, 9
	b.Timeout, b.MaxTimeout, b.SlowCallDuration, b.HalfOpenTimeout = time.Second, time.Hour, time.Minute, time.Second
	cfg.Retry.MaxAttempts = 30
	var got []string
	for _, w := range cfg.Warnings() {
		got = append(got, w.Path)
	}
	want := []string{
		"timeouts.overall", "timeouts.idle", "timeouts.progress_max", "circuit_breaker.failure_threshold", "circuit_breaker.success_threshold",
		"circuit_breaker.half_open_max_calls", "circuit_breaker.timeout", "circuit_breaker.max_timeout",
		"circuit_breaker.half_open_timeout", "circuit_breaker.slow_call_duration",
		"retry.max_attempts",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err := cfg.Validate(); err != nil {
		t.Errorf("a warning is not a fault: %v", err)
	}
}

func TestJitterText(t *testing.T) {
	for text, want := range map[string]resilience.Jitter{"true": 0.25, "false": 0, "0.1": 0.1, "0": 0, "1": 1} {
		j := resilience.Jitter(9)
		if err := j.UnmarshalText([]byte(text)); err != nil || j != want {
			t.Errorf("%s: %g, %v", text, float64(j), err)
		}
		back, err := j.MarshalText()
		if f, _ := strconv.ParseFloat(string(back), 64); err != nil || resilience.Jitter(f) != want {
			t.Errorf("%s: written as %s", text, back)
		}
	}
	var j resilience.Jitter
	if err := j.UnmarshalText([]byte("a bit")); err == nil {
		t.Error("accepted")
	}
}
