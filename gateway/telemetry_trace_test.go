package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
	"github.com/mcpgw/mcpgw/telemetry"
)

// continuing makes a server continue the trace context that calls carry, with a span of its own.
func continuing(t *testing.T, s *shaky, tracer trace.Tracer, seen func(header, meta string)) {
	t.Helper()
	inner := s.inner
	s.inner = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tell(t, r, tracer, seen)
		inner.ServeHTTP(w, r)
	})
}

func tell(t *testing.T, r *http.Request, tracer trace.Tracer, seen func(header, meta string)) {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	if err != nil || !bytes.Contains(body, []byte(`"tools/call"`)) {
		r.Body = io.NopCloser(bytes.NewReader(body))
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	meta := wire.Get(wire.Get(body, "params"), "_meta")
	inMeta, _ := wire.GetString(meta, "traceparent")
	if seen != nil {
		seen(r.Header.Get("Traceparent"), inMeta)
	}
	ctx := trace.ContextWithRemoteSpanContext(r.Context(), extract(r.Context(), metaCarrier{meta}))
	_, span := tracer.Start(ctx, "downstream")
	span.End()
}

// failing answers 503 after it has continued the trace.
func failing(t *testing.T, tracer trace.Tracer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		tell(t, r, tracer, nil)
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

func TestOneTraceOfRetriesAndFallback(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	tracer := provider.Tracer("others")
	tel := telemetryFor(t, func(c *telemetry.Config) { c.Traces.Sample = 0 }, telemetry.Options{ // the client decides
		SpanProcessors: []sdktrace.SpanProcessor{sdktrace.NewSimpleSpanProcessor(spans)},
	})
	one, two := newShaky(t), newShaky(t)
	continuing(t, one, tracer, nil)
	continuing(t, two, tracer, nil)
	p := quick()
	p.Safety = "read_only"
	p.Retry.MaxAttempts = 3
	p.Fallback = []Fallback{{Downstream: "two", Timeout: 10 * time.Second}}
	_, c := observedAll(t, tel, map[string]downstream.Config{"one": servedBy(one), "two": servedBy(two)}, map[string]Policies{"one": p, "two": quick()}, nil)
	one.disturb(failing(t, tracer))

	_, root := tracer.Start(t.Context(), "client")
	sc := root.SpanContext()
	parent := "00-" + sc.TraceID().String() + "-" + sc.SpanID().String() + "-01"
	events := c.call(t, 1, "tools/call", `{"name":"one__echo","arguments":{"text":"x"},"_meta":{"traceparent":"`+parent+`","tracestate":"vendor=1"}}`)
	root.End()
	if got := string(events[len(events)-1]); !strings.Contains(got, `"fallback":"downstream"`) {
		t.Fatalf("no fallback answered: %s", got)
	}

	byName := map[string][]tracetest.SpanStub{}
	await(t, "the server's span", func() bool {
		byName = map[string][]tracetest.SpanStub{}
		for _, s := range spans.GetSpans() {
			if s.SpanContext.TraceID() != sc.TraceID() {
				t.Errorf("span %s is of another trace", s.Name)
			}
			byName[s.Name] = append(byName[s.Name], s)
		}
		return len(byName["tools/call one__echo"]) == 1
	})
	server := byName["tools/call one__echo"][0]
	if server.SpanKind != trace.SpanKindServer || server.Parent.SpanID() != sc.SpanID() || server.SpanContext.TraceState().String() != "vendor=1" {
		t.Errorf("the server's span: %+v", server)
	}
	var told []string
	for _, e := range server.Events {
		told = append(told, e.Name)
	}
	if got := strings.Join(told, " "); got != "retry.scheduled retry.scheduled fallback" {
		t.Errorf("events: %s", got)
	}
	attempts := byName["tools/call echo"]
	if len(attempts) != 4 || len(byName["downstream"]) != 4 {
		t.Fatalf("%d attempts, %d arrived, want 3 at one and 1 at two: %v", len(attempts), len(byName["downstream"]), byName)
	}
	ids, at := map[trace.SpanID]bool{}, map[string]int{}
	for _, a := range attempts {
		ids[a.SpanContext.SpanID()] = true
		if a.Parent.SpanID() != server.SpanContext.SpanID() || a.SpanKind != trace.SpanKindClient {
			t.Errorf("an attempt: %+v", a)
		}
		attrs := attribute.NewSet(a.Attributes...)
		name, _ := attrs.Value(telemetry.AttrDownstream)
		class, _ := attrs.Value(telemetry.AttrError)
		at[name.AsString()+" "+class.AsString()]++
	}
	if at["one 503"] != 3 || at["two "] != 1 {
		t.Errorf("attempts: %v", at)
	}
	for _, d := range byName["downstream"] {
		if !ids[d.Parent.SpanID()] {
			t.Errorf("a server did not continue an attempt: %+v", d)
		}
	}
}

func TestTraceContextPassesUntouchedWithoutTelemetry(t *testing.T) {
	s := newShaky(t)
	var mu sync.Mutex
	var got [2]string
	continuing(t, s, sdktrace.NewTracerProvider().Tracer(""), func(header, meta string) {
		mu.Lock()
		defer mu.Unlock()
		got = [2]string{header, meta}
	})
	_, c := observed(t, nil, s, quick(), nil)
	const inMeta, inHeader = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-11111111111111111111111111111111-2222222222222222-00"
	params := `{"name":"one__echo","arguments":{"text":"x"},"_meta":{"traceparent":"` + inMeta + `","` + metaProtocolVersion + `":"` + downstream.Modern + `","` + metaClientCapabilities + `":{}}}`
	res := c.post(t, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":`+params+`}`, http.Header{
		"Mcp-Protocol-Version": {downstream.Modern}, "Mcp-Method": {"tools/call"}, "Mcp-Name": {"one__echo"}, "Traceparent": {inHeader},
	})
	if text := body(t, res); !json.Valid([]byte(text)) && !strings.Contains(text, "data:") {
		t.Fatal(text)
	}
	mu.Lock()
	defer mu.Unlock()
	if got != [2]string{inHeader, inMeta} {
		t.Errorf("header and _meta: %q", got)
	}
}

func TestMalformedTraceContextBeginsATrace(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	tel := telemetryFor(t, func(c *telemetry.Config) { c.Traces.Sample = 1 }, telemetry.Options{SpanProcessors: []sdktrace.SpanProcessor{sdktrace.NewSimpleSpanProcessor(spans)}})
	_, c := observed(t, tel, newShaky(t), quick(), nil)
	for _, bad := range []string{"", "x", "00-00000000000000000000000000000000-b7ad6b7169203331-01", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01"} {
		spans.Reset()
		c.call(t, 1, "tools/list", `{"_meta":{"traceparent":"`+bad+`"}}`)
		await(t, "a span", func() bool { return len(spans.GetSpans()) == 1 })
		if s := spans.GetSpans()[0]; s.Parent.IsValid() || s.Name != "tools/list" {
			t.Errorf("%q became the parent %v", bad, s.Parent)
		}
	}
}

func TestCollectorThatIsAwayHarmsNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+l.Addr().String())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
	t.Setenv("OTEL_METRIC_EXPORT_INTERVAL", "10")
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "50")
	var log syncBuffer
	tel := telemetryFor(t, func(c *telemetry.Config) {
		c.Metrics.Exporter, c.Traces.Exporter, c.Traces.Sample = "otlp", "otlp", 1
	}, telemetry.Options{Scraped: true, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	g, c := observed(t, tel, newShaky(t), quick(), nil)
	for range 50 {
		c.tool(t, "one__echo", `{"text":"a"}`)
	}
	await(t, "the gauge", func() bool {
		text, _ := scrape(t, g)
		return strings.Contains(text, `mcpgw_degraded{mcpgw_dependency_name="telemetry",mcpgw_mode="dropping"} 1`)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_ = tel.Shutdown(ctx) // that nothing arrived is no news
	if ctx.Err() != nil {
		t.Error("the end took longer than it was given")
	}
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("%d lines in the log, want 1:\n%s", n, log.String())
	}
}
