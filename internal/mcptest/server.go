package mcptest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Patience is how long the Await methods wait before the test fails.
const Patience = 10 * time.Second

// Options says what a server is like. The zero value is a server with everything.
type Options struct {
	Name         string // "mcptest" if empty
	Instructions string
	Prefix       string                  // put before the name of each tool
	Only         []string                // names of the tools to have, without Prefix; nil for all, empty for none
	More         int                     // further tools more_0000, more_0001, …, each as echo
	Bare         bool                    // no resources, prompts or completion
	PageSize     int                     // of the lists; 0 for the SDK's
	Capabilities *mcp.ServerCapabilities // nil for what the SDK infers, with logging
	Revisions    []string                // protocol revisions to speak; nil for all
}

// Server is an SDK server that counts what happens to it. Its methods may be called at the same time.
type Server struct {
	*mcp.Server

	opts Options

	mu         sync.Mutex
	changed    chan struct{}  // closed and replaced whenever a count changes; guarded by mu, as all below
	methods    map[string]int // requests and notifications received
	calls      map[string]int // of tools, begun
	running    map[string]int // of tools, begun and not ended
	cancelled  map[string]int // of tools, whose context ended before they did
	subscribed map[string]int // sessions by URI
	gate       chan struct{}  // closed when slow may go on
	added      map[string]int // by the tool change
}

// NewServer returns a server that is not served anywhere yet. When the test ends, calls that wait are released and all sessions end.
func NewServer(tb testing.TB, o Options) *Server {
	tb.Helper()
	s := newServer(o)
	tb.Cleanup(s.shut)
	return s
}

func newServer(o Options) *Server {
	s := &Server{
		opts: o, changed: make(chan struct{}), gate: make(chan struct{}),
		methods: map[string]int{}, calls: map[string]int{}, running: map[string]int{}, cancelled: map[string]int{},
		subscribed: map[string]int{}, added: map[string]int{},
	}
	name := o.Name
	if name == "" {
		name = "mcptest"
	}
	so := &mcp.ServerOptions{
		Instructions: o.Instructions, PageSize: o.PageSize, Capabilities: o.Capabilities, SupportedProtocolVersions: o.Revisions,
	}
	if !o.Bare {
		so.CompletionHandler = complete
		so.SubscribeHandler = func(_ context.Context, r *mcp.SubscribeRequest) error {
			s.update(func() { s.subscribed[r.Params.URI]++ })
			return nil
		}
		so.UnsubscribeHandler = func(_ context.Context, r *mcp.UnsubscribeRequest) error {
			s.update(func() { s.subscribed[r.Params.URI]-- })
			return nil
		}
	}
	s.Server = mcp.NewServer(&mcp.Implementation{Name: name, Title: "A server for tests", Version: "1.0.0"}, so)
	s.addTools()
	if !o.Bare {
		s.addFeatures()
	}
	s.AddReceivingMiddleware(s.count)
	return s
}

// shut releases what waits and ends all sessions.
func (s *Server) shut() {
	s.Release()
	for ss := range s.Sessions() {
		_ = ss.Close()
	}
}

// Release lets the calls of the tool slow end that run now, and those to come. Hold undoes it.
func (s *Server) Release() {
	s.update(func() {
		select {
		case <-s.gate:
		default:
			close(s.gate)
		}
	})
}

// Hold makes further calls of the tool slow wait again.
func (s *Server) Hold() { s.update(func() { s.gate = make(chan struct{}) }) }

// Touch tells subscribers that the resource has changed.
func (s *Server) Touch(ctx context.Context, uri string) error {
	return s.ResourceUpdated(ctx, &mcp.ResourceUpdatedNotificationParams{URI: uri})
}

// Received returns how many requests or notifications of the method have come.
func (s *Server) Received(method string) int { return s.get(func() int { return s.methods[method] }) }

// Calls returns how many calls of the tool, named without the prefix, have begun.
func (s *Server) Calls(tool string) int { return s.get(func() int { return s.calls[tool] }) }

// Running returns how many calls of the tool have begun and not ended.
func (s *Server) Running(tool string) int { return s.get(func() int { return s.running[tool] }) }

// Cancelled returns how many calls of the tool were cancelled before they ended.
func (s *Server) Cancelled(tool string) int { return s.get(func() int { return s.cancelled[tool] }) }

// Subscribed returns how many sessions are subscribed to the resource.
func (s *Server) Subscribed(uri string) int { return s.get(func() int { return s.subscribed[uri] }) }

// AwaitReceived waits until at least n requests or notifications of the method have come.
func (s *Server) AwaitReceived(tb testing.TB, method string, n int) {
	tb.Helper()
	s.await(tb, fmt.Sprintf("%d × %s", n, method), func() bool { return s.methods[method] >= n })
}

// AwaitRunning waits until exactly n calls of the tool are running.
func (s *Server) AwaitRunning(tb testing.TB, tool string, n int) {
	tb.Helper()
	s.await(tb, fmt.Sprintf("%d running calls of %s", n, tool), func() bool { return s.running[tool] == n })
}

// AwaitCancelled waits until at least n calls of the tool have been cancelled.
func (s *Server) AwaitCancelled(tb testing.TB, tool string, n int) {
	tb.Helper()
	s.await(tb, fmt.Sprintf("%d cancelled calls of %s", n, tool), func() bool { return s.cancelled[tool] >= n })
}

// AwaitSubscribed waits until exactly n sessions are subscribed to the resource.
func (s *Server) AwaitSubscribed(tb testing.TB, uri string, n int) {
	tb.Helper()
	s.await(tb, fmt.Sprintf("%d subscriptions to %s", n, uri), func() bool { return s.subscribed[uri] == n })
}

// await waits until f, which is called with mu locked, reports true. It looks whenever a count has changed.
func (s *Server) await(tb testing.TB, what string, f func() bool) {
	tb.Helper()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	for {
		s.mu.Lock()
		ok, changed := f(), s.changed
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline.C:
			s.mu.Lock()
			defer s.mu.Unlock()
			tb.Fatalf("mcptest: waited %v in vain for %s; received %v, calls %v, running %v, cancelled %v, subscribed %v",
				Patience, what, s.methods, s.calls, s.running, s.cancelled, s.subscribed)
		}
	}
}

func (s *Server) update(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Server) get(f func() int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return f()
}

// count is the middleware that counts.
func (s *Server) count(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
		s.update(func() { s.methods[method]++ })
		p, ok := req.GetParams().(*mcp.CallToolParamsRaw)
		if !ok || p == nil {
			return next(ctx, method, req)
		}
		tool := p.Name
		if len(tool) >= len(s.opts.Prefix) {
			tool = tool[len(s.opts.Prefix):]
		}
		s.update(func() { s.calls[tool]++; s.running[tool]++ })
		defer s.update(func() {
			s.running[tool]--
			if ctx.Err() != nil {
				s.cancelled[tool]++
			}
		})
		return next(ctx, method, req)
	}
}

// has reports whether the server is to have the tool.
func (s *Server) has(tool string) bool {
	return s.opts.Only == nil || slices.Contains(s.opts.Only, tool)
}
