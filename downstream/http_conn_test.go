package downstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// answers serves one connection after the other: each answer is written when a whole request has been read; "" closes instead.
func answers(t *testing.T, perConn ...[]string) (addr string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, script := range perConn {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(c)
			for _, answer := range script {
				req, err := http.ReadRequest(r)
				if err != nil {
					break
				}
				_, _ = io.Copy(io.Discard, req.Body)
				if answer == "" {
					break
				}
				_, _ = io.WriteString(c, answer)
			}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

func plainTo(t *testing.T, addr string) *httpClient {
	t.Helper()
	cfg := DefaultConfig()
	cfg.URL = "http://" + addr + "/mcp"
	h, err := newHTTPClient(&cfg, "test")
	if err != nil {
		t.Fatal(err)
	}
	if h.plain == nil {
		t.Fatal("the plain transport is not used")
	}
	t.Cleanup(h.close)
	return h
}

func ask(ctx context.Context, h *httpClient) (string, error) {
	resp, err := h.do(ctx, http.MethodPost, http.Header{}, []byte("{}"))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return fmt.Sprint(resp.StatusCode, " ", string(b)), err
}

func TestPlainConnections(t *testing.T) {
	ok := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	for name, c := range map[string]struct {
		perConn [][]string
		want    []string // of each request; "lost" is a *LostError
	}{
		"one connection for all":        {[][]string{{ok, ok, ok}}, []string{"200 ok", "200 ok", "200 ok"}},
		"chunked":                       {[][]string{{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", ok}}, []string{"200 ok", "200 ok"}},
		"no body":                       {[][]string{{"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", ok}}, []string{"202 ", "200 ok"}},
		"the server closes after it":    {[][]string{{ok}, {ok}}, []string{"200 ok", "200 ok"}},
		"the server says it will close": {[][]string{{"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"}, {ok}}, []string{"200 ok", "200 ok"}},
		"until the connection closes":   {[][]string{{"HTTP/1.1 200 OK\r\n\r\nok"}, {ok}}, []string{"200 ok", "200 ok"}},
		"an old server":                 {[][]string{{"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"}, {ok}}, []string{"200 ok", "200 ok"}},
		"provisional answers":           {[][]string{{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + ok}}, []string{"200 ok"}},
		"more than was asked for":       {[][]string{{ok + "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong"}, {ok}}, []string{"200 ok", "200 ok"}},
		"no answer":                     {[][]string{{""}, {ok}}, []string{"lost", "200 ok"}},
		"half a header":                 {[][]string{{"HTTP/1.1 200 OK\r\nContent-"}, {ok}}, []string{"lost", "200 ok"}},
		"endless header":                {[][]string{{"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxResponseHeader+1)}, {ok}}, []string{"lost", "200 ok"}},
		"not HTTP":                      {[][]string{{"hello\r\n\r\n"}, {ok}}, []string{"lost", "200 ok"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := plainTo(t, answers(t, c.perConn...))
			for n, want := range c.want {
				got, err := ask(t.Context(), h)
				if _, lost := errors.AsType[*LostError](err); lost {
					got, err = "lost", nil
				}
				if err != nil || got != want {
					t.Fatalf("request %d: got %q, %v; want %q", n, got, err, want)
				}
				// What the server closes after its answer may still look open for a moment: wait until it does not.
				if n+1 < len(c.want) && len(c.perConn) > 1 {
					awaitClosed(t, h.plain)
				}
			}
		})
	}
}

// awaitClosed waits until every idle connection shows that the server has closed it, or said too much.
func awaitClosed(t *testing.T, p *plainTransport) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 5000 {
		p.mu.Lock()
		open := 0
		for _, c := range p.idle {
			if quiet(c.Conn) {
				open++
			}
		}
		p.mu.Unlock()
		if open == 0 {
			return
		}
		<-tick.C
	}
	t.Fatal("the connection stays open")
}

func TestPlainConnectionEndsWithItsContext(t *testing.T) {
	h := plainTo(t, answers(t, []string{"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"}, []string{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"}))
	ctx, cancel := context.WithCancel(t.Context())
	resp, err := h.do(ctx, http.MethodPost, http.Header{}, []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 4)
	if _, err := io.ReadFull(resp.Body, first); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := resp.Body.Read(first); err == nil {
		t.Error("the body goes on after its context ended")
	}
	_ = resp.Body.Close()
	if got, err := ask(t.Context(), h); err != nil || got != "200 ok" {
		t.Errorf("the next request: %q, %v", got, err)
	}
}
