package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/internal/mcptest"
)

// command runs a command and returns its exit code and output.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func TestStatusAndCircuit(t *testing.T) {
	path := write(t, "gateway: {listen: \"127.0.0.1:0\", tokens: [0123456789abcdef], admin_tools: true}\n"+hostOnly)
	r := start(t, nil, "serve", "--config", path)
	url := strings.TrimSuffix(r.base(t), "/mcp")
	r.log.await(t, "server ready", 1)

	code, out, errs := command(t, "status", "--config", path, "--url", url)
	if code != exitOK || !strings.Contains(out, "1 of 1 servers ready (healthy)") || !strings.Contains(out, "circuit 'host': closed") {
		t.Errorf("status: %d\n%s%s", code, out, errs)
	}
	code, out, errs = command(t, "circuit", "isolate", "host", "--config", path, "--url", url)
	if code != exitOK || out != "circuit 'host' of host is isolated\n" {
		t.Errorf("circuit: %d\n%s%s", code, out, errs)
	}
	code, out, errs = command(t, "status", "--config", path, "--url", url, "--output", "json")
	if code != exitNotReady || !strings.Contains(out, `"state": "isolated"`) || !strings.Contains(out, `"health": "unhealthy"`) {
		t.Errorf("status of an isolated server: %d\n%s%s", code, out, errs)
	}
	code, out, errs = command(t, "circuit", "reset", "nobody", "--config", path, "--url", url)
	if code != exitFailed || !strings.Contains(errs, `circuit "nobody": no such circuit`) {
		t.Errorf("circuit of nobody: %d\n%s%s", code, out, errs)
	}
	other := write(t, "gateway: {listen: \"127.0.0.1:0\"}\n"+hostOnly)
	code, out, errs = command(t, "status", "--config", other, "--url", url)
	if code != exitFailed || !strings.Contains(errs, "a bearer token is required") {
		t.Errorf("status without a token: %d\n%s%s", code, out, errs)
	}
	code, out, errs = command(t, "status", "--url", strings.TrimSuffix(mcptest.Refusing(t), "/mcp"), "--config", path)
	if code != exitUnreachable || !strings.Contains(errs, "no gateway answers at") || !strings.Contains(errs, "refused") {
		t.Errorf("status of nothing: %d\n%s%s", code, out, errs)
	}
}

func TestWarningsAreShown(t *testing.T) {
	path := write(t, "resilience: {defaults: {circuit_breaker: {failure_threshold: 50}}}\n"+hostOnly)
	want := ":1:43: resilience.defaults.circuit_breaker.failure_threshold: 50 is outside the usual 3 to 10"
	code, out, errs := command(t, "check", "--connect=false", "--config", path)
	if code != exitOK || !strings.Contains(out, "warning: "+path+want) {
		t.Errorf("check: %d\n%s%s", code, out, errs)
	}
	t.Setenv("FF_ENABLE_RESILIENCE_PATTERNS", "false")
	code, out, errs = command(t, "check", "--connect=false", "--config", path)
	if code != exitOK || !strings.Contains(out, "FF_ENABLE_RESILIENCE_PATTERNS switches all policies off") {
		t.Errorf("check with the kill switch: %d\n%s%s", code, out, errs)
	}
}
