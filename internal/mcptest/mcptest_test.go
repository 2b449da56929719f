package mcptest_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/mcptest"
)

func TestMain(m *testing.M) { mcptest.Main(m) }

// way is a way to reach a server.
type way struct {
	name, revision string
	serve          func(testing.TB, *mcptest.Server) mcp.Transport
}

var ways = []way{
	{"HTTP", "2025-11-25", func(tb testing.TB, s *mcptest.Server) mcp.Transport {
		tb.Helper()
		return &mcp.StreamableClientTransport{Endpoint: s.HTTP(tb).URL}
	}},
	{"modern HTTP", "2026-07-28", func(tb testing.TB, s *mcptest.Server) mcp.Transport {
		tb.Helper()
		return &mcp.StreamableClientTransport{Endpoint: s.Modern(tb).URL}
	}},
	{"SSE", "2024-11-05", func(tb testing.TB, s *mcptest.Server) mcp.Transport {
		tb.Helper()
		return &mcp.SSEClientTransport{Endpoint: s.SSE(tb).URL}
	}},
	{"memory", "2025-11-25", inMemory},
	{"modern memory", "2026-07-28", inMemory},
}

func inMemory(tb testing.TB, s *mcptest.Server) mcp.Transport {
	tb.Helper()
	return s.Memory(tb)
}

// everyWay runs f with a client and a server that are connected in each way.
func everyWay(t *testing.T, opts *mcp.ClientOptions, f func(*testing.T, *mcptest.Server, *mcp.ClientSession)) {
	t.Helper()
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			s := mcptest.NewServer(t, mcptest.Options{})
			f(t, s, mcptest.Connect(t, w.serve(t, s), w.revision, opts))
		})
	}
}

func TestTools(t *testing.T) {
	everyWay(t, nil, func(t *testing.T, s *mcptest.Server, c *mcp.ClientSession) {
		t.Helper()
		var echoed map[string]any
		args := `{"n":1.0,"big":18446744073709551616,"s":"<&>"}`
		res := mcptest.Call(t, c, "echo", json.RawMessage(args), &echoed)
		if diff := cmp.Diff(args, mcptest.Text(res)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(map[string]any{"n": 1.0, "big": 18446744073709551616.0, "s": "<&>"}, echoed); diff != "" {
			t.Error(diff)
		}
		if res := mcptest.Call(t, c, "fail", map[string]any{"message": "no"}, nil); !res.IsError || mcptest.Text(res) != "no" {
			t.Errorf("fail: %+v", res)
		}
		_, err := c.CallTool(t.Context(), &mcp.CallToolParams{Name: "rpc_error", Arguments: map[string]any{"code": 42, "message": "why", "data": []int{7}}})
		if e, ok := errors.AsType[*jsonrpc.Error](err); !ok || e.Code != 42 || e.Message != "why" || string(e.Data) != "[7]" {
			t.Errorf("rpc_error: %v", err)
		}
		if res := mcptest.Call(t, c, "huge", map[string]any{"bytes": 100_000}, nil); len(mcptest.Text(res)) != 100_000 {
			t.Errorf("huge: %d bytes", len(mcptest.Text(res)))
		}
		if res := mcptest.Call(t, c, "contents", nil, nil); len(res.Content) != 5 {
			t.Errorf("contents: %d blocks", len(res.Content))
		}
		var who mcptest.Session
		mcptest.Call(t, c, "session", nil, &who)
		if who.PID != os.Getpid() || who.Client.Name != "mcptest-client" {
			t.Errorf("session: %+v", who)
		}
		if s.Calls("echo") != 1 || s.Received("tools/call") != 6 || s.Running("echo") != 0 {
			t.Errorf("counts: %d, %d, %d", s.Calls("echo"), s.Received("tools/call"), s.Running("echo"))
		}
	})
}

func TestSlow(t *testing.T) {
	everyWay(t, nil, func(t *testing.T, s *mcptest.Server, c *mcp.ClientSession) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 2)
		call := func(ctx context.Context) {
			_, err := c.CallTool(ctx, &mcp.CallToolParams{Name: "slow"})
			done <- err
		}
		go call(ctx)
		s.AwaitRunning(t, "slow", 1)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		s.AwaitCancelled(t, "slow", 1)
		s.AwaitRunning(t, "slow", 0)
		go call(t.Context())
		s.AwaitRunning(t, "slow", 1)
		s.Release()
		if err := <-done; err != nil {
			t.Errorf("released: %v", err)
		}
	})
}

func TestNotifications(t *testing.T) {
	var progress, logs, tools, updates atomic.Int64
	got := make(chan struct{}, 100)
	opts := &mcp.ClientOptions{
		ProgressNotificationHandler: func(context.Context, *mcp.ProgressNotificationClientRequest) {
			progress.Add(1)
			got <- struct{}{}
		},
		LoggingMessageHandler: func(context.Context, *mcp.LoggingMessageRequest) {
			logs.Add(1)
			got <- struct{}{}
		},
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) {
			tools.Add(1)
			got <- struct{}{}
		},
		ResourceUpdatedHandler: func(context.Context, *mcp.ResourceUpdatedNotificationRequest) {
			updates.Add(1)
			got <- struct{}{}
		},
	}
	// Progress and logs of the SDK's client over SSE and the era without initialize are the SDK's own matter; one way is enough to see that
	// the server sends them.
	s := mcptest.NewServer(t, mcptest.Options{})
	c := s.HTTP(t).Client(t, "2025-11-25", opts)
	if err := c.SetLoggingLevel(t.Context(), &mcp.SetLoggingLevelParams{Level: "debug"}); err != nil {
		t.Fatal(err)
	}
	if err := c.Subscribe(t.Context(), &mcp.SubscribeParams{URI: mcptest.TextURI}); err != nil {
		t.Fatal(err)
	}
	s.AwaitSubscribed(t, mcptest.TextURI, 1)
	p := &mcp.CallToolParams{Name: "progress", Arguments: map[string]any{"n": 3}}
	p.SetProgressToken("token")
	if _, err := c.CallTool(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	mcptest.Call(t, c, "log", map[string]any{"n": 2}, nil)
	mcptest.Call(t, c, "touch", nil, nil)
	var added struct{ Added string }
	mcptest.Call(t, c, "change", nil, &added)
	for range 7 {
		<-got
	}
	if progress.Load() != 3 || logs.Load() != 2 || tools.Load() != 1 || updates.Load() != 1 {
		t.Errorf("progress %d, logs %d, tools %d, updates %d", progress.Load(), logs.Load(), tools.Load(), updates.Load())
	}
	mcptest.Call(t, c, added.Added, nil, &map[string]any{})
	if err := c.Unsubscribe(t.Context(), &mcp.UnsubscribeParams{URI: mcptest.TextURI}); err != nil {
		t.Fatal(err)
	}
	s.AwaitSubscribed(t, mcptest.TextURI, 0)
}

func TestAskingTheClient(t *testing.T) {
	opts := &mcp.ClientOptions{
		ElicitationHandler: func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": r.Params.Message}}, nil
		},
		CreateMessageHandler: func(context.Context, *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
			return &mcp.CreateMessageResult{Model: "parrot", Role: "assistant", Content: &mcp.TextContent{Text: "something"}}, nil
		},
	}
	everyWay(t, opts, func(t *testing.T, _ *mcptest.Server, c *mcp.ClientSession) {
		t.Helper()
		var e struct {
			Action  string
			Content map[string]string
			Rounds  int
		}
		mcptest.Call(t, c, "elicit", map[string]any{"message": "Who?", "rounds": 3}, &e)
		if e.Action != "accept" || e.Rounds != 3 || e.Content["name"] != "Who? (3 of 3)" {
			t.Errorf("elicit: %+v", e)
		}
		var s struct{ Model string }
		mcptest.Call(t, c, "sample", nil, &s)
		if s.Model != "parrot" {
			t.Errorf("sample: %+v", s)
		}
		var r map[string]any
		mcptest.Call(t, c, "roots", nil, &r)
		if _, ok := r["roots"]; !ok {
			t.Errorf("roots: %v", r)
		}
	})
}

func TestFeatures(t *testing.T) {
	everyWay(t, nil, func(t *testing.T, _ *mcptest.Server, c *mcp.ClientSession) {
		t.Helper()
		res, err := c.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: mcptest.BlobURI})
		if err != nil || len(res.Contents) != 1 || string(res.Contents[0].Blob) != "\x00\x01\xfe\xff" {
			t.Errorf("blob: %v, %+v", err, res)
		}
		res, err = c.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "mcptest://item/7"})
		if err != nil || res.Contents[0].Text != "item 7" {
			t.Errorf("item: %v, %+v", err, res)
		}
		if _, err := c.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "mcptest://item/missing"}); err == nil {
			t.Error("a missing item was read")
		}
		p, err := c.GetPrompt(t.Context(), &mcp.GetPromptParams{Name: mcptest.Prompt, Arguments: map[string]string{"name": "Ada"}})
		if err != nil || p.Messages[0].Content.(*mcp.TextContent).Text != "Greet Ada" {
			t.Errorf("prompt: %v, %+v", err, p)
		}
		for _, test := range []struct {
			ref      mcp.CompleteReference
			argument string
			want     []string
		}{
			{mcp.CompleteReference{Type: "ref/prompt", Name: mcptest.Prompt}, "style", []string{"formal", "friendly"}},
			{mcp.CompleteReference{Type: "ref/resource", URI: mcptest.ItemTemplate}, "id", []string{}},
		} {
			got, err := c.Complete(t.Context(), &mcp.CompleteParams{Ref: &test.ref, Argument: mcp.CompleteParamsArgument{Name: test.argument, Value: "f"}})
			if err != nil {
				t.Error(err)
			} else if diff := cmp.Diff(test.want, got.Completion.Values); diff != "" {
				t.Error(diff)
			}
		}
	})
}

func TestOptions(t *testing.T) {
	s := mcptest.NewServer(t, mcptest.Options{
		Name: "small", Prefix: "p_", Only: []string{"echo", "fail"}, More: 2, Bare: true, Revisions: []string{"2025-06-18"}, Instructions: "Be kind.",
	})
	c := mcptest.Connect(t, s.Memory(t), "2025-11-25", nil)
	init := c.InitializeResult()
	if init.ServerInfo.Name != "small" || init.Instructions != "Be kind." || init.ProtocolVersion != "2025-06-18" || init.Capabilities.Resources != nil {
		t.Errorf("%+v", init)
	}
	var names []string
	for tool, err := range c.Tools(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, tool.Name)
	}
	if diff := cmp.Diff([]string{"p_echo", "p_fail", "p_more_0000", "p_more_0001"}, names); diff != "" {
		t.Error(diff)
	}
	mcptest.Call(t, c, "p_more_0001", nil, nil)
	if s.Calls("more_0001") != 1 {
		t.Error("the call was not counted without its prefix")
	}
}

func TestEndpointFaults(t *testing.T) {
	s := mcptest.NewServer(t, mcptest.Options{})
	e := s.HTTP(t)
	c := e.Client(t, "2025-11-25", nil)
	echo := func() error {
		_, err := c.CallTool(t.Context(), &mcp.CallToolParams{Name: "echo"})
		return err
	}
	if err := echo(); err != nil {
		t.Fatal(err)
	}
	if last := e.Requests()[len(e.Requests())-1]; last.Method != http.MethodPost || last.Header.Get("Mcp-Session-Id") == "" || !strings.Contains(last.Body, `"echo"`) {
		t.Errorf("recorded %+v", last)
	}
	e.Fail(mcptest.Status(http.StatusServiceUnavailable, "busy", "Retry-After: 7"), mcptest.Abort)
	if err := echo(); err == nil || !strings.Contains(err.Error(), "Service Unavailable") {
		t.Errorf("status: %v", err)
	}
	if err := echo(); err == nil {
		t.Error("an aborted request succeeded")
	}
	if err := echo(); err != nil {
		t.Errorf("after the faults: %v", err)
	}
	e.Stop()
	if err := echo(); err == nil {
		t.Error("a stopped endpoint answered")
	}
	e.Start()
	if err := echo(); err != nil {
		t.Errorf("the session did not survive: %v", err)
	}
	e.Forget()
	if err := echo(); !errors.Is(err, mcp.ErrSessionMissing) {
		t.Errorf("forgotten session: %v", err)
	}
	if got := s.Calls("echo"); got != 3 {
		t.Errorf("%d calls arrived, want 3", got)
	}
}

func TestNowhere(t *testing.T) {
	get := func(ctx context.Context, url string) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			res.Body.Close()
		}
		return err
	}
	if err := get(t.Context(), mcptest.Refusing(t)); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("refusing: %v", err)
	}
	h := mcptest.Hanging(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- get(ctx, h.URL) }()
	for h.Accepted() == 0 {
		select {
		case err := <-done:
			t.Fatalf("hanging: %v", err)
		default:
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("hanging: %v", err)
	}
	for _, kind := range []mcptest.Nonsense{mcptest.NotHTTP, mcptest.NotJSON, mcptest.HTML, mcptest.BrokenSSE, mcptest.Truncated, mcptest.WrongShape} {
		url := mcptest.Garbage(t, kind)
		if err := get(t.Context(), url); (err != nil) != (kind == mcptest.NotHTTP) {
			t.Errorf("%.20q: %v", kind, err)
		}
		_, err := mcp.NewClient(&mcp.Implementation{Name: "c"}, nil).Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: url, MaxRetries: -1}, nil)
		if err == nil {
			t.Errorf("%.20q: a client connected", kind)
		}
	}
}

func TestScript(t *testing.T) {
	s := mcptest.Script{
		"tools/call exact": mcptest.Result(`{"content":[],"structuredContent":{"n":18446744073709551616,"x":1.0}}`),
		"tools/call two": func(x *mcptest.Exchange) {
			x.Send(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}`)
			x.Error(`{"code":-1,"message":"no"}`)
		},
		"tools/call never": mcptest.Never,
	}
	modern := mcptest.Script{
		"server/discover":  mcptest.Discover,
		"tools/call exact": mcptest.Result(`{"resultType":"complete","content":[],"structuredContent":{"n":1}}`),
	}
	for name, e := range map[string]*mcptest.Endpoint{"events": s.HTTP(t), "JSON": s.JSON(t), "modern": modern.HTTP(t)} {
		t.Run(name, func(t *testing.T) {
			c := e.Client(t, "", nil)
			want := "2025-11-25"
			if name == "modern" {
				want = "2026-07-28"
			}
			if got := c.InitializeResult().ProtocolVersion; got != want {
				t.Errorf("revision %s, want %s", got, want)
			}
			if _, err := c.CallTool(t.Context(), &mcp.CallToolParams{Name: "exact"}); err != nil {
				t.Error(err)
			}
		})
	}
	c := s.HTTP(t).Client(t, "2025-11-25", nil)
	if _, err := c.CallTool(t.Context(), &mcp.CallToolParams{Name: "two"}); err == nil || !strings.Contains(err.Error(), "no") {
		t.Errorf("two messages: %v", err)
	}
	tools, err := c.ListTools(t.Context(), nil)
	if err != nil || len(tools.Tools) != 0 {
		t.Errorf("%v %v", tools, err)
	}
}

func TestHostileNamesAreComplete(t *testing.T) {
	s := mcptest.Hostile("")
	var names []string
	for key := range s {
		if tool, ok := strings.CutPrefix(key, "tools/call "); ok {
			names = append(names, tool)
		}
	}
	slices.Sort(names)
	if diff := cmp.Diff(mcptest.HostileNames, names); diff != "" {
		t.Error(diff)
	}
}
