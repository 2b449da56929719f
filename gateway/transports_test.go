package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/downstream"
)

// TestOlderTransport puts a server behind the gateway that speaks only HTTP+SSE of revision 2024-11-05, found without being told.
func TestOlderTransport(t *testing.T) {
	one := echoServer("one")
	h := mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return one }, nil)
	srv := httptest.NewServer(h)
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	cfg := downstream.DefaultConfig()
	cfg.URL = srv.URL
	_, url := start(t, map[string]downstream.Config{"one": cfg})
	for name, modern := range map[string]bool{"legacy client": false, "modern client": true} {
		t.Run(name, func(t *testing.T) {
			s := connect(t, url+"/mcp", modern, nil)
			res, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "one__echo", Arguments: map[string]any{"a": 1}})
			if got := text(t, res, err); got != `one{"a":1}` {
				t.Errorf("got %s", got)
			}
			events := newRaw(t, url+"/mcp", modern).call(t, 1, "tools/call", `{"name":"one__count","_meta":{"progressToken":"p"}}`)
			if len(events) != 21 {
				t.Errorf("got %d messages, want 20 of progress and the result", len(events))
			}
		})
	}
}

// TestAnySessionRevision connects clients of every revision to servers of both eras.
func TestAnySessionRevision(t *testing.T) {
	_, url := start(t, map[string]downstream.Config{"old": serveSDK(t, echoServer("old"), false), "new": serveSDK(t, echoServer("new"), true)})
	for _, revision := range downstream.Revisions {
		t.Run(revision, func(t *testing.T) {
			c := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, nil)
			s, err := c.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: url + "/mcp", MaxRetries: -1}, &mcp.ClientSessionOptions{ProtocolVersion: revision})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if got := s.InitializeResult().ProtocolVersion; got != revision {
				t.Errorf("negotiated %s", got)
			}
			for _, name := range []string{"old", "new"} {
				res, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: name + "__echo"})
				if got := text(t, res, err); !strings.HasPrefix(got, name) {
					t.Errorf("got %s", got)
				}
			}
		})
	}
}

// TestClientsKeepTheirOwnServerSessions shows that what a server keeps for a session is not another client's.
func TestClientsKeepTheirOwnServerSessions(t *testing.T) {
	var mu sync.Mutex
	sessions := map[string]string{}
	one := echoServer("one")
	mcp.AddTool(one, &mcp.Tool{Name: "who"}, func(_ context.Context, req *mcp.CallToolRequest, in struct{ Me string }) (*mcp.CallToolResult, any, error) {
		mu.Lock()
		defer mu.Unlock()
		id := req.Session.ID()
		if was, ok := sessions[id]; ok && was != in.Me {
			return nil, nil, fmt.Errorf("session of %s used by %s", was, in.Me)
		}
		sessions[id] = in.Me
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: in.Me}}}, nil, nil
	})
	_, url := start(t, map[string]downstream.Config{"one": serveSDK(t, one, false)})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			me := fmt.Sprint("client", i)
			s := connect(t, url+"/mcp", false, nil)
			for range 20 {
				res, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "one__who", Arguments: map[string]any{"Me": me}})
				if got := text(t, res, err); got != me {
					t.Errorf("%s was told %s", me, got)
				}
			}
		})
	}
	wg.Wait()
	if len(sessions) != 8 {
		t.Errorf("8 clients had %d sessions", len(sessions))
	}
}
