package config

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/mcpgw/mcpgw/gateway"
	"github.com/mcpgw/mcpgw/internal/mcptest"
)

// turned runs a gateway in front of one server with these policies and without a prober.
func turned(t *testing.T, policies string) (*running, *moody) {
	t.Helper()
	a := newMoody(t)
	return run(t, `
resilience: { defaults: { classification: { trust_annotations: true }, circuit_breaker: { probe: { enabled: false } } } }
downstreams: { a: { url: "${A}", resilience: `+policies+` } }
`, "A", a.URL), a
}

func state(g *running) gateway.CircuitStatus { return g.Status().Circuits[0] }

// TestRatesAreTurned: the circuit opens by the share of failed and of slow calls, from the number of calls on that is configured.
func TestRatesAreTurned(t *testing.T) {
	g, a := turned(t, `{ retry: { enabled: false }, circuit_breaker: { failure_threshold: 0, failure_rate_threshold: 0.5, minimum_calls: 4 } }`)
	bad := mcptest.Status(http.StatusInternalServerError, "")
	for i, h := range []http.HandlerFunc{nil, bad, nil, bad} {
		if got := state(g).State; got != "closed" {
			t.Fatalf("%s before call %d", got, i+1)
		}
		a.disturb(h)
		g.tool(t, "a__echo", `{}`)
	}
	if got := state(g); got.State != "open" || got.FailureRate != 0.5 {
		t.Errorf("%s at a rate of %g", got.State, got.FailureRate)
	}

	g, _ = turned(t, `{ circuit_breaker: { slow_call_duration: 1ns, slow_call_rate_threshold: 0.9, minimum_calls: 3 } }`)
	for range 3 {
		if got := state(g).State; got != "closed" {
			t.Fatalf("%s too early", got)
		}
		g.tool(t, "a__echo", `{}`)
	}
	if got := state(g); got.State != "open" || got.SlowCallRate != 1 {
		t.Errorf("%s with %g of the calls slow", got.State, got.SlowCallRate)
	}
}

// TestTrialsAreTurned: a circuit closes after as many successes as configured.
func TestTrialsAreTurned(t *testing.T) {
	g, _ := turned(t, `{ circuit_breaker: { success_threshold: 3, half_open_max_calls: 1 } }`)
	for _, action := range []string{"open", "probe"} {
		if _, err := g.Control("a", action, "test"); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		if got := state(g); got.State != "half_open" || got.HalfOpen.MaxCalls != 1 || got.HalfOpen.Successes != i {
			t.Fatalf("after %d successes: %+v", i, got)
		}
		g.tool(t, "a__echo", `{}`)
	}
	if got := state(g).State; got != "closed" {
		t.Errorf("%s after 3 successes", got)
	}
}

// TestExcludedErrorsAreTurned: what is excluded does not open the circuit, and too many requests do if they are to count.
func TestExcludedErrorsAreTurned(t *testing.T) {
	for policies, want := range map[string]string{
		`{ retry: { enabled: false }, circuit_breaker: { failure_threshold: 2 } }`:                                       "open",
		`{ retry: { enabled: false }, circuit_breaker: { failure_threshold: 2, excluded_errors: ["500"] } }`:             "closed",
		`{ retry: { enabled: false }, circuit_breaker: { failure_threshold: 2, count_rate_limited_as_failure: true } } `: "open",
	} {
		g, a := turned(t, policies)
		a.disturb(mcptest.Status(map[bool]int{true: 429, false: 500}[strings.Contains(policies, "rate_limited")], ""))
		for range 3 {
			g.tool(t, "a__echo", `{}`)
		}
		if got := state(g).State; got != want {
			t.Errorf("%s: %s", policies, got)
		}
	}
}

// TestOverallTimeoutIsTurned: the whole call ends, although its attempt might go on.
func TestOverallTimeoutIsTurned(t *testing.T) {
	g, a := turned(t, `{ timeouts: { attempt: 80ms, overall: 120ms }, retry: { initial_delay: 1ms, max_delay: 1ms } }`)
	defer a.Release()
	if r := g.tool(t, "a__slow", `{}`); !r.Result.IsError || !strings.Contains(r.text(), "(overall timeout)") {
		t.Errorf("got %+v", r)
	}
}

// TestRetryBudgetIsTurned: once it is spent, failed calls are not repeated.
func TestRetryBudgetIsTurned(t *testing.T) {
	g, a := turned(t, `{ circuit_breaker: { enabled: false }, retry: { initial_delay: 1ms, max_delay: 1ms, multiplier: 1, jitter: false, budget: { ratio: 0.001, min_per_second: 0, burst: 3 } } }`)
	a.disturb(mcptest.Status(http.StatusInternalServerError, ""))
	for range 10 {
		g.tool(t, "a__echo", `{}`)
	}
	if got := a.calls.Load(); got != 13 {
		t.Errorf("10 calls with a budget of 3 were %d attempts", got)
	}
}

// TestHedgeIsTurned: a late answer is asked for a second time.
func TestHedgeIsTurned(t *testing.T) {
	g, a := turned(t, `{ hedge: { enabled: true, delay: 1ms, max: 1 } }`)
	var wg sync.WaitGroup
	wg.Go(func() { g.tool(t, "a__slow", `{}`) })
	a.AwaitRunning(t, "slow", 2)
	a.Release()
	wg.Wait()
	if got := state(g).Counters.Hedges; got != 1 {
		t.Errorf("%d hedges", got)
	}
}
