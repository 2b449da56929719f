package config

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/gateway"
	"github.com/mcpgw/mcpgw/internal/mcptest"
)

// moody is a real server whose tool calls can be disturbed, for tests that turn a key of the file and look at what clients see.
type moody struct {
	*mcptest.Server
	*mcptest.Endpoint
	calls atomic.Int64 // requests of tools/call that arrived

	mu    sync.Mutex
	every http.HandlerFunc // answers tools/call; nil: the server does
	inner http.Handler
}

func newMoody(t *testing.T) *moody {
	t.Helper()
	m := &moody{Server: mcptest.NewServer(t, mcptest.Options{})}
	m.inner = mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return m.Server.Server }, &mcp.StreamableHTTPOptions{Stateless: true, PropagateRequestCancellation: true})
	m.Endpoint = mcptest.Serve(t, func() http.Handler { return http.HandlerFunc(m.serve) })
	return m
}

func (m *moody) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	h := m.inner.ServeHTTP
	if bytes.Contains(body, []byte(`"tools/call"`)) || bytes.Contains(body, []byte(`"resources/read"`)) {
		m.calls.Add(1)
		m.mu.Lock()
		if m.every != nil {
			h = m.every
		}
		m.mu.Unlock()
	}
	h(w, r)
}

// disturb answers all further calls so; nil leaves them alone.
func (m *moody) disturb(h http.HandlerFunc) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.every = h
}

// running is a gateway that runs by the text of a file.
type running struct {
	*gateway.Gateway
	url string
	log *logBook
}

// logBook keeps what is logged, besides showing it.
type logBook struct {
	slog.Handler
	mu      sync.Mutex
	records []slog.Record
}

func (b *logBook) Handle(ctx context.Context, r slog.Record) error {
	b.mu.Lock()
	b.records = append(b.records, r.Clone())
	b.mu.Unlock()
	return b.Handler.Handle(ctx, r)
}

// lines returns the records whose message has text in it.
func (b *logBook) lines(text string) []slog.Record {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []slog.Record
	for _, r := range b.records {
		if strings.Contains(r.Message, text) {
			found = append(found, r)
		}
	}
	return found
}

// numbers returns an attribute of each of the records.
func numbers(records []slog.Record, key string) []int64 {
	var all []int64
	for _, r := range records {
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == key {
				all = append(all, a.Value.Int64())
			}
			return true
		})
	}
	return all
}

// run starts a gateway by the text of a file, in which NAME stands for the URLs of servers given as pairs.
func run(t *testing.T, text string, urls ...string) *running {
	t.Helper()
	book := &logBook{Handler: slog.NewTextHandler(t.Output(), nil)}
	g := gateway.New(gateway.Options{Version: "test", Logger: slog.New(book)})
	if _, err := g.Apply(t.Context(), parse(t, text, urls...).Settings); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(g.Handler())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := g.Close(ctx); err != nil {
			t.Error(err)
		}
		srv.Close()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := g.Settled(ctx); err != nil {
		t.Fatal(err)
	}
	return &running{g, srv.URL + "/mcp", book}
}

// reply is what a client of revision 2026-07-28 reads.
type reply struct {
	Error *struct {
		Code    int
		Message string
		Data    json.RawMessage
	}
	Result struct {
		Content           []struct{ Text string }
		IsError           bool
		StructuredContent json.RawMessage
		Meta              map[string]json.RawMessage `json:"_meta"`
		Contents          []struct{ Text string }
	}
}

func (r *reply) text() string {
	var b strings.Builder
	for _, c := range r.Result.Content {
		b.WriteString(c.Text)
	}
	return b.String()
}

func (g *running) ask(t *testing.T, method, name, params string) reply {
	t.Helper()
	raw := g.raw(t, method, name, params, "")
	if i := bytes.LastIndex(raw, []byte("data: ")); i >= 0 {
		raw = raw[i+len("data: "):]
	}
	var r reply
	if err := json.Unmarshal(bytes.TrimSpace(raw), &r); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	return r
}

// raw returns everything that is answered; meta is what the request has in _meta besides.
func (g *running) raw(t *testing.T, method, name, params, meta string) []byte {
	t.Helper()
	params = strings.TrimSuffix(params, "}") + `,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}` + meta + `}}`
	body := `{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":` + params + `}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": method, "Mcp-Name": name,
	} {
		req.Header.Set(k, v)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (g *running) tool(t *testing.T, name, args string) reply {
	t.Helper()
	return g.ask(t, "tools/call", name, `{"name":"`+name+`","arguments":`+args+`}`)
}

// olderClient is a session of revision 2025-11-25.
type olderClient struct{ url, session string }

func (g *running) older(t *testing.T) *olderClient {
	t.Helper()
	c := &olderClient{url: g.url}
	c.post(t, "initialize", `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}`)
	c.post(t, "notifications/initialized", "")
	return c
}

// post sends a request, or a notification, and reads what comes back to its end.
func (c *olderClient) post(t *testing.T, method, params string) {
	t.Helper()
	body := `{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":` + params + `}`
	if strings.HasPrefix(method, "notifications/") {
		body = `{"jsonrpc":"2.0","method":"` + method + `"}`
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if c.session != "" {
		req.Header.Set("Mcp-Session-Id", c.session)
		req.Header.Set("Mcp-Protocol-Version", "2025-11-25")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	if res.StatusCode/100 != 2 {
		t.Errorf("%s: HTTP %d", method, res.StatusCode)
	}
	if c.session == "" {
		c.session = res.Header.Get("Mcp-Session-Id")
	}
}
