package kit

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Server is a built-in MCP server under construction, and then in use.
type Server struct {
	cfg     Config
	mcp     *mcp.Server
	probe   func(context.Context) error
	open    func(context.Context) error
	mu      sync.Mutex
	closers []func(context.Context) error // guarded by mu
}

// NewServer returns a server without tools. title and instructions are for people and models.
func NewServer(cfg Config, name, title, instructions string) *Server {
	if cfg.Simulated {
		instructions += " At the moment this is a simulated system of the built-in lab: nothing here is real."
		title += " (simulated)"
	}
	s := &Server{cfg: cfg, mcp: mcp.NewServer(&mcp.Implementation{Name: "mcpgw-" + name, Title: title, Version: cfg.Version}, &mcp.ServerOptions{
		Instructions: instructions,
		// Without this the SDK declares the logging capability. Nothing is logged and the tools never change.
		Capabilities: &mcp.ServerCapabilities{Tools: &mcp.ToolCapabilities{}},
	})}
	s.mcp.AddReceivingMiddleware(s.health)
	return s
}

// MCP returns the server as the SDK knows it.
func (s *Server) MCP() *mcp.Server { return s.mcp }

// OnPing makes the server answer ping only if probe succeeds: a cheap question to the system that changes nothing. It is how the gateway
// finds out that a system is back (circuit_breaker.probe).
func (s *Server) OnPing(probe func(context.Context) error) { s.probe = probe }

// OnOpen has a session begin only after f has succeeded, such as in finding out which tools there are. It is called at the first request of
// each session, and again after a failure.
func (s *Server) OnOpen(f func(context.Context) error) { s.open = f }

// OnClose has f called when the server is no longer used, such as to give back a session.
func (s *Server) OnClose(f func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closers = append(s.closers, f)
}

// Close gives back what the server holds. It is called once, after the last call has ended.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	closers := s.closers
	s.closers = nil
	s.mu.Unlock()
	var first error
	for _, end := range slices.Backward(closers) {
		if err := end(ctx); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// health is a middleware that asks the system behind the server on ping.
func (s *Server) health(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
		if s.open != nil && (method == "initialize" || method == "server/discover" || method == "tools/list") {
			if err := s.open(ctx); err != nil {
				if failed, ok := wireError(ctx, err); ok {
					return nil, failed
				}
				return nil, &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: err.Error()}
			}
		}
		if method == "ping" && s.probe != nil {
			if err := s.probe(ctx); err != nil {
				if failed, ok := wireError(ctx, err); ok {
					return nil, failed
				}
				return nil, &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: fmt.Sprintf("the system does not work: %v", err)}
			}
		}
		return next(ctx, method, req)
	}
}
