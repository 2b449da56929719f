package downstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// pool holds the sessions that belong to one client each.
type pool struct {
	s  *Server
	mu sync.Mutex // guards what follows

	byClient map[string]*clientLink
	closed   bool
}

// clientLink is one client's session with the server, being opened, open, or about to be replaced.
type clientLink struct {
	opened chan struct{} // closed when link or err is set
	link   link
	err    error

	// Guarded by the pool's mutex:
	users    int // requests under way
	lastUsed time.Time
}

func (p *pool) init(s *Server) {
	p.s = s
	p.byClient = map[string]*clientLink{}
}

func (p *pool) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.byClient)
}

// get returns c's session, opened now if there is none, and a function to call when the request is done.
func (p *pool) get(ctx context.Context, c *Client) (link, func(), error) {
	for {
		e, err := p.entry(c)
		if err != nil {
			return nil, nil, err
		}
		release := func() { p.release(e) }
		select {
		case <-e.opened:
		case <-ctx.Done():
			release()
			return nil, nil, &UnavailableError{Class: "starting", Err: fmt.Errorf("the session for this client was not open in time: %w", context.Cause(ctx))}
		}
		if e.err != nil {
			release()
			return nil, nil, e.err
		}
		select {
		case <-e.link.done():
			// It ended between two calls: this call finds or makes the next one.
			release()
			p.remove(c.ID, e)
			continue
		default:
			return e.link, release, nil
		}
	}
}

// entry returns c's entry with one more user, and starts to open it if it is new.
func (p *pool) entry(c *Client) (*clientLink, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, &UnavailableError{Class: "stopped", Err: errors.New("it is being removed")}
	}
	e := p.byClient[c.ID]
	if e == nil {
		if limit := p.s.cfg.Limits.Sessions; len(p.byClient) >= limit {
			return nil, &UnavailableError{Class: "overloaded", Err: fmt.Errorf("%d clients have a session with it already (limits.sessions)", limit)}
		}
		e = &clientLink{opened: make(chan struct{})}
		p.byClient[c.ID] = e
		p.s.wg.Go(func() { p.open(c, e) })
	}
	e.users++
	e.lastUsed = time.Now()
	return e, nil
}

func (p *pool) release(e *clientLink) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e.users--
	e.lastUsed = time.Now()
}

// open opens e for c, then watches over it until it ends, is idle for too long or the Server closes. It does not depend on the call
// that wanted it first, because others of the same client may wait for it too.
func (p *pool) open(c *Client, e *clientLink) {
	s := p.s
	ctx, cancel := context.WithTimeoutCause(s.ctx, s.cfg.Timeouts.Initialize,
		fmt.Errorf("not ready within %s (timeouts.initialize): %w", s.cfg.Timeouts.Initialize, context.DeadlineExceeded))
	defer cancel()
	e.link, e.err = s.opener.open(ctx, opening{capabilities: orNone(c.Capabilities), upcalls: c.Upcalls, shared: c.Shared, listen: true, late: s.opts.Events.Late})
	if e.err != nil {
		if _, ok := errors.AsType[*UnavailableError](e.err); !ok {
			e.err = &UnavailableError{Class: "connect", Err: fmt.Errorf("opening a session for this client: %w", e.err)}
		}
		p.remove(c.ID, e)
		close(e.opened)
		return
	}
	s.restoreLevel(ctx, c.ID, e.link)
	opened := time.Now()
	close(e.opened)
	lost := p.watch(c, e)
	s.opts.Events.sessionEnded(opened, e.link.err(), !lost)
	p.remove(c.ID, e)
	if lost && c.Lost != nil {
		c.Lost()
	}
	closing, stop := context.WithTimeout(context.WithoutCancel(s.ctx), 3*s.cfg.Timeouts.Close)
	defer stop()
	e.link.close(closing)
}

func orNone(capabilities []byte) []byte {
	if capabilities == nil {
		return noCapabilities
	}
	return capabilities
}

// watch returns when e's session has ended, or should end. It reports whether that was the server's doing.
func (p *pool) watch(c *Client, e *clientLink) bool {
	idle := time.NewTicker(max(p.s.cfg.Timeouts.Idle/4, time.Second))
	defer idle.Stop()
	for {
		select {
		case <-e.link.done():
			p.mu.Lock()
			lost := p.byClient[c.ID] == e
			p.mu.Unlock()
			if lost {
				p.s.log.Info("the server ended a client's session", "session", c.ID, "err", e.link.err())
			}
			return lost
		case <-p.s.ctx.Done():
			return false
		case <-idle.C:
			p.mu.Lock()
			here := p.byClient[c.ID] == e
			end := !here || e.users == 0 && time.Since(e.lastUsed) > p.s.cfg.Timeouts.Idle
			if end && here {
				delete(p.byClient, c.ID)
			}
			p.mu.Unlock()
			if end {
				return false
			}
		}
	}
}

// remove forgets e, so that the next request opens a new session.
func (p *pool) remove(id string, e *clientLink) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byClient[id] == e {
		delete(p.byClient, id)
	}
}

// drop forgets the session l of a client that the server no longer knows.
func (p *pool) drop(c *Client, l link) {
	if c == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.byClient[c.ID]
	if e == nil {
		return
	}
	select {
	case <-e.opened:
		if e.link == l {
			delete(p.byClient, c.ID)
		}
	default: // a new one is being opened already
	}
}

// end closes a client's session, in the background.
func (p *pool) end(id string) {
	p.mu.Lock()
	e := p.byClient[id]
	delete(p.byClient, id)
	closed := p.closed
	p.mu.Unlock()
	if e == nil || closed {
		return
	}
	p.s.wg.Go(func() {
		<-e.opened
		if e.link == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(p.s.ctx), 3*p.s.cfg.Timeouts.Close)
		defer cancel()
		e.link.close(ctx) // watch sees it done
	})
}

// live returns the open session of a client, or nil.
func (p *pool) live(id string) link {
	p.mu.Lock()
	e := p.byClient[id]
	p.mu.Unlock()
	if e == nil {
		return nil
	}
	select {
	case <-e.opened:
		return e.link
	default:
		return nil
	}
}

// close ends every session at once and waits for them, at most until ctx is done.
func (p *pool) close(ctx context.Context) {
	p.mu.Lock()
	p.closed = true
	all := p.byClient
	p.byClient = map[string]*clientLink{}
	p.mu.Unlock()
	var wg sync.WaitGroup
	for _, e := range all {
		wg.Go(func() {
			<-e.opened
			if e.link != nil {
				e.link.close(ctx)
			}
		})
	}
	wg.Wait()
}
