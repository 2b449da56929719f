package downstream

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// Values of headers, shared by all requests.
var (
	typeJSON    = []string{"application/json"}
	acceptBoth  = []string{"application/json, text/event-stream"}
	acceptEvent = []string{"text/event-stream"}
)

// httpLink is a session with a streamable HTTP server, legacy or modern; a modern one is a session only in name. Each call is a
// POST of its own whose answer it reads by itself, so no answer can do anything to another call.
type httpLink struct {
	client  *httpClient
	calls   *atomic.Int64 // in flight to the server, over all its links
	cfg     *Config
	log     *slog.Logger
	opening opening
	session string // legacy: what Mcp-Session-Id says; "" for none
	self    *peer  // nil during the handshake
	header  http.Header
	next    atomic.Uint64 // the last request id used
	dropped atomic.Int64  // messages of the server that had no place
	asked   asked

	upcalls  lockedStream  // opening.upcalls, one notification at a time
	listener *httpListener // modern only
	hearing  chan struct{} // legacy: closed once the server answered the first GET of watch

	ctx    context.Context // of the streams that only listen; ends when close begins
	cancel context.CancelFunc
	wg     sync.WaitGroup // streams that only listen, and notices

	mu      sync.Mutex // guards what follows
	why     error      // of the end
	closing bool       // no goroutine may be started any more
	ended   chan struct{}
}

// lockedStream lets several goroutines notify a Stream.
type lockedStream struct {
	mu sync.Mutex
	Stream
}

func (s *lockedStream) Notify(method string, params json.RawMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Stream.Notify(method, params)
}

var _ link = (*httpLink)(nil)

func (l *httpLink) peer() *peer           { return l.self }
func (l *httpLink) modern() bool          { return l.self != nil && l.self.modern() }
func (l *httpLink) batches() bool         { return l.self != nil && l.self.Revision == "2025-03-26" }
func (l *httpLink) done() <-chan struct{} { return l.ended }

func (l *httpLink) err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.why
}

// fail ends the session. Only the first err counts.
func (l *httpLink) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why == nil {
		l.why = err
		close(l.ended)
	}
}

// noteLost ends the session if err says that the server does not know it any more.
func (l *httpLink) noteLost(err error) {
	if lost, ok := errors.AsType[*SessionLostError](err); ok {
		l.fail(lost)
	}
}

// drop counts a message that is thrown away, and logs it now and then: a server can send them as fast as it likes.
func (l *httpLink) drop(ctx context.Context, what string, detail []byte) {
	if n := l.dropped.Add(1); often(n) {
		l.log.WarnContext(ctx, "message of the server dropped", "what", what, "detail", excerpt(detail), "dropped", n)
	}
}

// spawn runs f in a goroutine that close waits for. It reports false if the session is being closed.
func (l *httpLink) spawn(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return false
	}
	l.wg.Go(f)
	return true
}

func (l *httpLink) call(ctx context.Context, c *Call) (json.RawMessage, error) {
	if err := l.err(); err != nil {
		return nil, &UnavailableError{Class: "connection_closed", Err: err}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if n := l.calls.Add(1); n > int64(l.cfg.Limits.InFlight) {
		l.calls.Add(-1)
		return nil, &UnavailableError{Class: "overloaded", Err: fmt.Errorf("%d requests wait for its answer already (limits.in_flight)", n-1)}
	}
	defer l.calls.Add(-1)

	x := exchange{l: l, id: strconv.AppendUint(make([]byte, 0, 20), l.next.Add(1), 10), stream: c.Stream}
	var token json.RawMessage
	if l.opening.shared && !l.modern() {
		// Two clients may use the same token, and a server may look up by it where progress is to go.
		token = x.id
	}
	body, clientToken := outgoingRequest(x.id, c, l.self, &l.opening, token)
	x.token, x.minted = clientToken, token != nil
	raw, err := x.run(ctx, l.headerFor(c), body)
	if err != nil && ctx.Err() != nil && !l.modern() {
		if _, lost := errors.AsType[*LostError](err); lost {
			l.spawn(func() { l.tellCancelled(ctx, x.id) })
		}
	}
	return raw, err
}

// headerFor returns the headers of a call. A legacy server gets the same with every call, but for the trace context.
func (l *httpLink) headerFor(c *Call) http.Header {
	if !l.modern() && c.Trace == nil {
		return l.header
	}
	h := make(http.Header, len(l.header)+len(c.Header)+len(c.Trace)+2)
	maps.Copy(h, l.header)
	maps.Copy(h, c.Trace)
	if !l.modern() {
		return h
	}
	for name, values := range c.Header {
		if strings.HasPrefix(name, "Mcp-Param-") {
			h[name] = values
		}
	}
	h["Mcp-Method"] = []string{c.Method}
	if c.Target != "" {
		h["Mcp-Name"] = []string{EncodeHeader(c.Target)}
	}
	return h
}

// EncodeHeader writes a value as the modern revisions want it in a header: as it is if it can stand there and be told apart from
// an encoded one, else in Base64 (specification 2026-07-28, basic/transports/streamable-http, "Value Encoding").
func EncodeHeader(s string) string {
	plain := s != "" && s[0] != ' ' && s[len(s)-1] != ' ' && (!strings.HasPrefix(s, "=?base64?") || !strings.HasSuffix(s, "?="))
	for i := 0; plain && i < len(s); i++ {
		plain = s[i] >= ' ' && s[i] < 0x7f
	}
	if plain {
		return s
	}
	return "=?base64?" + base64.StdEncoding.EncodeToString([]byte(s)) + "?="
}

// tellCancelled sends notifications/cancelled for a request of ours that ctx ended.
func (l *httpLink) tellCancelled(ctx context.Context, id json.RawMessage) {
	params := append(append([]byte(`{"requestId":`), id...), `,"reason":`...)
	params = append(wire.AppendString(params, context.Cause(ctx).Error()), '}')
	told, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.cfg.Timeouts.Close)
	defer cancel()
	if err := l.post(told, l.header, wire.AppendNotification(nil, "notifications/cancelled", params)); err != nil {
		l.log.DebugContext(ctx, "the server could not be told of a cancelled request", "err", err)
	}
}

func (l *httpLink) notify(ctx context.Context, method string, params json.RawMessage) error {
	if err := l.err(); err != nil {
		return &UnavailableError{Class: "connection_closed", Err: err}
	}
	c := &Call{Method: method, Params: params}
	if l.self != nil {
		params, _ = outgoing(c, l.self, &l.opening, nil)
	}
	return l.post(ctx, l.headerFor(c), wire.AppendNotification(nil, method, params))
}

// get opens a stream that the server speaks on of its own accord, after the event lastID if that is not "".
func (l *httpLink) get(ctx context.Context, lastID string) (*http.Response, error) {
	h := maps.Clone(l.header)
	delete(h, "Content-Type")
	h["Accept"] = acceptEvent
	if lastID != "" {
		h["Last-Event-Id"] = []string{lastID}
	}
	resp, err := l.client.listening().do(ctx, http.MethodGet, h, nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		return nil, l.client.refused(ctx, resp, nil, l.session != "")
	}
	if t := contentType(resp.Header); t != "text/event-stream" {
		_ = resp.Body.Close()
		return nil, malformed("expected text/event-stream, the server answered GET with %s", orElse(excerpt([]byte(t)), "no content type"))
	}
	return resp, nil
}

// close ends what listens, delivers what is still to be said, and ends the server's session. Calls in flight end with their own
// contexts.
func (l *httpLink) close(ctx context.Context) {
	l.mu.Lock()
	first, gone := !l.closing, l.why != nil
	l.closing = true
	l.mu.Unlock()
	if !first {
		return
	}
	l.cancel()
	l.fail(errClosed)
	quiet := make(chan struct{})
	go func() {
		l.wg.Wait()
		close(quiet)
	}()
	if l.session != "" && !gone {
		l.deleteSession(ctx, quiet)
	}
	select {
	case <-quiet:
	case <-ctx.Done(): // what is left ends within Timeouts.Close by itself
	}
}

var errClosed = errors.New("the session is closed")

// deleteSession tells a legacy server that its session is not needed any more, once the notices before that are out.
func (l *httpLink) deleteSession(ctx context.Context, quiet <-chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeouts.Close)
	defer cancel()
	select {
	case <-quiet:
	case <-ctx.Done():
	}
	h := maps.Clone(l.header)
	delete(h, "Content-Type")
	resp, err := l.client.do(ctx, http.MethodDelete, h, nil)
	if err != nil {
		l.log.DebugContext(ctx, "the session could not be ended on the server", "err", err)
		return
	}
	// Servers that end sessions by themselves answer 405.
	if resp.StatusCode/100 != 2 && resp.StatusCode != http.StatusMethodNotAllowed && resp.StatusCode != http.StatusNotFound {
		l.log.DebugContext(ctx, "the server did not end the session", "status", resp.StatusCode)
	}
	drainWithin(resp.Body, 100*time.Millisecond)
}
