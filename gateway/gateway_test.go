package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
)

// echoServer is a real server that returns its arguments, reports progress, asks its client and has a resource.
func echoServer(name string) *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: name, Version: "1"}, &mcp.ServerOptions{
		Instructions:       "I am " + name,
		SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
	})
	schema := json.RawMessage(`{"type":"object"}`)
	s.AddTool(&mcp.Tool{Name: "echo", InputSchema: schema}, func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: name + string(req.Params.Arguments)}}}, nil
	})
	s.AddTool(&mcp.Tool{Name: "count", InputSchema: schema}, func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		for i := range 20 {
			p := &mcp.ProgressNotificationParams{ProgressToken: req.Params.GetProgressToken(), Progress: float64(i + 1)}
			if err := req.Session.NotifyProgress(ctx, p); err != nil {
				return nil, err
			}
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "counted"}}}, nil
	})
	s.AddTool(&mcp.Tool{Name: "ask", InputSchema: schema}, func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		res, err := req.Session.Elicit(ctx, &mcp.ElicitParams{Message: "name?", RequestedSchema: json.RawMessage(`{"type":"object","properties":{"name":{"type":"string"}}}`)})
		if err != nil {
			return nil, err
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprint(res.Action, res.Content["name"])}}}, nil
	})
	s.AddTool(&mcp.Tool{Name: "hang", InputSchema: schema}, func(ctx context.Context, _ *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	s.AddPrompt(&mcp.Prompt{Name: "greet"}, func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{Role: "user", Content: &mcp.TextContent{Text: "hello from " + name}}}}, nil
	})
	read := func(_ context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: req.Params.URI, Text: "content of " + name}}}, nil
	}
	s.AddResource(&mcp.Resource{URI: "file:///shared", Name: "shared"}, read)
	s.AddResource(&mcp.Resource{URI: "file:///only/" + name, Name: "own"}, read)
	s.AddResourceTemplate(&mcp.ResourceTemplate{URITemplate: name + "://{id}", Name: "template"}, read)
	return s
}

// serveSDK serves an SDK server over HTTP in one era.
func serveSDK(t *testing.T, s *mcp.Server, modern bool) downstream.Config {
	t.Helper()
	h := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{Stateless: modern})
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	cfg := downstream.DefaultConfig()
	cfg.URL = srv.URL
	return cfg
}

// start runs a gateway in front of downstreams and returns it with its base URL.
func start(t *testing.T, downs map[string]downstream.Config) (*Gateway, string) {
	t.Helper()
	g := New(Options{Version: "test"})
	if _, err := g.Apply(t.Context(), Settings{Gateway: DefaultConfig(), Downstreams: downs}); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(g.Handler())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := g.Drain(ctx); err != nil {
			t.Error(err)
		}
		if err := g.Close(ctx); err != nil {
			t.Error(err)
		}
		srv.Close()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := g.Settled(ctx); err != nil {
		t.Fatal(err)
	}
	return g, srv.URL
}

// connect opens a session of an SDK client. Modern clients find the revision by themselves; others are held to the older handshake.
func connect(t *testing.T, url string, modern bool, opts *mcp.ClientOptions) *mcp.ClientSession {
	t.Helper()
	c := mcp.NewClient(&mcp.Implementation{Name: "client", Version: "1"}, opts)
	so := &mcp.ClientSessionOptions{}
	if !modern {
		so.ProtocolVersion = downstream.Legacy
	}
	s, err := c.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: url, MaxRetries: -1}, so)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // the gateway may be gone first
	if got := s.InitializeResult().ProtocolVersion; (got >= downstream.Modern) != modern {
		t.Fatalf("the client speaks %s", got)
	}
	return s
}

func text(t *testing.T, res *mcp.CallToolResult, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return res.Content[0].(*mcp.TextContent).Text
}

// eras runs a test with clients and servers of the same era.
func eras(t *testing.T, f func(t *testing.T, modern bool)) {
	for name, modern := range map[string]bool{"legacy": false, "modern": true} {
		t.Run(name, func(t *testing.T) { f(t, modern) })
	}
}

func TestManyServersAreOne(t *testing.T) {
	eras(t, func(t *testing.T, modern bool) {
		_, url := start(t, map[string]downstream.Config{
			"one": serveSDK(t, echoServer("one"), modern),
			"two": serveSDK(t, echoServer("two"), modern),
		})
		s := connect(t, url+"/mcp", modern, nil)
		ctx := t.Context()

		tools, err := s.ListTools(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, tool := range tools.Tools {
			names = append(names, tool.Name)
		}
		want := []string{"circuit_metrics", "circuit_status", "one__ask", "one__count", "one__echo", "one__hang", "two__ask", "two__count", "two__echo", "two__hang"}
		if !slices.Equal(names, want) {
			t.Errorf("got tools %v, want %v", names, want)
		}
		res, err := s.CallTool(ctx, &mcp.CallToolParams{Name: "two__echo", Arguments: map[string]any{"a": 1}})
		if got := text(t, res, err); got != `two{"a":1}` {
			t.Errorf("got %s", got)
		}
		prompt, err := s.GetPrompt(ctx, &mcp.GetPromptParams{Name: "one__greet"})
		if err != nil {
			t.Fatal(err)
		}
		if got := prompt.Messages[0].Content.(*mcp.TextContent).Text; got != "hello from one" {
			t.Errorf("got %s", got)
		}
		for uri, want := range map[string]string{
			"file:///only/two":             "content of two",
			"mcpgw://one/file:///shared":   "content of one",
			"mcpgw://two/file:///shared":   "content of two",
			"two://anything":               "content of two",
			"mcpgw://one/file:///only/one": "content of one",
		} {
			res, err := s.ReadResource(ctx, &mcp.ReadResourceParams{URI: uri})
			if err != nil {
				t.Errorf("%s: %v", uri, err)
				continue
			}
			if res.Contents[0].Text != want {
				t.Errorf("%s: got %s", uri, res.Contents[0].Text)
			}
			if res.Contents[0].URI != uri {
				t.Errorf("%s came back as %s", uri, res.Contents[0].URI)
			}
		}
		if _, err := s.ReadResource(ctx, &mcp.ReadResourceParams{URI: "file:///shared"}); err == nil {
			t.Error("a URI of two servers was read without saying of which")
		}
		if _, err := s.CallTool(ctx, &mcp.CallToolParams{Name: "echo"}); err == nil || !strings.Contains(err.Error(), "unknown tool: echo") {
			t.Errorf("an unknown tool: %v", err)
		}
	})
}

func TestOneServerAlone(t *testing.T) {
	eras(t, func(t *testing.T, modern bool) {
		_, url := start(t, map[string]downstream.Config{"one": serveSDK(t, echoServer("one"), modern)})
		s := connect(t, url+"/servers/one/mcp", modern, nil)
		tools, err := s.ListTools(t.Context(), nil)
		if err != nil || len(tools.Tools) != 4 || tools.Tools[2].Name != "echo" {
			t.Errorf("got %v, %v", tools, err)
		}
		res, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "echo"})
		if got := text(t, res, err); !strings.HasPrefix(got, "one") {
			t.Errorf("got %s", got)
		}
		if got := s.InitializeResult().Instructions; got != "I am one" {
			t.Errorf("instructions %q", got)
		}
	})
}

func TestProgressArrivesInOrderBeforeTheResult(t *testing.T) {
	eras(t, func(t *testing.T, modern bool) {
		_, url := start(t, map[string]downstream.Config{"one": serveSDK(t, echoServer("one"), modern)})
		// 20 clients, all with the same id and token.
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				c := newRaw(t, url+"/mcp", modern)
				events := c.call(t, 7, "tools/call", `{"name":"one__count","_meta":{"progressToken":"same"}}`)
				if len(events) != 21 {
					t.Errorf("got %d messages, want 20 notifications and the result", len(events))
					return
				}
				for i, e := range events[:20] {
					p := wire.Get(e, "params")
					if string(wire.Get(p, "progress")) != fmt.Sprint(i+1) || string(wire.Get(p, "progressToken")) != `"same"` {
						t.Errorf("message %d is %s", i, e)
					}
				}
				if last := events[20]; string(wire.Get(last, "id")) != "7" || !bytes.Contains(last, []byte("counted")) {
					t.Errorf("the last message is %s", last)
				}
			})
		}
		wg.Wait()
	})
}

func TestElicitationReachesTheCaller(t *testing.T) {
	_, url := start(t, map[string]downstream.Config{"one": serveSDK(t, echoServer("one"), false)})
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			me := fmt.Sprint("client", i)
			s := connect(t, url+"/mcp", false, &mcp.ClientOptions{ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
				return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": me}}, nil
			}})
			for range 5 {
				res, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "one__ask"})
				if got := text(t, res, err); got != "accept"+me {
					t.Errorf("%s got %s", me, got)
				}
			}
		})
	}
	wg.Wait()
}

func TestListChangesReachClients(t *testing.T) {
	eras(t, func(t *testing.T, modern bool) {
		one := echoServer("one")
		_, url := start(t, map[string]downstream.Config{"one": serveSDK(t, one, modern)})
		changed := make(chan struct{}, 10)
		s := connect(t, url+"/mcp", modern, &mcp.ClientOptions{ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { changed <- struct{}{} }})
		one.AddTool(&mcp.Tool{Name: "fresh", InputSchema: json.RawMessage(`{"type":"object"}`)}, nil)
		select {
		case <-changed:
		case <-time.After(10 * time.Second):
			t.Fatal("no list_changed")
		}
		tools, err := s.ListTools(t.Context(), nil)
		if err != nil || !slices.ContainsFunc(tools.Tools, func(t *mcp.Tool) bool { return t.Name == "one__fresh" }) {
			t.Errorf("got %v, %v", tools, err)
		}
	})
}

func TestResourceUpdatesReachSubscribers(t *testing.T) {
	eras(t, func(t *testing.T, modern bool) {
		one := echoServer("one")
		_, url := start(t, map[string]downstream.Config{"one": serveSDK(t, one, modern), "two": serveSDK(t, echoServer("two"), modern)})
		updated := make(chan string, 10)
		s := connect(t, url+"/mcp", modern, &mcp.ClientOptions{ResourceUpdatedHandler: func(_ context.Context, r *mcp.ResourceUpdatedNotificationRequest) {
			updated <- r.Params.URI
		}})
		const uri = "mcpgw://one/file:///shared"
		if err := s.Subscribe(t.Context(), &mcp.SubscribeParams{URI: uri}); err != nil {
			t.Fatal(err)
		}
		deadline := time.After(10 * time.Second)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case got := <-updated:
				if got != uri {
					t.Errorf("updated %s, want %s", got, uri)
				}
				return
			case <-tick.C: // a modern subscription is not answered, so when it began is not known
				if err := one.ResourceUpdated(t.Context(), &mcp.ResourceUpdatedNotificationParams{URI: "file:///shared"}); err != nil {
					t.Fatal(err)
				}
			case <-deadline:
				t.Fatal("no update")
			}
		}
	})
}

func TestStatusAnswersWhileServersHang(t *testing.T) {
	hang := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then does the server see that the client is gone
		<-r.Context().Done()
	}))
	defer hang.Close()
	cfg := downstream.DefaultConfig()
	cfg.URL = hang.URL
	g := New(Options{})
	defer g.Close(context.WithoutCancel(t.Context()))
	if _, err := g.Apply(t.Context(), Settings{Gateway: DefaultConfig(), Downstreams: map[string]downstream.Config{"hung": cfg}}); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(g.Handler())
	defer srv.Close()
	c := newRaw(t, srv.URL+"/mcp", false)
	events := c.call(t, 1, "tools/call", `{"name":"circuit_status"}`)
	res := wire.Get(events[0], "result")
	if got := wire.Get(res, "structuredContent"); !bytes.Contains(got, []byte(`"state":"starting"`)) {
		t.Errorf("got %s", got)
	}
}

// raw is a client without an SDK.
type raw struct {
	url, sid string
	modern   bool
}

func newRaw(t *testing.T, url string, modern bool) *raw {
	t.Helper()
	c := &raw{url: url, modern: modern}
	if modern {
		return c
	}
	res := c.post(t, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"raw","version":"1"}}}`, nil)
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body) // only the header is of interest
	c.sid = res.Header.Get("Mcp-Session-Id")
	if c.sid == "" {
		t.Fatal("no session")
	}
	return c
}

func (c *raw) post(t *testing.T, body string, header http.Header) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if c.sid != "" {
		req.Header.Set("Mcp-Session-Id", c.sid)
	}
	maps.Copy(req.Header, header)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// call sends a request and returns all messages of the answer.
func (c *raw) call(t *testing.T, id int, method, params string) [][]byte {
	t.Helper()
	header := http.Header{}
	p := []byte(params)
	if c.modern {
		meta := wire.Edit(wire.Get(p, "_meta"), wire.Member{Key: metaProtocolVersion, Value: wire.Quote(downstream.Modern)}, wire.Member{Key: metaClientCapabilities, Value: []byte(`{}`)})
		p = wire.Set(p, "_meta", meta)
		header.Set("Mcp-Protocol-Version", downstream.Modern)
		header.Set("Mcp-Method", method)
		if name, ok := wire.GetString(p, "name"); ok {
			header.Set("Mcp-Name", name)
		}
	}
	res := c.post(t, string(wire.AppendRequest(nil, []byte(fmt.Sprint(id)), method, p)), header)
	defer res.Body.Close()
	if res.Header.Get("Content-Type") == "application/json" {
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return [][]byte{b}
	}
	var events [][]byte
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		if data, ok := bytes.CutPrefix(line, []byte("data: ")); ok {
			events = append(events, bytes.TrimSpace(data))
		}
	}
	return events
}
