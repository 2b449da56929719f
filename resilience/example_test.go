package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/mcpgw/mcpgw/resilience"
)

// A dependency that is down is asked until its circuit opens; from then on callers hear at once when to come back.
func ExampleDo() {
	cfg := resilience.DefaultConfig()
	cfg.Retry.MaxAttempts = 1
	cfg.CircuitBreaker.FailureThreshold = 3
	cfg.CircuitBreaker.Jitter = 0
	guard, err := resilience.NewGuard("pfsense", cfg, resilience.Options{})
	if err != nil {
		panic(err)
	}
	asked := 0
	for range 5 {
		_, err = resilience.Do(context.Background(), guard, resilience.Call{}, func(context.Context) (string, error) {
			asked++
			return "", errors.New("out of order")
		})
	}
	if e, ok := errors.AsType[*resilience.Error](err); ok {
		fmt.Println("asked:", asked, "reason:", e.Reason, "executed:", e.Executed, "retry after:", e.RetryAfter.Round(time.Second))
	}
	fmt.Println(guard.State())
	// Output:
	// asked: 3 reason: circuit_open executed: no retry after: 1m0s
	// open
}

// How far a request got, and what the dependency says about it, decides what may be done next.
func ExampleClassifier() {
	type statusError struct {
		error
		status     int
		retryAfter time.Duration
	}
	classify := func(ctx context.Context, result any, err error) resilience.Outcome {
		var s statusError
		if !errors.As(err, &s) {
			return resilience.Classify(ctx, result, err) // knows the errors of the standard library
		}
		switch {
		case s.status == http.StatusTooManyRequests: // says that it did nothing, and when to come back
			return resilience.Outcome{
				Breaker: resilience.Ignored, Retry: resilience.RetryRejected, Class: "429", Sent: resilience.Answered, RetryAfter: s.retryAfter,
			}
		case s.status >= 500: // may have done something
			return resilience.Outcome{Breaker: resilience.Failure, Retry: resilience.RetryIdempotent, Class: fmt.Sprint(s.status), Sent: resilience.Answered}
		}
		return resilience.Outcome{Breaker: resilience.Ignored, Class: fmt.Sprint(s.status), Sent: resilience.Answered} // our own fault
	}
	cfg := resilience.DefaultConfig()
	cfg.Retry.InitialDelay = time.Millisecond
	guard, err := resilience.NewGuard("api", cfg, resilience.Options{Classifier: classify})
	if err != nil {
		panic(err)
	}
	for _, status := range []int{429, 503, 403} {
		for _, safety := range []resilience.Safety{resilience.Unsafe, resilience.ReadOnly} {
			n := 0
			_, _ = resilience.Do(context.Background(), guard, resilience.Call{Safety: safety}, func(context.Context) (int, error) {
				n++
				return 0, statusError{errors.New(http.StatusText(status)), status, time.Millisecond}
			})
			fmt.Println(status, safety, n)
		}
	}
	// Output:
	// 429 unsafe 3
	// 429 read_only 3
	// 503 unsafe 1
	// 503 read_only 3
	// 403 unsafe 1
	// 403 read_only 1
}

// Fallbacks are tried in order, each within its own time.
func ExampleFallback() {
	guard, err := resilience.NewGuard("llm", resilience.DefaultConfig(), resilience.Options{})
	if err != nil {
		panic(err)
	}
	guard.Isolate()
	ask := func(context.Context) (string, error) { return "a fresh answer", nil }
	answer, err := resilience.Do(context.Background(), guard, resilience.Call{Safety: resilience.ReadOnly}, ask,
		resilience.Fallback[string]{Name: "backup", Timeout: 20 * time.Second, Func: func(context.Context, error) (string, error) {
			return "", errors.New("the backup is down too")
		}},
		resilience.Fallback[string]{Name: "cache", Timeout: 100 * time.Millisecond, Func: func(_ context.Context, _ error) (string, error) {
			return "yesterday's answer", nil
		}},
	)
	fmt.Println(answer, err)
	// Output: yesterday's answer <nil>
}

// A tool that takes longer than others has its own timeouts, but shares the circuit and the limits of its dependency.
func ExampleGuard_Sub() {
	cfg := resilience.DefaultConfig()
	guard, err := resilience.NewGuard("pfsense", cfg, resilience.Options{})
	if err != nil {
		panic(err)
	}
	cfg.Timeouts.Attempt, cfg.Timeouts.Overall = 5*time.Minute, 6*time.Minute
	backup, err := guard.Sub("backup_config", cfg)
	if err != nil {
		panic(err)
	}
	_, _ = resilience.Do(context.Background(), backup, resilience.Call{}, func(ctx context.Context) (int, error) {
		deadline, _ := ctx.Deadline()
		fmt.Println(time.Until(deadline).Round(time.Minute))
		return 0, nil
	})
	guard.Open()
	_, err = resilience.Do(context.Background(), backup, resilience.Call{}, func(context.Context) (int, error) { return 0, nil })
	fmt.Println(errors.Is(err, resilience.ErrOpen))
	// Output:
	// 5m0s
	// true
}

// A prober finds out that a dependency is back, so that no caller has to be the trial.
func ExampleGuard_Probe() {
	guard, err := resilience.NewGuard("pfsense", resilience.DefaultConfig(), resilience.Options{})
	if err != nil {
		panic(err)
	}
	guard.Open()
	for guard.State() != resilience.StateClosed {
		if err := guard.Probe(context.Background(), func(context.Context) error { return nil }); err != nil {
			fmt.Println("still down:", err)
		}
		fmt.Println(guard.State())
	}
	// Output:
	// half_open
	// closed
}

// What an operator reads.
func ExampleReport() {
	var guards []*resilience.Guard
	for _, name := range []string{"pfsense", "truenas", "idrac"} {
		g, err := resilience.NewGuard(name, resilience.DefaultConfig(), resilience.Options{})
		if err != nil {
			panic(err)
		}
		guards = append(guards, g)
	}
	guards[1].Isolate()
	status := resilience.Report(guards...)
	for _, c := range status.Circuits {
		fmt.Println(c.Name, c.State)
	}
	fmt.Println(status.Summary.Health)
	// Output:
	// pfsense closed
	// truenas isolated
	// idrac closed
	// degraded
}

// What is wrong in a configuration is said all at once.
func ExampleConfig_Validate() {
	cfg := resilience.DefaultConfig()
	cfg.Retry.MaxAttempts = 0
	cfg.CircuitBreaker.FailureRateThreshold = 50
	fmt.Println(cfg.Validate())
	// Output:
	// retry.max_attempts: must be at least 1, found 0
	// circuit_breaker.failure_rate_threshold: must be from 0 to 1, found 50
}
