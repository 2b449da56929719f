package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"sync"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
	"github.com/mcpgw/mcpgw/resilience"
)

// subscribe answers resources/subscribe of revisions up to 2025-11-25.
func (g *Gateway) subscribe(ctx context.Context, r *request) (answer, error) {
	uri, ok := r.params.GetString("uri")
	if !ok {
		return answer{}, errInvalid("resources/subscribe: uri must be a string")
	}
	to, err := r.table.resource(uri)
	if err != nil {
		return answer{}, err
	}
	limit := g.settings.Load().Gateway.Limits.Subscriptions
	s := r.sess
	s.mu.Lock()
	_, already := s.subs[uri]
	full := !already && len(s.subs) >= limit
	if !already && !full {
		if s.subs == nil {
			s.subs = map[string]route{}
		}
		s.subs[uri] = to // before the server is asked: its first news may overtake its answer
	}
	s.mu.Unlock()
	if full {
		return answer{}, wire.Errorf(wire.CodeOverloaded, "this session is subscribed to %d resources already (gateway.limits.subscriptions)", limit)
	}
	if already {
		return whole(json.RawMessage(`{}`)), nil
	}
	if err := to.target.told(ctx, s.id, func(ctx context.Context) error { return to.target.server.Subscribe(ctx, s.client(to.target), to.own) }); err != nil {
		s.mu.Lock()
		delete(s.subs, uri)
		s.mu.Unlock()
		return answer{}, wireError(to.target.name, err)
	}
	return whole(json.RawMessage(`{}`)), nil
}

// told tells a downstream something that does no harm twice, under its policies.
func (tg *target) told(ctx context.Context, session string, tell func(context.Context) error) error {
	_, err := resilience.Do(ctx, tg.policy.guard, resilience.Call{Safety: idempotent, Session: session}, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, tell(ctx)
	})
	return err
}

// unsubscribe answers resources/unsubscribe. What nobody is subscribed to is left as it is.
func (g *Gateway) unsubscribe(ctx context.Context, r *request) (answer, error) {
	uri, ok := r.params.GetString("uri")
	if !ok {
		return answer{}, errInvalid("resources/unsubscribe: uri must be a string")
	}
	s := r.sess
	s.mu.Lock()
	to, there := s.subs[uri]
	delete(s.subs, uri)
	s.mu.Unlock()
	if there {
		if err := to.target.told(ctx, s.id, func(ctx context.Context) error { return to.target.server.Unsubscribe(ctx, s.client(to.target), to.own) }); err != nil {
			return answer{}, wireError(to.target.name, err)
		}
	}
	return whole(json.RawMessage(`{}`)), nil
}

// resubscribe renews a session's subscriptions after a server ended the server session that they were made on, and tells the client to
// look again: what changed in between was not heard.
func (g *Gateway) resubscribe(s *session, tg *target) {
	s.mu.Lock()
	lost := map[string]route{}
	for uri, r := range s.subs {
		if r.target == tg {
			lost[uri] = r
		}
	}
	s.mu.Unlock()
	if len(lost) == 0 || g.ctx.Err() != nil {
		return
	}
	g.wg.Go(func() {
		ctx, cancel := context.WithTimeout(g.ctx, tg.server.Config().Timeouts.Initialize)
		defer cancel()
		for uri, r := range lost {
			if err := tg.server.Subscribe(ctx, s.client(tg), r.own); err != nil {
				g.log.Warn("a resource subscription could not be renewed", "session", s.id, "downstream", tg.name, "uri", r.own, "err", err)
				continue
			}
			s.box.put("updated "+uri, notification("notifications/resources/updated", wire.Set(nil, "uri", wire.Quote(uri)), nil))
		}
	})
}

// relisten renews, after a server ended the session that the modern clients of a principal share, what their streams are subscribed to.
func (g *Gateway) relisten(principal string, tg *target) {
	if g.ctx.Err() != nil {
		return
	}
	g.listens.each(func(l *listener) {
		if l.owner != principal {
			return
		}
		for uri, to := range l.subs {
			if to.target != tg {
				continue
			}
			c := l.clients[tg]
			g.wg.Go(func() {
				ctx, cancel := context.WithTimeout(g.ctx, tg.server.Config().Timeouts.Initialize)
				defer cancel()
				if err := tg.server.Subscribe(ctx, c, to.own); err != nil {
					g.log.Warn("a resource subscription could not be renewed", "downstream", tg.name, "uri", to.own, "err", err)
					return
				}
				l.box.put("updated "+uri, notification("notifications/resources/updated", wire.Set(nil, "uri", wire.Quote(uri)), l.id))
			})
		}
	})
}

// moveSubscriptions lets clients of a downstream that is replaced hear of its successor, or of nothing if now is nil.
func (g *Gateway) moveSubscriptions(was, now *target) {
	for _, s := range g.everySession() {
		s.mu.Lock()
		delete(s.clients, was)
		for uri, r := range s.subs {
			switch {
			case r.target != was:
			case now == nil:
				delete(s.subs, uri)
			default:
				s.subs[uri] = route{target: now, own: r.own, safe: r.safe}
			}
		}
		s.mu.Unlock()
		if now != nil {
			g.resubscribe(s, now)
		}
	}
	// A listener's filter is fixed when it opens: its end tells the client to open another one.
	g.listens.each(func(l *listener) {
		for _, r := range l.subs {
			if r.target == was {
				l.over.Do(func() { close(l.ended) })
				return
			}
		}
	})
	g.clients.Range(func(key, _ any) bool {
		if key.(jointKey).tg == was {
			g.clients.Delete(key)
		}
		return true
	})
}

// setLevel answers logging/setLevel: the level is the session's, and every downstream that has sessions is told.
func (g *Gateway) setLevel(ctx context.Context, r *request) (answer, error) {
	level := r.params.Get("level")
	if severity(level) > 7 {
		return answer{}, errInvalid("logging/setLevel: level must be one of debug, info, notice, warning, error, critical, alert, emergency")
	}
	level = append(json.RawMessage(nil), level...)
	r.sess.mu.Lock()
	r.sess.level = level
	r.sess.mu.Unlock()
	var wg sync.WaitGroup // one server that hangs must not delay what the others are told
	for _, tg := range r.table.targets {
		wg.Go(func() {
			err := tg.told(ctx, r.sess.id, func(ctx context.Context) error { return tg.server.SetLevel(ctx, r.sess.client(tg), level) })
			if j := r.joint(g, tg); j != nil {
				err = errors.Join(err, j.want(ctx, level))
			}
			if err != nil {
				// One server that cannot does not make the level wrong for the others.
				g.log.WarnContext(ctx, "a server did not take the log level", "downstream", tg.name, "err", err)
			}
		})
	}
	wg.Wait()
	return whole(json.RawMessage(`{}`)), nil
}

// releaseSession lets downstreams end what they hold for a session that is gone.
func (g *Gateway) releaseSession(s *session, clients map[*target]*downstream.Client, subs map[string]route) {
	g.sessions.remove(s)
	for _, r := range subs {
		c := clients[r.target]
		ctx, cancel := context.WithTimeout(g.ctx, r.target.server.Config().Timeouts.Connect)
		if err := r.target.server.Unsubscribe(ctx, c, r.own); err != nil {
			g.log.Debug("unsubscribing for an ended session failed", "downstream", r.target.name, "uri", r.own, "err", err)
		}
		cancel()
	}
	for tg := range clients {
		tg.server.EndClient(s.id)
	}
}

// sharedUpcall takes what a downstream says on a session that several clients share, outside of any call.
func (g *Gateway) sharedUpcall(tg *target, method string, params json.RawMessage) {
	if method != "notifications/resources/updated" {
		g.log.Debug("notification dropped, it belongs to no client", "downstream", tg.name, "method", method)
		return
	}
	for _, s := range g.everySession() {
		s.updated(tg, params)
	}
	g.listens.updated(tg, params, "")
}

// listener is one open subscriptions/listen stream of a modern client (specification 2026-07-28, basic/patterns/subscriptions).
type listener struct {
	id      json.RawMessage // of the listen request, in every message on the stream
	view    string
	owner   string                         // principal
	kinds   map[string]bool                // "tools", "prompts", "resources": whose changes it wants
	subs    map[string]route               // resources whose updates it wants, by the URI that the client used
	clients map[*target]*downstream.Client // as which it is subscribed
	box     *mailbox
	ended   chan struct{} // closed when the stream should end
	over    sync.Once
}

type listeners struct {
	mu  sync.Mutex // guards all
	all map[*listener]bool
}

func (ls *listeners) add(l *listener) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.all == nil {
		ls.all = map[*listener]bool{}
	}
	ls.all[l] = true
}

func (ls *listeners) remove(l *listener) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	delete(ls.all, l)
}

// each calls f, which must not block, with every listener.
func (ls *listeners) each(f func(*listener)) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for l := range ls.all {
		f(l)
	}
}

// updated tells every listener (or those of one principal) that wants to know it that a resource changed.
func (ls *listeners) updated(tg *target, params json.RawMessage, principal string) {
	own, _ := wire.GetString(params, "uri")
	ls.each(func(l *listener) {
		if principal != "" && l.owner != principal {
			return
		}
		for uri, r := range l.subs {
			if r.target == tg && (r.own == own || isBelow(own, r.own)) {
				l.box.put("updated "+uri, notification("notifications/resources/updated", wire.Set(params, "uri", wire.Quote(uri)), l.id))
			}
		}
	})
}

var errTooManyStreams = errors.New("too many open streams")

// listen opens a listener for a subscriptions/listen request. The acknowledgement is the first message in its mailbox: it does not wait
// for any downstream. The returned function ends the listener.
func (g *Gateway) listen(r *request, viewName string) (*listener, func(), error) {
	want := r.params.Get("notifications")
	if !wire.IsObject(want) {
		return nil, nil, errInvalid("subscriptions/listen: notifications must be an object")
	}
	cfg := &g.settings.Load().Gateway
	l := &listener{id: append(json.RawMessage(nil), r.id...), view: viewName, owner: r.principal, kinds: map[string]bool{}, subs: map[string]route{}, clients: map[*target]*downstream.Client{}, box: newMailbox(mailboxBound), ended: make(chan struct{})}
	var agreed []wire.Member
	for _, kind := range []string{"tools", "prompts", "resources"} {
		if key := kind + "ListChanged"; string(wire.Get(want, key)) == "true" && wire.Get(r.table.modernCaps, kind) != nil {
			l.kinds[kind] = true
			agreed = append(agreed, wire.Member{Key: key, Value: json.RawMessage("true")})
		}
	}
	var uris []byte
	var tooMany bool
	wire.Elements(wire.Get(want, "resourceSubscriptions"), func(v json.RawMessage) bool {
		uri, ok := wire.String(v)
		if !ok {
			return true
		}
		if len(l.subs) == cfg.Limits.Subscriptions {
			tooMany = true
			return false
		}
		to, err := r.table.resource(uri)
		if err != nil {
			return true // left out of what is acknowledged
		}
		l.subs[uri] = to
		uris = append(append(uris, ','), v...)
		return true
	})
	if tooMany {
		return nil, nil, wire.Errorf(wire.CodeInvalidParams, "subscriptions/listen: at most %d resources in one stream (gateway.limits.subscriptions)", cfg.Limits.Subscriptions)
	}
	if uris != nil {
		uris[0] = '['
		agreed = append(agreed, wire.Member{Key: "resourceSubscriptions", Value: append(uris, ']')})
	}
	if g.streams.Add(1) > int64(cfg.Limits.Streams) {
		g.streams.Add(-1)
		return nil, nil, errTooManyStreams
	}
	l.box.put("", notification("notifications/subscriptions/acknowledged", wire.Set(nil, "notifications", wire.Edit(nil, agreed...)), l.id))
	ctx, cancel := context.WithCancel(g.ctx)
	var wg sync.WaitGroup
	for _, to := range l.subs {
		if l.clients[to.target] == nil {
			l.clients[to.target] = r.client(g, to.target)
		}
	}
	g.listens.add(l)
	for _, to := range l.subs {
		wg.Go(func() { g.hold(ctx, to, l.clients[to.target]) })
	}
	return l, func() {
		g.listens.remove(l)
		g.streams.Add(-1)
		cancel()
		wg.Wait()
	}, nil
}

// hold keeps a downstream subscription for as long as ctx lives.
func (g *Gateway) hold(ctx context.Context, to route, c *downstream.Client) {
	if err := to.target.server.Subscribe(ctx, c, to.own); err != nil {
		g.log.WarnContext(ctx, "a resource subscription failed", "downstream", to.target.name, "uri", to.own, "err", err)
		return
	}
	<-ctx.Done()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), to.target.server.Config().Timeouts.Connect)
	defer cancel()
	if err := to.target.server.Unsubscribe(end, c, to.own); err != nil {
		g.log.DebugContext(ctx, "unsubscribing failed", "downstream", to.target.name, "uri", to.own, "err", err)
	}
}
