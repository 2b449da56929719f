package prometheus

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	jsonschema "github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

// fake answers as Prometheus does. Series is how many a query finds.
type fake struct{ series int }

func (f fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if user, pass, _ := r.BasicAuth(); r.Header.Get("Authorization") != "Bearer planted-token-1" && (user != "admin" || pass != "planted-pass-1") {
		http.Error(w, "Unauthorized "+r.Header.Get("Authorization"), http.StatusUnauthorized)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	ok := func(data string) { _, _ = fmt.Fprintf(w, `{"status":"success","data":%s}`, data) }
	q := r.FormValue("query")
	switch r.URL.Path {
	case "/api/v1/query", "/api/v1/query_range":
		switch q {
		case "1":
			ok(`{"resultType":"scalar","result":[1,"1"]}`)
			return
		case "sum(":
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"status":"error","errorType":"bad_data","error":"1:5: parse error: unclosed left parenthesis"}`))
			return
		case "slow":
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(`{"status":"error","errorType":"timeout","error":"query timed out in expression evaluation"}`))
			return
		case "page":
			_, _ = w.Write([]byte(`{"hello":1}`))
			return
		}
		list, kind := []any{}, "vector"
		for i := range f.series {
			s := map[string]any{"metric": map[string]string{"__name__": "up", "instance": fmt.Sprintf("node-%04d:9100", i), "job": "node"}}
			if r.URL.Path == "/api/v1/query" {
				s["value"] = []any{1767225600.123, "1"}
			} else {
				kind = "matrix"
				values := []any{}
				for j := range 200 {
					v := any(fmt.Sprint(i + j))
					if j == 1 {
						v = "NaN"
					}
					values = append(values, []any{1767225600 + 60*j, v})
				}
				s["values"] = values
			}
			list = append(list, s)
		}
		raw, _ := json.Marshal(map[string]any{"resultType": kind, "result": list})
		ok(string(raw))
	case "/api/v1/alerts":
		ok(`{"alerts":[{"labels":{"alertname":"DiskFull","severity":"critical","instance":"nas"},"annotations":{"summary":"nas is full"},"state":"firing","activeAt":"2026-01-01T00:00:00Z","value":"9.8e+01"},
			{"labels":{"alertname":"Slow"},"annotations":{},"state":"pending","activeAt":"2026-01-01T00:00:00Z","value":"1"}]}`)
	case "/api/v1/targets":
		ok(`{"activeTargets":[{"labels":{"job":"a","instance":"up:1"},"scrapePool":"a","scrapeUrl":"http://up:1/metrics","health":"up","lastError":"","lastScrape":"2026-01-01T00:00:00Z"},
			{"labels":{"job":"b","instance":"down:1"},"scrapePool":"b","scrapeUrl":"http://u:hunter2hunter2@down:1/metrics?token=hunter2hunter2","health":"down","lastError":"connection refused","lastScrape":"2026-01-01T00:00:00Z"}]}`)
	case "/api/v1/metadata":
		ok(`{"up":[{"type":"gauge","help":"Whether it is up","unit":""}],"http_seconds":[{"type":"histogram","help":"Latency","unit":""}]}`)
	case "/api/v1/label/__name__/values":
		ok(`["up","http_seconds_bucket","job:rate"]`)
	case "/api/v1/label/instance/values":
		ok(`["a","` + r.FormValue("match[]") + `"]`)
	default:
		http.NotFound(w, r)
	}
}

func start(t *testing.T, cfg kit.Config, h http.Handler) *mcp.ClientSession {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	cfg.URL = s.URL
	k, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ct, st := mcp.NewInMemoryTransports()
	if _, err := k.MCP().Connect(t.Context(), st, nil); err != nil {
		t.Fatal(err)
	}
	c, err := mcp.NewClient(&mcp.Implementation{Name: "test"}, nil).Connect(t.Context(), ct, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// call returns the text of a result that is valid and small enough, or of an error.
func call(t *testing.T, c *mcp.ClientSession, tool string, args map[string]any) (text string, isError bool) {
	t.Helper()
	res, err := c.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: args})
	if rpc, ok := errors.AsType[*jsonrpc.Error](err); ok {
		return rpc.Message, true
	}
	if err != nil {
		t.Fatal(err)
	}
	text = res.Content[0].(*mcp.TextContent).Text
	if res.IsError {
		return text, true
	}
	raw, _ := json.Marshal(res.StructuredContent)
	if n := len(raw) + len(text); n > 48<<10 {
		t.Errorf("%s: %d bytes", tool, n)
	}
	for found, err := range c.Tools(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		if found.Name != tool {
			continue
		}
		declared, _ := json.Marshal(found.OutputSchema)
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(declared)))
		if err != nil {
			t.Fatal(err)
		}
		schema := jsonschema.NewCompiler()
		if err := schema.AddResource("s.json", doc); err != nil {
			t.Fatal(err)
		}
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(string(raw)))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.MustCompile("s.json").Validate(v); err != nil {
			t.Errorf("%s: %v", tool, err)
		}
	}
	return text, false
}

func TestTools(t *testing.T) {
	c := start(t, kit.Config{Token: "planted-token-1"}, fake{3})
	for _, tc := range []struct {
		tool  string
		args  map[string]any
		error bool
		want  []string
	}{
		{"query", map[string]any{"query": "up"}, false, []string{`up{instance="node-0002:9100", job="node"}`, "1"}},
		{"query", map[string]any{"query": "1", "time": "2h"}, false, []string{"scalar"}},
		{"query", map[string]any{"query": "up", "time": "yesterday"}, true, []string{"expected a time such as"}},
		{"query", map[string]any{"query": "sum("}, true, []string{"Prometheus refuses: 1:5: parse error: unclosed left parenthesis"}},
		{"query", map[string]any{"query": "slow"}, true, []string{"Ask for a shorter time"}},
		{"query", map[string]any{"query": "page"}, true, []string{"is no Prometheus"}},
		{"query_range", map[string]any{"query": "up", "start": "3h"}, false, []string{"[3] up{", "01-01 00:01  -", "01-01 00:02  2  3  4"}},
		{"query_range", map[string]any{"query": "up", "start": "1h", "end": "2h"}, true, []string{"start: must be before end"}},
		{"query_range", map[string]any{"query": "up", "points": 5000}, true, []string{"wrong arguments"}},
		{"alerts", nil, false, []string{"DiskFull", "nas is full", "critical", "pending"}},
		{"alerts", map[string]any{"state": "pending"}, false, []string{"Slow"}},
		{"targets", nil, false, []string{"connection refused", "http://down:1/metrics", "up:1"}},
		{"metrics", map[string]any{"search": "http"}, false, []string{"http_seconds_bucket", "histogram", "Latency"}},
		{"label_values", map[string]any{"label": "instance", "match": "up"}, false, []string{"up"}},
		{"label_values", map[string]any{"label": "../../admin"}, true, []string{"name of a label"}},
	} {
		text, isError := call(t, c, tc.tool, tc.args)
		if isError != tc.error {
			t.Errorf("%s %v: isError is %v: %s", tc.tool, tc.args, isError, text)
		}
		for _, want := range tc.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s %v lacks %q:\n%s", tc.tool, tc.args, want, text)
			}
		}
		if strings.Contains(text, "hunter2hunter2") {
			t.Errorf("%s shows a password of a target", tc.tool)
		}
	}
	if err := c.Ping(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

func TestManySeriesStaySmall(t *testing.T) {
	c := start(t, kit.Config{Username: "admin", Password: "planted-pass-1"}, fake{2000})
	if text, _ := call(t, c, "query", map[string]any{"query": "up", "limit": 500}); !strings.Contains(text, "of 2000 shown; offset=") {
		t.Errorf("got %.200s", text)
	}
	if text, _ := call(t, c, "query_range", map[string]any{"query": "up", "points": 200}); !strings.Contains(text, "aggregate with sum by() or topk()") {
		t.Errorf("got %.200s", text)
	}
}

func TestWrongCredentialsAreTriedOnce(t *testing.T) {
	asked := 0
	c := start(t, kit.Config{Token: "planted-wrong-1"}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		fake{}.ServeHTTP(w, r)
	}))
	for range 3 {
		if text, isError := call(t, c, "query", map[string]any{"query": "up"}); !isError || strings.Contains(text, "planted-wrong-1") || !strings.Contains(text, "does not accept the credentials") {
			t.Errorf("got %s", text)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

func TestListIsSmall(t *testing.T) {
	c := start(t, kit.Config{}, fake{})
	list, err := c.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := json.Marshal(list.Tools)
	if t.Logf("%d bytes", len(raw)); len(raw) > 7200 {
		t.Errorf("%d bytes, at most 7200", len(raw))
	}
	for _, tool := range list.Tools {
		if n := len(tool.Description); n < 60 || n > 160 || !tool.Annotations.ReadOnlyHint {
			t.Errorf("%s: %d characters, %+v", tool.Name, n, tool.Annotations)
		}
	}
}

func TestMoment(t *testing.T) {
	now := time.Now()
	for s, age := range map[string]time.Duration{"now": 0, "2h": 2 * time.Hour, "-30m": 30 * time.Minute, "7d": 168 * time.Hour, "1h ago": time.Hour} {
		at, err := moment("start", s)
		if d := now.Sub(at) - age; err != nil || d < -time.Minute || d > time.Minute {
			t.Errorf("%s: %v %v", s, at, err)
		}
	}
	if at, err := moment("start", "2026-01-31T12:00:00Z"); err != nil || at.Unix() != 1769860800 {
		t.Errorf("got %v %v", at, err)
	}
	for _, s := range []string{"", "soon", "-1d5", "1e400"} {
		if _, err := moment("start", s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}
