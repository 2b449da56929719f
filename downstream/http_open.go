package downstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// httpOpener opens sessions with one server over HTTP. It finds out which transport and era the server speaks and remembers that.
type httpOpener struct {
	cfg    *Config
	log    *slog.Logger
	client *httpClient
	info   json.RawMessage // clientInfo of sessions that name none
	calls  atomic.Int64    // in flight, over all links
	known  atomic.Int32    // how the last session was opened: one of the constants below
}

// How a session is opened.
const (
	httpUnknown = iota
	httpModern
	httpLegacy
	httpSSE
)

// newHTTPOpener returns an opener for cfg, which must be valid. It connects to nothing yet.
func newHTTPOpener(name string, cfg *Config, log *slog.Logger, version string) (opener, error) {
	client, err := newHTTPClient(cfg, version)
	if err != nil {
		return nil, fmt.Errorf("downstream %q: %w", name, err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &httpOpener{cfg: cfg, log: log, client: client, info: gatewayInfo(version)}, nil
}

// close implements opener.
func (h *httpOpener) close() { h.client.close() }

// open implements opener. Unless the configuration says how to speak to the server, it asks server/discover, then tries
// initialize, then the older transport, each only after an answer that shows the former not to be known (specification
// 2026-07-28, basic/versioning and basic/transports/streamable-http, "Backward Compatibility"). What leaves that open, such as a
// server that is overloaded or wants other credentials, ends the attempt: it must not pin a modern server to an older era.
func (h *httpOpener) open(ctx context.Context, o opening) (link, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, h.cfg.Timeouts.Initialize,
		fmt.Errorf("not ready within %s (timeouts.initialize): %w", h.cfg.Timeouts.Initialize, context.DeadlineExceeded))
	defer cancel()
	if o.info == nil {
		o.info = h.info
	}
	switch {
	case h.cfg.Transport == "sse":
		return h.openSSE(ctx, o)
	case h.pinned() && h.cfg.Protocol < Modern:
		return h.openOlder(ctx, o, h.cfg.Protocol)
	}
	switch h.known.Load() {
	case httpLegacy:
		l, err := h.initialize(ctx, o, h.revision())
		if err == nil || !refused(err) {
			return asLink(l, err)
		}
	case httpSSE:
		l, err := h.openSSE(ctx, o)
		if err == nil || !refused(err) {
			return l, err
		}
	}
	h.known.Store(httpUnknown)
	l, p, revision, err := h.discover(ctx, o)
	switch {
	case p != nil:
		h.known.Store(httpModern)
		l.begin(p)
		return l, nil
	case revision == "":
		return nil, err
	case h.pinned():
		return nil, fmt.Errorf("the server does not speak the revision %s, which protocol asks for: %w", Modern, err)
	}
	h.log.DebugContext(ctx, "not a modern server, initializing", "err", err)
	return h.openOlder(ctx, o, revision)
}

// pinned reports whether the configuration names the revision to speak.
func (h *httpOpener) pinned() bool { return h.cfg.Protocol != "auto" && h.cfg.Protocol != "" }

// revision returns the one to ask for in initialize.
func (h *httpOpener) revision() string {
	if h.pinned() {
		return h.cfg.Protocol
	}
	return Legacy
}

// checkPinned refuses a server that chose another revision than the configuration names.
func (h *httpOpener) checkPinned(p *peer) error {
	if h.pinned() && p.Revision != h.cfg.Protocol {
		return fmt.Errorf("the server answered initialize with the revision %s, but protocol asks for %s", p.Revision, h.cfg.Protocol)
	}
	return nil
}

// asLink keeps a nil *httpLink from becoming a link that is not nil.
func asLink(l *httpLink, err error) (link, error) {
	if err != nil {
		return nil, err
	}
	return l, nil
}

// openOlder opens a session with initialize, over streamable HTTP or, if the server refuses that, over the older transport.
func (h *httpOpener) openOlder(ctx context.Context, o opening, revision string) (link, error) {
	l, err := h.initialize(ctx, o, revision)
	if err == nil {
		h.known.Store(httpLegacy)
		return l, nil
	}
	status, ok := errors.AsType[*StatusError](err)
	if h.cfg.Transport == "streamable" || !ok || !refusal(status.Status) || status.Status == http.StatusForbidden {
		return nil, err
	}
	older, sseErr := h.openSSE(ctx, o)
	if sseErr != nil {
		return nil, fmt.Errorf("%w; as a server of the older HTTP+SSE transport: %w", err, sseErr)
	}
	h.known.Store(httpSSE)
	return older, nil
}

// refusal reports whether a status shows that the server does not know what it was asked. Credentials, limits and faults show
// nothing of the kind.
func refusal(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusProxyAuthRequired, http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return status/100 == 4 || status == http.StatusNotImplemented
}

// refused reports whether the server answered, and did not know what it was asked.
func refused(err error) bool {
	if _, ok := errors.AsType[*wire.Error](err); ok {
		return true
	}
	if status, ok := errors.AsType[*StatusError](err); ok {
		return refusal(status.Status)
	}
	lost, ok := errors.AsType[*LostError](err)
	return ok && lost.Class == "malformed_response"
}

// discover asks server/discover. It returns a link and what it learnt if the server is modern; or the revision to initialize
// with and the reason; or else only an error.
func (h *httpOpener) discover(ctx context.Context, o opening) (*httpLink, *peer, string, error) {
	l := h.newLink(o)
	l.header = l.headerWith(Modern)
	asking, cancel := context.WithTimeoutCause(ctx, h.cfg.Timeouts.Discover, errDiscoverSilence)
	defer cancel()
	header := l.headerWith(Modern)
	header["Mcp-Method"] = []string{"server/discover"}
	raw, _, err := l.handshake(asking, header, "server/discover", discoverParams(&o, Modern))
	if err == nil {
		p, revision, err := parseDiscover(raw)
		if p != nil {
			return l, p, "", nil
		}
		l.cancel()
		if revision != "" {
			err = fmt.Errorf("its answer to server/discover names no modern revision: %s", excerpt(raw))
		}
		return nil, nil, revision, err
	}
	l.cancel()
	if rpc, ok := errors.AsType[*wire.Error](err); ok {
		_, revision, why := discoverRefused(rpc)
		if revision != "" {
			why = err
		}
		return nil, nil, revision, why
	}
	// Some older servers leave a request without a session unanswered.
	if lost, ok := errors.AsType[*LostError](err); refused(err) || ok && lost.Class == "timeout" && ctx.Err() == nil {
		return nil, nil, Legacy, err
	}
	if status, ok := errors.AsType[*StatusError](err); ok && status.Status/100 == 5 {
		return nil, nil, "", fmt.Errorf("server/discover: %w (if it always does that, it is an older server: set protocol: %q)", err, Legacy)
	}
	return nil, nil, "", fmt.Errorf("server/discover: %w", err)
}

var errDiscoverSilence = fmt.Errorf("no answer to server/discover (timeouts.discover): %w", context.DeadlineExceeded)

// initialize opens a legacy session over streamable HTTP.
func (h *httpOpener) initialize(ctx context.Context, o opening, revision string) (_ *httpLink, err error) {
	l := h.newLink(o)
	defer func() {
		if err != nil {
			closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(time.Second, h.cfg.Timeouts.Close))
			defer cancel()
			l.close(closing)
		}
	}()
	raw, header, err := l.handshake(ctx, l.headerWith(""), "initialize", initializeParams(&o, revision))
	if err != nil {
		return nil, fmt.Errorf("initialize: %w", err)
	}
	id := header.Get("Mcp-Session-Id")
	if strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return nil, fmt.Errorf("the server chose a session id that is not visible ASCII: %s", excerpt([]byte(id)))
	}
	l.session = id
	l.header = l.headerWith(revision)
	p, err := parseInitialize(raw)
	if err != nil {
		return nil, err
	}
	if err := h.checkPinned(p); err != nil {
		return nil, err
	}
	l.header = l.headerWith(p.Revision)
	if err := l.post(ctx, l.header, wire.AppendNotification(nil, "notifications/initialized", nil)); err != nil {
		return nil, fmt.Errorf("notifications/initialized: %w", err)
	}
	l.begin(p)
	l.awaitHearing(ctx)
	return l, nil
}

func (h *httpOpener) newLink(o opening) *httpLink {
	if o.capabilities == nil {
		o.capabilities = noCapabilities
	}
	l := &httpLink{
		client: h.client, calls: &h.calls, cfg: h.cfg, log: h.log, opening: o, ended: make(chan struct{}), hearing: make(chan struct{}),
	}
	l.upcalls.Stream = o.upcalls
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// begin makes l a session with the server p, and starts to listen if it should.
func (l *httpLink) begin(p *peer) {
	l.self = p
	if p.modern() {
		l.listener = newHTTPListener(l)
		if l.opening.listen {
			l.listener.start()
		}
		return
	}
	if l.opening.listen {
		l.spawn(l.watch)
	}
}

// headerWith returns the headers of a POST. Before the handshake there is no revision to name.
func (l *httpLink) headerWith(revision string) http.Header {
	h := l.client.headerWith(http.Header{"Content-Type": typeJSON, "Accept": acceptBoth})
	if revision != "" {
		h["Mcp-Protocol-Version"] = []string{revision}
	}
	if l.session != "" {
		h["Mcp-Session-Id"] = []string{l.session}
	}
	return h
}

// handshake sends a request before anything is negotiated. It returns the headers of the answer too.
func (l *httpLink) handshake(ctx context.Context, header http.Header, method string, params json.RawMessage) (json.RawMessage, http.Header, error) {
	l.header = header
	x := exchange{l: l, id: json.RawMessage("0"), stream: l.opening.upcalls}
	raw, err := x.run(ctx, header, wire.AppendRequest(nil, x.id, method, params))
	return raw, x.header, err
}
