package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// TestListChanged lets a server gain a tool while clients are connected. Each client, of either era, is told, and finds the tool, on
// /mcp and on the server's own endpoint.
func TestListChanged(t *testing.T) {
	t.Parallel()
	for _, serverModern := range []bool{false, true} {
		t.Run("server "+era(serverModern), func(t *testing.T) {
			t.Parallel()
			s := mcp.NewServer(&mcp.Implementation{Name: "changing", Version: "1"}, nil)
			add := func(name string) {
				s.AddTool(&mcp.Tool{Name: name, InputSchema: json.RawMessage(`{"type":"object"}`)}, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
					return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: name}}}, nil
				})
			}
			add("first")
			up := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{Stateless: serverModern}))
			t.Cleanup(up.Close)
			gw := startGateway(t, "gateway: { listen: LISTEN }\ndownstreams:\n  s: { url: '"+up.URL+"' }\n")
			connect(t, gw, "/mcp", true, "s__first")

			type client struct {
				name    string
				tool    func(own string) string
				told    chan struct{}
				session *mcp.ClientSession
			}
			var clients []client
			for _, version := range []string{harness.Legacy, harness.Modern} {
				for _, path := range []string{"/mcp", "/servers/s/mcp"} {
					c := client{name: version + " " + path, tool: func(own string) string { return own }, told: make(chan struct{}, 100)}
					if path == "/mcp" {
						c.tool = func(own string) string { return "s__" + own }
					}
					c.session = sdkClient(t, "http://"+gw.Addr+path, version, &mcp.ClientOptions{
						ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { c.told <- struct{}{} },
					})
					clients = append(clients, c)
				}
			}
			for round := range 3 {
				for _, c := range clients {
					quiet(c.told)
				}
				name := fmt.Sprintf("added%d", round)
				// A stream that is only just being opened may miss a change, so the first one is repeated until all have heard of it.
				if round > 0 {
					add(name)
				}
				for i, c := range clients {
					eventuallyTold(t, c.told, func(try int) {
						if round == 0 {
							add(fmt.Sprintf("warm%d_%d", i, try))
						}
					}, round == 0, fmt.Sprintf("round %d: %s", round, c.name))
					if round == 0 {
						continue
					}
					r, err := c.session.CallTool(t.Context(), &mcp.CallToolParams{Name: c.tool(name)})
					if err != nil || contentText(r) != name {
						t.Errorf("round %d: %s: calling the new tool: %v, %v", round, c.name, r, err)
					}
				}
			}
		})
	}
}

// quiet waits until nothing has been told for a while, so that what is told next was caused by what happens next.
func quiet(told <-chan struct{}) {
	for {
		select {
		case <-told:
		case <-time.After(700 * time.Millisecond):
			return
		}
	}
}

// eventuallyTold waits until the client is told of a change. With repeat, another change is made every half second.
func eventuallyTold(t *testing.T, told <-chan struct{}, change func(try int), repeat bool, what string) {
	t.Helper()
	late := time.After(10 * time.Second)
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	change(0)
	for try := 1; ; try++ {
		select {
		case <-told:
			return
		case <-tick.C:
			if repeat {
				change(try)
			}
		case <-late:
			t.Fatalf("%s: not told of the change within 10s", what)
		}
	}
}
