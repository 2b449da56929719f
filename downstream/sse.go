package downstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// sseLink is a session with a server that speaks the older HTTP+SSE transport (specification 2024-11-05, basic/transports): all
// that the server says comes on one stream, and what we say is POSTed to an address that the stream began with.
type sseLink struct {
	*mux
	client *httpClient                 // its url is where messages are POSTed
	header atomic.Pointer[http.Header] // of a POST
	cancel context.CancelFunc          // ends the stream
	reader sync.WaitGroup
}

// openSSE opens a session over the older transport. The stream does not depend on ctx any more once openSSE has returned.
func (h *httpOpener) openSSE(ctx context.Context, o opening) (link, error) {
	if h.cfg.Protocol == Modern {
		return nil, fmt.Errorf("the revision %s does not know the HTTP+SSE transport: change protocol or transport", Modern)
	}
	l := &sseLink{}
	living, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l.cancel = cancel
	opened := context.AfterFunc(ctx, cancel)
	resp, err := h.openStream(living)
	if err != nil {
		cancel()
		if ctx.Err() != nil {
			return nil, sendError(ctx, err, false)
		}
		return nil, fmt.Errorf("GET: %w", err)
	}
	events := wire.NewSSEReader(resp.Body, h.client.maxBody)
	fail := func(err error) (link, error) {
		cancel()
		_ = resp.Body.Close()
		events.Release()
		if ctx.Err() != nil {
			err = lostTo(ctx)
		}
		return nil, err
	}
	endpoint, err := h.endpoint(events)
	if err != nil {
		return fail(err)
	}
	post := *h.client.url
	post.Path, post.RawPath, post.RawQuery = endpoint.Path, endpoint.RawPath, endpoint.RawQuery
	l.client = h.client.at(&post)
	header := l.client.headerWith(http.Header{"Content-Type": typeJSON, "Accept": acceptBoth})
	l.header.Store(&header)
	l.mux = newMux(l.send, o, muxConfig{limits: h.cfg.Limits, grace: h.cfg.Timeouts.Close, log: h.log})
	l.reader.Go(func() {
		defer resp.Body.Close()
		defer events.Release()
		l.read(events)
	})
	p, err := initialize(ctx, l.mux, &o, h.revision())
	if err == nil {
		err = h.checkPinned(p)
	}
	if err == nil && !opened() {
		err = lostTo(ctx) // the stream was ended with ctx just now
	}
	if err != nil {
		l.close(ctx)
		return nil, postRefused(err)
	}
	header = maps.Clone(header)
	header["Mcp-Protocol-Version"] = []string{p.Revision}
	l.header.Store(&header)
	l.start(p)
	return l, nil
}

// openStream opens the stream that the server speaks on.
func (h *httpOpener) openStream(ctx context.Context) (*http.Response, error) {
	header := h.client.headerWith(http.Header{"Accept": acceptEvent, "Cache-Control": {"no-store"}})
	resp, err := h.client.listening().do(ctx, http.MethodGet, header, nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		return nil, h.client.refused(ctx, resp, nil, false)
	}
	if t := contentType(resp.Header); t != "text/event-stream" {
		_ = resp.Body.Close()
		return nil, malformed("expected text/event-stream, the server answered %s", orElse(excerpt([]byte(t)), "no content type"))
	}
	return resp, nil
}

// endpoint reads the first event of the stream, which says where messages are to be sent. That must be the server that we were
// told to speak to: whoever controls the stream must not make us send credentials elsewhere.
func (h *httpOpener) endpoint(events *wire.SSEReader) (*url.URL, error) {
	for {
		e, err := events.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil, malformed("the stream ended before its endpoint event")
		case err != nil:
			return nil, &LostError{Class: "stream_aborted", Err: fmt.Errorf("before the endpoint event: %w", err)}
		case e.Name != "endpoint":
			if e.Data == nil {
				continue
			}
			return nil, malformed("the stream does not begin with an endpoint event, so it is not one of the HTTP+SSE transport")
		}
		u, err := url.Parse(strings.TrimSpace(string(e.Data)))
		if err != nil {
			return nil, malformed("the endpoint event holds no URL: %s", excerpt(e.Data))
		}
		u = h.client.url.ResolveReference(u)
		if origin(u) != origin(h.client.url) || u.User != nil {
			return nil, malformed("the endpoint event leads to another origin, %s, than url (%s): refused", excerpt([]byte(origin(u))), origin(h.client.url))
		}
		return u, nil
	}
}

// origin returns scheme, host and port of u.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}

// read takes what the server says until the stream ends, then ends the session.
func (l *sseLink) read(events *wire.SSEReader) {
	for {
		e, err := events.Next()
		if tooLarge := (*wire.SSETooLargeError)(nil); errors.As(err, &tooLarge) {
			l.tooLong(&wire.LineTooLongError{Limit: int(tooLarge.Limit), Head: tooLarge.Head})
			continue
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("the server ended the stream")
			}
			l.fail(err)
			return
		}
		if len(e.Data) > 0 && (e.Name == "" || e.Name == "message") {
			l.receive(e.Data)
		}
	}
}

// send is the writeFunc of the link: it POSTs a message. The answer to a request comes on the stream.
func (l *sseLink) send(ctx context.Context, msg []byte) error {
	posting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(l.mux.ctx, func() { cancel(errStreamGone) })()
	resp, err := l.client.do(posting, http.MethodPost, *l.header.Load(), msg)
	if err != nil {
		lost, sent := errors.AsType[*LostError](err)
		ended := ctx.Err() == nil && l.err() != nil
		switch {
		case sent && ended:
			return l.err()
		case sent:
			return fmt.Errorf("sending it: %w", lost.Err) // not the bare cause of ctx, which would say that nothing was sent
		case ended:
			return &UnavailableError{Class: "connection_closed", Err: l.err()}
		}
		return err
	}
	if resp.StatusCode/100 != 2 {
		return l.client.refused(posting, resp, nil, false)
	}
	l.client.drain(resp.Body)
	return nil
}

var errStreamGone = errors.New("the server's stream ended")

// call implements link.
func (l *sseLink) call(ctx context.Context, c *Call) (json.RawMessage, error) {
	raw, err := l.mux.call(ctx, c)
	return raw, postRefused(err)
}

// postRefused returns err, or what the server answered to the POST if that is what err is about: the mux knows only that the
// message could not be written.
func postRefused(err error) error {
	lost, ok := errors.AsType[*LostError](err)
	if !ok {
		return err
	}
	if status, ok := errors.AsType[*StatusError](lost.Err); ok {
		return status
	}
	if rpc, ok := errors.AsType[*wire.Error](lost.Err); ok {
		return rpc
	}
	return err
}

// close implements link.
func (l *sseLink) close(ctx context.Context) {
	l.fail(errClosed)
	l.cancel()
	ended := make(chan struct{})
	go func() {
		l.reader.Wait()
		l.wait()
		l.client.draining.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
}
