package resilience

import (
	"context"
	"slices"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/common"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
)

// The words of failsafe-go's policy interface, for executions whose result is an attempt: what the function returned travels inside
// it, so that one executor serves every result type.
type (
	execution = failsafe.Execution[*attempt]
	result    = common.PolicyResult[*attempt]
	handler   = func(execution) *result
)

// layer is a failsafe-go policy made of a function that wraps the inner handler.
type layer func(next handler) handler

// ToExecutor implements failsafe.Policy.
func (l layer) ToExecutor(*attempt) any { return l }

// Apply implements failsafe-go's policy executor.
func (l layer) Apply(next handler) handler { return l(next) }

// fixed makes one policy of layers, outermost first, around innermost. failsafe-go composes the policies of an executor anew for each
// call; these do not change from call to call, so they are composed once.
func fixed(innermost handler, layers ...layer) layer {
	h := innermost
	for _, l := range slices.Backward(layers) {
		h = l(h)
	}
	return func(handler) handler { return h }
}

// plan is a Config made ready to run. It is never changed.
type plan struct {
	*core
	key      string // of the Guard it belongs to
	cfg      Config
	off      bool // nothing to do: call the function
	shadow   bool
	attempts int // at most
	useDep   bool
	useKey   bool
	safety   *Safety

	round  handler                     // one attempt and the decision whether there is another
	loop   failsafe.Executor[*attempt] // rounds; nil if there is only one
	hedged failsafe.Executor[*attempt] // rounds of hedged attempts; nil if there is no hedging
}

// newPlan prepares cfg, which is valid.
func newPlan(g *Guard, cfg Config) *plan {
	p := &plan{core: g.core, key: g.key, cfg: cfg, shadow: cfg.Mode == "shadow", attempts: 1}
	b := cfg.CircuitBreaker
	p.useDep = b.Enabled && b.Scope != "tool"
	p.useKey = b.Enabled && (b.Scope == "tool" || b.Scope == "both")
	p.off = !cfg.Enabled || !b.Enabled && !cfg.Retry.Enabled && !cfg.Bulkhead.Enabled && !cfg.RateLimit.Enabled && !cfg.Hedge.Enabled &&
		cfg.Timeouts == (TimeoutsConfig{})
	switch cfg.Safety {
	case "read_only":
		p.safety = new(ReadOnly)
	case "idempotent":
		p.safety = new(Idempotent)
	case "unsafe":
		p.safety = new(Unsafe)
	}

	// From the outside in: breaker, rate limit, bulkhead, then one attempt with its timeout, contained panics and classification.
	layers := []layer{p.begin, p.breaker}
	if cfg.RateLimit.Enabled {
		layers = append(layers, p.throttle)
	}
	if cfg.Bulkhead.Enabled {
		layers = append(layers, p.enqueue)
	}
	one := fixed(p.attempt, layers...)
	p.round = fixed(nil, p.decide, one)(nil)
	var rounds []failsafe.Policy[*attempt]
	if cfg.Retry.Enabled && cfg.Retry.MaxAttempts > 1 {
		p.attempts = cfg.Retry.MaxAttempts
		rounds = append(rounds, p.retry())
		p.loop = failsafe.With(append(slices.Clone(rounds), layer(func(handler) handler { return p.round }))...)
	}
	if cfg.Hedge.Enabled {
		p.hedged = failsafe.With(append(rounds, layer(p.decide), p.hedge(), one)...)
	}
	return p
}

// retry is failsafe-go's loop. The decision whether to go round again, and after which pause, is made by decide.
func (p *plan) retry() failsafe.Policy[*attempt] {
	return retrypolicy.NewBuilder[*attempt]().
		WithMaxAttempts(p.cfg.Retry.MaxAttempts).
		ReturnLastFailure().
		HandleIf(func(a *attempt, _ error) bool { return a != nil && a.again }).
		WithDelayFunc(func(e failsafe.ExecutionAttempt[*attempt]) time.Duration {
			if a := e.LastResult(); a != nil {
				return a.delay
			}
			return 0
		}).
		Build()
}

// hedge is failsafe-go's hedge policy with two changes. An attempt that failed while no other is in flight ends the round, because
// the stock policy would sit out the delay and then ask again whatever the answer was; the retry decision knows better. And the delay
// is a quantile of successful attempts only, because instant errors would make every success look late.
func (p *plan) hedge() hedgepolicy.HedgePolicy[*attempt] {
	fixed, quantile, _ := parseHedgeDelay(p.cfg.Hedge.Delay) // valid, so there is no error
	after := func(failsafe.ExecutionAttempt[*attempt]) time.Duration { return fixed }
	if quantile > 0 {
		after = func(failsafe.ExecutionAttempt[*attempt]) time.Duration {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.latencies.quantile(quantile)
		}
	}
	return hedgepolicy.NewBuilderWithDelayFunc(after).
		WithMaxHedges(p.cfg.Hedge.Max).
		CancelIf(func(a *attempt, _ error) bool {
			return a == nil || a.final || a.alone || a.rejected == nil && !mayRepeat(a.outcome, a.k.call.Safety)
		}).
		Build()
}

// shadows reports whether the policies only measure a call.
func (p *plan) shadows(c *Call) bool {
	switch percent := p.cfg.Rollout.Percent; {
	case p.shadow:
		return true
	case percent >= 100:
		return false
	case percent <= 0:
		return true
	default:
		return share(c.Session) >= percent
	}
}

// share maps a session id to a number in [0,100) that is the same in every process. The hash is 64-bit FNV-1a with a final mixing,
// without which ids that differ only in their last characters would come out close together.
func share(session string) float64 {
	h := uint64(14695981039346656037)
	for i := range len(session) {
		h = (h ^ uint64(session[i])) * 1099511628211
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	return float64(h>>11) / (1 << 53) * 100
}

// classify asks the Classifier and applies what the configuration says about classes. A panic of the Classifier counts like one of the
// function.
func (p *plan) classify(ctx context.Context, value any, err error) (o Outcome) {
	if _, ok := err.(*PanicError); ok { //nolint:errorlint // made by us, never wrapped; a PanicError deeper down is the dependency's
		return Outcome{Breaker: Ignored, Class: ClassPanic}
	}
	defer func() {
		if v := recover(); v != nil {
			p.log.broken(&PanicError{Value: v, At: panicSite()})
			o = Outcome{Breaker: Ignored, Class: ClassPanic}
		}
	}()
	o = p.opts.Classifier(ctx, value, err)
	if o.Class != "" {
		b := &p.cfg.CircuitBreaker
		if b.CountRateLimited && o.Class == ClassTooMany {
			o.Breaker = Failure
		}
		if slices.Contains(b.ExcludedErrors, o.Class) {
			o.Breaker = Ignored
		}
	}
	return o
}
