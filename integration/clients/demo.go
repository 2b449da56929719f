package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// demo is a server behind the gateway that tells what became of the calls to its tool hang.
type demo struct {
	url string
	srv *httptest.Server

	mu    sync.Mutex // guards hangs
	hangs map[string]*hang
}

// hang is one call that waits to be cancelled.
type hang struct {
	begun, ended chan struct{}
}

// startDemo starts a server over HTTP, for 2026-07-28 alone or for older revisions with sessions.
func startDemo(modern bool) *demo {
	d := &demo{hangs: map[string]*hang{}}
	s := mcp.NewServer(&mcp.Implementation{Name: "demo", Version: "1.0.0"}, nil)
	no := false
	reading := &mcp.ToolAnnotations{ReadOnlyHint: true, DestructiveHint: &no, IdempotentHint: true, OpenWorldHint: &no}
	for _, t := range []struct {
		name, description, properties string
		handle                        mcp.ToolHandler
	}{
		{"hello", "Greets.", `"name":{"type":"string"}`, hello},
		{"steps", "Works for some seconds and tells its progress.", `"seconds":{"type":"integer"},"every":{"type":"integer"}`, steps},
		{"silent", "Works for some seconds and says nothing.", `"seconds":{"type":"integer"}`, steps},
		{"hang", "Works until it is cancelled.", `"id":{"type":"string"}`, d.hang},
	} {
		s.AddTool(&mcp.Tool{
			Name: t.name, Description: t.description, Annotations: reading,
			InputSchema: json.RawMessage(`{"type":"object","properties":{` + t.properties + `}}`),
		}, t.handle)
	}
	h := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{
		Stateless: modern, PropagateRequestCancellation: true, // a stream that closes ends the call
	})
	d.srv = httptest.NewServer(h)
	d.url = d.srv.URL
	return d
}

func (d *demo) close() {
	d.srv.CloseClientConnections()
	d.srv.Close()
}

// hanging returns the record of the call that carries id, which need not have come yet.
func (d *demo) hanging(id string) *hang {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hangs[id] == nil {
		d.hangs[id] = &hang{begun: make(chan struct{}), ended: make(chan struct{})}
	}
	return d.hangs[id]
}

func (d *demo) hang(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	var a struct{ ID string }
	if err := json.Unmarshal(r.Params.Arguments, &a); err != nil {
		return nil, fmt.Errorf("arguments: %w", err)
	}
	h := d.hanging(a.ID)
	close(h.begun) // a second call with the same id would be a repetition, which must not be: it panics
	<-ctx.Done()
	close(h.ended)
	return nil, context.Cause(ctx)
}

func hello(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	var a struct{ Name string }
	if err := json.Unmarshal(r.Params.Arguments, &a); err != nil {
		return nil, fmt.Errorf("arguments: %w", err)
	}
	return say("greetings, %s, from behind the gateway", a.Name), nil
}

// steps works for some seconds. With "every" it tells its progress that often.
func steps(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	var a struct{ Seconds, Every int }
	if err := json.Unmarshal(r.Params.Arguments, &a); err != nil {
		return nil, fmt.Errorf("arguments: %w", err)
	}
	every := time.Duration(a.Seconds) * time.Second
	if a.Every > 0 {
		every = time.Duration(a.Every) * time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	done := time.After(time.Duration(a.Seconds) * time.Second)
	token := r.Params.GetProgressToken()
	for n := 1; ; n++ {
		select {
		case <-done:
			return say("the long work is done after %d s", a.Seconds), nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-tick.C:
			if token == nil || a.Every == 0 {
				continue
			}
			p := &mcp.ProgressNotificationParams{ProgressToken: token, Progress: float64(n * a.Every), Total: float64(a.Seconds), Message: fmt.Sprintf("step %d", n)}
			if err := r.Session.NotifyProgress(ctx, p); err != nil {
				return nil, fmt.Errorf("sending progress: %w", err)
			}
		}
	}
}

func say(format string, args ...any) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprintf(format, args...)}}}
}

// rig is a gateway with three servers behind it: demo speaks 2026-07-28, old an earlier revision, and broken listed its tools and then
// went away for good, so that its circuit is open.
type rig struct {
	demo, old *demo
	gw        *harness.Server
	url       string
}

const rigFile = `gateway: { listen: LISTEN }
downstreams:
  demo: { url: '%s', resilience: { timeouts: { attempt: 4m, overall: 4m } } }
  old: { url: '%s', resilience: { timeouts: { attempt: 4m, overall: 4m } } }
  broken:
    url: '%s'
    resilience: { retry: { enabled: false }, circuit_breaker: { failure_threshold: 1, timeout: 30m, max_timeout: 30m } }
`

func startRig(ctx context.Context, program, dir string) (_ *rig, err error) {
	r := &rig{demo: startDemo(true), old: startDemo(false)}
	broken := startDemo(true)
	defer func() {
		broken.close()
		if err != nil {
			r.close()
		}
	}()
	r.gw, err = harness.StartGateway(ctx, program, dir, fmt.Sprintf(rigFile, r.demo.url, r.old.url, broken.url))
	if err != nil {
		return nil, err
	}
	r.url = "http://" + r.gw.Addr + "/mcp"
	c := harness.Client{URL: r.url, Modern: true}
	wait, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err = r.gw.Until(wait, "the tools of the demonstration servers", func() error {
		list, err := c.Request(wait, "tools/list", "", c.Params("", ""))
		if err != nil {
			return err
		}
		for _, name := range []string{`"demo__hello"`, `"old__hello"`, `"broken__hello"`} {
			if !strings.Contains(string(list), name) {
				return fmt.Errorf("no tool %s yet", name)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	broken.close()
	return r, r.gw.Until(wait, "the open circuit", func() error {
		res, err := c.Request(wait, "tools/call", "broken__hello", c.Params(`"name":"broken__hello","arguments":{"name":"x"}`, ""))
		if err == nil && !strings.Contains(string(res), "circuit") {
			err = fmt.Errorf("the circuit is not open yet: %s", res)
		}
		return err
	})
}

func (r *rig) close() {
	if r.gw != nil {
		r.gw.Kill()
	}
	r.demo.close()
	r.old.close()
}

// listening is a server of this program on loopback.
func listening(ctx context.Context, h http.Handler) (url string, stop func(), err error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("listening on loopback: %w", err)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	go func() { _ = s.Serve(l) }() // ends with stop
	return "http://" + l.Addr().String(), func() { _ = s.Close() }, nil
}
