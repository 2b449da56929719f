package resilience

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"
)

// Reason says which policy ended a call.
type Reason string

// The reasons of an [Error]. The first six refuse a call, or its next attempt, before the dependency hears of it.
const (
	CircuitOpen   Reason = "circuit_open"    // the circuit is open
	HalfOpenLimit Reason = "half_open_limit" // the circuit is being tried, and enough trials are under way
	Isolated      Reason = "isolated"        // an operator isolated the dependency
	BulkheadFull  Reason = "bulkhead_full"   // as many calls run and wait as may
	QueueTimeout  Reason = "queue_timeout"   // the call waited in the queue for too long
	RateLimited   Reason = "rate_limited"    // too many calls in too short a time

	AttemptTimeout Reason = "attempt_timeout" // the last attempt took too long
	IdleTimeout    Reason = "idle_timeout"    // the last attempt showed no progress for too long
	OverallTimeout Reason = "overall_timeout" // the whole call took too long
	Cancelled      Reason = "cancelled"       // the caller went away, or its own deadline passed

	RetriesExhausted Reason = "retries_exhausted" // every attempt failed
	RetryBudget      Reason = "retry_budget"      // it failed, and the budget for repetitions is spent
	RetryTooLate     Reason = "retry_too_late"    // it failed, and the time that is left does not suffice for another attempt
	RetryAfterLong   Reason = "retry_after_long"  // it failed, and the dependency asked for a longer pause than is waited for
	NotIdempotent    Reason = "not_idempotent"    // it failed after it was sent, and a second time might do harm; only in Events.NotRepeated
	Failed           Reason = "failed"            // it failed in a way that is not repeated, or opened its circuit

	Panicked Reason = "panic" // the function given to Do panicked
)

// Error reports a call that a policy ended, or that failed and was not repeated. An error that is the dependency's own answer to a
// healthy call is not wrapped in an Error.
type Error struct {
	Name       string        // the dependency
	Circuit    string        // name of the circuit, for CircuitOpen, HalfOpenLimit and Isolated
	Reason     Reason        // which policy
	Class      string        // what went wrong: the class of the last outcome, or the policy's own
	RetryAfter time.Duration // when it makes sense to try again; 0 if nobody knows
	Attempts   int           // attempts that reached the dependency's function
	Executed   Executed      // whether the dependency may have acted on any of them
	Err        error         // the last error of the dependency; nil if it was not asked
}

func (e *Error) Error() string {
	var b strings.Builder
	switch e.Reason {
	case CircuitOpen, HalfOpenLimit:
		fmt.Fprintf(&b, "circuit breaker '%s' is open - service temporarily unavailable", e.Circuit)
	case Isolated:
		fmt.Fprintf(&b, "circuit breaker '%s' is isolated by an operator - service unavailable", e.Circuit)
	case BulkheadFull:
		fmt.Fprintf(&b, "%s: too many calls are running and waiting", e.Name)
	case QueueTimeout:
		fmt.Fprintf(&b, "%s: waited too long for other calls to finish", e.Name)
	case RateLimited:
		fmt.Fprintf(&b, "%s: rate limit reached", e.Name)
	case Cancelled:
		fmt.Fprintf(&b, "%s: call ended by its caller", e.Name)
	default:
		fmt.Fprintf(&b, "%s: %s", e.Name, strings.ReplaceAll(string(e.Reason), "_", " "))
	}
	if e.RetryAfter > 0 {
		fmt.Fprintf(&b, ", retry after %s", humanDuration(e.RetryAfter))
	}
	if e.Attempts > 1 {
		fmt.Fprintf(&b, " (%d attempts)", e.Attempts)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

// Unwrap returns the dependency's own error, if there is one.
func (e *Error) Unwrap() error { return e.Err }

// ErrOpen is matched (errors.Is) by every Error with which a circuit refused a call.
var ErrOpen = errors.New("circuit breaker is open")

// Is reports whether target is [ErrOpen] and a circuit refused the call, or target is [context.DeadlineExceeded] and a timeout of ours
// ended it.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrOpen:
		return e.Reason == CircuitOpen || e.Reason == HalfOpenLimit || e.Reason == Isolated
	case context.DeadlineExceeded:
		return e.Timeout()
	}
	return false
}

// Timeout reports whether a timeout of the policies ended the call.
func (e *Error) Timeout() bool {
	return e.Reason == AttemptTimeout || e.Reason == IdleTimeout || e.Reason == OverallTimeout
}

// TimeoutError is the cause ([context.Cause]) of an attempt's context that a timeout ended. It matches [context.DeadlineExceeded].
type TimeoutError struct {
	Reason Reason        // AttemptTimeout, IdleTimeout or OverallTimeout
	Limit  time.Duration // as configured
}

func (e *TimeoutError) Error() string {
	return strings.ReplaceAll(string(e.Reason), "_", " ") + " after " + e.Limit.String()
}

// Is reports whether target is [context.DeadlineExceeded].
func (*TimeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// Timeout returns true, as the net package's convention for errors asks.
func (*TimeoutError) Timeout() bool { return true }

// scope is the short name for logs: attempt, idle, overall.
func (e *TimeoutError) scope() string { return strings.TrimSuffix(string(e.Reason), "_timeout") }

// PanicError is a panic of the function given to Do, which would otherwise have ended the process.
type PanicError struct {
	Value any    // what was passed to panic
	At    string // file:line
	Stack []byte // of the goroutine that panicked
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v at %s", e.Value, e.At) }

// Unwrap returns the value of the panic if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// panicSite finds the line that panicked. It must be called by the function that recovers.
func panicSite() string {
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	// The frames between the deferred function and the runtime's own are the handler; the first one below the runtime panicked.
	for seen := false; ; {
		f, more := frames.Next()
		inRuntime := strings.HasPrefix(f.Function, "runtime.")
		if seen && !inRuntime {
			return fmt.Sprintf("%s:%d", f.File, f.Line)
		}
		seen = seen || inRuntime
		if !more {
			return "an unknown place"
		}
	}
}

// humanDuration rounds d to what a person wants to read: "2s", "1.5s", "250ms".
func humanDuration(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Millisecond).String()
}
