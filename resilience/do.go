package resilience

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go"
)

// Call describes one call to the policies. The zero value is an unsafe call without a key.
type Call struct {
	// Safety says whether the call may be made twice. Config.Safety, where set, overrides it.
	Safety Safety
	// Key is the part of the dependency that the call is about, such as the name of a tool. It names a circuit where the scope of the
	// circuit breaker has one per tool, so keys must come from a bounded set. A Guard made by Sub knows its own.
	Key string
	// Session decides by its hash whether the policies apply to the call while they are being rolled out.
	Session string
	// TraceID is kept with the error of a failed attempt.
	TraceID string
}

// Do calls fn under the policies of g and returns what it returned. Every attempt gets a context of its own, derived from ctx, that
// ends with the attempt: a result must not need it any more.
//
// An error that is not to be repeated and does not speak against the dependency (its outcome has Breaker Success, or it is Answered and
// Ignored) is fn's own, and so is any error in shadow mode. Any other is an *[Error] around it. A result that the Classifier wants repeated is returned with a nil error once
// repeating did not help.
//
// If the call fails in a way that a fallback may mend, fallbacks are tried in order; see [Fallback].
//
// A nil Guard, and one whose configuration is off, just calls fn.
func Do[R any](ctx context.Context, g *Guard, c Call, fn func(context.Context) (R, error), fallbacks ...Fallback[R]) (R, error) {
	if g == nil {
		return fn(ctx)
	}
	p := g.plan.Load()
	if p.off {
		return fn(ctx)
	}
	if c.Key == "" {
		c.Key = g.key
	}
	if p.safety != nil {
		c.Safety = *p.safety
	}
	now, shadow := time.Now(), p.shadows(&c)
	if len(fallbacks) == 0 {
		if err := p.refusedAtOnce(ctx, &c, now, shadow); err != nil {
			var zero R
			return zero, err
		}
	}
	k := &call{Context: ctx, plan: p, call: c, start: now, shadow: shadow}
	k.fn = func(ctx context.Context) (any, error) { return fn(ctx) }
	if len(fallbacks) > 0 && !shadow {
		return withFallbacks(k, fallbacks)
	}
	v, err := k.do()
	r, _ := v.(R) // v is nil, or what fn returned
	return r, err
}

// call is one call on its way through the policies. It is the context of the failsafe-go execution, which is how the layers find it.
type call struct {
	context.Context // the caller's
	plan            *plan
	call            Call
	fn              func(context.Context) (any, error)
	start           time.Time
	shadow          bool

	// What decide found out; it runs on the goroutine of Do.
	replay *result       // what the first round of the loop has to return, because it has been made already
	last   *attempt      // the latest that failed
	why    Reason        // why there is no further round
	wait   time.Duration // until the circuit is tried again

	tries    atomic.Int32 // rounds of the retry loop
	flying   atomic.Int32 // hedged attempts in flight
	begun    atomic.Int32 // attempts made, to hand out first
	started  atomic.Int32 // attempts that reached fn
	maybeRun atomic.Bool  // the dependency may have acted on one of them
	waited   atomic.Int64 // ns in queues and pauses
	extra    atomic.Int64 // ns that the clocks stood still
	answer   atomic.Pointer[attempt]
	direct   direct
	first    attempt // saves an allocation
}

type callKey struct{}

// Value implements context.Context.
func (k *call) Value(key any) any {
	if key == (callKey{}) {
		return k
	}
	return k.Context.Value(key)
}

// callOf finds the call that an execution is about.
func callOf(ctx context.Context) *call {
	if k, ok := ctx.(*call); ok {
		return k
	}
	k, _ := ctx.Value(callKey{}).(*call)
	return k
}

// overall is the time when the whole call has to end; zero if it need not.
func (k *call) overall() time.Time {
	if d := k.plan.cfg.Timeouts.Overall; d > 0 && !k.shadow {
		return k.start.Add(d + time.Duration(k.extra.Load()))
	}
	return time.Time{}
}

// left is how much time the call has at the time now, by its own limit and the caller's.
func (k *call) left(now time.Time) (time.Duration, bool) {
	end := k.overall()
	if d, ok := k.Deadline(); ok && (end.IsZero() || d.Before(end)) {
		end = d
	}
	return end.Sub(now), !end.IsZero()
}

// do runs the call without its fallbacks.
func (k *call) do() (any, error) {
	a, err := k.run()
	// failsafe-go gives an answer up for lost if the context ends while it arrives; it has arrived all the same.
	if got := k.answer.Load(); got != nil && (a == nil || !a.final) {
		a = got
	}
	if a == nil {
		a = k.last
	}
	if a != nil && a.rejected != nil && k.last != nil && k.last.err == nil {
		a = k.last // no second try for a result that was worth one
	}
	switch {
	case a == nil: // the context ended before the first attempt
		return nil, k.done(nil, k.cancelled(err))
	case a.err == nil && a.rejected == nil:
		return a.value, k.done(a, nil)
	case a.answered() || k.shadow && a.rejected == nil:
		return a.value, k.done(a, a.err)
	}
	return a.value, k.done(a, k.failure(a))
}

// run makes the attempts and returns the last of them.
func (k *call) run() (*attempt, error) {
	p := k.plan
	if k.call.Safety == ReadOnly && p.hedged != nil && !k.shadow {
		return p.hedged.WithContext(k).Get(noFunction)
	}
	// The first attempt needs no loop. failsafe-go's is entered, with the result of the first attempt, when there is a second: its
	// executor and retry policy cost fifteen allocations, which a call that just succeeds can save.
	k.direct.ctx = k //nolint:fatcontext // one value deep: the execution of this very call
	res := p.round(&k.direct)
	if !res.Result.again {
		return res.Result, res.Error
	}
	k.replay = res
	return p.loop.WithContext(k).Get(noFunction)
}

// direct is the execution of an attempt outside failsafe-go's executor. Only our own layers see it, and these two methods are all that
// they ask for.
type direct struct {
	execution
	ctx context.Context
}

func (d *direct) Context() context.Context { return d.ctx }
func (d *direct) IsHedge() bool            { return false }

// noFunction stands for the function in failsafe-go's composition, whose innermost layer calls the real one: only that layer has the
// context of the attempt.
func noFunction() (*attempt, error) {
	return nil, errors.New("resilience: the innermost policy did not run")
}

// refusedAtOnce is the short way for calls to a dependency whose circuit is open: it says what the breaker layer would.
func (p *plan) refusedAtOnce(ctx context.Context, call *Call, now time.Time, shadow bool) error {
	until := p.openUntil.Load()
	if until == 0 || !p.useDep || shadow || int64(now.Sub(p.base)) >= until {
		return nil
	}
	p.mu.Lock()
	c := p.circuit
	refused, wait := c.refusing(now, now)
	if !refused {
		p.mu.Unlock()
		return nil
	}
	e := &Error{Name: p.name, Circuit: c.name, Reason: CircuitOpen, Class: ClassCircuitOpen, RetryAfter: wait, Executed: ExecutedNo}
	if c.state == StateIsolated {
		e.Reason = Isolated
	}
	c.tot.Rejected++
	p.count.Calls++
	p.budget.deposit()
	p.mu.Unlock()
	if f := p.opts.Events.Rejected; f != nil {
		f(ctx, *call, e)
	}
	if f := p.opts.Events.Done; f != nil {
		f(ctx, *call, CallInfo{Took: time.Since(now), Err: e})
	}
	return e
}

// executed says whether the dependency may have acted on the call.
func (k *call) executed() Executed {
	if k.maybeRun.Load() {
		return ExecutedUnknown
	}
	return ExecutedNo
}

// failure is the error of a call whose last attempt is a.
func (k *call) failure(a *attempt) *Error {
	if e := a.rejected; e != nil {
		e.Attempts, e.Executed = int(k.started.Load()), k.executed()
		if k.last != nil && k.last != a {
			e.Err = k.last.err
		}
		return e
	}
	e := &Error{
		Name: k.plan.name, Reason: k.why, Class: a.outcome.Class, RetryAfter: max(a.outcome.RetryAfter, k.wait),
		Attempts: int(k.started.Load()), Executed: k.executed(), Err: a.err,
	}
	if a.again { // the caller went away during the pause before the next attempt
		e.Reason = Cancelled
		e.Err = errors.Join(context.Cause(k.Context), a.err)
	}
	return e
}

// cancelled is the error of a call whose caller went away before anything happened.
func (k *call) cancelled(err error) *Error {
	class := ClassCancelled
	if errors.Is(err, context.DeadlineExceeded) {
		class = ClassCallerDeadline
	}
	return &Error{Name: k.plan.name, Reason: Cancelled, Class: class, Executed: ExecutedNo, Err: err}
}

// done tells of the end of the call and returns err.
func (k *call) done(a *attempt, err error) error {
	p := k.plan
	if err == nil && (k.tries.Load() > 1 || a != nil && a.kind == kindHedge) {
		p.mu.Lock()
		if k.tries.Load() > 1 {
			p.count.RetrySuccesses++
		}
		if a != nil && a.kind == kindHedge {
			p.count.HedgeWins++
		}
		p.mu.Unlock()
	}
	if f := p.opts.Events.Done; f != nil {
		f(k.Context, k.call, CallInfo{
			Attempts: int(k.started.Load()), Took: time.Since(k.start), Waited: time.Duration(k.waited.Load()),
			Hedged: a != nil && a.kind == kindHedge, Err: err,
		})
	}
	return err
}

var _ failsafe.Policy[*attempt] = layer(nil)
