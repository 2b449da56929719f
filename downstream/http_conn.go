package downstream

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"sync"
	"time"
)

// plainTransport carries requests to one address over HTTP/1.1 without TLS, on the goroutine of the caller. net/http's Transport hands
// each request to a goroutine that writes and each answer to one that reads; on a local network these hand-overs cost more than
// everything else that the gateway does for a call (docs/decisions/0005). Requests and answers are read and written by net/http's own
// code. Its methods may be called at the same time.
type plainTransport struct {
	addr    string
	dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	maxIdle int
	keep    time.Duration // how long an unused connection is kept
	places  chan struct{} // one element for each connection in use; nil: no limit

	mu     sync.Mutex   // guards what follows
	idle   []*plainConn // the one used last is last
	reaper *time.Timer  // ends connections that are idle for too long; nil while there are none
	closed bool
}

// plainConn is one connection, used by one request at a time.
type plainConn struct {
	net.Conn
	r    *bufio.Reader
	w    *bufio.Writer
	left int64 // bytes that may still be read, so that headers cannot be endless
	sent int64 // bytes of the current request that were given to the kernel
	idle time.Time
}

var errHeaderTooLarge = errors.New("the header of the answer is too large")

func (c *plainConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errHeaderTooLarge
	}
	if int64(len(p)) > c.left {
		p = p[:c.left]
	}
	n, err := c.Conn.Read(p)
	c.left -= int64(n)
	return n, err
}

func (c *plainConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.sent += int64(n)
	return n, err
}

// pieces are buffers for the bodies of requests.
var pieces = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// ReadFrom implements io.ReaderFrom, which bufio.Writer uses for what its small buffer does not hold: a body of 100 KB takes two system
// calls instead of twenty-five.
func (c *plainConn) ReadFrom(r io.Reader) (total int64, err error) {
	piece := pieces.Get().(*[]byte)
	defer pieces.Put(piece)
	for {
		n, err := io.ReadFull(r, *piece)
		if n > 0 {
			written, err := c.Write((*piece)[:n])
			total += int64(written)
			if err != nil {
				return total, err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return total, nil
		case err != nil:
			return total, err
		}
	}
}

// roundTrip sends a request and returns the answer. With an error, sent says whether something of the request may have left. When ctx
// ends, reading and writing fail at once.
func (t *plainTransport) roundTrip(ctx context.Context, req *http.Request) (resp *http.Response, sent bool, err error) {
	if err := t.enter(ctx); err != nil {
		return nil, false, err
	}
	c, err := t.get(ctx)
	if err != nil {
		t.leave()
		return nil, false, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) }) // fails only on a closed connection
	c.sent, c.left = 0, maxResponseHeader
	if err = req.Write(c.w); err == nil {
		err = c.w.Flush()
	}
	if err == nil {
		resp, err = c.response(req)
	}
	if err != nil {
		stop()
		_ = c.Close() // it is broken
		t.leave()
		return nil, c.sent > 0, unexpected(err)
	}
	c.left = math.MaxInt64
	b := &plainBody{ReadCloser: resp.Body, t: t, c: c, stop: stop, keep: !resp.Close}
	resp.Body = b
	if resp.ContentLength == 0 {
		b.end(true)
	}
	return resp, true, nil
}

// response reads the header of the answer, past those that are only provisional.
func (c *plainConn) response(req *http.Request) (*http.Response, error) {
	for {
		resp, err := http.ReadResponse(c.r, req)
		if err != nil || resp.StatusCode/100 != 1 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, err
		}
	}
}

// enter waits until one more connection may be used.
func (t *plainTransport) enter(ctx context.Context) error {
	if t.places == nil {
		return nil
	}
	select {
	case t.places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return noPlace(ctx)
	}
}

func (t *plainTransport) leave() {
	if t.places != nil {
		<-t.places
	}
}

// get returns the connection used last that the server has not closed, or a new one.
func (t *plainTransport) get(ctx context.Context) (*plainConn, error) {
	for {
		t.mu.Lock()
		n := len(t.idle)
		if n == 0 {
			t.mu.Unlock()
			break
		}
		c := t.idle[n-1]
		t.idle[n-1] = nil
		t.idle = t.idle[:n-1]
		t.mu.Unlock()
		if time.Since(c.idle) < t.keep && quiet(c.Conn) {
			return c, nil
		}
		_ = c.Close() // nobody waits for anything on it
	}
	conn, err := t.dial(ctx, "tcp", t.addr)
	if err != nil {
		return nil, err
	}
	c := &plainConn{Conn: conn}
	c.r, c.w = bufio.NewReaderSize(c, 16<<10), bufio.NewWriterSize(c, 4<<10)
	return c, nil
}

// put keeps a connection for the next request.
func (t *plainTransport) put(c *plainConn) {
	c.idle = time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || len(t.idle) >= t.maxIdle {
		_ = c.Close() // nobody waits for anything on it
		return
	}
	t.idle = append(t.idle, c)
	if t.reaper == nil {
		t.reaper = time.AfterFunc(t.keep, t.reap)
	}
}

// reap ends the connections that have been idle for too long.
func (t *plainTransport) reap() {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for n < len(t.idle) && time.Since(t.idle[n].idle) >= t.keep {
		_ = t.idle[n].Close() // nobody waits for anything on it
		n++
	}
	t.idle = append([]*plainConn(nil), t.idle[n:]...)
	if len(t.idle) == 0 || t.closed {
		t.reaper = nil
		return
	}
	t.reaper.Reset(max(t.keep-time.Since(t.idle[0].idle), time.Second))
}

// close ends the idle connections; those in use end with their answer.
func (t *plainTransport) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, c := range t.idle {
		_ = c.Close() // nobody waits for anything on it
	}
	t.idle = nil
	if t.reaper != nil {
		t.reaper.Stop()
		t.reaper = nil
	}
}

// plainBody is the body of an answer. Its end gives the connection back. Close may be called while another goroutine reads.
type plainBody struct {
	io.ReadCloser
	t    *plainTransport
	c    *plainConn
	stop func() bool
	keep bool

	once sync.Once
}

func (b *plainBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.end(errors.Is(err, io.EOF))
	}
	return n, err
}

// Close ends the connection if the body was not read to its end: what is still to come would be taken for the next answer.
func (b *plainBody) Close() error {
	b.end(false)
	return nil
}

// end gives the connection back if it can carry another request, or ends it.
func (b *plainBody) end(whole bool) {
	b.once.Do(func() {
		defer b.t.leave()
		// A connection whose deadline the end of ctx has set, or is just setting, is of no use any more.
		if b.stop() && whole && b.keep && b.c.r.Buffered() == 0 {
			b.t.put(b.c)
			return
		}
		_ = b.c.Close() // what it would still bring is not wanted
	})
}
