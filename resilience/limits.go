package resilience

import (
	"math"
	"time"
)

// bulkhead counts the calls in flight and keeps the line of those that wait, first come, first served. Every method wants the Guard's
// mutex held.
type bulkhead struct {
	cfg      BulkheadConfig
	inFlight int
	head     *waiter
	tail     *waiter
	queued   int
	full     uint64
	timedOut uint64
	high     int
}

// waiter is one place in the line.
type waiter struct {
	ready      chan struct{} // closed when the slot is the waiter's
	prev, next *waiter
	in         bool // still in the line
}

// acquire takes a slot, or a place in the line; with neither the bulkhead is full.
func (b *bulkhead) acquire() (w *waiter, ok bool) {
	if b.inFlight < b.cfg.MaxConcurrent && b.queued == 0 {
		b.take()
		return nil, true
	}
	if b.queued >= b.cfg.MaxQueued || b.cfg.Timeout <= 0 {
		b.full++
		return nil, false
	}
	w = &waiter{ready: make(chan struct{}), prev: b.tail, in: true}
	if b.tail == nil {
		b.head = w
	} else {
		b.tail.next = w
	}
	b.tail = w
	b.queued++
	return w, true
}

// leave gives up a place in the line. A slot that came at the same moment is handed on.
func (b *bulkhead) leave(w *waiter) {
	if !w.in {
		b.release()
		return
	}
	b.unlink(w)
}

func (b *bulkhead) unlink(w *waiter) {
	if w.prev == nil {
		b.head = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		b.tail = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.prev, w.next, w.in = nil, nil, false
	b.queued--
}

func (b *bulkhead) take() {
	b.inFlight++
	b.high = max(b.high, b.inFlight)
}

func (b *bulkhead) release() {
	b.inFlight--
	b.admit()
}

// admit lets in as many waiters as there is room for.
func (b *bulkhead) admit() {
	for b.head != nil && b.inFlight < b.cfg.MaxConcurrent {
		w := b.head
		b.unlink(w)
		b.take()
		close(w.ready)
	}
}

// reconfigure resizes the bulkhead. Nobody is thrown out: a smaller one is reached as calls end.
func (b *bulkhead) reconfigure(cfg BulkheadConfig) {
	b.cfg = cfg
	b.admit()
}

// rateLimit is a token bucket in which callers may take tokens of the near future and wait for them. Every method wants the Guard's
// mutex held.
type rateLimit struct {
	cfg      RateLimitConfig
	tokens   float64 // below 0: taken in advance
	last     time.Time
	paused   time.Time // the dependency asked for quiet until then
	rejected uint64
}

func (r *rateLimit) reconfigure(cfg RateLimitConfig, now time.Time) {
	if r.last.IsZero() {
		r.tokens = float64(cfg.Burst)
	} else {
		r.refill(now)
		r.tokens = min(r.tokens, float64(cfg.Burst))
	}
	r.cfg, r.last = cfg, now
}

func (r *rateLimit) rate() float64 { return float64(r.cfg.Requests) / r.cfg.Per.Seconds() }

func (r *rateLimit) refill(now time.Time) {
	if d := now.Sub(r.last); d > 0 {
		r.tokens = min(float64(r.cfg.Burst), r.tokens+d.Seconds()*r.rate())
		r.last = now
	}
}

// reserve takes one token and says how long to wait for it. With ok false none was taken, and wait says when there will be one.
func (r *rateLimit) reserve(now time.Time) (wait time.Duration, ok bool) {
	r.refill(now)
	if r.tokens < 1 {
		wait = time.Duration(math.Ceil((1 - r.tokens) / r.rate() * float64(time.Second)))
	}
	wait = max(wait, r.paused.Sub(now))
	if wait > r.cfg.MaxWait {
		r.rejected++
		return wait, false
	}
	r.tokens--
	return wait, true
}

// giveBack returns the token of a caller that did not wait for it, so that those who left do not delay those who come.
func (r *rateLimit) giveBack() { r.tokens = min(float64(r.cfg.Burst), r.tokens+1) }

// pause keeps everybody quiet until the dependency wants to hear from us again.
func (r *rateLimit) pause(now time.Time, d time.Duration) {
	if until := now.Add(d); until.After(r.paused) {
		r.paused = until
	}
}

// budget bounds what repetitions add to the load: calls and time earn tokens, a repetition spends one. It counts tokens and not, as
// failsafe-go's does, the share of repetitions in flight, because instant failures are never in flight. Every method wants the Guard's
// mutex held.
type budget struct {
	cfg     BudgetConfig
	tokens  float64
	earned  float64 // by calls, and not yet set against what time earns
	last    time.Time
	refused uint64
}

func (b *budget) reconfigure(cfg BudgetConfig, now time.Time) {
	if b.last.IsZero() {
		b.tokens = cfg.Burst
	} else {
		b.refill(now)
		b.tokens = min(b.tokens, cfg.Burst)
	}
	b.cfg, b.last = cfg, now
}

func (b *budget) on() bool { return b.cfg != BudgetConfig{} }

// refill adds what time earns: as much as is missing from what calls have earned, so that rare callers may repeat too and frequent ones
// get no more than their share.
func (b *budget) refill(now time.Time) {
	if d := now.Sub(b.last); d > 0 {
		least := d.Seconds() * b.cfg.MinPerSecond
		counted := min(b.earned, least)
		b.earned -= counted
		b.tokens = min(b.cfg.Burst, b.tokens+least-counted)
		b.last = now
	}
}

// deposit adds what a call earns. What is set against time is at most a second's worth: a burst of calls is soon forgotten.
func (b *budget) deposit() {
	b.tokens = min(b.cfg.Burst, b.tokens+b.cfg.Ratio)
	b.earned = min(b.cfg.MinPerSecond, b.earned+b.cfg.Ratio)
}

func (b *budget) withdraw(now time.Time) bool {
	b.refill(now)
	// A tenth of a token may be lost in adding up fractions; a repetition must not be.
	if b.tokens < 1-1e-9 {
		b.refused++
		return false
	}
	b.tokens = max(0, b.tokens-1)
	return true
}
