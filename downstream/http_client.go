package downstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

// httpClient sends single requests to the URL of one server. It follows no redirect and repeats nothing but what net/http proves
// not to have been sent. Its methods may be called at the same time.
type httpClient struct {
	url       *url.URL
	transport *http.Transport
	plain     *plainTransport // takes what it can of transport's work; nil for https and through a proxy
	streams   *httpClient     // for requests whose answer is a stream that only listens; nil: this one
	header    http.Header     // sent with every request; never changed
	host      string          // the Host header; "" for that of url
	maxBody   int64

	lingers  atomic.Int32   // bodies that are drained in the background, because the server is slow to end them
	draining sync.WaitGroup // goroutines that drain a body
}

// maxResponseHeader bounds the headers of one answer.
const maxResponseHeader = 256 << 10

func newHTTPClient(cfg *Config, version string) (*httpClient, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, validateURL(cfg.URL) // err would repeat a password
	}
	h := &httpClient{url: u, header: http.Header{"User-Agent": {"mcpgw/" + version}}, maxBody: cfg.Limits.MessageBytes}
	for name, value := range cfg.Headers {
		v := value.Reveal()
		if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return nil, fieldErrorf("headers."+name, "the value has a control character, such as a line break")
		}
		if name = http.CanonicalHeaderKey(name); name == "Host" {
			h.host = v
			continue
		}
		h.header[name] = []string{v}
	}
	dialer := newDialer(cfg)
	h.transports(cfg, dialer, cfg.perHost())
	if cfg.perHost() > 0 {
		h.streams = &httpClient{url: h.url, header: h.header, host: h.host, maxBody: h.maxBody}
		h.streams.transports(cfg, dialer, 0)
	}
	return h, nil
}

func newTransport(cfg *Config, dialer *kit.Dialer, limit int) *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dialer.DialContext,
		TLSHandshakeTimeout:    cfg.Timeouts.Connect,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
		MaxIdleConns:           cfg.Limits.Connections,
		MaxIdleConnsPerHost:    cfg.Limits.Connections,
		MaxConnsPerHost:        limit,
		IdleConnTimeout:        cfg.Connection.KeepAlive,
		MaxResponseHeaderBytes: maxResponseHeader,
		DisableCompression:     true, // the bytes are handed on, mostly over a local network
	}
}

// at returns a client for another address of the same server. It shares the connections; who uses it waits for draining.
func (h *httpClient) at(u *url.URL) *httpClient {
	at := &httpClient{url: u, transport: h.transport, header: h.header, host: h.host, maxBody: h.maxBody}
	if u.Scheme == h.url.Scheme && u.Host == h.url.Host {
		at.plain = h.plain
	}
	return at
}

// close ends idle connections and waits for bodies that are being drained.
func (h *httpClient) close() {
	if h.streams != nil {
		h.streams.close()
	}
	h.draining.Wait()
	h.transport.CloseIdleConnections()
	if h.plain != nil {
		h.plain.close()
	}
}

// headerWith returns the headers of every request and those given, whose keys are canonical. What is given wins.
func (h *httpClient) headerWith(header http.Header) http.Header {
	all := maps.Clone(h.header)
	maps.Copy(all, header)
	return all
}

// do sends a request whose header is complete, and returns the answer whatever its status. The header is not changed and may be
// shared. The error is an *[UnavailableError], or the cause of ctx as it is, if certainly nothing was sent; else a *[LostError].
func (h *httpClient) do(ctx context.Context, method string, header http.Header, body []byte) (*http.Response, error) {
	if h.plain != nil {
		out := outgoingBody{data: body}
		resp, sent, err := h.plain.roundTrip(ctx, h.request(ctx, method, header, &out))
		if err != nil {
			return nil, sendError(ctx, err, sent)
		}
		return resp, nil
	}
	var place *waiting
	if h.transport.MaxConnsPerHost > 0 {
		place = new(waiting)
		ctx = place.watch(ctx)
	}
	for again := false; ; again = true {
		out := outgoingBody{data: body}
		resp, err := h.transport.RoundTrip(h.request(ctx, method, header, &out))
		if err == nil {
			return resp, nil
		}
		if place != nil && !place.over.Load() && ctx.Err() != nil {
			err = noPlace(ctx)
		}
		closed := err.Error() == errServerClosedIdle
		if closed && !again && ctx.Err() == nil {
			continue
		}
		return nil, sendError(ctx, err, body != nil && out.taken() && !closed)
	}
}

// errServerClosedIdle is net/http's error for a pooled connection that turned out to be closed when it was about to be used.
// net/http sets it only while no answer is expected on the connection, and closes its end before the request is written, so
// nothing of the request can have been sent. It does not repeat a POST by itself.
const errServerClosedIdle = "http: server closed idle connection"

func (h *httpClient) request(ctx context.Context, method string, header http.Header, out *outgoingBody) *http.Request {
	req := (&http.Request{
		Method: method, URL: h.url, Host: h.host, Header: header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	if out.data == nil {
		return req
	}
	req.ContentLength = int64(len(out.data))
	req.GetBody = out.open
	if h.url.Scheme == "https" {
		out.track = true
	}
	req.Body, _ = out.open()
	return req
}

// outgoingBody is the body of a request, which tells afterwards whether anything of it was taken to be sent. net/http opens it
// again only where it has proved that nothing of it was sent before.
//
// Over HTTP/1 it is a bytes.Reader, because net/http sends headers and body in one packet only for the readers it knows; RoundTrip
// does not return an error before its writing goroutine has ended, so the position may be looked at. HTTP/2 has no such rule, and
// there the body counts for itself.
type outgoingBody struct {
	data   []byte
	track  bool
	reader *bytes.Reader
	read   atomic.Bool
}

func (o *outgoingBody) open() (io.ReadCloser, error) {
	o.reader = bytes.NewReader(o.data)
	if o.track {
		o.read.Store(false)
		return &trackedBody{r: o.reader, read: &o.read}, nil
	}
	return io.NopCloser(o.reader), nil
}

func (o *outgoingBody) taken() bool {
	if o.track {
		return o.read.Load()
	}
	return o.reader.Len() < len(o.data)
}

type trackedBody struct {
	r    *bytes.Reader
	read *atomic.Bool
}

func (t *trackedBody) Read(p []byte) (int, error) {
	t.read.Store(true)
	return t.r.Read(p)
}

func (t *trackedBody) Close() error { return nil }

// sendError says what the error of a RoundTrip means. sent tells whether something of the request may have left.
func sendError(ctx context.Context, err error, sent bool) error {
	if ctx.Err() != nil {
		if sent {
			return lostTo(ctx)
		}
		cause := context.Cause(ctx)
		if errors.Is(cause, context.DeadlineExceeded) && errors.Is(err, errNoPlace) {
			return &UnavailableError{Class: "overloaded", Err: err}
		}
		if errors.Is(cause, context.DeadlineExceeded) {
			return &UnavailableError{Class: "connect", Err: fmt.Errorf("while connecting: %w", cause)}
		}
		return cause
	}
	if sent {
		return &LostError{Class: "connection", Err: fmt.Errorf("the connection broke before the answer: %w", err)}
	}
	return &UnavailableError{Class: connectClass(err), Err: err}
}

// lostTo is the error of a request that was sent when ctx ended.
func lostTo(ctx context.Context) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, context.DeadlineExceeded) {
		return &LostError{Class: "timeout", Err: cause}
	}
	return &LostError{Class: "cancelled", Err: cause}
}

// connectClass tells apart why no connection could be had.
func connectClass(err error) string {
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "dns"
	}
	_, badCertificate := errors.AsType[*tls.CertificateVerificationError](err)
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	_, alert := errors.AsType[tls.AlertError](err)
	op, _ := errors.AsType[*net.OpError](err)
	switch {
	case badCertificate, noTLS, alert, op != nil && (op.Op == "remote error" || op.Op == "local error"):
		return "tls"
	case strings.Contains(err.Error(), "TLS handshake"), strings.Contains(err.Error(), "HTTP response to HTTPS client"):
		return "tls"
	case err.Error() == errServerClosedIdle:
		return "connection_closed"
	}
	return "connect"
}

// Bodies that are done with.
const (
	drainPatience   = 25 * time.Millisecond // how long a call waits for the end of its stream
	drainBackground = time.Second           // how long the background does
	drainBytes      = 64 << 10
	lingerCalls     = 256 // how many calls do not wait after one waited in vain
)

// drain reads body to its end, so that its connection can be used again: servers end a stream right after the answer. Once a
// server did not, the next bodies are drained in the background, which costs nobody any time but may need one connection more.
func (h *httpClient) drain(body io.ReadCloser) {
	if h.lingers.Load() <= 0 {
		if !drainWithin(body, drainPatience) {
			h.lingers.Store(lingerCalls)
		}
		return
	}
	h.lingers.Add(-1)
	h.draining.Go(func() { drainWithin(body, drainBackground) })
}

// drainWithin reads body to its end and closes it. It reports whether the end came in time.
func drainWithin(body io.ReadCloser, d time.Duration) bool {
	timer := time.AfterFunc(d, func() { _ = body.Close() })
	var scratch [512]byte
	for left := drainBytes; left > 0; {
		n, err := body.Read(scratch[:])
		if err != nil {
			break
		}
		left -= n
	}
	inTime := timer.Stop()
	_ = body.Close()
	return inTime
}

// firstBody is how much room the body of an answer gets before it is known to be as long as announced.
const firstBody = 1 << 20

var scratchBodies = sync.Pool{New: func() any { b := make([]byte, 0, 32<<10); return &b }}

// errTooLarge reports a body of more than Limits.MessageBytes.
var errTooLarge = errors.New("the answer is larger than limits.message_bytes")

// readBody reads the body of resp to its end and returns it in memory of its own.
func (h *httpClient) readBody(resp *http.Response) ([]byte, error) {
	if resp.ContentLength > h.maxBody {
		return nil, errTooLarge
	}
	if n := resp.ContentLength; n >= 0 {
		b := make([]byte, min(n, firstBody))
		if _, err := io.ReadFull(resp.Body, b); err != nil {
			return nil, unexpected(err)
		}
		for int64(len(b)) < n {
			have := len(b)
			b = append(b, make([]byte, min(n-int64(have), int64(have)))...)
			if _, err := io.ReadFull(resp.Body, b[have:]); err != nil {
				return nil, unexpected(err)
			}
		}
		return b, nil
	}
	p, _ := scratchBodies.Get().(*[]byte)
	b := (*p)[:0]
	defer func() {
		if cap(b) <= firstBody {
			*p = b[:0]
			scratchBodies.Put(p)
		}
	}()
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := resp.Body.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case int64(len(b)) > h.maxBody:
			return nil, errTooLarge
		case errors.Is(err, io.EOF):
			return bytes.Clone(b), nil
		case err != nil:
			return nil, err
		}
	}
}

// unexpected makes the end of a body that is shorter than announced an error of its own.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
