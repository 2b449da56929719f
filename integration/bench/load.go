package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// conn is one kept-alive HTTP/1.1 connection with one MCP session on it. Requests are written by hand and answers read into one
// reused buffer, so that the load generator costs little beside what it measures.
type conn struct {
	net     net.Conn
	br      *bufio.Reader
	url     *url.URL
	modern  bool
	session string
	buf     []byte // last body
	next    int    // next request id
}

// dial opens a connection to an MCP endpoint and, for the legacy era, a session.
func dial(ctx context.Context, endpoint string, modern bool) (*conn, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, err
	}
	c := &conn{net: nc, br: bufio.NewReaderSize(nc, 128<<10), url: u, modern: modern, next: 1000000}
	if !modern {
		if err := c.initialize(); err != nil {
			return nil, errors.Join(err, nc.Close())
		}
	}
	return c, nil
}

func (c *conn) close() { _ = c.net.Close() } // what it says is of no interest any more

// initialize opens a legacy session.
func (c *conn) initialize() error {
	c.session = ""
	h, err := c.roundTrip(c.request("initialize", "", `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}`))
	if err != nil {
		return fmt.Errorf("initialize: %w", err)
	}
	c.session = h.Get("Mcp-Session-Id")
	_, err = c.roundTrip(c.post(`{"jsonrpc":"2.0","method":"notifications/initialized"}`, "notifications/initialized", ""))
	if err != nil {
		return fmt.Errorf("notifications/initialized: %w", err)
	}
	return nil
}

// request returns the bytes of a request whose id is c.next; call sets the next one in place.
func (c *conn) request(method, name, params string) []byte {
	return c.post(`{"jsonrpc":"2.0","id":`+strconv.Itoa(c.next)+`,"method":"`+method+`","params":`+params+`}`, method, name)
}

func (c *conn) post(body, method, name string) []byte {
	b := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nContent-Length: %d\r\n",
		c.url.RequestURI(), c.url.Host, len(body))
	switch {
	case c.modern:
		b = fmt.Appendf(b, "Mcp-Protocol-Version: %s\r\nMcp-Method: %s\r\n", harness.Modern, method)
		if name != "" {
			b = fmt.Appendf(b, "Mcp-Name: %s\r\n", name)
		}
	case c.session != "":
		b = fmt.Appendf(b, "Mcp-Protocol-Version: %s\r\nMcp-Session-Id: %s\r\n", harness.Legacy, c.session)
	}
	return append(append(b, "\r\n"...), body...)
}

// params returns a params object with the given members and what the era wants.
func params(modern bool, members string) string {
	if !modern {
		return "{" + members + "}"
	}
	if members != "" {
		members = "," + members
	}
	return `{"_meta":{` + harness.ModernMeta + `}` + members + `}`
}

// call sends a request made by c.request under a fresh id and reads the whole answer. The answer must hold result and be at least
// least bytes long.
func (c *conn) call(req []byte, least int) error {
	c.next++
	at := bytes.Index(req, []byte(`"id":`)) + len(`"id":`)
	strconv.AppendInt(req[at:at], int64(c.next), 10) // seven digits over seven digits
	if _, err := c.roundTrip(req); err != nil {
		return err
	}
	if len(c.buf) < least || !bytes.Contains(c.buf[max(0, len(c.buf)-64):], []byte("}")) || !bytes.Contains(c.buf[:min(len(c.buf), 200)], []byte(`"result"`)) {
		return fmt.Errorf("not the expected answer (%d bytes, wanted %d): %.300s", len(c.buf), least, c.buf)
	}
	return nil
}

// roundTrip writes a request and reads the answer's header and body.
func (c *conn) roundTrip(req []byte) (textproto.MIMEHeader, error) {
	if err := c.net.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return nil, err
	}
	if _, err := c.net.Write(req); err != nil {
		return nil, err
	}
	tp := textproto.NewReader(c.br)
	line, err := tp.ReadLine()
	if err != nil {
		return nil, fmt.Errorf("reading the status: %w", err)
	}
	h, err := tp.ReadMIMEHeader()
	if err != nil {
		return nil, fmt.Errorf("reading the header: %w", err)
	}
	if err := c.body(h); err != nil {
		return nil, fmt.Errorf("reading the body: %w", err)
	}
	if !strings.HasPrefix(line, "HTTP/1.1 2") {
		return nil, fmt.Errorf("%s: %.300s", line, c.buf)
	}
	return h, nil
}

func (c *conn) body(h textproto.MIMEHeader) error {
	c.buf = c.buf[:0]
	if h.Get("Transfer-Encoding") != "chunked" {
		n, err := strconv.Atoi(h.Get("Content-Length"))
		if err != nil {
			return nil //nolint:nilerr // 202 and 204 have no body
		}
		return c.take(n)
	}
	for {
		line, err := c.br.ReadSlice('\n')
		if err != nil {
			return err
		}
		n, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 31)
		if err != nil {
			return err
		}
		if err := c.take(int(n)); err != nil {
			return err
		}
		if _, err := c.br.Discard(2); err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
	}
}

func (c *conn) take(n int) error {
	from := len(c.buf)
	c.buf = slices.Grow(c.buf, n)[:from+n]
	_, err := io.ReadFull(c.br, c.buf[from:])
	return err
}

// sample is what one slice of one variant measured.
type sample struct {
	latencies []time.Duration // sorted
	elapsed   time.Duration
	cpu       time.Duration // of the hop's process
	mallocs   uint64        // of the hop's process, 0 if it does not tell
	bytes     uint64
}

func (s *sample) quantile(q float64) time.Duration {
	return s.latencies[min(len(s.latencies)-1, int(float64(len(s.latencies))*q))]
}

// drive runs do on each connection, one after the other call, until the time is over.
func drive(conns []*conn, d time.Duration, do func(*conn) error) (sample, error) {
	var wg sync.WaitGroup
	recs := make([][]time.Duration, len(conns))
	errs := make([]error, len(conns))
	start := time.Now()
	until := start.Add(d)
	for i, c := range conns {
		wg.Go(func() {
			for t := time.Now(); t.Before(until); {
				if errs[i] = do(c); errs[i] != nil {
					return
				}
				now := time.Now()
				recs[i] = append(recs[i], now.Sub(t))
				t = now
			}
		})
	}
	wg.Wait()
	s := sample{latencies: slices.Concat(recs...), elapsed: time.Since(start)}
	slices.Sort(s.latencies)
	err := errors.Join(errs...)
	if err == nil && len(s.latencies) == 0 {
		err = errors.New("not a single call was made")
	}
	return s, err
}
