package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
)

// startWith runs a gateway with settings of its own and no downstreams but those given.
func startWith(t *testing.T, cfg Config, downs map[string]downstream.Config) (*Gateway, string) {
	t.Helper()
	g, url := start(t, downs)
	if _, err := g.Apply(t.Context(), Settings{Gateway: cfg, Downstreams: downs}); err != nil {
		t.Fatal(err)
	}
	return g, url
}

func body(t *testing.T, res *http.Response) string {
	t.Helper()
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestBadMessagesReachNobody(t *testing.T) {
	asked := make(chan struct{}, 100)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if bytes.Contains(b, []byte("tools/call")) {
			asked <- struct{}{}
		}
		w.WriteHeader(http.StatusBadRequest)
	}))
	defer srv.Close()
	cfg := downstream.DefaultConfig()
	cfg.URL = srv.URL
	_, url := start(t, map[string]downstream.Config{"x": cfg})
	c := newRaw(t, url+"/mcp", false)
	for name, text := range map[string]string{
		"duplicate member":          `{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{"name":"x__y"}}`,
		"other case":                `{"jsonrpc":"2.0","id":1,"method":"tools/call","Method":"ping","params":{"name":"x__y"}}`,
		"duplicate in params":       `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x__y","name":"x__z"}}`,
		"other case in params":      `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x__y","Name":"x__z"}}`,
		"duplicate in _meta":        `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x__y","_meta":{"progressToken":1,"progressToken":2}}}`,
		"trailing data":             `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x__y"}} {}`,
		"invalid UTF-8":             "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"x__y\xff\"}}",
		"byte order mark":           "\xef\xbb\xbf" + `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x__y"}}`,
		"NaN":                       `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x__y","arguments":{"a":NaN}}}`,
		"too deep":                  `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x__y","arguments":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}}`,
		"a batch where none may be": `[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x__y"}}]`,
		"params is no object":       `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["x__y"]}`,
		"name is no string":         `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":7}}`,
		"empty":                     ``,
	} {
		res := c.post(t, text, nil)
		got := body(t, res)
		if !json.Valid([]byte(got)) || wire.Get([]byte(got), "error") == nil {
			t.Errorf("%s: answered %d %s, want a JSON-RPC error", name, res.StatusCode, got)
		}
	}
	if len(asked) > 0 {
		t.Error("a downstream saw one of them")
	}
}

func TestSessionsAreBoundToEndpointAndBounded(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Limits.Sessions = 2
	_, url := startWith(t, cfg, map[string]downstream.Config{"one": serveSDK(t, echoServer("one"), false)})
	c := newRaw(t, url+"/mcp", false)
	newRaw(t, url+"/mcp", false)
	third := &raw{url: url + "/mcp"}
	res := third.post(t, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}`, nil)
	if got := body(t, res); res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") == "" || !strings.Contains(got, "gateway.limits.sessions") {
		t.Errorf("a third session: %d %s", res.StatusCode, got)
	}
	for name, c := range map[string]struct {
		url, sid string
		want     int
	}{
		"another endpoint": {url + "/servers/one/mcp", c.sid, http.StatusNotFound},
		"unknown session":  {url + "/mcp", "nope", http.StatusNotFound},
		"no session":       {url + "/mcp", "", http.StatusBadRequest},
		"unknown server":   {url + "/servers/two/mcp", c.sid, http.StatusNotFound},
		"its own":          {url + "/mcp", c.sid, http.StatusOK},
	} {
		r := &raw{url: c.url, sid: c.sid}
		res := r.post(t, `{"jsonrpc":"2.0","id":1,"method":"ping"}`, nil)
		if got := body(t, res); res.StatusCode != c.want {
			t.Errorf("%s: %d %s, want %d", name, res.StatusCode, got, c.want)
		}
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodDelete, url+"/mcp", nil)
	req.Header.Set("Mcp-Session-Id", c.sid)
	if res, err := http.DefaultClient.Do(req); err != nil || res.StatusCode != http.StatusNoContent {
		t.Fatalf("DELETE: %v %v", res, err)
	}
	if res := c.post(t, `{"jsonrpc":"2.0","id":1,"method":"ping"}`, nil); res.StatusCode != http.StatusNotFound {
		t.Errorf("after DELETE: %d", res.StatusCode)
	}
	newRaw(t, url+"/mcp", false) // there is room again
}

func TestIdleSessionsEnd(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Timeouts.SessionIdle = 50 * time.Millisecond
	g, url := startWith(t, cfg, map[string]downstream.Config{})
	idle := newRaw(t, url+"/mcp", false)
	listening := newRaw(t, url+"/mcp", false)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, url+"/mcp", nil)
	req.Header.Set("Mcp-Session-Id", listening.sid)
	stream, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for g.sessions.len() > 1 {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the idle session lives")
		}
	}
	if res := idle.post(t, `{"jsonrpc":"2.0","id":1,"method":"ping"}`, nil); res.StatusCode != http.StatusNotFound {
		t.Errorf("the idle session: %d", res.StatusCode)
	}
	if res := listening.post(t, `{"jsonrpc":"2.0","id":1,"method":"ping"}`, nil); res.StatusCode != http.StatusOK {
		t.Errorf("the session with an open stream: %d", res.StatusCode)
	}
}

// TestStalledReaderDelaysNobody opens a stream that is never read, floods it, and expects another client's stream to be served.
func TestStalledReaderDelaysNobody(t *testing.T) {
	one := echoServer("one")
	_, url := start(t, map[string]downstream.Config{"one": serveSDK(t, one, false)})
	stalled := newRaw(t, url+"/mcp", false)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nMcp-Session-Id: %s\r\n\r\n", stalled.sid)
	if _, err := bufio.NewReaderSize(conn, 16).ReadByte(); err != nil { // it is open; from here on nobody reads
		t.Fatal(err)
	}
	changed := make(chan struct{}, 100)
	connect(t, url+"/mcp", false, &mcp.ClientOptions{ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { changed <- struct{}{} }})
	for i := range 5 {
		one.AddTool(&mcp.Tool{Name: fmt.Sprint("t", i), Description: strings.Repeat("x", 1<<10), InputSchema: json.RawMessage(`{"type":"object"}`)}, nil)
		select {
		case <-changed:
		case <-time.After(10 * time.Second):
			t.Fatal("a stalled reader delays others")
		}
	}
}

func TestIDsComeBackWithEveryByte(t *testing.T) {
	eras(t, func(t *testing.T, modern bool) {
		_, url := start(t, map[string]downstream.Config{"one": serveSDK(t, echoServer("one"), modern)})
		c := newRaw(t, url+"/mcp", modern)
		for _, id := range []string{`9007199254740993`, `18446744073709551615`, `-1`, `1.5`, `1e2`, `""`, `"\u00e9\"x"`, `"😀"`} {
			header := http.Header{}
			params := `{"name":"one__echo"}`
			if modern {
				params = `{"name":"one__echo","_meta":{"` + metaProtocolVersion + `":"2026-07-28","` + metaClientCapabilities + `":{}}}`
				header = http.Header{"Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {"tools/call"}, "Mcp-Name": {"one__echo"}}
			}
			got := body(t, c.post(t, `{"jsonrpc":"2.0","id":`+id+`,"method":"tools/call","params":`+params+`}`, header))
			if string(wire.Get([]byte(got), "id")) != id {
				t.Errorf("id %s came back in %s", id, got)
			}
		}
	})
}

func TestBatchesOfTheRevisionThatHasThem(t *testing.T) {
	_, url := start(t, map[string]downstream.Config{"one": serveSDK(t, echoServer("one"), false)})
	c := &raw{url: url + "/mcp"}
	res := c.post(t, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-03-26","capabilities":{}}}`, nil)
	if got := body(t, res); !strings.Contains(got, `"protocolVersion":"2025-03-26"`) {
		t.Fatal(got)
	}
	c.sid = res.Header.Get("Mcp-Session-Id")
	got := body(t, c.post(t, `[{"jsonrpc":"2.0","method":"notifications/initialized"},{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"one__echo"}},{"jsonrpc":"2.0","id":3,"method":"nope"},5]`, nil))
	var answers []map[string]any
	if err := json.Unmarshal([]byte(got), &answers); err != nil || len(answers) != 4 {
		t.Fatalf("got %s, %v", got, err)
	}
}

func TestModernRequestsMustMirrorTheirBody(t *testing.T) {
	_, url := start(t, map[string]downstream.Config{"one": serveSDK(t, echoServer("one"), true)})
	const meta = `"_meta":{"` + metaProtocolVersion + `":"2026-07-28","` + metaClientCapabilities + `":{}}`
	good := http.Header{"Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {"tools/call"}, "Mcp-Name": {"one__echo"}}
	with := func(name string, values ...string) http.Header {
		h := good.Clone()
		if values == nil {
			delete(h, name)
		} else {
			h[name] = values
		}
		return h
	}
	call := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"one__echo",` + meta + `}}`
	for name, c := range map[string]struct {
		header http.Header
		text   string
		status int
		code   string
	}{
		"good":                 {good, call, 200, ""},
		"Base64":               {with("Mcp-Name", "=?base64?b25lX19lY2hv?="), call, 200, ""},
		"no version":           {with("Mcp-Protocol-Version"), call, 400, "-32020"},
		"other version":        {with("Mcp-Protocol-Version", "2025-11-25"), call, 400, "-32020"},
		"no method":            {with("Mcp-Method"), call, 400, "-32020"},
		"other method":         {with("Mcp-Method", "tools/list"), call, 400, "-32020"},
		"method in other case": {with("Mcp-Method", "Tools/Call"), call, 400, "-32020"},
		"two methods":          {with("Mcp-Method", "tools/call", "tools/call"), call, 400, "-32020"},
		"no name":              {with("Mcp-Name"), call, 400, "-32020"},
		"other name":           {with("Mcp-Name", "one__ask"), call, 400, "-32020"},
		"broken Base64":        {with("Mcp-Name", "=?base64?%?="), call, 400, "-32020"},
		"future revision": {
			with("Mcp-Protocol-Version", "2030-01-01"),
			strings.ReplaceAll(call, `"2026-07-28"`, `"2030-01-01"`), 400, "-32022",
		},
		"no capabilities": {good, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"one__echo","_meta":{"` + metaProtocolVersion + `":"2026-07-28"}}}`, 400, "-32602"},
		"no _meta":        {good, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"one__echo"}}`, 400, "-32602"},
		"removed method":  {with("Mcp-Method", "ping"), `{"jsonrpc":"2.0","id":1,"method":"ping","params":{` + meta + `}}`, 404, "-32601"},
		"unknown method":  {with("Mcp-Method", "x/y"), `{"jsonrpc":"2.0","id":1,"method":"x/y","params":{` + meta + `}}`, 404, "-32601"},
		"response":        {good, `{"jsonrpc":"2.0","id":1,"result":{}}`, 400, "-32600"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &raw{url: url + "/mcp"}
			res := r.post(t, c.text, c.header)
			got := body(t, res)
			if code := string(wire.Get(wire.Get([]byte(got), "error"), "code")); res.StatusCode != c.status || code != c.code {
				t.Errorf("got %d %s, want %d and code %q", res.StatusCode, got, c.status, c.code)
			}
		})
	}
}

func TestCancellationReachesTheServer(t *testing.T) {
	eras(t, func(t *testing.T, modern bool) {
		began, ended := make(chan struct{}, 1), make(chan struct{}, 1)
		one := echoServer("one")
		one.AddTool(&mcp.Tool{Name: "wait", InputSchema: json.RawMessage(`{"type":"object"}`)}, func(ctx context.Context, _ *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			began <- struct{}{}
			<-ctx.Done()
			ended <- struct{}{}
			return nil, ctx.Err()
		})
		h := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return one }, &mcp.StreamableHTTPOptions{Stateless: modern, PropagateRequestCancellation: modern})
		srv := httptest.NewServer(h)
		t.Cleanup(srv.Close)
		cfg := downstream.DefaultConfig()
		cfg.URL = srv.URL
		_, url := start(t, map[string]downstream.Config{"one": cfg})
		s := connect(t, url+"/mcp", modern, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := s.CallTool(ctx, &mcp.CallToolParams{Name: "one__wait"})
			done <- err
		}()
		<-began
		cancel()
		for _, c := range []<-chan struct{}{ended} {
			select {
			case <-c:
			case <-time.After(10 * time.Second):
				t.Fatal("the server goes on with a call that was cancelled")
			}
		}
		if err := <-done; err == nil {
			t.Error("a cancelled call was answered")
		}
	})
}

func TestShutdownEndsStreamsAndFinishesCalls(t *testing.T) {
	one := echoServer("one")
	release, began := make(chan struct{}), make(chan struct{})
	one.AddTool(&mcp.Tool{Name: "slow", InputSchema: json.RawMessage(`{"type":"object"}`)}, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		close(began)
		<-release
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "finished"}}}, nil
	})
	g, url := start(t, map[string]downstream.Config{"one": serveSDK(t, one, true)})
	c := newRaw(t, url+"/mcp", true)
	listened := make(chan [][]byte, 1)
	go func() {
		listened <- c.call(t, 5, "subscriptions/listen", `{"notifications":{"toolsListChanged":true}}`)
	}()
	called := make(chan [][]byte, 1)
	go func() { called <- c.call(t, 6, "tools/call", `{"name":"one__slow"}`) }()
	<-began
	for g.streams.Load() == 0 { // until the listen is open
		runtime.Gosched()
	}
	drained := make(chan error, 1)
	go func() { drained <- g.Drain(t.Context()) }()
	events := <-listened
	if n := len(events); n < 2 || !bytes.Contains(events[0], []byte("acknowledged")) || string(wire.Get(events[n-1], "id")) != "5" || wire.Get(events[n-1], "result") == nil {
		t.Errorf("the stream ended with %s", events)
	}
	res := c.post(t, `{"jsonrpc":"2.0","id":9,"method":"server/discover","params":{"_meta":{"`+metaProtocolVersion+`":"2026-07-28","`+metaClientCapabilities+`":{}}}}`,
		http.Header{"Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {"server/discover"}})
	if got := body(t, res); res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(got, "shutting down") {
		t.Errorf("a new request: %d %s", res.StatusCode, got)
	}
	select {
	case err := <-drained:
		t.Fatalf("Drain returned %v with a call in flight", err)
	default:
	}
	close(release)
	if got := <-called; !bytes.Contains(got[0], []byte("finished")) {
		t.Errorf("the call in flight: %s", got)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

func TestReloadKeepsWhatDidNotChange(t *testing.T) {
	one, two := serveSDK(t, echoServer("one"), false), serveSDK(t, echoServer("two"), false)
	g, url := start(t, map[string]downstream.Config{"one": one, "two": two})
	s := connect(t, url+"/mcp", false, nil)
	kept := g.targets["one"].server
	two.Timeouts.Call = time.Minute
	change, err := g.Apply(t.Context(), Settings{Gateway: DefaultConfig(), Downstreams: map[string]downstream.Config{"one": one, "two": two}})
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(change.Kept, change.Replaced) != "[one] [two]" || g.targets["one"].server != kept {
		t.Errorf("got %+v", change)
	}
	for _, name := range []string{"one", "two"} { // the client's session lives, and the replaced server's tools never left
		res, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: name + "__echo"})
		if got := text(t, res, err); !strings.HasPrefix(got, name) {
			t.Errorf("%s: got %s", name, got)
		}
	}
	bad := Settings{Gateway: DefaultConfig(), Downstreams: map[string]downstream.Config{"one": one, "bad": downstream.DefaultConfig()}}
	if _, err := g.Apply(t.Context(), bad); err == nil {
		t.Error("a bad configuration was applied")
	}
	if len(g.targets) != 2 {
		t.Errorf("a bad configuration changed something: %d targets", len(g.targets))
	}
}

func TestStdioServesBothEras(t *testing.T) {
	eras(t, func(t *testing.T, modern bool) {
		g, _ := start(t, map[string]downstream.Config{"one": serveSDK(t, echoServer("one"), modern)})
		inR, inW := io.Pipe()
		outR, outW := io.Pipe()
		served := make(chan error, 1)
		go func() { served <- g.ServeStdio(t.Context(), inR, outW) }()
		c := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, &mcp.ClientOptions{ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "me"}}, nil
		}})
		so := &mcp.ClientSessionOptions{}
		if !modern {
			so.ProtocolVersion = downstream.Legacy
		}
		s, err := c.Connect(t.Context(), &mcp.IOTransport{Reader: outR, Writer: inW}, so)
		if err != nil {
			t.Fatal(err)
		}
		res, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "one__echo"})
		if got := text(t, res, err); !strings.HasPrefix(got, "one") {
			t.Errorf("got %s", got)
		}
		if !modern {
			res, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "one__ask"})
			if got := text(t, res, err); got != "acceptme" {
				t.Errorf("got %s", got)
			}
		}
		_ = inW.Close()
		select {
		case err := <-served:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("it does not end with its input")
		}
	})
}
