package mcptest

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Endpoint serves HTTP on loopback until the test ends. Its methods may be called at the same time, but Stop and Start only by the test.
type Endpoint struct {
	URL string

	tb    testing.TB
	addr  string
	fresh func() http.Handler

	mu       sync.Mutex
	server   *httptest.Server // nil while stopped; guarded by mu, as all below
	handler  http.Handler
	requests []Request
	faults   []http.HandlerFunc
}

// Request is one HTTP request that an endpoint received.
type Request struct {
	Method string
	Header http.Header
	Body   string
}

// HTTP serves s over streamable HTTP with sessions, for clients of the revisions up to 2025-11-25.
func (s *Server) HTTP(tb testing.TB) *Endpoint {
	tb.Helper()
	return s.streamable(tb, &mcp.StreamableHTTPOptions{})
}

// Modern serves s over streamable HTTP without sessions, as revision 2026-07-28 wants it.
func (s *Server) Modern(tb testing.TB) *Endpoint {
	tb.Helper()
	return s.streamable(tb, &mcp.StreamableHTTPOptions{Stateless: true, PropagateRequestCancellation: true})
}

func (s *Server) streamable(tb testing.TB, o *mcp.StreamableHTTPOptions) *Endpoint {
	tb.Helper()
	return Serve(tb, func() http.Handler {
		return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s.Server }, o)
	})
}

// SSE serves s over the two HTTP endpoints of revision 2024-11-05.
func (s *Server) SSE(tb testing.TB) *Endpoint {
	tb.Helper()
	return Serve(tb, func() http.Handler {
		return mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return s.Server }, nil)
	})
}

// Memory serves s in memory and returns the client's end.
func (s *Server) Memory(tb testing.TB) mcp.Transport {
	tb.Helper()
	there, here := mcp.NewInMemoryTransports()
	if _, err := s.Connect(tb.Context(), there, nil); err != nil {
		tb.Fatalf("mcptest: connecting in memory: %v", err)
	}
	return here
}

// Serve serves what fresh returns at some address of loopback, under any path.
func Serve(tb testing.TB, fresh func() http.Handler) *Endpoint {
	tb.Helper()
	e := &Endpoint{tb: tb, fresh: fresh, handler: fresh(), addr: "127.0.0.1:0"}
	e.Start()
	e.URL = "http://" + e.addr + "/mcp"
	tb.Cleanup(e.Stop)
	return e
}

// Start listens again at the same address after Stop.
func (e *Endpoint) Start() {
	e.tb.Helper()
	var lc net.ListenConfig
	// What has just used the port may not be quite gone.
	deadline := time.Now().Add(Patience)
	l, err := lc.Listen(e.tb.Context(), "tcp", e.addr)
	for err != nil && time.Now().Before(deadline) {
		<-time.After(10 * time.Millisecond)
		l, err = lc.Listen(e.tb.Context(), "tcp", e.addr)
	}
	if err != nil {
		e.tb.Fatalf("mcptest: listening at %s: %v", e.addr, err)
	}
	e.addr = l.Addr().String()
	server := httptest.NewUnstartedServer(e)
	_ = server.Listener.Close()
	server.Listener = l
	e.mu.Lock()
	e.server = server
	e.mu.Unlock()
	server.Start()
}

// Stop breaks all connections and refuses new ones. Sessions live on, as they do when only the network fails.
func (e *Endpoint) Stop() {
	e.mu.Lock()
	server := e.server
	e.server = nil
	e.mu.Unlock()
	if server != nil {
		_ = server.Listener.Close()
		server.CloseClientConnections()
		server.Close()
	}
}

// Cut breaks all connections, and accepts new ones.
func (e *Endpoint) Cut() {
	e.mu.Lock()
	server := e.server
	e.mu.Unlock()
	if server != nil {
		server.CloseClientConnections()
	}
}

// Forget makes a new handler of the server, which does not know the sessions so far, as after a restart.
func (e *Endpoint) Forget() {
	h := e.fresh()
	e.mu.Lock()
	e.handler = h
	e.mu.Unlock()
}

// Fail answers the next requests with these faults, one each. Among them are [Status] and whatever a test can write.
func (e *Endpoint) Fail(faults ...http.HandlerFunc) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.faults = append(e.faults, faults...)
}

// Status is a fault that answers with an HTTP status, the headers given as "Name: value", and a body.
func Status(code int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for _, h := range header {
			name, value, _ := strings.Cut(h, ":")
			w.Header().Set(name, strings.TrimSpace(value))
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

// Abort is a fault that breaks the connection after the request was read.
func Abort(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// Requests returns what has come so far.
func (e *Endpoint) Requests() []Request {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]Request(nil), e.requests...)
}

// ServeHTTP implements http.Handler.
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	e.mu.Lock()
	e.requests = append(e.requests, Request{Method: r.Method, Header: r.Header.Clone(), Body: string(body)})
	h := e.handler
	if len(e.faults) > 0 {
		h, e.faults = e.faults[0], e.faults[1:]
	}
	e.mu.Unlock()
	h.ServeHTTP(w, r)
}
