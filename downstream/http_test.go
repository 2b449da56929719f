package downstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/wire"
)

func TestHTTPWithSDKServer(t *testing.T) {
	for _, era := range sdkEras {
		t.Run(era.name, func(t *testing.T) {
			s := newSDKServer()
			url, _ := s.serve(t, era.opts)
			l := openHTTP(t, httpConfig(url), opening{})
			p := l.peer()
			if p.Revision != era.revision {
				t.Errorf("revision %q, want %q", p.Revision, era.revision)
			}
			if name, _ := wire.GetString(p.Info, "name"); name != "sdk" {
				t.Errorf("server info %s", p.Info)
			}
			raw, err := l.call(t.Context(), toolCall("echo", `{"a":12345678901234567890}`, ""))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Contains(raw, []byte(`12345678901234567890`)) {
				t.Errorf("result %s", raw)
			}
			var rpc *wire.Error
			if _, err := l.call(t.Context(), toolCall("none", `{}`, "")); !asError(err, &rpc) || rpc.Code != wire.CodeInvalidParams {
				t.Errorf("unknown tool: %v, want a JSON-RPC error %d", err, wire.CodeInvalidParams)
			}
			var status *StatusError
			_, err = l.call(t.Context(), &Call{Method: "no/such"})
			if p.modern() && (!asError(err, &rpc) || rpc.Code != wire.CodeMethodNotFound) {
				t.Errorf("unknown method: %v, want a JSON-RPC error %d", err, wire.CodeMethodNotFound)
			}
			if !p.modern() && (!asError(err, &status) || status.Status != http.StatusBadRequest) { // so the SDK answers
				t.Errorf("unknown method: %v, want HTTP 400", err)
			}
			select {
			case <-l.done():
				t.Errorf("the link is done: %v", l.err())
			default:
			}
		})
	}
}

func TestHTTPCloseEndsTheSession(t *testing.T) {
	s := newSDKServer()
	url, _ := s.serve(t, mcp.StreamableHTTPOptions{})
	l := openHTTP(t, httpConfig(url), opening{listen: true})
	if n := len(slices.Collect(s.Sessions())); n != 1 {
		t.Fatalf("%d sessions, want 1", n)
	}
	l.close(t.Context())
	eventually(t, "the server's session ends", func() bool { return len(slices.Collect(s.Sessions())) == 0 })
	<-l.done()
	var away *UnavailableError
	if _, err := l.call(t.Context(), toolCall("echo", `{}`, "")); !asError(err, &away) || away.Class != "connection_closed" {
		t.Errorf("a call after close: %v", err)
	}
}

func TestHTTPProgressComesInOrderBeforeTheResult(t *testing.T) {
	for _, era := range sdkEras {
		if era.opts.JSONResponse {
			continue // which has no room for it
		}
		for _, shared := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/shared %t", era.name, shared), func(t *testing.T) {
				url, _ := newSDKServer().serve(t, era.opts)
				l := openHTTP(t, httpConfig(url), opening{shared: shared})
				stream := newRecorder(t)
				c := toolCall("progress", `{"n":1000}`, `{"progressToken":"mine"}`)
				c.Stream = stream
				if _, err := l.call(t.Context(), c); err != nil {
					t.Fatal(err)
				}
				got := stream.all() // all of it must be there now
				if len(got) != 1000 {
					t.Fatalf("%d notifications when the call returned, want 1000", len(got))
				}
				for i, s := range got {
					params := strings.TrimPrefix(s, "notifications/progress ")
					if token, _ := wire.GetString([]byte(params), "progressToken"); token != "mine" {
						t.Fatalf("notification %d has not the client's token: %s", i, s)
					}
					if n := wire.Get([]byte(params), "progress"); string(n) != strconv.Itoa(i+1) {
						t.Fatalf("notification %d is %s", i, s)
					}
				}
			})
		}
	}
}

func TestHTTPCallersWithTheSameToken(t *testing.T) {
	for _, era := range sdkEras {
		if era.opts.JSONResponse {
			continue
		}
		t.Run(era.name, func(t *testing.T) {
			url, _ := newSDKServer().serve(t, era.opts)
			l := openHTTP(t, httpConfig(url), opening{shared: true})
			var wg sync.WaitGroup
			for n := range 20 {
				wg.Go(func() {
					stream := newRecorder(t)
					c := toolCall("progress", fmt.Sprintf(`{"n":%d}`, n+1), `{"progressToken":1}`)
					c.Stream = stream
					if _, err := l.call(t.Context(), c); err != nil {
						t.Error(err)
					}
					var want []string
					for i := range n + 1 {
						want = append(want, fmt.Sprintf(`{"progressToken":1,"progress":%d}`, i+1))
					}
					var got []string
					for _, s := range stream.all() {
						_, params, _ := strings.Cut(s, " ")
						var p struct {
							ProgressToken json.RawMessage `json:"progressToken"`
							Progress      json.RawMessage `json:"progress"`
						}
						if err := json.Unmarshal([]byte(params), &p); err != nil {
							t.Error(err)
						}
						got = append(got, fmt.Sprintf(`{"progressToken":%s,"progress":%s}`, p.ProgressToken, p.Progress))
					}
					if d := cmp.Diff(want, got); d != "" {
						t.Errorf("caller %d (-want +got):\n%s", n, d)
					}
				})
			}
			wg.Wait()
		})
	}
}

func TestHTTPServerAsksTheClient(t *testing.T) {
	url, _ := newSDKServer().serve(t, mcp.StreamableHTTPOptions{})
	l := openHTTP(t, httpConfig(url), opening{capabilities: json.RawMessage(`{"elicitation":{}}`), shared: true})
	stream := newRecorder(t)
	stream.answer = func(_ context.Context, method string, params json.RawMessage) (json.RawMessage, error) {
		if m, _ := wire.GetString(params, "message"); method != "elicitation/create" || m != "name?" {
			return nil, wire.Errorf(wire.CodeInvalidParams, "unexpected %s %s", method, params)
		}
		return json.RawMessage(`{"action":"decline"}`), nil
	}
	c := toolCall("ask", `{}`, "")
	c.Stream = stream
	raw, err := l.call(t.Context(), c)
	if err != nil || !bytes.Contains(raw, []byte("decline")) {
		t.Errorf("%s, %v", raw, err)
	}
	// Without anybody to ask, the server is told so.
	var rpc *wire.Error
	if _, err := l.call(t.Context(), toolCall("ask", `{}`, "")); !asError(err, &rpc) || rpc.Code != wire.CodeMethodNotFound {
		t.Errorf("error %v, want the refusal that the tool got", err)
	}
}

func TestHTTPCancelReachesTheServer(t *testing.T) {
	for _, era := range sdkEras {
		t.Run(era.name, func(t *testing.T) {
			s := newSDKServer()
			opts := era.opts
			opts.PropagateRequestCancellation = true // only means something to the modern era
			url, _ := s.serve(t, opts)
			l := openHTTP(t, httpConfig(url), opening{})
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-s.waiting
				cancel()
			}()
			_, err := l.call(ctx, toolCall("wait", `{}`, ""))
			var lost *LostError
			if !asError(err, &lost) || lost.Class != "cancelled" {
				t.Errorf("error %v, want lost: cancelled", err)
			}
			select {
			case <-s.cancelled:
			case <-time.After(10 * time.Second):
				t.Error("the server does not know of it")
			}
			if _, err := l.call(t.Context(), toolCall("echo", `{}`, "")); err != nil {
				t.Errorf("the next call: %v", err)
			}
		})
	}
}

func TestHTTPReusesConnections(t *testing.T) {
	for _, era := range sdkEras {
		t.Run(era.name, func(t *testing.T) {
			url, connections := newSDKServer().serve(t, era.opts)
			l := openHTTP(t, httpConfig(url), opening{})
			for range 5 {
				if _, err := l.call(t.Context(), toolCall("echo", `{}`, "")); err != nil {
					t.Fatal(err)
				}
			}
			// On a busy machine the end of a body may not come in time, which costs a connection and is not what is tested.
			const rounds = 5
			for round := range rounds {
				before := connections()
				for range 100 {
					if _, err := l.call(t.Context(), toolCall("echo", `{}`, "")); err != nil {
						t.Fatal(err)
					}
				}
				n := connections() - before
				if n == 0 {
					break
				}
				if round == rounds-1 {
					t.Errorf("%d new connections in 100 calls", n)
				}
			}
		})
	}
}

func TestHTTPHearsOfChanges(t *testing.T) {
	for _, era := range sdkEras {
		t.Run(era.name, func(t *testing.T) {
			s := newSDKServer()
			url, _ := s.serve(t, era.opts)
			up := newRecorder(t)
			l := openHTTP(t, httpConfig(url), opening{listen: true, upcalls: up})
			sub := l.(subscriber)
			if err := sub.subscribe(t.Context(), "test://r"); err != nil {
				t.Fatal(err)
			}
			// A legacy server notifies in vain until its GET stream is open.
			n := 0
			eventually(t, "a change of the tools is heard", func() bool {
				if n++; n%50 != 0 {
					return slices.ContainsFunc(up.all(), func(s string) bool { return strings.HasPrefix(s, "notifications/tools/list_changed") })
				}
				s.AddTool(&mcp.Tool{Name: "new" + strconv.Itoa(n), InputSchema: json.RawMessage(`{"type":"object"}`)}, nil)
				return false
			})
			update := func() {
				if err := s.ResourceUpdated(t.Context(), &mcp.ResourceUpdatedNotificationParams{URI: "test://r"}); err != nil {
					t.Error(err)
				}
			}
			update()
			up.waitFor(`notifications/resources/updated {"uri":"test://r"`)
			if err := sub.unsubscribe(t.Context(), "test://r"); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestHTTPForgottenSession(t *testing.T) {
	s := newSDKServer()
	url, _ := s.serve(t, mcp.StreamableHTTPOptions{})
	l := openHTTP(t, httpConfig(url), opening{})
	inFlight := make(chan error, 1)
	go func() {
		_, err := l.call(t.Context(), toolCall("echo", `{}`, ""))
		inFlight <- err
	}()
	if err := <-inFlight; err != nil {
		t.Fatal(err)
	}
	for ss := range s.Sessions() {
		if err := ss.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, err := l.call(t.Context(), toolCall("echo", `{}`, ""))
	var lost *SessionLostError
	if !asError(err, &lost) {
		t.Fatalf("error %v, want a lost session", err)
	}
	<-l.done()
	if l.err() == nil {
		t.Error("the link is done without an error")
	}
}

// TestHTTPClosedLinksLeaveNothing counts goroutines before and after links of every kind.
func TestHTTPClosedLinksLeaveNothing(t *testing.T) {
	s := newSDKServer()
	var urls []string
	for _, era := range sdkEras {
		opts := era.opts
		opts.PropagateRequestCancellation = true
		url, _ := s.serve(t, opts)
		urls = append(urls, url)
	}
	urls = append(urls, s.serveSSE(t))
	for _, url := range urls {
		before := runtime.NumGoroutine()
		h := newTestHTTPOpener(t, httpConfig(url))
		for range 3 {
			l, err := h.open(t.Context(), opening{listen: true, upcalls: newRecorder(t)})
			if err != nil {
				t.Fatal(err)
			}
			if err := l.(subscriber).subscribe(t.Context(), "test://r"); err != nil {
				t.Error(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-s.waiting
				cancel()
			}()
			if _, err := l.call(ctx, toolCall("wait", `{}`, "")); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want a cancelled call", err)
			}
			<-s.cancelled
			l.close(t.Context())
			<-l.done()
		}
		h.close()
		eventually(t, "all goroutines end", func() bool { return runtime.NumGoroutine() <= before })
	}
}
