package downstream

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// announcer is a hand-written modern server that announces changes of its tools and resources.
type announcer struct {
	listen func(n int, w http.ResponseWriter, r *http.Request, m *wire.Message) // n counts from 1

	mu      sync.Mutex
	n       int
	filters []string
	open    int // streams
	most    int // streams at the same time
}

func (s *announcer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m, err := wire.Parse(drainRequest(r), 100)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if m.Method != "subscriptions/listen" {
		reply(w, string(m.ID), `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true},"prompts":{}}}`)
		return
	}
	s.mu.Lock()
	s.n++
	n := s.n
	s.filters = append(s.filters, string(wire.Get(m.Params, "notifications")))
	s.open++
	s.most = max(s.most, s.open)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.open--
		s.mu.Unlock()
	}()
	s.listen(n, w, r, &m)
}

func (s *announcer) seen() (n int, filters []string, open, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n, s.filters, s.open, s.most
}

// acknowledge agrees to what grants says, or to all that was asked for if it is "".
func acknowledge(w http.ResponseWriter, m *wire.Message, grants string) {
	if grants == "" {
		grants = string(wire.Get(m.Params, "notifications"))
	}
	tell(w, m, "notifications/subscriptions/acknowledged", `"notifications":`+grants)
}

func tell(w http.ResponseWriter, m *wire.Message, method, params string) {
	w.Header().Set("Content-Type", "text/event-stream")
	if params != "" {
		params = "," + params
	}
	fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"method\":%q,\"params\":{\"_meta\":{%q:%s}%s}}\n\n", method, MetaSubscriptionID, m.ID, params)
	http.NewResponseController(w).Flush()
}

func TestHTTPListenComesBack(t *testing.T) {
	s := &announcer{}
	s.listen = func(n int, w http.ResponseWriter, r *http.Request, m *wire.Message) {
		switch n {
		case 1:
			acknowledge(w, m, "")
			tell(w, m, "notifications/tools/list_changed", "")
		case 2:
			acknowledge(w, m, "")
			tell(w, m, "notifications/resources/updated", `"uri":"a://b"`)
			panic(http.ErrAbortHandler)
		case 3:
			status(503, "text/plain", "")(w, r, "")
		case 4:
			acknowledge(w, m, "")
			fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{}}\n\n", m.ID)
		case 5:
			status(404, "text/plain", "")(w, r, "") // a router in front of it that does not know it just now
		default:
			acknowledge(w, m, "")
			tell(w, m, "notifications/last", "")
			<-r.Context().Done()
		}
	}
	url, _ := serve(t, s)
	up := newRecorder(t)
	l := openHTTP(t, httpConfig(url), opening{listen: true, upcalls: up})
	up.waitFor("notifications/last")
	// Each time the stream was away, the tools may have changed.
	want := []string{
		"notifications/tools/list_changed {}",
		"notifications/tools/list_changed ", `notifications/resources/updated {"uri":"a://b"}`,
		"notifications/tools/list_changed ",
		"notifications/tools/list_changed ", "notifications/last {}",
	}
	if d := cmp.Diff(want, up.all()); d != "" {
		t.Errorf("heard (-want +got):\n%s", d)
	}
	if _, filters, _, _ := s.seen(); filters[0] != `{"toolsListChanged":true}` {
		t.Errorf("the filter is %s", filters[0])
	}
	l.close(t.Context())
	eventually(t, "the stream ends with the link", func() bool { _, _, open, _ := s.seen(); return open == 0 })
}

func TestHTTPListenRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		listen func(n int, w http.ResponseWriter, r *http.Request, m *wire.Message)
		want   func(error) string // of a subscribe
	}{
		{"404 JSON-RPC", func(_ int, w http.ResponseWriter, r *http.Request, m *wire.Message) {
			answerError(404, `{"code":-32601,"message":"no such method"}`)(w, r, string(m.ID))
		}, wantRPC(-32601, "no such method")},
		{"200 JSON-RPC", func(_ int, w http.ResponseWriter, r *http.Request, m *wire.Message) {
			answerError(200, `{"code":-32601,"message":"no such method"}`)(w, r, string(m.ID))
		}, wantRPC(-32601, "no such method")},
		{"405", func(_ int, w http.ResponseWriter, r *http.Request, _ *wire.Message) {
			status(405, "text/plain", "")(w, r, "")
		}, wantStatus(405, 0, "")},
		{"nothing granted", func(_ int, w http.ResponseWriter, _ *http.Request, m *wire.Message) {
			acknowledge(w, m, "{}")
			fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{}}\n\n", m.ID)
		}, wantRPC(wire.CodeInvalidParams, "")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &announcer{listen: tt.listen}
			url, _ := serve(t, s)
			l := openHTTP(t, httpConfig(url), opening{listen: true}).(*httpLink)
			<-l.listener.current.ctx.Done() // it is not tried again
			if n, _, _, _ := s.seen(); n != 1 {
				t.Errorf("asked %d times, want once", n)
			}
			err := l.subscribe(t.Context(), "a://b")
			if want := tt.want(err); want != "" {
				t.Errorf("subscribe: got %T %v, want %s", err, err, want)
			}
			if _, err := l.call(t.Context(), &Call{Method: "tools/list"}); err != nil {
				t.Errorf("a call: %v", err)
			}
		})
	}
}

func TestHTTPSubscribe(t *testing.T) {
	s := &announcer{}
	s.listen = func(_ int, w http.ResponseWriter, r *http.Request, m *wire.Message) {
		filter := wire.Get(m.Params, "notifications")
		if strings.Contains(string(filter), "a://bad") {
			acknowledge(w, m, `{"resourceSubscriptions":["a://1"]}`)
		} else {
			acknowledge(w, m, "")
		}
		<-r.Context().Done()
	}
	url, _ := serve(t, s)
	l := openHTTP(t, httpConfig(url), opening{}).(*httpLink)
	for _, step := range []struct {
		on  bool
		uri string
		err bool
	}{{true, "a://2", false}, {true, "a://1", false}, {true, "a://1", false}, {true, "a://bad", true}, {false, "a://2", false}, {false, "a://2", false}} {
		f := l.unsubscribe
		if step.on {
			f = l.subscribe
		}
		if err := f(t.Context(), step.uri); (err != nil) != step.err {
			t.Errorf("%v: %v", step, err)
		}
	}
	eventually(t, "only one stream stays", func() bool { _, _, open, _ := s.seen(); return open == 1 })
	_, filters, _, most := s.seen()
	want := []string{
		`{"resourceSubscriptions":["a://2"]}`, `{"resourceSubscriptions":["a://1","a://2"]}`,
		`{"resourceSubscriptions":["a://1","a://2","a://bad"]}`, `{"resourceSubscriptions":["a://1"]}`,
	}
	if d := cmp.Diff(want, filters); d != "" {
		t.Errorf("filters (-want +got):\n%s", d)
	}
	if most < 2 {
		t.Error("the old stream was closed before the new one was open: changes in between are lost")
	}
	if err := l.unsubscribe(t.Context(), "a://1"); err != nil {
		t.Error(err)
	}
	eventually(t, "no stream stays", func() bool { _, _, open, _ := s.seen(); return open == 0 })
}

func TestHTTPSubscribeWithoutAgreement(t *testing.T) {
	s := &announcer{listen: func(_ int, w http.ResponseWriter, r *http.Request, _ *wire.Message) {
		stream(true, ": hello\n\n")(w, r, "")
	}}
	url, _ := serve(t, s)
	l := openHTTP(t, httpConfig(url), opening{}).(*httpLink)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if want := wantLost("timeout", "acknowledge")(l.subscribe(ctx, "a://b")); want != "" {
		t.Errorf("want %s", want)
	}
	eventually(t, "the stream is given up", func() bool { _, _, open, _ := s.seen(); return open == 0 })
}

func TestHTTPWatchEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		code int
		lost bool
	}{{"the server has none", 405, false}, {"the server refuses", 406, false}, {"the session is gone", 404, true}} {
		t.Run(tt.name, func(t *testing.T) {
			s := newHostile(nil)
			var mu sync.Mutex
			n := 0
			s.get = func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				n++
				status(tt.code, "text/plain", "")(w, r, "")
			}
			url, _ := serve(t, s)
			l := openHTTP(t, httpConfig(url), opening{listen: true}).(*httpLink)
			l.wg.Wait() // the watch has ended
			if (l.err() != nil) != tt.lost {
				t.Errorf("the link's error: %v", l.err())
			}
			if n != 1 {
				t.Errorf("asked %d times, want once", n)
			}
		})
	}
}

// A legacy server that gives its events no ids may have said something while the stream was away.
func TestHTTPWatchTellsWhatItMayHaveMissed(t *testing.T) {
	s := &handshakes{initialize: answerJSON(`{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true},"prompts":{"listChanged":false}}}`)}
	n := 0
	s.get = func(w http.ResponseWriter, r *http.Request, _ string) {
		n++
		stream(n > 1, fmt.Sprintf("data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/%d\"}\n\n", n))(w, r, "")
	}
	url, _ := serve(t, s)
	up := newRecorder(t)
	openHTTP(t, httpConfig(url), opening{listen: true, upcalls: up})
	up.waitFor("notifications/2")
	if d := cmp.Diff([]string{"notifications/1 ", "notifications/tools/list_changed ", "notifications/2 "}, up.all()); d != "" {
		t.Errorf("heard (-want +got):\n%s", d)
	}
}

// What a server asks on one stream it may take back on another.
func TestHTTPServerTakesARequestBack(t *testing.T) {
	s := newHostile(nil)
	asked := make(chan struct{})
	s.bad = func(w http.ResponseWriter, r *http.Request, id string) {
		stream(false, "data: {\"jsonrpc\":\"2.0\",\"id\":\"q\",\"method\":\"elicitation/create\",\"params\":{}}\n\n")(w, r, id)
		<-s.release
		stream(false, "data: {\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{}}\n\n")(w, r, id)
	}
	s.get = func(w http.ResponseWriter, r *http.Request) {
		<-asked
		stream(true, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":\"q\"}}\n\n")(w, r, "")
	}
	url, _ := serve(t, s)
	l := openHTTP(t, httpConfig(url), opening{listen: true})
	r := newRecorder(t)
	r.answer = func(ctx context.Context, _ string, _ json.RawMessage) (json.RawMessage, error) {
		close(asked)
		<-ctx.Done()
		close(s.release)
		return nil, ctx.Err()
	}
	c := toolCall("bad", `{}`, "")
	c.Stream = r
	if _, err := l.call(t.Context(), c); err != nil {
		t.Error(err)
	}
}

func TestHTTPWhatBelongsToTheCall(t *testing.T) {
	event := func(method, params string) string {
		return fmt.Sprintf("data: {\"jsonrpc\":\"2.0\",\"method\":%q,\"params\":%s}\n\n", "notifications/"+method, params)
	}
	events := event("progress", `{"progressToken":"t","progress":1}`) + event("message", `{"level":"info"}`) + event("tools/list_changed", `{}`) +
		event("resources/updated", `{"uri":"a://b"}`) + event("x/vendor", `{}`) + "data: {\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{}}\n\n"
	for _, tt := range []struct {
		name, meta string
		shared     bool
		want       []string
	}{
		{"progress was asked for", `{"progressToken":"t"}`, false, []string{`notifications/progress {"progressToken":"t","progress":1}`, `notifications/message {"level":"info"}`, "notifications/x/vendor {}"}},
		{"progress was not asked for", "", false, []string{`notifications/message {"level":"info"}`, "notifications/x/vendor {}"}},
		{"progress under another token than was minted", `{"progressToken":"t"}`, true, []string{`notifications/message {"level":"info"}`, "notifications/x/vendor {}"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url, _ := serve(t, newHostile(stream(false, events)))
			up, r := newRecorder(t), newRecorder(t)
			l := openHTTP(t, httpConfig(url), opening{upcalls: up, shared: tt.shared})
			c := toolCall("bad", `{}`, tt.meta)
			c.Stream = r
			if _, err := l.call(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, r.all()); d != "" {
				t.Errorf("the call heard (-want +got):\n%s", d)
			}
			if d := cmp.Diff([]string{"notifications/tools/list_changed {}", `notifications/resources/updated {"uri":"a://b"}`}, up.all()); d != "" {
				t.Errorf("the session heard (-want +got):\n%s", d)
			}
			if _, err := l.call(t.Context(), toolCall("bad", `{}`, tt.meta)); err != nil {
				t.Errorf("with nobody to hear it: %v", err)
			}
		})
	}
}

// Only the revision 2025-03-26 has batches.
func TestHTTPBatch(t *testing.T) {
	s := &handshakes{initialize: answerJSON(`{"protocolVersion":"2025-03-26","capabilities":{}}`)}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := drainRequest(r)
		if wire.Get(b, "id") == nil || strings.Contains(string(b), `"initialize"`) || strings.Contains(string(b), "discover") {
			r.Body = http.NoBody
			m, _ := wire.Parse(b, 100)
			switch m.Method {
			case "initialize":
				s.initialize(w, r, string(m.ID))
			case "notifications/initialized":
				w.WriteHeader(http.StatusAccepted)
			default:
				http.NotFound(w, r)
			}
			return
		}
		status(200, "application/json", `[{"jsonrpc":"2.0","method":"notifications/message","params":{}},{"jsonrpc":"2.0","id":$id,"result":{"a":1}}]`)(w, r, string(wire.Get(b, "id")))
	})
	url, _ := serve(t, h)
	l := openHTTP(t, httpConfig(url), opening{})
	r := newRecorder(t)
	raw, err := l.call(t.Context(), &Call{Method: "x", Stream: r})
	if err != nil || string(raw) != `{"a":1}` || len(r.all()) != 1 {
		t.Errorf("%s, %v, heard %q", raw, err, r.all())
	}
}

func TestHTTPNotify(t *testing.T) {
	s := newHostile(nil)
	url, _ := serve(t, s)
	l := openHTTP(t, httpConfig(url), opening{})
	if err := l.notify(t.Context(), "notifications/roots/list_changed", nil); err != nil {
		t.Fatal(err)
	}
	if got := <-s.waitNotice("roots"); got != `{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}` {
		t.Errorf("the server got %s", got)
	}
	l.close(t.Context())
	var away *UnavailableError
	if err := l.notify(t.Context(), "notifications/x", nil); !asError(err, &away) {
		t.Errorf("after close: %v", err)
	}
}
