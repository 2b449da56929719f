package resilience

import (
	"context"
	"math/rand/v2"
	"time"
)

// begin makes the attempt that the inner layers work on and tells of its end.
func (p *plan) begin(next handler) handler {
	return func(e execution) *result {
		k := callOf(e.Context())
		a := &k.first
		if k.begun.Add(1) > 1 {
			a = &attempt{}
		}
		a.execution, a.k, a.plan = e, k, p
		a.outcome.Breaker = Ignored // until it has been judged: whatever unwinds the stack proves nothing
		switch {
		case e.IsHedge():
			a.kind = kindHedge
		case k.tries.Load() > 0:
			a.kind = kindRetry
		}
		if p.hedged != nil && k.call.Safety == ReadOnly && !k.shadow { // runs on a goroutine of failsafe-go's
			k.flying.Add(1)
			p.enter()
			defer p.leave()
			defer func() { a.alone = k.flying.Add(-1) == 0 }()
		}
		if a.kind == kindHedge && !p.mayHedge() {
			a.rejected = &Error{Name: p.name, Reason: RetryBudget, Class: ClassRateLimited}
			return a.result(a.rejected)
		}
		res := next(a)
		a.ended()
		return res
	}
}

// mayHedge takes a token for a hedge.
func (p *plan) mayHedge() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.budget.on() && !p.budget.withdraw(time.Now()) {
		return false
	}
	p.count.Hedges++
	return true
}

// breaker lets the attempt pass if the circuits that it belongs to do, and tells them what came of it.
func (p *plan) breaker(next handler) handler {
	return func(e execution) *result {
		a := e.(*attempt)
		if rejected := a.admit(); rejected != nil {
			return a.reject(rejected)
		}
		defer a.settle()
		return next(a)
	}
}

// admit takes the permits of the attempt, all or none.
func (a *attempt) admit() *Error {
	p, k := a.plan, a.k
	var rejected *Error
	p.mu.Lock()
	if a == &k.first {
		p.count.Calls++
		p.budget.deposit()
	}
	if p.useDep {
		rejected = a.take(p.circuit, &a.depPermit)
		if rejected == nil {
			a.dep = p.circuit
		}
	}
	if p.useKey && k.call.Key != "" && rejected == nil {
		c := p.keyed(k.call.Key, p, k.start)
		rejected = a.take(c, &a.keyPermit)
		switch {
		case rejected == nil:
			a.key = c
		case a.dep != nil:
			a.dep.settle(a.depPermit, time.Now(), Outcome{Breaker: Ignored}, "", 0)
			a.dep = nil
		}
	}
	p.unlock()
	return rejected
}

// take asks c for a permit. It wants mu held. In shadow mode a refusal is counted and the attempt goes on without a permit.
func (a *attempt) take(c *circuit, into *permit) *Error {
	now := a.k.start
	if c.state != StateClosed {
		now = time.Now()
	}
	p, reason, wait := c.acquire(now)
	if reason != "" && a.k.shadow {
		p, reason = permit{stray: true}, ""
	}
	*into = p
	if reason == "" {
		return nil
	}
	return &Error{Circuit: c.name, Reason: reason, Class: ClassCircuitOpen, RetryAfter: wait}
}

// settle gives the permits back with what came of the attempt.
func (a *attempt) settle() {
	p, o := a.plan, a.outcome
	msg := ""
	if o.Breaker != Success {
		msg = p.message(a.err)
	}
	now := a.end
	if now.IsZero() {
		now = time.Now()
	}
	p.mu.Lock()
	if a.number > 0 {
		p.count.Attempts++
		if a.kind == kindRetry {
			p.count.Retries++
		}
		if p.cfg.RateLimit.Enabled && o.RetryAfter > 0 && o.Retry == RetryRejected && p.cfg.Retry.RespectRetryAfter {
			p.rate.pause(now, min(o.RetryAfter, p.cfg.Retry.MaxRetryAfter))
		}
	}
	if a.dep != nil {
		whole := o
		if o.KeyOnly && o.Breaker == Failure {
			whole.Breaker = Success
		}
		a.dep.settle(a.depPermit, now, whole, msg, a.took)
	}
	if a.key != nil {
		a.key.settle(a.keyPermit, now, o, msg, a.took)
	}
	p.unlock()
}

// throttle waits for the rate limit.
func (p *plan) throttle(next handler) handler {
	return func(e execution) *result {
		a := e.(*attempt)
		now := a.now()
		p.mu.Lock()
		wait, ok := p.rate.reserve(now)
		p.mu.Unlock()
		switch left, bounded := a.k.left(now); {
		case a.k.shadow:
		case !ok:
			return a.reject(&Error{Reason: RateLimited, Class: ClassRateLimited, RetryAfter: wait})
		case wait > 0 && bounded && wait >= left:
			p.locked(p.rate.giveBack)
			return a.reject(&Error{Reason: RateLimited, Class: ClassRateLimited, RetryAfter: wait})
		case wait > 0:
			t := time.NewTimer(wait)
			select {
			case <-t.C:
				a.throttled = wait
				a.k.waited.Add(int64(wait))
			case <-e.Context().Done():
				t.Stop()
				p.locked(p.rate.giveBack)
				return a.givenUp(e.Context())
			}
		}
		return next(a)
	}
}

func (c *core) locked(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

// enqueue waits for a free slot of the bulkhead.
func (p *plan) enqueue(next handler) handler {
	return func(e execution) *result {
		a := e.(*attempt)
		p.mu.Lock()
		b := &p.bulkhead
		if a.k.shadow { // takes a slot even if there is none, and counts that it would have been refused
			if b.inFlight >= b.cfg.MaxConcurrent+b.cfg.MaxQueued {
				b.full++
			}
			b.take()
			p.mu.Unlock()
		} else {
			w, ok := b.acquire()
			limit := b.cfg.Timeout
			p.mu.Unlock()
			if !ok {
				return a.reject(&Error{Reason: BulkheadFull, Class: ClassBulkheadFull})
			}
			if w != nil {
				if res := a.stand(w, limit); res != nil {
					return res
				}
			}
		}
		a.slot = true
		defer a.freeSlot()
		return next(a)
	}
}

// freeSlot gives back the slot unless a detached attempt, which may outlive its caller, has taken it over.
func (a *attempt) freeSlot() {
	if a.slot {
		a.slot = false
		a.plan.locked(a.plan.bulkhead.release)
	}
}

// stand waits in the line. It returns nil when the slot is the attempt's.
func (a *attempt) stand(w *waiter, limit time.Duration) *result {
	p, ctx := a.plan, a.Context()
	from := time.Now()
	reason := QueueTimeout
	if left, bounded := a.k.left(from); bounded && left < limit {
		limit, reason = max(0, left), OverallTimeout
	}
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-w.ready:
	case <-ctx.Done():
		reason = Cancelled
	case <-t.C:
	}
	a.queued = time.Since(from)
	a.k.waited.Add(int64(a.queued))
	select {
	case <-w.ready: // also if it came at the same moment as the timeout
		if ctx.Err() == nil {
			return nil
		}
		reason = Cancelled
	default:
	}
	p.mu.Lock()
	p.bulkhead.leave(w)
	if reason == QueueTimeout {
		p.bulkhead.timedOut++
	}
	p.mu.Unlock()
	switch reason {
	case Cancelled:
		return a.givenUp(ctx)
	case OverallTimeout:
		return a.outOfTime()
	}
	return a.reject(&Error{Reason: QueueTimeout, Class: ClassBulkheadFull})
}

// decide settles after each round whether there is another, and after which pause: what is safe, what is left of attempts, time and
// budget, and what the dependency asked for.
func (p *plan) decide(next handler) handler {
	return func(e execution) *result {
		k := callOf(e.Context())
		if res := k.replay; res != nil {
			k.replay = nil
			return res
		}
		res := next(e)
		k.tries.Add(1)
		a := res.Result
		if a == nil || a.final {
			return res
		}
		if a.rejected != nil {
			k.why = a.rejected.Reason
			return res
		}
		k.last = a
		k.why = p.again(k, a)
		return res
	}
}

// again arranges another round after a, or says why there is none.
func (p *plan) again(k *call, a *attempt) Reason {
	o := a.outcome
	if why := a.ending(); !mayRepeat(o, k.call.Safety) || k.shadow {
		k.wait = a.openFor()
		if f := p.opts.Events.NotRepeated; f != nil && o.Retry == RetryIdempotent && p.cfg.Retry.Enabled && !k.shadow {
			f(k.Context, k.call, NotIdempotent)
		}
		return why
	}
	var delay time.Duration
	now := time.Now()
	r, tries := &p.cfg.Retry, int(k.tries.Load())
	left, bounded := k.left(now)
	if !o.Immediate || tries > 1 {
		delay = r.delay(tries, rand.Float64())
	}
	if r.RespectRetryAfter && o.RetryAfter > delay {
		// Never earlier than asked for, and not everybody at the same moment.
		delay = o.RetryAfter + time.Duration(rand.Float64()*0.1*float64(o.RetryAfter))
	}
	switch {
	case !r.Enabled || p.attempts <= 1:
		k.wait = a.openFor()
		return a.ending()
	case tries >= p.attempts:
		k.wait = a.openFor()
		p.exhausted(k, a)
		return RetriesExhausted
	case k.Err() != nil:
		return Cancelled
	case r.RespectRetryAfter && o.RetryAfter > r.MaxRetryAfter:
		return p.notRepeated(k, RetryAfterLong)
	case bounded && left <= delay:
		return p.notRepeated(k, RetryTooLate)
	}
	p.mu.Lock()
	refused, wait := false, time.Duration(0)
	if a.dep != nil {
		refused, wait = a.dep.refusing(now, now.Add(delay))
	}
	if a.key != nil && !refused {
		refused, wait = a.key.refusing(now, now.Add(delay))
	}
	paid := refused || !p.budget.on() || p.budget.withdraw(now)
	p.mu.Unlock()
	switch {
	case refused: // this attempt, or another call's, opened the circuit
		k.wait = wait
		p.notRepeated(k, CircuitOpen)
		return a.ending()
	case !paid:
		return p.notRepeated(k, RetryBudget)
	}
	a.again, a.delay = true, delay
	k.waited.Add(int64(delay))
	info := RetryInfo{Attempt: tries, Max: p.attempts, Outcome: o, Delay: delay, Err: a.err}
	p.log.retry(k.Context, k.call, info)
	if f := p.opts.Events.Retry; f != nil {
		f(k.Context, k.call, info)
	}
	return ""
}

// delay is the pause after the n-th attempt: growing, then varied, then cut, so that nothing exceeds MaxDelay.
func (r *RetryConfig) delay(n int, rnd float64) time.Duration {
	d, limit := float64(r.InitialDelay), float64(r.MaxDelay)
	for i := 1; i < n && d < limit; i++ {
		d *= r.Multiplier
	}
	return min(r.Jitter.of(time.Duration(min(d, limit)), rnd), r.MaxDelay)
}

// openFor is how long the circuits of the attempt stay open; 0 if they are not.
func (a *attempt) openFor() (wait time.Duration) {
	now := time.Now()
	a.plan.mu.Lock()
	defer a.plan.mu.Unlock()
	for _, c := range []*circuit{a.dep, a.key} {
		if c != nil {
			_, w := c.refusing(now, now)
			wait = max(wait, w)
		}
	}
	return wait
}

func (p *plan) notRepeated(k *call, why Reason) Reason {
	p.mu.Lock()
	p.count.NotRepeated++
	p.mu.Unlock()
	if f := p.opts.Events.NotRepeated; f != nil {
		f(k.Context, k.call, why)
	}
	return why
}

func (p *plan) exhausted(k *call, a *attempt) {
	p.mu.Lock()
	p.count.Exhausted++
	p.mu.Unlock()
	p.log.exhausted(k.Context, k.call, int(k.tries.Load()), p.attempts, a.outcome, k.executed())
	if f := p.opts.Events.NotRepeated; f != nil {
		f(k.Context, k.call, RetriesExhausted)
	}
}

var _ context.Context = (*call)(nil)
