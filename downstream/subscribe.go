package downstream

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// Subscribe asks the server to report changes of a resource. A server session that c shares with others is asked once for all of
// them, and reports through Options.Upcalls; a session of c's own reports through c.Upcalls.
func (s *Server) Subscribe(ctx context.Context, c *Client, uri string) error {
	l, release, err := s.linkFor(ctx, c)
	if err != nil {
		return err
	}
	defer release()
	sub, ok := l.(subscriber)
	if m, main := l.(*mainLink); main {
		if sub, ok = m.link.(subscriber); ok {
			return s.share(ctx, sub, uri)
		}
	}
	if !ok {
		return errNoSubscriptions
	}
	return sub.subscribe(ctx, uri)
}

var errNoSubscriptions = wire.Errorf(wire.CodeMethodNotFound, "the server has no resource subscriptions")

// share counts one more who wants updates of uri on the shared session.
func (s *Server) share(ctx context.Context, sub subscriber, uri string) error {
	s.mu.Lock()
	s.subs[uri]++
	first := s.subs[uri] == 1
	s.mu.Unlock()
	if !first {
		return nil
	}
	err := sub.subscribe(ctx, uri)
	if err != nil {
		s.unshare(uri)
	}
	return err
}

// unshare counts one less and reports whether nobody wants updates of uri any more.
func (s *Server) unshare(uri string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.subs[uri] == 0 {
		return false
	}
	s.subs[uri]--
	if s.subs[uri] > 0 {
		return false
	}
	delete(s.subs, uri)
	return true
}

// Unsubscribe takes a Subscribe back.
func (s *Server) Unsubscribe(ctx context.Context, c *Client, uri string) error {
	m := s.main.Load()
	if m == nil {
		s.unshare(uri)
		return nil // a session that ended took its subscriptions with it
	}
	if c != nil && s.perClient(m.peer()) {
		if sub, ok := s.pool.live(c.ID).(subscriber); ok {
			return sub.unsubscribe(ctx, uri)
		}
		return nil
	}
	if sub, ok := m.link.(subscriber); ok && s.unshare(uri) {
		return sub.unsubscribe(ctx, uri)
	}
	return nil
}

// restore brings a new main session to the state that the last one had.
func (s *Server) restore(l link) {
	s.mu.Lock()
	uris := make([]string, 0, len(s.subs))
	for uri := range s.subs {
		uris = append(uris, uri)
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Timeouts.Initialize)
	defer cancel()
	if err := s.setSharedLevel(ctx, l); err != nil {
		s.log.Warn("the log level could not be set again", "err", err)
	}
	sub, ok := l.(subscriber)
	if !ok {
		return
	}
	for _, uri := range uris {
		if err := sub.subscribe(ctx, uri); err != nil {
			s.log.Warn("a resource subscription could not be renewed", "uri", uri, "err", err)
			continue
		}
		// What changed while the server was away was not heard.
		mainUpcalls{s}.Notify("notifications/resources/updated", wire.Set(nil, "uri", wire.Quote(uri)))
	}
}

// levelOrder lists the levels of logging/setLevel from most to least talkative.
const levelOrder = "debug info notice warning error critical alert emergency"

// SetLevel tells the server which log messages a client wants; level is the JSON string of the request. A shared session gets the
// most talkative level that any of its clients asked for.
func (s *Server) SetLevel(ctx context.Context, c *Client, level json.RawMessage) error {
	name, _ := wire.String(level)
	if !slices.Contains(strings.Fields(levelOrder), name) {
		return wire.Errorf(wire.CodeInvalidParams, "unknown log level %s, expected one of %s", level, strings.ReplaceAll(levelOrder, " ", ", "))
	}
	s.mu.Lock()
	s.levels[c.ID] = level
	s.mu.Unlock()
	m := s.main.Load()
	if m == nil || m.peer().modern() {
		return nil // a later session gets it when it opens; a modern server gets it with each request
	}
	if !s.perClient(m.peer()) {
		return s.setSharedLevel(ctx, m)
	}
	if l := s.pool.live(c.ID); l != nil {
		return s.setLevel(ctx, l, level)
	}
	return nil
}

func (s *Server) restoreLevel(ctx context.Context, id string, l link) {
	s.mu.Lock()
	level := s.levels[id]
	s.mu.Unlock()
	if level != nil {
		if err := s.setLevel(ctx, l, level); err != nil {
			s.log.WarnContext(ctx, "the log level of a client could not be set", "session", id, "err", err)
		}
	}
}

func (s *Server) setSharedLevel(ctx context.Context, l link) error {
	var lowest json.RawMessage
	s.mu.Lock()
	for _, level := range s.levels {
		if lowest == nil || strings.Index(levelOrder, unquoted(level)) < strings.Index(levelOrder, unquoted(lowest)) {
			lowest = level
		}
	}
	s.mu.Unlock()
	if lowest == nil || s.perClient(l.peer()) {
		return nil
	}
	return s.setLevel(ctx, l, lowest)
}

func unquoted(level json.RawMessage) string {
	s, _ := wire.String(level)
	return s
}

func (s *Server) setLevel(ctx context.Context, l link, level json.RawMessage) error {
	p := l.peer()
	if p.modern() || wire.Get(p.Capabilities, "logging") == nil {
		return nil
	}
	_, err := l.call(ctx, &Call{Method: "logging/setLevel", Params: wire.Set(nil, "level", level)})
	return err
}

// NotifyClient hands a client's notification (such as notifications/roots/list_changed) to that client's own session, if there is
// one; other sessions are not the client's to speak on.
func (s *Server) NotifyClient(ctx context.Context, id, method string, params json.RawMessage) {
	l := s.pool.live(id)
	if l == nil {
		return
	}
	if err := l.notify(ctx, method, params); err != nil && !errors.Is(err, context.Canceled) {
		s.log.DebugContext(ctx, "notification not delivered", "session", id, "method", method, "err", err)
	}
}

// EndClient ends what the server holds for a client that is gone.
func (s *Server) EndClient(id string) {
	s.mu.Lock()
	delete(s.levels, id)
	s.mu.Unlock()
	s.pool.end(id)
}
