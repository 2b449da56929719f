package gateway

import (
	"context"
	"net/http"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
	"github.com/mcpgw/mcpgw/resilience"
	"github.com/mcpgw/mcpgw/telemetry"
)

// telemetryFor starts telemetry for a test.
func telemetryFor(tb testing.TB, set func(*telemetry.Config), o telemetry.Options) *telemetry.Telemetry {
	tb.Helper()
	cfg := telemetry.DefaultConfig()
	cfg.Metrics.Exporter, cfg.Traces.Exporter = "none", "none"
	if set != nil {
		set(&cfg)
	}
	tel, err := telemetry.Start(context.Background(), cfg, o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = tel.Shutdown(context.Background()) })
	return tel
}

// recording returns everything that telemetry does to a call that succeeds, without the call.
func recording(tb testing.TB, opts Options) func() {
	g, r, to := benchCallWith(tb, opts, func(*Policies) {})
	r.params = wire.Index([]byte(`{"name":"host__memory","arguments":{}}`))
	res := downstream.Result{Raw: []byte(`{"resultType":"complete","content":[{"type":"text","text":"much"}],"isError":false}`), Modern: true}
	c := downstream.Call{Method: "tools/call", Target: "memory", Params: r.params.Raw, Body: &r.params}
	header := http.Header{"Content-Type": {"application/json"}, "Accept": {"*/*"}}
	f := &flight{}
	ok := whole(res.Raw)
	return func() {
		ctx := tb.Context()
		var err error
		r.trace = traceOf(header)
		if g.obs == nil {
			return
		}
		r.seen.span = nil
		r.seen.attempts.Store(0)
		ctx = g.obs.begin(ctx, r)
		r.seen.tool, r.seen.target, r.seen.key, r.seen.safe = "host__memory", to.target, to.key, to.safe
		f.passage.busy.Store(0)
		f.passage.enter(ctx, g.obs, r, &to)
		var t try
		t.begin(ctx, &f.passage, &c)
		t.end(&res, &err)
		g.obs.done(ctx, "host", &resilience.CallInfo{Attempts: 1})
		f.passage.leave(err)
		g.obs.end(ctx, r, &ok, err)
	}
}

// BenchmarkTelemetry is what telemetry costs one call that succeeds.
func BenchmarkTelemetry(b *testing.B) {
	for _, bb := range []struct {
		name string
		opts func() Options
	}{
		{"off", func() Options { return Options{} }},
		{"metrics", func() Options { return Options{Telemetry: telemetryFor(b, nil, telemetry.Options{Scraped: true})} }},
		{"metrics and traces at 10 %", func() Options {
			return Options{Telemetry: telemetryFor(b, nil, telemetry.Options{
				Scraped: true, SpanProcessors: []sdktrace.SpanProcessor{sdktrace.NewBatchSpanProcessor(tracetest.NewNoopExporter())},
			})}
		}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			record := recording(b, bb.opts())
			b.ReportAllocs()
			for b.Loop() {
				record()
			}
		})
	}
}

func TestTelemetryAllocatesNothing(t *testing.T) {
	for name, opts := range map[string]Options{
		"off":     {},
		"metrics": {Telemetry: telemetryFor(t, nil, telemetry.Options{Scraped: true})},
	} {
		record := recording(t, opts)
		record() // makes the series
		if n := testing.AllocsPerRun(1000, record); n > 0 {
			t.Errorf("%s: %v allocations for each call, want none", name, n)
		}
	}
}
