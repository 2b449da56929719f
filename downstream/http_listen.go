package downstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// httpListener keeps a subscriptions/listen stream with a modern server open: for changes of its lists if the link is to listen, and
// for changes of the resources that were subscribed to. A change of what is wanted opens the next stream before the last one is
// closed, so nothing is missed.
type httpListener struct {
	l     *httpLink
	lists bool // whether changes of lists are wanted

	turn    chan struct{} // holds a value while somebody uses what follows
	uris    []string      // sorted
	current *listening    // nil while nothing is wanted
}

// listening is one subscriptions/listen stream, opened again whenever it ends.
type listening struct {
	l      *httpLink
	params json.RawMessage
	uris   []string
	ctx    context.Context
	cancel context.CancelFunc
	once   sync.Once
	ready  chan struct{}   // closed when the first attempt has led to one of these:
	grants json.RawMessage // what the server agreed to tell of
	err    error           // why the first attempt failed
}

// subscribe implements subscriber.
func (l *httpLink) subscribe(ctx context.Context, uri string) error {
	return l.setSubscribed(ctx, "resources/subscribe", uri, true)
}

// unsubscribe implements subscriber.
func (l *httpLink) unsubscribe(ctx context.Context, uri string) error {
	return l.setSubscribed(ctx, "resources/unsubscribe", uri, false)
}

func (l *httpLink) setSubscribed(ctx context.Context, method, uri string, on bool) error {
	if l.modern() {
		return l.listener.set(ctx, uri, on)
	}
	_, err := l.call(ctx, &Call{Method: method, Params: json.RawMessage(append(wire.AppendString([]byte(`{"uri":`), uri), '}')), Target: uri})
	return err
}

func newHTTPListener(l *httpLink) *httpListener {
	return &httpListener{l: l, turn: make(chan struct{}, 1), lists: l.opening.listen}
}

// start begins to listen for changes of lists, if the server tells of any.
func (r *httpListener) start() {
	r.current = r.open(nil)
}

// set adds or removes a resource, and returns when the server has agreed to it.
func (r *httpListener) set(ctx context.Context, uri string, on bool) error {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	at, has := slices.BinarySearch(r.uris, uri)
	if has == on {
		return nil
	}
	uris := slices.Clone(r.uris)
	if on {
		uris = slices.Insert(uris, at, uri)
	} else {
		uris = slices.Delete(uris, at, at+1)
	}
	next := r.open(uris)
	if next != nil {
		if err := next.wait(ctx, uri, on); err != nil {
			next.cancel()
			return err
		}
	}
	last := r.current
	r.uris, r.current = uris, next
	if last != nil {
		last.cancel()
	}
	return nil
}

// open starts a stream for what is wanted; nil if that is nothing.
func (r *httpListener) open(uris []string) *listening {
	var filter []wire.Member
	for _, c := range changes {
		if r.lists && r.l.announces(c.capability) {
			filter = append(filter, wire.Member{Key: c.filter, Value: json.RawMessage("true")})
		}
	}
	if len(uris) > 0 {
		list := []byte{'['}
		for i, uri := range uris {
			if i > 0 {
				list = append(list, ',')
			}
			list = wire.AppendString(list, uri)
		}
		filter = append(filter, wire.Member{Key: "resourceSubscriptions", Value: append(list, ']')})
	}
	if filter == nil {
		return nil
	}
	s := &listening{l: r.l, uris: uris, ready: make(chan struct{})}
	s.params = wire.Set(nil, "notifications", wire.Edit(nil, filter...))
	s.ctx, s.cancel = context.WithCancel(r.l.ctx)
	if !r.l.spawn(s.run) {
		s.settle(nil, errClosed)
	}
	return s
}

// wait returns when the server has agreed to the stream, and to tell of uri if that was asked for.
func (s *listening) wait(ctx context.Context, uri string, on bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.l.cfg.Timeouts.List, context.DeadlineExceeded)
	defer cancel()
	select {
	case <-s.ready:
	case <-ctx.Done():
		return &LostError{Class: "timeout", Err: fmt.Errorf("the server did not acknowledge subscriptions/listen: %w", context.Cause(ctx))}
	}
	if s.err != nil || !on {
		return s.err
	}
	agreed := false
	wire.Elements(wire.Get(s.grants, "resourceSubscriptions"), func(v json.RawMessage) bool {
		granted, _ := wire.String(v)
		agreed = granted == uri
		return !agreed
	})
	if !agreed {
		return wire.Errorf(wire.CodeInvalidParams, "the server does not tell of changes of this resource")
	}
	return nil
}

// settle ends the wait for the first acknowledgement.
func (s *listening) settle(grants json.RawMessage, err error) {
	s.once.Do(func() {
		s.grants, s.err = grants, err
		close(s.ready)
	})
}

// run keeps the stream open until its context ends or the server refuses it for good.
func (s *listening) run() {
	defer s.cancel()
	l := s.l
	b := l.backoff()
	var lastErr string
	for heard := false; ; {
		opened := time.Now()
		acknowledged, err := s.listen(heard)
		heard = heard || acknowledged
		if s.ctx.Err() != nil {
			s.settle(nil, errClosed)
			return
		}
		s.settle(nil, err)
		if refused(err) && !heard {
			l.log.WarnContext(s.ctx, "the server refused subscriptions/listen, so changes are only seen by listing again", "err", err)
			return
		}
		if errors.Is(err, errNothingGranted) {
			return
		}
		if msg := err.Error(); msg != lastErr {
			lastErr = msg
			l.log.DebugContext(s.ctx, "subscriptions/listen ended, opening it again", "err", err)
		}
		if time.Since(opened) >= l.cfg.Restart.HealthyAfter {
			b.reset()
		}
		l.inDoubt()
		if pause(s.ctx, max(b.next(), jitter(l.cfg.Restart.InitialDelay))) != nil {
			s.settle(nil, errClosed)
			return
		}
	}
}

var (
	errNothingGranted = errors.New("the server tells of none of the changes that were asked for")
	errListenEnded    = errors.New("the server ended subscriptions/listen")
)

// listen opens the stream once and hands on what comes on it until it ends. It reports whether the server acknowledged it; the
// error is never nil. heard says that there was a stream before, so that something may have been missed.
func (s *listening) listen(heard bool) (acknowledged bool, err error) {
	l := s.l
	c := &Call{Method: "subscriptions/listen", Params: s.params}
	id := strconv.AppendUint(nil, l.next.Add(1), 10)
	params, _ := outgoing(c, l.self, &l.opening, nil)
	resp, err := l.client.listening().do(s.ctx, http.MethodPost, l.headerFor(c), wire.AppendRequest(nil, id, c.Method, params))
	if err != nil {
		return false, err
	}
	if resp.StatusCode/100 != 2 {
		return false, l.client.refused(s.ctx, resp, id, false)
	}
	defer resp.Body.Close()
	if t := contentType(resp.Header); t != "text/event-stream" {
		if t != "application/json" {
			return false, malformed("expected text/event-stream, the server answered %s", orElse(excerpt([]byte(t)), "no content type"))
		}
		b, err := l.client.readBody(resp)
		if err != nil {
			return false, err
		}
		return false, s.ended(b, id)
	}
	events := wire.NewSSEReader(resp.Body, l.client.maxBody)
	defer events.Release()
	var nothing bool
	for {
		e, err := events.Next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errEnded
			}
			return acknowledged, err
		}
		if len(e.Data) == 0 || e.Name != "" && e.Name != "message" {
			continue
		}
		m, err := wire.Parse(e.Data, l.cfg.Limits.Depth)
		switch {
		case err != nil:
			l.drop(s.ctx, "an event that is no message: "+err.Error(), e.Data)
		case m.IsResponse() && bytes.Equal(m.ID, id):
			err := s.ended(e.Data, id)
			if nothing && errors.Is(err, errListenEnded) {
				err = errNothingGranted
			}
			return acknowledged, err
		case m.Method == "notifications/subscriptions/acknowledged" && !acknowledged:
			acknowledged = true
			grants := wire.Get(m.Params, "notifications")
			nothing = true
			wire.Members(grants, func(_ []byte, v json.RawMessage) bool {
				nothing = string(v) == "false" || string(v) == "[]"
				return nothing
			})
			s.settle(grants, nil)
			if heard {
				s.missed()
			}
		case m.IsNotification():
			l.upcalls.Notify(m.Method, withoutSubscription(m.Params))
		default:
			l.drop(s.ctx, "a message that has no place on subscriptions/listen", []byte(m.Method))
		}
	}
}

// ended reads the response to subscriptions/listen, with which the server ends it.
func (s *listening) ended(b []byte, id json.RawMessage) error {
	m, err := wire.Parse(b, s.l.cfg.Limits.Depth)
	if err != nil || !m.IsResponse() || !bytes.Equal(m.ID, id) {
		return malformed("not an answer to subscriptions/listen: %s", excerpt(b))
	}
	if a := result(&m); a.err != nil {
		return a.err
	}
	return errListenEnded
}

// missed tells of changes that the server may have announced while nobody listened.
func (s *listening) missed() {
	s.l.missed()
	for _, uri := range s.uris {
		s.l.upcalls.Notify("notifications/resources/updated", append(wire.AppendString([]byte(`{"uri":`), uri), '}'))
	}
}
