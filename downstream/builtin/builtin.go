// Package builtin holds MCP servers that run inside the gateway's process. Each is a complete server made with the official SDK;
// the gateway talks to it as to any other, over an in-memory stream.
package builtin

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/downstream/builtin/idrac"
	idracsim "github.com/mcpgw/mcpgw/downstream/builtin/idrac/sim"
	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
	"github.com/mcpgw/mcpgw/downstream/builtin/lab"
	"github.com/mcpgw/mcpgw/downstream/builtin/llm"
	llmsim "github.com/mcpgw/mcpgw/downstream/builtin/llm/sim"
	"github.com/mcpgw/mcpgw/downstream/builtin/pfsense"
	pfsensesim "github.com/mcpgw/mcpgw/downstream/builtin/pfsense/sim"
	"github.com/mcpgw/mcpgw/downstream/builtin/prometheus"
	"github.com/mcpgw/mcpgw/downstream/builtin/proxmox"
	proxmoxsim "github.com/mcpgw/mcpgw/downstream/builtin/proxmox/sim"
	"github.com/mcpgw/mcpgw/downstream/builtin/rest"
	"github.com/mcpgw/mcpgw/downstream/builtin/truenas"
	truenassim "github.com/mcpgw/mcpgw/downstream/builtin/truenas/sim"
)

// Config is what a built-in server may know.
type Config struct {
	kit.Config
	Lab *lab.Lab // where the simulators run; nil where there are none
}

// preset is one kind of built-in server.
type preset struct {
	// host is set by presets that need no system behind them.
	host func(Config) (*mcp.Server, error)
	// system makes a server in front of a system at Config.URL.
	system func(kit.Config) (*kit.Server, error)
	// simulate makes a simulator of the system, for "url: lab"; nil where there is none.
	simulate func() http.Handler
}

// presets are the built-in servers.
var presets = map[string]preset{
	"host":       {host: newHost},
	"http":       {system: rest.New},
	"idrac":      {system: idrac.New, simulate: idracsim.New},
	"openapi":    {system: rest.NewOpenAPI},
	"llm":        {system: llm.New, simulate: llmsim.New},
	"pfsense":    {system: pfsense.New, simulate: pfsensesim.New},
	"prometheus": {system: prometheus.New},
	"proxmox":    {system: proxmox.New, simulate: proxmoxsim.New},
	"truenas":    {system: truenas.New, simulate: truenassim.New},
}

// Names returns the presets there are, sorted.
func Names() []string { return slices.Sorted(maps.Keys(presets)) }

// NeedsURL reports whether a preset talks to a system at an address.
func NeedsURL(name string) bool { return presets[name].system != nil }

// HasLab reports whether there is a simulator for a preset.
func HasLab(name string) bool { return presets[name].simulate != nil }

// Server is a built-in server in use.
type Server struct {
	MCP   *mcp.Server
	close func(context.Context) error
}

// Close gives back what the server holds of its system, such as a session. It is called once, after the last call.
func (s *Server) Close(ctx context.Context) error {
	if s.close == nil {
		return nil
	}
	return s.close(ctx)
}

// New returns a new server of the preset. Servers share nothing, so each may be closed without regard to others. A panic in a
// handler becomes an error of that one request: the SDK would let it end the process.
func New(name string, cfg Config) (*Server, error) {
	p, ok := presets[name]
	if !ok {
		return nil, fmt.Errorf("no built-in server %q (there is: %s)", name, strings.Join(Names(), ", "))
	}
	s, err := p.server(name, cfg)
	if err != nil {
		return nil, fmt.Errorf("built-in server %q: %w", name, err)
	}
	s.MCP.AddReceivingMiddleware(protect)
	return s, nil
}

func (p *preset) server(name string, cfg Config) (*Server, error) {
	if p.host != nil {
		s, err := p.host(cfg)
		return &Server{MCP: s}, err
	}
	if cfg.URL == lab.URL {
		if p.simulate == nil || cfg.Lab == nil {
			return nil, fmt.Errorf("url: there is no simulator of a %s", name)
		}
		system, err := cfg.Lab.Start(cfg.Name, name, p.simulate)
		if err != nil {
			return nil, err
		}
		cfg.URL, cfg.Simulated = system.URL(), true
		cfg.Token, cfg.Username, cfg.Password = lab.Credential, lab.Credential, lab.Credential
	}
	s, err := p.system(cfg.Config)
	if err != nil {
		return nil, err
	}
	return &Server{MCP: s.MCP(), close: s.Close}, nil
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
