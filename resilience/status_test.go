package resilience_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/resilience"
)

// Every snapshot taken while many goroutines call, fail, cancel and switch by hand fits together.
func TestSnapshotsAreNeverTorn(t *testing.T) {
	cfg := plain()
	cfg.CircuitBreaker.Scope = "both"
	cfg.CircuitBreaker.FailureThreshold, cfg.CircuitBreaker.Timeout, cfg.CircuitBreaker.MaxTimeout = 3, time.Millisecond, 2*time.Millisecond
	cfg.Bulkhead.MaxConcurrent, cfg.Bulkhead.MaxQueued = 4, 2
	cfg.Retry.InitialDelay, cfg.Retry.MaxDelay = 0, 0
	g := newGuard(t, cfg)
	stop := make(chan struct{})
	var callers, readers sync.WaitGroup
	for i := range 8 {
		callers.Go(func() {
			c := resilience.Call{Safety: resilience.Safety(i % 3), Key: fmt.Sprint("tool", i%2)}
			for j := range 400 {
				err := error(nil)
				if (i+j)%3 == 0 {
					err = lost
				}
				ctx, cancel := context.WithCancel(t.Context())
				_, _ = resilience.Do(ctx, g, c, func(context.Context) (int, error) {
					if j%7 == 0 {
						cancel()
					}
					return 0, err
				})
				cancel()
				switch {
				case i == 0 && j%50 == 0:
					g.Isolate()
				case i == 0 && j%50 == 10:
					g.Close()
				case i == 1 && j%50 == 0:
					_ = g.Reconfigure(cfg)
				}
			}
		})
	}
	var snapshots atomic.Int64
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				s := g.Snapshot()
				snapshots.Add(1)
				dep := s[0]
				c, b := dep.Counters, dep.Bulkhead
				// Every attempt that ended has been judged exactly once, and has first taken and then given back its slot.
				judged := dep.Totals.Successes + dep.Totals.Failures + dep.Totals.Ignored
				if judged < c.Attempts {
					t.Errorf("%d attempts ended, %d judged", c.Attempts, judged)
				}
				if b.InFlight < 0 || b.InFlight > b.MaxConcurrent || b.Queued < 0 || b.Queued > b.MaxQueued || b.MostInFlight < b.InFlight {
					t.Errorf("bulkhead = %+v", *b)
				}
				for _, k := range s {
					if (k.State == "open") != (k.NextAttemptAt != nil) || (k.State == "half_open") != (k.HalfOpen != nil) || k.State == "closed" && k.OpenedAt != nil ||
						k.State != "closed" && k.OpenedAt == nil {
						t.Errorf("%s is %s: next %v, half_open %v, opened %v", k.Name, k.State, k.NextAttemptAt, k.HalfOpen, k.OpenedAt)
					}
					if h := k.HalfOpen; h != nil && (h.InFlight < 0 || h.InFlight+h.Available != h.MaxCalls || h.Successes >= h.Required) {
						t.Errorf("half_open = %+v", *h)
					}
					if k.ConsecutiveFailures > 0 && k.ConsecutiveSuccesses > 0 {
						t.Errorf("%d failures and %d successes in a row", k.ConsecutiveFailures, k.ConsecutiveSuccesses)
					}
					if k.Rejected != k.Totals.Rejected || (k.Totals.Failures > 0) != (k.LastFailure != nil) || (k.LastFailure != nil) != (k.LastFailureType != nil) {
						t.Errorf("%+v", k)
					}
				}
				if sum := resilience.Summarize(s); sum.Closed+sum.Open+sum.HalfOpen+sum.Isolated+sum.Disabled != sum.Total || sum.Total != len(s) {
					t.Errorf("summary = %+v", sum)
				}
			}
		})
	}
	callers.Wait()
	close(stop)
	readers.Wait()
	s := g.Snapshot()[0]
	if s.Bulkhead.InFlight != 0 || s.Bulkhead.Queued != 0 || s.Counters.Attempts == 0 || snapshots.Load() == 0 {
		t.Errorf("in the end: %+v, %+v", *s.Bulkhead, *s.Counters)
	}
}

func TestStatusJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // begins at midnight UTC 2000-01-01
		cfg := plain()
		cfg.CircuitBreaker.Name = "pfsense_api"
		g := newGuard(t, cfg, resilience.Options{Redact: func(s string) string { return strings.ReplaceAll(s, "failed", "[redacted]") }})
		other := newGuard(t, plain())
		_ = try(t.Context(), g, resilience.Call{}, nil)
		time.Sleep(second)
		trip(t, g)
		time.Sleep(500 * time.Millisecond)
		_ = try(t.Context(), g, resilience.Call{}, nil)
		got, err := json.MarshalIndent(resilience.Report(g, other), "", " ")
		if err != nil {
			t.Fatal(err)
		}
		want := `{
 "time": "2000-01-01T00:00:01.5Z",
 "circuits": [
  {
   "name": "pfsense_api",
   "downstream": "pfsense",
   "scope": "downstream",
   "tool": null,
   "state": "open",
   "state_since": "2000-01-01T00:00:01Z",
   "mode": "enforce",
   "failures": 5,
   "successes": 1,
   "consecutive_failures": 5,
   "consecutive_successes": 0,
   "failure_rate": 0.8333333333333334,
   "slow_call_rate": 0,
   "last_failure": "2000-01-01T00:00:01Z",
   "last_failure_type": "500",
   "last_failure_message": "dependency [redacted]: 500",
   "last_success": "2000-01-01T00:00:00Z",
   "opened_at": "2000-01-01T00:00:01Z",
   "next_attempt_at": "2000-01-01T00:01:01Z",
   "retry_after_ms": 59500,
   "consecutive_opens": 1,
   "half_open": null,
   "rejected": 1,
   "totals": {
    "successes": 1,
    "failures": 5,
    "ignored": 0,
    "slow": 0,
    "rejected": 1,
    "stale": 0,
    "opens": 1
   },
   "bulkhead": {
    "max_concurrent": 128,
    "in_flight": 0,
    "queued": 0,
    "max_queued": 100,
    "rejected_full": 0,
    "rejected_queue_timeout": 0,
    "high_water": 1
   },
   "rate_limit": null,
   "retry_budget": {
    "tokens": 10,
    "refused": 0
   },
   "counters": {
    "calls": 7,
    "attempts": 6,
    "retries": 0,
    "retry_successes": 0,
    "retries_exhausted": 0,
    "retries_suppressed": 0,
    "timeouts": 0,
    "hedges": 0,
    "hedge_wins": 0,
    "fallbacks": 0,
    "fallback_successes": 0,
    "panics": 0,
    "late_answers": 0
   },
   "abandoned_attempts": 0,
   "config": {
    "failure_threshold": 5,
    "success_threshold": 2,
    "timeout_ms": 60000,
    "half_open_max_calls": 3
   }
  },`
		if !strings.HasPrefix(string(got), want) {
			t.Errorf("(-want +got):\n%s", cmp.Diff(want, string(got)))
		}
		tail := `"summary": {
  "total": 2,
  "closed": 1,
  "open": 1,
  "half_open": 0,
  "isolated": 0,
  "disabled": 0,
  "rejected": 1,
  "health": "degraded"
 }
}`
		if !strings.HasSuffix(string(got), tail) {
			t.Errorf("%s does not end with %s", got, tail)
		}
	})
}

func TestHealth(t *testing.T) {
	tests := []struct {
		states, want string
	}{
		{"", "ok"},
		{"closed", "ok"},
		{"closed disabled", "ok"},
		{"disabled", "ok"},
		{"closed half_open", "degraded"},
		{"closed open", "degraded"},
		{"closed isolated", "degraded"},
		{"open", "down"},
		{"open isolated", "down"},
		{"open disabled", "down"},
		{"half_open", "degraded"},
	}
	for _, tt := range tests {
		var all []resilience.CircuitStatus
		for s := range strings.FieldsSeq(tt.states) {
			all = append(all, resilience.CircuitStatus{State: s})
		}
		if got := resilience.Summarize(all).Health; got != tt.want {
			t.Errorf("%q: %s, want %s", tt.states, got, tt.want)
		}
	}
}

func TestErrorTracking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := only(func(c *resilience.Config) { c.ErrorTracking.MaxErrors = 3 })
		g := newGuard(t, cfg)
		for i, err := range []error{lost, lost, failed, errArg, refused, nil} {
			_ = try(t.Context(), g, resilience.Call{Key: fmt.Sprint("tool", i%2), TraceID: fmt.Sprint("trace", i)}, err)
			time.Sleep(second)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, _ = resilience.Do(ctx, g, resilience.Call{}, hang) // is nobody's error
		start := time.Now().Add(-6 * second)
		want := resilience.Errors{
			Total: 5,
			By:    map[string]uint64{"connection": 2, "500": 1, "validation": 1, "403": 1},
			Recent: []resilience.ErrorRecord{
				{Time: start.Add(2 * second), Key: "tool0", Class: "500", Message: "dependency failed: 500", TraceID: "trace2"},
				{Time: start.Add(3 * second), Key: "tool1", Class: "validation", Message: "dependency failed: validation", TraceID: "trace3"},
				{Time: start.Add(4 * second), Key: "tool0", Class: "403", Message: "dependency failed: 403", TraceID: "trace4"},
			},
		}
		if diff := cmp.Diff(want, g.Errors()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		cfg.ErrorTracking.MaxErrors, cfg.ErrorTracking.ClassifyBy = 2, "tool"
		if err := g.Reconfigure(cfg); err != nil {
			t.Fatal(err)
		}
		e := g.Errors()
		if len(e.Recent) != 2 || e.Recent[1].TraceID != "trace4" || e.Total != 5 || e.By["tool0"] != 1 {
			t.Errorf("after the change: %+v", e)
		}
		cfg.ErrorTracking.Enabled = false
		_ = g.Reconfigure(cfg)
		_ = try(t.Context(), g, resilience.Call{}, lost)
		if g.Errors().Total != 5 {
			t.Error("tracked although it is off")
		}
	})
}

func TestMessagesAreShortAndOnOneLine(t *testing.T) {
	g := newGuard(t, plain())
	_ = try(t.Context(), g, resilience.Call{}, errors.New("line one\nline two\x1b[31m \xff"+strings.Repeat("é", 5000)))
	msg := *circuitOf(g).LastFailureMessage
	if len(msg) > 200 || strings.ContainsAny(msg, "\n\x1b") || !strings.HasPrefix(msg, "line one line two") || strings.ToValidUTF8(msg, "!") != msg {
		t.Errorf("message = %q", msg)
	}
}

// lines collects the log as LEVEL message {attributes}.
func lines(buf *bytes.Buffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(buf, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == "stack") {
			return slog.Attr{}
		}
		return a
	}}))
}

func TestLogLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var buf bytes.Buffer
		cfg := plain()
		cfg.CircuitBreaker.Name = "pfsense_api"
		g := newGuard(t, cfg, resilience.Options{Logger: lines(&buf)})
		expect := func(want ...string) {
			t.Helper()
			got := strings.Split(strings.TrimSpace(buf.String()), "\n")
			buf.Reset()
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("log (-want +got):\n%s", diff)
			}
		}
		read := resilience.Call{Safety: resilience.ReadOnly, Key: "get_rules", TraceID: "4bf9"}
		_ = try(t.Context(), g, read, lost)
		expect(
			`level=WARN msg="Retry attempt 1/3 failed: Connection error, retrying in 1s..." downstream=pfsense tool=get_rules trace_id=4bf9 class=connection attempts=1 delay_ms=1000 err="dependency failed: connection"`,
			`level=WARN msg="Retry attempt 2/3 failed: Connection error, retrying in 2s..." downstream=pfsense tool=get_rules trace_id=4bf9 class=connection attempts=2 delay_ms=2000 err="dependency failed: connection"`,
			`level=ERROR msg="Retries exhausted for 'pfsense' after 3/3 attempts: Connection error" downstream=pfsense tool=get_rules trace_id=4bf9 class=connection attempts=3 executed=unknown`,
		)
		_ = try(t.Context(), g, resilience.Call{}, failed)
		_ = try(t.Context(), g, resilience.Call{}, failed)
		expect(`level=WARN msg="Circuit breaker 'pfsense_api' opened after 5 failures" downstream=pfsense circuit=pfsense_api reason="consecutive failures" delay_ms=60000`)
		time.Sleep(time.Minute)
		_ = try(t.Context(), g, resilience.Call{}, nil)
		_ = try(t.Context(), g, resilience.Call{}, nil)
		expect(
			`level=INFO msg="Circuit breaker 'pfsense_api' half-open, testing connection" downstream=pfsense circuit=pfsense_api reason="open timeout elapsed"`,
			`level=INFO msg="Circuit breaker 'pfsense_api' closed" downstream=pfsense circuit=pfsense_api reason="trial calls succeeded" outage_ms=60000`,
		)
		_, _ = resilience.Do(t.Context(), g, resilience.Call{}, hang)
		expect(`level=WARN msg="Timeout exceeded for 'pfsense': attempt 30s (scope=attempt)" downstream=pfsense class=timeout executed=unknown`)
		_, _ = resilience.Do(t.Context(), g, resilience.Call{Safety: resilience.ReadOnly}, func(context.Context) (int, error) { return 0, refused429() },
			resilience.Fallback[int]{Name: "cache", Func: func(context.Context, error) (int, error) { return 1, nil }})
		expect(`level=WARN msg="Primary handler failed: 429, using fallback 'cache'" downstream=pfsense class=429`)
		_, _ = resilience.Do(t.Context(), g, resilience.Call{}, func(context.Context) (int, error) { panic("no such rule") })
		got := buf.String()
		buf.Reset()
		if !strings.HasPrefix(got, `level=ERROR msg="Panic in call to 'pfsense': no such rule at /`) || !strings.Contains(got, "status_test.go:") {
			t.Errorf("log = %s", got)
		}
		g.Isolate()
		g.Disable()
		g.Open()
		expect(
			`level=WARN msg="Circuit breaker 'pfsense_api' isolated by hand" downstream=pfsense circuit=pfsense_api reason=manual`,
			`level=WARN msg="Circuit breaker 'pfsense_api' disabled by hand" downstream=pfsense circuit=pfsense_api reason=manual`,
			`level=WARN msg="Circuit breaker 'pfsense_api' opened by hand" downstream=pfsense circuit=pfsense_api reason=manual delay_ms=60000`,
		)
	})
}

func TestLogLinesAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var buf bytes.Buffer
		cfg := only(func(c *resilience.Config) { c.Retry.Enabled = true })
		cfg.Retry.InitialDelay, cfg.Retry.MaxDelay, cfg.Retry.Budget = 0, 0, resilience.BudgetConfig{}
		g := newGuard(t, cfg, resilience.Options{Logger: lines(&buf)})
		read := resilience.Call{Safety: resilience.ReadOnly}
		for range 500 {
			_ = try(t.Context(), g, read, lost)
		}
		if n := strings.Count(buf.String(), "\n"); n != 2 {
			t.Errorf("%d lines for 500 calls in one moment, want one of each kind", n)
		}
		_ = try(t.Context(), g, read, failed)
		if n := strings.Count(buf.String(), "\n"); n != 4 {
			t.Errorf("%d lines, want another class to be heard at once", n)
		}
		buf.Reset()
		time.Sleep(second)
		_ = try(t.Context(), g, read, lost)
		if !strings.Contains(buf.String(), "skipped=999") || !strings.Contains(buf.String(), "skipped=499") {
			t.Errorf("log does not say what was left out: %s", buf.String())
		}
	})
}

func TestErrorText(t *testing.T) {
	tests := []struct {
		e    resilience.Error
		want string
	}{
		{resilience.Error{Name: "d", Circuit: "pfsense_api", Reason: resilience.CircuitOpen, RetryAfter: 41877 * time.Millisecond}, "circuit breaker 'pfsense_api' is open - service temporarily unavailable, retry after 42s"},
		{resilience.Error{Name: "d", Circuit: "x", Reason: resilience.Isolated}, "circuit breaker 'x' is isolated by an operator - service unavailable"},
		{resilience.Error{Name: "d", Reason: resilience.BulkheadFull}, "d: too many calls are running and waiting"},
		{resilience.Error{Name: "d", Reason: resilience.QueueTimeout}, "d: waited too long for other calls to finish"},
		{resilience.Error{Name: "d", Reason: resilience.RateLimited, RetryAfter: 250 * time.Millisecond}, "d: rate limit reached, retry after 250ms"},
		{resilience.Error{Name: "d", Reason: resilience.RetriesExhausted, Attempts: 3, Err: errBoom}, "d: retries exhausted (3 attempts): boom"},
		{resilience.Error{Name: "d", Reason: resilience.Cancelled, Err: context.Canceled}, "d: call ended by its caller: context canceled"},
	}
	for _, tt := range tests {
		if got := tt.e.Error(); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

func TestRejecting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, plain())
		if refused, _ := g.Rejecting(); refused {
			t.Error("a closed circuit refuses")
		}
		g.Open()
		time.Sleep(20 * second)
		if refused, wait := g.Rejecting(); !refused || wait != 40*second {
			t.Errorf("%v, %s", refused, wait)
		}
		time.Sleep(40 * second)
		if refused, _ := g.Rejecting(); refused {
			t.Error("a circuit that wants a trial refuses")
		}
	})
}
