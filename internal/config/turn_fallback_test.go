package config

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/internal/mcptest"
)

// stand is the note on an answer that is not its server's.
type stand struct {
	Fallback, Downstream, Server, Tool, Error, Class, Executed string
	Stale                                                      bool
	AgeMS                                                      *int64 `json:"age_ms"`
}

func noteOf(t *testing.T, r *reply) *stand {
	t.Helper()
	raw := r.Result.Meta["dev.mcpgw/fallback"]
	if raw == nil {
		return nil
	}
	var n stand
	if err := json.Unmarshal(raw, &n); err != nil {
		t.Fatal(err)
	}
	return &n
}

const steady = `
resilience:
  defaults:
    retry: { enabled: false }
    circuit_breaker: { enabled: false }
    classification: { trust_annotations: true }
`

// TestFallbackToAnotherServer: the other server answers, under the name that the map gives, and the client reads that it did and why.
func TestFallbackToAnotherServer(t *testing.T) {
	a, b := newMoody(t), newMoody(t)
	g := run(t, steady+`
downstreams:
  a:
    url: ${A}
    resilience:
      fallback:
        - { downstream: b, tool_map: { echo: progress, write: write, slow: absent }, timeout: 5s }
  b: { url: "${B}" }
`, "A", a.URL, "B", b.URL)
	if r := g.tool(t, "a__echo", `{"x":1}`); noteOf(t, &r) != nil || r.text() != `{"x":1}` {
		t.Fatalf("a healthy server's answer: %+v", r)
	}
	a.disturb(mcptest.Status(http.StatusInternalServerError, "broken"))
	r := g.tool(t, "a__echo", `{"n":3}`)
	n := noteOf(t, &r)
	if n == nil || r.Result.IsError || n.Fallback != "downstream" || n.Downstream != "a" || n.Server != "b" || n.Tool != "progress" || n.Class != "500" || n.Executed != "unknown" {
		t.Fatalf("got %+v %+v, note %+v", r.Error, r, n)
	}
	if !strings.Contains(r.text(), `answer of tool "progress" of server "b", because server "a" did not answer (http_status)`) {
		t.Errorf("text %q", r.text())
	}
	if !strings.Contains(string(r.Result.StructuredContent), `"mcpgw_fallback":{"fallback":"downstream"`) || !strings.Contains(string(r.Result.StructuredContent), `"sent":0`) {
		t.Errorf("structured content %s", r.Result.StructuredContent)
	}
	// What may have been executed is not executed elsewhere too.
	was := b.calls.Load()
	if r := g.tool(t, "a__write", `{}`); !r.Result.IsError || noteOf(t, &r) != nil || b.calls.Load() != was || !strings.Contains(r.text(), "executed=unknown") {
		t.Errorf("an unsafe call after 500: %+v", r)
	}
	// What surely was not, is.
	a.disturb(mcptest.Status(http.StatusTooManyRequests, ""))
	if r := g.tool(t, "a__write", `{}`); r.Result.IsError || noteOf(t, &r) == nil || noteOf(t, &r).Executed != "no" || b.Calls("write") != 1 {
		t.Errorf("an unsafe call after 429: %+v", r)
	}
	// A tool that the other server lacks: the client is told of both.
	if r := g.tool(t, "a__slow", `{}`); !r.Result.IsError || !strings.Contains(r.text(), `has no tool "absent"`) || !strings.Contains(r.text(), "HTTP 429") {
		t.Errorf("no stand-in: %+v", r)
	}
	// A tool that is not in the map has none.
	if r := g.tool(t, "a__session", `{}`); !r.Result.IsError || strings.Contains(r.text(), "fallback") {
		t.Errorf("a tool that is not in the map: %+v", r)
	}
	c := g.Status().Circuits[0].Counters
	if c.Fallbacks != 3 || c.Rescued != 2 {
		t.Errorf("counted %d tried, %d answered", c.Fallbacks, c.Rescued)
	}
	if text := g.Status(); !strings.Contains(text.Text(), "3 fallbacks tried, which answered 2 calls") {
		t.Errorf("status says %s", text.Text())
	}
}

// TestFallbackToTheLastGoodResult: the same call, however its arguments are written, is answered from memory and marked as stale.
func TestFallbackToTheLastGoodResult(t *testing.T) {
	a := newMoody(t)
	g := run(t, steady+`
downstreams:
  a:
    url: ${A}
    resilience:
      fallback: [{ cache: { max_age: 1h } }]
`, "A", a.URL)
	if r := g.tool(t, "a__echo", `{"x":1,"y":[1.0]}`); r.text() != `{"x":1,"y":[1.0]}` {
		t.Fatalf("got %+v", r)
	}
	g.tool(t, "a__write", `{}`)
	a.disturb(mcptest.Status(http.StatusServiceUnavailable, ""))
	r := g.tool(t, "a__echo", `{ "y":[1.0], "x":1 }`)
	n := noteOf(t, &r)
	if n == nil || !n.Stale || n.AgeMS == nil || n.Fallback != "cache" || n.Class != "503" || r.Result.IsError {
		t.Fatalf("got %+v %+v, note %+v", r.Error, r, n)
	}
	if !strings.HasPrefix(r.text(), `{"x":1,"y":[1.0]}[Stale: this is the last good answer, `) || !strings.Contains(string(r.Result.StructuredContent), `"stale":true`) {
		t.Errorf("text %q, structured %s", r.text(), r.Result.StructuredContent)
	}
	if r := g.tool(t, "a__echo", `{"x":2}`); !r.Result.IsError || !strings.Contains(r.text(), "no recent result of the same call") {
		t.Errorf("other arguments: %+v", r)
	}
	if r := g.tool(t, "a__write", `{}`); !r.Result.IsError || noteOf(t, &r) != nil {
		t.Errorf("a call that may change something was answered from memory: %+v", r)
	}
}

// TestFallbackChain: the first that can answers, in the order of the file; a fixed answer to a call that may change something is an error.
func TestFallbackChain(t *testing.T) {
	a := newMoody(t)
	g := run(t, steady+`
downstreams:
  a:
    url: ${A}
    resilience:
      fallback:
        - { cache: {}, tools: [echo] }
        - { downstream: gone, timeout: 1s }
        - { static: { text: come back later, structured: '{"ok":false}' } }
  gone: { url: "${GONE}" }
`, "A", a.URL, "GONE", mcptest.Refusing(t))
	a.disturb(mcptest.Status(http.StatusTooManyRequests, ""))
	r := g.tool(t, "a__echo", `{}`)
	n := noteOf(t, &r)
	if n == nil || n.Fallback != "static" || r.Result.IsError || !strings.HasPrefix(r.text(), "come back later[This is a fixed answer of the gateway, because") {
		t.Fatalf("got %+v %+v, note %+v", r.Error, r, n)
	}
	if !strings.Contains(string(r.Result.StructuredContent), `"ok":false,"mcpgw_fallback"`) {
		t.Errorf("structured %s", r.Result.StructuredContent)
	}
	if r := g.tool(t, "a__write", `{}`); !r.Result.IsError || noteOf(t, &r) == nil || !strings.Contains(r.text(), "The call was not executed.") {
		t.Errorf("a write: %+v", r)
	}
	a.disturb(nil)
	g.tool(t, "a__echo", `{}`)
	a.disturb(mcptest.Status(http.StatusTooManyRequests, ""))
	if r := g.tool(t, "a__echo", `{}`); noteOf(t, &r) == nil || noteOf(t, &r).Fallback != "cache" {
		t.Errorf("the cache comes first: %+v", r)
	}
}

// TestFallbackFaults: what cannot work is refused, at the key and line where it stands.
func TestFallbackFaults(t *testing.T) {
	for text, want := range map[string]string{
		"a: { preset: host, resilience: { fallback: [{ downstream: b }] } }":                                                                       `downstreams.a.resilience.fallback[0].downstream: there is no downstream "b" (known: a)`,
		"a: { preset: host, resilience: { fallback: [{ downstream: a }] } }":                                                                       `leads back to a: a > a`,
		"a: { preset: host, resilience: { fallback: [{ downstream: b }] } }\n  b: { preset: host, resilience: { fallback: [{ downstream: a }] } }": `leads back to a: a > b > a`,
		"a: { preset: host, resilience: { fallback: [{ timeout: 3s }] } }":                                                                         `fallback[0]: expected one of downstream, cache or static, found 0 of them`,
		"a: { preset: host, resilience: { fallback: [{ cache: { max_age: 0s } }] } }":                                                              `fallback[0].cache.max_age: must be more than 0`,
		"a: { preset: host, resilience: { fallback: [{ cache: {}, timeout: 0s }] } }":                                                              `fallback[0].timeout: must be more than 0, found "0s"`,
		"a: { preset: host, resilience: { fallback: [{ cache: {} }, { cache: {} }] } }":                                                            `fallback[1].cache: a server has one cache`,
		"a: { preset: host, resilience: { fallback: [{ static: {} }] } }":                                                                          `fallback[0].static: expected a text or structured content`,
		"a: { preset: host, resilience: { fallback: [{ static: { structured: '[1]' } }] } }":                                                       `fallback[0].static.structured: expected a JSON object`,
		"a: { preset: host, resilience: { fallback: [{ cache: {}, tool_map: { x: y } }] } }":                                                       `fallback[0].tool_map: only a fallback to another downstream has it`,
	} {
		_, err := Parse("f", []byte("downstreams:\n  "+text+"\n"), env())
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "f:2:") {
			t.Errorf("%s\n\tgot  %v\n\twant %s", text, err, want)
		}
	}
}
