package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// TestStart starts the gateway as the README says, in the repository with its own gateway.yaml, and lists the tools of the machine within
// two seconds. Bar 10 of issue 2; the clients of others are in integration/clients.
func TestStart(t *testing.T) {
	t.Parallel()
	root, err := harness.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	addr, err := harness.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	bin := program(t, harness.Gateway)
	start := time.Now()
	gw, err := harness.StartHTTP(context.WithoutCancel(t.Context()), harness.Spec{
		Name: "mcpgw", Path: bin, Args: []string{"serve", "--listen", addr}, Dir: root,
		Env: append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, environment...),
	}, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := gw.Stop(20 * time.Second); err != nil {
			t.Errorf("the gateway did not end well: %v\n%s", err, gw.Log())
		}
	})
	c := connect(t, gw, "/mcp", false, "circuit_status")
	eventually(t, 10*time.Second, "a tool of the built-in server host", func() error {
		names, err := listed(t.Context(), c)
		if err != nil {
			return err
		}
		for name := range names {
			if strings.HasPrefix(name, "host__") {
				return nil
			}
		}
		return fmt.Errorf("only %v", names)
	})
	took := time.Since(start)
	t.Logf("serving the machine's tools after %s", took.Round(time.Millisecond))
	if took > 2*time.Second && len(buildFlags) == 0 { // the race detector takes its time
		t.Errorf("it took %s until the tools were listed, want at most 2s", took)
	}

	for _, version := range []string{harness.Legacy, harness.Modern} {
		t.Run("the official SDK as a client, "+version, func(t *testing.T) {
			session := sdkClient(t, "http://"+addr+"/mcp", version, nil)
			if got := session.InitializeResult().ProtocolVersion; got != version {
				t.Errorf("revision %s was negotiated, want %s", got, version)
			}
			host := 0
			for tool, err := range session.Tools(t.Context(), nil) {
				if err != nil {
					t.Fatal(err)
				}
				if strings.HasPrefix(tool.Name, "host__") {
					host++
					// Every tool of the machine can be read without arguments that matter, so each is tried.
					if required(t, tool) {
						continue
					}
					r, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool.Name})
					if err != nil {
						t.Errorf("%s: %v", tool.Name, err)
					} else if r.IsError {
						t.Errorf("%s: %s", tool.Name, contentText(r))
					}
				}
			}
			if host == 0 {
				t.Error("no tool of the built-in server host")
			}
			r, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "circuit_status"})
			if err != nil {
				t.Fatal(err)
			}
			if text := contentText(r); r.IsError || !strings.Contains(text, "host") {
				t.Errorf("circuit_status does not tell of the server host: %s", text)
			}
		})
	}
}

// required reports whether a tool has arguments that must be given.
func required(t *testing.T, tool *mcp.Tool) bool {
	t.Helper()
	b, err := json.Marshal(tool.InputSchema)
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Required []string `json:"required"`
	}
	if err := json.Unmarshal(b, &schema); err != nil {
		t.Fatal(err)
	}
	return len(schema.Required) > 0
}

func contentText(r *mcp.CallToolResult) string {
	var b strings.Builder
	for _, c := range r.Content {
		if text, ok := c.(*mcp.TextContent); ok {
			b.WriteString(text.Text)
		}
	}
	return b.String()
}

// sdkClient connects a client made with the official SDK.
func sdkClient(t *testing.T, url, version string, opts *mcp.ClientOptions) *mcp.ClientSession {
	t.Helper()
	c := mcp.NewClient(&mcp.Implementation{Name: "sdk", Version: "1"}, opts)
	session, err := c.Connect(deadline(t, 20*time.Second), &mcp.StreamableClientTransport{Endpoint: url}, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := session.Close(); err != nil {
			t.Errorf("closing the session: %v", err)
		}
	})
	return session
}

// TestStdio lets the official SDK start the gateway as Claude Desktop would.
func TestStdio(t *testing.T) {
	t.Parallel()
	for _, version := range []string{harness.Legacy, harness.Modern} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			mark := fmt.Sprintf("%s-%d", t.Name(), os.Getpid())
			file := t.TempDir() + "/gateway.yaml"
			yaml := "downstreams:\n  host: { preset: host }\n  s: " + stdioServer(t, 0, mark) + "\n"
			if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := command(t, program(t, harness.Gateway), "stdio", "--config", file)
			c := mcp.NewClient(&mcp.Implementation{Name: "sdk", Version: "1"}, nil)
			session, err := c.Connect(deadline(t, 20*time.Second), &mcp.CommandTransport{Command: cmd}, &mcp.ClientSessionOptions{ProtocolVersion: version})
			if err != nil {
				t.Fatal(err)
			}
			if got := session.InitializeResult().ProtocolVersion; got != version {
				t.Errorf("revision %s was negotiated, want %s", got, version)
			}
			eventually(t, 10*time.Second, "both servers' tools", func() error {
				found := map[string]bool{}
				for tool, err := range session.Tools(t.Context(), nil) {
					if err != nil {
						return err
					}
					server, _, _ := strings.Cut(tool.Name, "__")
					found[server] = true
				}
				if !found["host"] || !found["s"] {
					return fmt.Errorf("tools of %v", found)
				}
				return nil
			})
			r, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "s__echo", Arguments: map[string]any{}})
			if err != nil || contentText(r) != "ok" {
				t.Errorf("s__echo: %v, %v", r, err)
			}
			if err := session.Close(); err != nil {
				t.Errorf("closing: %v", err)
			}
			eventually(t, 5*time.Second, "no process left", func() error { return none(t, mark) })
		})
	}
}
