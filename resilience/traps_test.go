package resilience_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/fallback"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"

	"github.com/mcpgw/mcpgw/resilience"
)

// The traps of failsafe-go v0.9.8, by their numbers in docs/decisions/0007. "stock" shows what its policy does, which is why it is not
// used, or not used like that; "ours" shows what a Guard does. When a new version makes a "stock" test fail, the reason for a policy of
// our own is gone, and the record has to be looked at again.

var errBoom = errors.New("boom")

func trap(t *testing.T, name string, stock, ours func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		if stock != nil {
			t.Run("stock", func(t *testing.T) { synctest.Test(t, stock) })
		}
		t.Run("ours", func(t *testing.T) { synctest.Test(t, ours) })
	})
}

func swallow(f func()) {
	defer func() { _ = recover() }()
	f()
}

// halfOpen returns a Guard whose circuit is half-open.
func halfOpen(t *testing.T, set ...func(*resilience.CircuitBreakerConfig)) *resilience.Guard {
	t.Helper()
	g := newGuard(t, breakerOnly(set...))
	g.Open()
	time.Sleep(time.Minute)
	wantState(t, g, resilience.StateHalfOpen)
	return g
}

func TestTrapsOfTheBreaker(t *testing.T) {
	const delay = 10 * time.Second
	stock := func() circuitbreaker.Builder[any] {
		return circuitbreaker.NewBuilder[any]().WithFailureThreshold(1).WithSuccessThreshold(1).WithDelay(delay)
	}
	fails := func() error { return errBoom }

	trap(t, "B1 a panic in a trial wedges the circuit", func(t *testing.T) {
		cb := stock().Build()
		ex := failsafe.With[any](cb)
		_ = ex.Run(fails)
		time.Sleep(delay)
		swallow(func() { _ = ex.Run(func() error { panic("trial") }) })
		time.Sleep(time.Hour)
		if err := ex.Run(func() error { return nil }); !errors.Is(err, circuitbreaker.ErrOpen) {
			t.Errorf("err = %v", err)
		}
	}, func(t *testing.T) {
		g := halfOpen(t)
		for range 10 {
			_, _ = resilience.Do(t.Context(), g, resilience.Call{}, func(context.Context) (int, error) { panic("trial") })
		}
		if h := circuitOf(g).HalfOpen; h.Available != 3 {
			t.Errorf("half_open = %+v", h)
		}
		_, _ = try(t.Context(), g, resilience.Call{}, nil), try(t.Context(), g, resilience.Call{}, nil)
		wantState(t, g, resilience.StateClosed)
	})

	trap(t, "B2 a late failure from before decides about the trials", func(t *testing.T) {
		cb := stock().Build()
		ex := failsafe.With[any](cb)
		go func() { _ = ex.Run(func() error { time.Sleep(2 * delay); return errBoom }) }()
		synctest.Wait()
		_ = ex.Run(fails)
		time.Sleep(delay)
		_ = ex.Run(func() error { time.Sleep(2 * delay); return nil }) // the trial succeeds, but it was late too
		if !cb.IsOpen() {
			t.Errorf("state = %v", cb.State())
		}
	}, func(t *testing.T) {
		g := newGuard(t, breakerOnly())
		var wg sync.WaitGroup
		for _, err := range []error{failed, nil} {
			wg.Go(func() {
				_, _ = resilience.Do(t.Context(), g, resilience.Call{}, func(context.Context) (int, error) { time.Sleep(25 * second); return 0, err })
			})
		}
		synctest.Wait()
		trip(t, g)
		g.ProbeNow()
		wantState(t, g, resilience.StateHalfOpen)
		wg.Wait()
		wantState(t, g, resilience.StateHalfOpen)
		if s := circuitOf(g); s.Totals.Stale != 2 || s.HalfOpen.Available != 3 || s.HalfOpen.Successes != 0 {
			t.Errorf("totals = %+v, half_open = %+v", s.Totals, s.HalfOpen)
		}
	})

	trap(t, "B3 late successes hand out permits", func(t *testing.T) {
		cb := circuitbreaker.NewBuilder[any]().WithFailureThreshold(1).WithSuccessThresholdRatio(4, 4).WithDelay(delay).Build()
		ex := failsafe.With[any](cb)
		for range 3 {
			go func() { _ = ex.Run(func() error { time.Sleep(2 * delay); return nil }) }()
		}
		synctest.Wait()
		_ = ex.Run(fails)
		time.Sleep(delay)
		n := 0
		for range 4 {
			if cb.TryAcquirePermit() {
				n++
			}
		}
		time.Sleep(2 * delay)
		for cb.TryAcquirePermit() {
			n++
		}
		if n <= 4 {
			t.Errorf("%d permits of 4", n)
		}
	}, func(t *testing.T) {
		g := newGuard(t, breakerOnly(func(b *resilience.CircuitBreakerConfig) { b.HalfOpenTimeout = time.Hour }))
		var inside, most atomic.Int32
		var wg sync.WaitGroup
		slow := func() {
			wg.Go(func() {
				_, _ = resilience.Do(t.Context(), g, resilience.Call{}, func(context.Context) (int, error) {
					most.Store(max(most.Load(), inside.Add(1)))
					defer inside.Add(-1)
					time.Sleep(25 * second)
					return 1, nil
				})
			})
		}
		for range 5 {
			slow()
		}
		synctest.Wait()
		trip(t, g)
		g.ProbeNow()
		time.Sleep(20 * second)
		for range 3 {
			slow()
		}
		time.Sleep(10 * second) // the old ones have ended
		most.Store(0)
		for range 10 {
			slow()
		}
		wg.Wait()
		if most.Load() > 3 {
			t.Errorf("%d trials at once", most.Load())
		}
	})

	trap(t, "B4 what is not a failure is a success", func(t *testing.T) {
		cb := stock().HandleErrors(errBoom).Build()
		cb.Open()
		time.Sleep(delay)
		_ = failsafe.With[any](cb).Run(func() error { return errors.New("wrong argument") })
		if !cb.IsClosed() {
			t.Errorf("state = %v", cb.State())
		}
	}, func(t *testing.T) {
		g := halfOpen(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range 20 {
			_ = try(t.Context(), g, resilience.Call{}, refused)
			_, _ = resilience.Do(ctx, g, resilience.Call{}, hang)
		}
		wantState(t, g, resilience.StateHalfOpen)
		if h := circuitOf(g).HalfOpen; h.Available != 3 || h.Successes != 0 {
			t.Errorf("half_open = %+v", h)
		}
		g.Close()
		for range 5 { // nor does it break a run of failures
			wantState(t, g, resilience.StateClosed)
			_ = try(t.Context(), g, resilience.Call{}, refused)
			_ = try(t.Context(), g, resilience.Call{}, failed)
		}
		wantState(t, g, resilience.StateOpen)
	})

	trap(t, "B5 callers that cancel open the circuit", func(t *testing.T) {
		cb := circuitbreaker.NewBuilder[any]().WithFailureThreshold(5).Build()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range 5 {
			_ = failsafe.With[any](cb).WithContext(ctx).Run(ctx.Err)
		}
		if !cb.IsOpen() {
			t.Errorf("state = %v", cb.State())
		}
	}, func(t *testing.T) {
		g := newGuard(t, breakerOnly())
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range 50 {
			_, _ = resilience.Do(ctx, g, resilience.Call{}, hang)
		}
		wantState(t, g, resilience.StateClosed)
	})

	trap(t, "B6 our own bulkhead opens the circuit", func(t *testing.T) {
		cb := circuitbreaker.NewBuilder[any]().WithFailureThreshold(5).Build()
		bh := bulkhead.New[any](1)
		bh.TryAcquirePermit()
		for range 5 {
			_ = failsafe.With[any](cb, bh).Run(func() error { return nil })
		}
		if !cb.IsOpen() {
			t.Errorf("state = %v", cb.State())
		}
	}, func(t *testing.T) {
		cfg := bulkheadOnly(1, 0, 0)
		cfg.CircuitBreaker = breakerOnly().CircuitBreaker
		cfg.RateLimit = resilience.RateLimitConfig{Enabled: true, Requests: 1, Per: time.Hour, Burst: 3}
		g := newGuard(t, cfg)
		release := make(chan struct{})
		go func() {
			_, _ = resilience.Do(t.Context(), g, resilience.Call{}, func(context.Context) (int, error) { <-release; return 1, nil })
		}()
		synctest.Wait()
		for range 50 { // two by the bulkhead, the others by the rate limit
			if err := try(t.Context(), g, resilience.Call{}, nil); err == nil {
				t.Error("not refused")
			}
		}
		close(release)
		wantState(t, g, resilience.StateClosed)
	})

	trap(t, "B7 open by hand is not isolated, and a circuit that nobody calls seems open for ever", func(t *testing.T) {
		cb := stock().Build()
		cb.Open()
		time.Sleep(delay / 2)
		cb.Open()
		if cb.RemainingDelay() > delay/2 {
			t.Error("opened anew")
		}
		time.Sleep(time.Hour)
		if cb.State() != circuitbreaker.OpenState || cb.RemainingDelay() != 0 {
			t.Errorf("state = %v", cb.State())
		}
	}, func(t *testing.T) {
		g := newGuard(t, breakerOnly())
		g.Open()
		time.Sleep(30 * second)
		g.Open()
		if ms := circuitOf(g).RetryAfterMS; ms != 60_000 {
			t.Errorf("%d ms left", ms)
		}
		time.Sleep(time.Hour)
		if s := circuitOf(g); s.State != "half_open" || s.NextAttemptAt != nil {
			t.Errorf("an hour later: %+v", s)
		}
		g.Isolate()
		time.Sleep(24 * time.Hour)
		wantReason(t, try(t.Context(), g, resilience.Call{}, nil), resilience.Isolated)
	})

	trap(t, "B8 numbers of a time window never fade", func(t *testing.T) {
		cb := circuitbreaker.NewBuilder[any]().WithFailureRateThreshold(0.9, 100, time.Minute).Build()
		for range 7 {
			cb.RecordFailure()
		}
		time.Sleep(time.Hour)
		if n := cb.Metrics().Failures(); n != 7 {
			t.Errorf("%d failures", n)
		}
	}, func(t *testing.T) {
		g := newGuard(t, breakerOnly(func(b *resilience.CircuitBreakerConfig) { b.FailureThreshold, b.FailureRateThreshold = 0, 0.9 }))
		for range 7 {
			_ = try(t.Context(), g, resilience.Call{}, failed)
		}
		if n := circuitOf(g).Failures; n != 7 {
			t.Errorf("%d failures", n)
		}
		time.Sleep(time.Minute)
		if s := circuitOf(g); s.Failures != 0 || s.FailureRate != 0 {
			t.Errorf("a window later: %d, %g", s.Failures, s.FailureRate)
		}
	})

	trap(t, "B9 impossible thresholds are taken", func(t *testing.T) {
		cb := circuitbreaker.NewBuilder[any]().WithFailureThreshold(0).Build()
		cb.RecordSuccess()
		if !cb.IsOpen() {
			t.Errorf("state = %v", cb.State())
		}
	}, func(t *testing.T) {
		cfg := breakerOnly(func(b *resilience.CircuitBreakerConfig) { b.FailureThreshold = 0 })
		if _, err := resilience.NewGuard("x", cfg, resilience.Options{}); err == nil || !strings.Contains(err.Error(), "circuit_breaker.failure_threshold") {
			t.Errorf("err = %v", err)
		}
	})

	trap(t, "B10 trials follow from the failure threshold, and failed trials close", func(t *testing.T) {
		cb := circuitbreaker.NewBuilder[any]().WithFailureThreshold(5).Build()
		cb.HalfOpen()
		for range 4 {
			cb.RecordFailure()
		}
		cb.RecordSuccess()
		if !cb.IsClosed() {
			t.Errorf("state = %v", cb.State())
		}
	}, func(t *testing.T) {
		g := halfOpen(t)
		if h := circuitOf(g).HalfOpen; h.MaxCalls != 3 || h.Required != 2 {
			t.Errorf("half_open = %+v", h)
		}
		_ = try(t.Context(), g, resilience.Call{}, failed)
		wantState(t, g, resilience.StateOpen)
	})

	trap(t, "B11 an open circuit is tried again and again, with pauses", func(t *testing.T) {
		cb := stock().Build()
		cb.Open()
		start := time.Now()
		_ = failsafe.With[any](retrypolicy.NewBuilder[any]().WithMaxAttempts(3).WithDelay(second).Build(), cb).Run(func() error { return nil })
		if time.Since(start) != 2*second {
			t.Errorf("took %s", time.Since(start))
		}
	}, func(t *testing.T) {
		g := newGuard(t, plain())
		g.Open()
		start := time.Now()
		_, err := resilience.Do(t.Context(), g, resilience.Call{Safety: resilience.ReadOnly}, yes)
		wantReason(t, err, resilience.CircuitOpen)
		if time.Since(start) != 0 {
			t.Errorf("took %s", time.Since(start))
		}
	})

	trap(t, "M1, O1 events race and overtake each other", nil, func(t *testing.T) {
		// Races and overtaking of the stock breaker depend on the scheduler; what is shown is that ours arrive in order, one at a
		// time, each where the one before ended, whatever many goroutines do to the circuit.
		var last resilience.State
		var running atomic.Int32
		n := 0
		g := newGuard(t, breakerOnly(func(b *resilience.CircuitBreakerConfig) { b.FailureThreshold, b.SuccessThreshold = 1, 1 }), resilience.Options{
			Events: resilience.Events{StateChange: func(ev resilience.StateChange) {
				if running.Add(1) != 1 {
					t.Error("two events at once")
				}
				defer running.Add(-1)
				if ev.From != last {
					t.Errorf("event %d goes from %s, the one before to %s", n, ev.From, last)
				}
				last = ev.To
				n++
			}},
		})
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for j := range 200 {
					err := error(failed)
					if (i+j)%2 == 0 {
						err = nil
					}
					_ = try(t.Context(), g, resilience.Call{}, err)
					g.ProbeNow()
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		if last != g.State() || n < 100 {
			t.Errorf("%d events, the last to %s; state %s", n, last, g.State())
		}
	})
}

func TestTrapsOfTheBulkhead(t *testing.T) {
	trap(t, "B13 a panic keeps its slot", func(t *testing.T) {
		bh := bulkhead.New[any](1)
		swallow(func() { _ = failsafe.With[any](bh).Run(func() error { panic("x") }) })
		if err := failsafe.With[any](bh).Run(func() error { return nil }); !errors.Is(err, bulkhead.ErrFull) {
			t.Errorf("err = %v", err)
		}
	}, func(t *testing.T) {
		g := newGuard(t, bulkheadOnly(1, 0, 0))
		for range 3 {
			_, err := resilience.Do(t.Context(), g, resilience.Call{}, func(context.Context) (int, error) { panic("x") })
			wantReason(t, err, resilience.Panicked)
		}
		if err := try(t.Context(), g, resilience.Call{}, nil); err != nil {
			t.Error(err)
		}
	})
	trap(t, "B14 the queue has no end", func(t *testing.T) {
		bh := bulkhead.NewBuilder[any](1).WithMaxWaitTime(time.Hour).Build()
		bh.TryAcquirePermit()
		var waiting atomic.Int32
		for range 10_000 {
			go func() {
				waiting.Add(1)
				if bh.AcquirePermitWithMaxWait(t.Context(), time.Hour) == nil {
					bh.ReleasePermit()
				}
			}()
		}
		synctest.Wait()
		if waiting.Load() != 10_000 {
			t.Errorf("%d wait", waiting.Load())
		}
		bh.ReleasePermit()
	}, func(t *testing.T) {
		g := newGuard(t, bulkheadOnly(1, 10, time.Hour))
		release := make(chan struct{})
		var full atomic.Int32
		var wg sync.WaitGroup
		for range 10_000 {
			wg.Go(func() {
				_, err := resilience.Do(t.Context(), g, resilience.Call{}, func(context.Context) (int, error) { <-release; return 1, nil })
				if reason(t, err) == resilience.BulkheadFull {
					full.Add(1)
				}
			})
		}
		synctest.Wait()
		close(release)
		wg.Wait()
		if full.Load() != 10_000-11 {
			t.Errorf("%d refused", full.Load())
		}
	})
}

func TestTrapsOfTimeouts(t *testing.T) {
	trap(t, "T1 a timeout waits for a function that does not listen", func(t *testing.T) {
		start := time.Now()
		_ = failsafe.With[any](timeout.New[any](second)).Run(func() error { time.Sleep(30 * second); return nil })
		if time.Since(start) != 30*second {
			t.Errorf("took %s", time.Since(start))
		}
	}, func(t *testing.T) {
		cfg := only(func(c *resilience.Config) { c.Timeouts.Attempt = second })
		g := newGuard(t, cfg, resilience.Options{Detach: true})
		start := time.Now()
		_, err := resilience.Do(t.Context(), g, resilience.Call{}, func(context.Context) (int, error) { time.Sleep(30 * second); return 1, nil })
		wantReason(t, err, resilience.AttemptTimeout)
		if time.Since(start) != second {
			t.Errorf("took %s", time.Since(start))
		}
		_ = g.Wait(t.Context())
	})
	trap(t, "T2 the context has no deadline and says cancelled", func(t *testing.T) {
		err := failsafe.With[any](timeout.New[any](second)).RunWithExecution(func(e failsafe.Execution[any]) error {
			if _, ok := e.Context().Deadline(); ok {
				t.Error("it has a deadline")
			}
			<-e.Canceled()
			if !errors.Is(e.Context().Err(), context.Canceled) {
				t.Errorf("err = %v", e.Context().Err())
			}
			return e.Context().Err()
		})
		if errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v", err)
		}
	}, func(t *testing.T) {
		g := newGuard(t, only(func(c *resilience.Config) { c.Timeouts.Attempt = second }))
		_, err := resilience.Do(t.Context(), g, resilience.Call{}, func(ctx context.Context) (int, error) {
			if d, ok := ctx.Deadline(); !ok || time.Until(d) != second {
				t.Errorf("deadline in %s, %v", time.Until(d), ok)
			}
			child, cancel := context.WithCancel(ctx)
			defer cancel()
			<-child.Done()
			if cause, ok := errors.AsType[*resilience.TimeoutError](context.Cause(child)); !ok || cause.Limit != second {
				t.Errorf("cause of a derived context = %v", context.Cause(child))
			}
			if ctx.Err() != context.DeadlineExceeded {
				t.Errorf("err = %v", ctx.Err())
			}
			return 0, ctx.Err()
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v", err)
		}
	})
	trap(t, "T4 after a timeout, a caller that cancels hears of the timeout", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(1500*time.Millisecond, cancel)
		ex := failsafe.With[any](retrypolicy.NewBuilder[any]().WithDelay(10*second).Build(), timeout.New[any](second))
		err := ex.WithContext(ctx).RunWithExecution(func(e failsafe.Execution[any]) error { <-e.Canceled(); return e.Context().Err() })
		if !errors.Is(err, timeout.ErrExceeded) {
			t.Errorf("err = %v", err)
		}
	}, func(t *testing.T) {
		cfg := plain()
		cfg.Timeouts.Attempt, cfg.Retry.InitialDelay = second, 10*second
		g := newGuard(t, cfg)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(1500*time.Millisecond, cancel)
		start := time.Now()
		_, err := resilience.Do(ctx, g, resilience.Call{Safety: resilience.ReadOnly}, hang)
		wantReason(t, err, resilience.Cancelled)
		if !errors.Is(err, context.Canceled) || time.Since(start) != 1500*time.Millisecond {
			t.Errorf("%v after %s", err, time.Since(start))
		}
	})
	trap(t, "T5 an answer that comes with the cancellation is lost", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		v, err := failsafe.With[string](retrypolicy.NewWithDefaults[string]()).WithContext(ctx).Get(func() (string, error) { cancel(); return "answer", nil })
		if v != "" || err == nil {
			t.Errorf("got %q, %v", v, err)
		}
	}, func(t *testing.T) {
		cfg := plain()
		cfg.Hedge = resilience.HedgeConfig{Enabled: true, Delay: "1s", Max: 1}
		g := newGuard(t, cfg)
		for _, safety := range []resilience.Safety{resilience.Unsafe, resilience.ReadOnly} {
			ctx, cancel := context.WithCancel(t.Context())
			n := 0
			v, err := resilience.Do(ctx, g, resilience.Call{Safety: safety}, func(context.Context) (string, error) {
				if n++; n == 1 {
					return "", unsent // so that failsafe-go's loop is in charge
				}
				cancel()
				return "answer", nil
			})
			if v != "answer" || err != nil {
				t.Errorf("%s: got %q, %v", safety, v, err)
			}
		}
	})
}

func TestTrapsOfRetry(t *testing.T) {
	trap(t, "R1 no attempts are endless attempts", func(t *testing.T) {
		n := 0
		_ = failsafe.With[any](retrypolicy.NewBuilder[any]().WithMaxAttempts(0).Build()).Run(func() error {
			if n++; n > 5000 {
				return nil
			}
			return errBoom
		})
		if n != 5001 {
			t.Errorf("%d attempts", n)
		}
	}, func(t *testing.T) {
		cfg := plain()
		cfg.Retry.MaxAttempts = 0
		if _, err := resilience.NewGuard("x", cfg, resilience.Options{}); err == nil || !strings.Contains(err.Error(), "retry.max_attempts: must be at least 1, found 0") {
			t.Errorf("err = %v", err)
		}
	})
	delays := func(t *testing.T, b retrypolicy.Builder[any]) (all []time.Duration) {
		t.Helper()
		_ = failsafe.With[any](b.OnRetryScheduled(func(e failsafe.ExecutionScheduledEvent[any]) { all = append(all, e.Delay) }).Build()).Run(func() error { return errBoom })
		return all
	}
	trap(t, "R2 a pause that was asked for is cut short", func(t *testing.T) {
		b := retrypolicy.NewBuilder[any]().WithMaxAttempts(2).WithMaxDuration(second).WithDelayFunc(func(failsafe.ExecutionAttempt[any]) time.Duration { return time.Hour })
		if d := delays(t, b); d[0] > second {
			t.Errorf("delays = %v", d)
		}
	}, func(t *testing.T) {
		asked := &fail{unwanted.Outcome}
		asked.RetryAfter = time.Hour
		g := newGuard(t, plain())
		start, n := time.Now(), 0
		_, err := resilience.Do(t.Context(), g, resilience.Call{}, func(context.Context) (int, error) { n++; return 0, asked })
		if e := wantReason(t, err, resilience.RetryAfterLong); n != 1 || time.Since(start) != 0 || e.RetryAfter != time.Hour {
			t.Errorf("%d attempts, %#v", n, e)
		}
		asked.RetryAfter = 5 * second
		cfg := plain()
		cfg.Retry.Jitter = 1
		g = newGuard(t, cfg)
		for range 20 {
			var at []time.Time
			_, _ = resilience.Do(t.Context(), g, resilience.Call{}, func(context.Context) (int, error) {
				at = append(at, time.Now())
				return 0, asked
			})
			for i := 1; i < len(at); i++ {
				if gap := at[i].Sub(at[i-1]); gap < 5*second {
					t.Errorf("came back after %s, asked for 5 s", gap)
				}
			}
		}
	})
	trap(t, "R3 variation goes beyond the longest pause", func(t *testing.T) {
		var most time.Duration
		for range 200 {
			for _, d := range delays(t, retrypolicy.NewBuilder[any]().WithMaxAttempts(2).WithBackoff(second, second+1).WithJitterFactor(0.25)) {
				most = max(most, d)
			}
		}
		if most <= second+1 {
			t.Errorf("longest pause %s", most)
		}
	}, func(t *testing.T) {
		var l listen
		cfg := only(func(c *resilience.Config) { c.Retry.Enabled = true })
		cfg.Retry.InitialDelay, cfg.Retry.MaxDelay, cfg.Retry.Jitter, cfg.Retry.Budget = second, second, 0.25, resilience.BudgetConfig{}
		g := newGuard(t, cfg, resilience.Options{Events: l.events()})
		for range 200 {
			_ = try(t.Context(), g, resilience.Call{Safety: resilience.ReadOnly}, lost)
		}
		least := time.Hour
		for _, r := range l.retries {
			least = min(least, r.Delay)
			if r.Delay > second {
				t.Fatalf("pause %s", r.Delay)
			}
		}
		if least > 800*time.Millisecond || least < 750*time.Millisecond {
			t.Errorf("shortest pause %s, want near 750 ms", least)
		}
	})
	trap(t, "R4 the error prints the last result", func(t *testing.T) {
		rp := retrypolicy.NewBuilder[string]().HandleIf(func(string, error) bool { return true }).Build()
		_, err := failsafe.With[string](rp).Get(func() (string, error) { return "SECRET", nil })
		if !strings.Contains(err.Error(), "SECRET") {
			t.Errorf("err = %v", err)
		}
	}, func(t *testing.T) {
		g := newGuard(t, plain())
		_, err := resilience.Do(t.Context(), g, resilience.Call{Safety: resilience.ReadOnly}, func(context.Context) (string, error) { return "SECRET", lost })
		if err == nil || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("err = %v", err)
		}
	})
	trap(t, "G1 the budget does not bound instant failures", func(t *testing.T) {
		n := 0
		ex := failsafe.With[any](retrypolicy.NewBuilder[any]().WithMaxAttempts(3).WithBudget(budget.NewBuilder().WithMaxRate(.1).WithMinConcurrency(1).Build()).Build())
		for range 1000 {
			_ = ex.Run(func() error { n++; return errBoom })
		}
		if n < 2500 {
			t.Errorf("%d attempts for 1000 calls", n)
		}
	}, func(t *testing.T) {
		cfg := only(func(c *resilience.Config) { c.Retry.Enabled = true })
		cfg.Retry.InitialDelay, cfg.Retry.MaxDelay = 0, 0
		g := newGuard(t, cfg)
		n := 0
		for range 1000 {
			_, _ = resilience.Do(t.Context(), g, resilience.Call{Safety: resilience.ReadOnly}, func(context.Context) (int, error) { n++; return 0, lost })
		}
		if n > 1210 {
			t.Errorf("%d attempts for 1000 calls", n)
		}
	})
	trap(t, "G2 a spent budget hides the error", func(t *testing.T) {
		b := budget.NewBuilder().WithMaxRate(0).WithMinConcurrency(0).Build()
		ex := failsafe.With[any](retrypolicy.NewBuilder[any]().WithBudget(b).ReturnLastFailure().Build())
		n := 0
		go func() {
			_ = ex.Run(func() error {
				if n++; n == 2 {
					time.Sleep(second)
				}
				return errBoom
			})
		}()
		synctest.Wait()
		if err := ex.Run(func() error { return errBoom }); !errors.Is(err, budget.ErrExceeded) || errors.Is(err, errBoom) {
			t.Errorf("err = %v", err)
		}
		time.Sleep(2 * second)
	}, func(t *testing.T) {
		cfg := plain()
		cfg.Retry.Budget = resilience.BudgetConfig{Burst: 1}
		g := newGuard(t, cfg)
		for range 2 {
			err := try(t.Context(), g, resilience.Call{Safety: resilience.ReadOnly}, lost)
			if e := wantReason(t, err, resilience.RetryBudget); !errors.Is(err, lost) || e.Class != "connection" {
				t.Errorf("err = %#v", e)
			}
		}
	})
}

func TestTrapsOfTheHedge(t *testing.T) {
	t.Run("H1 a panic ends the process", func(t *testing.T) {
		if os.Getenv("RESILIENCE_TEST_PANIC") == "1" {
			defer func() { _ = recover() }()
			_ = failsafe.With[any](hedgepolicy.NewWithDelay[any](second)).Run(func() error { panic("x") })
			return
		}
		t.Run("stock", func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTrapsOfTheHedge$/^H1")
			cmd.Env = append(os.Environ(), "RESILIENCE_TEST_PANIC=1")
			if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "panic: x") {
				t.Errorf("err = %v\n%s", err, out)
			}
		})
		t.Run("ours", func(t *testing.T) {
			g := newGuard(t, hedged("1s", 1))
			_, err := resilience.Do(t.Context(), g, resilience.Call{Safety: resilience.ReadOnly}, func(context.Context) (int, error) { panic("x") })
			wantReason(t, err, resilience.Panicked)
		})
	})
	trap(t, "H2 losers open the circuit although every call succeeds", func(t *testing.T) {
		cb := circuitbreaker.NewBuilder[any]().WithFailureThresholdRatio(5, 10).Build()
		ex := failsafe.With[any](hedgepolicy.NewWithDelay[any](second), cb)
		for range 12 {
			_ = ex.RunWithExecution(func(e failsafe.Execution[any]) error {
				if e.IsHedge() {
					return nil
				}
				<-e.Canceled()
				return e.Context().Err()
			})
			synctest.Wait()
		}
		if !cb.IsOpen() {
			t.Errorf("state = %v", cb.State())
		}
	}, func(t *testing.T) {
		cfg := hedged("1s", 1)
		cfg.CircuitBreaker, cfg.Retry.Budget = plain().CircuitBreaker, resilience.BudgetConfig{}
		g := newGuard(t, cfg)
		for range 50 {
			var n atomic.Int32
			_, err := resilience.Do(t.Context(), g, resilience.Call{Safety: resilience.ReadOnly}, func(ctx context.Context) (int, error) {
				if n.Add(1) == 1 {
					return hang(ctx)
				}
				return 1, nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		_ = g.Wait(t.Context())
		if s := circuitOf(g); s.State != "closed" || s.Totals.Failures != 0 || s.Totals.Ignored != 50 {
			t.Errorf("%s %+v", s.State, s.Totals)
		}
	})
	trap(t, "H3 the caller's deadline waits for the function", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), second)
		defer cancel()
		start := time.Now()
		_ = failsafe.With[any](hedgepolicy.NewWithDelay[any](time.Hour)).WithContext(ctx).Run(func() error { time.Sleep(30 * second); return nil })
		if time.Since(start) != 30*second {
			t.Errorf("took %s", time.Since(start))
		}
	}, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), second)
		defer cancel()
		g := newGuard(t, hedged("1h", 1), resilience.Options{Detach: true})
		start := time.Now()
		_, err := resilience.Do(ctx, g, resilience.Call{Safety: resilience.ReadOnly}, func(context.Context) (int, error) { time.Sleep(30 * second); return 1, nil })
		wantReason(t, err, resilience.Cancelled)
		if time.Since(start) != second {
			t.Errorf("took %s", time.Since(start))
		}
		_ = g.Wait(t.Context())
	})
	trap(t, "H4 losers pile up without bound", nil, func(t *testing.T) {
		cfg := hedged("1s", 1)
		cfg.Bulkhead = resilience.BulkheadConfig{Enabled: true, MaxConcurrent: 4, Timeout: second}
		cfg.Retry.Budget = resilience.BudgetConfig{}
		g := newGuard(t, cfg, resilience.Options{Detach: true})
		release := make(chan struct{})
		var hung atomic.Int32
		for range 50 {
			_, _ = resilience.Do(t.Context(), g, resilience.Call{Safety: resilience.ReadOnly}, func(context.Context) (int, error) { hung.Add(1); <-release; return 1, nil })
		}
		if s := circuitOf(g); hung.Load() != 4 || s.Abandoned != 4 || s.Bulkhead.InFlight != 4 {
			t.Errorf("%d hang, %d abandoned, %+v", hung.Load(), s.Abandoned, s.Bulkhead)
		}
		close(release)
		if err := g.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
	trap(t, "H5 a quick failure sits out the delay and is then repeated", func(t *testing.T) {
		n := 0
		start := time.Now()
		hp := hedgepolicy.NewBuilderWithDelay[any](second).CancelIf(func(_ any, err error) bool { return err == nil }).Build()
		_ = failsafe.With[any](hp).Run(func() error { n++; return errBoom })
		if n != 2 || time.Since(start) != second {
			t.Errorf("%d attempts in %s", n, time.Since(start))
		}
	}, func(t *testing.T) {
		g := newGuard(t, hedged("1s", 1))
		n := 0
		start := time.Now()
		_, _ = resilience.Do(t.Context(), g, resilience.Call{Safety: resilience.ReadOnly}, func(context.Context) (int, error) { n++; return 0, errArg })
		if n != 1 || time.Since(start) != 0 {
			t.Errorf("%d attempts in %s", n, time.Since(start))
		}
	})
}

func TestTrapsOfTheRest(t *testing.T) {
	trap(t, "L1 callers that left keep their place in the rate limit", func(t *testing.T) {
		rl := ratelimiter.NewBursty[any](1, time.Hour)
		rl.TryAcquirePermit()
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), second)
			_ = rl.AcquirePermitWithMaxWait(ctx, 5*time.Hour)
			cancel()
		}
		if d := rl.ReservePermit(); d < 3*time.Hour {
			t.Errorf("wait %s", d)
		}
	}, func(t *testing.T) {
		g := newGuard(t, rateOnly(1, time.Hour, 1, 5*time.Hour))
		_ = try(t.Context(), g, resilience.Call{}, nil)
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), second)
			_, err := resilience.Do(ctx, g, resilience.Call{}, yes)
			if err == nil {
				t.Error("passed")
			}
			cancel()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
		defer cancel()
		cfg := rateOnly(1, time.Hour, 1, 5*time.Hour)
		cfg.Timeouts = resilience.TimeoutsConfig{}
		_ = g.Reconfigure(cfg)
		start := time.Now()
		if _, err := resilience.Do(ctx, g, resilience.Call{}, yes); err != nil || time.Since(start) > time.Hour {
			t.Errorf("%v after %s", err, time.Since(start))
		}
	})
	trap(t, "L1 rate limits either allow no burst or twice the rate", func(t *testing.T) {
		rl := ratelimiter.NewBursty[any](10, second)
		time.Sleep(900 * time.Millisecond)
		n := 0
		for range 2 {
			for rl.TryAcquirePermit() {
				n++
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n != 20 {
			t.Errorf("%d within 100 ms", n)
		}
	}, func(t *testing.T) {
		g := newGuard(t, rateOnly(10, second, 10, 0))
		time.Sleep(900 * time.Millisecond)
		n := 0
		for range 2 {
			for try(t.Context(), g, resilience.Call{}, nil) == nil {
				n++
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n != 11 {
			t.Errorf("%d within 100 ms, want the burst of 10 and 1 more", n)
		}
	})
	trap(t, "F1 a fallback takes as long as it likes", func(t *testing.T) {
		fb := fallback.NewWithFunc(func(failsafe.Execution[string]) (string, error) { time.Sleep(time.Hour); return "late", nil })
		start := time.Now()
		_, _ = failsafe.With[string](fb, timeout.New[string](second)).Get(func() (string, error) { return "", errBoom })
		if time.Since(start) != time.Hour {
			t.Errorf("took %s", time.Since(start))
		}
	}, func(t *testing.T) {
		g := newGuard(t, plain())
		start := time.Now()
		_, err := resilience.Do(t.Context(), g, resilience.Call{}, func(context.Context) (int, error) { return 0, refused429() },
			resilience.Fallback[int]{Name: "slow", Timeout: 2 * second, Func: func(ctx context.Context, _ error) (int, error) { return hang(ctx) }})
		if err == nil || time.Since(start) != 2*second {
			t.Errorf("%v after %s", err, time.Since(start))
		}
	})
	trap(t, "E1 an executor changes when it is composed", func(t *testing.T) {
		base := failsafe.With[any]()
		n := 0
		for range 3 {
			base.Compose(fallback.NewWithFunc(func(failsafe.Execution[any]) (any, error) { n++; return nil, errBoom }))
		}
		_ = base.Run(func() error { return errBoom })
		if n != 3 {
			t.Errorf("%d policies", n)
		}
	}, func(t *testing.T) {
		g := newGuard(t, plain())
		n := 0
		for range 3 {
			n = 0
			_, _ = resilience.Do(t.Context(), g, resilience.Call{}, func(context.Context) (int, error) { return 0, refused429() },
				resilience.Fallback[int]{Name: "count", Func: func(context.Context, error) (int, error) { n++; return 0, errBoom }})
		}
		if n != 1 {
			t.Errorf("%d fallbacks ran for one call", n)
		}
	})
}

// refused429 is a "too many requests" that is not worth waiting for.
func refused429() error {
	f := &fail{unwanted.Outcome}
	f.RetryAfter = time.Hour
	return f
}
