package downstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// muxPair is a mux whose server is the test itself.
type muxPair struct {
	*mux
	t    testing.TB
	sent chan wire.Message // what the mux wrote
	up   *recorder
}

func newMuxPair(t testing.TB, o opening, revision string) *muxPair {
	t.Helper()
	m := &muxPair{t: t, sent: make(chan wire.Message, 1000), up: newRecorder(t)}
	if o.upcalls == nil {
		o.upcalls = m.up
	}
	cfg := DefaultConfig()
	m.mux = newMux(func(_ context.Context, msg []byte) error {
		w, err := wire.Parse(msg, 1000)
		if err != nil {
			t.Errorf("the mux wrote %q: %v", msg, err)
		}
		m.sent <- w
		return nil
	}, o, muxConfig{limits: cfg.Limits, grace: time.Second})
	m.start(&peer{Revision: revision, Capabilities: json.RawMessage("{}")})
	t.Cleanup(func() {
		m.fail(errors.New("the test is over"))
		m.wait()
	})
	return m
}

// next returns what the mux wrote next.
func (m *muxPair) next() wire.Message {
	m.t.Helper()
	select {
	case w := <-m.sent:
		return w
	case <-time.After(10 * time.Second):
		m.t.Fatal("nothing was sent")
		return wire.Message{}
	}
}

// server hands the mux one message of the server's.
func (m *muxPair) server(format string, args ...any) { m.receive(fmt.Appendf(nil, format, args...)) }

// answered is how a call ended.
type answered struct {
	raw json.RawMessage
	err error
}

// begin starts a call and returns when its request has been sent.
func (m *muxPair) begin(ctx context.Context, c *Call) (wire.Message, <-chan answered) {
	m.t.Helper()
	done := make(chan answered, 1)
	go func() {
		raw, err := m.call(ctx, c)
		done <- answered{raw, err}
	}()
	return m.next(), done
}

func TestMuxAnswersReachTheirCallers(t *testing.T) {
	m := newMuxPair(t, opening{shared: true}, Legacy)
	r1, a1 := m.begin(t.Context(), &Call{Method: "a"})
	r2, a2 := m.begin(t.Context(), &Call{Method: "b"})
	if string(r1.ID) == string(r2.ID) {
		t.Fatalf("two requests have the id %s", r1.ID)
	}
	m.server(`{"jsonrpc":"2.0","id":%s,"result":{"n":18446744073709551615, "x" : 1.0}}`, r2.ID)
	m.server(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32602,"message":"no","data":{"big":1e400},"extra":[]}}`, r1.ID)
	if got := <-a2; string(got.raw) != `{"n":18446744073709551615, "x" : 1.0}` || got.err != nil {
		t.Errorf("b: %s, %v", got.raw, got.err)
	}
	got := <-a1
	var e *wire.Error
	if !errors.As(got.err, &e) || string(e.Bytes()) != `{"code":-32602,"message":"no","data":{"big":1e400},"extra":[]}` {
		t.Errorf("a: %v, want the server's error as it was", got.err)
	}
}

func TestMuxProgressHasTheClientsToken(t *testing.T) {
	m := newMuxPair(t, opening{shared: true}, Legacy)
	s1, s2 := newRecorder(t), newRecorder(t)
	with := func(token string, s Stream) *Call {
		return &Call{Method: "tools/call", Params: json.RawMessage(`{"_meta":{"progressToken":` + token + `}}`), Stream: s}
	}
	r1, a1 := m.begin(t.Context(), with(`"same"`, s1))
	r2, a2 := m.begin(t.Context(), with(`"s\u0061me"`, s2))
	r3, a3 := m.begin(t.Context(), &Call{Method: "tools/call", Stream: newRecorder(t)}) // wants none
	token := func(r wire.Message) json.RawMessage { return wire.Get(wire.Get(r.Params, "_meta"), "progressToken") }
	if string(token(r1)) == string(token(r2)) {
		t.Fatalf("two calls have the token %s", token(r1))
	}
	m.server(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1.0,"progressToken":%s,"x": 1}}`, token(r2))
	m.server(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":2}}`, token(r1))
	m.server(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":3}}`, r3.ID)
	m.server(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"same","progress":3}}`)
	m.server(`{"jsonrpc":"2.0","method":"notifications/progress"}`)
	for _, r := range []wire.Message{r1, r2, r3} {
		m.server(`{"jsonrpc":"2.0","id":%s,"result":{}}`, r.ID)
	}
	m.server(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":4}}`, token(r1))
	<-a1
	<-a2
	<-a3
	if diff := cmp.Diff([]string{`notifications/progress {"progressToken":"same","progress":2}`}, s1.all()); diff != "" {
		t.Errorf("the first heard (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{`notifications/progress {"progress":1.0,"progressToken":"s\u0061me","x":1}`}, s2.all()); diff != "" {
		t.Errorf("the second heard (-want +got):\n%s", diff)
	}
	if got := m.dropped.progress.Load(); got != 4 {
		t.Errorf("%d progress notifications counted as dropped, want 4", got)
	}
}

// TestMuxMessagesWithoutAName: where log messages and requests go that do not say which call they belong to.
func TestMuxMessagesWithoutAName(t *testing.T) {
	const note = `{"jsonrpc":"2.0","method":"notifications/message","params":{"data":1}}`
	ask := func(name string) func(context.Context, string, json.RawMessage) (json.RawMessage, error) {
		return func(context.Context, string, json.RawMessage) (json.RawMessage, error) {
			return json.RawMessage(`{"by":"` + name + `"}`), nil
		}
	}
	for _, test := range []struct {
		name   string
		shared bool
		calls  int // with a stream
		own    int // without
		want   string
	}{
		{"nobody", true, 0, 0, "up"},
		{"the gateway's own only", true, 0, 2, "up"},
		{"one", true, 1, 0, "1"},
		{"one and the gateway's own", true, 1, 1, "1"},
		{"several of several clients", true, 2, 0, ""},
		{"several of one client", false, 3, 1, "3"},
	} {
		t.Run(test.name, func(t *testing.T) {
			up := newRecorder(t)
			up.answer = ask("up")
			m := newMuxPair(t, opening{shared: test.shared, upcalls: up}, Legacy)
			streams := map[string]*recorder{"up": up}
			for n := range test.calls {
				s := newRecorder(t)
				name := fmt.Sprint(n + 1)
				s.answer = ask(name)
				streams[name] = s
				m.begin(t.Context(), &Call{Method: "tools/call", Stream: s})
			}
			for range test.own {
				m.begin(t.Context(), &Call{Method: "tools/list"})
			}
			m.receive([]byte(note))
			for name, s := range streams {
				want := 0
				if name == test.want {
					want = 1
				}
				if got := len(s.all()); got != want {
					t.Errorf("%s heard %d messages, want %d", name, got, want)
				}
			}
			m.server(`{"jsonrpc":"2.0","id":"s1","method":"roots/list"}`)
			answer := m.next()
			if string(answer.ID) != `"s1"` {
				t.Fatalf("the answer has the id %s", answer.ID)
			}
			if test.want == "" {
				if e, err := wire.ParseError(answer.Error); err != nil || !strings.Contains(e.Message, "session: per_client") {
					t.Errorf("the request was answered %s, %s, want an error that says what to do", answer.Result, answer.Error)
				}
				if m.dropped.messages.Load() != 1 {
					t.Error("the dropped message was not counted")
				}
				return
			}
			if got, _ := wire.GetString(answer.Result, "by"); got != test.want {
				t.Errorf("%q answered the request (%s), want %q", got, answer.Error, test.want)
			}
		})
	}
}

func TestMuxAnswersPing(t *testing.T) {
	m := newMuxPair(t, opening{}, Legacy)
	m.server(`{"jsonrpc":"2.0","id":0,"method":"ping"}`)
	if got := m.next(); string(got.ID) != "0" || string(got.Result) != "{}" {
		t.Errorf("ping was answered %s %s %s", got.ID, got.Result, got.Error)
	}
}

// TestMuxServerRequestEnds: with the call that it belongs to, or when the server no longer wants it; never after the call returned.
func TestMuxServerRequestEnds(t *testing.T) {
	for _, how := range []string{"with the call", "cancelled by the server"} {
		t.Run(how, func(t *testing.T) {
			m := newMuxPair(t, opening{shared: true}, Legacy)
			s := newRecorder(t)
			asked, over := make(chan struct{}), make(chan error, 1)
			s.answer = func(ctx context.Context, _ string, _ json.RawMessage) (json.RawMessage, error) {
				close(asked)
				<-ctx.Done()
				over <- context.Cause(ctx)
				return nil, wire.Errorf(1, "ended")
			}
			r, a := m.begin(t.Context(), &Call{Method: "tools/call", Stream: s})
			m.server(`{"jsonrpc":"2.0","id":7,"method":"elicitation/create"}`)
			<-asked
			if how == "with the call" {
				m.server(`{"jsonrpc":"2.0","id":%s,"result":{}}`, r.ID)
				<-a
				select {
				case <-over:
				default:
					t.Error("the call returned before its stream was left alone")
				}
				if got := m.next(); string(got.ID) != "7" || got.Error == nil {
					t.Errorf("the server's request was answered %s %s, want an error", got.ID, got.Result)
				}
				return
			}
			m.server(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`)
			if err := <-over; !errors.Is(err, errCancelledByServer) {
				t.Errorf("it was cancelled because of %v", err)
			}
			m.server(`{"jsonrpc":"2.0","id":8,"method":"ping"}`)
			if got := m.next(); string(got.ID) != "8" {
				t.Errorf("the cancelled request %s was answered", got.ID)
			}
			m.server(`{"jsonrpc":"2.0","id":%s,"result":{}}`, r.ID)
			<-a
		})
	}
}

func TestMuxCancel(t *testing.T) {
	reason := errors.New("the user pressed stop")
	for _, test := range []struct {
		name  string
		ctx   func(context.Context) (context.Context, func())
		class string
		want  string
	}{
		{"cancelled", func(ctx context.Context) (context.Context, func()) {
			ctx, cancel := context.WithCancelCause(ctx)
			return ctx, func() { cancel(reason) }
		}, "cancelled", "the user pressed stop"},
		{"timeout", func(ctx context.Context) (context.Context, func()) {
			ctx, cancel := context.WithCancelCause(ctx)
			return ctx, func() { cancel(fmt.Errorf("no answer within 5m: %w", context.DeadlineExceeded)) }
		}, "timeout", "no answer within 5m: context deadline exceeded"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMuxPair(t, opening{}, Legacy)
			ctx, end := test.ctx(t.Context())
			r, a := m.begin(ctx, &Call{Method: "tools/call"})
			end()
			var lost *LostError
			if got := <-a; !errors.As(got.err, &lost) || lost.Class != test.class || lost.Err.Error() != test.want {
				t.Errorf("the call ended with %v", got.err)
			}
			c := m.next()
			if c.Method != "notifications/cancelled" || string(c.Params) != fmt.Sprintf(`{"requestId":%s,"reason":%s}`, r.ID, wire.Quote(test.want)) {
				t.Errorf("the server was told %s %s", c.Method, c.Params)
			}
			m.server(`{"jsonrpc":"2.0","id":%s,"result":{}}`, r.ID)
			if m.dropped.late.Load() != 1 {
				t.Error("the late answer was not counted")
			}
		})
	}
}

// TestMuxDeadline is in a bubble because it is about time: the context's own deadline counts as a timeout.
func TestMuxDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMuxPair(t, opening{}, Legacy)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, a := m.begin(ctx, &Call{Method: "tools/call"})
		time.Sleep(time.Minute)
		synctest.Wait()
		var lost *LostError
		if got := <-a; !errors.As(got.err, &lost) || lost.Class != "timeout" || !errors.Is(lost, context.DeadlineExceeded) {
			t.Errorf("the call ended with %v", got.err)
		}
		m.fail(errors.New("over"))
		m.wait()
	})
}

func TestMuxEnds(t *testing.T) {
	m := newMuxPair(t, opening{}, Legacy)
	_, a := m.begin(t.Context(), &Call{Method: "tools/call"})
	m.fail(errors.New("the process ended"))
	m.fail(errors.New("something else"))
	var lost *LostError
	if got := <-a; !errors.As(got.err, &lost) || lost.Class != "connection" || lost.Err.Error() != "the process ended" {
		t.Errorf("the call in flight ended with %v", got.err)
	}
	var away *UnavailableError
	if _, err := m.call(t.Context(), &Call{Method: "x"}); !errors.As(err, &away) || away.Class != "connection_closed" {
		t.Errorf("the next call ended with %v", err)
	}
	if err := m.notify(t.Context(), "x", nil); !errors.As(err, &away) {
		t.Errorf("notify: %v", err)
	}
	<-m.done()
}

func TestMuxBoundsWhatIsInFlight(t *testing.T) {
	m := newMuxPair(t, opening{}, Legacy)
	m.cfg.limits.InFlight = 2
	r, a := m.begin(t.Context(), &Call{Method: "a"})
	m.begin(t.Context(), &Call{Method: "b"})
	var away *UnavailableError
	if _, err := m.call(t.Context(), &Call{Method: "c"}); !errors.As(err, &away) || away.Class != "overloaded" {
		t.Errorf("the third call ended with %v, want overloaded", err)
	}
	m.server(`{"jsonrpc":"2.0","id":%s,"result":{}}`, r.ID)
	<-a
	m.begin(t.Context(), &Call{Method: "d"})

	// The server's requests have the same bound.
	block := make(chan struct{})
	m.up.answer = func(context.Context, string, json.RawMessage) (json.RawMessage, error) {
		<-block
		return nil, wire.Errorf(1, "x")
	}
	for n := range 5 {
		m.server(`{"jsonrpc":"2.0","id":%d,"method":"roots/list"}`, n)
	}
	if got := m.dropped.requests.Load(); got != 3 {
		t.Errorf("%d requests of the server were dropped, want 3", got)
	}
	close(block)
}

func TestMuxManyCallersWithTheSameToken(t *testing.T) {
	m := newMuxPair(t, opening{shared: true}, Legacy)
	served := make(chan struct{})
	go func() {
		defer close(served)
		for range 20 * 10 {
			r := m.next()
			token := wire.Get(wire.Get(r.Params, "_meta"), "progressToken")
			who := wire.Get(r.Params, "who")
			for n := range 5 {
				m.server(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":%d,"who":%s}}`, token, n, who)
			}
			m.server(`{"jsonrpc":"2.0","id":%s,"result":{"who":%s}}`, r.ID, who)
		}
	}()
	var wg sync.WaitGroup
	for who := range 20 {
		wg.Go(func() {
			for range 10 {
				s := newRecorder(t)
				raw, err := m.call(t.Context(), &Call{Method: "x", Stream: s, Params: fmt.Appendf(nil, `{"who":%d,"_meta":{"progressToken":1}}`, who)})
				if want := fmt.Sprintf(`{"who":%d}`, who); err != nil || string(raw) != want {
					t.Errorf("got %s, %v, want %s", raw, err, want)
				}
				var want []string
				for n := range 5 {
					want = append(want, fmt.Sprintf(`notifications/progress {"progressToken":1,"progress":%d,"who":%d}`, n, who))
				}
				if diff := cmp.Diff(want, s.all()); diff != "" {
					t.Errorf("progress (-want +got):\n%s", diff)
				}
			}
		})
	}
	wg.Wait()
	<-served
}
