package resilience

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"
)

const (
	kindFirst = iota
	kindRetry
	kindHedge
)

var kindNames = [...]string{"first", "retry", "hedge"}

// attempt is one attempt of a call: the failsafe-go execution that the inner layers work on, and the result that they hand out.
type attempt struct {
	execution
	k    *call
	plan *plan
	kind int

	dep, key             *circuit // whose permits it holds
	depPermit, keyPermit permit
	slot                 bool // it holds a slot of the bulkhead

	number    int // among the attempts that reached the function; 0: it did not
	queued    time.Duration
	throttled time.Duration
	begin     time.Time // of the function
	end       time.Time
	took      time.Duration
	clock     clock

	value    any
	err      error
	outcome  Outcome
	rejected *Error // a policy ended it before it reached the function
	final    bool   // nothing better is to be had: the call ends with it
	alone    bool   // it ended while no other hedged attempt was in flight
	again    bool   // there will be another
	delay    time.Duration
	res      result
}

// now is the time at which the attempt got here, without asking the clock where nothing has been waited for.
func (a *attempt) now() time.Time {
	if a.kind == kindFirst && a == &a.k.first && a.queued == 0 && a.throttled == 0 {
		return a.k.start
	}
	return time.Now()
}

// result hands the attempt to failsafe-go.
func (a *attempt) result(err error) *result {
	a.res = result{Result: a, Error: err, Done: true, Success: true, SuccessAll: true}
	return &a.res
}

// reject ends an attempt that a policy refused.
func (a *attempt) reject(e *Error) *result {
	e.Name = a.plan.name
	a.rejected = e
	if f := a.plan.opts.Events.Rejected; f != nil {
		shown := *e
		shown.Executed, shown.Attempts = a.k.executed(), int(a.k.started.Load())
		f(a.k.Context, a.k.call, &shown)
	}
	return a.result(e)
}

// outOfTime ends an attempt whose call ran out of time in the queue.
func (a *attempt) outOfTime() *result {
	a.plan.timedOut(a.k, &TimeoutError{Reason: OverallTimeout, Limit: a.plan.cfg.Timeouts.Overall})
	return a.reject(&Error{Reason: OverallTimeout, Class: ClassTimeout})
}

// givenUp ends an attempt whose context ended before it reached the function.
func (a *attempt) givenUp(ctx context.Context) *result {
	a.err = ctx.Err()
	a.outcome = a.cut(Outcome{Sent: NotSent})
	return a.result(a.err)
}

// attempt is the innermost layer: it runs the function once.
func (p *plan) attempt(e execution) *result {
	a := e.(*attempt)
	k, t := a.k, &p.cfg.Timeouts
	a.begin = a.now()
	limit, reason := t.Attempt, AttemptTimeout
	if end := k.overall(); !end.IsZero() {
		if left := end.Sub(a.begin); left <= 0 {
			return a.outOfTime()
		} else if limit <= 0 || left < limit {
			limit, reason = left, OverallTimeout
		}
	}
	ctx := a.clock.start(e.Context(), a, limit, reason)
	defer a.clock.stop()
	a.number = int(k.started.Add(1))
	if p.opts.Detach {
		a.detached(ctx)
	} else {
		a.value, a.err = a.invoke(ctx)
	}
	a.end = time.Now()
	a.took = a.end.Sub(a.begin)
	a.judge(ctx)
	return a.result(a.err)
}

// invoke calls the function and turns a panic into an error.
func (a *attempt) invoke(ctx context.Context) (v any, err error) {
	defer func() {
		if p := recover(); p != nil {
			v, err = nil, &PanicError{Value: p, At: panicSite(), Stack: debug.Stack()}
		}
	}()
	return a.k.fn(ctx)
}

// contain runs f and turns a panic into an error.
func contain(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{Value: p, At: panicSite(), Stack: debug.Stack()}
		}
	}()
	return f()
}

const (
	detachedRunning = iota
	detachedDone
	detachedAbandoned
)

// detached runs the function on a goroutine of its own and waits for it or for the end of ctx, whichever comes first. The slot of the
// bulkhead goes with the function, so that a dependency which hangs fills its own bulkhead and nothing else.
func (a *attempt) detached(ctx context.Context) {
	type answer struct {
		value any
		err   error
	}
	p, slot := a.plan, a.slot
	a.slot = false
	ch := make(chan answer, 1)
	var state atomic.Int32
	p.enter()
	go func() {
		defer p.leave()
		v, err := a.invoke(ctx)
		if slot {
			p.locked(p.bulkhead.release)
		}
		if state.CompareAndSwap(detachedRunning, detachedDone) {
			ch <- answer{v, err}
			return
		}
		p.locked(func() { p.abandoned--; p.count.Late++ })
		if f := p.opts.Events.Late; f != nil {
			f(a.k.Context, a.k.call, err)
		}
	}()
	select {
	case r := <-ch:
		a.value, a.err = r.value, r.err
	case <-ctx.Done():
		p.locked(func() { p.abandoned++ })
		if state.CompareAndSwap(detachedRunning, detachedAbandoned) {
			a.err = ctx.Err()
			return
		}
		p.locked(func() { p.abandoned-- })
		r := <-ch // it came at the same moment: an answer that is here counts
		a.value, a.err = r.value, r.err
	}
}

// judge finds out what the attempt came to.
func (a *attempt) judge(ctx context.Context) {
	p, k := a.plan, a.k
	o := p.classify(ctx, a.value, a.err)
	switch limit := p.cfg.Timeouts.Attempt; {
	case a.err != nil && ctx.Err() != nil && o.Sent != Answered && o.Class != ClassPanic:
		o = a.cut(o)
	case k.shadow && limit > 0 && a.took >= limit && o.Breaker == Success:
		o.Breaker, o.Class = Failure, ClassTimeout // what would have happened
	}
	a.outcome = o
	if a.err == nil && (o.Retry == RetryNever || k.shadow) {
		a.final = true
		k.answer.CompareAndSwap(nil, a)
	} else if mayHaveRun(o) {
		k.maybeRun.Store(true)
	}
}

// cut is the outcome of an attempt that ended because its context did. What is known of the request, how far it got, stays.
func (a *attempt) cut(o Outcome) Outcome {
	out := Outcome{Breaker: Ignored, Retry: RetryNever, Sent: o.Sent}
	switch fired, callers := a.clock.fired.Load(), a.k.Context.Err(); {
	case fired != nil:
		out.Breaker, out.Class, out.Incident = Failure, ClassTimeout, o.Incident
		if fired.Reason != OverallTimeout {
			out.Retry = RetryIdempotent
		}
		if slices.Contains(a.plan.cfg.CircuitBreaker.ExcludedErrors, ClassTimeout) {
			out.Breaker = Ignored
		}
	case callers == nil:
		out.Class = ClassHedgeLost
	case errors.Is(callers, context.DeadlineExceeded):
		out.Class = ClassCallerDeadline
	default:
		out.Class = ClassCancelled
	}
	return out
}

// answered reports whether the attempt's error is the dependency's own answer to a healthy call, which is nobody's business to wrap.
func (a *attempt) answered() bool {
	o := &a.outcome
	return a.err != nil && a.rejected == nil && o.Retry == RetryNever && (o.Breaker == Success || o.Sent == Answered && o.Breaker == Ignored)
}

// ending is the Reason of a call that ends with this attempt because it is not repeated.
func (a *attempt) ending() Reason {
	switch fired := a.clock.fired.Load(); {
	case a.outcome.Class == ClassPanic:
		return Panicked
	case a.outcome.Class == ClassCancelled, a.outcome.Class == ClassCallerDeadline, a.outcome.Class == ClassHedgeLost:
		return Cancelled
	case fired != nil && a.outcome.Class == ClassTimeout:
		return fired.Reason
	}
	return Failed
}

// ended tells of the end of an attempt, once it holds nothing any more.
func (a *attempt) ended() {
	p, k := a.plan, a.k
	if a.number == 0 {
		return
	}
	o := &a.outcome
	if o.Breaker == Success && a.err == nil {
		if p.hedged != nil {
			p.mu.Lock()
			p.latencies.add(a.took)
			p.mu.Unlock()
		}
	} else {
		p.failed(k, a)
	}
	if f := p.opts.Events.Attempt; f != nil {
		f(k.Context, k.call, AttemptInfo{
			Number: a.number, Kind: kindNames[a.kind], Outcome: *o, Took: a.took, Queued: a.queued, Throttled: a.throttled, Err: a.err,
		})
	}
}

// failed logs, counts and remembers an attempt that was no success.
func (p *plan) failed(k *call, a *attempt) {
	if fired := a.clock.fired.Load(); fired != nil && a.outcome.Class == ClassTimeout {
		p.timedOut(k, fired)
	}
	if pe, ok := a.err.(*PanicError); ok { //nolint:errorlint // made by invoke, never wrapped
		p.mu.Lock()
		p.count.Panics++
		p.mu.Unlock()
		p.log.panicked(k.Context, k.call, pe)
		if f := p.opts.Events.Panic; f != nil {
			f(k.Context, k.call, pe)
		}
	}
	switch a.outcome.Class {
	case ClassCancelled, ClassCallerDeadline, ClassHedgeLost, "":
		return
	}
	if p.cfg.ErrorTracking.Enabled {
		rec := ErrorRecord{Time: a.end.UTC().Round(0), Key: k.call.Key, Class: a.outcome.Class, Message: p.message(a.err), TraceID: k.call.TraceID}
		p.mu.Lock()
		p.tracker.add(rec)
		p.mu.Unlock()
	}
}

func (p *plan) timedOut(k *call, e *TimeoutError) {
	p.mu.Lock()
	p.count.Timeouts++
	p.mu.Unlock()
	p.log.timeout(k.Context, k.call, e, k.executed())
	if f := p.opts.Events.Timeout; f != nil {
		f(k.Context, k.call, e)
	}
}
