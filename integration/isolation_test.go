package integration

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
	"github.com/mcpgw/mcpgw/internal/mcptest"
)

// TestBadServersBesideGood starts a gateway with servers that refuse, say nothing, talk nonsense, never initialise, or cannot be started.
// From the first moment the good server's tools are listed and called as if the others were not there, and circuit_status knows of each
// of them why it does not work. How fast it is in comparison is measured by integration/bench.
func TestBadServersBesideGood(t *testing.T) {
	t.Parallel()
	good := httptest.NewServer(corpusServer(false))
	t.Cleanup(good.Close)
	testserver := program(t, harness.TestServer)
	gw := startGateway(t, fmt.Sprintf(`
gateway: { listen: LISTEN }
downstreams:
  good: { url: '%s/mcp' }
  refusing: { url: '%s' }
  silent: { url: '%s' }
  garbage: { url: '%s' }
  mute: { command: '%s', args: [-mode, mute] }
  exits: { command: '%[5]s', args: [-mode, exit, -say, 'no licence found'] }
  missing: { command: /no/such/program }
`, good.URL, mcptest.Refusing(t), mcptest.Hanging(t).URL, mcptest.Garbage(t), testserver))
	for _, modern := range []bool{false, true} {
		c := connect(t, gw, "/mcp", modern, "good__echo")
		for range 20 {
			start := time.Now()
			if err := has(t.Context(), c, "good__echo", "circuit_status"); err != nil {
				t.Fatal(err)
			}
			if err := callText(t.Context(), c, "good__echo"); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took > time.Second {
				t.Errorf("listing and calling took %s", took)
			}
		}
		start := time.Now()
		next := &harness.Client{URL: c.URL, Modern: modern}
		if _, err := next.Connect(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("connecting took %s", took)
		}
	}
	c := connect(t, gw, "/mcp", true, "good__echo")
	reasons := map[string]bool{"refusing": true, "garbage": true, "exits": true, "missing": true} // the others are still waited for
	eventually(t, 15*time.Second, "circuit_status says why each server does not work", func() error {
		raw, err := c.Request(t.Context(), "tools/call", "circuit_status", c.Params(`"name":"circuit_status","arguments":{}`, ""))
		if err != nil {
			return err
		}
		var status struct {
			Downstreams []struct {
				Name      string  `json:"name"`
				State     string  `json:"state"`
				LastError *string `json:"last_error"`
			} `json:"downstreams"`
		}
		if err := json.Unmarshal(parse(raw).Structured, &status); err != nil {
			return err
		}
		if len(status.Downstreams) != 7 {
			return fmt.Errorf("%d downstreams, want 7", len(status.Downstreams))
		}
		for _, d := range status.Downstreams {
			if (d.State == "ready") != (d.Name == "good") {
				return fmt.Errorf("%s is %s", d.Name, d.State)
			}
			if reasons[d.Name] && (d.LastError == nil || *d.LastError == "") {
				return fmt.Errorf("%s has no last error", d.Name)
			}
		}
		return nil
	})
}
