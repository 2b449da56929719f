package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/mcptest"
	"github.com/mcpgw/mcpgw/resilience"
)

// shaky is a real server whose answers to tools/call are disturbed on request. It counts what it executes.
type shaky struct {
	*mcptest.Server
	*mcptest.Endpoint
	arrived atomic.Int64 // requests of tools/call

	mu    sync.Mutex
	next  []http.HandlerFunc // for the next calls, one each
	every http.HandlerFunc   // for all others; nil: none
	inner http.Handler
}

func newShaky(t *testing.T) *shaky {
	t.Helper()
	s := &shaky{Server: mcptest.NewServer(t, mcptest.Options{Bare: true})}
	s.inner = mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s.Server.Server },
		&mcp.StreamableHTTPOptions{Stateless: true, PropagateRequestCancellation: true})
	s.Endpoint = mcptest.Serve(t, func() http.Handler { return http.HandlerFunc(s.serve) })
	return s
}

func (s *shaky) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	h := s.inner.ServeHTTP
	if bytes.Contains(body, []byte(`"tools/call"`)) {
		s.arrived.Add(1)
		s.mu.Lock()
		switch {
		case len(s.next) > 0:
			h, s.next = s.next[0], s.next[1:]
		case s.every != nil:
			h = s.every
		}
		s.mu.Unlock()
	}
	h(w, r)
}

// disturb answers the next calls so, and all others with every; nil leaves them alone.
func (s *shaky) disturb(every http.HandlerFunc, next ...http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.every, s.next = every, next
}

// act executes the call and breaks the connection instead of answering.
func (s *shaky) act(_ http.ResponseWriter, r *http.Request) {
	s.inner.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

// quick are policies whose pauses a test can wait for.
func quick() Policies {
	p := DefaultPolicies()
	p.Retry.InitialDelay, p.Retry.MaxDelay = time.Millisecond, 5*time.Millisecond
	p.CircuitBreaker.Probe.Enabled = false
	p.Classification.TrustAnnotations = true
	return p
}

// guarded runs a gateway in front of one server with these policies, and returns a client's way to call its tools.
func guarded(t *testing.T, s *shaky, p Policies, log io.Writer) (*Gateway, *raw, Settings) {
	t.Helper()
	cfg := downstream.DefaultConfig()
	cfg.URL = s.URL
	set := Settings{Gateway: DefaultConfig(), Downstreams: map[string]downstream.Config{"one": cfg}, Policies: map[string]Policies{"one": p}}
	o := Options{Version: "test"}
	if log != nil {
		o.Logger = slog.New(slog.NewTextHandler(log, nil))
	}
	g := New(o)
	if _, err := g.Apply(t.Context(), set); err != nil {
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
	return g, newRaw(t, srv.URL+"/mcp", true), set
}

// told is what a client reads of a call.
type told struct {
	Text       string
	IsError    bool
	Error      string `json:"error"`
	Executed   string `json:"executed"`
	Class      string `json:"class"`
	Attempts   int    `json:"attempts"`
	RetryAfter string `json:"retry_after"`
	RetryMS    int64  `json:"retry_after_ms"`
	structured json.RawMessage
}

func (c *raw) tool(t *testing.T, name, args string) told {
	t.Helper()
	events := c.call(t, 1, "tools/call", `{"name":"`+name+`","arguments":`+args+`}`)
	var m struct {
		Error  json.RawMessage
		Result struct {
			Content           []struct{ Text string }
			IsError           bool
			StructuredContent json.RawMessage
		}
	}
	if err := json.Unmarshal(events[len(events)-1], &m); err != nil || m.Error != nil {
		t.Fatalf("got %s, %v", events, err)
	}
	got := told{IsError: m.Result.IsError, structured: m.Result.StructuredContent}
	for _, c := range m.Result.Content {
		got.Text += c.Text
	}
	_ = json.Unmarshal(m.Result.StructuredContent, &got) // what a tool itself returned has other members
	return got
}

// circuit returns the circuit of the server.
func circuit(t *testing.T, g *Gateway) resilience.CircuitStatus {
	t.Helper()
	st := g.Status()
	if len(st.Circuits) == 0 || st.Circuits[0].Key != nil {
		t.Fatalf("no circuit of the server in %+v", st.Circuits)
	}
	return st.Circuits[0]
}

// await waits until ok.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// locked is a buffer for a log.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestWhatWasSentIsRepeatedOnlyIfItIsSafe(t *testing.T) {
	s := newShaky(t)
	var log locked
	_, c, _ := guarded(t, s, quick(), &log)

	s.disturb(nil, s.act)
	if got := c.tool(t, "one__write", `{}`); got.Error != "connection_lost" || got.Executed != "unknown" || got.Attempts != 1 {
		t.Errorf("a write that was lost: %+v", got)
	}
	if n := s.Calls("write"); n != 1 {
		t.Errorf("the write was executed %d times", n)
	}
	s.disturb(nil, s.act)
	if got := c.tool(t, "one__echo", `{"a":1}`); got.IsError || s.Calls("echo") != 2 {
		t.Errorf("a read that was lost: %+v after %d executions", got, s.Calls("echo"))
	}
	s.disturb(nil, mcptest.Status(503, "x"), mcptest.Status(500, "x"))
	if got := c.tool(t, "one__echo", `{}`); got.IsError || s.Calls("echo") != 3 {
		t.Errorf("a read that failed twice: %+v after %d executions", got, s.Calls("echo"))
	}
	s.disturb(nil, mcptest.Status(503, "x"))
	if got := c.tool(t, "one__write", `{}`); got.Error != "http_status" || got.Class != "503" || got.Executed != "unknown" || got.Attempts != 1 {
		t.Errorf("a write that was refused: %+v", got)
	}
	s.disturb(mcptest.Status(502, "x"))
	if got := c.tool(t, "one__echo", `{}`); got.Class != "502" || got.Attempts != 3 || !strings.Contains(got.Text, "It was tried 3 times.") {
		t.Errorf("a read that failed for good: %+v", got)
	}
	for _, line := range []string{
		`msg="Retry attempt 1/3 failed: Service unavailable, retrying in `, "Retries exhausted for 'one' after 3/3 attempts: 502", "downstream=one", "tool=echo",
	} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("no log line has %q:\n%s", line, log.String())
		}
	}
}

// Hints are only hints: without trust nothing is repeated once it was sent.
func TestHintsCountOnlyIfTrusted(t *testing.T) {
	s := newShaky(t)
	p := quick()
	p.Classification.TrustAnnotations = false
	p.Tools = map[string]resilience.Config{"ec*": p.Config}
	own := p.Tools["ec*"]
	own.Safety = "read_only"
	_, c, _ := guarded(t, s, p, nil)
	s.disturb(nil, mcptest.Status(503, ""))
	if got := c.tool(t, "one__huge", `{"bytes":1}`); got.Attempts != 1 || !got.IsError {
		t.Errorf("an untrusted hint was believed: %+v", got)
	}
	p.Tools["ec*"] = own
	_, c, _ = guarded(t, s, p, nil)
	s.disturb(nil, mcptest.Status(503, ""))
	if got := c.tool(t, "one__echo", `{}`); got.IsError {
		t.Errorf("what the file says of a tool was not believed: %+v", got)
	}
}

func TestWhatWasNotSentIsRepeated(t *testing.T) {
	s := newShaky(t)
	p := quick()
	p.Retry.MaxAttempts, p.Retry.InitialDelay, p.Retry.MaxDelay = 20, 100*time.Millisecond, 100*time.Millisecond
	p.CircuitBreaker.Enabled = false
	p.Retry.Budget.Burst = 20
	g, c, _ := guarded(t, s, p, nil)
	s.Stop()
	done := make(chan told, 1)
	go func() { done <- c.tool(t, "one__write", `{}`) }()
	await(t, "an attempt has failed", func() bool { return circuit(t, g).Counters.Attempts > 0 })
	s.Start()
	if got := <-done; got.IsError || s.Calls("write") != 1 {
		t.Errorf("got %+v, executed %d times", got, s.Calls("write"))
	}
}

func TestCircuitOpensAndSaysSo(t *testing.T) {
	s := newShaky(t)
	var log locked
	p := quick()
	p.CircuitBreaker.FailureThreshold = 3
	g, c, _ := guarded(t, s, p, &log)
	s.disturb(mcptest.Status(500, "broken"))
	for range 3 {
		c.tool(t, "one__write", `{}`)
	}
	got := c.tool(t, "one__write", `{}`)
	if got.Error != "circuit_open" || got.Executed != "no" || got.Class != "500" || got.Attempts != 0 || got.RetryMS < 50_000 || got.RetryAfter == "" {
		t.Errorf("got %+v", got)
	}
	if !strings.Contains(got.Text, "Circuit breaker 'one' is open - service temporarily unavailable") || !strings.Contains(got.Text, got.RetryAfter) {
		t.Errorf("the text is %q", got.Text)
	}
	if n := s.arrived.Load(); n != 3 {
		t.Errorf("the server got %d calls", n)
	}
	for _, args := range []string{`{}`, `{"name":"one"}`, `{"state":"open","verbose":true}`} {
		st := c.tool(t, "circuit_status", args)
		var facts Status
		if err := json.Unmarshal(st.structured, &facts); err != nil {
			t.Fatal(err)
		}
		k := facts.Circuits[0]
		if k.State != "open" || k.RetryAfterMS < 50_000 || k.ConsecutiveFailures != 3 || *k.LastFailureType != "500" || k.Rejected != 1 || facts.Downstreams[0].State != "ready" {
			t.Errorf("%s: %+v", args, k)
		}
		if facts.Summary.Open != 1 || facts.Summary.Health != "unhealthy" || facts.Summary.Total != 1 {
			t.Errorf("%s: %+v", args, facts.Summary)
		}
		if !strings.Contains(st.Text, "circuit 'one': open") || !strings.Contains(st.Text, "500") {
			t.Errorf("%s: the text is %q", args, st.Text)
		}
		if verbose := strings.Contains(args, "verbose"); verbose != (facts.Errors != nil) || verbose && facts.Errors.By["500"] != 3 {
			t.Errorf("%s: errors %+v", args, facts.Errors)
		}
	}
	if st := c.tool(t, "circuit_status", `{"state":"closed"}`); strings.Contains(string(st.structured), `"name":"one"`) {
		t.Errorf("a circuit that is open was shown among the closed: %s", st.structured)
	}
	if _, err := g.Control("one", "close", "test"); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"Circuit breaker 'one' opened after 3 failures", "Circuit breaker 'one' closed", "downstream=one"} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("no log line has %q", line)
		}
	}
}

func TestRefusedLoginsAreTriedOnceAndNotCounted(t *testing.T) {
	s := newShaky(t)
	p := quick()
	p.CircuitBreaker.FailureThreshold = 1
	g, c, _ := guarded(t, s, p, nil)
	for _, status := range []int{401, 403} {
		s.arrived.Store(0)
		s.disturb(mcptest.Status(status, ""))
		if got := c.tool(t, "one__echo", `{}`); !got.IsError || got.Executed != "no" || got.Attempts != 1 {
			t.Errorf("%d: %+v", status, got)
		}
		if n := s.arrived.Load(); n != 1 {
			t.Errorf("%d was tried %d times", status, n)
		}
	}
	if k := circuit(t, g); k.State != "closed" || k.Totals.Failures != 0 || k.Totals.Ignored != 2 {
		t.Errorf("the circuit is %+v", k)
	}
}

func TestRetryAfterIsRespected(t *testing.T) {
	s := newShaky(t)
	p := quick()
	p.Retry.MaxRetryAfter = 2 * time.Second
	g, c, _ := guarded(t, s, p, nil)
	s.disturb(nil, mcptest.Status(429, "", "Retry-After: 1"))
	began := time.Now()
	if got := c.tool(t, "one__write", `{}`); got.IsError || s.Calls("write") != 1 {
		t.Errorf("got %+v", got)
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("it was repeated after %s", took)
	}
	s.disturb(nil, mcptest.Status(429, "", "Retry-After: 60"))
	if got := c.tool(t, "one__write", `{}`); got.Class != "429" || got.Executed != "no" || got.RetryMS != 60_000 || got.Attempts != 1 {
		t.Errorf("a longer pause than anybody waits for: %+v", got)
	}
	if k := circuit(t, g); k.State != "closed" || k.Totals.Failures != 0 {
		t.Errorf("the circuit is %+v", k)
	}
}

func TestFullBulkheadRefuses(t *testing.T) {
	s := newShaky(t)
	p := quick()
	p.Bulkhead = resilience.BulkheadConfig{Enabled: true, MaxConcurrent: 1, MaxQueued: 0}
	g, c, _ := guarded(t, s, p, nil)
	done := make(chan told, 1)
	go func() { done <- c.tool(t, "one__slow", `{}`) }()
	s.AwaitRunning(t, "slow", 1)
	if got := c.tool(t, "one__echo", `{}`); got.Error != "bulkhead_full" || got.Executed != "no" || got.RetryMS == 0 {
		t.Errorf("got %+v", got)
	}
	if b := circuit(t, g).Bulkhead; b.InFlight != 1 || b.RejectedFull != 1 {
		t.Errorf("the bulkhead is %+v", b)
	}
	s.Release()
	if got := <-done; got.IsError {
		t.Errorf("the call that ran: %+v", got)
	}
}

func TestRateLimitRefuses(t *testing.T) {
	s := newShaky(t)
	p := quick()
	p.RateLimit = resilience.RateLimitConfig{Enabled: true, Requests: 1, Per: time.Hour, Burst: 1, MaxWait: time.Millisecond}
	_, c, _ := guarded(t, s, p, nil)
	if got := c.tool(t, "one__echo", `{}`); got.IsError {
		t.Errorf("the first: %+v", got)
	}
	if got := c.tool(t, "one__echo", `{}`); got.Error != "rate_limited" || got.Executed != "no" || got.RetryMS < 1_000_000 {
		t.Errorf("the second: %+v", got)
	}
}

func TestTimeoutEndsAnAttemptAndTellsTheServer(t *testing.T) {
	s := newShaky(t)
	p := quick()
	p.Timeouts.Attempt = 100 * time.Millisecond
	p.Retry.MaxAttempts = 1
	g, c, _ := guarded(t, s, p, nil)
	if got := c.tool(t, "one__slow", `{}`); got.Error != "timeout" || got.Executed != "unknown" || got.Class != "timeout" || got.Attempts != 1 {
		t.Errorf("got %+v", got)
	}
	s.AwaitCancelled(t, "slow", 1)
	if k := circuit(t, g); k.Totals.Failures != 1 || k.Counters.Timeouts != 1 {
		t.Errorf("the circuit is %+v", k)
	}
}

func TestShadowOnlyMeasuresAndOffDoesNothing(t *testing.T) {
	for name, set := range map[string]func(*Policies){
		"shadow":      func(p *Policies) { p.Mode = "shadow" },
		"off":         func(p *Policies) { p.Enabled = false },
		"rolled back": func(p *Policies) { p.Rollout.Percent = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			s := newShaky(t)
			p := quick()
			p.CircuitBreaker.FailureThreshold = 1
			set(&p)
			g, c, _ := guarded(t, s, p, nil)
			s.disturb(mcptest.Status(503, ""))
			for range 4 {
				if got := c.tool(t, "one__echo", `{}`); got.Class != "503" || got.Attempts != 1 {
					t.Errorf("got %+v", got)
				}
			}
			if n := s.arrived.Load(); n != 4 {
				t.Errorf("the server got %d calls, want 4", n)
			}
			k := circuit(t, g)
			if open := k.State == "open"; open == (name == "off") || name != "rolled back" && k.Mode != name {
				t.Errorf("the circuit is %s in mode %s", k.State, k.Mode)
			}
		})
	}
}

func TestReloadKeepsStates(t *testing.T) {
	s := newShaky(t)
	p := quick()
	p.CircuitBreaker.FailureThreshold = 1
	g, c, set := guarded(t, s, p, nil)
	s.disturb(nil, mcptest.Status(500, ""))
	c.tool(t, "one__write", `{}`)
	server := g.targets["one"].server

	p.CircuitBreaker.FailureThreshold, p.Bulkhead.MaxConcurrent = 4, 2
	p.Tools = map[string]resilience.Config{"echo": p.Config}
	set.Policies = map[string]Policies{"one": p}
	change, err := g.Apply(t.Context(), set)
	if err != nil {
		t.Fatal(err)
	}
	if len(change.Kept) != 1 || len(change.Reconfigured) != 1 || len(change.Replaced) != 0 || g.targets["one"].server != server {
		t.Errorf("a policy cost the server its sessions: %+v", change)
	}
	if k := circuit(t, g); k.State != "open" || k.Config.FailureThreshold != 4 || k.Bulkhead.MaxConcurrent != 2 {
		t.Errorf("the circuit is %+v", k)
	}
	cfg := set.Downstreams["one"]
	cfg.Timeouts.List = 7 * time.Second
	set.Downstreams = map[string]downstream.Config{"one": cfg}
	if change, err = g.Apply(t.Context(), set); err != nil || len(change.Replaced) != 1 {
		t.Fatalf("%+v, %v", change, err)
	}
	if k := circuit(t, g); k.State != "open" || k.Totals.Failures != 1 {
		t.Errorf("the same server with other settings lost its circuit: %+v", k)
	}
	bad := set
	wrong := p
	wrong.Retry.MaxAttempts = 0
	bad.Policies = map[string]Policies{"one": wrong}
	if _, err := g.Apply(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "downstreams.one.resilience.retry.max_attempts") {
		t.Errorf("bad policies: %v", err)
	}
}

func TestToolsHaveTheirOwnPolicies(t *testing.T) {
	s := newShaky(t)
	p := quick()
	once, alone := p.Config, p.Config
	once.Retry.MaxAttempts = 1
	alone.CircuitBreaker.Scope, alone.CircuitBreaker.FailureThreshold = "tool", 1
	p.Tools = map[string]resilience.Config{"e*": once, "wri*": alone, "*": p.Config}
	g, c, _ := guarded(t, s, p, nil)
	s.disturb(mcptest.Status(503, ""))
	if got := c.tool(t, "one__echo", `{}`); got.Attempts != 1 {
		t.Errorf("echo: %+v", got)
	}
	if got := c.tool(t, "one__huge", `{"bytes":1}`); got.Attempts != 3 {
		t.Errorf("huge: %+v", got)
	}
	c.tool(t, "one__write", `{}`)
	s.disturb(nil)
	if got := c.tool(t, "one__write", `{}`); got.Error != "circuit_open" || !strings.Contains(got.Text, "'one/write'") {
		t.Errorf("write: %+v", got)
	}
	if got := c.tool(t, "one__echo", `{}`); got.IsError {
		t.Errorf("the circuit of one tool refuses another: %+v", got)
	}
	if st := g.Status(); len(st.Circuits) != 2 || st.Circuits[1].Scope != "tool" || *st.Circuits[1].Key != "write" || st.Summary.Health != "degraded" {
		t.Errorf("got %+v", st)
	}
}

func TestProberClosesTheCircuit(t *testing.T) {
	t.Run("after the interval", func(t *testing.T) {
		s := newShaky(t)
		p := quick()
		p.CircuitBreaker.FailureThreshold = 1
		p.CircuitBreaker.Probe = resilience.ProbeConfig{Enabled: true, Method: "tools/list", Timeout: time.Second, Interval: 30 * time.Millisecond}
		g, c, _ := guarded(t, s, p, nil)
		s.disturb(nil, mcptest.Status(500, ""))
		c.tool(t, "one__write", `{}`)
		await(t, "the circuit is closed", func() bool { return circuit(t, g).State == "closed" })
		if n := s.arrived.Load(); n != 1 {
			t.Errorf("a user's call was the trial: %d calls", n)
		}
	})
	t.Run("when the server is back", func(t *testing.T) {
		s := newShaky(t)
		p := quick()
		p.CircuitBreaker.FailureThreshold = 2
		p.CircuitBreaker.Probe = resilience.ProbeConfig{Enabled: true, Timeout: time.Second, Interval: time.Hour}
		g, c, _ := guarded(t, s, p, nil)
		s.Stop()
		await(t, "the circuit is open", func() bool {
			c.tool(t, "one__write", `{}`)
			return circuit(t, g).State == "open"
		})
		s.Start()
		await(t, "the circuit is closed", func() bool { return circuit(t, g).State == "closed" })
	})
}

func TestClientHearsOfARetry(t *testing.T) {
	s := newShaky(t)
	_, c, _ := guarded(t, s, quick(), nil)
	s.disturb(nil, mcptest.Status(503, ""))
	events := c.call(t, 1, "tools/call", `{"name":"one__progress","arguments":{"n":2},"_meta":{"progressToken":"p"}}`)
	if len(events) != 4 || !strings.Contains(string(events[0]), "mcpgw: attempt 1 of 3 failed (503), trying again in") {
		t.Errorf("got %s", events)
	}
}

func TestToolErrorsPassUnchanged(t *testing.T) {
	s := newShaky(t)
	p := quick()
	p.CircuitBreaker.Scope, p.CircuitBreaker.FailureThreshold = "both", 1
	p.Classification.ToolErrorPatterns = []Pattern{{Match: "timed out", Class: "timeout", Breaker: "failure", Retry: "never"}}
	p.Classification.RPCFailureCodes = []int{-32001}
	g, c, _ := guarded(t, s, p, nil)
	if got := c.tool(t, "one__fail", `{"message":"no such file"}`); !got.IsError || got.Text != "no such file" {
		t.Errorf("got %+v", got)
	}
	if got := g.Status().Summary; got.Open != 0 {
		t.Errorf("a tool's own error opened a circuit: %+v", got)
	}
	if got := c.tool(t, "one__fail", `{"message":"the appliance TIMED OUT"}`); !got.IsError || got.Text != "the appliance TIMED OUT" {
		t.Errorf("got %+v", got)
	}
	st := g.Status()
	if st.Summary.Open != 1 || st.Circuits[0].State != "closed" {
		t.Errorf("only the circuit of the tool should be open: %+v", st.Circuits)
	}
	events := c.call(t, 1, "tools/call", `{"name":"one__rpc_error","arguments":{"code":-32001,"message":"mine","data":{"x":1}}}`)
	if !strings.Contains(string(events[0]), `"code":-32001`) || !strings.Contains(string(events[0]), `"mine"`) {
		t.Errorf("the server's own error was changed: %s", events[0])
	}
	if k := circuit(t, g); k.State != "open" {
		t.Errorf("rpc_failure_codes has no effect: %s", k.State)
	}
}
