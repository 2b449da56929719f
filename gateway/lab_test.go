package gateway

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
	"github.com/mcpgw/mcpgw/resilience"
)

// labGateway is a gateway with a simulated LLM, whose circuit is quick.
func labGateway(t *testing.T) (*Gateway, *httptest.Server) {
	t.Helper()
	g := New(Options{})
	cfg := downstream.DefaultConfig()
	cfg.Preset, cfg.URL = "llm", "lab"
	p := DefaultPolicies()
	ApplyPreset("llm", &p)
	p.CircuitBreaker.FailureThreshold, p.CircuitBreaker.Timeout, p.Retry.MaxAttempts = 2, 100*time.Millisecond, 1
	p.CircuitBreaker.MaxTimeout, p.CircuitBreaker.Probe.Interval = time.Second, 50*time.Millisecond
	if _, err := g.Apply(t.Context(), Settings{Gateway: DefaultConfig(), Downstreams: map[string]downstream.Config{"model": cfg}, Policies: map[string]Policies{"model": p}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close(context.WithoutCancel(t.Context())) })
	if err := g.Settled(t.Context()); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(g.AdminHandler())
	t.Cleanup(srv.Close)
	return g, srv
}

func order(t *testing.T, srv *httptest.Server, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/-/lab", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// listModels asks the simulated system something, past clients and edges.
func listModels(t *testing.T, g *Gateway) error {
	t.Helper()
	g.mu.Lock()
	tg := g.targets["model"]
	g.mu.Unlock()
	params := wire.Index(json.RawMessage(`{"name":"list_models","arguments":{}}`))
	r := &request{principal: anonymous, table: g.tableFor(""), modern: true, method: "tools/call", params: params}
	_, err := g.call(t.Context(), r, &route{target: tg, own: "list_models", safe: readOnly}, &downstream.Call{Method: "tools/call", Target: "list_models", Params: params.Raw, Body: &params, Modern: true})
	return err
}

// TestLabBreaksAndMends breaks a simulated system until its circuit opens, and sees it close by the prober alone.
func TestLabBreaksAndMends(t *testing.T) {
	g, srv := labGateway(t)
	if err := listModels(t, g); err != nil {
		t.Fatal(err)
	}
	if code, body := order(t, srv, `{"name":"model","fault":"refuse"}`); code != 200 || !strings.Contains(body, `"fault":"refuse"`) {
		t.Fatalf("%d %s", code, body)
	}
	state := func() string { return g.Status().Circuits[0].State }
	var last error
	for range 5 {
		if last = listModels(t, g); last == nil {
			t.Fatal("a system that refuses connections answered")
		}
	}
	if got := state(); got == "closed" {
		t.Fatalf("the circuit is %s after five failures, the last %v", got, last)
	}
	if f := explain("model", last); f.Error != "circuit_open" || f.Executed != downstream.ExecutedNo || f.Class != "connect" {
		t.Errorf("told: %+v", f)
	}
	g.mu.Lock()
	tg := g.targets["model"]
	g.mu.Unlock()
	if _, err := tg.server.Call(t.Context(), &downstream.Call{Method: tg.probeMethod("auto")}); err == nil || tg.policy.classify(t.Context(), nil, err).Breaker != resilience.Failure {
		t.Errorf("the prober takes a system that refuses connections for one that works: %v", err)
	}
	if code, body := order(t, srv, `{"name":"llm"}`); code != 200 || strings.Contains(body, `"fault"`) {
		t.Fatalf("%d %s", code, body)
	}
	for end := time.Now().Add(20 * time.Second); state() != "closed"; {
		if time.Now().After(end) {
			t.Fatalf("the circuit is still %s", state())
		}
		<-time.After(10 * time.Millisecond)
	}
	if err := listModels(t, g); err != nil {
		t.Error(err)
	}
}

// TestWrongCredentialsAreTriedOnce shows that they neither open the circuit nor are repeated.
func TestWrongCredentialsAreTriedOnce(t *testing.T) {
	g, srv := labGateway(t)
	order(t, srv, `{"name":"model","fault":"unauthorized"}`)
	for range 4 {
		err := listModels(t, g)
		if f := explain("model", err); f == nil || f.Error != "auth_error" || f.Executed != downstream.ExecutedNo {
			t.Errorf("told: %+v (%v)", f, err)
		}
	}
	if got := g.Status().Circuits[0]; got.State != "closed" || got.Failures != 0 {
		t.Errorf("the circuit is %s with %d failures", got.State, got.Failures)
	}
}

func TestLabRefusesNonsense(t *testing.T) {
	_, srv := labGateway(t)
	for body, want := range map[string]int{`{"name":"nas","fault":"hang"}`: 404, `{"name":"model","fault":"fire"}`: 400, `{"name":"model","fault":"595"}`: 400, `{"who":"model"}`: 400, `x`: 400} {
		if code, text := order(t, srv, body); code != want || text == "" {
			t.Errorf("%s: %d %s", body, code, text)
		}
	}
}
