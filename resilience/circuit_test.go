package resilience_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/resilience"
)

func breakerOnly(set ...func(*resilience.CircuitBreakerConfig)) resilience.Config {
	return only(func(c *resilience.Config) {
		c.CircuitBreaker.Enabled = true
		c.CircuitBreaker.FailureRateThreshold = 0
		for _, f := range set {
			f(&c.CircuitBreaker)
		}
	})
}

// trip makes the circuit of g open by failures.
func trip(t *testing.T, g *resilience.Guard) {
	t.Helper()
	for range 10 {
		if g.State() == resilience.StateOpen {
			return
		}
		_ = try(t.Context(), g, resilience.Call{}, failed)
	}
	t.Fatal("ten failures did not open the circuit")
}

// The life of a circuit as all the guides tell it: five failures in a row open it, after a minute trials pass, two successes close it.
func TestCircuitLifecycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l listen
		g := newGuard(t, breakerOnly(), resilience.Options{Events: l.events()})
		ctx := t.Context()
		for range 4 {
			_ = try(ctx, g, resilience.Call{}, failed)
		}
		_ = try(ctx, g, resilience.Call{}, nil) // breaks the run
		for range 5 {
			wantState(t, g, resilience.StateClosed)
			_ = try(ctx, g, resilience.Call{}, failed)
		}
		wantState(t, g, resilience.StateOpen)
		opened := time.Now()

		time.Sleep(20 * second)
		e := wantReason(t, try(ctx, g, resilience.Call{}, nil), resilience.CircuitOpen)
		if e.RetryAfter != 40*second || e.Executed != resilience.ExecutedNo || e.Attempts != 0 || !errors.Is(e, resilience.ErrOpen) || e.Circuit != "pfsense" {
			t.Errorf("refusal = %+v", e)
		}
		s := circuitOf(g)
		if s.State != "open" || s.RetryAfterMS != 40_000 || s.OpenedAt == nil || !s.OpenedAt.Equal(opened) || s.ConsecutiveFailures != 5 ||
			s.Rejected != 1 || s.ConsecutiveOpens != 1 || *s.LastFailureType != "500" || !s.NextAttemptAt.Equal(opened.Add(60*second)) {
			t.Errorf("snapshot while open = %+v", s)
		}

		time.Sleep(40 * second)
		wantState(t, g, resilience.StateHalfOpen)
		_ = try(ctx, g, resilience.Call{}, nil)
		wantState(t, g, resilience.StateHalfOpen)
		if h := circuitOf(g).HalfOpen; h == nil || *h != (resilience.HalfOpenStatus{MaxCalls: 3, Available: 3, Successes: 1, Required: 2}) {
			t.Errorf("half_open = %+v", h)
		}
		_ = try(ctx, g, resilience.Call{}, nil)
		wantState(t, g, resilience.StateClosed)
		s = circuitOf(g)
		if s.OpenedAt != nil || s.NextAttemptAt != nil || s.ConsecutiveOpens != 0 || s.Totals.Opens != 1 || s.HalfOpen != nil {
			t.Errorf("snapshot after closing = %+v", s)
		}
		want := []resilience.StateChange{
			{Circuit: "pfsense", From: resilience.StateClosed, To: resilience.StateOpen, At: opened, Reason: "consecutive failures", Failures: 5, RetryAfter: 60 * second},
			{Circuit: "pfsense", From: resilience.StateOpen, To: resilience.StateHalfOpen, At: opened.Add(60 * second), Reason: "open timeout elapsed", Failures: 5},
			{Circuit: "pfsense", From: resilience.StateHalfOpen, To: resilience.StateClosed, At: opened.Add(60 * second), Reason: "trial calls succeeded", Outage: 60 * second},
		}
		if diff := cmp.Diff(want, l.changes); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

func TestAnyFailedTrialOpensAgainForLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, breakerOnly(func(b *resilience.CircuitBreakerConfig) { b.MaxTimeout = 4 * time.Minute }))
		trip(t, g)
		began := *circuitOf(g).OpenedAt
		for _, wait := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 4 * time.Minute} {
			if got := time.Duration(circuitOf(g).RetryAfterMS) * time.Millisecond; got != wait {
				t.Errorf("open for %s, want %s", got, wait)
			}
			time.Sleep(wait)
			_ = try(t.Context(), g, resilience.Call{}, nil) // one of two
			_ = try(t.Context(), g, resilience.Call{}, failed)
			wantState(t, g, resilience.StateOpen)
			if at := *circuitOf(g).OpenedAt; !at.Equal(began) {
				t.Errorf("opened_at moved from %s to %s", began, at)
			}
		}
		time.Sleep(4 * time.Minute)
		_ = try(t.Context(), g, resilience.Call{}, nil)
		_ = try(t.Context(), g, resilience.Call{}, nil)
		wantState(t, g, resilience.StateClosed)
		trip(t, g)
		if got := circuitOf(g).RetryAfterMS; got != 60_000 {
			t.Errorf("open for %d ms after closing, want the first open time again", got)
		}
	})
}

// Trials at the same time are one number, successes that close another: neither follows from the other.
func TestTrialsAreSeparateFromSuccesses(t *testing.T) {
	tests := []struct{ calls, successes int }{{1, 2}, {3, 2}, {2, 5}}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			g := newGuard(t, breakerOnly(func(b *resilience.CircuitBreakerConfig) {
				b.HalfOpenMaxCalls, b.SuccessThreshold = tt.calls, tt.successes
			}))
			trip(t, g)
			time.Sleep(time.Minute)
			release := make(chan struct{})
			var wg sync.WaitGroup
			for range tt.calls {
				wg.Go(func() {
					_, _ = resilience.Do(t.Context(), g, resilience.Call{}, func(context.Context) (int, error) { <-release; return 1, nil })
				})
			}
			synctest.Wait()
			e := wantReason(t, try(t.Context(), g, resilience.Call{}, nil), resilience.HalfOpenLimit)
			if e.Class != resilience.ClassCircuitOpen || e.RetryAfter <= 0 {
				t.Errorf("refusal beyond the limit = %+v", e)
			}
			close(release)
			wg.Wait()
			for n := tt.calls; n < tt.successes; n++ {
				wantState(t, g, resilience.StateHalfOpen)
				if err := try(t.Context(), g, resilience.Call{}, nil); err != nil {
					t.Fatal(err)
				}
			}
			wantState(t, g, resilience.StateClosed)
		})
	}
}

func TestFailureRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, breakerOnly(func(b *resilience.CircuitBreakerConfig) { b.FailureThreshold, b.FailureRateThreshold = 0, 0.5 }))
		for range 9 {
			_ = try(t.Context(), g, resilience.Call{}, failed)
		}
		wantState(t, g, resilience.StateClosed) // minimum_calls
		time.Sleep(61 * second)
		if s := circuitOf(g); s.Failures != 0 || s.FailureRate != 0 {
			t.Errorf("a window later: failures %d, rate %g", s.Failures, s.FailureRate)
		}
		for range 6 {
			_ = try(t.Context(), g, resilience.Call{}, nil)
		}
		for range 5 {
			_ = try(t.Context(), g, resilience.Call{}, failed)
			wantState(t, g, resilience.StateClosed) // 5 of 11 is less than half
		}
		_ = try(t.Context(), g, resilience.Call{}, failed) // 6 of 12
		wantState(t, g, resilience.StateOpen)
	})
}

func TestSlowCalls(t *testing.T) {
	slow := func(ctx context.Context, g *resilience.Guard, d time.Duration) {
		_, _ = resilience.Do(ctx, g, resilience.Call{}, func(context.Context) (int, error) { time.Sleep(d); return 1, nil })
	}
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, breakerOnly(func(b *resilience.CircuitBreakerConfig) {
			b.SlowCallDuration, b.SlowCallRateThreshold, b.MinimumCalls = 2*second, 0.8, 5
		}))
		for range 3 {
			slow(t.Context(), g, 2*second)
		}
		slow(t.Context(), g, 1999*time.Millisecond)
		wantState(t, g, resilience.StateClosed)
		slow(t.Context(), g, 3*second) // 4 of 5
		wantState(t, g, resilience.StateOpen)
		if s := circuitOf(g); s.Totals.Slow != 4 || s.Totals.Failures != 0 {
			t.Errorf("totals = %+v", s.Totals)
		}
		time.Sleep(time.Minute)
		slow(t.Context(), g, 3*second) // a slow trial is no recovery
		wantState(t, g, resilience.StateOpen)
	})
}

func TestTrialThatNeverEndsDoesNotWedge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := breakerOnly()
		cfg.Timeouts.Attempt, cfg.Timeouts.Overall = time.Hour, time.Hour
		g := newGuard(t, cfg)
		trip(t, g)
		time.Sleep(time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { _, _ = resilience.Do(ctx, g, resilience.Call{}, hang) })
		}
		synctest.Wait()
		wantState(t, g, resilience.StateHalfOpen)
		time.Sleep(29 * second)
		wantState(t, g, resilience.StateHalfOpen)
		time.Sleep(1 * second)
		wantState(t, g, resilience.StateOpen)
		time.Sleep(2 * time.Minute)
		_ = try(t.Context(), g, resilience.Call{}, nil)
		_ = try(t.Context(), g, resilience.Call{}, nil)
		wantState(t, g, resilience.StateClosed)
		cancel()
		wg.Wait()
		wantState(t, g, resilience.StateClosed)
	})
}

// The half-open timeout is for trials, not for a circuit that nobody happens to call.
func TestIdleHalfOpenStaysHalfOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, breakerOnly())
		trip(t, g)
		time.Sleep(time.Hour)
		_ = try(t.Context(), g, resilience.Call{}, nil)
		time.Sleep(time.Hour)
		wantState(t, g, resilience.StateHalfOpen)
		_ = try(t.Context(), g, resilience.Call{}, nil)
		wantState(t, g, resilience.StateClosed)
	})
}

func TestRetryAfterLengthensOpenTime(t *testing.T) {
	tests := []struct{ asked, want time.Duration }{{30 * second, time.Minute}, {90 * second, 90 * second}, {24 * time.Hour, 2 * time.Minute}}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			g := newGuard(t, breakerOnly(func(b *resilience.CircuitBreakerConfig) { b.FailureThreshold = 1 }))
			err := &fail{failed.Outcome}
			err.RetryAfter = tt.asked
			_ = try(t.Context(), g, resilience.Call{}, err)
			if got := time.Duration(circuitOf(g).RetryAfterMS) * time.Millisecond; got != tt.want {
				t.Errorf("asked for %s: open for %s, want %s", tt.asked, got, tt.want)
			}
		})
	}
}

func TestOpenTimeJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, breakerOnly(func(b *resilience.CircuitBreakerConfig) { b.Jitter = 0.1 }))
		seen := map[int64]bool{}
		for range 50 {
			g.Open()
			ms := circuitOf(g).RetryAfterMS
			seen[ms] = true
			if ms < 54_000 || ms > 66_000 {
				t.Fatalf("open for %d ms, want 60 s ± 10 %%", ms)
			}
		}
		if len(seen) < 10 {
			t.Errorf("only %d different open times", len(seen))
		}
	})
}

// Fifty calls under way when a process dies are one failure.
func TestIncidentCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, breakerOnly())
		session := new(int)
		err := &fail{lost.Outcome}
		err.Incident = session
		for range 10 {
			_ = try(t.Context(), g, resilience.Call{}, err)
		}
		if s := circuitOf(g); s.State != "closed" || s.Totals.Failures != 1 || s.Totals.Ignored != 9 {
			t.Errorf("%s, %+v", s.State, s.Totals)
		}
		for range 4 { // four more sessions that die are four more
			err := &fail{lost.Outcome}
			err.Incident = new(int)
			_ = try(t.Context(), g, resilience.Call{}, err)
		}
		wantState(t, g, resilience.StateOpen)
	})
}

func TestExcludedErrorsAndRateLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tooMany := &fail{unwanted.Outcome}
		cfg := breakerOnly(func(b *resilience.CircuitBreakerConfig) { b.ExcludedErrors = append(b.ExcludedErrors, "500") })
		g := newGuard(t, cfg)
		for range 10 {
			_ = try(t.Context(), g, resilience.Call{}, failed) // excluded by its class
			_ = try(t.Context(), g, resilience.Call{}, tooMany)
		}
		if s := circuitOf(g); s.State != "closed" || s.Totals.Ignored != 20 {
			t.Errorf("%s, %+v", s.State, s.Totals)
		}
		cfg.CircuitBreaker.CountRateLimited = true
		if err := g.Reconfigure(cfg); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			_ = try(t.Context(), g, resilience.Call{}, tooMany)
		}
		wantState(t, g, resilience.StateOpen)
	})
}

func TestControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, breakerOnly())
		g.Isolate()
		time.Sleep(24 * time.Hour)
		e := wantReason(t, try(t.Context(), g, resilience.Call{}, nil), resilience.Isolated)
		if e.RetryAfter != 0 || !errors.Is(e, resilience.ErrOpen) {
			t.Errorf("refusal = %+v", e)
		}
		g.ProbeNow() // does not end an isolation
		wantState(t, g, resilience.StateIsolated)
		g.Close()
		if err := try(t.Context(), g, resilience.Call{}, nil); err != nil {
			t.Fatal(err)
		}
		g.Disable()
		for range 50 {
			_ = try(t.Context(), g, resilience.Call{}, failed)
		}
		if s := circuitOf(g); s.State != "disabled" || s.Totals.Failures != 50 {
			t.Errorf("disabled: %s %+v", s.State, s.Totals)
		}
		g.Reset()
		if s := circuitOf(g); s.State != "closed" || s.Totals != (resilience.Totals{}) || s.LastFailure != nil {
			t.Errorf("after reset: %+v", s)
		}
		g.Open()
		time.Sleep(30 * second)
		g.Open() // begins anew
		if ms := circuitOf(g).RetryAfterMS; ms != 60_000 {
			t.Errorf("opened again: %d ms left", ms)
		}
		g.ProbeNow()
		if err := try(t.Context(), g, resilience.Call{}, nil); err != nil {
			t.Errorf("trial after ProbeNow: %v", err)
		}
		if err := g.Control("nosuch", resilience.ActionOpen); !errors.Is(err, resilience.ErrNoCircuit) {
			t.Errorf("unknown circuit: %v", err)
		}
		if err := g.Control("", "explode"); err == nil {
			t.Error("an unknown action was accepted")
		}
	})
}

func TestProbe(t *testing.T) {
	up := func(context.Context) error { return nil }
	down := func(context.Context) error { return unsent }
	synctest.Test(t, func(t *testing.T) {
		var l listen
		g := newGuard(t, breakerOnly(), resilience.Options{Events: l.events()})
		trip(t, g)
		before := circuitOf(g)
		for range 5 {
			time.Sleep(second)
			if err := g.Probe(t.Context(), down); !errors.Is(err, unsent) {
				t.Errorf("err = %v", err)
			}
		}
		if s := circuitOf(g); s.State != "open" || !s.NextAttemptAt.Equal(*before.NextAttemptAt) || s.ConsecutiveOpens != 1 {
			t.Errorf("failed probes moved the circuit: %+v", s)
		}
		_ = g.Probe(t.Context(), up)
		wantState(t, g, resilience.StateHalfOpen)
		_ = g.Probe(t.Context(), up)
		wantState(t, g, resilience.StateClosed) // 55 s before any caller could have found out

		// A probe that hangs ends with its timeout and is a failure; five in a row open the circuit.
		for range 5 {
			_ = g.Probe(t.Context(), func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		}
		if s := circuitOf(g); s.State != "open" || *s.LastFailureType != "timeout" {
			t.Errorf("after hanging probes: %s", s.State)
		}
		if err := g.Probe(t.Context(), func(context.Context) error { panic("oops") }); err == nil {
			t.Error("a panic of the probe was lost")
		}
	})
}

func TestKeyedCircuits(t *testing.T) {
	a, b := resilience.Call{Key: "a"}, resilience.Call{Key: "b"}
	t.Run("tool", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := newGuard(t, breakerOnly(func(b *resilience.CircuitBreakerConfig) { b.Scope = "tool" }))
			for range 4 {
				_ = try(t.Context(), g, a, failed)
			}
			// The failure that opens the circuit says how long it is open.
			if e := wantReason(t, try(t.Context(), g, a, failed), resilience.Failed); e.RetryAfter != time.Minute {
				t.Errorf("err = %#v", e)
			}
			e := wantReason(t, try(t.Context(), g, a, nil), resilience.CircuitOpen)
			if e.Circuit != "pfsense/a" {
				t.Errorf("circuit = %q", e.Circuit)
			}
			if err := try(t.Context(), g, b, nil); err != nil {
				t.Errorf("the circuit of one tool refused another: %v", err)
			}
			if err := try(t.Context(), g, resilience.Call{}, nil); err != nil {
				t.Errorf("a call without a key was refused: %v", err)
			}
			if err := g.Control("a", resilience.ActionClose); err != nil {
				t.Fatal(err)
			}
			if err := try(t.Context(), g, a, nil); err != nil {
				t.Error(err)
			}
			s := g.Snapshot()
			if len(s) != 3 || s[1].Name != "pfsense/a" || *s[1].Key != "a" || s[1].Scope != "tool" || s[2].Name != "pfsense/b" {
				t.Errorf("snapshot = %+v", s)
			}
			g.Forget(func(key string) bool { return key == "b" })
			if s := g.Snapshot(); len(s) != 2 {
				t.Errorf("%d circuits after forgetting one of three", len(s))
			}
		})
	})
	t.Run("both", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := newGuard(t, breakerOnly(func(b *resilience.CircuitBreakerConfig) { b.Scope = "both" }))
			own := &fail{failed.Outcome}
			own.KeyOnly = true
			for range 5 {
				_ = try(t.Context(), g, a, own)
			}
			s := g.Snapshot()
			if s[0].State != "closed" || s[0].Totals.Successes != 5 || s[1].State != "open" {
				t.Errorf("a failure of one tool: dependency %s %+v, tool %s", s[0].State, s[0].Totals, s[1].State)
			}
			// A refusal by the tool's circuit takes nothing from the dependency's.
			wantReason(t, try(t.Context(), g, a, nil), resilience.CircuitOpen)
			if s := g.Snapshot(); s[0].Totals.Ignored != 1 || s[0].Totals.Failures != 0 {
				t.Errorf("totals = %+v", s[0].Totals)
			}
			for range 5 {
				_ = try(t.Context(), g, b, failed)
			}
			wantState(t, g, resilience.StateOpen)
		})
	})
	t.Run("own configuration", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cfg := breakerOnly(func(b *resilience.CircuitBreakerConfig) { b.Scope = "tool" })
			g := newGuard(t, cfg)
			cfg.CircuitBreaker.FailureThreshold = 2
			sub, err := g.Sub("backup", cfg)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				_ = try(t.Context(), sub, resilience.Call{}, failed)
				_ = try(t.Context(), g, a, failed)
			}
			wantState(t, sub, resilience.StateOpen)
			if s := g.Snapshot(); s[1].State != "closed" || s[2].State != "open" || s[2].Config.FailureThreshold != 2 {
				t.Errorf("snapshot = %+v", s)
			}
			sub.Reset()
			wantState(t, sub, resilience.StateClosed)
			cfg.CircuitBreaker.FailureThreshold = 1
			again, err := g.Sub("backup", cfg)
			if err != nil || again != sub {
				t.Errorf("Sub made a second Guard for the same key (err %v)", err)
			}
			_ = try(t.Context(), sub, resilience.Call{}, failed)
			wantState(t, sub, resilience.StateOpen)
		})
	})
}

// What the Guards of the tools share is configured at the dependency, whatever their own configurations say of it.
func TestSubSharesTheLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := plain()
		own.Timeouts.Attempt, own.Timeouts.Overall = 5*time.Minute, 6*time.Minute
		own.Bulkhead.MaxConcurrent = 99
		g := newGuard(t, bulkheadOnly(2, 0, 0))
		backup, err := g.Sub("backup", own)
		if err != nil {
			t.Fatal(err)
		}
		hold := func(g *resilience.Guard, d time.Duration) error {
			_, err := resilience.Do(t.Context(), g, resilience.Call{}, func(ctx context.Context) (int, error) {
				select {
				case <-time.After(d):
				case <-ctx.Done():
				}
				return 1, ctx.Err()
			})
			return err
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := hold(backup, 4*time.Minute); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() { wantReason(t, hold(g, 4*time.Minute), resilience.AttemptTimeout) })
		synctest.Wait()
		wantReason(t, hold(backup, 0), resilience.BulkheadFull)
		if err := g.Reconfigure(bulkheadOnly(3, 0, 0)); err != nil {
			t.Fatal(err)
		}
		if err := hold(backup, 0); err != nil {
			t.Error(err)
		}
		if got := backup.Config(); got.Bulkhead.MaxConcurrent != 3 || got.Timeouts.Attempt != 5*time.Minute {
			t.Errorf("configuration = %+v", got)
		}
		wg.Wait()
	})
}

// Retry attempts count one by one: it is the health of the dependency that is measured, not the luck of its users.
func TestRetriesCountForTheCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := plain()
		g := newGuard(t, cfg)
		n := 0
		for range 2 {
			_, _ = resilience.Do(t.Context(), g, resilience.Call{Safety: resilience.ReadOnly}, func(context.Context) (int, error) { n++; return 0, failed })
		}
		wantState(t, g, resilience.StateOpen)
		if n != 5 {
			t.Errorf("%d attempts, want 5: an open circuit ends the repetitions", n)
		}
	})
}

// 500 callers at the moment of recovery: no more trials than allowed, everybody answered, the circuit does not open again.
func TestHerdOnRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l listen
		cfg := plain()
		cfg.Bulkhead.MaxQueued = 1000
		g := newGuard(t, cfg, resilience.Options{Events: l.events()})
		trip(t, g)
		time.Sleep(time.Minute)
		var inside, most, served, turnedAway atomic.Int32
		var wg sync.WaitGroup
		for range 500 {
			wg.Go(func() {
				_, err := resilience.Do(t.Context(), g, resilience.Call{}, func(context.Context) (int, error) {
					n := inside.Add(1)
					defer inside.Add(-1)
					for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
					}
					time.Sleep(10 * time.Millisecond)
					return 1, nil
				})
				switch {
				case err == nil:
					served.Add(1)
				case errors.Is(err, resilience.ErrOpen):
					turnedAway.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if most.Load() > 3 || served.Load() != 3 || turnedAway.Load() != 497 {
			t.Errorf("%d at once, %d served, %d turned away", most.Load(), served.Load(), turnedAway.Load())
		}
		wantState(t, g, resilience.StateClosed)
		if opens := circuitOf(g).Totals.Opens; opens != 1 {
			t.Errorf("opened %d times", opens)
		}
	})
}
