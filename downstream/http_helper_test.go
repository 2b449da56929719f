package downstream

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// httpConfig returns the configuration of a server at url, with times that suit a test.
func httpConfig(url string) *Config {
	cfg := DefaultConfig()
	cfg.URL = url
	cfg.Restart.InitialDelay = time.Millisecond
	cfg.Restart.MaxDelay = 20 * time.Millisecond
	cfg.Timeouts.Close = 2 * time.Second
	return &cfg
}

func newTestHTTPOpener(t testing.TB, cfg *Config) *httpOpener {
	t.Helper()
	o, err := newHTTPOpener("test", cfg, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})), "1.0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.close)
	h := o.(*httpOpener)
	h.client.transport.Proxy = nil // that of the machine has nothing to do with the test
	return h
}

// openHTTP opens a link that is closed with the test.
func openHTTP(t testing.TB, cfg *Config, o opening) link {
	t.Helper()
	return openWith(t, newTestHTTPOpener(t, cfg), o)
}

func openWith(t testing.TB, h *httpOpener, o opening) link {
	t.Helper()
	if o.upcalls == nil {
		o.upcalls = newRecorder(t)
	}
	l, err := h.open(t.Context(), o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		l.close(ctx)
	})
	return l
}

// recorder is a Stream that keeps what it was told.
type recorder struct {
	t      testing.TB
	answer func(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error)

	mu    sync.Mutex
	heard []string // method and params
	news  chan struct{}
}

func newRecorder(t testing.TB) *recorder { return &recorder{t: t, news: make(chan struct{}, 1)} }

func (r *recorder) Notify(method string, params json.RawMessage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard = append(r.heard, method+" "+string(params))
	select {
	case r.news <- struct{}{}:
	default:
	}
}

func (r *recorder) Request(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error) {
	if r.answer == nil {
		return nil, wire.Errorf(wire.CodeMethodNotFound, "no %s here", method)
	}
	return r.answer(ctx, method, params)
}

func (r *recorder) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.heard)
}

// waitFor waits until something was heard that starts with prefix.
func (r *recorder) waitFor(prefix string) {
	r.t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		for _, s := range r.all() {
			if strings.HasPrefix(s, prefix) {
				return
			}
		}
		select {
		case <-r.news:
		case <-timeout:
			r.t.Fatalf("nothing that starts with %q; heard: %q", prefix, r.all())
		}
	}
}

// eventually waits until ok is true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	timeout := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("not in time: %s", what)
		}
	}
}

func toolCall(name, arguments, meta string) *Call {
	params := `{"name":` + strconv.Quote(name) + `,"arguments":` + arguments
	if meta != "" {
		params += `,"_meta":` + meta
	}
	return &Call{Method: "tools/call", Params: json.RawMessage(params + "}"), Target: name}
}

// sdkServer is a real server with tools that do what a gateway has to cope with.
type sdkServer struct {
	*mcp.Server
	cancelled chan struct{} // a "wait" tool was cancelled
	waiting   chan struct{} // a "wait" tool began
}

func newSDKServer() *sdkServer {
	s := &sdkServer{cancelled: make(chan struct{}, 100), waiting: make(chan struct{}, 100)}
	s.Server = mcp.NewServer(&mcp.Implementation{Name: "sdk", Version: "1"}, &mcp.ServerOptions{
		SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
	})
	text := func(s string) *mcp.CallToolResult {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: s}}}
	}
	schema := json.RawMessage(`{"type":"object"}`)
	add := func(name string, f func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error)) {
		s.AddTool(&mcp.Tool{Name: name, InputSchema: schema}, f)
	}
	add("echo", func(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return text(string(r.Params.Arguments)), nil
	})
	add("progress", func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		var args struct{ N int }
		if err := json.Unmarshal(r.Params.Arguments, &args); err != nil {
			return nil, err
		}
		for i := range args.N {
			err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(), Progress: float64(i + 1)})
			if err != nil {
				return nil, err
			}
		}
		return text("done"), nil
	})
	add("ask", func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		got, err := r.Session.Elicit(ctx, &mcp.ElicitParams{Message: "name?", RequestedSchema: json.RawMessage(`{"type":"object","properties":{}}`)})
		if err != nil {
			return nil, err
		}
		return text(got.Action), nil
	})
	add("wait", func(ctx context.Context, _ *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		s.waiting <- struct{}{}
		<-ctx.Done()
		s.cancelled <- struct{}{}
		return nil, ctx.Err()
	})
	s.AddResource(&mcp.Resource{URI: "test://r", Name: "r"}, func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: "test://r", Text: "x"}}}, nil
	})
	return s
}

// The two ways in which the SDK serves streamable HTTP.
var sdkEras = []struct {
	name     string
	opts     mcp.StreamableHTTPOptions
	revision string
}{
	{"legacy", mcp.StreamableHTTPOptions{}, Legacy},
	{"legacy JSON", mcp.StreamableHTTPOptions{JSONResponse: true}, Legacy},
	{"modern", mcp.StreamableHTTPOptions{Stateless: true}, Modern},
	{"modern JSON", mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true}, Modern},
}

// serve starts an HTTP server that counts the connections opened to it.
func serve(t testing.TB, h http.Handler) (url string, connections func() int) {
	t.Helper()
	var mu sync.Mutex
	n := 0
	s := httptest.NewUnstartedServer(h)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			mu.Lock()
			defer mu.Unlock()
			n++
		}
	}
	s.Start()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL, func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

func (s *sdkServer) serve(t testing.TB, opts mcp.StreamableHTTPOptions) (url string, connections func() int) {
	return serve(t, mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s.Server }, &opts))
}

func asError[T error](err error, target *T) bool {
	e, ok := errors.AsType[T](err)
	if ok {
		*target = e
	}
	return ok
}

// drainRequest reads a request's body, as a server that answers does.
func drainRequest(r *http.Request) []byte {
	b, _ := io.ReadAll(r.Body)
	return b
}
