package telemetry

import (
	"bytes"
	"context"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

func TestEveryMetricHasItsInstrument(t *testing.T) {
	p := &producer{}
	if _, err := newMetrics(noop.NewMeterProvider().Meter(ScopeName), 10, p); err != nil || len(p.all) != 4 {
		t.Errorf("%v, %d histograms of calls", err, len(p.all))
	}
}

func TestValidateNamesTheKey(t *testing.T) {
	for want, set := range map[string]func(*Config){
		"log_level: ":           func(c *Config) { c.LogLevel = "loud" },
		"log_format: ":          func(c *Config) { c.LogFormat = "xml" },
		"traces.sample: ":       func(c *Config) { c.Traces.Sample = 2 },
		"access_log.sample: ":   func(c *Config) { c.AccessLog.Sample = -1 },
		"metrics.exporter: ":    func(c *Config) { c.Metrics.Exporter = "statsd" },
		"metrics.tools: ":       func(c *Config) { c.Metrics.Tools = -1 },
		"audit_log.redact[0]: ": func(c *Config) { c.AuditLog.Redact = []string{"("} },
	} {
		c := DefaultConfig()
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		set(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestExporterIsChosenByFileThenEnvironment(t *testing.T) {
	for _, tt := range []struct{ file, variable, endpoint, want string }{
		{"auto", "", "", "none"},
		{"auto", "", "http://127.0.0.1:1", "otlp"},
		{"auto", "none", "http://127.0.0.1:1", "none"},
		{"auto", "console", "", "console"},
		{"none", "otlp", "http://127.0.0.1:1", "none"},
		{"otlp", "none", "", "otlp"},
		{"", "", "", "none"},
	} {
		t.Setenv("OTEL_TRACES_EXPORTER", tt.variable)
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", tt.endpoint)
		if got, err := chosen(tt.file, "TRACES"); err != nil || got != tt.want {
			t.Errorf("%+v: got %s, %v", tt, got, err)
		}
	}
	t.Setenv("OTEL_TRACES_EXPORTER", "zipkin")
	if _, err := chosen("auto", "TRACES"); err == nil {
		t.Error("an exporter that is not there was accepted")
	}
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	if grpc, err := overGRPC("METRICS"); err != nil || !grpc {
		t.Errorf("got %v, %v", grpc, err)
	}
	t.Setenv("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/json")
	if _, err := overGRPC("METRICS"); err == nil {
		t.Error("a form that is not there was accepted")
	}
}

func TestNothingToTellSetsUpNothing(t *testing.T) {
	c := DefaultConfig()
	c.Metrics.Prometheus = false
	tel, err := Start(t.Context(), c, Options{Scraped: true})
	if err != nil || tel.Metrics != nil || tel.Tracer != nil || tel.Scrape != nil || tel.Access != nil || tel.Audit != nil {
		t.Errorf("%+v, %v", tel, err)
	}
	t.Setenv("OTEL_SDK_DISABLED", "true")
	if tel, err = Start(t.Context(), DefaultConfig(), Options{Scraped: true}); err != nil || tel.Metrics != nil {
		t.Errorf("OTEL_SDK_DISABLED: %+v, %v", tel, err)
	}
}

func TestLogLinesHaveTheIDsOfTheSpan(t *testing.T) {
	var b bytes.Buffer
	log, err := NewLogger(&b, DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	ctx, span := sdktrace.NewTracerProvider().Tracer("").Start(t.Context(), "x")
	id := span.SpanContext()
	log.With("a", 1).InfoContext(ctx, "first")
	log.InfoContext(ctx, "second", "trace_id", "known")
	log.InfoContext(t.Context(), "third")
	lines := strings.Split(b.String(), "\n")
	if !strings.Contains(lines[0], "trace_id="+id.TraceID().String()+" span_id="+id.SpanID().String()) {
		t.Error(lines[0])
	}
	if strings.Count(lines[1], "trace_id=") != 1 || strings.Contains(lines[2], "trace_id") {
		t.Error(lines[1:])
	}
}

func TestDurationsAreBoundedAndHaveExamples(t *testing.T) {
	h := newDurations(Def{Name: "x", Buckets: []float64{1, 2}}, 3)
	_, span := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(sdktrace.NewSimpleSpanProcessor(tracetest.NewNoopExporter()))).Tracer("").Start(t.Context(), "x")
	for i := range 10 {
		h.Point(attribute.Int("n", i)).Record(1500*time.Millisecond, span)
	}
	h.Point(attribute.Int("n", 0)).Record(time.Second, nil) // the bound belongs to its bucket
	m, ok := h.collect(time.Now())
	if !ok {
		t.Fatal("nothing")
	}
	points := histogram(t, m)
	var all uint64
	for _, p := range points {
		all += p.Count
		if n, _ := p.Attributes.Value("n"); n.Type() == attribute.INT64 && n.AsInt64() == 0 && (p.BucketCounts[0] != 1 || p.BucketCounts[1] != 1 || p.Sum != 2.5) {
			t.Errorf("%+v", p)
		}
		if len(p.Exemplars) != 1 || !bytes.Equal(p.Exemplars[0].TraceID, traceBytes(span)) {
			t.Errorf("examples %+v", p.Exemplars)
		}
	}
	if len(points) != 3 || all != 11 {
		t.Errorf("%d series with %d records, want 3 with 11", len(points), all)
	}
}

func traceBytes(span trace.Span) []byte {
	id := span.SpanContext().TraceID()
	return id[:]
}

func TestAuditFileIsForItsOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	c := DefaultConfig()
	c.AuditLog.Enabled, c.AuditLog.Path = true, path
	tel, err := Start(t.Context(), c, Options{})
	if err != nil {
		t.Fatal(err)
	}
	arguments := `{"API_KEY":"s3cr3t","nested":[{"password":"s3cr3t","ok":12345678901234567890}],"long":"` + strings.Repeat("ä", 1000) + `"}`
	tel.Audit.Write(t.Context(), []byte(arguments), slog.String("tool", "x"))
	tel.Audit.Write(t.Context(), []byte(`not JSON`), slog.String("tool", "y"))
	if err := tel.Shutdown(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if s := string(text); strings.Contains(s, "s3cr3t") || !strings.Contains(s, "12345678901234567890") || len(s) > 1200 || strings.Count(s, "\n") != 2 {
		t.Error(s)
	}
}

func TestExamplesReachPrometheus(t *testing.T) {
	tel, err := Start(t.Context(), DefaultConfig(), Options{Scraped: true, SpanProcessors: []sdktrace.SpanProcessor{sdktrace.NewSimpleSpanProcessor(tracetest.NewNoopExporter())}})
	if err != nil {
		t.Fatal(err)
	}
	_, span := tel.Tracer.Start(t.Context(), "x")
	tel.Metrics.ServerOperation.Point(attribute.String(AttrMethod, "tools/call")).Record(time.Second, span)
	req := httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil)
	req.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	w := httptest.NewRecorder()
	tel.Scrape.ServeHTTP(w, req)
	if got := w.Body.String(); !strings.Contains(got, `trace_id="`+span.SpanContext().TraceID().String()+`"`) {
		t.Error(got)
	}
}

func histogram(t *testing.T, m metricdata.Metrics) []metricdata.HistogramDataPoint[float64] {
	t.Helper()
	h, ok := m.Data.(metricdata.Histogram[float64])
	if !ok || h.Temporality != metricdata.CumulativeTemporality {
		t.Fatalf("%+v", m)
	}
	return h.DataPoints
}
