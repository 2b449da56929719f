package resilience

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// clock is the context of an attempt, with the timers that end it. It is a context of its own because the deadline moves: progress puts
// it off, and while the dependency waits for somebody else it stands still. One timer serves all limits; it is set for the next of them
// and looks again when it fires, so that progress costs no timer.
type clock struct {
	context.Context // ends when the attempt does
	a               *attempt
	cancel          context.CancelCauseFunc
	timer           *time.Timer
	fired           atomic.Pointer[TimeoutError] // the limit that ended the attempt

	mu      sync.Mutex
	hard    time.Time // the attempt ends then, progress or not; zero: never
	why     TimeoutError
	idle    time.Time // the attempt ends then unless it shows progress; zero: never
	last    time.Time // progress cannot put hard off further than this; zero: not at all
	pauses  int
	paused  time.Time
	stopped bool
}

// start returns the context of an attempt that ends after limit, which is reason's. In shadow mode nothing ends it.
func (c *clock) start(parent context.Context, a *attempt, limit time.Duration, reason Reason) context.Context {
	c.Context, c.cancel = context.WithCancelCause(parent)
	c.a = a
	t := &a.plan.cfg.Timeouts
	if a.k.shadow || limit <= 0 && t.Idle <= 0 {
		return c
	}
	wait := limit
	if limit > 0 {
		c.hard = a.begin.Add(limit)
		c.why = TimeoutError{Reason: reason, Limit: t.Attempt}
		if reason == OverallTimeout {
			c.why.Limit = t.Overall
		}
		if t.ProgressMax > 0 {
			c.last = a.begin.Add(t.ProgressMax)
		}
	}
	if t.Idle > 0 {
		c.idle = a.begin.Add(t.Idle)
		if limit <= 0 || t.Idle < limit {
			wait = t.Idle
		}
	}
	// The timer may fire before AfterFunc has returned, and then wants to reset itself.
	c.mu.Lock()
	c.timer = time.AfterFunc(wait, c.fire)
	c.mu.Unlock()
	return c
}

// stop ends the context with the attempt.
func (c *clock) stop() {
	c.mu.Lock()
	c.stopped = true
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	c.cancel(nil)
}

// fire ends the attempt if a limit has been reached, and otherwise waits for the next.
func (c *clock) fire() {
	if why := c.due(); why != nil {
		c.fired.Store(why)
		c.cancel(why)
	}
}

// due returns the limit that has been reached; if there is none yet, it sets the timer for the next.
func (c *clock) due() *TimeoutError {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped || c.pauses > 0 {
		return nil
	}
	next, why := c.hard, c.why
	if !c.idle.IsZero() && (next.IsZero() || c.idle.Before(next)) {
		next, why = c.idle, TimeoutError{Reason: IdleTimeout, Limit: c.a.plan.cfg.Timeouts.Idle}
	}
	if wait := time.Until(next); wait > 0 {
		c.timer.Reset(wait)
		return nil
	}
	return &why
}

// progress restarts idle and, as far as ProgressMax allows, puts the end of the attempt off.
func (c *clock) progress(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &c.a.plan.cfg.Timeouts
	if !c.idle.IsZero() {
		c.idle = now.Add(t.Idle)
	}
	if c.last.IsZero() || t.Attempt <= 0 {
		return
	}
	end, why := now.Add(t.Attempt), TimeoutError{Reason: AttemptTimeout, Limit: t.Attempt}
	if end.After(c.last) {
		end, why.Limit = c.last, t.ProgressMax
	}
	if end.After(c.hard) {
		c.hard, c.why = end, why
	}
}

// pause stops the clock until resume has been called as often.
func (c *clock) pause(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pauses++; c.pauses == 1 {
		c.paused = now
	}
}

func (c *clock) resume(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pauses--; c.pauses > 0 || c.stopped {
		return
	}
	d := now.Sub(c.paused)
	for _, t := range []*time.Time{&c.hard, &c.idle, &c.last} {
		if !t.IsZero() {
			*t = t.Add(d)
		}
	}
	c.a.k.extra.Add(int64(d))
	if c.timer != nil {
		c.timer.Reset(0) // to look again
	}
}

// Deadline implements context.Context.
func (c *clock) Deadline() (time.Time, bool) {
	end, ok := c.Context.Deadline()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.hard.IsZero() && (!ok || c.hard.Before(end)) {
		return c.hard, true
	}
	return end, ok
}

// Err implements context.Context. Code that asks for it hears of a deadline, not of somebody who cancelled.
func (c *clock) Err() error {
	err := c.Context.Err()
	if err != nil && c.fired.Load() != nil {
		return context.DeadlineExceeded
	}
	return err
}

type clockKey struct{}

// Value implements context.Context.
func (c *clock) Value(key any) any {
	if key == (clockKey{}) {
		return c
	}
	return c.Context.Value(key)
}

func clockOf(ctx context.Context) *clock {
	c, _ := ctx.Value(clockKey{}).(*clock)
	return c
}

// Progress tells that the dependency has shown a sign of life in the attempt whose context is ctx, or a context derived from it: the
// idle timeout starts again, and the attempt may take longer, as [TimeoutsConfig] says. On any other context it does nothing.
func Progress(ctx context.Context) {
	if c := clockOf(ctx); c != nil {
		c.progress(time.Now())
	}
}

// Pause stops the clock of the attempt whose context is ctx, for the time that the dependency waits for somebody else, such as a person
// who is asked a question. The function it returns lets the clock run again; it must be called once.
func Pause(ctx context.Context) (resume func()) {
	c := clockOf(ctx)
	if c == nil {
		return func() {}
	}
	c.pause(time.Now())
	return sync.OnceFunc(func() { c.resume(time.Now()) })
}

// AttemptNumber returns the number of the attempt whose context is ctx, 1 for the first, and 0 on any other context.
func AttemptNumber(ctx context.Context) int {
	if c := clockOf(ctx); c != nil {
		return c.a.number
	}
	return 0
}
