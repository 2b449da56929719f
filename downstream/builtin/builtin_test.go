package builtin

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
	"github.com/mcpgw/mcpgw/downstream/builtin/lab"
)

func TestNames(t *testing.T) {
	if diff := cmp.Diff([]string{"host", "http", "idrac", "llm", "openapi", "pfsense", "prometheus", "proxmox", "truenas"}, Names()); diff != "" {
		t.Error(diff)
	}
	systems := lab.New()
	defer systems.Close()
	for _, name := range Names() {
		var cfg Config
		switch {
		case HasLab(name):
			cfg.URL, cfg.Lab = lab.URL, systems
		case NeedsURL(name):
			cfg.URL = "https://192.0.2.1"
		}
		switch name {
		case "http":
			cfg.Options = &HTTP{Tools: []HTTPTool{{Name: "x", Description: "x", Method: "GET", Path: "/x"}}}
		case "openapi":
			cfg.Options = &OpenAPI{Document: "https://192.0.2.1/x", Include: []string{"*"}, MaxTools: 1}
		}
		if _, err := New(name, cfg); err != nil {
			t.Error(err)
		}
	}
	_, err := New("toaster", Config{})
	if err == nil || err.Error() != `no built-in server "toaster" (there is: `+strings.Join(Names(), ", ")+`)` {
		t.Errorf("got %v", err)
	}
}

// The gateway talks to a built-in server over a stream, in both eras.
func TestServeOverStream(t *testing.T) {
	for _, revision := range []string{"2024-11-05", "2025-11-25", "2026-07-28"} {
		t.Run(revision, func(t *testing.T) {
			server, err := New("host", Config{Config: kit.Config{Version: "1"}})
			if err != nil {
				t.Fatal(err)
			}
			toServer, fromClient := io.Pipe()
			toClient, fromServer := io.Pipe()
			done := make(chan error, 1)
			go func() { done <- server.MCP.Run(t.Context(), &mcp.IOTransport{Reader: toServer, Writer: fromServer}) }()
			c, err := mcp.NewClient(&mcp.Implementation{Name: "test"}, nil).
				Connect(t.Context(), &mcp.IOTransport{Reader: toClient, Writer: fromClient}, &mcp.ClientSessionOptions{ProtocolVersion: revision})
			if err != nil {
				t.Fatal(err)
			}
			if got := c.InitializeResult().ProtocolVersion; got != revision {
				t.Errorf("negotiated %s", got)
			}
			if got := call(t, c, "memory", nil); got.isError {
				t.Error(got.text)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			if err := <-done; err != nil {
				t.Errorf("the server ended with %v", err)
			}
		})
	}
}

func TestPanicIsAnError(t *testing.T) {
	presets["panics"] = preset{host: func(Config) (*mcp.Server, error) {
		s := mcp.NewServer(&mcp.Implementation{Name: "panics"}, nil)
		mcp.AddTool(s, &mcp.Tool{Name: "now"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
			panic("at the disco")
		})
		return s, nil
	}}
	defer delete(presets, "panics")
	server, err := New("panics", Config{})
	if err != nil {
		t.Fatal(err)
	}
	c := connectTo(t, server.MCP, "")
	_, err = c.CallTool(t.Context(), &mcp.CallToolParams{Name: "now"})
	if err == nil || !strings.Contains(err.Error(), "tools/call: internal error: at the disco") {
		t.Errorf("got %v", err)
	}
	if _, err := c.ListTools(t.Context(), nil); err != nil {
		t.Errorf("after the panic: %v", err)
	}
}

// The SDK panics on this when a parameter has a default.
func TestNullArgumentsAreNone(t *testing.T) {
	c := connect(t, nil, "")
	for _, args := range []any{nil, json.RawMessage("null"), map[string]any(nil), map[string]any{}} {
		res, err := c.CallTool(t.Context(), &mcp.CallToolParams{Name: "temperatures", Arguments: args})
		if err != nil || res.IsError {
			t.Errorf("%#v: %v %+v", args, err, res)
		}
	}
}
