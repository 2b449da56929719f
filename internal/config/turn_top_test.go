package config

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/gateway"
	"github.com/mcpgw/mcpgw/internal/mcptest"
)

// topped runs a gateway in front of one server that fails, with these members of the section resilience.
func topped(t *testing.T, top string, env ...string) (*running, *moody) {
	t.Helper()
	a := newMoody(t)
	a.disturb(mcptest.Status(http.StatusInternalServerError, ""))
	return run(t, `
resilience:
  `+top+`
  defaults: { classification: { trust_annotations: true }, retry: { initial_delay: 1ms, max_delay: 1ms }, circuit_breaker: { failure_threshold: 2, probe: { enabled: false } } }
downstreams: { a: { url: "${A}" } }
`, append(env, "A", a.URL)...), a
}

// TestTopLevelSwitchesAreTurned: the circuit opens and calls are refused only where the policies are in force for the session.
func TestTopLevelSwitchesAreTurned(t *testing.T) {
	for top, refuses := range map[string]bool{
		"enabled: true":             true,
		"enabled: false":            false,
		"mode: enforce":             true,
		"mode: shadow":              false,
		"rollout: { percent: 0 }":   false,
		"rollout: { percent: 100 }": true,
	} {
		g, a := topped(t, top)
		for range 6 {
			g.tool(t, "a__echo", `{}`)
		}
		if refused := a.calls.Load() < 6; refused != refuses {
			t.Errorf("%s: %d of 6 calls arrived", top, a.calls.Load())
		}
		if shadow := strings.Contains(top, "shadow"); shadow && state(g).Totals.Failures == 0 {
			t.Error("shadow mode did not measure")
		}
	}
	g, a := topped(t, "enabled: true", killSwitch, "false")
	for range 6 {
		g.tool(t, "a__echo", `{}`)
	}
	if a.calls.Load() != 6 {
		t.Errorf("%s=false: %d of 6 calls arrived", killSwitch, a.calls.Load())
	}
}

// TestAdmissionIsTurned: no more calls are under way than admission allows, those in the queue besides.
func TestAdmissionIsTurned(t *testing.T) {
	for admission, refuses := range map[string]bool{
		"{ max_in_flight: 1, max_queued: 0 }":                      true,
		"{ max_in_flight: 1, max_queued: 1, queue_timeout: 10ms }": true,
		"{ max_in_flight: 2, max_queued: 0 }":                      false,
		"{ max_in_flight: 1, max_queued: 1, queue_timeout: 60s }":  false,
	} {
		g, a := topped(t, "admission: "+admission)
		a.disturb(nil)
		done := make(chan struct{}, 2)
		call := func(tool string) { g.tool(t, tool, `{}`); done <- struct{}{} }
		go call("a__slow")
		a.AwaitRunning(t, "slow", 1)
		if refuses {
			if r := g.tool(t, "a__echo", `{}`); !strings.Contains(string(r.Result.StructuredContent), `"overloaded"`) {
				t.Errorf("%s: %+v", admission, r)
			}
			a.Release()
			<-done
			continue
		}
		go func() {
			if r := g.tool(t, "a__echo", `{}`); r.Result.IsError {
				t.Errorf("%s: %+v", admission, r)
			}
			done <- struct{}{}
		}()
		if strings.Contains(admission, "max_in_flight: 2") {
			<-done // beside the slow one
		}
		a.Release()
		<-done
		if !strings.Contains(admission, "max_in_flight: 2") {
			<-done
		}
	}
}

// TestErrorTrackingIsTurned: as many failures are remembered as configured, counted by class or by tool.
func TestErrorTrackingIsTurned(t *testing.T) {
	for tracking, want := range map[string]struct {
		kept int
		by   string
	}{
		"{ max_errors: 2 }":                     {2, "500"},
		"{ max_errors: 50, classify_by: type }": {6, "500"},
		"{ max_errors: 50, classify_by: tool }": {6, "echo"},
		"{ enabled: false }":                    {0, ""},
	} {
		g, _ := topped(t, "error_tracking: "+tracking)
		if _, err := g.Control("a", "disable", "test"); err != nil { // all calls arrive
			t.Fatal(err)
		}
		for range 2 {
			g.tool(t, "a__echo", `{}`)
		}
		var metrics struct{ Errors gateway.ErrorStatus }
		if err := json.Unmarshal(g.tool(t, "circuit_metrics", `{}`).Result.StructuredContent, &metrics); err != nil {
			t.Fatal(err)
		}
		e := metrics.Errors
		if kept := len(e.ByName["a"].Recent); kept != want.kept || want.by != "" && e.By[want.by] != 6 {
			t.Errorf("%s: %d kept, %v", tracking, kept, e.By)
		}
	}
}
