package downstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// exchange is one POST and the answer to it: one JSON message, or a stream of them that ends with the response. It is used by
// one goroutine; only what the server asks meanwhile is answered by others.
type exchange struct {
	l      *httpLink
	id     json.RawMessage
	stream Stream // takes what comes before the response; nil refuses requests and drops notifications

	token  json.RawMessage // the client's progress token; nil for none
	minted bool            // the server was given the id instead

	header http.Header     // of the first answer
	lastID string          // resumes the stream; "" if the server sent none
	retry  time.Duration   // before that; 0 if the server did not say
	news   bool            // something came since the stream was (re)opened
	stray  json.RawMessage // the id of a response that answered nothing

	asks *asks // what stream is being asked; nil for nothing
}

// errEnded reports a stream that ended before the response.
var errEnded = errors.New("the stream ended without the answer")

// run sends the request and returns the result. The error is as link.call says.
func (x *exchange) run(ctx context.Context, header http.Header, body []byte) (json.RawMessage, error) {
	defer x.finish()
	resp, err := x.l.client.do(ctx, http.MethodPost, header, body)
	if err != nil {
		return nil, err
	}
	x.header = resp.Header
	raw, err := x.answer(ctx, resp)
	for attempt := 0; err != nil && x.resumable(err) && attempt < resumeAttempts; attempt++ {
		if x.news {
			attempt, x.news = 0, false
		}
		var resumed *http.Response
		if resumed, err = x.resume(ctx, attempt); err == nil {
			raw, err = x.stream200(ctx, resumed)
		}
	}
	return raw, err
}

// finish ends what the stream is still being asked: the answers would come too late.
func (x *exchange) finish() {
	if x.asks != nil {
		x.asks.end()
	}
}

// answer reads the answer to the POST, whatever it is, and closes its body.
func (x *exchange) answer(ctx context.Context, resp *http.Response) (json.RawMessage, error) {
	if resp.StatusCode/100 != 2 {
		err := x.l.client.refused(ctx, resp, x.id, x.l.session != "")
		x.l.noteLost(err)
		return nil, err
	}
	if resp.StatusCode == http.StatusOK && len(resp.Header["Content-Encoding"]) == 0 {
		switch contentType(resp.Header) {
		case "text/event-stream":
			return x.stream200(ctx, resp)
		case "application/json":
			return x.body(ctx, resp)
		}
	}
	defer x.l.client.hurry(resp)()
	switch encoding := resp.Header.Get("Content-Encoding"); {
	case resp.StatusCode != http.StatusOK:
		return nil, malformed("the server answered HTTP %d to a request, which says that no answer will come", resp.StatusCode)
	case resp.ContentLength == 0:
		return nil, malformed("the server answered HTTP 200 with an empty body")
	case encoding != "":
		return nil, malformed("the server answered with the content encoding %s, which was not asked for", excerpt([]byte(encoding)))
	}
	return nil, malformed("expected application/json or text/event-stream, the server answered %s: %s",
		orElse(excerpt([]byte(contentType(resp.Header))), "no content type"), excerpt(beginning(resp.Body)))
}

// body reads an answer that is one JSON message.
func (x *exchange) body(ctx context.Context, resp *http.Response) (json.RawMessage, error) {
	b, err := x.l.client.readBody(resp)
	_ = resp.Body.Close()
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return nil, lostTo(ctx)
	case errors.Is(err, errTooLarge):
		return nil, malformed("%w (%d bytes)", errTooLarge, x.l.client.maxBody)
	default:
		return nil, &LostError{Class: "connection", Err: err}
	}
	raw, done, err := x.message(ctx, b)
	if err == nil && !done {
		return nil, malformed("the server answered something else than the request: %s", excerpt(b))
	}
	return raw, err
}

// stream200 reads an answer that is a stream, up to the response.
func (x *exchange) stream200(ctx context.Context, resp *http.Response) (json.RawMessage, error) {
	events := wire.NewSSEReader(resp.Body, x.l.client.maxBody)
	defer events.Release()
	for {
		e, err := events.Next()
		if err != nil {
			_ = resp.Body.Close()
			return nil, x.broken(ctx, err)
		}
		x.news = true
		if e.ID != "" {
			x.lastID = e.ID
		}
		if e.Retry != 0 {
			x.retry = e.Retry
		}
		if len(e.Data) == 0 || e.Name != "" && e.Name != "message" {
			continue // only makes the stream resumable, or is nothing of MCP's
		}
		raw, done, err := x.message(ctx, e.Data)
		if err != nil && e.Cut {
			_ = resp.Body.Close()
			return nil, x.broken(ctx, io.ErrUnexpectedEOF)
		}
		switch {
		case done:
			x.l.client.drain(resp.Body)
			return raw, err
		case err != nil:
			_ = resp.Body.Close()
			return nil, err
		}
	}
}

// broken says what the end of a stream before the response means.
func (x *exchange) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return lostTo(ctx)
	}
	if tooLarge := (*wire.SSETooLargeError)(nil); errors.As(err, &tooLarge) {
		return malformed("%w (limits.message_bytes)", err)
	}
	switch {
	case !errors.Is(err, io.EOF):
		return &LostError{Class: "stream_aborted", Err: fmt.Errorf("%w: %w", errEnded, err)}
	case x.stray != nil:
		return malformed("%w; it answered a request %s that was not asked", errEnded, excerpt(x.stray))
	}
	return &LostError{Class: "stream_aborted", Err: errEnded}
}

// message takes one message. done tells that it was the response, with the result or the error that it brought; another error
// means that b is no message.
func (x *exchange) message(ctx context.Context, b []byte) (raw json.RawMessage, done bool, err error) {
	m, err := wire.Parse(b, x.l.cfg.Limits.Depth)
	if errors.Is(err, wire.ErrBatch) && x.l.batches() {
		return x.batch(ctx, b)
	}
	switch {
	case err != nil:
		return nil, false, malformed("%w: %s", err, excerpt(b))
	case m.IsNotification():
		x.notification(ctx, &m)
		return nil, false, nil
	case m.IsRequest():
		x.request(ctx, &m)
		return nil, false, nil
	case bytes.Equal(m.ID, x.id), string(m.ID) == "null": // null: the server could not tell, but only this one was sent
	default:
		x.stray = m.ID
		x.l.drop(ctx, "a response to a request that was not asked", m.ID)
		return nil, false, nil
	}
	a := result(&m)
	return a.result, true, a.err
}

// batch takes the messages of a JSON array, which the revision 2025-03-26 allows.
func (x *exchange) batch(ctx context.Context, b []byte) (json.RawMessage, bool, error) {
	all, err := wire.Batch(b, x.l.cfg.Limits.Depth)
	if err != nil {
		return nil, false, malformed("%w: %s", err, excerpt(b))
	}
	var raw json.RawMessage
	done := false
	for _, one := range all {
		r, d, err := x.message(ctx, one)
		if err != nil {
			return nil, d, err
		}
		if d {
			raw, done = r, true
		}
	}
	return raw, done, nil
}

// notification hands on what the server says during the call.
func (x *exchange) notification(ctx context.Context, m *wire.Message) {
	switch m.Method {
	case "notifications/cancelled":
		x.l.asked.takenBack(m.Params)
		return
	case "notifications/tools/list_changed", "notifications/prompts/list_changed", "notifications/resources/list_changed",
		"notifications/resources/updated":
		// Not about this call, although it caused them perhaps.
		x.l.upcalls.Notify(m.Method, m.Params)
		return
	}
	params := m.Params
	if m.Method == "notifications/progress" {
		token := wire.Get(params, "progressToken")
		switch {
		case x.token == nil:
			x.l.drop(ctx, "progress that nobody asked for", token)
			return
		case x.minted && !bytes.Equal(token, x.id):
			x.l.drop(ctx, "progress of another request", token)
			return
		case x.minted:
			params = wire.Set(params, "progressToken", x.token)
		}
	}
	if x.stream == nil {
		x.l.drop(ctx, "a notification that nobody takes", []byte(m.Method))
		return
	}
	x.stream.Notify(m.Method, params)
}

// request has what the server asks during the call answered.
func (x *exchange) request(ctx context.Context, m *wire.Message) {
	if x.asks == nil {
		x.asks = x.l.newAsks(ctx, x.stream)
	}
	x.asks.answer(m)
}

// How a stream that ended too early is resumed.
const (
	resumeAttempts = 5
	resumeDelay    = 200 * time.Millisecond
	resumeLeast    = 10 * time.Millisecond
	resumeMost     = 30 * time.Second
)

// resumable reports whether err ended a stream that the server can go on with: it gave the events ids for that (specification
// 2025-11-25, basic/transports, "Resumability and Redelivery"). Modern revisions know no such thing.
func (x *exchange) resumable(err error) bool {
	var lost *LostError
	return x.lastID != "" && !x.l.modern() && errors.As(err, &lost) && lost.Class == "stream_aborted"
}

// resume opens the stream again after the last event that came.
func (x *exchange) resume(ctx context.Context, attempt int) (*http.Response, error) {
	delay := x.retry
	if delay == 0 {
		delay = resumeDelay << attempt
	}
	if err := pause(ctx, min(max(delay, resumeLeast), resumeMost)); err != nil {
		return nil, lostTo(ctx)
	}
	resp, err := x.l.get(ctx, x.lastID)
	if err == nil {
		return resp, nil
	}
	if ctx.Err() != nil {
		return nil, lostTo(ctx)
	}
	x.l.noteLost(err)
	if away := (*UnavailableError)(nil); !errors.As(err, &away) {
		x.lastID = "" // it will not be otherwise next time
	}
	return nil, &LostError{Class: "stream_aborted", Err: fmt.Errorf("%w, and could not be resumed: %w", errEnded, err)}
}

// pause waits for d, or until ctx is done, and returns its error then.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
