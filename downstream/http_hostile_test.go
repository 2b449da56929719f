package downstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// hostile is a hand-written legacy server. The tools "ok" and "slow" work; "slow" answers when told to. "bad" does what the test
// says.
type hostile struct {
	session string // given out by initialize; "" for none
	bad     func(w http.ResponseWriter, r *http.Request, id string)
	get     http.HandlerFunc // nil answers 405
	began   chan struct{}    // a "slow" call has begun
	release chan struct{}    // closed to let it end
	notices chan string      // notifications and responses that came, as they are

	protocol string // of the handshake
}

func newHostile(bad func(w http.ResponseWriter, r *http.Request, id string)) *hostile {
	return &hostile{
		session: "s1", bad: bad, began: make(chan struct{}, 100), release: make(chan struct{}), notices: make(chan string, 100),
	}
}

func reply(w http.ResponseWriter, id, result string) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, id, result)
}

func (s *hostile) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
		if s.get != nil {
			s.get(w, r)
			return
		}
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	case http.MethodDelete:
		return
	}
	body := drainRequest(r)
	m, err := wire.Parse(body, 100)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !m.IsRequest() {
		select {
		case s.notices <- string(body):
		default:
		}
		w.WriteHeader(http.StatusAccepted)
		return
	}
	id := string(m.ID)
	switch m.Method {
	case "server/discover":
		http.Error(w, "no session", http.StatusBadRequest)
		return
	case "initialize":
		s.protocol = r.Proto
		if s.session != "" {
			w.Header().Set("Mcp-Session-Id", s.session)
		}
		reply(w, id, `{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"hostile","version":"1"}}`)
		return
	}
	switch tool, _ := wire.GetString(m.Params, "name"); tool {
	case "bad":
		s.bad(w, r, id)
	case "slow":
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, ": working\n\n")
		http.NewResponseController(w).Flush()
		s.began <- struct{}{}
		select {
		case <-s.release:
		case <-r.Context().Done():
			return
		}
		fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"slow\":true}}\n\n", id)
	default:
		reply(w, id, `{"ok":true}`)
	}
}

func status(code int, contentType, body string) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, _ *http.Request, id string) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(code)
		_, _ = io.WriteString(w, strings.ReplaceAll(body, "$id", id))
	}
}

// stream answers with an event stream and leaves it open if hold is set.
func stream(hold bool, events string) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, r *http.Request, id string) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, strings.ReplaceAll(events, "$id", id))
		http.NewResponseController(w).Flush()
		if hold {
			<-r.Context().Done()
		}
	}
}

// abort breaks the connection after what f has written.
func abort(f func(http.ResponseWriter, *http.Request, string)) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, r *http.Request, id string) {
		if f != nil {
			f(w, r, id)
			http.NewResponseController(w).Flush()
		}
		panic(http.ErrAbortHandler)
	}
}

// wantStatus, wantLost and wantRPC describe errors.
func wantStatus(code int, retryAfter time.Duration, body string) func(error) string {
	return func(err error) string {
		var e *StatusError
		if !asError(err, &e) || e.Status != code || e.RetryAfter != retryAfter || !strings.Contains(e.Body, body) {
			return fmt.Sprintf("a StatusError %d, retry after %s, with %q", code, retryAfter, body)
		}
		return ""
	}
}

func wantLost(class, text string) func(error) string {
	return func(err error) string {
		var e *LostError
		if !asError(err, &e) || e.Class != class || !strings.Contains(e.Error(), text) {
			return fmt.Sprintf("a LostError of class %s with %q", class, text)
		}
		return ""
	}
}

func wantRPC(code int64, text string) func(error) string {
	return func(err error) string {
		var e *wire.Error
		if !asError(err, &e) || e.Code != code || !strings.Contains(string(e.Bytes()), text) {
			return fmt.Sprintf("the JSON-RPC error %d with %q", code, text)
		}
		return ""
	}
}

const (
	jsonType  = "application/json; charset=utf-8"
	errorBody = `{"jsonrpc":"2.0","id":$id,"error":{"code":-32603,"message":"broken","x":1}}`
)

var hostileAnswers = []struct {
	name string
	bad  func(http.ResponseWriter, *http.Request, string)
	want func(error) string // returns what was wanted if it is not that
}{
	{"400 text", status(400, "text/plain", "no\x1b[2J such\nthing"), wantStatus(400, 0, `no\x1b[2J such thing`)},
	{"400 JSON-RPC", status(400, jsonType, errorBody), wantRPC(-32603, `"x":1`)},
	{"400 JSON-RPC without id", status(400, jsonType, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"invalid"}}`), wantRPC(-32600, "invalid")},
	{"400 JSON-RPC of an application without id", status(400, jsonType, `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"other reason"}}`), wantStatus(400, 0, "other reason")},
	{"400 JSON-RPC to another request", status(400, jsonType, `{"jsonrpc":"2.0","id":99999,"error":{"code":-32603,"message":"broken"}}`), wantStatus(400, 0, "broken")},
	{"401", status(401, "text/plain", "who are you"), wantStatus(401, 0, "who are you")},
	{"403", status(403, "text/html", "<h1>forbidden</h1>"), wantStatus(403, 0, "forbidden")},
	{"409", status(409, "text/plain", ""), wantStatus(409, 0, "")},
	{"422", status(422, "application/json", `{"detail":"bad"}`), wantStatus(422, 0, `{"detail":"bad"}`)},
	{"429", func(w http.ResponseWriter, r *http.Request, id string) {
		w.Header().Set("Retry-After", "7")
		status(429, jsonType, errorBody)(w, r, id)
	}, wantStatus(429, 7*time.Second, "broken")},
	{"500", status(500, "text/plain", strings.Repeat("x", 10_000)), wantStatus(500, 0, strings.Repeat("x", 200))},
	{"500 JSON-RPC", status(500, jsonType, errorBody), wantStatus(500, 0, "broken")},
	{"503", func(w http.ResponseWriter, r *http.Request, id string) {
		w.Header().Set("Date", "Sat, 21 Nov 2026 10:00:00 GMT")
		w.Header().Set("Retry-After", "Sat, 21 Nov 2026 10:01:30 GMT")
		status(503, "text/plain", "later")(w, r, id)
	}, wantStatus(503, 90*time.Second, "later")},
	{"503 whose body does not end", func(w http.ResponseWriter, r *http.Request, _ string) {
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(503)
		_, _ = io.WriteString(w, "never")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}, wantStatus(503, 0, "never")},
	{"redirect", func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.Header().Set("Location", "/login?token=secret#here")
		w.WriteHeader(307)
	}, func(err error) string {
		if strings.Contains(err.Error(), "secret") {
			return "an error without what may be secret"
		}
		return wantStatus(307, 0, "/login,")(err)
	}},
	{"202", status(202, "", ""), wantLost("malformed_response", "HTTP 202")},
	{"204", status(204, "", ""), wantLost("malformed_response", "HTTP 204")},
	{"HTML", status(200, "text/html", "<html>\n hello</html>"), wantLost("malformed_response", "text/html: <html> hello")},
	{"HTML that does not end", func(w http.ResponseWriter, r *http.Request, id string) {
		status(200, "text/html", "<html>")(w, r, id)
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}, wantLost("malformed_response", "text/html: <html>")},
	{"compressed", func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = io.WriteString(w, "\x1f\x8b")
	}, wantLost("malformed_response", "content encoding gzip")},
	{"no content type", func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.Header()["Content-Type"] = nil
		_, _ = io.WriteString(w, "hello")
	}, wantLost("malformed_response", "no content type: hello")},
	{"nothing", status(200, "", ""), wantLost("malformed_response", "empty")},
	{"bad JSON", status(200, jsonType, `{"jsonrpc":"2.0","id":$id,"result":{,}}`), wantLost("malformed_response", "invalid JSON")},
	{"empty JSON", status(200, jsonType, ""), wantLost("malformed_response", "invalid JSON")},
	{"truncated JSON", func(w http.ResponseWriter, r *http.Request, id string) {
		w.Header().Set("Content-Length", "1000")
		abort(status(200, jsonType, `{"jsonrpc":"2.0","id":$id,"resu`))(w, r, id)
	}, wantLost("connection", "")},
	{"invalid UTF-8", status(200, jsonType, `{"jsonrpc":"2.0","id":$id,"result":{"a":"`+"\xff"+`"}}`), wantLost("malformed_response", "UTF-8")},
	{"byte order mark", status(200, jsonType, "\ufeff"+`{"jsonrpc":"2.0","id":$id,"result":{}}`), wantLost("malformed_response", "invalid JSON")},
	{"duplicate keys", status(200, jsonType, `{"jsonrpc":"2.0","id":$id,"result":{},"result":{"b":1}}`), wantLost("malformed_response", "twice")},
	{"result that is no object", status(200, jsonType, `{"jsonrpc":"2.0","id":$id,"result":7}`), wantLost("malformed_response", "object")},
	{"batch", status(200, jsonType, `[{"jsonrpc":"2.0","id":$id,"result":{}}]`), wantLost("malformed_response", "batch")},
	{"answer to another request", status(200, jsonType, `{"jsonrpc":"2.0","id":77777,"result":{}}`), wantLost("malformed_response", "something else")},
	{"too deep", status(200, jsonType, `{"jsonrpc":"2.0","id":$id,"result":{"a":`+strings.Repeat("[", 2000)+strings.Repeat("]", 2000)+`}}`), wantLost("malformed_response", "deeper")},
	{"huge body announced", func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "99999999999")
		http.NewResponseController(w).Flush()
	}, wantLost("malformed_response", "limits.message_bytes")},
	{"huge body", func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.Header().Set("Content-Type", "application/json")
		spaces := []byte(strings.Repeat(" ", 64<<10))
		for {
			if _, err := w.Write(spaces); err != nil {
				return
			}
		}
	}, wantLost("malformed_response", "limits.message_bytes")},
	{"no answer, connection closed", abort(nil), wantLost("connection", "")},
	{"JSON-RPC error", status(200, jsonType, errorBody), wantRPC(-32603, `"x":1`)},
	{"JSON-RPC error without id", status(200, jsonType, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"what"}}`), wantRPC(-32700, "what")},
	{"JSON-RPC error without code", status(200, jsonType, `{"jsonrpc":"2.0","id":$id,"error":{}}`), wantLost("malformed_response", "code")},
	{"stream without answer", stream(false, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}\n\n"), wantLost("stream_aborted", "ended without the answer")},
	{"empty stream", stream(false, ""), wantLost("stream_aborted", "ended without the answer")},
	{"stream broken off", abort(stream(false, "data: {\"jsonrpc\"")), wantLost("stream_aborted", "ended without the answer")},
	{"stream ends in the middle", stream(false, "data: {\"jsonrpc\":\"2.0\",\"id\":$id,\"resu"), wantLost("stream_aborted", "ended without the answer")},
	{"bad event", stream(true, "data: {\"jsonrpc\":\"2.0\",,\n\n"), wantLost("malformed_response", "invalid JSON")},
	{"event of another request", stream(false, "data: {\"jsonrpc\":\"2.0\",\"id\":77777,\"result\":{}}\n\n"), wantLost("malformed_response", "77777")},
	{"line that does not end", func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: ")
		x := []byte(strings.Repeat("x", 64<<10))
		for {
			if _, err := w.Write(x); err != nil {
				return
			}
		}
	}, wantLost("malformed_response", "server-sent event of more than")},
}

// TestHTTPHostileAnswers shows that no answer to one call does anything to another call or to the session.
func TestHTTPHostileAnswers(t *testing.T) {
	for _, tt := range hostileAnswers {
		t.Run(tt.name, func(t *testing.T) {
			s := newHostile(tt.bad)
			url, _ := serve(t, s)
			cfg := httpConfig(url)
			cfg.Limits.MessageBytes = 1 << 20
			testHostileAnswer(t, s, openHTTP(t, cfg, opening{}), tt.want)
		})
		t.Run(tt.name+" over HTTP 2", func(t *testing.T) {
			s := newHostile(tt.bad)
			server := quietly(httptest.NewUnstartedServer(s))
			server.EnableHTTP2 = true
			server.StartTLS()
			t.Cleanup(server.Close)
			cfg := httpConfig(server.URL)
			cfg.Limits.MessageBytes = 1 << 20
			h := newTestHTTPOpener(t, cfg)
			h.client.transport.TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig
			testHostileAnswer(t, s, openWith(t, h, opening{}), tt.want)
			if s.protocol != "HTTP/2.0" {
				t.Errorf("spoke %s", s.protocol)
			}
		})
	}
}

func testHostileAnswer(t *testing.T, s *hostile, l link, wanted func(error) string) {
	t.Helper()
	slow := make(chan error, 1)
	go func() {
		_, err := l.call(t.Context(), toolCall("slow", `{}`, ""))
		slow <- err
	}()
	<-s.began
	_, err := l.call(t.Context(), toolCall("bad", `{}`, ""))
	if err == nil {
		t.Error("no error")
	} else if want := wanted(err); want != "" {
		t.Errorf("got  %T %v\nwant %s", err, err, want)
	} else if len(err.Error()) > 600 || strings.ContainsAny(err.Error(), "\n\x1b") {
		t.Errorf("not fit for a log: %q", err)
	}
	if _, err := l.call(t.Context(), toolCall("ok", `{}`, "")); err != nil {
		t.Errorf("the next call: %v", err)
	}
	close(s.release)
	if err := <-slow; err != nil {
		t.Errorf("the call in flight: %v", err)
	}
	if l.err() != nil {
		t.Errorf("the link is done: %v", l.err())
	}
}

// These calls do not end by themselves: the caller's context bounds them.
func TestHTTPHostileWithoutEnd(t *testing.T) {
	for _, tt := range []struct {
		name string
		bad  func(http.ResponseWriter, *http.Request, string)
	}{
		{"no answer", func(_ http.ResponseWriter, r *http.Request, _ string) { <-r.Context().Done() }},
		{"headers only", stream(true, "")},
		{"half an answer", func(w http.ResponseWriter, r *http.Request, id string) {
			w.Header().Set("Content-Length", "1000")
			status(200, jsonType, `{"jsonrpc"`)(w, r, id)
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}},
		{"endless progress", func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Set("Content-Type", "text/event-stream")
			for {
				_, err := io.WriteString(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":1,\"progress\":1}}\n\n")
				if err != nil {
					return
				}
			}
		}},
		{"endless comments", func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Set("Content-Type", "text/event-stream")
			for {
				if _, err := io.WriteString(w, ": still here\n"); err != nil {
					return
				}
			}
		}},
		{"questions that nobody answers", stream(true, strings.Repeat("data: {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"elicitation/create\",\"params\":{}}\n\n", 1000))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newHostile(tt.bad)
			url, _ := serve(t, s)
			l := openHTTP(t, httpConfig(url), opening{})
			slow := make(chan error, 1)
			go func() {
				_, err := l.call(t.Context(), toolCall("slow", `{}`, ""))
				slow <- err
			}()
			<-s.began
			reason := fmt.Errorf("enough of it: %w", context.DeadlineExceeded)
			ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, reason)
			defer cancel()
			c := toolCall("bad", `{}`, "")
			r := newRecorder(t)
			r.answer = func(ctx context.Context, _ string, _ json.RawMessage) (json.RawMessage, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			c.Stream = r
			_, err := l.call(ctx, c)
			if want := wantLost("timeout", "enough of it")(err); want != "" || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got  %T %v\nwant %s", err, err, want)
			}
			if notice := <-s.waitNotice("notifications/cancelled"); !strings.Contains(notice, "enough of it") {
				t.Errorf("the server was told %s", notice)
			}
			if _, err := l.call(t.Context(), toolCall("ok", `{}`, "")); err != nil {
				t.Errorf("the next call: %v", err)
			}
			close(s.release)
			if err := <-slow; err != nil {
				t.Errorf("the call in flight: %v", err)
			}
		})
	}
}

// waitNotice returns a channel with the first message that is not a request and mentions text.
func (s *hostile) waitNotice(text string) <-chan string {
	found := make(chan string, 1)
	go func() {
		timeout := time.After(10 * time.Second)
		for {
			select {
			case n := <-s.notices:
				if strings.Contains(n, text) {
					found <- n
					return
				}
			case <-timeout:
				found <- "nothing"
				return
			}
		}
	}()
	return found
}

func TestHTTPSessionThatIsGone(t *testing.T) {
	for _, tt := range []struct {
		name    string
		session string
		bad     func(http.ResponseWriter, *http.Request, string)
		lost    bool
	}{
		{"404", "s1", status(404, "text/plain", "not found"), true},
		{"404 JSON-RPC", "s1", status(404, jsonType, `{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}`), true},
		{"400 as the TypeScript SDK's examples answer", "s1", status(400, jsonType, `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: No valid session ID provided"}}`), true},
		{"404 for an unknown method", "s1", status(404, jsonType, `{"jsonrpc":"2.0","id":$id,"error":{"code":-32601,"message":"no such method"}}`), false},
		{"404 without a session", "", status(404, "text/plain", "not found"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newHostile(tt.bad)
			s.session = tt.session
			url, _ := serve(t, s)
			l := openHTTP(t, httpConfig(url), opening{})
			slow := make(chan error, 1)
			go func() {
				_, err := l.call(t.Context(), toolCall("slow", `{}`, ""))
				slow <- err
			}()
			<-s.began
			_, err := l.call(t.Context(), toolCall("bad", `{}`, ""))
			var lost *SessionLostError
			if asError(err, &lost) != tt.lost {
				t.Errorf("error %T %v; lost: want %t", err, err, tt.lost)
			}
			if (l.err() != nil) != tt.lost {
				t.Errorf("the link's error is %v", l.err())
			}
			close(s.release)
			if err := <-slow; err != nil {
				t.Errorf("a call in flight that the server knows: %v", err)
			}
		})
	}
}

// An answer is read whole although its events come in odd forms.
func TestHTTPOddAnswers(t *testing.T) {
	for _, tt := range []struct {
		name string
		bad  func(http.ResponseWriter, *http.Request, string)
		want string
	}{
		{"result before id", status(200, "APPLICATION/JSON;charset=UTF-8", ` {"result": {"n": 1.0} ,"id" :$id, "jsonrpc":"2.0"} `+"\n"), `{"n": 1.0}`},
		{"data in several lines", stream(false, "event: message\r\ndata: {\"jsonrpc\":\"2.0\",\r\ndata: \"id\":$id,\"result\":{}}\r\n\r\n"), `{}`},
		{"other events first", stream(true, "\ufeff: hi\n\nid: 1\ndata:\n\nevent: ping\ndata: x\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":99999,\"result\":{}}\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{\"a\":1}}\n\n"), `{"a":1}`},
		{"last blank line missing", stream(false, "data: {\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{}}"), `{}`},
		{"unknown members of the envelope", status(200, jsonType, `{"jsonrpc":"2.0","id":$id,"result":{},"trace":{"a":1}}`), `{}`},
		{"large", status(200, jsonType, `{"jsonrpc":"2.0","id":$id,"result":{"a":"`+strings.Repeat("x", 3<<20)+`"}}`), `{"a":"` + strings.Repeat("x", 3<<20) + `"}`},
		{"large with its length", func(w http.ResponseWriter, _ *http.Request, id string) {
			b := `{"jsonrpc":"2.0","id":` + id + `,"result":{"a":"` + strings.Repeat("x", 3<<20) + `"}}`
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", fmt.Sprint(len(b)))
			_, _ = io.WriteString(w, b)
		}, `{"a":"` + strings.Repeat("x", 3<<20) + `"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url, _ := serve(t, newHostile(tt.bad))
			l := openHTTP(t, httpConfig(url), opening{})
			raw, err := l.call(t.Context(), toolCall("bad", `{}`, ""))
			if err != nil || string(raw) != tt.want {
				t.Errorf("got %.100s, %v; want %.100s", raw, err, tt.want)
			}
		})
	}
}
