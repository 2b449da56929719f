package gateway

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/resilience"
	"github.com/mcpgw/mcpgw/telemetry"
)

// suppressed are the values of mcpgw.reason of mcpgw.retry.suppressed.
var suppressed = map[resilience.Reason]string{
	resilience.NotIdempotent: "not_idempotent", resilience.RetryBudget: "budget", resilience.RetryTooLate: "deadline",
	resilience.CircuitOpen: "circuit_open", resilience.RetryAfterLong: "retry_after",
}

// add counts an event.
func (o *observer) add(c metric.Int64Counter, key eventKey) {
	c.Add(context.Background(), 1, o.events.get(key, newOptions).adding...)
}

func (o *observer) record(h metric.Float64Histogram, d time.Duration, key eventKey) {
	h.Record(context.Background(), d.Seconds(), o.events.get(key, newOptions).recording...)
}

// watch returns events that are also recorded. name is that of the downstream.
func (o *observer) watch(name string, ev resilience.Events) resilience.Events {
	if o == nil {
		return ev
	}
	all := ev
	all.StateChange = func(c resilience.StateChange) {
		o.changed(c)
		if ev.StateChange != nil {
			ev.StateChange(c)
		}
	}
	all.Rejected = func(ctx context.Context, c resilience.Call, e *resilience.Error) {
		o.rejected(ctx, name, e)
		if ev.Rejected != nil {
			ev.Rejected(ctx, c, e)
		}
	}
	all.Attempt = func(ctx context.Context, c resilience.Call, a resilience.AttemptInfo) {
		o.attempted(name, &a)
		if ev.Attempt != nil {
			ev.Attempt(ctx, c, a)
		}
	}
	all.Retry = func(ctx context.Context, c resilience.Call, r resilience.RetryInfo) {
		o.retrying(ctx, name, &r)
		if ev.Retry != nil {
			ev.Retry(ctx, c, r)
		}
	}
	all.NotRepeated = func(ctx context.Context, c resilience.Call, why resilience.Reason) {
		if reason, ok := suppressed[why]; ok {
			o.add(o.m.RetrySuppressed, of(name, pair{telemetry.AttrReason, reason}))
			event(ctx, "retry.suppressed", attribute.String(telemetry.AttrReason, reason))
		}
		if ev.NotRepeated != nil {
			ev.NotRepeated(ctx, c, why)
		}
	}
	all.Timeout = func(ctx context.Context, c resilience.Call, e *resilience.TimeoutError) {
		scope := strings.TrimSuffix(string(e.Reason), "_timeout")
		o.add(o.m.Timeouts, of(name, pair{telemetry.AttrScope, scope}))
		event(ctx, "timeout", attribute.String(telemetry.AttrScope, scope), attribute.Int64("mcpgw.limit_ms", e.Limit.Milliseconds()))
		if ev.Timeout != nil {
			ev.Timeout(ctx, c, e)
		}
	}
	all.Late = func(ctx context.Context, c resilience.Call, err error) {
		o.late(name, err != nil)
		if ev.Late != nil {
			ev.Late(ctx, c, err)
		}
	}
	all.Fallback = func(ctx context.Context, c resilience.Call, fallback string, err error) {
		result := "success"
		if err != nil {
			result = "failure"
		}
		o.add(o.m.Fallbacks, of(name, pair{telemetry.AttrFallback, fallback}, pair{telemetry.AttrResult, result}))
		event(ctx, "fallback", attribute.String(telemetry.AttrFallback, fallback), attribute.String(telemetry.AttrResult, result))
		if ev.Fallback != nil {
			ev.Fallback(ctx, c, fallback, err)
		}
	}
	all.Done = func(ctx context.Context, c resilience.Call, d resilience.CallInfo) {
		o.done(ctx, name, &d)
		if ev.Done != nil {
			ev.Done(ctx, c, d)
		}
	}
	return all
}

// event adds an event to the span of a call, if it is traced.
func event(ctx context.Context, name string, kv ...attribute.KeyValue) {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.AddEvent(name, trace.WithAttributes(kv...))
	}
}

func (o *observer) changed(c resilience.StateChange) {
	o.add(o.m.CircuitTransitions, ofCircuit(c.Circuit, pair{telemetry.AttrFrom, c.From.String()}, pair{telemetry.AttrTo, c.To.String()},
		pair{telemetry.AttrReason, strings.ReplaceAll(c.Reason, " ", "_")}))
	if c.To == resilience.StateClosed && c.Outage > 0 {
		o.record(o.m.Outage, c.Outage, ofCircuit(c.Circuit))
	}
}

func (o *observer) rejected(ctx context.Context, name string, e *resilience.Error) {
	reason := pair{telemetry.AttrReason, string(e.Reason)}
	what := "circuit.rejected"
	switch e.Reason {
	case resilience.CircuitOpen, resilience.HalfOpenLimit, resilience.Isolated:
		o.add(o.m.CircuitRejected, ofCircuit(e.Circuit, reason))
	case resilience.BulkheadFull, resilience.QueueTimeout:
		o.add(o.m.BulkheadRejected, of(name, reason))
		what = "bulkhead.rejected"
		if e.Reason == resilience.QueueTimeout {
			o.add(o.m.Timeouts, of(name, pair{telemetry.AttrScope, "queue"}))
		}
	case resilience.RateLimited:
		o.add(o.m.RateLimitRejected, of(name))
		what = "rate_limit.rejected"
	default:
		return // a timeout, which has an event of its own
	}
	event(ctx, what, attribute.String(telemetry.AttrDownstream, name), attribute.String(telemetry.AttrReason, string(e.Reason)))
}

func (o *observer) attempted(name string, a *resilience.AttemptInfo) {
	if a.Queued > 0 {
		o.record(o.m.BulkheadWait, a.Queued, of(name))
	}
	if a.Throttled > 0 {
		o.record(o.m.RateLimitWait, a.Throttled, of(name))
	}
	if _, answered := errors.AsType[*downstream.StatusError](a.Err); answered && a.Outcome.RetryAfter > 0 {
		o.record(o.m.Pushback, a.Outcome.RetryAfter, of(name))
	}
}

func (o *observer) retrying(ctx context.Context, name string, r *resilience.RetryInfo) {
	class := o.errorType(r.Outcome.Class)
	o.add(o.m.RetryScheduled, of(name, pair{telemetry.AttrError, class}))
	o.record(o.m.RetryDelay, r.Delay, of(name))
	event(ctx, "retry.scheduled", attribute.String(telemetry.AttrError, class), attribute.Int(telemetry.AttrNumber, r.Attempt),
		attribute.Int64(telemetry.AttrDelay, r.Delay.Milliseconds()))
}

func (o *observer) late(name string, failed bool) {
	result := "success"
	if failed {
		result = "error"
	}
	o.add(o.m.Late, of(name, pair{telemetry.AttrOutcome, result}))
}

func (o *observer) done(ctx context.Context, name string, d *resilience.CallInfo) {
	if f, ok := ctx.(*flight); ok {
		f.passage.waited = d.Waited
	}
	if d.Attempts > 1 {
		o.m.RetryPerCall.Record(context.Background(), int64(d.Attempts-1), o.events.get(of(name), newOptions).recording...)
	}
	if d.Err == nil {
		return
	}
	if e, ok := errors.AsType[*resilience.Error](d.Err); ok && e.Reason == resilience.RetriesExhausted {
		o.add(o.m.RetryExhausted, of(name, pair{telemetry.AttrError, o.errorType(e.Class)}))
	}
}

// downstream returns what is told of a downstream's sessions and processes.
func (o *observer) downstream(name string) downstream.Events {
	if o == nil {
		return downstream.Events{}
	}
	return downstream.Events{
		SessionEnded: func(took time.Duration, class string) {
			o.record(o.m.ClientSession, took, of(name, pair{telemetry.AttrError, class}))
		},
		Reconnected: func(reason string) { o.add(o.m.Reconnects, of(name, pair{telemetry.AttrReason, reason})) },
		Restarted:   func(code int) { o.add(o.m.Restarts, of(name, pair{telemetry.AttrExitCode, strconv.Itoa(code)})) },
		Late:        func(failed bool) { o.late(name, failed) },
	}
}

// probed notes a probe of a downstream whose circuit is open.
func (o *observer) probed(tg *target, began time.Time, err error) {
	if o == nil {
		return
	}
	class := ""
	if err != nil {
		class = o.errorType(tg.policy.rules.Load().failure(err).Class)
	}
	o.record(o.m.Probe, time.Since(began), of(tg.name, pair{telemetry.AttrError, class}))
}

// sessionEnded notes the end of a client's session.
func (o *observer) sessionEnded(s *session, cause error) {
	if o == nil || s.revision == "" {
		return
	}
	class := ""
	if !errors.Is(cause, errSessionEnded) {
		class = "session_lost"
	}
	key := eventKey{more: [3]pair{{telemetry.AttrError, class}}}
	o.record(o.m.ServerSession, time.Since(s.created), key)
}
