// Package builtin holds MCP servers that run inside the gateway's process. Each is a complete server made with the official SDK;
// the gateway talks to it as to any other, over an in-memory stream.
package builtin

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Config is what a built-in server may know.
type Config struct {
	Version string // of the gateway, reported as the server's own
}

// servers maps each preset to its constructor.
var servers = map[string]func(Config) (*mcp.Server, error){
	"host": newHost,
}

// Names returns the presets there are, sorted.
func Names() []string { return slices.Sorted(maps.Keys(servers)) }

// New returns a new server of the preset. Servers share nothing, so each may be closed without regard to others. A panic in a
// handler becomes an error of that one request: the SDK would let it end the process.
func New(preset string, cfg Config) (*mcp.Server, error) {
	construct, ok := servers[preset]
	if !ok {
		return nil, fmt.Errorf("no built-in server %q (there is: %s)", preset, strings.Join(Names(), ", "))
	}
	s, err := construct(cfg)
	if err != nil {
		return nil, fmt.Errorf("built-in server %q: %w", preset, err)
	}
	s.AddReceivingMiddleware(protect)
	return s, nil
}

// protect is a middleware that keeps one request from ending the process.
func protect(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, req mcp.Request) (res mcp.Result, err error) {
		defer func() {
			if p := recover(); p != nil {
				res, err = nil, &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: fmt.Sprintf("%s: internal error: %v", method, p)}
			}
		}()
		// Some clients write null for no arguments. SDK 1.8.0 panics on it where the schema has a default (applySchema).
		if p, ok := req.GetParams().(*mcp.CallToolParamsRaw); ok && p != nil && string(p.Arguments) == "null" {
			p.Arguments = nil
		}
		return next(ctx, method, req)
	}
}
