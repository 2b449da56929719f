package resilience

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/fallback"
)

// Fallback is one way to answer a call that the dependency did not. The fallbacks of a call are tried in order until one succeeds, each
// within its own time, outside the overall timeout: otherwise a call that timed out could never be answered.
//
// They are tried if a policy refused the call or the dependency failed, and only if that cannot make a change twice: the call is
// [ReadOnly], or provably has not been executed. A wrong argument, a refused login, a caller that went away and a panic are not mended by
// asking somebody else. If all of them fail, the error is that of the dependency, joined with theirs.
type Fallback[R any] struct {
	Name    string        // for logs and events
	Timeout time.Duration // 0: as long as the caller waits
	// Func answers in the dependency's place. cause is the error that the caller would get, an *[Error].
	Func func(ctx context.Context, cause error) (R, error)
}

// withFallbacks runs k and, if need be, its fallbacks.
func withFallbacks[R any](k *call, fallbacks []Fallback[R]) (R, error) {
	var (
		ran   bool
		r     R
		err   error
		cause *Error
	)
	policy := fallback.NewBuilderWithFunc(func(failsafe.Execution[R]) (R, error) {
		ran = true
		r, err = chain(k, fallbacks, cause)
		return r, err
	}).HandleIf(func(_ R, err error) bool {
		if cause != nil { // asked again about the result of the fallback
			return false
		}
		cause, _ = err.(*Error) //nolint:errorlint // an Error that k made is not wrapped
		return cause != nil && k.mendable()
	}).Build()
	got, gotErr := failsafe.With(policy).WithContext(k.Context).Get(func() (R, error) {
		v, err := k.do()
		r, _ := v.(R)
		return r, err
	})
	// failsafe-go gives the answer of a fallback up for lost if the caller's context ends while it arrives.
	switch {
	case ran:
		return r, err
	case cause != nil:
		return got, cause
	}
	return got, gotErr
}

// mendable reports whether somebody else may answer the call.
func (k *call) mendable() bool {
	if k.call.Safety != ReadOnly && k.maybeRun.Load() || k.Context.Err() != nil {
		return false
	}
	switch k.why {
	case Cancelled, Panicked:
		return false
	}
	if k.last == nil || k.last.rejected != nil {
		return true // refused before it was tried
	}
	o := k.last.outcome
	return o.Breaker == Failure || o.Retry == RetryRejected
}

// chain tries the fallbacks in order.
func chain[R any](k *call, fallbacks []Fallback[R], cause *Error) (R, error) {
	p := k.plan
	errs := []error{cause.Err}
	class := cause.Class
	for _, f := range fallbacks {
		p.log.fallback(k.Context, k.call, class, f.Name)
		r, err := f.run(k.Context, cause)
		p.mu.Lock()
		p.count.Fallbacks++
		if err == nil {
			p.count.Rescued++
		}
		p.mu.Unlock()
		if tell := p.opts.Events.Fallback; tell != nil {
			tell(k.Context, k.call, f.Name, err)
		}
		if err == nil {
			return r, nil
		}
		errs = append(errs, fmt.Errorf("fallback %q: %w", f.Name, err))
		if k.Context.Err() != nil {
			break
		}
	}
	e := *cause
	e.Err = errors.Join(errs...)
	var zero R
	return zero, &e
}

func (f *Fallback[R]) run(ctx context.Context, cause error) (r R, err error) {
	if f.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.Timeout)
		defer cancel()
	}
	err = contain(func() error {
		var err error
		r, err = f.Func(ctx, cause)
		return err
	})
	return r, err
}
