package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	datapb "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/protobuf/proto"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
	"github.com/mcpgw/mcpgw/resilience"
	"github.com/mcpgw/mcpgw/telemetry"
)

// contract is what dashboards and alerts are written against: name, kind, unit, attributes. It repeats the table of package telemetry on
// purpose, so that nobody changes that by accident.
const contract = `
mcp.server.operation.duration|histogram|s|mcp.method.name,error.type,gen_ai.tool.name,rpc.response.status_code,mcp.protocol.version,network.transport,gen_ai.operation.name
mcp.client.operation.duration|histogram|s|mcp.method.name,error.type,gen_ai.tool.name,rpc.response.status_code,mcp.protocol.version,network.transport,gen_ai.operation.name,mcpgw.downstream.name,server.address,server.port
mcp.server.session.duration|histogram|s|error.type
mcp.client.session.duration|histogram|s|mcpgw.downstream.name,error.type
mcpgw.call.duration|histogram|s|mcpgw.downstream.name,mcp.method.name,error.type
mcpgw.call.overhead|histogram|s|mcpgw.downstream.name
mcpgw.call.active|updowncounter|{call}|mcpgw.downstream.name
mcpgw.attempts|counter|{attempt}|mcpgw.downstream.name,error.type,mcpgw.attempt.kind
mcpgw.attempt.abandoned|updowncounter|{attempt}|mcpgw.downstream.name
mcpgw.attempt.late|counter|{response}|mcpgw.downstream.name,mcpgw.outcome
mcpgw.retry.scheduled|counter|{retry}|mcpgw.downstream.name,error.type
mcpgw.retry.success|counter|{call}|mcpgw.downstream.name
mcpgw.retry.exhausted|counter|{call}|mcpgw.downstream.name,error.type
mcpgw.retry.suppressed|counter|{retry}|mcpgw.downstream.name,mcpgw.reason
mcpgw.retry.delay|histogram|s|mcpgw.downstream.name
mcpgw.retry.per_call|histogram|{retry}|mcpgw.downstream.name
mcpgw.retry_budget.tokens|gauge|{token}|mcpgw.downstream.name
mcpgw.circuit_breaker.state|updowncounter|{circuit}|mcpgw.circuit.name,mcpgw.circuit.state
mcpgw.circuit_breaker.calls|counter|{call}|mcpgw.circuit.name,mcpgw.result
mcpgw.circuit_breaker.rejected|counter|{call}|mcpgw.circuit.name,mcpgw.reason
mcpgw.circuit_breaker.transitions|counter|{transition}|mcpgw.circuit.name,mcpgw.circuit.from,mcpgw.circuit.to,mcpgw.reason
mcpgw.circuit_breaker.failure_rate|gauge|1|mcpgw.circuit.name
mcpgw.circuit_breaker.slow_call_rate|gauge|1|mcpgw.circuit.name
mcpgw.circuit_breaker.consecutive_failures|gauge|{failure}|mcpgw.circuit.name
mcpgw.circuit_breaker.outage.duration|histogram|s|mcpgw.circuit.name
mcpgw.circuit_breaker.half_open.in_flight|gauge|{call}|mcpgw.circuit.name
mcpgw.circuit_breaker.retry_after|gauge|s|mcpgw.circuit.name
mcpgw.bulkhead.limit|gauge|{call}|mcpgw.downstream.name
mcpgw.bulkhead.in_flight|gauge|{call}|mcpgw.downstream.name
mcpgw.bulkhead.queued|gauge|{call}|mcpgw.downstream.name
mcpgw.bulkhead.rejected|counter|{call}|mcpgw.downstream.name,mcpgw.reason
mcpgw.bulkhead.wait|histogram|s|mcpgw.downstream.name
mcpgw.rate_limit.rejected|counter|{call}|mcpgw.downstream.name
mcpgw.rate_limit.wait|histogram|s|mcpgw.downstream.name
mcpgw.timeout.exceeded|counter|{timeout}|mcpgw.downstream.name,mcpgw.timeout.scope
mcpgw.fallback.executed|counter|{call}|mcpgw.downstream.name,mcpgw.fallback.name,mcpgw.result
mcpgw.hedge.started|counter|{attempt}|mcpgw.downstream.name
mcpgw.hedge.won|counter|{attempt}|mcpgw.downstream.name
mcpgw.errors|counter|{error}|mcpgw.downstream.name,error.type
mcpgw.panics|counter|{panic}|mcpgw.downstream.name
mcpgw.downstream.up|gauge|{downstream}|mcpgw.downstream.name,network.transport
mcpgw.downstream.reconnects|counter|{reconnect}|mcpgw.downstream.name,mcpgw.reason
mcpgw.downstream.restarts|counter|{restart}|mcpgw.downstream.name,process.exit.code
mcpgw.downstream.probe.duration|histogram|s|mcpgw.downstream.name,error.type
mcpgw.downstream.pushback|histogram|s|mcpgw.downstream.name
mcpgw.degraded|gauge|{dependency}|mcpgw.dependency.name,mcpgw.mode
mcpgw.admission.rejected|counter|{call}|
go.goroutine.count|updowncounter|{goroutine}|
go.memory.used|updowncounter|By|go.memory.type
process.cpu.time|counter|s|cpu.mode
`

// agreed is one line of contract.
type agreed struct {
	name, kind, unit string
	attrs            []string
}

func contracted() []agreed {
	var all []agreed
	for line := range strings.Lines(strings.TrimSpace(contract)) {
		f := strings.Split(strings.TrimSpace(line), "|")
		m := agreed{f[0], f[1], f[2], nil}
		if f[3] != "" {
			m.attrs = strings.Split(f[3], ",")
		}
		slices.Sort(m.attrs)
		all = append(all, m)
	}
	return all
}

func TestTableIsTheContract(t *testing.T) {
	var got []agreed
	for _, d := range telemetry.Table() {
		m := agreed{d.Name, string(d.Kind), d.Unit, slices.Clone(d.Attrs)}
		slices.Sort(m.attrs)
		got = append(got, m)
	}
	if d := cmp.Diff(contracted(), got, cmp.AllowUnexported(agreed{})); d != "" {
		t.Error(d)
	}
}

// observed starts a gateway with telemetry in front of one server.
func observed(t *testing.T, tel *telemetry.Telemetry, s *shaky, p Policies, log io.Writer) (*Gateway, *raw) {
	t.Helper()
	return observedAll(t, tel, map[string]downstream.Config{"one": servedBy(s)}, map[string]Policies{"one": p}, log)
}

func servedBy(s *shaky) downstream.Config {
	cfg := downstream.DefaultConfig()
	cfg.URL = s.URL
	return cfg
}

func observedAll(t *testing.T, tel *telemetry.Telemetry, downs map[string]downstream.Config, p map[string]Policies, log io.Writer) (*Gateway, *raw) {
	t.Helper()
	o := Options{Version: "test", Telemetry: tel}
	if log != nil {
		o.Logger = slog.New(slog.NewTextHandler(log, nil))
	}
	g := New(o)
	if _, err := g.Apply(t.Context(), Settings{Gateway: DefaultConfig(), Downstreams: downs, Policies: p}); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(g.Handler())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := g.Close(ctx); err != nil {
			t.Error(err)
		}
		srv.Close()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := g.Settled(ctx); err != nil {
		t.Fatal(err)
	}
	return g, newRaw(t, srv.URL+"/mcp", true)
}

// provokeAll makes each metric have a value: calls that go well and wrong, and the events that are hard to provoke.
func provokeAll(t *testing.T, g *Gateway, c *raw, s *shaky) {
	t.Helper()
	c.tool(t, "one__echo", `{"text":"a"}`)
	s.disturb(nil, status(503), status(503))
	c.tool(t, "one__echo", `{"text":"b"}`)
	c.call(t, 1, "tools/call", `{"name":"nobody_has_this"}`)
	ev, ctx := g.obs.watch("one", resilience.Events{}), context.Background()
	call := resilience.Call{}
	ev.StateChange(resilience.StateChange{Circuit: "one", From: resilience.StateOpen, To: resilience.StateClosed, Reason: "trial succeeded", Outage: time.Minute})
	for _, r := range []resilience.Reason{resilience.CircuitOpen, resilience.BulkheadFull, resilience.QueueTimeout, resilience.RateLimited} {
		ev.Rejected(ctx, call, &resilience.Error{Circuit: "one", Reason: r})
	}
	ev.Attempt(ctx, call, resilience.AttemptInfo{
		Queued: time.Second, Throttled: time.Second, Outcome: resilience.Outcome{RetryAfter: time.Second}, Err: &downstream.StatusError{Status: 429},
	})
	ev.NotRepeated(ctx, call, resilience.RetryBudget)
	ev.Timeout(ctx, call, &resilience.TimeoutError{Reason: resilience.IdleTimeout})
	ev.Late(ctx, call, nil)
	ev.Fallback(ctx, call, "cache", nil)
	ev.Done(ctx, call, resilience.CallInfo{Attempts: 3, Err: &resilience.Error{Reason: resilience.RetriesExhausted, Class: "503"}})
	d := g.obs.downstream("one")
	d.SessionEnded(time.Second, "process_exit")
	d.Reconnected("session_ended")
	d.Restarted(2)
	g.obs.probed(g.targets["one"], time.Now(), errors.New("x"))
	g.obs.sessionEnded(&session{revision: downstream.Legacy, created: time.Now()}, errors.New("x"))
	g.obs.m.AdmissionRejected.Add(ctx, 1)
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// collector is an OTLP receiver over HTTP.
type collector struct {
	mu      sync.Mutex
	metrics map[string]*datapb.Metric
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var m metricspb.ExportMetricsServiceRequest
	if err != nil || r.URL.Path != "/v1/metrics" || r.Header.Get("Content-Type") != "application/x-protobuf" || proto.Unmarshal(body, &m) != nil {
		http.Error(w, "not OTLP metrics", http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, res := range m.GetResourceMetrics() {
		for _, scope := range res.GetScopeMetrics() {
			for _, metric := range scope.GetMetrics() {
				c.metrics[metric.GetName()] = metric
			}
		}
	}
}

func TestCollectorReceivesTheContract(t *testing.T) {
	c := &collector{metrics: map[string]*datapb.Metric{}}
	srv := httptest.NewServer(c)
	defer srv.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", srv.URL)
	tel := telemetryFor(t, func(c *telemetry.Config) { c.Metrics.Exporter = "otlp" }, telemetry.Options{})
	s := newShaky(t)
	g, client := observed(t, tel, s, quick(), nil)
	provokeAll(t, g, client, s)
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, want := range contracted() {
		m := c.metrics[want.name]
		if m == nil {
			t.Errorf("%s was not received", want.name)
			continue
		}
		delete(c.metrics, want.name)
		kind, points := readMetric(m)
		if kind != want.kind || m.GetUnit() != want.unit {
			t.Errorf("%s: %s in %q, want %s in %q", want.name, kind, m.GetUnit(), want.kind, want.unit)
		}
		for _, attrs := range points {
			for _, kv := range attrs {
				if !slices.Contains(want.attrs, kv.GetKey()) {
					t.Errorf("%s has the attribute %s", want.name, kv.GetKey())
				}
			}
		}
	}
	for name := range c.metrics {
		t.Errorf("%s is not in the contract", name)
	}
}

// readMetric returns the kind of a metric and the attributes of its points.
func readMetric(m *datapb.Metric) (kind string, points [][]*commonpb.KeyValue) {
	switch d := m.GetData().(type) {
	case *datapb.Metric_Histogram:
		kind = "histogram"
		for _, p := range d.Histogram.GetDataPoints() {
			points = append(points, p.GetAttributes())
		}
	case *datapb.Metric_Gauge:
		kind = "gauge"
		for _, p := range d.Gauge.GetDataPoints() {
			points = append(points, p.GetAttributes())
		}
	case *datapb.Metric_Sum:
		if kind = "updowncounter"; d.Sum.GetIsMonotonic() {
			kind = "counter"
		}
		for _, p := range d.Sum.GetDataPoints() {
			points = append(points, p.GetAttributes())
		}
	}
	return kind, points
}

// inPrometheus is what the exporter must make of a metric.
func (m *agreed) inPrometheus() (name string, kind dto.MetricType) {
	name = strings.ReplaceAll(m.name, ".", "_")
	switch m.unit {
	case "s":
		name += "_seconds"
	case "By":
		name += "_bytes"
	case "1":
		name += "_ratio"
	}
	switch m.kind {
	case "histogram":
		return name, dto.MetricType_HISTOGRAM
	case "counter":
		return name + "_total", dto.MetricType_COUNTER
	}
	if m.name == "go.goroutine.count" {
		name = "go_goroutines"
	}
	return name, dto.MetricType_GAUGE
}

// scrape returns what /metrics says.
func scrape(t *testing.T, g *Gateway) (text string, families map[string]*dto.MetricFamily) {
	t.Helper()
	w := httptest.NewRecorder()
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:8080/metrics", http.NoBody)
	g.AdminHandler().ServeHTTP(w, req)
	if w.Code != http.StatusOK {
		t.Fatalf("/metrics: %d %s", w.Code, w.Body)
	}
	text = w.Body.String()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return text, families
}

func TestPrometheusSeesTheContract(t *testing.T) {
	tel := telemetryFor(t, nil, telemetry.Options{Scraped: true})
	s := newShaky(t)
	g, client := observed(t, tel, s, quick(), nil)
	provokeAll(t, g, client, s)
	text, families := scrape(t, g)
	for _, want := range contracted() {
		name, kind := want.inPrometheus()
		f := families[name]
		if f == nil {
			t.Errorf("%s (%s) is missing", name, want.name)
			continue
		}
		delete(families, name)
		if f.GetType() != kind {
			t.Errorf("%s is a %s, want %s", name, f.GetType(), kind)
		}
		var labels []string
		for _, a := range want.attrs {
			labels = append(labels, strings.ReplaceAll(a, ".", "_"))
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if !slices.Contains(labels, l.GetName()) {
					t.Errorf("%s has the label %s", name, l.GetName())
				}
			}
		}
	}
	delete(families, "target_info")
	for name := range families {
		t.Errorf("%s is not in the contract", name)
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint() // what "promtool check metrics" says
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("promlint: %s: %s", p.Metric, p.Text)
	}
}

func TestStrangersCannotMakeSeries(t *testing.T) {
	tel := telemetryFor(t, func(c *telemetry.Config) { c.Metrics.Tools = 5 }, telemetry.Options{Scraped: true})
	s := newShaky(t)
	g, c := observed(t, tel, s, quick(), nil)
	c.tool(t, "one__echo", `{"text":"a"}`)
	series := func() int {
		text, _ := scrape(t, g)
		return strings.Count(text, "\n")
	}
	c.call(t, 1, "tools/call", `{"name":"unknown"}`)
	c.call(t, 1, "no/such/method", `{}`)
	before := series()
	for i := range 100 {
		c.call(t, 1, "tools/call", fmt.Sprintf(`{"name":"unknown%d"}`, i))
		c.call(t, 1, fmt.Sprintf("no/such/method%d", i), `{}`)
	}
	if after := series(); after != before {
		t.Errorf("a client made %d lines out of %d", after, before)
	}
	// A server that changes its tools all the time, and answers with any code that it likes.
	names, codes := map[string]bool{}, map[string]bool{}
	for i := range 1000 {
		names[g.obs.toolsOf("one").of(fmt.Sprint("tool", i))] = true
		codes[g.obs.codeOf(&wire.Error{Code: int64(i)})] = true
	}
	if len(names) > 6 || !names[telemetry.OtherValue] {
		t.Errorf("%d names of tools", len(names))
	}
	if len(codes) > 201 || !codes[telemetry.OtherValue] {
		t.Errorf("%d error types", len(codes))
	}
}

func TestAccessAndAuditLog(t *testing.T) {
	var log syncBuffer
	tel := telemetryFor(t, func(c *telemetry.Config) {
		c.AccessLog.Enabled, c.AuditLog.Enabled, c.AuditLog.Redact = true, true, []string{"^text$"}
	}, telemetry.Options{Logger: slog.New(slog.NewJSONHandler(&log, nil))})
	s := newShaky(t)
	p := quick()
	p.Classification.TrustAnnotations = false
	_, c := observed(t, tel, s, p, nil)
	c.tool(t, "one__echo", `{"text":"not to be seen","password":"hunter22","count":3}`)
	c.call(t, 1, "tools/list", `{}`)
	var access, audit []map[string]any
	for line := range strings.Lines(log.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		switch m["msg"] {
		case "request":
			access = append(access, m)
		case "audit":
			audit = append(audit, m)
		}
	}
	if len(access) != 2 || access[0]["tool"] != "one__echo" || access[0]["outcome"] != "ok" || access[1]["method"] != "tools/list" {
		t.Errorf("access log: %v", access)
	}
	if len(audit) != 1 || audit[0]["principal"] != anonymous || audit[0]["tool"] != "echo" || audit[0]["executed"] != "yes" ||
		audit[0]["arguments"] != `{"count":3,"password":"[redacted]","text":"[redacted]"}` {
		t.Errorf("audit log: %v", audit)
	}
}

// syncBuffer is a bytes.Buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
