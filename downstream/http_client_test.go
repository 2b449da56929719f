package downstream

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/telemetry"
)

func TestHeaderValue(t *testing.T) {
	for in, want := range map[string]string{
		"echo":                "echo",
		"file:///a b":         "file:///a b",
		"":                    "=?base64??=",
		" a":                  "=?base64?IGE=?=",
		"a ":                  "=?base64?YSA=?=",
		"grüße":               "=?base64?Z3LDvMOfZQ==?=",
		"a\nb":                "=?base64?YQpi?=",
		"=?base64?YQ==?=":     "=?base64?PT9iYXNlNjQ/WVE9PT89?=",
		"=?base64?unfinished": "=?base64?unfinished",
	} {
		if got := EncodeHeader(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	const date = "Sat, 21 Nov 2026 10:00:00 GMT"
	for in, want := range map[string]time.Duration{
		"":                              0,
		"0":                             0,
		"120":                           2 * time.Minute,
		"-1":                            0,
		"1.5":                           0,
		"soon":                          0,
		"999999999":                     24 * time.Hour,
		"99999999999999":                0,
		"Sat, 21 Nov 2026 10:00:30 GMT": 30 * time.Second,
		"Sat, 21 Nov 2026 09:00:00 GMT": 0,
		"Sat, 21 Nov 2099 09:00:00 GMT": 24 * time.Hour,
	} {
		if got := retryAfter(http.Header{"Retry-After": {in}, "Date": {date}}); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func TestContentType(t *testing.T) {
	for in, want := range map[string]string{
		"application/json":                    "application/json",
		"Application/JSON; charset=utf-8":     "application/json",
		"text/event-stream;charset=utf-8":     "text/event-stream",
		"text/event-stream; charset":          "text/event-stream",
		"application/json-patch+json":         "application/json-patch+json",
		"application/json, text/event-stream": "",
		"":                                    "",
	} {
		if got := contentType(http.Header{"Content-Type": {in}}); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// quietly keeps the test server's complaints about what the test does to it out of the output.
func quietly(s *httptest.Server) *httptest.Server {
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	return s
}

// TestHTTPNothingSent shows which failures are known to have sent nothing, and how they are told apart.
func TestHTTPNothingSent(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	secure := quietly(httptest.NewUnstartedServer(http.NotFoundHandler()))
	secure.StartTLS()
	defer secure.Close()
	plain := quietly(httptest.NewServer(http.NotFoundHandler()))
	defer plain.Close()
	for _, tt := range []struct{ name, url, class string }{
		{"nobody listens", closed.URL, "connect"},
		{"no such name", "http://no-such-host.invalid/mcp", "dns"},
		{"unknown certificate", secure.URL, "tls"},
		{"not TLS", strings.Replace(plain.URL, "http:", "https:", 1), "tls"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := newTestHTTPOpener(t, httpConfig(tt.url)).open(t.Context(), opening{upcalls: newRecorder(t)})
			var away *UnavailableError
			if !asError(err, &away) || away.Class != tt.class {
				t.Errorf("got %T %v, want unavailable: %s", err, err, tt.class)
			}
		})
	}
	t.Run("cancelled while connecting", func(t *testing.T) {
		h := newTestHTTPOpener(t, httpConfig("http://server.example/mcp"))
		dialing := make(chan struct{})
		h.client.transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			close(dialing)
			<-ctx.Done()
			return nil, ctx.Err()
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-dialing
			cancel()
		}()
		_, err := h.client.do(ctx, http.MethodPost, http.Header{}, []byte("{}"))
		if err != context.Canceled { //nolint:errorlint // as it is, not wrapped
			t.Errorf("got %T %v, want the cause as it is", err, err)
		}
	})
}

// A request whose answer never came was sent, whatever broke the connection: to say otherwise would have it repeated.
func TestHTTPWhatWasSentIsNeverCalledUnsent(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %t", secure), func(t *testing.T) {
			var got atomic.Int64
			s := quietly(httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if string(drainRequest(r)) == "fail" {
					got.Add(1)
					panic(http.ErrAbortHandler)
				}
				_, _ = io.WriteString(w, "ok")
			})))
			s.EnableHTTP2 = true
			if secure {
				s.StartTLS()
			} else {
				s.Start()
			}
			defer s.Close()
			h := newTestHTTPOpener(t, httpConfig(s.URL))
			h.client.transport.TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig
			for range 20 {
				// The first request makes a pooled connection, which the second breaks.
				resp, err := h.client.do(t.Context(), http.MethodPost, http.Header{}, []byte("fine"))
				if err != nil {
					t.Fatal(err)
				}
				h.client.drain(resp.Body)
				before := got.Load()
				_, err = h.client.do(t.Context(), http.MethodPost, http.Header{}, []byte("fail"))
				var lost *LostError
				if !asError(err, &lost) || lost.Class != "connection" {
					t.Fatalf("got %T %v, want lost: connection", err, err)
				}
				if n := got.Load() - before; n != 1 {
					t.Fatalf("the request came %d times", n)
				}
			}
		})
	}
}

// TestHTTPStaleConnection has the server close idle connections, as all do after some time. What cannot have been sent is sent
// again, on a new connection; nothing arrives twice.
func TestHTTPStaleConnection(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var served atomic.Int64
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				r, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				drainRequest(r)
				served.Add(1)
				// The connection is offered for reuse and then closed: the client finds out sooner or later.
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}()
		}
	}()
	h := newTestHTTPOpener(t, httpConfig("http://"+listener.Addr().String()))
	const calls = 300
	lostCalls := 0
	for range calls {
		resp, err := h.client.do(t.Context(), http.MethodPost, http.Header{}, []byte("{}"))
		if lost := (*LostError)(nil); asError(err, &lost) {
			lostCalls++ // it was written to the connection that was being closed: nobody can know
			continue
		}
		if err != nil {
			t.Fatalf("got %T %v: a stale connection is no reason to be unavailable", err, err)
		}
		h.client.drain(resp.Body)
	}
	if n := int(served.Load()); n < calls-lostCalls || n > calls {
		t.Errorf("%d requests arrived of %d, %d lost", n, calls, lostCalls)
	}
}

// closeSignal is a connection that tells when it was closed.
type closeSignal struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (c *closeSignal) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// TestHTTPConnectionClosedAtTheLastMoment has the server close a pooled connection just after it was chosen for a request and
// before anything is written. net/http reports that with an error of which we say that nothing was sent.
func TestHTTPConnectionClosedAtTheLastMoment(t *testing.T) {
	var got atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		drainRequest(r)
		got.Add(1)
		_, _ = io.WriteString(w, "ok")
	}))
	defer s.Close()
	h := newTestHTTPOpener(t, httpConfig(s.URL))
	h.client.plain = nil // which looks whether a connection is closed before it uses it
	var conn *closeSignal
	h.client.transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		conn = &closeSignal{Conn: c, closed: make(chan struct{})}
		return conn, err
	}
	reused := 0
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if info.Reused {
			reused++
			s.CloseClientConnections()
			<-conn.closed
		}
	}})
	for n := range 2 {
		resp, err := h.client.do(ctx, http.MethodPost, http.Header{}, []byte("{}"))
		if err != nil {
			t.Fatalf("request %d: %T %v", n, err, err)
		}
		h.client.drain(resp.Body)
	}
	if reused != 1 || got.Load() != 2 {
		t.Errorf("%d connections were closed and %d requests came, want 1 and 2", reused, got.Load())
	}
}

func TestHTTPHeadersFromTheFile(t *testing.T) {
	cfg := httpConfig("http://server.example/mcp")
	cfg.Headers = map[string]telemetry.Secret{"Authorization": "Bearer top-secret\nX-Evil: 1"}
	_, err := newHTTPOpener("test", cfg, nil, "")
	if err == nil || !strings.Contains(err.Error(), "headers.Authorization") || strings.Contains(err.Error(), "top-secret") {
		t.Errorf("got %v, want an error that names the key and not the value", err)
	}
}

func TestRedirectTarget(t *testing.T) {
	from := &http.Request{URL: &url.URL{Scheme: "https", Host: "a.example", Path: "/mcp", RawQuery: "key=secret"}}
	for location, want := range map[string]string{
		"":                                 "",
		"/x/y?token=secret":                " to https://a.example/x/y",
		"https://user:secret@b.example/z#": " to https://b.example/z",
		"?secret":                          " to https://a.example/mcp",
		"\x7f":                             "",
	} {
		resp := &http.Response{Request: from, Header: http.Header{"Location": {location}}}
		if got := redirectTarget(resp); got != want {
			t.Errorf("%q: got %q, want %q", location, got, want)
		}
	}
}

func TestHTTPInFlightIsBounded(t *testing.T) {
	s := newHostile(nil)
	url, _ := serve(t, s)
	cfg := httpConfig(url)
	cfg.Limits.InFlight = 2
	h := newTestHTTPOpener(t, cfg)
	a, b := openWith(t, h, opening{}), openWith(t, h, opening{})
	done := make(chan error, 2)
	for _, l := range []link{a, b} {
		go func() {
			_, err := l.call(t.Context(), toolCall("slow", `{}`, ""))
			done <- err
		}()
	}
	<-s.began
	<-s.began
	var away *UnavailableError
	if _, err := a.call(t.Context(), toolCall("ok", `{}`, "")); !asError(err, &away) || away.Class != "overloaded" {
		t.Errorf("got %v, want overloaded", err)
	}
	close(s.release)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if _, err := a.call(t.Context(), toolCall("ok", `{}`, "")); err != nil {
		t.Error(err)
	}
}
