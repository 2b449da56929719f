package resilience_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/resilience"
)

// fail is an error that says itself how it counts.
type fail struct{ resilience.Outcome }

func (f *fail) Error() string { return "dependency failed: " + f.Class }

var (
	unsent   = &fail{resilience.Outcome{Breaker: resilience.Failure, Retry: resilience.RetryUnsent, Class: "connect", Sent: resilience.NotSent}}
	lost     = &fail{resilience.Outcome{Breaker: resilience.Failure, Retry: resilience.RetryIdempotent, Class: "connection", Sent: resilience.WasSent}}
	failed   = &fail{resilience.Outcome{Breaker: resilience.Failure, Retry: resilience.RetryIdempotent, Class: "500", Sent: resilience.Answered}}
	unwanted = &fail{resilience.Outcome{Breaker: resilience.Ignored, Retry: resilience.RetryRejected, Class: "429", Sent: resilience.Answered}}
	errArg   = &fail{resilience.Outcome{Breaker: resilience.Success, Retry: resilience.RetryNever, Class: "validation", Sent: resilience.Answered}}
	refused  = &fail{resilience.Outcome{Breaker: resilience.Ignored, Retry: resilience.RetryNever, Class: "403", Sent: resilience.Answered}}
)

func classify(ctx context.Context, result any, err error) resilience.Outcome {
	if f, ok := errors.AsType[*fail](err); ok {
		return f.Outcome
	}
	return resilience.Classify(ctx, result, err)
}

// plain is the default Config without what comes by chance.
func plain() resilience.Config {
	cfg := resilience.DefaultConfig()
	cfg.Retry.Jitter, cfg.CircuitBreaker.Jitter = 0, 0
	return cfg
}

// only is plain with nothing switched on but what a test is about.
func only(set func(*resilience.Config)) resilience.Config {
	cfg := plain()
	cfg.Retry.Enabled, cfg.CircuitBreaker.Enabled, cfg.Bulkhead.Enabled = false, false, false
	set(&cfg)
	return cfg
}

func newGuard(tb testing.TB, cfg resilience.Config, opts ...resilience.Options) *resilience.Guard {
	tb.Helper()
	o := resilience.Options{}
	if len(opts) > 0 {
		o = opts[0]
	}
	if o.Classifier == nil {
		o.Classifier = classify
	}
	g, err := resilience.NewGuard("pfsense", cfg, o)
	if err != nil {
		tb.Fatal(err)
	}
	return g
}

// try makes one call that ends with err.
func try(ctx context.Context, g *resilience.Guard, c resilience.Call, err error) error {
	_, got := resilience.Do(ctx, g, c, func(context.Context) (int, error) { return 0, err })
	return got
}

// reason returns the Reason of an *Error, "" for nil, and fails on anything else.
func reason(tb testing.TB, err error) resilience.Reason {
	tb.Helper()
	if err == nil {
		return ""
	}
	e, ok := errors.AsType[*resilience.Error](err)
	if !ok {
		tb.Fatalf("err = %v (%T), want an *Error", err, err)
	}
	return e.Reason
}

func wantReason(tb testing.TB, err error, want resilience.Reason) *resilience.Error {
	tb.Helper()
	if got := reason(tb, err); got != want {
		tb.Fatalf("reason = %q, want %q (err: %v)", got, want, err)
	}
	e, _ := errors.AsType[*resilience.Error](err)
	return e
}

func wantState(tb testing.TB, g *resilience.Guard, want resilience.State) {
	tb.Helper()
	if got := g.State(); got != want {
		tb.Fatalf("state = %s, want %s", got, want)
	}
}

// listen keeps what a Guard tells.
type listen struct {
	mu       sync.Mutex
	changes  []resilience.StateChange
	attempts []resilience.AttemptInfo
	retries  []resilience.RetryInfo
	reasons  []resilience.Reason // of NotRepeated
	rejected []resilience.Reason
	timeouts []resilience.Reason
	late     []error
	fallback []string
	panics   int
	done     []resilience.CallInfo
}

func (l *listen) events() resilience.Events {
	keep := func(f func()) {
		l.mu.Lock()
		defer l.mu.Unlock()
		f()
	}
	return resilience.Events{
		StateChange: func(s resilience.StateChange) { keep(func() { l.changes = append(l.changes, s) }) },
		Rejected: func(_ context.Context, _ resilience.Call, e *resilience.Error) {
			keep(func() { l.rejected = append(l.rejected, e.Reason) })
		},
		Attempt: func(_ context.Context, _ resilience.Call, a resilience.AttemptInfo) {
			keep(func() { l.attempts = append(l.attempts, a) })
		},
		Retry: func(_ context.Context, _ resilience.Call, r resilience.RetryInfo) {
			keep(func() { l.retries = append(l.retries, r) })
		},
		NotRepeated: func(_ context.Context, _ resilience.Call, why resilience.Reason) {
			keep(func() { l.reasons = append(l.reasons, why) })
		},
		Timeout: func(_ context.Context, _ resilience.Call, e *resilience.TimeoutError) {
			keep(func() { l.timeouts = append(l.timeouts, e.Reason) })
		},
		Late: func(_ context.Context, _ resilience.Call, err error) { keep(func() { l.late = append(l.late, err) }) },
		Fallback: func(_ context.Context, _ resilience.Call, name string, _ error) {
			keep(func() { l.fallback = append(l.fallback, name) })
		},
		Panic: func(context.Context, resilience.Call, *resilience.PanicError) { keep(func() { l.panics++ }) },
		Done: func(_ context.Context, _ resilience.Call, d resilience.CallInfo) {
			keep(func() { l.done = append(l.done, d) })
		},
	}
}

// hang waits for the end of ctx.
func hang(ctx context.Context) (int, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

func yes(context.Context) (int, error) { return 1, nil }

// circuitOf is the snapshot of the dependency's circuit.
func circuitOf(g *resilience.Guard) resilience.CircuitStatus { return g.Snapshot()[0] }

const second = time.Second
