package gateway

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
	"github.com/mcpgw/mcpgw/telemetry"
)

// observer records what the gateway does. A nil observer records nothing and costs nothing.
type observer struct {
	g      *Gateway
	t      *telemetry.Telemetry
	m      *telemetry.Metrics // never nil; silent if nobody wants metrics
	tracer trace.Tracer       // nil if nobody wants spans
	errors *bounded           // values of error.type

	requests seriesOf[requestKey, requestPoint]
	calls    seriesOf[callKey, telemetry.Point]
	attempts seriesOf[attemptKey, attemptPoint]
	events   seriesOf[eventKey, options]
	// Made once, because a function that is made for each call costs an allocation.
	newRequest func([]attribute.KeyValue) *requestPoint
	newCall    func([]attribute.KeyValue) *telemetry.Point
	newAttempt func([]attribute.KeyValue) *attemptPoint
	names      byName[*bounded] // tools of a downstream, by its name; they outlive it, so that it cannot start over
	ending     metric.Registration
}

// newObserver returns nil if nobody wants to know anything.
func newObserver(g *Gateway, t *telemetry.Telemetry) *observer {
	if t == nil || t.Metrics == nil && t.Tracer == nil && t.Access == nil && t.Audit == nil {
		return nil
	}
	const errorTypes = 200 // codes and statuses that servers choose are among them
	o := &observer{g: g, t: t, m: t.Metrics, tracer: t.Tracer, errors: newBounded(errorTypes)}
	if o.m == nil {
		o.m = telemetry.Silent()
	}
	o.newRequest = func(kv []attribute.KeyValue) *requestPoint {
		return &requestPoint{o.m.ServerOperation.Point(kv...), slices.Clone(kv)}
	}
	o.newCall = func(kv []attribute.KeyValue) *telemetry.Point { return o.m.CallDuration.Point(kv...) }
	o.newAttempt = func(kv []attribute.KeyValue) *attemptPoint {
		return &attemptPoint{requestPoint: requestPoint{o.m.ClientOperation.Point(kv...), slices.Clone(kv)}}
	}
	if err := o.register(); err != nil {
		g.log.Error("gauges cannot be observed", "err", err)
	}
	return o
}

// close ends the observation of what can be seen at any time.
func (o *observer) close() {
	if o == nil || o.ending == nil {
		return
	}
	if err := o.ending.Unregister(); err != nil {
		o.g.log.Debug("unregistering gauges failed", "err", err)
	}
}

// seen is what is found out about a request while it is being answered.
type seen struct {
	start    time.Time
	span     trace.Span // nil: not traced
	tool     string     // name by which the client called it, once it is known to exist
	target   *target    // who answers it; nil for the gateway itself
	key      string     // the tool's own name
	safe     safety
	failed   atomic.Bool // the result says isError; a call that is parked may end after its request
	class    string      // what kind of failure the gateway reported in such a result
	executed downstream.Executed
	attempts atomic.Int32
}

// requestKey is what tells the series of mcp.server.operation.duration apart.
type requestKey struct{ method, tool, err, status, protocol, transport string }

func (k requestKey) attributes() []attribute.KeyValue {
	return operation(k.method, k.tool, k.err, k.status, k.protocol, k.transport)
}

// operation are the attributes that both sides of the gateway have.
func operation(method, tool, err, status, protocol, transport string) []attribute.KeyValue {
	kv := []attribute.KeyValue{attribute.String(telemetry.AttrMethod, method), attribute.String(telemetry.AttrTransport, transport)}
	for _, a := range [...]struct{ key, value string }{
		{telemetry.AttrTool, tool}, {telemetry.AttrError, err}, {telemetry.AttrStatus, status}, {telemetry.AttrProtocol, protocol},
	} {
		if a.value != "" {
			kv = append(kv, attribute.String(a.key, a.value))
		}
	}
	if method == "tools/call" {
		kv = append(kv, attribute.String(telemetry.AttrOperation, telemetry.OperationTool))
	}
	return kv
}

// begin notes the arrival of a request. The context is that of its span, if it is traced.
func (o *observer) begin(ctx context.Context, r *request) context.Context {
	r.seen.start = time.Now()
	if o.tracer == nil {
		return ctx
	}
	return o.beginSpan(ctx, r)
}

// end notes how a request was answered.
func (o *observer) end(ctx context.Context, r *request, a *answer, err error) {
	s := &r.seen
	took := time.Since(s.start)
	if s.attempts.Load() == 0 && err == nil && r.method == "tools/call" {
		s.failed.Store(s.class != "" || isToolError(a[0]))
	}
	key := requestKey{method: knownMethod(r.method), protocol: r.revision(), transport: "tcp"}
	if r.principal == stdioPrincipal {
		key.transport = "pipe"
	}
	if r.method == "tools/call" {
		key.tool = o.exposedTool(s)
	}
	switch {
	case ctx.Err() != nil:
		key.err = "cancelled"
	case err != nil:
		key.status = o.codeOf(err)
		key.err = cmp.Or(key.status, telemetry.OtherValue)
	case s.failed.Load():
		key.err = telemetry.ToolError
	}
	series := o.requests.get(key, o.newRequest)
	series.Record(took, s.span)
	if s.span != nil {
		o.endSpan(r, &key, series, err)
	}
	if o.t.Access.Wants(key.err != "") {
		o.access(ctx, r, &key, a, took)
	}
	if o.t.Audit != nil && r.method == "tools/call" && s.target != nil && s.safe != readOnly {
		o.audit(ctx, r, &key, took)
	}
}

// codeOf returns the code of a JSON-RPC error, or "".
func (o *observer) codeOf(err error) string {
	if rpc, ok := errors.AsType[*wire.Error](err); ok {
		return o.errors.of(strconv.FormatInt(rpc.Code, 10))
	}
	return ""
}

// exposedTool is the name of a tool that may stand in metrics: one of the gateway's own catalogue.
func (o *observer) exposedTool(s *seen) string {
	switch {
	case s.tool == "":
		return ""
	case s.target == nil:
		return s.tool // of the gateway itself
	case o.toolsOf(s.target.name).of(s.key) != s.key || s.key == "":
		return telemetry.OtherValue
	}
	return s.tool
}

// toolsOf returns the bounded set of the names of a downstream's tools.
func (o *observer) toolsOf(name string) *bounded {
	return o.names.get(name, func() *bounded { return newBounded(max(1, o.t.Tools)) })
}

// beginSpan starts the span of a request under the trace context of its _meta, or else of its HTTP headers. Where both have one, the
// headers' becomes a link: what the message says is meant for whoever answers the message.
func (o *observer) beginSpan(ctx context.Context, r *request) context.Context {
	opts := serverSpan
	meta := metaCarrier{r.meta()}
	remote := extract(ctx, meta)
	if header := extract(ctx, headerCarrier{r.trace}); remote.IsValid() && header.IsValid() && header.SpanID() != remote.SpanID() {
		opts = append(slices.Clip(opts), trace.WithLinks(trace.Link{SpanContext: header}))
	} else if !remote.IsValid() {
		remote = header
	}
	if share := o.t.Share; share >= 0 && !remote.IsSampled() && (remote.IsValid() || rand.Float64() >= share) { //nolint:gosec // chooses calls, guards nothing
		return ctx
	}
	if remote.IsValid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, remote)
	}
	ctx, span := o.tracer.Start(ctx, knownMethod(r.method), opts...)
	if span.IsRecording() {
		r.seen.span = span
	}
	return ctx
}

var (
	serverSpan = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer)}
	clientSpan = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient)}
)

// endSpan ends the span of a request (peers.md §5).
func (o *observer) endSpan(r *request, key *requestKey, series *requestPoint, err error) {
	span := r.seen.span
	const more = 4 // set all at once: each time costs an allocation
	kv := append(make([]attribute.KeyValue, 0, len(series.kv)+more), series.kv...)
	kv = append(kv, attribute.String(telemetry.AttrRequestID, idText(r.id)))
	if r.sess != nil && r.sess.id != "" {
		kv = append(kv, attribute.String(telemetry.AttrSession, r.sess.id))
	}
	kv = append(kv, named(r.method, &r.params)...)
	if r.seen.target != nil {
		kv = append(kv, attribute.String(telemetry.AttrDownstream, r.seen.target.name))
	}
	switch {
	case r.seen.tool != "":
		span.SetName(r.method + " " + r.seen.tool)
	case r.method == "prompts/get" && r.seen.target != nil:
		name, _ := r.params.GetString("name")
		span.SetName(r.method + " " + name)
	}
	span.SetAttributes(kv...)
	if key.err != "" && !callersFault(key.status) {
		msg := r.seen.class
		if err != nil {
			msg = err.Error()
		}
		span.SetStatus(codes.Error, msg)
	}
	span.End()
}

// named are the attributes that say what a request is about, besides a tool.
func named(method string, params *wire.Object) []attribute.KeyValue {
	switch method {
	case "prompts/get":
		if name, ok := params.GetString("name"); ok {
			return []attribute.KeyValue{attribute.String(telemetry.AttrPrompt, name)}
		}
	case "resources/read", "resources/subscribe", "resources/unsubscribe":
		if uri, ok := params.GetString("uri"); ok {
			return []attribute.KeyValue{attribute.String(telemetry.AttrResource, uri)}
		}
	}
	return nil
}

// callersFault reports whether a JSON-RPC error is no failure of the one who answers with it.
func callersFault(code string) bool {
	switch code {
	case "-32700", "-32600", "-32601", "-32602", "-32002":
		return true
	}
	return false
}

// access writes the access log.
func (o *observer) access(ctx context.Context, r *request, key *requestKey, a *answer, took time.Duration) {
	attrs := make([]slog.Attr, 0, 14)
	attrs = append(attrs, slog.String("method", r.method))
	if name, ok := r.params.GetString("name"); ok {
		attrs = append(attrs, slog.String("tool", cutName(name)))
	}
	if r.seen.target != nil {
		attrs = append(attrs, slog.String("downstream", r.seen.target.name), slog.Int("attempts", int(r.seen.attempts.Load())))
	}
	attrs = append(attrs, o.who(r)...)
	attrs = append(attrs, slog.String("outcome", outcome(key.err)), slog.Duration("elapsed", took.Round(time.Microsecond)),
		slog.Int("request_bytes", len(r.params.Raw)), slog.Int("answer_bytes", a.len()))
	if r.seen.class != "" {
		attrs = append(attrs, slog.String("class", r.seen.class))
	}
	o.t.Access.Write(ctx, attrs...)
}

// audit writes the audit log.
func (o *observer) audit(ctx context.Context, r *request, key *requestKey, took time.Duration) {
	s := &r.seen
	executed := string(s.executed)
	if executed == "" {
		executed = "yes"
		if key.err == "cancelled" || key.status != "" {
			executed = string(downstream.ExecutedUnknown)
		}
	}
	attrs := append(o.who(r), slog.String("action", "tools/call"), slog.String("downstream", s.target.name), slog.String("tool", cutName(s.key)),
		slog.String("outcome", outcome(key.err)), slog.String("executed", executed), slog.Duration("elapsed", took.Round(time.Microsecond)), slog.Int("attempts", int(s.attempts.Load())))
	if s.class != "" {
		attrs = append(attrs, slog.String("class", s.class))
	}
	o.t.Audit.Write(ctx, r.params.Get("arguments"), attrs...)
}

// who says which client a request is of.
func (o *observer) who(r *request) []slog.Attr {
	attrs := []slog.Attr{slog.String("principal", r.principal), slog.String("protocol", r.revision())}
	info := wire.Get(r.meta(), downstream.MetaClientInfo)
	if r.sess != nil {
		attrs, info = append(attrs, slog.String("session", r.sess.id)), r.sess.info
	}
	if name, ok := wire.GetString(info, "name"); ok {
		attrs = append(attrs, slog.String("client", cutName(name)))
	}
	return attrs
}

// controlled notes that somebody changed a circuit by hand.
func (o *observer) controlled(ctx context.Context, who, downstreamName, circuit, action string) {
	if o == nil || o.t.Audit == nil {
		return
	}
	o.t.Audit.Write(ctx, nil, slog.String("principal", who), slog.String("action", "circuit "+action), slog.String("downstream", downstreamName),
		slog.String("circuit", circuit), slog.String("outcome", "ok"))
}

func outcome(errType string) string {
	if errType == "" {
		return "ok"
	}
	return errType
}

// cutName keeps what a client calls things from filling a log.
func cutName(s string) string {
	const most = 100
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// idText is a request's id as text.
func idText(id json.RawMessage) string {
	if s, ok := wire.String(id); ok {
		return s
	}
	return string(id)
}

// traceID returns the id of the trace that the request belongs to, or "".
func (r *request) traceID() string {
	if r.seen.span != nil {
		return r.seen.span.SpanContext().TraceID().String()
	}
	return traceID(r.meta())
}

// stdioPrincipal is the principal of the client of a gateway that was started as a command.
const stdioPrincipal = "stdio"

// revision is the protocol revision that a request is of.
func (r *request) revision() string {
	switch {
	case r.modern:
		return downstream.Modern
	case r.sess != nil:
		return r.sess.revision
	}
	return ""
}

// methods are those that metrics tell apart: a client may send any name.
var methods = func() map[string]bool {
	known := map[string]bool{}
	for _, m := range []string{
		"initialize", "ping", "server/discover", "tools/list", "tools/call", "prompts/list", "prompts/get", "resources/list", "resources/templates/list",
		"resources/read", "resources/subscribe", "resources/unsubscribe", "subscriptions/listen", "completion/complete", "logging/setLevel",
		"tasks/get", "tasks/list", "tasks/result", "tasks/cancel", "tasks/update",
	} {
		known[m] = true
	}
	return known
}()

func knownMethod(m string) string {
	if methods[m] {
		return m
	}
	return telemetry.OtherValue
}

var keyIsError = []byte(`"isError"`)

// isToolError reports whether the result of a tool call says that it failed. It reads results only where one may: they can be large.
func isToolError(raw json.RawMessage) bool {
	for rest := []byte(raw); ; {
		i := bytes.Index(rest, keyIsError)
		if i < 0 {
			return false
		}
		rest = rest[i+len(keyIsError):]
		if v := bytes.TrimLeft(rest, ": \t\r\n"); len(v) > 0 && v[0] == 't' {
			return string(wire.Get(raw, "isError")) == "true"
		}
	}
}
