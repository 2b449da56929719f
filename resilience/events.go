package resilience

import (
	"context"
	"time"
)

// Events are functions that a Guard calls when something happens, for metrics and notifications. Any of them may be nil. They run on
// the goroutine that the event happened on, outside every lock, and must not block: a call waits for them. Calls of the same Guard may
// run them at the same time, except StateChange.
//
// The context is that of the call, so that exemplars and trace ids can be found in it.
type Events struct {
	// StateChange tells of a circuit. The changes of one Guard arrive one at a time and in order.
	StateChange func(StateChange)
	// Rejected tells of a refusal before the dependency heard of the call. In shadow mode the call goes on all the same.
	Rejected func(ctx context.Context, c Call, e *Error)
	// Attempt tells of an attempt that ended. For the loser of a hedge it may come after Do has returned.
	Attempt func(ctx context.Context, c Call, a AttemptInfo)
	// Retry tells that an attempt failed and will be repeated after Delay.
	Retry func(ctx context.Context, c Call, r RetryInfo)
	// NotRepeated tells that an attempt failed and why it is not repeated although its outcome would allow it, or, with NotIdempotent,
	// would allow it for another call.
	NotRepeated func(ctx context.Context, c Call, why Reason)
	// Timeout tells of a timeout that ended an attempt or call.
	Timeout func(ctx context.Context, c Call, e *TimeoutError)
	// Late tells of an attempt that ended after its caller was gone. With err nil the dependency has acted on a call whose caller was
	// told that it is not known.
	Late func(ctx context.Context, c Call, err error)
	// Fallback tells that a fallback ran. err is its own error.
	Fallback func(ctx context.Context, c Call, name string, err error)
	// Panic tells of a panic in the function given to Do.
	Panic func(ctx context.Context, c Call, e *PanicError)
	// Done tells of a call that ended.
	Done func(ctx context.Context, c Call, d CallInfo)
}

// StateChange is one step of a circuit.
type StateChange struct {
	Circuit    string // its name
	Key        string // Call.Key of a circuit that is not the whole dependency's
	From, To   State
	At         time.Time
	Reason     string        // "consecutive failures", "failure rate", "slow call rate", "trial failed", "manual", ...
	Failures   int           // that led to it
	RetryAfter time.Duration // To == Open: until the first trial
	Outage     time.Duration // To == Closed: since the circuit first opened
}

// AttemptInfo is one attempt that ended.
type AttemptInfo struct {
	Number    int    // 1 for the first
	Kind      string // "first", "retry" or "hedge"
	Outcome   Outcome
	Took      time.Duration // of the dependency alone
	Queued    time.Duration // waited for the bulkhead
	Throttled time.Duration // waited for the rate limit
	Err       error
}

// AttemptOf returns the number of the attempt whose context is ctx, 1 for the first, and its kind: "first", "retry" or "hedge". Where ctx
// belongs to no attempt, because the policies are off, it is the first.
func AttemptOf(ctx context.Context) (number int, kind string) {
	if c := clockOf(ctx); c != nil {
		return c.a.number, kindNames[c.a.kind]
	}
	return 1, kindNames[kindFirst]
}

// RetryInfo is a repetition that is about to be made.
type RetryInfo struct {
	Attempt int // the attempt that failed, 1 for the first
	Max     int // of attempts
	Outcome Outcome
	Delay   time.Duration
	Err     error
}

// CallInfo is a call that ended.
type CallInfo struct {
	Attempts int
	Took     time.Duration // everything: waiting, attempts and pauses
	Waited   time.Duration // the part of Took that was spent in queues and pauses
	Hedged   bool          // the answer was a hedge's
	Err      error
}
