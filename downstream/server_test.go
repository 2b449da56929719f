package downstream

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// await polls until ok says true.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// TestServerNoticesAServerThatIsGone stops a server that nobody calls, and starts it again at the same address.
func TestServerNoticesAServerThatIsGone(t *testing.T) {
	for name, modern := range map[string]bool{"legacy": false, "modern": true} {
		t.Run(name, func(t *testing.T) {
			m := mcp.NewServer(&mcp.Implementation{Name: "m", Version: "1"}, nil)
			mcp.AddTool(m, &mcp.Tool{Name: "x"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
				return &mcp.CallToolResult{}, nil, nil
			})
			h := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return m }, &mcp.StreamableHTTPOptions{Stateless: modern})
			web := httptest.NewServer(h)
			cfg := DefaultConfig()
			cfg.URL = web.URL
			cfg.Restart.InitialDelay, cfg.Restart.MaxDelay = 10*time.Millisecond, 50*time.Millisecond
			s, err := New("test", cfg, Options{})
			if err != nil {
				t.Fatal(err)
			}
			s.Start()
			defer func() {
				if err := s.Close(context.WithoutCancel(t.Context())); err != nil {
					t.Error(err)
				}
			}()
			await(t, "it is ready", func() bool { return s.Status().State == Ready })
			addr := web.Listener.Addr().String()
			web.CloseClientConnections()
			web.Close()
			await(t, "its absence is noticed", func() bool { return s.Status().State == Reconnecting })
			if st := s.Status(); st.LastError == "" || len(s.Catalog().Lists[Tools].Items) != 1 {
				t.Errorf("while it is away: %+v", st)
			}
			l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			again := &httptest.Server{Listener: l, Config: &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}}
			again.Start()
			defer again.Close()
			defer again.CloseClientConnections()
			await(t, "it is ready again", func() bool { return s.Status().State == Ready })
		})
	}
}
