package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
	"github.com/mcpgw/mcpgw/resilience"
)

// call is the one way to a downstream: it passes the policies.
func (g *Gateway) call(ctx context.Context, r *request, to *route, c *downstream.Call) (res downstream.Result, err error) {
	f := &flight{Context: ctx, g: g, request: r, target: to.target, call: c}
	if g.obs != nil {
		f.passage.enter(ctx, g.obs, r, to)
		defer func() { f.passage.leave(err) }()
	}
	guard := to.guard
	if guard == nil {
		guard = to.target.policy.guard
	}
	if r.rescued == 0 { // what stands in for a call is not a further one
		if err := g.admission.enter(ctx); err != nil {
			return downstream.Result{}, err
		}
		defer g.admission.leave()
	}
	var rescue *rescue
	var steps []resilience.Fallback[downstream.Result]
	if s := to.target.policy.spare.Load(); s != nil {
		rescue = g.newRescue(f, to, s, guard)
		steps = rescue.steps()
	}
	c.Safe = to.target.replicated && safetyUnder(guard, c.Body, to) != unsafe
	begun := time.Now()
	res, err = resilience.Do(f, guard, resilience.Call{Safety: safetyOf(c.Body, to), Key: to.key, Session: r.caller(), TraceID: r.traceID()}, f.attempt, steps...)
	if rescue != nil {
		err = rescue.landed(&res, err)
	}
	if err == nil && (rescue == nil || rescue.by == "") {
		to.target.latency.add(time.Since(begun))
	}
	if refused := (*resilience.Error)(nil); err != nil && errors.As(err, &refused) && refused.Class == resilience.ClassCircuitOpen {
		if class := to.target.policy.last.get(); class != "" {
			refused.Class = class // what opened the circuit says more than that it is open
		}
	}
	return res, err
}

// flight is one request on its way through the policies. It is the context of all its attempts, so that what the policies report can be
// told to the client.
type flight struct {
	context.Context
	g       *Gateway
	request *request
	target  *target
	call    *downstream.Call
	state   atomic.Pointer[json.RawMessage] // with which the server wants the request again, see loadShed
	passage passage
}

// attempt makes the request once. Several may run at the same time where hedging is on, so each has its own copy of the call.
func (f *flight) attempt(ctx context.Context) (res downstream.Result, err error) {
	c := *f.call
	if f.passage.o != nil {
		var t try
		ctx = t.begin(ctx, &f.passage, &c)
		defer t.end(&res, &err)
	}
	if c.Stream != nil {
		c.Stream = &attentive{c.Stream, ctx, f}
	}
	if state := f.state.Load(); state != nil {
		c.Params, c.Body = wire.Set(c.Params, "requestState", *state), nil
	}
	res, err = f.target.server.Call(ctx, &c)
	if rpc, ok := errors.AsType[*wire.Error](err); ok && rpc.Code == wire.CodeHeaderMismatch && f.relearn(ctx, &c) {
		res, err = f.target.server.Call(ctx, &c) // it did not act
	}
	if err == nil && res.Asks {
		if state := loadShed(res.Raw); state != nil {
			f.state.Store(&state)
		}
	}
	return res, err
}

// relearn reads what a server says of its tools again, after it refused a call whose headers are not those that its tool wants (-32020),
// and reports whether the call has other headers now.
func (f *flight) relearn(ctx context.Context, c *downstream.Call) bool {
	if c.Method != "tools/call" {
		return false
	}
	f.target.server.Refresh(ctx)
	for _, it := range f.target.server.Catalog().Lists[downstream.Tools].Items {
		if it.Key == c.Target {
			was := c.Header
			c.Header = mirrorArguments(paramHeadersOf(it.Raw), wire.Get(c.Params, "arguments"))
			return !maps.EqualFunc(was, c.Header, slices.Equal)
		}
	}
	return false
}

// attentive tells the policies what a server says during an attempt.
type attentive struct {
	downstream.Stream
	ctx context.Context // of the attempt, which is as long as this lives
	f   *flight
}

// Notify implements downstream.Stream. A server that reports progress may take longer.
func (a *attentive) Notify(method string, params json.RawMessage) {
	if method == "notifications/progress" {
		resilience.Progress(a.ctx)
	}
	a.Stream.Notify(method, a.f.g.sealRelated(a.f.request.principal, a.f.target, params))
}

// Request implements downstream.Stream. While a person thinks, the server's time stands still.
func (a *attentive) Request(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error) {
	if r, tg := a.f.request, a.f.target; r.sess != nil { // a parked call asks in its own way
		if err := tg.mayAsk(r.sess.kinds, method, params); err != nil {
			return nil, err
		}
		params = r.table.asked(tg, r.sess.kinds, method, a.f.g.sealRelated(r.principal, tg, params))
	}
	defer resilience.Pause(a.ctx)()
	return a.Stream.Request(ctx, method, params)
}

// patient is a stream that can tell its client that a call goes on although its server failed once.
type patient interface{ goesOn(text string) }

// retrying tells the client of a call that there will be another attempt, so that it does not give up (architecture.md D11).
func retrying(ctx context.Context, _ resilience.Call, r resilience.RetryInfo) {
	f, ok := ctx.(*flight)
	if !ok {
		return
	}
	if s, ok := f.call.Stream.(patient); ok {
		s.goesOn(fmt.Sprintf("mcpgw: attempt %d of %d failed (%s), trying again in %s", r.Attempt, r.Max, r.Outcome.Class, r.Delay.Round(time.Millisecond)))
	}
}

// traceID returns the trace id of a W3C traceparent in a request's _meta, or "".
func traceID(meta json.RawMessage) string {
	if meta == nil {
		return ""
	}
	const form = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	tp := wire.Get(meta, "traceparent")
	if len(tp) < form+2 || tp[3] != '-' || tp[36] != '-' {
		return ""
	}
	return string(tp[4:36])
}
