package downstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// Capabilities declared on the session that only reads the catalogue. Servers offer some of their tools only to clients that
// could use them; who calls one has a session of its own, which declares what that client can do.
var catalogCapabilities = json.RawMessage(`{"roots":{"listChanged":true},"sampling":{},"elicitation":{"form":{},"url":{}}}`)

var noCapabilities = json.RawMessage(`{}`)

// supervise keeps the main session open until the Server is closed.
func (s *Server) supervise() {
	backoff := backoff{initial: s.cfg.Restart.InitialDelay, most: s.cfg.Restart.MaxDelay}
	defer s.settle()
	ended := "" // how the last session or attempt did
	for s.ctx.Err() == nil {
		s.setTrying()
		l, err := s.openMain()
		if err == nil {
			opened := time.Now()
			s.opts.Events.reconnected(ended)
			err = s.attend(l)
			s.opts.Events.sessionEnded(opened, err, s.ctx.Err() != nil)
			ended = "session_ended"
			if time.Since(opened) >= s.cfg.Restart.HealthyAfter {
				backoff.reset()
			}
		} else {
			ended = "connect_failed"
		}
		if s.ctx.Err() != nil {
			break
		}
		s.opts.Events.restarted(err)
		delay := backoff.next()
		s.wentAway(err, delay)
		s.settle()
		s.pause(delay)
	}
}

// settle marks the first attempt as over.
func (s *Server) settle() { s.settleOnce.Do(func() { close(s.settled) }) }

// openMain opens the session that the catalogue is read from.
func (s *Server) openMain() (link, error) {
	ctx, cancel := context.WithTimeoutCause(s.ctx, s.cfg.Timeouts.Initialize,
		fmt.Errorf("not ready within %s (timeouts.initialize): %w", s.cfg.Timeouts.Initialize, context.DeadlineExceeded))
	defer cancel()
	o := opening{capabilities: noCapabilities, upcalls: mainUpcalls{s}, shared: true, listen: true, doubt: s.doubt, late: s.opts.Events.Late}
	if s.cfg.Session != "shared" && (s.cfg.Kind() == "http" || s.cfg.Session == "per_client") {
		o.capabilities = catalogCapabilities
	}
	return s.opener.open(ctx, o)
}

// attend makes l the main session and keeps the catalogue up to date until the session ends or proves dead. It returns why.
func (s *Server) attend(l link) error {
	s.restore(l)
	s.main.Store(&mainLink{l})
	s.wake()
	// A server that has never been listed is not ready before it is; one whose tools are known is ready at once.
	listed := s.catalog.Load().Revision != ""
	if listed {
		s.setReady(l)
	}
	defer func() {
		s.main.Store(nil)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), 3*s.cfg.Timeouts.Close)
		defer cancel()
		l.close(ctx)
	}()
	relist := time.NewTimer(0)
	defer relist.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		case <-l.done():
			return l.err()
		case <-s.suspect:
			if err := s.verify(l); err != nil {
				return err
			}
		case <-s.changed:
			// Servers announce tools one by one; wait for the last of them.
			relist.Reset(changeDelay)
		case <-relist.C:
			err := s.relist(l)
			if !listed {
				s.setReady(l)
				listed = true
			}
			s.settle()
			if err != nil && s.ctx.Err() == nil {
				s.log.Warn("listing what the server offers failed", "err", err)
				s.noteError(err)
				if err := s.verify(l); err != nil {
					return err
				}
			}
			relist.Reset(jitter(s.cfg.Restart.Refresh))
		}
	}
}

const changeDelay = 50 * time.Millisecond

// relist reads the catalogue and publishes it if it differs.
func (s *Server) relist(l link) error {
	last := s.catalog.Load()
	c, err := list(s.ctx, l, &s.cfg, last)
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	s.catalog.Store(c)
	defer s.wasListed() // after Changed
	if err == nil {
		s.lastOK.Store(time.Now().UnixNano())
	}
	if c.equal(last) {
		if c.fresher(last) {
			s.opts.Changed() // clients may keep it for longer
		}
		return err
	}
	for _, p := range c.Problems {
		s.log.Warn("part of what the server offers is left out", "problem", p)
	}
	s.log.Info("catalogue changed", "tools", len(c.Lists[Tools].Items), "prompts", len(c.Lists[Prompts].Items),
		"resources", len(c.Lists[Resources].Items), "templates", len(c.Lists[Templates].Items))
	s.opts.Changed()
	return err
}

// verify asks a server that seems unreachable for a sign of life. A process tells by ending; only HTTP servers need to be asked.
func (s *Server) verify(l link) error {
	if s.cfg.Kind() != "http" {
		return nil
	}
	method := "ping"
	if l.peer().modern() {
		method = "server/discover"
	}
	ctx, cancel := context.WithTimeoutCause(s.ctx, s.cfg.Timeouts.Connect+s.cfg.Timeouts.Discover, context.DeadlineExceeded)
	defer cancel()
	_, err := l.call(ctx, &Call{Method: method})
	var rpc *wire.Error
	if err == nil || errors.As(err, &rpc) {
		return nil
	}
	return err
}

// pause waits for the next attempt. A call cannot shorten it: it is refused with the time of that attempt instead.
func (s *Server) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.ctx.Done():
	}
}

// doubt makes the supervisor look whether the server still answers.
func (s *Server) doubt() {
	select {
	case s.suspect <- struct{}{}:
	default:
	}
}

// setTrying marks the beginning of an attempt, for which calls wait.
func (s *Server) setTrying() {
	select {
	case <-s.suspect: // what it suspected has come true
	default:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.NextTry = time.Time{}
}

// setReady marks the main session as open.
func (s *Server) setReady(l link) {
	p := l.peer()
	s.log.Info("server ready", "protocol", p.Revision)
	s.mu.Lock()
	s.status.State, s.status.Since, s.status.Attempt = Ready, time.Now(), 0
	s.mu.Unlock()
	if s.opts.Ready != nil {
		s.opts.Ready()
	}
}

// wake lets the calls that wait for the main session look again.
func (s *Server) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.waiting)
	s.waiting = make(chan struct{})
}

// wentAway marks the end of a session or attempt.
func (s *Server) wentAway(err error, delay time.Duration) {
	if err == nil {
		err = errors.New("the session ended")
	}
	defer s.wake()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status.State != Reconnecting {
		s.status.Since = time.Now()
	}
	// The same failure again and again is one line in the log.
	if s.status.State != Reconnecting || s.status.LastError != err.Error() {
		s.log.Warn("server unavailable", "err", err, "retry_in", delay.Round(time.Millisecond))
	}
	s.status.State = Reconnecting
	s.status.Attempt++
	s.away = err
	s.ended++
	s.status.LastError, s.status.LastErrAt = err.Error(), time.Now()
	if delay > 0 {
		s.status.NextTry = time.Now().Add(delay)
	}
}

func (s *Server) noteError(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.LastError, s.status.LastErrAt = err.Error(), time.Now()
}

// stopped marks the end of everything.
func (s *Server) stopped() {
	defer s.wake()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.State, s.status.Since, s.status.NextTry = Stopped, time.Now(), time.Time{}
}

// mainUpcalls takes what the server says on the main session outside of calls.
type mainUpcalls struct{ s *Server }

func (u mainUpcalls) Notify(method string, params json.RawMessage) {
	if strings.HasSuffix(method, "/list_changed") {
		u.s.Relist()
		return
	}
	if u.s.opts.Upcalls == nil {
		u.s.log.Debug("notification that belongs to no call dropped", "method", method)
		return
	}
	u.s.opts.Upcalls(method, params)
}

func (u mainUpcalls) Request(ctx context.Context, method string, _ json.RawMessage) (json.RawMessage, error) {
	if method == "roots/list" {
		return json.RawMessage(`{"roots":[]}`), nil
	}
	u.s.log.DebugContext(ctx, "request that belongs to no client's call refused", "method", method)
	return nil, wire.Errorf(wire.CodeMethodNotFound, "mcpgw: %s cannot be asked outside of a client's call on this session: no client would be the right one", method)
}

// backoff is a delay that doubles. The first is zero: most servers that end are back at once.
type backoff struct {
	initial, most time.Duration
	n             int
}

func (b *backoff) reset() { b.n = 0 }

func (b *backoff) next() time.Duration {
	b.n++
	if b.n == 1 {
		return 0
	}
	d := b.initial
	for i := 2; i < b.n && d < b.most; i++ {
		d *= 2
	}
	return jitter(min(d, b.most))
}

// jitter takes up to a tenth off d, so that servers that went away together do not come back together.
func jitter(d time.Duration) time.Duration {
	if d < 10 {
		return d
	}
	return d - rand.N(d/10) //nolint:gosec // spreads load, guards nothing
}

// Relist makes the server's lists be read again soon. It does not wait.
func (s *Server) Relist() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}
