package config

import (
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/mcptest"
)

// TestToolErrorPatternPresets: pforge recognises what a server's texts say; off, and nothing, leave them alone. The result passes unchanged.
func TestToolErrorPatternPresets(t *testing.T) {
	for preset, want := range map[string]uint64{"pforge": 3, "off": 0, "[{ match: no such disk }]": 1} {
		a := newMoody(t)
		g := run(t, `
resilience:
  defaults:
    retry: { enabled: false }
    circuit_breaker: { scope: tool, failure_threshold: 100, failure_rate_threshold: 0 }
downstreams:
  a: { url: "${A}", resilience: { classification: { tool_error_patterns: `+preset+` } } }
`, "A", a.URL)
		for _, text := range []string{"Request TIMED OUT", "dial: connection refused", "503 from upstream", "429 slow down", "no such disk"} {
			if r := g.tool(t, "a__fail", `{"message":"`+text+`"}`); !r.Result.IsError || r.text() != text {
				t.Errorf("%s: got %+v", preset, r)
			}
		}
		for _, c := range g.Status().Circuits {
			if c.Key != nil && *c.Key == "fail" && c.Totals.Failures != want {
				t.Errorf("%s: %d failures were counted, want %d", preset, c.Totals.Failures, want)
			}
		}
	}
	_, err := Parse("f", []byte("downstreams: { a: { preset: host, resilience: { classification: { tool_error_patterns: all } } } }\n"), env())
	if err == nil || !strings.Contains(err.Error(), "f:1:") || !strings.Contains(err.Error(), "tool_error_patterns") {
		t.Errorf("an unknown preset: %v", err)
	}
}

// TestSubscribingPassesThePolicies: what clients say beside calls is refused by an isolated circuit too, and does not reach the server.
func TestSubscribingPassesThePolicies(t *testing.T) {
	s := mcptest.NewServer(t, mcptest.Options{Revisions: []string{"2025-11-25"}})
	g := run(t, "gateway: { admin_tools: true }\ndownstreams: { a: { url: \"${A}\" } }\n", "A", s.HTTP(t).URL)
	c := mcptest.Connect(t, &mcp.StreamableClientTransport{Endpoint: g.url, MaxRetries: -1}, "2025-11-25", nil)
	list, err := c.ListResources(t.Context(), nil)
	if err != nil || len(list.Resources) == 0 {
		t.Fatalf("%+v, %v", list, err)
	}
	uri := list.Resources[0].URI
	if _, err := g.Control("a", "isolate", "test"); err != nil {
		t.Fatal(err)
	}
	if err := c.Subscribe(t.Context(), &mcp.SubscribeParams{URI: uri}); err == nil || !strings.Contains(err.Error(), "isolated") {
		t.Errorf("got %v", err)
	}
	if n := s.Received("resources/subscribe"); n != 0 {
		t.Errorf("the server was asked %d times", n)
	}
	if _, err := g.Control("a", "reset", "test"); err != nil {
		t.Fatal(err)
	}
	if err := c.Subscribe(t.Context(), &mcp.SubscribeParams{URI: uri}); err != nil {
		t.Error(err)
	}
	if err := c.SetLoggingLevel(t.Context(), &mcp.SetLoggingLevelParams{Level: "debug"}); err != nil {
		t.Error(err)
	}
	if got := g.Status().Circuits[0].Counters.Calls; got < 3 {
		t.Errorf("%d calls passed the policies", got)
	}
}
