package gateway

import (
	"context"
	"encoding/json"
	"net/http"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
)

// The W3C trace context travels in params._meta (SEP-414), and over HTTP in headers too. A gateway that traces a call takes its place in the
// trace; one that does not hands on what it got, byte for byte, each in its own place.

// traceHeaders are the headers that are handed on.
var traceHeaders = [...]string{"Traceparent", "Tracestate", "Baggage"}

// traceOf returns the trace context of a request's headers; nil if there is none.
func traceOf(h http.Header) http.Header {
	var out http.Header
	for _, name := range traceHeaders {
		if v := h[name]; len(v) > 0 {
			if out == nil {
				out = http.Header{}
			}
			out[name] = v
		}
	}
	return out
}

// extract reads a trace context strictly: what is malformed counts as none.
func extract(ctx context.Context, c propagation.TextMapCarrier) trace.SpanContext {
	if c.Get("traceparent") == "" {
		return trace.SpanContext{} // the usual case
	}
	// Of ctx only what is read now is wanted, not a span that it may carry.
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(trace.ContextWithSpanContext(ctx, trace.SpanContext{}), c))
}

// metaCarrier reads a trace context in _meta.
type metaCarrier struct{ meta json.RawMessage }

// Get implements propagation.TextMapCarrier.
func (c metaCarrier) Get(key string) string {
	s, _ := wire.GetString(c.meta, key)
	return s
}

// Set implements propagation.TextMapCarrier; it is not called.
func (metaCarrier) Set(string, string) {}

// Keys implements propagation.TextMapCarrier; it is not called.
func (metaCarrier) Keys() []string { return nil }

// headerCarrier reads a trace context in headers.
type headerCarrier struct{ header http.Header }

// Get implements propagation.TextMapCarrier. A header that was sent twice says nothing.
func (c headerCarrier) Get(key string) string {
	if c.header == nil {
		return ""
	}
	if v := c.header[http.CanonicalHeaderKey(key)]; len(v) == 1 {
		return v[0]
	}
	return ""
}

// Set implements propagation.TextMapCarrier; it is not called.
func (headerCarrier) Set(string, string) {}

// Keys implements propagation.TextMapCarrier; it is not called.
func (headerCarrier) Keys() []string { return nil }

// inject makes an attempt carry its own span as the trace context, in _meta and for HTTP in headers. Vendors' state and baggage go along as
// the client sent them.
func inject(sc trace.SpanContext, r *request, c *downstream.Call) {
	var parent [55]byte
	p := parent[:0]
	p = append(p, "00-"...)
	id, span := sc.TraceID(), sc.SpanID()
	p = append(appendHex(p, id[:]), '-')
	p = append(appendHex(p, span[:]), '-')
	flags := byte(sc.TraceFlags() & trace.FlagsSampled)
	p = appendHex(p, []byte{flags})
	traceparent := string(p)

	header := http.Header{"Traceparent": {traceparent}}
	meta := wire.Get(c.Params, "_meta")
	edits := []wire.Member{{Key: "traceparent", Value: wire.Quote(traceparent)}}
	if state := sc.TraceState().String(); state != "" {
		header["Tracestate"] = []string{state}
		if have, _ := wire.GetString(meta, "tracestate"); have != state {
			edits = append(edits, wire.Member{Key: "tracestate", Value: wire.Quote(state)})
		}
	}
	if baggage, ok := wire.GetString(meta, "baggage"); ok && plainHeader(baggage) {
		header["Baggage"] = []string{baggage}
	} else if b := r.trace["Baggage"]; len(b) > 0 && !ok {
		header["Baggage"] = b
		if len(b) == 1 {
			edits = append(edits, wire.Member{Key: "baggage", Value: wire.Quote(b[0])})
		}
	}
	c.Params, c.Body, c.Trace = wire.Set(c.Params, "_meta", wire.Edit(meta, edits...)), nil, header
}

// plainHeader reports whether a text from a message can stand in a header.
func plainHeader(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

func appendHex(b, raw []byte) []byte {
	const digits = "0123456789abcdef"
	for _, c := range raw {
		b = append(b, digits[c>>4], digits[c&15])
	}
	return b
}
