package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// proxy stands in front of an HTTP server and does to its requests, answers and connections what a scenario wants. It keeps its port
// even while it refuses connections, so that nobody else gets it.
type proxy struct {
	addr   string
	target string // HOST:PORT of the server
	client *http.Transport
	hold   net.Listener // see up; never accepted from
	wg     sync.WaitGroup

	fault atomic.Pointer[fault]

	mu      sync.Mutex // guards what follows
	server  *http.Server
	conns   map[net.Conn]http.ConnState
	seen    []seen
	running int // tools/call under way
	most    int // and the most of them at the same time
}

// fault decides about one request. It answers it and returns true, or returns false and leaves it to the server.
type fault func(x *exchange) bool

// seen is one request that reached the proxy.
type seen struct {
	at      time.Time
	method  string // of JSON-RPC; "" for GET and DELETE
	http    string
	nonce   string
	session string
}

// exchange is one request at the proxy.
type exchange struct {
	seen

	w    http.ResponseWriter
	r    *http.Request
	id   json.RawMessage
	body []byte
	p    *proxy
}

func newProxy(target string) (*proxy, error) {
	p := &proxy{target: target, client: &http.Transport{MaxIdleConnsPerHost: 1024, DisableCompression: true}, conns: map[net.Conn]http.ConnState{}}
	hold, err := listenShared("127.0.0.1:0", false)
	if err != nil {
		return nil, err
	}
	p.hold, p.addr = hold, hold.Addr().String()
	return p, p.up()
}

// listenShared opens a socket that shares its port with others of this process. One that does not listen only keeps the port.
func listenShared(addr string, listen bool) (net.Listener, error) {
	a, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		return nil, err
	}
	if listen {
		lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			return errors.Join(c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }), err)
		}}
		return lc.Listen(context.Background(), "tcp4", addr)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	sa := &unix.SockaddrInet4{Port: a.Port}
	copy(sa.Addr[:], a.IP.To4())
	if err := errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1), unix.Bind(fd, sa)); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	got, err := unix.Getsockname(fd)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	port := got.(*unix.SockaddrInet4).Port
	return &placeholder{fd: fd, addr: &net.TCPAddr{IP: a.IP, Port: port}}, nil
}

// placeholder is a bound socket that does not listen.
type placeholder struct {
	fd   int
	addr net.Addr
}

func (h *placeholder) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (h *placeholder) Close() error              { return unix.Close(h.fd) }
func (h *placeholder) Addr() net.Addr            { return h.addr }

// up makes the proxy accept connections.
func (p *proxy) up() error {
	l, err := listenShared(p.addr, true)
	if err != nil {
		return fmt.Errorf("the proxy's port: %w", err)
	}
	srv := &http.Server{Handler: p, ReadHeaderTimeout: time.Minute, ConnState: p.state}
	p.mu.Lock()
	p.server = srv
	p.mu.Unlock()
	p.wg.Go(func() { _ = srv.Serve(l) })
	return nil
}

// down breaks all connections and refuses new ones.
func (p *proxy) down() {
	p.mu.Lock()
	srv := p.server
	p.server = nil
	p.mu.Unlock()
	if srv != nil {
		_ = srv.Close()
	}
}

func (p *proxy) close() {
	p.down()
	p.wg.Wait()
	p.client.CloseIdleConnections()
	_ = p.hold.Close()
}

func (p *proxy) state(c net.Conn, s http.ConnState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s == http.StateClosed || s == http.StateHijacked {
		delete(p.conns, c)
		return
	}
	p.conns[c] = s
}

// resetIdle breaks every connection without a request on it and returns how many those were.
func (p *proxy) resetIdle() int {
	p.mu.Lock()
	var idle []net.Conn
	for c, s := range p.conns {
		if s == http.StateIdle {
			idle = append(idle, c)
		}
	}
	p.mu.Unlock()
	for _, c := range idle {
		reset(c)
	}
	return len(idle)
}

// reset closes a connection so that the peer gets RST rather than FIN.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}

// set makes f decide about each request from now on; nil leaves all to the server.
func (p *proxy) set(f fault) {
	if f == nil {
		p.fault.Store(nil)
		return
	}
	p.fault.Store(&f)
}

// requests returns what came since a time, of one JSON-RPC method; "" means all.
func (p *proxy) requests(since time.Time, method string) []seen {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []seen
	for _, s := range p.seen {
		if !s.at.Before(since) && (method == "" || s.method == method) {
			out = append(out, s)
		}
	}
	return out
}

// mostAtOnce returns the most tools/call that were under way at the same time since it was last asked.
func (p *proxy) mostAtOnce() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.most
	p.most = p.running
	return n
}

// ServeHTTP implements http.Handler.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the gateway is gone
	}
	x := &exchange{w: w, r: r, body: body, p: p}
	m := new(message)
	if len(body) > 0 && json.Unmarshal(body, m) != nil {
		http.Error(w, "the gateway sent what is no message", http.StatusTeapot)
		return
	}
	x.seen = seen{at: time.Now(), method: m.Method, http: r.Method, nonce: m.Params.Arguments.Nonce, session: r.Header.Get("Mcp-Session-Id")}
	x.id = m.ID
	call := m.Method == "tools/call"
	p.mu.Lock()
	p.seen = append(p.seen, x.seen)
	if call {
		p.running++
		p.most = max(p.most, p.running)
	}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		if call {
			p.running--
		}
		p.mu.Unlock()
	}()
	if f := p.fault.Load(); f != nil && (*f)(x) {
		return
	}
	x.pass()
}

// ask sends the request to the server.
func (x *exchange) ask() (*http.Response, error) {
	req, err := http.NewRequestWithContext(x.r.Context(), x.r.Method, "http://"+x.p.target+x.r.URL.Path, bytes.NewReader(x.body))
	if err != nil {
		return nil, err
	}
	req.Header = x.r.Header.Clone()
	return x.p.client.RoundTrip(req)
}

// pass hands the request to the server and its answer, as it comes, to the gateway.
func (x *exchange) pass() {
	resp, err := x.ask()
	if err != nil {
		x.reset()
		return
	}
	defer resp.Body.Close() //nolint:errcheck // read as far as anybody wanted it
	x.header(resp)
	buf := make([]byte, 32<<10)
	for {
		n, err := resp.Body.Read(buf)
		if _, werr := x.w.Write(buf[:n]); werr != nil {
			return
		}
		if resp.ContentLength < 0 {
			_ = http.NewResponseController(x.w).Flush()
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler) // so that the gateway sees the broken answer, too
		}
	}
}

func (x *exchange) header(resp *http.Response) {
	for name, values := range resp.Header {
		x.w.Header()[name] = slices.Clone(values)
	}
	x.w.WriteHeader(resp.StatusCode)
}
