package gateway

import (
	"context"
	"errors"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/resilience"
	"github.com/mcpgw/mcpgw/telemetry"
)

// place is what metrics and spans say about a downstream.
type place struct {
	name, transport, address, port string
	active                         atomic.Int64 // calls under way
	overhead                       *telemetry.Point
}

// placeOf returns the place of a downstream.
func (o *observer) placeOf(tg *target) *place {
	if p := tg.place.Load(); p != nil {
		return p
	}
	cfg := tg.server.Config()
	p := &place{name: tg.name, transport: "pipe", overhead: o.m.CallOverhead.Point(of(tg.name).attributes()...)}
	if cfg.Kind() == "http" {
		p.transport = "tcp"
		if u, err := url.Parse(cfg.URL); err == nil {
			p.address, p.port = u.Hostname(), u.Port()
			if p.port == "" {
				p.port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
			}
		}
	}
	tg.place.CompareAndSwap(nil, p)
	return tg.place.Load()
}

// passage is one call on its way through the policies, as far as metrics and spans are concerned. It is part of a flight.
type passage struct {
	o      *observer // nil: nobody wants to know
	r      *request
	place  *place
	policy *policy
	method string
	tool   string // for metrics
	start  time.Time
	busy   atomic.Int64 // ns that attempts took
	tries  atomic.Int32 // attempts
	failed atomic.Bool  // the result says isError
	waited time.Duration
	caller context.Context // of the call, as long as this lives
}

// enter notes the beginning of a call.
func (p *passage) enter(ctx context.Context, o *observer, r *request, to *route) {
	if o == nil {
		return
	}
	p.caller = ctx
	p.o, p.r, p.place, p.policy, p.method = o, r, o.placeOf(to.target), to.target.policy, knownMethod(r.method)
	if r.method == "tools/call" {
		p.tool = o.toolsOf(p.place.name).of(to.key)
	}
	p.place.active.Add(1)
	p.start = time.Now()
}

// callKey is what tells the series of a call apart.
type callKey struct{ downstream, method, err string }

func (k callKey) attributes() []attribute.KeyValue {
	return of(k.downstream, pair{telemetry.AttrMethod, k.method}, pair{telemetry.AttrError, k.err}).attributes()
}

// leave notes the end of a call.
func (p *passage) leave(err error) {
	o := p.o
	if o == nil {
		return
	}
	p.place.active.Add(-1)
	took := time.Since(p.start)
	p.r.seen.attempts.Add(p.tries.Load())
	errType := o.callError(err)
	if err == nil && p.failed.Load() {
		errType = telemetry.ToolError
		p.r.seen.failed.Store(true)
	}
	o.calls.get(callKey{p.place.name, p.method, errType}, o.newCall).Record(took, p.r.seen.span)
	over := max(0, took-time.Duration(p.busy.Load())-p.waited)
	p.place.overhead.Record(over, nil)
	if err == nil {
		return
	}
	if _, busy := errors.AsType[*overloadedError](err); busy {
		o.m.AdmissionRejected.Add(context.Background(), 1)
	}
}

// callError is the error.type of a call.
func (o *observer) callError(err error) string {
	if err == nil {
		return "" // before what follows allocates
	}
	var (
		policy *resilience.Error
		busy   *overloadedError
	)
	code := o.codeOf(err)
	switch {
	case errors.As(err, &policy):
		switch policy.Reason {
		case resilience.CircuitOpen, resilience.HalfOpenLimit, resilience.Isolated:
			return resilience.ClassCircuitOpen // the class may say what opened it
		}
		return o.errorType(policy.Class)
	case code != "":
		return code
	case errors.As(err, &busy):
		return "gateway_overloaded"
	case errors.Is(err, context.Canceled), errors.Is(err, errCancelledByClient), errors.Is(err, errSessionEnded):
		return resilience.ClassCancelled
	}
	return o.errorType((&rules{}).failure(err).Class)
}

// errorType is the error.type of a class of failures.
func (o *observer) errorType(class string) string {
	if class == "" {
		return ""
	}
	return o.errors.of(strings.TrimPrefix(class, "rpc_"))
}

// attemptKey is what tells the series of attempts apart.
type attemptKey struct {
	place                               *place
	method, tool, err, status, protocol string
}

func (k attemptKey) attributes() []attribute.KeyValue {
	kv := append(operation(k.method, k.tool, k.err, k.status, k.protocol, k.place.transport), attribute.String(telemetry.AttrDownstream, k.place.name))
	if k.place.address != "" {
		kv = append(kv, attribute.String(telemetry.AttrServer, k.place.address))
		if port, err := strconv.Atoi(k.place.port); err == nil {
			kv = append(kv, attribute.Int(telemetry.AttrServerPort, port))
		}
	}
	return kv
}

// try is one attempt. It lives on the stack of who makes it.
type try struct {
	p      *passage
	ctx    context.Context // of the attempt
	start  time.Time
	span   trace.Span // nil: not traced
	number int
	kind   string
}

// begin notes the beginning of an attempt and gives c, which is the attempt's own copy, the trace context that it is to carry.
func (t *try) begin(ctx context.Context, p *passage, c *downstream.Call) context.Context {
	t.p = p
	t.number, t.kind = resilience.AttemptOf(ctx)
	p.tries.Add(1)
	if p.r.seen.span != nil {
		name := p.method
		if c.Target != "" && (c.Method == "tools/call" || c.Method == "prompts/get") {
			name += " " + c.Target
		}
		ctx, t.span = p.o.tracer.Start(ctx, name, clientSpan...) //nolint:spancheck // end ends it
		inject(t.span.SpanContext(), p.r, c)
	}
	t.ctx = ctx
	t.start = time.Now()
	return ctx
}

// end notes how an attempt ended.
func (t *try) end(res *downstream.Result, err *error) {
	p := t.p
	o := p.o
	took := time.Since(t.start)
	p.busy.Add(int64(took))
	key := attemptKey{place: p.place, method: p.method, tool: p.tool, protocol: downstream.Legacy}
	if res.Modern {
		key.protocol = downstream.Modern
	} else if res.Raw == nil {
		key.protocol = "" // not known
	}
	switch {
	case *err != nil:
		key.err, key.status = t.failure(*err)
	case res.Raw == nil: // it is being unwound
		key.err = resilience.ClassPanic
	case p.method == "tools/call" && isToolError(res.Raw):
		key.err = telemetry.ToolError
		p.failed.Store(true)
	}
	series := o.attempts.get(key, o.newAttempt)
	series.Record(took, t.span)
	series.byKind[max(0, slices.Index(attemptKinds[:], t.kind))].Add(1)
	if *err != nil {
		t.count(*err, key.err)
	}
	if t.span != nil {
		t.endSpan(&key, series.kv, *err)
	}
}

// failure returns error.type and, for a JSON-RPC error, its code.
func (t *try) failure(err error) (errType, status string) {
	if code := t.p.o.codeOf(err); code != "" {
		return code, code
	}
	if t.ctx.Err() != nil {
		cause := context.Cause(t.ctx)
		_, ours := errors.AsType[*resilience.TimeoutError](cause)
		switch {
		case ours:
			return resilience.ClassTimeout, ""
		case t.p.caller.Err() == nil:
			return resilience.ClassHedgeLost, ""
		case errors.Is(cause, context.DeadlineExceeded):
			return resilience.ClassCallerDeadline, ""
		}
		return resilience.ClassCancelled, ""
	}
	return t.p.o.errorType(t.p.policy.rules.Load().failure(err).Class), ""
}

// count counts an attempt that failed.
func (t *try) count(err error, errType string) {
	o, name := t.p.o, t.p.place.name
	switch errType {
	case resilience.ClassCancelled, resilience.ClassCallerDeadline, resilience.ClassHedgeLost:
		return
	}
	o.add(o.m.Errors, of(name, pair{telemetry.AttrError, errType}))
	if away, ok := errors.AsType[*downstream.UnavailableError](err); ok && isTimeout(away.Err) && t.ctx.Err() == nil {
		o.add(o.m.Timeouts, of(name, pair{telemetry.AttrScope, "connect"}))
	}
}

func isTimeout(err error) bool {
	ne, ok := errors.AsType[net.Error](err)
	return errors.Is(err, context.DeadlineExceeded) || ok && ne.Timeout()
}

// endSpan ends the span of an attempt. The client's side takes every error for one.
func (t *try) endSpan(key *attemptKey, known []attribute.KeyValue, err error) {
	const more = 3 // set all at once: each time costs an allocation
	kv := append(make([]attribute.KeyValue, 0, len(known)+more), known...)
	kv = append(kv, attribute.Int(telemetry.AttrNumber, t.number), attribute.String(telemetry.AttrKind, t.kind))
	if t.p.method == "prompts/get" || t.p.method == "resources/read" {
		kv = append(kv, named(t.p.method, &t.p.r.params)...)
	}
	t.span.SetAttributes(kv...)
	if key.err != "" {
		msg := key.err
		if err != nil {
			msg = t.p.policy.redact(err.Error())
		}
		t.span.SetStatus(codes.Error, msg)
	}
	t.span.End()
}
