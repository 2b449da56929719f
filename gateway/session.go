package gateway

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
)

// session is one client that speaks a revision up to 2025-11-25: over HTTP what Mcp-Session-Id names, over stdio the process.
type session struct {
	g         *Gateway
	id        string
	view      string // name of the downstream whose endpoint it uses; "" for /mcp
	principal string
	revision  string
	caps      json.RawMessage // what the client declared; "{}" if nothing
	kinds     questions       // of caps
	info      json.RawMessage // clientInfo; nil if the client sent none
	created   time.Time
	box       *mailbox      // what goes on the standalone stream
	ended     chan struct{} // closed by end

	used  atomic.Int64 // UnixNano of the last request
	busy  atomic.Int32 // requests and streams that are open
	seq   atomic.Int64 // ids of requests to the client
	endMu sync.Once

	mu        sync.Mutex                         // guards what follows
	streaming bool                               // the standalone stream is open
	calls     map[string]context.CancelCauseFunc // requests being answered, by raw id
	asked     map[string]chan wire.Message       // requests to the client that wait for an answer, by raw id
	subs      map[string]route                   // by the URI that the client subscribed to
	clients   map[*target]*downstream.Client
	level     json.RawMessage // the log level it set; nil for none
}

var (
	errCancelledByClient = errors.New("cancelled by the client")
	errSessionEnded      = errors.New("the session ended")
)

func newSession(g *Gateway, view, principal string) *session {
	s := &session{
		g: g, id: rand.Text(), view: view, principal: principal, caps: json.RawMessage(`{}`), created: time.Now(),
		box: newMailbox(mailboxBound), ended: make(chan struct{}),
	}
	s.used.Store(time.Now().UnixNano())
	return s
}

// mailboxBound is how many different messages wait for a client that does not take them.
const mailboxBound = 256

// enter marks a request or stream as open; leave marks its end.
func (s *session) enter() { s.busy.Add(1) }

func (s *session) leave() {
	s.used.Store(time.Now().UnixNano())
	s.busy.Add(-1)
}

// begin registers a request, so that the client can cancel it. It fails if the client uses the id for another one.
func (s *session) begin(id json.RawMessage, cancel context.CancelCauseFunc) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, twice := s.calls[string(id)]; twice {
		return wire.Errorf(wire.CodeInvalidRequest, "the id %s is in use by a request that is not answered yet", id)
	}
	if s.calls == nil {
		s.calls = map[string]context.CancelCauseFunc{}
	}
	s.calls[string(id)] = cancel
	return nil
}

func (s *session) done(id json.RawMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.calls, string(id))
}

// cancel ends a request at the client's wish. Ids that are not in use are ignored: the answer may have crossed the wish.
func (s *session) cancel(id json.RawMessage) {
	s.mu.Lock()
	cancel := s.calls[string(id)]
	s.mu.Unlock()
	if cancel != nil {
		cancel(errCancelledByClient)
	}
}

// ask sends a request to the client by means of send and waits for its answer.
func (s *session) ask(ctx context.Context, method string, params json.RawMessage, send func(msg []byte) error) (json.RawMessage, error) {
	id := json.RawMessage(`"gw-` + strconv.FormatInt(s.seq.Add(1), 36) + `"`)
	answer := make(chan wire.Message, 1)
	s.mu.Lock()
	if s.asked == nil {
		s.asked = map[string]chan wire.Message{}
	}
	s.asked[string(id)] = answer
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.asked, string(id))
	}()
	if err := send(wire.AppendRequest(nil, id, method, params)); err != nil {
		return nil, wire.Errorf(wire.CodeInternal, "mcpgw: the client could not be asked: %v", err)
	}
	select {
	case m := <-answer:
		if m.Error != nil {
			e, err := wire.ParseError(m.Error)
			if err != nil {
				return nil, wire.Errorf(wire.CodeInternal, "mcpgw: the client answered an error that is none: %v", err)
			}
			return nil, e
		}
		return m.Result, nil
	case <-ctx.Done():
		_ = send(wire.AppendNotification(nil, "notifications/cancelled", wire.Edit(nil, wire.Member{Key: "requestId", Value: id})))
		return nil, wire.Errorf(wire.CodeInternal, "mcpgw: the client did not answer before the call ended: %v", context.Cause(ctx))
	case <-s.ended:
		return nil, wire.Errorf(wire.CodeInternal, "mcpgw: the client is gone")
	}
}

// answered hands a client's response to the request that waits for it; it reports false if none does.
func (s *session) answered(m wire.Message) bool {
	s.mu.Lock()
	waiting := s.asked[string(m.ID)]
	delete(s.asked, string(m.ID))
	s.mu.Unlock()
	if waiting == nil {
		return false
	}
	waiting <- m
	return true
}

// client returns what a downstream is told of this client.
func (s *session) client(tg *target) *downstream.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clients[tg]
	if c == nil {
		c = &downstream.Client{
			ID: s.id, Capabilities: tg.bridgeable(s.caps, extensionPolicy{s.g.settings.Load().Gateway.PassthroughExtensions, s.view != ""}), Info: s.info, Upcalls: sessionUpcalls{s, tg}, Lost: func() { s.g.resubscribe(s, tg) },
		}
		if s.clients == nil {
			s.clients = map[*target]*downstream.Client{}
		}
		s.clients[tg] = c
	}
	return c
}

// end releases everything that the session holds. It may be called more than once.
func (s *session) end(cause error) {
	s.endMu.Do(func() {
		close(s.ended)
		s.g.obs.sessionEnded(s, cause)
		s.mu.Lock()
		// Requests may still end, and begin, while these are worked through.
		calls, clients, subs := s.calls, maps.Clone(s.clients), s.subs
		s.calls, s.subs = nil, nil
		s.mu.Unlock()
		for _, cancel := range calls {
			cancel(cause)
		}
		s.g.releaseSession(s, clients, subs)
	})
}

// sessionUpcalls takes what a downstream says on the server session that belongs to s, outside of any call.
type sessionUpcalls struct {
	s  *session
	tg *target
}

func (u sessionUpcalls) Notify(method string, params json.RawMessage) {
	switch method {
	case "notifications/tools/list_changed", "notifications/prompts/list_changed", "notifications/resources/list_changed":
		u.tg.server.Relist() // clients hear of it when what they see has really changed
		return
	case "notifications/resources/updated":
		u.s.updated(u.tg, params)
		return
	case "notifications/tasks/status":
		params = u.s.g.taskStatus(u.s.principal, u.tg, params)
	}
	u.put(method, params)
}

// put queues a notification for the session's standalone stream.
func (u sessionUpcalls) put(method string, params json.RawMessage) {
	if method == "notifications/message" && !u.s.wantsLog(params) {
		return
	}
	if !u.s.box.put("", notification(method, params, nil)) {
		u.s.g.log.Warn("notification dropped, the client does not read its stream", "session", u.s.id, "method", method)
	}
}

func (u sessionUpcalls) Request(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error) {
	if err := u.tg.mayAsk(u.s.kinds, method, params); err != nil {
		return nil, err
	}
	u.s.mu.Lock()
	streaming := u.s.streaming
	u.s.mu.Unlock()
	if !streaming {
		return nil, wire.Errorf(wire.CodeInternal, "mcpgw: the client has no open stream on which it could be asked outside of a call")
	}
	if t := u.s.g.tableFor(u.s.view); t != nil {
		params = t.asked(u.tg, u.s.kinds, method, params)
	}
	return u.s.ask(ctx, method, params, func(msg []byte) error {
		if !u.s.box.put("", msg) {
			return errors.New("it does not read its stream")
		}
		return nil
	})
}

// updated tells the client that a resource changed, if it subscribed to it, by the URI that it used.
func (s *session) updated(tg *target, params json.RawMessage) {
	own, _ := wire.GetString(params, "uri")
	s.mu.Lock()
	var uris []string
	for uri, r := range s.subs {
		if r.target == tg && (r.own == own || isBelow(own, r.own)) {
			uris = append(uris, uri)
		}
	}
	s.mu.Unlock()
	for _, uri := range uris {
		p := params
		if uri != own {
			p = wire.Set(params, "uri", wire.Quote(uri))
		}
		s.box.put("updated "+uri, notification("notifications/resources/updated", p, nil))
	}
}

// isBelow reports whether a resource is a part of one that was subscribed to: servers may report a sub-resource (specification,
// server/resources).
func isBelow(uri, subscribed string) bool {
	n := len(subscribed)
	return len(uri) > n && uri[:n] == subscribed && (uri[n] == '/' || n > 0 && subscribed[n-1] == '/')
}

// logLevel is what a modern server is told with each request: the level that the client set, or one that says what matters.
func (s *session) logLevel() json.RawMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.level == nil {
		return levelInfo
	}
	return s.level
}

var levelInfo = json.RawMessage(`"info"`)

// wantsLog reports whether a log message is at or above the level that the client set. Before it set one, the server decides.
func (s *session) wantsLog(params json.RawMessage) bool {
	s.mu.Lock()
	level := s.level
	s.mu.Unlock()
	return level == nil || severity(wire.Get(params, "level")) >= severity(level)
}

// severity orders the levels of RFC 5424 as MCP names them; what it does not know is the highest.
func severity(level json.RawMessage) int {
	name, _ := wire.String(level)
	for i, l := range [...]string{"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"} {
		if l == name {
			return i
		}
	}
	return 8
}
