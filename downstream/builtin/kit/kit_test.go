package kit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

func connect(t *testing.T, s *kit.Server) *mcp.ClientSession {
	t.Helper()
	there, here := mcp.NewInMemoryTransports()
	if _, err := s.MCP().Connect(t.Context(), there, nil); err != nil {
		t.Fatal(err)
	}
	c, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).Connect(t.Context(), here, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

type listArgs struct {
	kit.Page
}

func many(n int) []kit.Item {
	items := make([]kit.Item, n)
	for i := range items {
		items[i] = kit.Item{"name": fmt.Sprintf("item-%05d", i), "comment": strings.Repeat("x", 80), "size": i}
	}
	return items
}

func TestLargeListsAreCutAndSaySo(t *testing.T) {
	s := kit.NewServer(kit.Config{Simulated: true}, "test", "Test", "")
	kit.Add(s, kit.Tool{Name: "list", Title: "List", Adjust: kit.PageLimits}, func(_ context.Context, _ *kit.Call, in listArgs) (*kit.Listing, error) {
		return kit.List(many(10_000), in.Page, "name", "size", "comment"), nil
	})
	c := connect(t, s)
	res, err := c.CallTool(t.Context(), &mcp.CallToolParams{Name: "list", Arguments: map[string]any{"limit": 500, "offset": 100}})
	if err != nil || res.IsError {
		t.Fatal(err, res)
	}
	raw, _ := json.Marshal(res)
	if len(raw) > kit.MaxResult*5/4 { // JSON escapes come on top
		t.Errorf("%d bytes", len(raw))
	}
	text := res.Content[0].(*mcp.TextContent).Text
	got, _ := json.Marshal(res.StructuredContent)
	for _, want := range []string{`"simulated":true`, `"total":10000`, `"next_offset":`, "item-00100"} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %s in the structured content", want)
		}
	}
	for _, want := range []string{"[simulated", "item-00100", "of 10000 shown; offset="} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the text", want)
		}
	}
	res, err = c.CallTool(t.Context(), &mcp.CallToolParams{Name: "list", Arguments: map[string]any{"search": "ITEM-00007", "fields": []string{"name", "colour"}}})
	if err != nil || res.IsError {
		t.Fatal(err, res)
	}
	if got, _ := json.Marshal(res.StructuredContent); !strings.Contains(string(got), `"items":[{"name":"item-00007"}]`) || !strings.Contains(string(got), "no item has colour") {
		t.Errorf("got %s", got)
	}
	for _, args := range []map[string]any{{"limit": 0}, {"limit": 501}, {"colour": "red"}, {"limit": "many"}} {
		if res, err := c.CallTool(t.Context(), &mcp.CallToolParams{Name: "list", Arguments: args}); err != nil || !res.IsError {
			t.Errorf("%v was accepted: %v", args, err)
		}
	}
}

func TestAccessDecidesWhichToolsExist(t *testing.T) {
	for access, want := range map[kit.Access]string{kit.Read: "look", kit.Operate: "look,start", kit.Full: "delete,look,start"} {
		s := kit.NewServer(kit.Config{Access: access}, "test", "Test", "")
		for _, tool := range []kit.Tool{{Name: "look"}, {Name: "start", Access: kit.Operate, Idempotent: true}, {Name: "delete", Access: kit.Full, Destructive: true}} {
			kit.Add(s, tool, func(context.Context, *kit.Call, struct{}) (*kit.Listing, error) {
				return kit.List(nil, kit.Page{}), nil
			})
		}
		list, err := connect(t, s).ListTools(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, tool := range list.Tools {
			names = append(names, tool.Name)
			a := tool.Annotations
			if a.ReadOnlyHint != (tool.Name == "look") || *a.DestructiveHint != (tool.Name == "delete") || a.IdempotentHint != (tool.Name != "delete") || *a.OpenWorldHint {
				t.Errorf("%s: %+v", tool.Name, a)
			}
		}
		if got := strings.Join(names, ","); got != want {
			t.Errorf("%s: %s", access, got)
		}
	}
}

// TestFailures shows what of a system's trouble reaches the policies, and what the caller reads as an answer.
func TestFailures(t *testing.T) {
	var mu sync.Mutex // an answer that is broken off orders nothing
	answer := http.HandlerFunc(nil)
	asked := 0
	system := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		h := answer
		asked++
		mu.Unlock()
		h(w, r)
	}))
	defer system.Close()
	status := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3")
			http.Error(w, body, code)
		}
	}
	for name, tt := range map[string]struct {
		answer   http.HandlerFunc
		url      string
		class    string // of the failure; "" for a result with isError
		executed bool
	}{
		"works not":       {status(503, "maintenance"), "", "status", true},
		"node down":       {status(595, "no route"), "", "status", true},
		"too often":       {status(429, ""), "", "rate_limited", false},
		"refusal":         {status(404, "no such machine"), "", "", false},
		"server error":    {status(500, "storage 'x' does not exist"), "", "", false},
		"wrong key":       {status(401, ""), "", "auth_error", false},
		"garbage":         {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }, "", "malformed_response", true},
		"hangs up":        {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "", "connection", true},
		"nobody there":    {nil, "http://127.0.0.1:1", "connect", false},
		"no such name":    {nil, "http://does-not-exist.invalid", "dns", false},
		"not TLS, really": {nil, strings.Replace(system.URL, "http:", "https:", 1), "tls", false},
	} {
		t.Run(name, func(t *testing.T) {
			mu.Lock()
			answer = tt.answer
			mu.Unlock()
			cfg := kit.Config{URL: system.URL}
			if tt.url != "" {
				cfg.URL = tt.url
			}
			s := kit.NewServer(cfg, "test", "Test", "")
			c, err := kit.NewClient(&cfg, kit.ClientOptions{System: "Thing", Down: []int{595}})
			if err != nil {
				t.Fatal(err)
			}
			kit.Add(s, kit.Tool{Name: "get"}, func(ctx context.Context, _ *kit.Call, _ struct{}) (*kit.Listing, error) {
				var out map[string]any
				return kit.List(nil, kit.Page{}), c.Get(ctx, "/x", nil, &out)
			})
			session := connect(t, s)
			res, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "get"})
			if tt.class == "" {
				if err != nil || !res.IsError {
					t.Errorf("got %v, %v", res, err)
				}
				return
			}
			rpc, ok := errors.AsType[*jsonrpc.Error](err)
			if !ok || rpc.Code != kit.CodeFailure {
				t.Fatalf("got %v, %v", res, err)
			}
			f, err := kit.ParseFailure(rpc.Data)
			if err != nil || f.Class != tt.class || f.Executed != tt.executed || !strings.HasPrefix(f.Message, "Thing at http") {
				t.Errorf("got %+v, %v", f, err)
			}
			if tt.class == "auth_error" {
				before := asked
				if _, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "get"}); err == nil || !strings.Contains(err.Error(), "not tried again") || asked != before {
					t.Errorf("wrong credentials were tried twice: %v", err)
				}
			}
		})
	}
}

// TestPingAsksTheSystem shows what the gateway's prober relies on, in both eras.
func TestPingAsksTheSystem(t *testing.T) {
	for _, revision := range []string{"2025-11-25", "2026-07-28"} {
		down := true
		s := kit.NewServer(kit.Config{}, "test", "Test", "")
		s.OnPing(func(context.Context) error {
			if down {
				return &kit.Failure{Class: kit.ClassConnect, Message: "nobody there"}
			}
			return nil
		})
		there, here := mcp.NewInMemoryTransports()
		if _, err := s.MCP().Connect(t.Context(), there, nil); err != nil {
			t.Fatal(err)
		}
		c, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).Connect(t.Context(), here, &mcp.ClientSessionOptions{ProtocolVersion: revision})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Ping(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "nobody there") {
			t.Errorf("%s: got %v", revision, err)
		}
		down = false
		if err := c.Ping(t.Context(), nil); err != nil {
			t.Errorf("%s: %v", revision, err)
		}
		_ = c.Close()
	}
}

// TestInsecureCertificatesAreWarnedOf: a certificate that nobody knows is accepted only where that is asked for, and each start warns.
func TestInsecureCertificatesAreWarnedOf(t *testing.T) {
	system := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) }))
	defer system.Close()
	system.Config.ErrorLog = log.New(io.Discard, "", 0)
	for _, insecure := range []bool{false, true} {
		var lines bytes.Buffer
		cfg := kit.Config{URL: system.URL, TLS: kit.TLS{InsecureSkipVerify: insecure}, Log: slog.New(slog.NewTextHandler(&lines, nil))}
		c, err := kit.NewClient(&cfg, kit.ClientOptions{System: "Thing"})
		if err != nil {
			t.Fatal(err)
		}
		err = c.Get(t.Context(), "/", nil, nil)
		if f, ok := errors.AsType[*kit.Failure](err); insecure != (err == nil) || !insecure && (!ok || f.Class != kit.ClassTLS) {
			t.Errorf("tls_insecure_skip_verify: %v: %v", insecure, err)
		}
		if warned := strings.Contains(lines.String(), "not verified"); warned != insecure {
			t.Errorf("tls_insecure_skip_verify: %v: log %q", insecure, lines.String())
		}
		_ = c.Close(t.Context())
	}
}
