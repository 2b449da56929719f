package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/resilience"
)

// What may be repeated: decided by how far the request got, by what the dependency said, and by the call; never by the error alone.
func TestRepeatsOnlyWhatIsSafe(t *testing.T) {
	const once, thrice = 1, 3
	tests := []struct {
		name                       string
		err                        error
		unsafe, idempotent, readed int
		executed                   resilience.Executed // of the unsafe call
	}{
		{"not sent", unsent, thrice, thrice, thrice, resilience.ExecutedNo},
		{"sent, no answer", lost, once, thrice, thrice, resilience.ExecutedUnknown},
		{"failed after answering", failed, once, thrice, thrice, resilience.ExecutedUnknown},
		{"not executed, it said", unwanted, thrice, thrice, thrice, resilience.ExecutedNo},
		{"refused", refused, once, once, once, ""},
		{"wrong argument", errArg, once, once, once, ""},
		{"unknown error", io.ErrNoProgress, once, thrice, thrice, resilience.ExecutedUnknown},
		{"unsent only, but sent", &fail{resilience.Outcome{Breaker: resilience.Failure, Retry: resilience.RetryUnsent, Class: "dns"}}, once, once, once, resilience.ExecutedUnknown},
	}
	for _, tt := range tests {
		for s, want := range []int{tt.unsafe, tt.idempotent, tt.readed} {
			safety := resilience.Safety(s)
			t.Run(tt.name+"/"+safety.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := newGuard(t, only(func(c *resilience.Config) { c.Retry.Enabled = true }))
					n := 0
					_, err := resilience.Do(t.Context(), g, resilience.Call{Safety: safety}, func(ctx context.Context) (int, error) {
						n++
						if got := resilience.AttemptNumber(ctx); got != n {
							t.Errorf("AttemptNumber = %d in attempt %d", got, n)
						}
						return 0, tt.err
					})
					if n != want {
						t.Errorf("%d attempts, want %d", n, want)
					}
					if !errors.Is(err, tt.err) {
						t.Errorf("err = %v, which hides %v", err, tt.err)
					}
					e, wrapped := errors.AsType[*resilience.Error](err)
					if tt.executed == "" {
						if wrapped {
							t.Errorf("the dependency's own answer came back as %#v", e)
						}
						return
					}
					wantWhy := resilience.RetriesExhausted
					if want == once {
						wantWhy = resilience.Failed
					}
					if !wrapped || e.Reason != wantWhy || e.Attempts != want {
						t.Fatalf("err = %#v, want reason %s after %d attempts", err, wantWhy, want)
					}
					if safety == resilience.Unsafe && e.Executed != tt.executed {
						t.Errorf("executed = %s, want %s", e.Executed, tt.executed)
					}
				})
			})
		}
	}
}

func TestConfiguredSafetyOverridesTheCall(t *testing.T) {
	for safety, want := range map[string]int{"auto": 3, "read_only": 3, "idempotent": 3, "unsafe": 1} {
		synctest.Test(t, func(t *testing.T) {
			g := newGuard(t, only(func(c *resilience.Config) { c.Retry.Enabled, c.Safety = true, safety }))
			n := 0
			_, _ = resilience.Do(t.Context(), g, resilience.Call{Safety: resilience.Idempotent}, func(context.Context) (int, error) { n++; return 0, lost })
			if n != want {
				t.Errorf("safety %s: %d attempts, want %d", safety, n, want)
			}
		})
	}
}

func TestRetrySucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l listen
		g := newGuard(t, only(func(c *resilience.Config) { c.Retry.Enabled = true }), resilience.Options{Events: l.events()})
		n := 0
		start := time.Now()
		v, err := resilience.Do(t.Context(), g, resilience.Call{Safety: resilience.ReadOnly}, func(context.Context) (string, error) {
			if n++; n < 3 {
				return "", lost
			}
			return "third time", nil
		})
		if v != "third time" || err != nil {
			t.Errorf("got %q, %v", v, err)
		}
		if took := time.Since(start); took != 3*second { // 1 s and 2 s
			t.Errorf("took %s", took)
		}
		c := circuitOf(g).Counters
		if c.Attempts != 3 || c.Retries != 2 || c.RetrySuccesses != 1 || c.Calls != 1 || c.Exhausted != 0 {
			t.Errorf("counters = %+v", *c)
		}
		if len(l.retries) != 2 || l.retries[1].Attempt != 2 || l.retries[1].Delay != 2*second || l.retries[1].Max != 3 {
			t.Errorf("retries = %+v", l.retries)
		}
		var kinds []string
		for _, a := range l.attempts {
			kinds = append(kinds, a.Kind)
		}
		if diff := cmp.Diff([]string{"first", "retry", "retry"}, kinds); diff != "" {
			t.Error(diff)
		}
		if d := l.done; len(d) != 1 || d[0].Attempts != 3 || d[0].Waited != 3*second || d[0].Took != 3*second || d[0].Err != nil {
			t.Errorf("done = %+v", d)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	asking := func(d time.Duration) error {
		f := &fail{unwanted.Outcome}
		f.RetryAfter = d
		return f
	}
	tests := []struct {
		name     string
		asked    time.Duration
		set      func(*resilience.Config)
		attempts int
		min, max time.Duration
		why      resilience.Reason
	}{
		{"waited for, never less", 3 * second, func(*resilience.Config) {}, 3, 6 * second, 6600 * time.Millisecond, resilience.RetriesExhausted},
		{"shorter than the pause", 100 * time.Millisecond, func(*resilience.Config) {}, 3, 3 * second, 3 * second, resilience.RetriesExhausted},
		{"too long to wait for", 31 * second, func(*resilience.Config) {}, 1, 0, 0, resilience.RetryAfterLong},
		{"no time left", 20 * second, func(c *resilience.Config) { c.Timeouts.Overall, c.Timeouts.Attempt = 10*second, 10*second }, 1, 0, 0, resilience.RetryTooLate},
		{"not respected", 20 * second, func(c *resilience.Config) { c.Retry.RespectRetryAfter = false }, 3, 3 * second, 3 * second, resilience.RetriesExhausted},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGuard(t, only(func(c *resilience.Config) { c.Retry.Enabled = true; tt.set(c) }))
				n, start := 0, time.Now()
				_, err := resilience.Do(t.Context(), g, resilience.Call{}, func(context.Context) (int, error) { n++; return 0, asking(tt.asked) })
				e := wantReason(t, err, tt.why)
				if took := time.Since(start); n != tt.attempts || took < tt.min || took > tt.max {
					t.Errorf("%d attempts in %s, want %d in %s to %s", n, took, tt.attempts, tt.min, tt.max)
				}
				if e.RetryAfter != tt.asked || e.Class != "429" || e.Executed != resilience.ExecutedNo {
					t.Errorf("err = %#v", e)
				}
			})
		})
	}
}

func TestImmediateRepetitionHasNoPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, only(func(c *resilience.Config) { c.Retry.Enabled = true }))
		stale := &fail{resilience.Outcome{Breaker: resilience.Ignored, Retry: resilience.RetryUnsent, Class: "connection_closed", Sent: resilience.NotSent, Immediate: true}}
		var at []time.Duration
		start := time.Now()
		_, _ = resilience.Do(t.Context(), g, resilience.Call{}, func(context.Context) (int, error) {
			at = append(at, time.Since(start))
			return 0, stale
		})
		if diff := cmp.Diff([]time.Duration{0, 0, 2 * second}, at); diff != "" {
			t.Error(diff)
		}
	})
}

// An answer that the classifier would rather not have (a tool's own error, say) is returned unchanged when repeating does not help.
func TestUnwelcomeResultIsReturned(t *testing.T) {
	judge := func(_ context.Context, result any, err error) resilience.Outcome {
		if result == "503" {
			return resilience.Outcome{Breaker: resilience.Failure, Retry: resilience.RetryIdempotent, Class: "tool_error_service_unavailable", Sent: resilience.Answered}
		}
		return resilience.Classify(context.Background(), result, err)
	}
	for safety, want := range map[resilience.Safety]int{resilience.ReadOnly: 3, resilience.Unsafe: 1} {
		synctest.Test(t, func(t *testing.T) {
			g := newGuard(t, plain(), resilience.Options{Classifier: judge})
			n := 0
			v, err := resilience.Do(t.Context(), g, resilience.Call{Safety: safety}, func(context.Context) (string, error) { n++; return "503", nil })
			if v != "503" || err != nil || n != want {
				t.Errorf("%s: got %q, %v after %d attempts, want the result after %d", safety, v, err, n, want)
			}
			if s := circuitOf(g); s.Totals.Failures != uint64(want) {
				t.Errorf("totals = %+v", s.Totals)
			}
		})
	}
}

func TestRetryBudgetBoundsAmplification(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l listen
		g := newGuard(t, only(func(c *resilience.Config) {
			c.Retry.Enabled = true
			c.Retry.InitialDelay, c.Retry.MaxDelay = 0, 0
			c.Retry.Budget.MinPerSecond = 0
		}), resilience.Options{Events: l.events()})
		const calls = 2000
		n := 0
		for range calls {
			_, err := resilience.Do(t.Context(), g, resilience.Call{Safety: resilience.ReadOnly}, func(context.Context) (int, error) { n++; return 0, lost })
			if !errors.Is(err, lost) {
				t.Fatalf("the real error is lost: %v", err)
			}
		}
		if most := calls*1.2 + 10; float64(n) > most || float64(n) < most-10 {
			t.Errorf("%d attempts for %d calls, want at most and about %g", n, calls, most)
		}
		if b := circuitOf(g).RetryBudget; b.Refused == 0 || b.Tokens >= 1 {
			t.Errorf("budget = %+v", b)
		}
		if !slices.Contains(l.reasons, resilience.RetryBudget) {
			t.Errorf("nobody was told that the budget was spent")
		}
	})
}

func TestRetryBudgetTrickles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, only(func(c *resilience.Config) {
			c.Retry.Enabled = true
			c.Retry.InitialDelay, c.Retry.MaxDelay, c.Retry.MaxAttempts = 0, 0, 2
			c.Retry.Budget = resilience.BudgetConfig{Ratio: 0, MinPerSecond: 0.5, Burst: 1}
		}))
		attempts := func() int {
			n := 0
			_, _ = resilience.Do(t.Context(), g, resilience.Call{Safety: resilience.ReadOnly}, func(context.Context) (int, error) { n++; return 0, lost })
			return n
		}
		got := []int{attempts(), attempts()}
		time.Sleep(2 * second)
		got = append(got, attempts(), attempts())
		if diff := cmp.Diff([]int{2, 1, 2, 1}, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestTimeouts(t *testing.T) {
	tests := []struct {
		name string
		set  func(*resilience.Config)
		took time.Duration
		why  resilience.Reason
	}{
		{"attempt", func(*resilience.Config) {}, 30 * second, resilience.AttemptTimeout},
		{"overall", func(c *resilience.Config) {
			c.Timeouts.Overall, c.Timeouts.Attempt = 20*second, 20*second
			c.Retry.Enabled = true
		}, 20 * second, resilience.AttemptTimeout},
		{"idle", func(c *resilience.Config) { c.Timeouts.Idle = 5 * second }, 5 * second, resilience.IdleTimeout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var l listen
				g := newGuard(t, only(tt.set), resilience.Options{Events: l.events()})
				start := time.Now()
				_, err := resilience.Do(t.Context(), g, resilience.Call{}, func(ctx context.Context) (int, error) {
					<-ctx.Done()
					cause, ok := errors.AsType[*resilience.TimeoutError](context.Cause(ctx))
					if !ok || cause.Reason != tt.why || !errors.Is(ctx.Err(), context.DeadlineExceeded) || !errors.Is(cause, context.DeadlineExceeded) {
						t.Errorf("context ended with %v, cause %v", ctx.Err(), context.Cause(ctx))
					}
					return 0, ctx.Err()
				})
				e := wantReason(t, err, tt.why)
				if took := time.Since(start); took != tt.took || e.Class != "timeout" || e.Executed != resilience.ExecutedUnknown || !errors.Is(err, context.DeadlineExceeded) || !e.Timeout() {
					t.Errorf("%s after %s: %#v", e.Class, took, e)
				}
				if diff := cmp.Diff([]resilience.Reason{tt.why}, l.timeouts); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

func TestOverallTimeoutCutsTheLastAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, only(func(c *resilience.Config) { c.Retry.Enabled = true }))
		n, start := 0, time.Now()
		_, err := resilience.Do(t.Context(), g, resilience.Call{Safety: resilience.ReadOnly}, func(ctx context.Context) (int, error) {
			n++
			if d, ok := ctx.Deadline(); !ok || d.After(start.Add(50*second)) {
				t.Errorf("attempt %d: deadline %s, %v", n, d.Sub(start), ok)
			}
			return hang(ctx)
		})
		// 30 s, a pause of 1 s, and what is left of 50 s.
		if took := time.Since(start); n != 2 || took != 50*second {
			t.Errorf("%d attempts in %s", n, took)
		}
		wantReason(t, err, resilience.OverallTimeout)
	})
}

func TestAttemptTimeoutIsRepeatedIfSafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, only(func(c *resilience.Config) { c.Retry.Enabled = true; c.Timeouts.Attempt = 5 * second }))
		n := 0
		v, err := resilience.Do(t.Context(), g, resilience.Call{Safety: resilience.Idempotent}, func(ctx context.Context) (int, error) {
			if n++; n == 1 {
				return hang(ctx)
			}
			return 7, nil
		})
		if v != 7 || err != nil {
			t.Errorf("got %d, %v", v, err)
		}
		n = 0
		_, err = resilience.Do(t.Context(), g, resilience.Call{}, func(ctx context.Context) (int, error) { n++; return hang(ctx) })
		if n != 1 {
			t.Errorf("an unsafe call was made %d times", n)
		}
		wantReason(t, err, resilience.AttemptTimeout)
		// Proof that nothing left outweighs the safety of the call.
		n = 0
		_, _ = resilience.Do(t.Context(), g, resilience.Call{}, func(ctx context.Context) (int, error) {
			n++
			<-ctx.Done()
			return 0, unsent
		})
		if n != 3 {
			t.Errorf("an unsafe call that was never sent was tried %d times", n)
		}
	})
}

func TestProgressPutsOffTheEnd(t *testing.T) {
	// Progress every 4 s for as long as it takes.
	busy := func(total time.Duration) func(context.Context) (int, error) {
		return func(ctx context.Context) (int, error) {
			tick := time.NewTicker(4 * time.Second)
			defer tick.Stop()
			end := time.After(total)
			for {
				select {
				case <-ctx.Done():
					return 0, ctx.Err()
				case <-tick.C:
					resilience.Progress(context.WithValue(ctx, t, "derived"))
				case <-end:
					return 1, nil
				}
			}
		}
	}
	tests := []struct {
		name  string
		set   func(*resilience.Config)
		total time.Duration
		took  time.Duration
		why   resilience.Reason
	}{
		{"beyond attempt and overall", func(*resilience.Config) {}, 200 * second, 200 * second, ""},
		{"idle restarts", func(c *resilience.Config) { c.Timeouts.Idle = 5 * second }, 200 * second, 200 * second, ""},
		{"until progress_max", func(c *resilience.Config) { c.Timeouts.ProgressMax = 90 * second }, 200 * second, 90 * second, resilience.AttemptTimeout},
		{"not at all", func(c *resilience.Config) { c.Timeouts.ProgressMax = 0 }, 200 * second, 30 * second, resilience.AttemptTimeout},
		{"idle only", func(c *resilience.Config) { c.Timeouts.ProgressMax = 0; c.Timeouts.Idle = 5 * second }, 200 * second, 30 * second, resilience.AttemptTimeout},
		{"idle after progress", func(c *resilience.Config) { c.Timeouts.Idle = 3 * second }, 200 * second, 3 * second, resilience.IdleTimeout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGuard(t, only(tt.set))
				start := time.Now()
				_, err := resilience.Do(t.Context(), g, resilience.Call{}, busy(tt.total))
				if took := time.Since(start); took != tt.took || reason(t, err) != tt.why {
					t.Errorf("%s after %s, want %q after %s", reason(t, err), took, tt.why, tt.took)
				}
			})
		})
	}
	resilience.Progress(t.Context()) // does nothing
}

func TestPauseStopsTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, only(func(c *resilience.Config) { c.Timeouts.Idle = 10 * second }))
		start := time.Now()
		_, err := resilience.Do(t.Context(), g, resilience.Call{}, func(ctx context.Context) (int, error) {
			time.Sleep(5 * second)
			one, two := resilience.Pause(ctx), resilience.Pause(ctx)
			time.Sleep(10 * time.Minute) // a person thinks
			one()
			one() // counts once
			time.Sleep(10 * time.Minute)
			two()
			return hang(ctx) // 5 s of the idle time are left
		})
		wantReason(t, err, resilience.IdleTimeout)
		if took := time.Since(start); took != 20*time.Minute+10*second {
			t.Errorf("took %s", took)
		}
	})
	resilience.Pause(t.Context())()
}

func TestCallerCancels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, plain())
		for range 1000 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(100*time.Millisecond, cancel)
			_, err := resilience.Do(ctx, g, resilience.Call{Safety: resilience.ReadOnly}, hang)
			e := wantReason(t, err, resilience.Cancelled)
			if e.Class != "cancelled" || e.Executed != resilience.ExecutedUnknown || !errors.Is(err, context.Canceled) {
				t.Fatalf("err = %#v", e)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), second)
		defer cancel()
		_, err := resilience.Do(ctx, g, resilience.Call{}, hang)
		if e := wantReason(t, err, resilience.Cancelled); e.Class != "caller_deadline" || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %#v", e)
		}
		if s := circuitOf(g); s.State != "closed" || s.Totals.Failures != 0 || s.Totals.Ignored != 1001 || s.Bulkhead.InFlight != 0 {
			t.Errorf("%s %+v %+v", s.State, s.Totals, s.Bulkhead)
		}
	})
}

// Also in the pause before the next attempt, and then it says what went wrong before.
func TestCallerCancelsDuringThePause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, plain())
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(500*time.Millisecond, cancel)
		start := time.Now()
		err := try(ctx, g, resilience.Call{Safety: resilience.ReadOnly}, lost)
		e := wantReason(t, err, resilience.Cancelled)
		if !errors.Is(err, context.Canceled) || !errors.Is(err, lost) || e.Class != "connection" || e.Attempts != 1 || time.Since(start) != 500*time.Millisecond {
			t.Errorf("err = %#v", e)
		}
	})
}

func TestCancelledBeforeItBegan(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g := newGuard(t, plain())
	_, err := resilience.Do(ctx, g, resilience.Call{}, func(ctx context.Context) (int, error) { return 0, ctx.Err() })
	wantReason(t, err, resilience.Cancelled)
	if s := circuitOf(g); s.Totals.Failures != 0 {
		t.Errorf("totals = %+v", s.Totals)
	}
}

func TestPanicIsContained(t *testing.T) {
	for _, opts := range []resilience.Options{{}, {Detach: true}} {
		synctest.Test(t, func(t *testing.T) {
			var l listen
			opts.Events = l.events()
			cfg := plain()
			cfg.Hedge = resilience.HedgeConfig{Enabled: true, Delay: "1s", Max: 1}
			g := newGuard(t, cfg, opts)
			for _, safety := range []resilience.Safety{resilience.Unsafe, resilience.ReadOnly} {
				for range 20 {
					_, err := resilience.Do(t.Context(), g, resilience.Call{Safety: safety}, func(context.Context) (int, error) { panic(io.ErrNoProgress) })
					e := wantReason(t, err, resilience.Panicked)
					p, ok := errors.AsType[*resilience.PanicError](err)
					if !ok || len(p.Stack) == 0 || e.Class != "panic" || e.Attempts != 1 || !errors.Is(err, io.ErrNoProgress) {
						t.Fatalf("err = %#v", e)
					}
					if want := "do_test.go:"; !strings.Contains(p.At, want) {
						t.Errorf("at %q, want this file", p.At)
					}
				}
			}
			if s := circuitOf(g); s.State != "closed" || s.Totals.Failures != 0 || s.Bulkhead.InFlight != 0 || s.Counters.Panics != 40 || l.panics != 40 {
				t.Errorf("%s %+v in flight %d, panics %d", s.State, s.Totals, s.Bulkhead.InFlight, s.Counters.Panics)
			}
		})
	}
}

func TestBrokenCallbacksAreContained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, plain(), resilience.Options{
			Classifier: func(context.Context, any, error) resilience.Outcome { panic("classifier") },
			Events:     resilience.Events{StateChange: func(resilience.StateChange) { panic("listener") }},
		})
		wantReason(t, try(t.Context(), g, resilience.Call{}, lost), resilience.Panicked)
		g.Open()
		g.Close()
		wantState(t, g, resilience.StateClosed)
		if s := circuitOf(g); s.Bulkhead.InFlight != 0 {
			t.Errorf("in flight %d", s.Bulkhead.InFlight)
		}
	})
}

// A function that does not watch its context costs its caller no more than the timeout; its slot stays taken until it ends.
func TestDetached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l listen
		cfg := plain()
		cfg.Retry.MaxAttempts = 1
		cfg.Bulkhead.MaxConcurrent, cfg.Bulkhead.MaxQueued = 3, 0
		g := newGuard(t, cfg, resilience.Options{Detach: true, Events: l.events()})
		release := make(chan struct{})
		full := 0
		for range 10 {
			start := time.Now()
			_, err := resilience.Do(t.Context(), g, resilience.Call{}, func(context.Context) (int, error) { <-release; return 1, nil })
			if reason(t, err) == resilience.BulkheadFull {
				full++
			} else if took := time.Since(start); took != 30*second {
				t.Errorf("returned after %s", took)
			}
		}
		if s := circuitOf(g); full != 7 || s.Abandoned != 3 || s.Bulkhead.InFlight != 3 {
			t.Errorf("full %d, abandoned %d, in flight %d", full, s.Abandoned, s.Bulkhead.InFlight)
		}
		short, cancel := context.WithTimeout(t.Context(), second)
		defer cancel()
		if err := g.Wait(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait = %v while three attempts run", err)
		}
		close(release)
		if err := g.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		if s := circuitOf(g); s.Abandoned != 0 || s.Bulkhead.InFlight != 0 || s.Counters.Late != 3 || len(l.late) != 3 || l.late[0] != nil {
			t.Errorf("after the end: %+v %+v", s.Counters, l.late)
		}
		if v, err := resilience.Do(t.Context(), g, resilience.Call{}, yes); v != 1 || err != nil {
			t.Errorf("got %d, %v", v, err)
		}
	})
}

func TestOff(t *testing.T) {
	for name, g := range map[string]*resilience.Guard{
		"nil":         nil,
		"zero":        newGuard(t, resilience.Config{}),
		"kill switch": newGuard(t, func() resilience.Config { c := plain(); c.Enabled = false; return c }()),
	} {
		ctx := context.WithValue(t.Context(), t, "mine")
		for range 10 {
			v, err := resilience.Do(ctx, g, resilience.Call{}, func(got context.Context) (string, error) {
				if got != ctx {
					t.Errorf("%s: the context was wrapped", name)
				}
				return "as it is", io.EOF
			})
			if v != "as it is" || err != io.EOF { //nolint:errorlint // not even wrapped
				t.Errorf("%s: got %q, %v", name, v, err)
			}
		}
	}
}

func TestShadowMeasuresOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l listen
		cfg := plain()
		cfg.Mode = "shadow"
		cfg.Bulkhead.MaxConcurrent, cfg.Bulkhead.MaxQueued = 1, 0
		cfg.RateLimit = resilience.RateLimitConfig{Enabled: true, Requests: 1, Per: time.Hour, Burst: 1}
		g := newGuard(t, cfg, resilience.Options{Events: l.events()})
		n := 0
		for range 20 {
			_, err := resilience.Do(t.Context(), g, resilience.Call{Safety: resilience.ReadOnly}, func(context.Context) (int, error) { n++; return 0, lost })
			if err != error(lost) { //nolint:errorlint // not even wrapped
				t.Fatal(err)
			}
		}
		s := circuitOf(g)
		if n != 20 || s.State != "open" || s.Rejected != 15 || s.Mode != "shadow" || s.RateLimit.Rejected != 19 {
			t.Errorf("%d calls, %s, rejected %d, rate limit %+v", n, s.State, s.Rejected, s.RateLimit)
		}
		if refused, _ := g.Rejecting(); refused {
			t.Error("Rejecting in shadow mode")
		}
		// Timeouts end nothing, but are counted.
		g.Reset()
		start := time.Now()
		v, err := resilience.Do(t.Context(), g, resilience.Call{}, func(ctx context.Context) (int, error) {
			if _, ok := ctx.Deadline(); ok {
				t.Error("a deadline in shadow mode")
			}
			time.Sleep(time.Minute)
			return 1, ctx.Err()
		})
		if v != 1 || err != nil || time.Since(start) != time.Minute {
			t.Errorf("got %d, %v", v, err)
		}
		if s := circuitOf(g); s.Totals.Failures != 1 || *s.LastFailureType != "timeout" {
			t.Errorf("totals = %+v", s.Totals)
		}
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				_, _ = resilience.Do(t.Context(), g, resilience.Call{}, func(context.Context) (int, error) { time.Sleep(second); return 1, nil })
			})
		}
		wg.Wait()
		if b := circuitOf(g).Bulkhead; b.InFlight != 0 || b.RejectedFull != 4 || b.MostInFlight != 5 {
			t.Errorf("bulkhead = %+v", b)
		}
	})
}

func TestRollout(t *testing.T) {
	cfg := plain()
	cfg.Retry.Enabled = false
	g := newGuard(t, cfg)
	g.Open()
	refusals := func() (n int, who string) {
		for i := range 1000 {
			id := fmt.Sprintf("session-%04d", i)
			if errors.Is(try(t.Context(), g, resilience.Call{Session: id}, nil), resilience.ErrOpen) {
				n++
				who += id
			}
		}
		return n, who
	}
	for _, percent := range []float64{0, 10, 25, 50, 100} {
		cfg.Rollout.Percent = percent
		if err := g.Reconfigure(cfg); err != nil {
			t.Fatal(err)
		}
		n, who := refusals()
		if float64(n) < percent*10-45 || float64(n) > percent*10+45 || percent == 0 && n != 0 || percent == 100 && n != 1000 {
			t.Errorf("%g %%: the policies applied to %d of 1000", percent, n)
		}
		if _, again := refusals(); again != who {
			t.Errorf("%g %%: other sessions the second time", percent)
		}
	}
}

func TestReconfigureKeepsState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := plain()
		g := newGuard(t, cfg)
		trip(t, g)
		open := circuitOf(g)
		cfg.CircuitBreaker.FailureThreshold, cfg.CircuitBreaker.Name = 7, "pfsense_api"
		if err := g.Reconfigure(cfg); err != nil {
			t.Fatal(err)
		}
		s := circuitOf(g)
		if s.State != "open" || !s.NextAttemptAt.Equal(*open.NextAttemptAt) || s.Config.FailureThreshold != 7 || s.Name != "pfsense_api" || s.Totals != open.Totals {
			t.Errorf("after the change: %+v", s)
		}
		bad := cfg
		bad.Retry.MaxAttempts = 0
		if err := g.Reconfigure(bad); err == nil {
			t.Error("an invalid configuration was accepted")
		}
		if diff := cmp.Diff(cfg, g.Config()); diff != "" {
			t.Error(diff)
		}
		// In flight and in the queue while it happens.
		g.Close()
		cfg.Bulkhead.MaxConcurrent = 10
		if err := g.Reconfigure(cfg); err != nil {
			t.Fatal(err)
		}
		release := make(chan struct{})
		var ended atomic.Int32
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, err := resilience.Do(t.Context(), g, resilience.Call{}, func(context.Context) (int, error) { <-release; return 1, nil }); err == nil {
					ended.Add(1)
				}
			})
		}
		synctest.Wait()
		cfg.Bulkhead.MaxConcurrent = 15
		if err := g.Reconfigure(cfg); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if b := circuitOf(g).Bulkhead; b.InFlight != 15 || b.Queued != 5 {
			t.Errorf("bulkhead = %+v", b)
		}
		cfg.Bulkhead.MaxConcurrent = 2
		cfg.CircuitBreaker.Enabled = false
		if err := g.Reconfigure(cfg); err != nil {
			t.Fatal(err)
		}
		close(release)
		wg.Wait()
		if ended.Load() != 20 {
			t.Errorf("%d of 20 calls were answered", ended.Load())
		}
		if s := circuitOf(g); s.State != "disabled" || s.Bulkhead.InFlight != 0 {
			t.Errorf("%s, %+v", s.State, s.Bulkhead)
		}
	})
}
