package downstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// How a subscription stream is kept open.
const (
	listenAck   = 30 * time.Second       // for the server to agree
	listenEnd   = 250 * time.Millisecond // a server may or may not answer a request that was cancelled
	listenFirst = time.Second            // before a stream that ended is opened again, doubled each time
	listenMost  = time.Minute
)

// listener keeps one subscriptions/listen open on a mux with a modern server. Its filter is all that anybody wants.
//
// There is never more than one, and a new filter means to end the old stream before the new one is opened: go-sdk v1.8.0 keeps one
// slot per session and kind, and the end of any stream empties all slots, so opening first would leave nothing subscribed. What
// changed in the gap is unknown, so it is reported as changed.
type listener struct {
	m    *mux
	wake chan struct{} // the filter differs from what is open

	mu      sync.Mutex // guards what follows
	started bool
	kinds   []string        // "tools", "prompts", "resources": whose list changes are wanted
	uris    map[string]bool // wanted; true once the server has agreed
	round   *listenRound    // of the next stream; nil if nobody waits for it
	id      string          // of the open stream's request
	acked   chan json.RawMessage
	ended   chan struct{} // the server ended the stream by notifications/cancelled
}

// listenRound is what waits for one stream to be open.
type listenRound struct {
	uris    []string
	done    chan struct{} // closed when refused and err are set
	refused map[string]bool
	err     error
}

func (l *listener) init(m *mux) {
	l.m = m
	l.wake = make(chan struct{}, 1)
	l.uris = map[string]bool{}
}

// begin opens the stream for the list changes that p announces.
func (l *listener) begin(p *peer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, kind := range []string{"tools", "prompts", "resources"} {
		if string(wire.Get(wire.Get(p.Capabilities, kind), "listChanged")) == "true" {
			l.kinds = append(l.kinds, kind)
		}
	}
	if len(l.kinds) > 0 {
		l.changed()
	}
}

// changed starts the loop or wakes it. The caller holds mu.
func (l *listener) changed() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
	if !l.started {
		l.started = l.m.spawn(l.run)
	}
}

// subscribe asks the server to report changes of a resource. The error is a *wire.Error if the server refuses.
func (m *mux) subscribe(ctx context.Context, uri string) error {
	if !m.peer().modern() {
		_, err := m.call(ctx, &Call{Method: "resources/subscribe", Params: wire.Set(nil, "uri", wire.Quote(uri)), Target: uri})
		return err
	}
	return m.listen.add(ctx, uri)
}

// unsubscribe takes a subscribe back.
func (m *mux) unsubscribe(ctx context.Context, uri string) error {
	if !m.peer().modern() {
		_, err := m.call(ctx, &Call{Method: "resources/unsubscribe", Params: wire.Set(nil, "uri", wire.Quote(uri)), Target: uri})
		return err
	}
	m.listen.remove(uri)
	return nil
}

func (l *listener) add(ctx context.Context, uri string) error {
	l.mu.Lock()
	if l.uris[uri] {
		l.mu.Unlock()
		return nil
	}
	l.uris[uri] = false
	if l.round == nil {
		l.round = &listenRound{done: make(chan struct{})}
	}
	r := l.round
	r.uris = append(r.uris, uri)
	l.changed()
	l.mu.Unlock()
	select {
	case <-r.done:
		if r.err != nil {
			return r.err
		}
		if r.refused[uri] {
			return wire.Errorf(wire.CodeInvalidParams, "the server did not agree to report changes of this resource")
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-l.m.ended:
		return &UnavailableError{Class: "connection_closed", Err: l.m.err()}
	}
}

func (l *listener) remove(uri string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.uris[uri]; ok {
		delete(l.uris, uri)
		l.changed()
	}
}

// run keeps the stream open until the session ends.
func (l *listener) run() {
	var known listenFilter // what the last stream covered
	wait := listenFirst
	again := time.NewTimer(time.Hour)
	defer again.Stop()
	for {
		select {
		case <-l.wake:
		case <-again.C:
		case <-l.m.ended:
			return
		}
		for reopen := true; reopen; {
			f, r := l.snapshot()
			if f.empty() {
				known = f
				l.settle(r, nil, nil)
				break
			}
			began := time.Now()
			opened, changed, err := l.stream(f, r, known)
			switch {
			case l.m.ctx.Err() != nil:
				return
			case opened:
				known = f
			}
			if time.Since(began) > listenMost {
				wait = listenFirst
			}
			reopen = changed
			if !changed {
				l.m.log.Info("the server ended the subscription, opening it again", "in", wait, "err", err)
				again.Reset(wait)
				wait = min(2*wait, listenMost)
			}
		}
	}
}

// listenFilter is what a stream covers.
type listenFilter struct {
	kinds []string
	uris  []string
}

func (f *listenFilter) empty() bool { return len(f.kinds)+len(f.uris) == 0 }

func (f *listenFilter) params(o *opening) json.RawMessage {
	b := append(appendTriple([]byte(`{"_meta":{`), Modern, o.info, o.capabilities), `},"notifications":{`...)
	for _, kind := range f.kinds {
		b = append(appendKey(b, kind+"ListChanged"), "true"...)
	}
	if len(f.uris) > 0 {
		b = append(appendKey(b, "resourceSubscriptions"), '[')
		for n, uri := range f.uris {
			if n > 0 {
				b = append(b, ',')
			}
			b = wire.AppendString(b, uri)
		}
		b = append(b, ']')
	}
	return append(b, '}', '}')
}

// snapshot returns what the next stream is to cover, and who waits for it.
func (l *listener) snapshot() (listenFilter, *listenRound) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.wake: // this covers it
	default:
	}
	f := listenFilter{kinds: l.kinds}
	for uri := range l.uris {
		f.uris = append(f.uris, uri)
	}
	slices.Sort(f.uris)
	r := l.round
	l.round = nil
	if r == nil {
		r = &listenRound{done: make(chan struct{})}
	}
	return f, r
}

// stream opens one stream and returns when it has ended. It reports whether the server agreed to it, and whether it ended because
// another filter is wanted.
func (l *listener) stream(f listenFilter, r *listenRound, known listenFilter) (opened, changed bool, err error) {
	m := l.m
	p, err := m.register(m.ctx, nil, true)
	if err != nil {
		l.settle(r, nil, err)
		return false, false, err
	}
	defer m.forget(p)
	id := strconv.FormatInt(p.id, 10)
	acked, ended := make(chan json.RawMessage, 1), make(chan struct{})
	l.mu.Lock()
	l.id, l.acked, l.ended = id, acked, ended
	l.mu.Unlock()
	if err := m.write(m.ctx, wire.AppendRequest(nil, json.RawMessage(id), "subscriptions/listen", f.params(&m.o))); err != nil {
		l.settle(r, nil, err)
		return false, false, err
	}
	patience := time.NewTimer(listenAck)
	defer patience.Stop()
	for {
		select {
		case agreed := <-acked:
			patience.Stop()
			l.settle(r, agreed, nil)
			opened = true
			l.gap(f, known)
		case a := <-p.answer:
			if a.err == nil && !opened {
				a.err = errors.New("it ended without having begun")
			}
			if !opened {
				// Without the resources that were new, it may be agreed to.
				return false, l.settle(r, nil, fmt.Errorf("subscriptions/listen: %w", a.err)) || l.unwanted(a.err), a.err
			}
			return true, false, a.err
		case <-patience.C:
			err := errors.New("the server did not acknowledge the subscription")
			m.tellCancelled(p.id, err.Error())
			return false, l.settle(r, nil, err), err
		case <-ended:
			l.settle(r, nil, errors.New("the server ended the subscription"))
			return opened, false, nil
		case <-m.ended:
			l.settle(r, nil, &UnavailableError{Class: "connection_closed", Err: m.err()})
			return opened, false, nil
		case <-l.waker(opened):
			m.tellCancelled(p.id, "another subscription takes its place")
			patience.Reset(listenEnd)
			select {
			case <-p.answer:
			case <-patience.C:
			case <-m.ended:
			}
			return true, true, nil
		}
	}
}

// waker returns wake once the stream is open: a change in between waits for the server's agreement.
func (l *listener) waker(opened bool) <-chan struct{} {
	if !opened {
		return nil
	}
	return l.wake
}

// unwanted gives up list changes if the server does not know subscriptions at all, and reports whether it did.
func (l *listener) unwanted(err error) bool {
	var e *wire.Error
	l.mu.Lock()
	defer l.mu.Unlock()
	if !errors.As(err, &e) || e.Code != wire.CodeMethodNotFound || l.kinds == nil {
		return false
	}
	l.m.log.Warn("the server announces changes of its lists but does not know subscriptions/listen", "err", err)
	l.kinds = nil
	return true
}

// settle tells those who wait for r how it went. It reports whether what they wanted was taken out of the filter.
func (l *listener) settle(r *listenRound, agreed json.RawMessage, err error) bool {
	select {
	case <-r.done:
		return false
	default:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r.err = err
	r.refused = map[string]bool{}
	removed := false
	accepted := map[string]bool{}
	wire.Elements(wire.Get(wire.Get(agreed, "notifications"), "resourceSubscriptions"), func(v json.RawMessage) bool {
		uri, _ := wire.String(v)
		accepted[uri] = true
		return true
	})
	for _, uri := range r.uris {
		if _, wanted := l.uris[uri]; !wanted {
			continue
		}
		if err == nil && accepted[uri] {
			l.uris[uri] = true
			continue
		}
		r.refused[uri] = true
		delete(l.uris, uri)
		removed = true
	}
	close(r.done)
	return removed
}

// gap reports as changed what the last stream covered too: between the two nobody listened.
func (l *listener) gap(f, known listenFilter) {
	for _, kind := range f.kinds {
		if slices.Contains(known.kinds, kind) {
			l.m.upcalls.Notify("notifications/"+kind+"/list_changed", nil)
		}
	}
	for _, uri := range f.uris {
		if _, both := slices.BinarySearch(known.uris, uri); both {
			l.m.upcalls.Notify("notifications/resources/updated", wire.Set(nil, "uri", wire.Quote(uri)))
		}
	}
}

// acknowledged takes the server's agreement to a stream.
func (m *mux) acknowledged(params json.RawMessage) {
	l := &m.listen
	id := wire.Get(wire.Get(params, "_meta"), MetaSubscriptionID)
	l.mu.Lock()
	defer l.mu.Unlock()
	if string(id) == l.id && l.acked != nil {
		l.acked <- params
		l.acked = nil // it agrees once
	}
}

// listenCancelled takes notice that the server ended the stream whose request had the given id.
func (m *mux) listenCancelled(id json.RawMessage) {
	l := &m.listen
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended != nil && l.id != "" && string(id) == l.id {
		close(l.ended)
		l.ended = nil
	}
}
