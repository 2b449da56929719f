package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/resilience"
)

func bulkheadOnly(concurrent, queued int, wait time.Duration) resilience.Config {
	return only(func(c *resilience.Config) {
		c.Bulkhead = resilience.BulkheadConfig{Enabled: true, MaxConcurrent: concurrent, MaxQueued: queued, Timeout: wait}
	})
}

func TestBulkheadIsFirstComeFirstServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, bulkheadOnly(1, 100, time.Minute))
		var order []int
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				_, err := resilience.Do(t.Context(), g, resilience.Call{}, func(context.Context) (int, error) {
					order = append(order, i)
					time.Sleep(10 * time.Millisecond)
					return 0, nil
				})
				if err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		want := make([]int, 50)
		for i := range want {
			want[i] = i
		}
		if diff := cmp.Diff(want, order); diff != "" {
			t.Error(diff)
		}
	})
}

func TestBulkheadBoundsItsQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := bulkheadOnly(2, 5, 3*second)
		cfg.CircuitBreaker = plain().CircuitBreaker
		g := newGuard(t, cfg)
		var mu sync.Mutex
		got := map[resilience.Reason]int{}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				start := time.Now()
				_, err := resilience.Do(t.Context(), g, resilience.Call{}, func(context.Context) (int, error) { time.Sleep(5 * second); return 1, nil })
				why := reason(t, err)
				if err != nil {
					if e := wantReason(t, err, why); e.Class != "bulkhead_full" || e.Executed != resilience.ExecutedNo || e.Attempts != 0 {
						t.Errorf("err = %#v", e)
					}
				}
				if took := time.Since(start); why == resilience.BulkheadFull && took != 0 || why == resilience.QueueTimeout && took != 3*second {
					t.Errorf("%s after %s", why, took)
				}
				mu.Lock()
				got[why]++
				mu.Unlock()
			})
		}
		wg.Wait()
		if diff := cmp.Diff(map[resilience.Reason]int{"": 2, resilience.BulkheadFull: 13, resilience.QueueTimeout: 5}, got); diff != "" {
			t.Error(diff)
		}
		// Our own refusals say nothing about the dependency.
		s := circuitOf(g)
		if s.State != "closed" || s.Totals.Failures != 0 || s.Totals.Ignored != 18 {
			t.Errorf("%s %+v", s.State, s.Totals)
		}
		want := resilience.BulkheadStatus{MaxConcurrent: 2, MaxQueued: 5, RejectedFull: 13, RejectedTimeout: 5, MostInFlight: 2}
		if *s.Bulkhead != want {
			t.Errorf("bulkhead = %+v, want %+v", *s.Bulkhead, want)
		}
	})
}

func TestLeavingTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := bulkheadOnly(1, 10, time.Minute)
		cfg.Timeouts.Overall, cfg.Timeouts.Attempt = 20*second, 20*second
		g := newGuard(t, cfg)
		release := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _ = resilience.Do(t.Context(), g, resilience.Call{}, func(context.Context) (int, error) { <-release; return 1, nil })
		})
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		var reasons [3]resilience.Reason
		for i, ctx := range []context.Context{ctx, t.Context(), t.Context()} {
			wg.Go(func() { _, err := resilience.Do(ctx, g, resilience.Call{}, yes); reasons[i] = reason(t, err) })
			synctest.Wait()
		}
		cancel() // the first in the line
		synctest.Wait()
		if q := circuitOf(g).Bulkhead.Queued; q != 2 {
			t.Errorf("%d queued after one left", q)
		}
		time.Sleep(10 * second)
		close(release)
		wg.Wait()
		if want := [3]resilience.Reason{resilience.Cancelled, "", ""}; reasons != want {
			t.Errorf("reasons = %q, want %q", reasons, want)
		}
		// Waiting counts for the whole call: there are 20 s, whether in the queue or out of it.
		hold := make(chan struct{})
		wg.Go(func() {
			_, _ = resilience.Do(t.Context(), g, resilience.Call{}, func(ctx context.Context) (int, error) {
				defer resilience.Pause(ctx)()
				<-hold
				return 1, nil
			})
		})
		synctest.Wait()
		start := time.Now()
		_, err := resilience.Do(t.Context(), g, resilience.Call{}, yes)
		if e := wantReason(t, err, resilience.OverallTimeout); time.Since(start) != 20*second || e.Executed != resilience.ExecutedNo || e.Attempts != 0 {
			t.Errorf("after %s: %#v", time.Since(start), e)
		}
		close(hold)
		wg.Wait()
		if b := circuitOf(g).Bulkhead; b.InFlight != 0 || b.Queued != 0 {
			t.Errorf("bulkhead = %+v", b)
		}
	})
}

// A slot that comes at the same moment as the end of the wait is neither lost nor used twice.
func TestBulkheadUnderCancellation(t *testing.T) {
	g := newGuard(t, bulkheadOnly(3, 1000, time.Minute))
	var inside atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for range 300 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*20)*time.Microsecond)
				_, _ = resilience.Do(ctx, g, resilience.Call{}, func(ctx context.Context) (int, error) {
					if n := inside.Add(1); n > 3 {
						t.Errorf("%d inside", n)
					}
					defer inside.Add(-1)
					select {
					case <-ctx.Done():
					case <-time.After(50 * time.Microsecond):
					}
					return 0, ctx.Err()
				})
				cancel()
			}
		})
	}
	wg.Wait()
	if b := circuitOf(g).Bulkhead; b.InFlight != 0 || b.Queued != 0 || b.MostInFlight > 3 {
		t.Errorf("bulkhead = %+v", b)
	}
}

func rateOnly(requests int, per time.Duration, burst int, wait time.Duration) resilience.Config {
	return only(func(c *resilience.Config) {
		c.RateLimit = resilience.RateLimitConfig{Enabled: true, Requests: requests, Per: per, Burst: burst, MaxWait: wait}
	})
}

func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, rateOnly(2, second, 5, 0))
		served := func(n int) (ok int) {
			for range n {
				if err := try(t.Context(), g, resilience.Call{}, nil); err == nil {
					ok++
				} else if e := wantReason(t, err, resilience.RateLimited); e.RetryAfter != 500*time.Millisecond || e.Class != "rate_limited" {
					t.Errorf("err = %#v", e)
				}
			}
			return ok
		}
		if n := served(8); n != 5 {
			t.Errorf("%d of a burst of 8 passed, want 5", n)
		}
		time.Sleep(second)
		if n := served(3); n != 2 {
			t.Errorf("%d passed after one second, want 2", n)
		}
		time.Sleep(time.Hour)
		if n := served(8); n != 5 {
			t.Errorf("%d passed after an hour, want the burst of 5", n)
		}
		if r := circuitOf(g).RateLimit; r.Rejected != 7 || r.Burst != 5 {
			t.Errorf("rate limit = %+v", r)
		}
	})
}

func TestRateLimitWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, rateOnly(1, second, 1, 2*second))
		start := time.Now()
		var mu sync.Mutex
		var at []time.Duration
		refused := 0
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				_, err := resilience.Do(t.Context(), g, resilience.Call{}, func(context.Context) (int, error) {
					mu.Lock()
					defer mu.Unlock()
					at = append(at, time.Since(start))
					return 0, nil
				})
				if err != nil {
					mu.Lock()
					refused++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if diff := cmp.Diff([]time.Duration{0, second, 2 * second}, at); diff != "" || refused != 2 {
			t.Errorf("refused %d; started at (-want +got):\n%s", refused, diff)
		}
	})
}

// The dependency's own "too many requests" keeps everybody quiet for as long as it asked, where a rate limit is configured.
func TestRateLimitHearsRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := rateOnly(100, second, 100, second)
		g := newGuard(t, cfg)
		tooMany := &fail{unwanted.Outcome}
		tooMany.RetryAfter = 3 * second
		_ = try(t.Context(), g, resilience.Call{}, tooMany)
		if e := wantReason(t, try(t.Context(), g, resilience.Call{}, nil), resilience.RateLimited); e.RetryAfter != 3*second {
			t.Errorf("err = %#v", e)
		}
		if ms := circuitOf(g).RateLimit.PausedMS; ms != 3000 {
			t.Errorf("paused for %d ms", ms)
		}
		time.Sleep(2500 * time.Millisecond)
		start := time.Now()
		if err := try(t.Context(), g, resilience.Call{}, nil); err != nil || time.Since(start) != 500*time.Millisecond {
			t.Errorf("%v after %s", err, time.Since(start))
		}
	})
}

func hedged(delay string, most int) resilience.Config {
	return only(func(c *resilience.Config) { c.Hedge = resilience.HedgeConfig{Enabled: true, Delay: delay, Max: most} })
}

func TestHedge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l listen
		cfg := hedged("2s", 1)
		cfg.CircuitBreaker = plain().CircuitBreaker
		g := newGuard(t, cfg, resilience.Options{Events: l.events()})
		var n atomic.Int32
		slowFirst := func(ctx context.Context) (string, error) {
			if n.Add(1)%2 == 1 {
				_, err := hang(ctx)
				return "", err
			}
			return "second", nil
		}
		for range 5 {
			start := time.Now()
			v, err := resilience.Do(t.Context(), g, resilience.Call{Safety: resilience.ReadOnly}, slowFirst)
			if v != "second" || err != nil || time.Since(start) != 2*second {
				t.Fatalf("got %q, %v after %s", v, err, time.Since(start))
			}
		}
		if err := g.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		s := circuitOf(g)
		if s.Totals.Failures != 0 || s.Totals.Ignored != 5 || s.Totals.Successes != 5 || s.Counters.Hedges != 5 || s.Counters.HedgeWins != 5 {
			t.Errorf("losers must say nothing about the dependency: %+v %+v", s.Totals, s.Counters)
		}
		if !l.done[0].Hedged {
			t.Error("done does not say that a hedge won")
		}
		// What may change something is never asked twice.
		for _, safety := range []resilience.Safety{resilience.Unsafe, resilience.Idempotent} {
			n.Store(1)
			_, _ = resilience.Do(t.Context(), g, resilience.Call{Safety: safety}, func(context.Context) (int, error) { n.Add(1); time.Sleep(5 * second); return 1, nil })
			if n.Load() != 2 {
				t.Errorf("an %s call was made %d times", safety, n.Load()-1)
			}
		}
	})
}

// A failure that comes before the hedge is due ends the round: what to do about it is for the retry policy, not for the hedge.
func TestHedgeDoesNotRepeatFailures(t *testing.T) {
	for _, tt := range []struct {
		err    error
		failed int
	}{{errArg, 1}, {lost, 1}} {
		synctest.Test(t, func(t *testing.T) {
			g := newGuard(t, hedged("2s", 3))
			var n atomic.Int32
			start := time.Now()
			_, err := resilience.Do(t.Context(), g, resilience.Call{Safety: resilience.ReadOnly}, func(context.Context) (int, error) { n.Add(1); return 0, tt.err })
			if !errors.Is(err, tt.err) || n.Load() != 1 || time.Since(start) != 0 {
				t.Errorf("%v after %s and %d attempts", err, time.Since(start), n.Load())
			}
		})
	}
}

func TestHedgeBeatsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, hedged("2s", 1))
		var n atomic.Int32
		v, err := resilience.Do(t.Context(), g, resilience.Call{Safety: resilience.ReadOnly}, func(context.Context) (int, error) {
			if n.Add(1) == 1 {
				time.Sleep(3 * second)
				return 0, lost // while the hedge is under way
			}
			time.Sleep(3 * second)
			return 7, nil
		})
		if v != 7 || err != nil {
			t.Errorf("got %d, %v", v, err)
		}
	})
}

func TestHedgeByQuantile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, hedged("p95", 1))
		read := resilience.Call{Safety: resilience.ReadOnly}
		var n atomic.Int32
		do := func(d time.Duration, err error) time.Duration {
			n.Store(0)
			start := time.Now()
			_, _ = resilience.Do(t.Context(), g, read, func(ctx context.Context) (int, error) {
				if n.Add(1) > 1 {
					return 1, nil
				}
				select {
				case <-time.After(d):
				case <-ctx.Done():
				}
				return 0, err
			})
			return time.Since(start)
		}
		if do(10*second, nil); n.Load() != 1 {
			t.Error("hedged before anything is known about what is late")
		}
		for i := range 128 {
			do(time.Duration(i%100+1)*time.Millisecond, nil)
			do(0, lost) // instant errors do not count as quick answers
		}
		if took := do(10*second, nil); n.Load() != 2 || took < 80*time.Millisecond || took > 101*time.Millisecond {
			t.Errorf("%d attempts in %s, want a hedge after about 90 ms", n.Load(), took)
		}
	})
}

func TestHedgesSpendTheRetryBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := hedged("1s", 1)
		cfg.Retry.Budget = resilience.BudgetConfig{Ratio: 0, MinPerSecond: 0, Burst: 3}
		g := newGuard(t, cfg)
		var n atomic.Int32
		for range 10 {
			v, err := resilience.Do(t.Context(), g, resilience.Call{Safety: resilience.ReadOnly}, func(context.Context) (int, error) { n.Add(1); time.Sleep(3 * second); return 5, nil })
			if v != 5 || err != nil {
				t.Fatalf("got %d, %v", v, err)
			}
		}
		if n.Load() != 13 {
			t.Errorf("%d attempts for 10 calls, want 13", n.Load())
		}
	})
}

func TestFallbackChain(t *testing.T) {
	type handler = resilience.Fallback[string]
	var order []string
	slow := handler{"backup", second, func(ctx context.Context, _ error) (string, error) {
		order = append(order, "backup")
		<-ctx.Done()
		return "", ctx.Err()
	}}
	broken := handler{"broken", 0, func(context.Context, error) (string, error) {
		order = append(order, "broken")
		panic("no backup of the backup")
	}}
	cache := handler{"cache", second, func(_ context.Context, cause error) (string, error) {
		order = append(order, "cache")
		if _, ok := errors.AsType[*resilience.Error](cause); !ok {
			t.Errorf("cause = %v", cause)
		}
		return "stale", nil
	}}
	read, write := resilience.Call{Safety: resilience.ReadOnly}, resilience.Call{}
	open := func(c *resilience.Config) { c.CircuitBreaker = plain().CircuitBreaker }
	tests := []struct {
		name  string
		call  resilience.Call
		set   func(*resilience.Config)
		fn    func(context.Context) (string, error)
		tried int
	}{
		{"success", read, open, func(context.Context) (string, error) { return "fresh", nil }, 0},
		{"failure", read, open, func(context.Context) (string, error) { return "", lost }, 3},
		{"timeout", read, open, func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }, 3},
		{"too many requests", read, open, func(context.Context) (string, error) { return "", unwanted }, 3},
		{"wrong argument", read, open, func(context.Context) (string, error) { return "", errArg }, 0},
		{"not allowed", read, open, func(context.Context) (string, error) { return "", refused }, 0},
		{"panic", read, open, func(context.Context) (string, error) { panic("bug") }, 0},
		{"write that may have happened", write, open, func(context.Context) (string, error) { return "", lost }, 0},
		{"write that has not happened", write, open, func(context.Context) (string, error) { return "", unsent }, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				order = nil
				var l listen
				g := newGuard(t, only(tt.set), resilience.Options{Events: l.events()})
				v, err := resilience.Do(t.Context(), g, tt.call, tt.fn, slow, broken, cache)
				if len(order) != tt.tried || len(l.fallback) != tt.tried {
					t.Errorf("tried %q, told of %q", order, l.fallback)
				}
				if tt.tried > 0 && (v != "stale" || err != nil) {
					t.Errorf("got %q, %v", v, err)
				}
				if n := circuitOf(g).Counters.Fallbacks; n != uint64(tt.tried) {
					t.Errorf("counted %d", n)
				}
			})
		})
	}
	t.Run("open circuit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := newGuard(t, only(open))
			g.Open()
			if v, err := resilience.Do(t.Context(), g, write, func(context.Context) (string, error) { return "fresh", nil }, cache); v != "stale" || err != nil {
				t.Errorf("got %q, %v", v, err)
			}
		})
	})
	t.Run("all fail", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := newGuard(t, only(open))
			_, err := resilience.Do(t.Context(), g, read, func(context.Context) (string, error) { return "", lost }, slow, broken)
			e := wantReason(t, err, resilience.Failed)
			if !errors.Is(err, lost) || !errors.Is(err, context.DeadlineExceeded) || e.Class != "connection" {
				t.Errorf("err = %v", err)
			}
		})
	})
	t.Run("caller leaves during the fallback", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := newGuard(t, only(open))
			ctx, cancel := context.WithCancel(t.Context())
			v, err := resilience.Do(ctx, g, read, func(context.Context) (string, error) { return "", lost },
				handler{"cache", 0, func(context.Context, error) (string, error) { cancel(); return "here it is", nil }})
			if v != "here it is" || err != nil {
				t.Errorf("got %q, %v: an answer that is here is given", v, err)
			}
		})
	})
}

// A global limit is a Guard around the Guards.
func TestNestedGuards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outer := newGuard(t, bulkheadOnly(2, 0, 0))
		var inner []*resilience.Guard
		for range 3 {
			inner = append(inner, newGuard(t, plain()))
		}
		var refusals atomic.Int32
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				_, err := resilience.Do(t.Context(), outer, resilience.Call{}, func(ctx context.Context) (string, error) {
					return resilience.Do(ctx, inner[i%3], resilience.Call{}, func(ctx context.Context) (string, error) {
						time.Sleep(second)
						return fmt.Sprint(resilience.AttemptNumber(ctx)), nil
					})
				})
				if err != nil {
					wantReason(t, err, resilience.BulkheadFull)
					refusals.Add(1)
				}
			})
		}
		wg.Wait()
		if refusals.Load() != 4 {
			t.Errorf("%d refusals, want 4", refusals.Load())
		}
	})
}

// A step has its own time, but never more than its whole: the pipeline's 30 s end the third step of 12 s after 6.
func TestNestedTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pipeline := newGuard(t, only(func(c *resilience.Config) { c.Timeouts.Overall, c.Timeouts.Attempt = 30*second, 30*second }))
		step := newGuard(t, only(func(c *resilience.Config) { c.Timeouts.Overall, c.Timeouts.Attempt = 12*second, 12*second }))
		var took []time.Duration
		_, err := resilience.Do(t.Context(), pipeline, resilience.Call{}, func(ctx context.Context) (int, error) {
			var err error
			for range 3 {
				start := time.Now()
				_, err = resilience.Do(ctx, step, resilience.Call{}, hang)
				took = append(took, time.Since(start))
			}
			if e := wantReason(t, err, resilience.Cancelled); e.Class != "caller_deadline" {
				t.Errorf("class of the step that had no time left = %s", e.Class)
			}
			return 0, err
		})
		wantReason(t, err, resilience.AttemptTimeout)
		if diff := cmp.Diff([]time.Duration{12 * second, 12 * second, 6 * second}, took); diff != "" {
			t.Error(diff)
		}
	})
}

// Everything at once: whatever is called, cancelled, hedged, abandoned, reconfigured and switched, in the end nothing is held.
func TestEverythingAtOnce(t *testing.T) {
	for _, detach := range []bool{false, true} {
		cfg := everything()
		cfg.CircuitBreaker.Scope, cfg.CircuitBreaker.Timeout, cfg.CircuitBreaker.MaxTimeout = "both", time.Millisecond, 2*time.Millisecond
		cfg.Hedge = resilience.HedgeConfig{Enabled: true, Delay: "200us", Max: 2}
		cfg.Timeouts = resilience.TimeoutsConfig{Overall: 20 * time.Millisecond, Attempt: 2 * time.Millisecond, Idle: time.Millisecond, ProgressMax: 5 * time.Millisecond}
		cfg.Retry.InitialDelay, cfg.Retry.MaxDelay = 100*time.Microsecond, time.Millisecond
		cfg.Bulkhead = resilience.BulkheadConfig{Enabled: true, MaxConcurrent: 4, MaxQueued: 3, Timeout: time.Millisecond}
		g := newGuard(t, cfg, resilience.Options{Detach: detach})
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				for j := range 60 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+j%20)*time.Millisecond)
					c := resilience.Call{Safety: resilience.Safety(j % 3), Key: fmt.Sprint(i % 3), Session: fmt.Sprint(i, j)}
					_, _ = resilience.Do(ctx, g, c, func(ctx context.Context) (int, error) {
						switch (i + j) % 7 {
						case 0:
							return hang(ctx)
						case 1:
							return 0, lost
						case 2:
							return 0, unsent
						case 3:
							panic("now and then")
						case 4:
							resilience.Progress(ctx)
							resilience.Pause(ctx)()
							return 1, nil
						}
						<-time.After(300 * time.Microsecond)
						return 1, nil
					}, resilience.Fallback[int]{Name: "none", Func: func(context.Context, error) (int, error) { return 0, lost }})
					cancel()
					switch {
					case i == 0 && j%10 == 0:
						g.Reset()
					case i == 1 && j%10 == 0:
						next := cfg
						next.Bulkhead.MaxConcurrent = 1 + j%5
						_ = g.Reconfigure(next)
					case i == 2 && j%10 == 0:
						_ = g.Probe(t.Context(), func(context.Context) error { return nil })
					}
				}
			})
		}
		wg.Wait()
		if err := g.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		s := circuitOf(g)
		if s.Bulkhead.InFlight != 0 || s.Bulkhead.Queued != 0 || s.Abandoned != 0 || s.HalfOpen != nil && s.HalfOpen.InFlight != 0 {
			t.Errorf("detach %v: %+v, abandoned %d, half_open %+v", detach, *s.Bulkhead, s.Abandoned, s.HalfOpen)
		}
	}
}
