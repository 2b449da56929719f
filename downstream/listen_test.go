package downstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// listenMux is a mux with a modern server that the test plays.
func listenMux(t *testing.T, capabilities string) *muxPair {
	t.Helper()
	m := newMuxPair(t, opening{listen: true}, Legacy)
	m.start(&peer{Revision: Modern, Capabilities: json.RawMessage(capabilities)})
	return m
}

// filter returns the filter of a subscriptions/listen request.
func (m *muxPair) filter(r wire.Message) string {
	m.t.Helper()
	if r.Method != "subscriptions/listen" || string(wire.Get(wire.Get(r.Params, "_meta"), MetaProtocolVersion)) != `"2026-07-28"` {
		m.t.Fatalf("sent %s %s, want subscriptions/listen", r.Method, r.Params)
	}
	return string(wire.Get(r.Params, "notifications"))
}

// agree acknowledges a stream with the given filter.
func (m *muxPair) agree(r wire.Message, filter string) {
	m.server(`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{%q:%s},"notifications":%s}}`, MetaSubscriptionID, r.ID, filter)
}

// subscribing starts a subscribe.
func (m *muxPair) subscribing(uri string) <-chan error {
	done := make(chan error, 1)
	go func() { done <- m.subscribe(m.t.Context(), uri) }()
	return done
}

const listCapabilities = `{"tools":{"listChanged":true},"prompts":{"listChanged":false},"resources":{"listChanged":true,"subscribe":true}}`

func TestListenChangesItsFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := listenMux(t, listCapabilities)
		first := m.next()
		if got := m.filter(first); got != `{"toolsListChanged":true,"resourcesListChanged":true}` {
			t.Errorf("the filter is %s", got)
		}
		m.agree(first, `{"toolsListChanged":true}`)
		synctest.Wait()
		m.server(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{%q:%s,"x/y":1}}}`, MetaSubscriptionID, first.ID)
		if diff := cmp.Diff([]string{`notifications/tools/list_changed {"_meta":{"x/y":1}}`}, m.up.all()); diff != "" {
			t.Errorf("heard (-want +got):\n%s", diff)
		}

		// A subscription ends the stream before it opens another one, and what may have changed meanwhile is reported.
		done := m.subscribing("test://a")
		if c := m.next(); c.Method != "notifications/cancelled" || string(wire.Get(c.Params, "requestId")) != string(first.ID) {
			t.Errorf("sent %s %s, want the end of the first stream", c.Method, c.Params)
		}
		m.server(`{"jsonrpc":"2.0","id":%s,"result":{}}`, first.ID)
		second := m.next()
		if got := m.filter(second); got != `{"toolsListChanged":true,"resourcesListChanged":true,"resourceSubscriptions":["test://a"]}` {
			t.Errorf("the filter is %s", got)
		}
		select {
		case err := <-done:
			t.Errorf("subscribe returned before the server agreed: %v", err)
		default:
		}
		m.agree(second, `{"toolsListChanged":true,"resourceSubscriptions":["test://a"]}`)
		if err := <-done; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		want := []string{`notifications/tools/list_changed {"_meta":{"x/y":1}}`, "notifications/tools/list_changed ", "notifications/resources/list_changed "}
		if diff := cmp.Diff(want, m.up.all()); diff != "" {
			t.Errorf("heard (-want +got):\n%s", diff)
		}

		// What the server leaves out of its agreement it refuses. This server does not answer the request that was cancelled.
		refused := m.subscribing("test://secret")
		m.next()
		third := m.next()
		m.agree(third, `{"resourceSubscriptions":["test://a"]}`)
		var e *wire.Error
		if err := <-refused; !errors.As(err, &e) {
			t.Errorf("a refused subscription: %v", err)
		}
		m.fail(errors.New("over"))
		m.wait()
	})
}

func TestListenSurvivesItsServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := listenMux(t, listCapabilities)
		for n, end := range []string{
			`{"jsonrpc":"2.0","id":%s,"result":{}}`,
			`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s}}`,
			`{"jsonrpc":"2.0","id":%s,"error":{"code":-32603,"message":"oops"}}`,
		} {
			r := m.next()
			m.agree(r, `{}`)
			m.agree(r, `{}`) // once more does no harm
			synctest.Wait()
			if want := 2 * n; len(m.up.all()) != want {
				t.Errorf("stream %d: heard %q, want %d changes", n, m.up.all(), want)
			}
			m.server(end, r.ID)
			synctest.Wait()
			select {
			case r := <-m.sent:
				t.Errorf("opened again at once: %s", r.Method)
			default:
			}
			time.Sleep(listenFirst << n)
		}
		r := m.next() // and this one gets no answer
		time.Sleep(listenAck)
		if c := m.next(); c.Method != "notifications/cancelled" || string(wire.Get(c.Params, "requestId")) != string(r.ID) {
			t.Errorf("sent %s %s, want that the stream is given up", c.Method, c.Params)
		}
		time.Sleep(listenMost)
		m.filter(m.next())
		m.fail(errors.New("over"))
		m.wait()
	})
}

func TestListenRefused(t *testing.T) {
	t.Run("altogether", func(t *testing.T) {
		m := listenMux(t, listCapabilities)
		r := m.next()
		m.server(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"unknown method"}}`, r.ID)
		done := m.subscribing("test://a")
		r = m.next()
		if got := m.filter(r); got != `{"resourceSubscriptions":["test://a"]}` {
			t.Errorf("the filter is %s, want no more list changes in it", got)
		}
		m.server(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"unknown method"}}`, r.ID)
		var e *wire.Error
		if err := <-done; !errors.As(err, &e) || e.Code != wire.CodeMethodNotFound {
			t.Errorf("subscribe: %v", err)
		}
	})
	t.Run("one resource", func(t *testing.T) {
		m := listenMux(t, listCapabilities)
		m.agree(m.next(), `{}`)
		done := m.subscribing("test://bad")
		c := m.next()
		m.server(`{"jsonrpc":"2.0","id":%s,"result":{}}`, wire.Get(c.Params, "requestId"))
		m.server(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32602,"message":"bad uri"}}`, m.next().ID)
		if err := <-done; err == nil {
			t.Error("the subscription counts as made")
		}
		if got := m.filter(m.next()); got != `{"toolsListChanged":true,"resourcesListChanged":true}` {
			t.Errorf("the filter after it is %s", got)
		}
	})
}

func TestListenIsNotOpenedInVain(t *testing.T) {
	m := listenMux(t, `{"tools":{}}`)
	if err := m.unsubscribe(t.Context(), "test://none"); err != nil {
		t.Error(err)
	}
	r, a := m.begin(t.Context(), &Call{Method: "x"})
	if r.Method != "x" {
		t.Errorf("sent %s", r.Method)
	}
	m.server(`{"jsonrpc":"2.0","id":%s,"result":{}}`, r.ID)
	<-a
}

func TestListenEndsWithTheSession(t *testing.T) {
	m := listenMux(t, listCapabilities)
	m.next()
	done := m.subscribing("test://a")
	m.fail(errors.New("gone"))
	var away *UnavailableError
	if err := <-done; !errors.As(err, &away) {
		t.Errorf("subscribe: %v", err)
	}
	m.wait()
}

func TestLegacySubscribe(t *testing.T) {
	m := newMuxPair(t, opening{}, Legacy)
	for _, method := range []string{"resources/subscribe", "resources/unsubscribe"} {
		done := make(chan error, 1)
		go func() {
			if method == "resources/subscribe" {
				done <- m.subscribe(t.Context(), "test://ü\"")
				return
			}
			done <- m.unsubscribe(t.Context(), "test://ü\"")
		}()
		r := m.next()
		if r.Method != method || string(r.Params) != `{"uri":"test://ü\""}` {
			t.Errorf("sent %s %s", r.Method, r.Params)
		}
		m.server(`{"jsonrpc":"2.0","id":%s,"result":{}}`, r.ID)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	m.server(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"test://a"}}`)
	if got := fmt.Sprint(m.up.all()); got != `[notifications/resources/updated {"uri":"test://a"}]` {
		t.Errorf("heard %s", got)
	}
}
