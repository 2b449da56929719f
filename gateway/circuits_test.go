package gateway

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/mcpgw/mcpgw/internal/mcptest"
	"github.com/mcpgw/mcpgw/internal/wire"
	"github.com/mcpgw/mcpgw/resilience"
)

// TestOwnToolsReturnWhatTheyPromise compares what the gateway's own tools return with their output schemas, closed so that a member which
// the schema does not name is a fault too.
func TestOwnToolsReturnWhatTheyPromise(t *testing.T) {
	s := newShaky(t)
	p := quick()
	p.CircuitBreaker.Scope, p.CircuitBreaker.FailureThreshold = "both", 1
	g, c, set := guarded(t, s, p, nil)
	set.Gateway.AdminTools = true
	if _, err := g.Apply(t.Context(), set); err != nil {
		t.Fatal(err)
	}
	s.disturb(mcptest.Status(500, ""))
	c.tool(t, "one__echo", `{}`)
	for _, tool := range ownTools(&set.Gateway) {
		args := map[string]string{circuitControl: `{"name":"one","action":"probe"}`}[tool.name]
		if args == "" {
			args = `{"verbose":true}`
		}
		got := c.tool(t, tool.name, args)
		schema, err := jsonschema.UnmarshalJSON(strings.NewReader(string(wire.Get(tool.raw, "outputSchema"))))
		if err != nil {
			t.Fatal(err)
		}
		compiler := jsonschema.NewCompiler()
		if err := compiler.AddResource("s.json", schema); err != nil {
			t.Fatal(err)
		}
		compiled, err := compiler.Compile("s.json")
		if err != nil {
			t.Fatal(err)
		}
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(string(got.structured)))
		if err != nil {
			t.Fatalf("%s: %v", got.structured, err)
		}
		if err := compiled.Validate(value); err != nil {
			t.Errorf("%s: %v", tool.name, err)
		}
		if missing := undescribed(schema, value, ""); len(missing) > 0 {
			t.Errorf("%s: the schema promises what the result does not have: %v", tool.name, missing)
		}
	}
	if got := c.tool(t, "circuit_metrics", `{}`); !strings.Contains(got.Text, "3 failed attempts, 500: 1") && !strings.Contains(got.Text, "500: ") {
		t.Errorf("the metrics are %q", got.Text)
	}
}

func TestCircuitsAreChangedByHandOnlyWhereThatIsAllowed(t *testing.T) {
	s := newShaky(t)
	g, c, set := guarded(t, s, quick(), nil)
	admin := strings.TrimSuffix(c.url, "/mcp") + "/-/circuit"
	post := func(body string, want int) string {
		t.Helper()
		res, err := http.Post(admin, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var b strings.Builder
		if err := res.Write(&b); err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != want {
			t.Errorf("%s: got %d, want %d: %s", body, res.StatusCode, want, b.String())
		}
		return b.String()
	}
	post(`{"name":"one","action":"open"}`, http.StatusForbidden)
	events := c.call(t, 1, "tools/call", `{"name":"circuit_control","arguments":{"name":"one","action":"open"}}`)
	if !strings.Contains(string(events[0]), "unknown tool") {
		t.Errorf("got %s", events[0])
	}
	set.Gateway.AdminTools = true
	if _, err := g.Apply(t.Context(), set); err != nil {
		t.Fatal(err)
	}
	if got := c.tool(t, "circuit_control", `{"name":"one","action":"isolate"}`); got.IsError || !strings.Contains(got.Text, "isolated") || !strings.Contains(string(got.structured), `"state":"isolated"`) {
		t.Errorf("got %+v", got)
	}
	if got := c.tool(t, "one__echo", `{}`); got.Error != "isolated" || got.Executed != "no" {
		t.Errorf("got %+v", got)
	}
	if got := post(`{"name":"one","action":"reset"}`, http.StatusOK); !strings.Contains(got, `"state":"closed"`) {
		t.Errorf("got %s", got)
	}
	post(`{"name":"two","action":"reset"}`, http.StatusNotFound)
	post(`{"name":"one","action":"explode"}`, http.StatusBadRequest)
	post(`{"name":"one","action":"reset","more":1}`, http.StatusBadRequest)
	post(`reset`, http.StatusBadRequest)
	if got := c.tool(t, "circuit_control", `{"name":"one","action":"explode"}`); !got.IsError {
		t.Errorf("got %+v", got)
	}
	if got := c.tool(t, "one__echo", `{}`); got.IsError {
		t.Errorf("got %+v", got)
	}
	if _, err := g.Control("nobody", "open", ""); !errors.Is(err, ErrNoCircuit) {
		t.Errorf("got %v", err)
	}
}

// TestPolicyErrorsKeepTheServersOwn: whatever a policy adds, the answer of the server itself passes.
func TestPolicyErrorsKeepTheServersOwn(t *testing.T) {
	own := &wire.Error{Code: -32603, Message: "mine", Data: json.RawMessage(`{"x":1}`)}
	if explain("nas", &resilience.Error{Reason: resilience.RetriesExhausted, Err: own}) != nil {
		t.Error("the server's own error was taken for a failure of the gateway")
	}
	for reason, want := range map[resilience.Reason]int64{
		resilience.CircuitOpen: wire.CodeUnavailable, resilience.HalfOpenLimit: wire.CodeUnavailable, resilience.Isolated: wire.CodeUnavailable,
		resilience.BulkheadFull: wire.CodeOverloaded, resilience.QueueTimeout: wire.CodeOverloaded, resilience.RateLimited: wire.CodeOverloaded,
		resilience.AttemptTimeout: wire.CodeTimeout, resilience.OverallTimeout: wire.CodeTimeout, resilience.Panicked: wire.CodeInternal,
		resilience.RetryBudget: wire.CodeUnavailable,
	} {
		e := wireError("nas", &resilience.Error{Reason: reason, Executed: resilience.ExecutedNo, Class: "x"})
		if e.Code != want || string(wire.Get(e.Data, "executed")) != `"no"` {
			t.Errorf("%s: %s", reason, e.Bytes())
		}
	}
}

// undescribed lists the properties of a schema that a value does not have.
func undescribed(schema, value any, path string) (missing []string) {
	s, _ := schema.(map[string]any)
	switch v := value.(type) {
	case []any:
		if len(v) == 0 {
			return []string{path + " is empty"}
		}
		return undescribed(s["items"], v[0], path+"[0]")
	case map[string]any:
		properties, _ := s["properties"].(map[string]any)
		for name, of := range properties {
			inner, ok := v[name]
			if !ok {
				missing = append(missing, path+"."+name)
				continue
			}
			missing = append(missing, undescribed(of, inner, path+"."+name)...)
		}
	}
	return missing
}
