package gateway

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/mcptest"
	"github.com/mcpgw/mcpgw/internal/wire"
	"github.com/mcpgw/mcpgw/telemetry"
)

// taskServer is a server with tasks, in one era, that says what it gets.
func taskServer(t *testing.T, modern bool) (downstream.Config, *string) {
	t.Helper()
	var seen string
	note := func(answer string) mcptest.Answer {
		return func(x *mcptest.Exchange) {
			seen = string(x.Params)
			x.Result(answer)
		}
	}
	s := mcptest.Script{
		"initialize":        mcptest.Result(`{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"tasks":{"list":{},"cancel":{},"requests":{"tools":{"call":{}}}}},"serverInfo":{"name":"s","version":"1"}}`),
		"tools/list":        mcptest.Result(`{"tools":[{"name":"long","inputSchema":{"type":"object"}}]}`),
		"tools/call long":   note(`{"task":{"taskId":"t1","status":"working","ttl":null}}`),
		"tasks/get":         note(`{"taskId":"t1","status":"working"}`),
		"tasks/cancel":      note(`{"taskId":"t1","status":"cancelled"}`),
		"tasks/list":        note(`{"tasks":[{"taskId":"t1","status":"working"}]}`),
		"tasks/result":      note(`{"content":[],"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t1"},"x":1}}`),
		"tools/call absent": mcptest.Never,
	}
	if modern {
		s = mcptest.Script{
			"server/discover": mcptest.Result(`{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{},"extensions":{"io.modelcontextprotocol/tasks":{},"io.modelcontextprotocol/ui":{},"net.example/odd":{"a":1}}},"serverInfo":{"name":"s","version":"1"}}`),
			"tools/list":      mcptest.Result(`{"resultType":"complete","ttlMs":1000,"cacheScope":"public","tools":[{"name":"long","inputSchema":{"type":"object"},"_meta":{"ui":{"resourceUri":"ui://x"},"kept":1}},{"name":"button","inputSchema":{"type":"object"},"_meta":{"ui":{"visibility":["app"]}}}]}`),
			"tools/call long": note(`{"resultType":"task","taskId":"t1","status":"working","createdAt":"x","lastUpdatedAt":"x","ttlMs":null}`),
			"tasks/get":       note(`{"resultType":"complete","taskId":"t1","status":"input_required","inputRequests":{"k":{"method":"elicitation/create","params":{"message":"who?"}}}}`),
			"tasks/update":    note(`{"resultType":"complete"}`),
			"tasks/cancel":    note(`{"resultType":"complete"}`),
		}
	}
	cfg := downstream.DefaultConfig()
	cfg.URL = s.JSON(t).URL
	return cfg, &seen
}

const declaresTasks = `{"elicitation":{},"extensions":{"io.modelcontextprotocol/tasks":{},"io.modelcontextprotocol/ui":{"m":1},"net.example/odd":{"b":2}}}`

// TestTasks2026 follows a task of the extension: its id is the same all the time, and of no use to anybody else.
func TestTasks2026(t *testing.T) {
	cfg, seen := taskServer(t, true)
	old, _ := taskServer(t, false)
	tokens := []string{strings.Repeat("a", 20), strings.Repeat("b", 20)}
	_, url := startSet(t, map[string]downstream.Config{"one": cfg, "old": old}, func(s *Settings) {
		for _, k := range tokens {
			s.Gateway.Tokens = append(s.Gateway.Tokens, telemetry.Secret(k))
		}
	})
	for path, name := range map[string]string{"/mcp": "one__long", "/servers/one/mcp": "long"} {
		c := rawCall{url: url + path, token: tokens[0], caps: declaresTasks}
		res, no := c.tool(t, name, map[string]any{}, nil)
		id, _ := wire.GetString(res, "taskId")
		if kind, _ := wire.GetString(res, "resultType"); kind != "task" || id == "" || id == "t1" {
			t.Fatalf("%s: got %s, error %s", path, res, no)
		}
		for _, method := range []string{"tasks/get", "tasks/update", "tasks/cancel"} {
			res, no, err := c.post(t.Context(), method, id, map[string]any{"taskId": id})
			if err != nil || no != nil {
				t.Fatalf("%s %s: %s %v", path, method, no, err)
			}
			if own, _ := wire.GetString([]byte(*seen), "taskId"); own != "t1" {
				t.Errorf("%s %s: the server got %s", path, method, *seen)
			}
			if got, there := wire.GetString(res, "taskId"); there && got != id {
				t.Errorf("%s %s: the id became %s", path, method, got)
			}
			if method == "tasks/get" && path == "/mcp" && !bytes.Contains(res, []byte("[one] who?")) {
				t.Errorf("the server is not named: %s", res)
			}
		}
		for what, other := range map[string]rawCall{"another user": {url: c.url, token: tokens[1], caps: declaresTasks}, "an undeclared extension": {url: c.url, token: tokens[0]}} {
			*seen = ""
			if res, no, _ := other.post(t.Context(), "tasks/get", id, map[string]any{"taskId": id}); no == nil || *seen != "" {
				t.Errorf("%s: %s got %s", path, what, res)
			}
		}
		if _, no, _ := c.post(t.Context(), "tasks/get", "t1", map[string]any{"taskId": "t1"}); no == nil {
			t.Errorf("%s: the server's own id was taken", path)
		}
		if _, no, _ := c.post(t.Context(), "tasks/get", "other", map[string]any{"taskId": id}); string(wire.Get(no, "code")) != "-32020" {
			t.Errorf("%s: Mcp-Name that says something else: %s", path, no)
		}
	}
}

// TestTasks2025 does the same with the experiment of 2025-11-25, and sees nothing of it across the eras.
func TestTasks2025(t *testing.T) {
	cfg, seen := taskServer(t, false)
	modern, modernSeen := taskServer(t, true)
	_, url := start(t, map[string]downstream.Config{"old": cfg, "new": modern})
	for path, name := range map[string]string{"/mcp": "old__long", "/servers/old/mcp": "long"} {
		c := legacyClient{t: t, url: url + path}
		if caps := c.open(`{}`); wire.Get(wire.Get(caps, "capabilities"), "tasks") == nil {
			t.Errorf("%s: tasks are not offered: %s", path, caps)
		}
		res := c.do("tools/call", `{"name":"`+name+`","arguments":{},"task":{"ttl":1000}}`)
		id, _ := wire.GetString(wire.Get(wire.Get(res, "result"), "task"), "taskId")
		if id == "" || id == "t1" {
			t.Fatalf("%s: got %s", path, res)
		}
		for _, method := range []string{"tasks/get", "tasks/cancel", "tasks/result"} {
			res := wire.Get(c.do(method, `{"taskId":"`+id+`"}`), "result")
			if own, _ := wire.GetString([]byte(*seen), "taskId"); own != "t1" || !bytes.Contains(res, []byte(id)) || bytes.Contains(res, []byte(`"t1"`)) {
				t.Errorf("%s %s: the server got %s, the client %s", path, method, *seen, res)
			}
		}
		list := c.do("tasks/list", `{}`)
		if ok := bytes.Contains(list, []byte(id)); ok != (path != "/mcp") {
			t.Errorf("%s: tasks/list: %s", path, list)
		}
	}
	c := legacyClient{t: t, url: url + "/servers/new/mcp"}
	if caps := c.open(`{}`); bytes.Contains(caps, []byte("tasks")) || bytes.Contains(caps, []byte("extensions")) {
		t.Errorf("offered across the eras: %s", caps)
	}
	c.do("tools/call", `{"name":"long","arguments":{},"task":{"ttl":1000}}`)
	if wire.Get([]byte(*modernSeen), "task") != nil || bytes.Contains([]byte(*modernSeen), []byte(extTasks)) {
		t.Errorf("the newer server was told of tasks: %s", *modernSeen)
	}
}

// TestExtensionsByName shows which extensions client and server learn of, and that apps are only where they can do no harm.
func TestExtensionsByName(t *testing.T) {
	for through, want := range map[string]string{"": "", "net.example/odd": `"net.example/odd"`} {
		cfg, seen := taskServer(t, true)
		_, url := startSet(t, map[string]downstream.Config{"one": cfg}, func(s *Settings) {
			if through != "" {
				s.Gateway.PassthroughExtensions = []string{through}
			}
		})
		for path, name := range map[string]string{"/mcp": "one__long", "/servers/one/mcp": "long"} {
			c := rawCall{url: url + path, caps: declaresTasks}
			res, _, err := c.post(t.Context(), "server/discover", "", map[string]any{})
			if err != nil {
				t.Fatal(err)
			}
			c.tool(t, name, map[string]any{}, nil)
			told := wire.Get(wire.Get([]byte(*seen), "_meta"), metaClientCapabilities)
			for who, caps := range map[string]json.RawMessage{"client": wire.Get(res, "capabilities"), "server": told} {
				ext := wire.Get(caps, "extensions")
				if wire.Get(ext, extTasks) == nil || (wire.Get(ext, extApps) != nil) != (path != "/mcp") || bytes.Contains(ext, []byte("odd")) != (want != "") {
					t.Errorf("%s, %q let through: the %s is told of %s", path, through, who, ext)
				}
			}
			list, _, err := c.post(t.Context(), "tools/list", "", map[string]any{})
			if err != nil {
				t.Fatal(err)
			}
			if ui := bytes.Contains(list, []byte("ui://x")) || bytes.Contains(list, []byte("button")); ui != (path != "/mcp") || !bytes.Contains(list, []byte(`"kept":1`)) {
				t.Errorf("%s: %s", path, list)
			}
		}
	}
}

// legacyClient is a client of revision 2025-11-25 that does nothing by itself.
type legacyClient struct {
	t   *testing.T
	url string
	sid string
}

func (c *legacyClient) open(caps string) json.RawMessage {
	c.t.Helper()
	return wire.Get(c.do("initialize", `{"protocolVersion":"2025-11-25","capabilities":`+caps+`,"clientInfo":{"name":"c","version":"1"}}`), "result")
}

// do sends a request and returns the last message of the answer.
func (c *legacyClient) do(method, params string) json.RawMessage {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.url, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":`+params+`}`))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if c.sid != "" {
		req.Header.Set("Mcp-Session-Id", c.sid)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	if c.sid == "" {
		c.sid = resp.Header.Get("Mcp-Session-Id")
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		c.t.Fatal(err)
	}
	raw := b.Bytes()
	if i := bytes.LastIndex(raw, []byte("data: ")); i >= 0 {
		raw = raw[i+len("data: "):]
	}
	return raw
}
