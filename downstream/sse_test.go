package downstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/wire"
)

func (s *sdkServer) serveSSE(t testing.TB) string {
	url, _ := serve(t, mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return s.Server }, nil))
	return url
}

func TestSSEWithSDKServer(t *testing.T) {
	for _, transport := range []string{"auto", "sse"} {
		t.Run(transport, func(t *testing.T) {
			s := newSDKServer()
			cfg := httpConfig(s.serveSSE(t))
			cfg.Transport = transport
			up := newRecorder(t)
			l := openHTTP(t, cfg, opening{listen: true, shared: true, upcalls: up})
			if _, ok := l.(*sseLink); !ok {
				t.Fatalf("a %T", l)
			}
			raw, err := l.call(t.Context(), toolCall("echo", `{"a":1}`, ""))
			if err != nil || !strings.Contains(string(raw), `{\"a\":1}`) {
				t.Errorf("%s, %v", raw, err)
			}
			c := toolCall("progress", `{"n":100}`, `{"progressToken":"mine"}`)
			r := newRecorder(t)
			c.Stream = r
			if _, err := l.call(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if n := len(r.all()); n != 100 {
				t.Errorf("%d notifications, want 100", n)
			}
			s.AddTool(&mcp.Tool{Name: "new", InputSchema: map[string]any{"type": "object"}}, nil)
			up.waitFor("notifications/tools/list_changed")
			sub := l.(subscriber)
			if err := sub.subscribe(t.Context(), "test://r"); err != nil {
				t.Fatal(err)
			}
			if err := s.ResourceUpdated(t.Context(), &mcp.ResourceUpdatedNotificationParams{URI: "test://r"}); err != nil {
				t.Fatal(err)
			}
			up.waitFor("notifications/resources/updated")
		})
	}
}

func TestSSELivesLongerThanItsOpening(t *testing.T) {
	h := newTestHTTPOpener(t, httpConfig(newSDKServer().serveSSE(t)))
	ctx, cancel := context.WithCancel(t.Context())
	l, err := h.open(ctx, opening{upcalls: newRecorder(t)})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := l.call(t.Context(), toolCall("echo", `{}`, "")); err != nil {
		t.Error(err)
	}
	l.close(t.Context())
	<-l.done()
	var away *UnavailableError
	if _, err := l.call(t.Context(), toolCall("echo", `{}`, "")); !asError(err, &away) {
		t.Errorf("after close: %v", err)
	}
}

// oldServer is a hand-written server of the older transport, for one session.
type oldServer struct {
	endpoint string
	post     func(w http.ResponseWriter, m *wire.Message, body []byte) bool // false leaves the message to the server

	events chan string
	once   sync.Once
	gone   chan struct{} // ends the stream
}

func newOldServer(endpoint string) *oldServer {
	return &oldServer{endpoint: endpoint, events: make(chan string, 100), gone: make(chan struct{})}
}

func (s *oldServer) end() { s.once.Do(func() { close(s.gone) }) }

func (s *oldServer) say(data string) { s.events <- data }

func (s *oldServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		w.Header().Set("Content-Type", "text/event-stream")
		if s.endpoint != "" {
			fmt.Fprintf(w, ": hello\n\nevent: endpoint\ndata: %s\n\n", s.endpoint)
		}
		http.NewResponseController(w).Flush()
		for {
			select {
			case e := <-s.events:
				fmt.Fprintf(w, "event: message\ndata: %s\n\n", e)
				http.NewResponseController(w).Flush()
			case <-s.gone:
				return
			case <-r.Context().Done():
				return
			}
		}
	}
	if r.URL.Path != "/messages" {
		http.NotFound(w, r)
		return
	}
	body := drainRequest(r)
	m, err := wire.Parse(body, 100)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if s.post != nil && s.post(w, &m, body) {
		return
	}
	w.WriteHeader(http.StatusAccepted)
	switch {
	case m.Method == "initialize":
		s.say(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2024-11-05","capabilities":{}}}`, m.ID))
	case m.IsRequest():
		s.say(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"ok":true}}`, m.ID))
	}
}

func oldConfig(url string) *Config {
	cfg := httpConfig(url + "/sse")
	cfg.Transport = "sse"
	return cfg
}

func TestSSEEndpoint(t *testing.T) {
	for _, tt := range []struct{ name, endpoint, want string }{
		{"relative", "/messages?session=1", ""},
		{"without a slash", "messages", ""},
		{"absolute", "$url/messages", ""},
		{"another host", "http://evil.example/messages", "another origin"},
		{"another port", "http://127.0.0.1:1/messages", "another origin"},
		{"another scheme", "https://$host/messages", "another origin"},
		{"without scheme", "//evil.example/messages", "another origin"},
		{"with a user", "http://user@$host/messages", "another origin"},
		{"no URL", "http://%zz", "no URL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newOldServer("")
			url, _ := serve(t, s)
			s.endpoint = strings.NewReplacer("$url", url, "$host", strings.TrimPrefix(url, "http://")).Replace(tt.endpoint)
			l, err := newTestHTTPOpener(t, oldConfig(url)).open(t.Context(), opening{upcalls: newRecorder(t)})
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer l.close(t.Context())
			if _, err := l.call(t.Context(), &Call{Method: "ping"}); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("another event first", func(t *testing.T) {
		s := newOldServer("")
		s.say("{}")
		url, _ := serve(t, s)
		_, err := newTestHTTPOpener(t, oldConfig(url)).open(t.Context(), opening{upcalls: newRecorder(t)})
		if want := wantLost("malformed_response", "endpoint event")(err); want != "" {
			t.Errorf("got %v, want %s", err, want)
		}
	})
	t.Run("never", func(t *testing.T) {
		url, _ := serve(t, newOldServer(""))
		cfg := oldConfig(url)
		cfg.Timeouts.Initialize = 300 * time.Millisecond
		_, err := newTestHTTPOpener(t, cfg).open(t.Context(), opening{upcalls: newRecorder(t)})
		if want := wantLost("timeout", "timeouts.initialize")(err); want != "" {
			t.Errorf("got %v, want %s", err, want)
		}
	})
}

// A POST that is refused fails its own call, as what it is.
func TestSSERefusedPost(t *testing.T) {
	for _, tt := range []struct {
		name string
		post func(w http.ResponseWriter, id string)
		want func(error) string
	}{
		{"400", func(w http.ResponseWriter, _ string) { http.Error(w, "no", 400) }, wantStatus(400, 0, "no")},
		{"429", func(w http.ResponseWriter, _ string) {
			w.Header().Set("Retry-After", "3")
			http.Error(w, "slow down", http.StatusTooManyRequests)
		}, wantStatus(429, 3*time.Second, "slow down")},
		{"broken", func(http.ResponseWriter, string) { panic(http.ErrAbortHandler) }, wantLost("connection", "EOF")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newOldServer("/messages")
			s.post = func(w http.ResponseWriter, m *wire.Message, _ []byte) bool {
				if m.Method != "bad" {
					return false
				}
				tt.post(w, string(m.ID))
				return true
			}
			url, _ := serve(t, s)
			l := openHTTP(t, oldConfig(url), opening{})
			_, err := l.call(t.Context(), &Call{Method: "bad"})
			if want := tt.want(err); want != "" {
				t.Errorf("got  %T %v\nwant %s", err, err, want)
			}
			if _, err := l.call(t.Context(), &Call{Method: "ping"}); err != nil {
				t.Errorf("the next call: %v", err)
			}
		})
	}
}

func TestSSEStreamEnds(t *testing.T) {
	s := newOldServer("/messages")
	taken := make(chan struct{})
	s.post = func(w http.ResponseWriter, m *wire.Message, _ []byte) bool {
		if m.Method != "wait" {
			return false
		}
		w.WriteHeader(http.StatusAccepted)
		close(taken)
		return true
	}
	url, _ := serve(t, s)
	l := openHTTP(t, oldConfig(url), opening{})
	go func() {
		<-taken
		s.end()
	}()
	_, err := l.call(t.Context(), &Call{Method: "wait"})
	if want := wantLost("connection", "ended the stream")(err); want != "" {
		t.Errorf("got %T %v, want %s", err, err, want)
	}
	<-l.done()
	if l.err() == nil {
		t.Error("done without an error")
	}
}

// A POST that hangs does not outlive the stream on which its answer would come.
func TestSSEStreamEndsDuringAPost(t *testing.T) {
	s := newOldServer("/messages")
	url, _ := serve(t, s)
	s.post = func(_ http.ResponseWriter, m *wire.Message, _ []byte) bool {
		if m.Method != "hang" {
			return false
		}
		s.end()
		<-t.Context().Done() // the client is gone by then
		return true
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	h := newTestHTTPOpener(t, oldConfig(url))
	l, err := h.open(ctx, opening{upcalls: newRecorder(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.close(ctx)
	_, err = l.call(ctx, &Call{Method: "hang"})
	if want := wantLost("connection", "")(err); want != "" || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %T %v, want %s", err, err, want)
	}
}

func TestSSETooLargeAnAnswerHurtsItsOwnCallOnly(t *testing.T) {
	s := newOldServer("/messages")
	s.post = func(w http.ResponseWriter, m *wire.Message, _ []byte) bool {
		if m.Method != "large" {
			return false
		}
		w.WriteHeader(http.StatusAccepted)
		s.say(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"a":"%s"}}`, m.ID, strings.Repeat("x", 100_000)))
		return true
	}
	url, _ := serve(t, s)
	cfg := oldConfig(url)
	cfg.Limits.MessageBytes = 10_000
	l := openHTTP(t, cfg, opening{})
	_, err := l.call(t.Context(), &Call{Method: "large"})
	if want := wantLost("malformed_response", "10000")(err); want != "" {
		t.Errorf("got %T %v, want %s", err, err, want)
	}
	if _, err := l.call(t.Context(), &Call{Method: "ping"}); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

// A call that is cancelled while its POST is under way may have reached the server, which has to be told.
func TestSSECancelDuringAPost(t *testing.T) {
	s := newOldServer("/messages")
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan string, 1)
	s.post = func(w http.ResponseWriter, m *wire.Message, body []byte) bool {
		switch m.Method {
		case "hang":
			cancel()
			<-t.Context().Done() // the client is gone by then
		case "notifications/cancelled":
			told <- string(body)
			w.WriteHeader(http.StatusAccepted)
		default:
			return false
		}
		return true
	}
	url, _ := serve(t, s)
	l := openHTTP(t, oldConfig(url), opening{})
	_, err := l.call(ctx, &Call{Method: "hang"})
	if want := wantLost("cancelled", "")(err); want != "" {
		t.Errorf("got %T %v, want %s", err, err, want)
	}
	select {
	case got := <-told:
		if !strings.Contains(got, `"requestId":2`) {
			t.Errorf("told %s", got)
		}
	case <-time.After(10 * time.Second):
		t.Error("the server was not told")
	}
}
