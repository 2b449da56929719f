package downstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/wire"
	"github.com/mcpgw/mcpgw/telemetry"
)

// handshakes is a hand-written server that answers the handshake as the test says, and notes what it was asked.
type handshakes struct {
	discover, initialize, get func(w http.ResponseWriter, r *http.Request, id string) // nil answers 404

	mu    sync.Mutex
	asked []string
}

func (s *handshakes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := r.Method
	id := ""
	f := s.get
	if r.Method == http.MethodPost {
		m, err := wire.Parse(drainRequest(r), 100)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		method, id = m.Method, string(m.ID)
		switch m.Method {
		case "server/discover":
			f = s.discover
		case "initialize":
			f = s.initialize
		default:
			f = status(202, "", "")
		}
	}
	s.mu.Lock()
	s.asked = append(s.asked, strings.TrimPrefix(method, "notifications/"))
	s.mu.Unlock()
	if f == nil {
		f = status(404, "text/plain", "not found")
	}
	f(w, r, id)
}

func (s *handshakes) questions() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := strings.Join(s.asked, " ")
	s.asked = nil
	return asked
}

func answerJSON(result string) func(http.ResponseWriter, *http.Request, string) {
	return status(200, "application/json", `{"jsonrpc":"2.0","id":$id,"result":`+result+`}`)
}

func answerError(code int, body string) func(http.ResponseWriter, *http.Request, string) {
	return status(code, "application/json", `{"jsonrpc":"2.0","id":$id,"error":`+body+`}`)
}

var (
	discovered2026  = answerJSON(`{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{}}`)
	initialized2025 = answerJSON(`{"protocolVersion":"2025-11-25","capabilities":{}}`)
)

func silent(_ http.ResponseWriter, r *http.Request, _ string) { <-r.Context().Done() }

func TestHTTPFindsTheEra(t *testing.T) {
	const method = `{"code":-32601,"message":"no such method"}`
	for _, tt := range []struct {
		name     string
		server   *handshakes
		change   func(*Config)
		revision string             // "" if open is to fail
		err      func(error) string // then
		asked    string
	}{
		{name: "modern", server: &handshakes{discover: discovered2026}, revision: Modern, asked: "server/discover"},
		{
			name: "legacy, unknown method over 200", server: &handshakes{discover: answerError(200, method), initialize: initialized2025},
			revision: Legacy, asked: "server/discover initialize initialized",
		},
		{
			name: "legacy, 404 JSON-RPC", server: &handshakes{discover: answerError(404, method), initialize: initialized2025},
			revision: Legacy, asked: "server/discover initialize initialized",
		},
		{
			name: "legacy, session required", server: &handshakes{discover: status(400, "text/plain", "Mcp-Session-Id required"), initialize: initialized2025},
			revision: Legacy, asked: "server/discover initialize initialized",
		},
		{
			name: "legacy, 406", server: &handshakes{discover: status(406, "text/plain", ""), initialize: initialized2025},
			revision: Legacy, asked: "server/discover initialize initialized",
		},
		{
			name: "legacy, 415", server: &handshakes{discover: status(415, "text/plain", ""), initialize: initialized2025},
			revision: Legacy, asked: "server/discover initialize initialized",
		},
		{
			name: "legacy, 405", server: &handshakes{discover: status(405, "text/plain", ""), initialize: initialized2025},
			revision: Legacy, asked: "server/discover initialize initialized",
		},
		{
			name: "legacy, takes anything for a notification", server: &handshakes{discover: status(202, "", ""), initialize: initialized2025},
			revision: Legacy, asked: "server/discover initialize initialized",
		},
		{
			name: "legacy, HTML", server: &handshakes{discover: status(200, "text/html", "hello"), initialize: initialized2025},
			revision: Legacy, asked: "server/discover initialize initialized",
		},
		{
			name: "legacy, odd result", server: &handshakes{discover: answerJSON(`{}`), initialize: initialized2025},
			revision: Legacy, asked: "server/discover initialize initialized",
		},
		{
			name: "legacy, silent", server: &handshakes{discover: silent, initialize: initialized2025},
			change: func(c *Config) { c.Timeouts.Discover = 30 * time.Millisecond }, revision: Legacy, asked: "server/discover initialize initialized",
		},
		{
			name: "legacy, names its revisions", revision: "2025-06-18", asked: "server/discover initialize initialized",
			server: &handshakes{
				discover:   answerError(400, `{"code":-32022,"message":"unsupported","data":{"supported":["2025-06-18","2025-03-26"]}}`),
				initialize: answerJSON(`{"protocolVersion":"2025-06-18","capabilities":{}}`),
			},
		},
		{
			name: "nothing in common", server: &handshakes{discover: answerError(400, `{"code":-32022,"message":"unsupported","data":{"supported":["2030-01-01"]}}`)},
			err: func(err error) string {
				if strings.Contains(err.Error(), "no protocol revision in common: the server speaks 2030-01-01") {
					return ""
				}
				return "both lists of revisions"
			}, asked: "server/discover",
		},
		{
			name: "modern, refuses", server: &handshakes{discover: answerError(400, `{"code":-32020,"message":"header mismatch"}`), initialize: initialized2025},
			err: wantRPC(-32020, ""), asked: "server/discover",
		},
		{name: "401", server: &handshakes{discover: status(401, "text/plain", ""), initialize: initialized2025}, err: wantStatus(401, 0, ""), asked: "server/discover"},
		{name: "429", server: &handshakes{discover: status(429, "text/plain", ""), initialize: initialized2025}, err: wantStatus(429, 0, ""), asked: "server/discover"},
		{name: "500", server: &handshakes{discover: status(500, "text/plain", ""), initialize: initialized2025}, err: wantStatus(500, 0, ""), asked: "server/discover"},
		{name: "503", server: &handshakes{discover: status(503, "text/plain", ""), initialize: initialized2025}, err: wantStatus(503, 0, ""), asked: "server/discover"},
		{name: "redirect", server: &handshakes{discover: func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Set("Location", "https://other.example/mcp?a=b")
			w.WriteHeader(308)
		}}, err: wantStatus(308, 0, "https://other.example/mcp,"), asked: "server/discover"},
		{
			name: "connection broken", server: &handshakes{discover: abort(nil), initialize: initialized2025},
			err: wantLost("connection", ""), asked: "server/discover",
		},
		{
			name: "initialize refused by credentials", server: &handshakes{initialize: status(401, "text/plain", "")},
			err: wantStatus(401, 0, ""), asked: "server/discover initialize",
		},
		{
			name: "unknown revision", server: &handshakes{initialize: answerJSON(`{"protocolVersion":"2030-01-01","capabilities":{}}`)},
			err: func(err error) string {
				if strings.Contains(err.Error(), "2030-01-01") {
					return ""
				}
				return "the revision"
			}, asked: "server/discover initialize",
		},
		{
			name: "no MCP server", server: &handshakes{},
			err: func(err error) string {
				if !strings.Contains(err.Error(), "older HTTP+SSE transport") {
					return "all that was tried"
				}
				return wantStatus(404, 0, "not found")(err)
			}, asked: "server/discover initialize GET",
		},
		{
			name: "no older transport wanted", server: &handshakes{}, change: func(c *Config) { c.Transport = "streamable" },
			err: wantStatus(404, 0, "not found"), asked: "server/discover initialize",
		},
		{
			name: "pinned to modern, legacy server", server: &handshakes{initialize: initialized2025}, change: func(c *Config) { c.Protocol = Modern },
			err: func(err error) string {
				if !strings.Contains(err.Error(), "protocol") {
					return "the key"
				}
				return wantStatus(404, 0, "not found")(err)
			}, asked: "server/discover",
		},
		{
			name: "pinned to legacy", server: &handshakes{discover: discovered2026, initialize: initialized2025}, change: func(c *Config) { c.Protocol = Legacy },
			revision: Legacy, asked: "initialize initialized",
		},
		{
			name: "pinned to another legacy revision", server: &handshakes{initialize: initialized2025}, change: func(c *Config) { c.Protocol = "2025-03-26" },
			err: func(err error) string {
				if strings.Contains(err.Error(), "2025-11-25") && strings.Contains(err.Error(), "2025-03-26") {
					return ""
				}
				return "both revisions"
			}, asked: "initialize",
		},
		{
			name: "initialize in a stream", server: &handshakes{initialize: stream(true, "id: 1\ndata:\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{\"protocolVersion\":\"2025-11-25\",\"capabilities\":{}}}\n\n")},
			revision: Legacy, asked: "server/discover initialize initialized",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url, _ := serve(t, tt.server)
			cfg := httpConfig(url)
			if tt.change != nil {
				tt.change(cfg)
			}
			h := newTestHTTPOpener(t, cfg)
			l, err := h.open(t.Context(), opening{upcalls: newRecorder(t)})
			if d := cmp.Diff(tt.asked, tt.server.questions()); d != "" {
				t.Errorf("asked (-want +got):\n%s", d)
			}
			if err != nil {
				if tt.revision != "" {
					t.Fatalf("open: %v", err)
				}
				if want := tt.err(err); want != "" {
					t.Errorf("got  %T %v\nwant %s", err, err, want)
				}
				return
			}
			defer l.close(t.Context())
			if got := l.peer().Revision; got != tt.revision {
				t.Errorf("revision %q, want %q", got, tt.revision)
			}
		})
	}
}

func TestHTTPRemembersTheEra(t *testing.T) {
	s := handshakes{initialize: initialized2025}
	url, _ := serve(t, &s)
	h := newTestHTTPOpener(t, httpConfig(url))
	asked := func() string {
		t.Helper()
		openWith(t, h, opening{})
		return s.questions()
	}
	for _, step := range []struct {
		name   string
		change func()
		want   string
	}{
		{"first", func() {}, "server/discover initialize initialized"},
		{"again", func() {}, "initialize initialized"},
		{"after an update", func() { s.initialize, s.discover = nil, discovered2026 }, "initialize server/discover"},
		{"again", func() {}, "server/discover"},
		{"after going back", func() { s.initialize, s.discover = initialized2025, nil }, "server/discover initialize initialized"},
	} {
		step.change()
		if got := asked(); got != step.want {
			t.Errorf("%s: asked %s, want %s", step.name, got, step.want)
		}
	}
	// Trouble proves nothing about the era.
	s.initialize = status(503, "text/plain", "")
	if _, err := h.open(t.Context(), opening{upcalls: newRecorder(t)}); wantStatus(503, 0, "")(err) != "" {
		t.Errorf("error %v, want HTTP 503", err)
	}
	if got := s.questions(); got != "initialize" {
		t.Errorf("in trouble: asked %s, want initialize only", got)
	}
}

func TestHTTPHeaders(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]http.Header{}
	note := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			key := r.Method
			if r.Method == http.MethodPost {
				b := drainRequest(r)
				key, _ = wire.GetString(b, "method")
				r.Body = io.NopCloser(strings.NewReader(string(b)))
			}
			mu.Lock()
			seen[key] = r.Header.Clone()
			seen[key].Set("Host", r.Host)
			mu.Unlock()
			h.ServeHTTP(w, r)
		})
	}
	get := func(key string) http.Header {
		mu.Lock()
		defer mu.Unlock()
		return seen[key]
	}
	check := func(t *testing.T, key string, want map[string]string) {
		t.Helper()
		for name, value := range want {
			if got := strings.Join(get(key).Values(name), "|"); got != value {
				t.Errorf("%s: %s is %q, want %q", key, name, got, value)
			}
		}
	}
	t.Run("legacy", func(t *testing.T) {
		url, _ := serve(t, note(newHostile(nil)))
		cfg := httpConfig(url)
		cfg.Headers = map[string]telemetry.Secret{"authorization": "Bearer x", "host": "other.example", "mcp-session-id": "forged"}
		l := openHTTP(t, cfg, opening{listen: true})
		if _, err := l.call(t.Context(), &Call{Method: "tools/call", Params: json.RawMessage(`{"name":"ok"}`), Target: "ok", Header: http.Header{"Mcp-Param-A": {"1"}}}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the stream is asked for", func() bool { return get("GET") != nil })
		l.close(t.Context())
		check(t, "initialize", map[string]string{"Authorization": "Bearer x", "Host": "other.example", "User-Agent": "mcpgw/1.0", "Mcp-Protocol-Version": ""})
		check(t, "tools/call", map[string]string{
			"Authorization": "Bearer x", "Mcp-Session-Id": "s1", "Mcp-Protocol-Version": Legacy, "Content-Type": "application/json",
			"Accept": "application/json, text/event-stream", "Mcp-Method": "", "Mcp-Name": "", "Mcp-Param-A": "", "Accept-Encoding": "",
		})
		check(t, "GET", map[string]string{"Mcp-Session-Id": "s1", "Accept": "text/event-stream", "Content-Type": "", "Last-Event-Id": ""})
		check(t, "DELETE", map[string]string{"Mcp-Session-Id": "s1", "Mcp-Protocol-Version": Legacy, "Authorization": "Bearer x"})
	})
	t.Run("modern", func(t *testing.T) {
		s := newSDKServer()
		url, _ := serve(t, note(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s.Server }, &mcp.StreamableHTTPOptions{Stateless: true})))
		l := openHTTP(t, httpConfig(url), opening{})
		c := toolCall("echo", `{}`, "")
		c.Header = http.Header{"Mcp-Param-A": {"1"}, "Authorization": {"the client's"}, "Mcp-Name": {"forged"}}
		if _, err := l.call(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		check(t, "server/discover", map[string]string{"Mcp-Protocol-Version": Modern, "Mcp-Method": "server/discover", "Mcp-Name": ""})
		check(t, "tools/call", map[string]string{
			"Mcp-Protocol-Version": Modern, "Mcp-Method": "tools/call", "Mcp-Name": "echo", "Mcp-Param-A": "1", "Mcp-Session-Id": "", "Authorization": "",
		})
	})
}

func TestHTTPOpenKeepsToItsTimes(t *testing.T) {
	s := handshakes{discover: silent, initialize: silent}
	url, _ := serve(t, &s)
	cfg := httpConfig(url)
	cfg.Timeouts.Discover = 20 * time.Millisecond
	cfg.Timeouts.Initialize = 60 * time.Millisecond
	_, err := newTestHTTPOpener(t, cfg).open(t.Context(), opening{upcalls: newRecorder(t)})
	if want := wantLost("timeout", "timeouts.initialize")(err); want != "" {
		t.Errorf("got %v, want %s", err, want)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stopped")
	cfg.Timeouts.Initialize = time.Minute
	s2 := handshakes{discover: func(http.ResponseWriter, *http.Request, string) { cancel(stop) }}
	cfg.URL, _ = serve(t, &s2)
	if _, err := newTestHTTPOpener(t, cfg).open(ctx, opening{upcalls: newRecorder(t)}); !errors.Is(err, stop) {
		t.Errorf("got %v, want %v", err, stop)
	}
}

// A server may end the answer's stream early and go on with it on a GET (specification 2025-11-25, "Resumability").
func TestHTTPResumesAnAnswer(t *testing.T) {
	for _, breaks := range []int{1, 3} {
		t.Run(fmt.Sprint(breaks), func(t *testing.T) {
			var s *hostile
			var id string
			n := 0
			s = newHostile(func(w http.ResponseWriter, r *http.Request, i string) {
				id = i
				stream(false, "id: a0\nretry: 10\ndata:\n\n")(w, r, i)
			})
			s.get = func(w http.ResponseWriter, r *http.Request) {
				if got, want := r.Header.Get("Last-Event-Id"), fmt.Sprintf("a%d", n); got != want {
					t.Errorf("Last-Event-ID %q, want %q", got, want)
				}
				n++
				events := fmt.Sprintf("id: a%d\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"n\":%d}}\n\n", n, n)
				if n == breaks {
					events += fmt.Sprintf("data: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{}}\n\n", id)
				}
				stream(false, events)(w, r, "")
			}
			url, _ := serve(t, s)
			l := openHTTP(t, httpConfig(url), opening{})
			c := toolCall("bad", `{}`, "")
			r := newRecorder(t)
			c.Stream = r
			if _, err := l.call(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if got := len(r.all()); got != breaks {
				t.Errorf("%d notifications, want %d", got, breaks)
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		s := newHostile(stream(false, "id: a0\nretry: 10\ndata:\n\n"))
		url, _ := serve(t, s)
		l := openHTTP(t, httpConfig(url), opening{})
		_, err := l.call(t.Context(), toolCall("bad", `{}`, ""))
		if want := wantLost("stream_aborted", "could not be resumed")(err); want != "" {
			t.Errorf("got %v, want %s", err, want)
		}
	})
}

// The stream of the server's own may come and go as it likes.
func TestHTTPWatchGoesOn(t *testing.T) {
	s := newHostile(nil)
	var mu sync.Mutex
	var ids []string
	s.get = func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		ids = append(ids, r.Header.Get("Last-Event-Id"))
		n := len(ids)
		mu.Unlock()
		switch n {
		case 1:
			status(503, "text/plain", "not yet")(w, r, "")
		case 2:
			abort(nil)(w, r, "")
		case 3:
			stream(false, "data: garbage\n\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/one\"}\n\n")(w, r, "")
		case 4:
			stream(false, "id: 4\ndata: {\"jsonrpc\":\"2.0\",\"id\":\"p\",\"method\":\"ping\"}\n\n")(w, r, "")
		default:
			stream(true, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/two\"}\n\n")(w, r, "")
		}
	}
	url, _ := serve(t, s)
	up := newRecorder(t)
	l := openHTTP(t, httpConfig(url), opening{listen: true, upcalls: up})
	up.waitFor("notifications/two")
	if got := <-s.waitNotice(`"p"`); !strings.Contains(got, `"result":{}`) {
		t.Errorf("ping was answered with %s", got)
	}
	mu.Lock()
	defer mu.Unlock()
	if d := cmp.Diff([]string{"", "", "", "", "4"}, ids); d != "" {
		t.Errorf("Last-Event-ID (-want +got):\n%s", d)
	}
	if l.err() != nil {
		t.Errorf("the link is done: %v", l.err())
	}
}
