package mcptest

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// Refusing returns the URL of an address that refuses connections as long as the test runs.
func Refusing(tb testing.TB) string {
	tb.Helper()
	// A port that was merely closed may be given to somebody else. The client's end of a connection keeps its port, and nobody listens
	// there.
	l := listen(tb)
	defer func() { _ = l.Close() }()
	var d net.Dialer
	c, err := d.DialContext(tb.Context(), "tcp", l.Addr().String())
	if err != nil {
		tb.Fatalf("mcptest: %v", err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return url(c.LocalAddr())
}

// Silent is an address that accepts connections and never says a word.
type Silent struct {
	URL      string
	accepted atomic.Int64
}

// Accepted returns how many connections there have been.
func (s *Silent) Accepted() int { return int(s.accepted.Load()) }

// Hanging returns an address that accepts connections and never answers.
func Hanging(tb testing.TB) *Silent {
	tb.Helper()
	s := &Silent{}
	s.URL = accept(tb, func(net.Conn) bool {
		s.accepted.Add(1)
		return true
	})
	return s
}

// Nonsense is something that [Garbage] may answer.
type Nonsense string

// The kinds of nonsense. All but the first are well-formed HTTP.
const (
	NotHTTP    Nonsense = "SSH-2.0-OpenSSH_9.9\r\n\x00\xff\xfe"
	NotJSON    Nonsense = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 26\r\n\r\n{\"jsonrpc\":\"2.0\",\xff\xfe }}}}}}"
	HTML       Nonsense = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 27\r\n\r\n<html>Please log in.</html>"
	BrokenSSE  Nonsense = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n: hello\n\ndata: {\"jsonrpc\": nonsense\n\ndata"
	Truncated  Nonsense = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{"
	WrongShape Nonsense = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 19\r\n\r\n[{\"hello\":\"world\"}]"
)

// Garbage returns the URL of an address that answers every connection with nonsense, in turn, and closes it; without arguments, all
// kinds of nonsense.
func Garbage(tb testing.TB, kinds ...Nonsense) string {
	tb.Helper()
	if len(kinds) == 0 {
		kinds = []Nonsense{NotHTTP, NotJSON, HTML, BrokenSSE, Truncated, WrongShape}
	}
	var n atomic.Int64
	return accept(tb, func(c net.Conn) bool {
		kind := kinds[int(n.Add(1)-1)%len(kinds)]
		// The request is read first, or the client would see a reset instead of the answer.
		_, _ = c.Read(make([]byte, 64<<10))
		_, _ = c.Write([]byte(kind))
		return false
	})
}

// accept calls f with each connection, and keeps those open until the test ends for which it returns true.
func accept(tb testing.TB, f func(net.Conn) (keep bool)) string {
	tb.Helper()
	l := listen(tb)
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		open = map[net.Conn]bool{}
		over bool
	)
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			if over {
				_ = c.Close()
			}
			mu.Unlock()
			wg.Go(func() {
				if !f(c) {
					_ = c.Close()
					mu.Lock()
					delete(open, c)
					mu.Unlock()
				}
			})
		}
	})
	tb.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		over = true
		for c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return url(l.Addr())
}

func listen(tb testing.TB) net.Listener {
	tb.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("mcptest: %v", err)
	}
	return l
}

func url(a net.Addr) string { return "http://" + a.String() + "/mcp" }
