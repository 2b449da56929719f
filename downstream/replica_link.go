package downstream

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"sync"
	"time"
)

// pinned is a session with one endpoint of several, where it stays. If the endpoint cannot be reached any more, the session ends, so that
// the next one is opened with another.
type pinned struct {
	link
	set  *replicas
	at   *replica
	gone chan struct{}
	once sync.Once
	wg   sync.WaitGroup
	quit context.CancelFunc

	mu  sync.Mutex // guards why
	why error
}

func newPinned(set *replicas, at *replica, l link) *pinned {
	ctx, cancel := context.WithCancel(context.Background())
	p := &pinned{link: l, set: set, at: at, gone: make(chan struct{}), quit: cancel}
	at.sessions.Add(1)
	p.wg.Go(func() {
		select {
		case <-l.done():
			p.end(l.err())
		case <-ctx.Done():
		}
	})
	return p
}

func (p *pinned) end(err error) {
	p.once.Do(func() {
		p.at.sessions.Add(-1)
		p.mu.Lock()
		p.why = err
		p.mu.Unlock()
		close(p.gone)
	})
}

// fail implements ender.
func (p *pinned) fail(err error) { p.end(err) }

func (p *pinned) done() <-chan struct{} { return p.gone }

func (p *pinned) err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.why
}

func (p *pinned) call(ctx context.Context, c *Call) (json.RawMessage, error) {
	raw, err := p.at.call(ctx, p.set, p.link, c)
	if away, ok := errors.AsType[*UnavailableError](err); ok && ctx.Err() == nil && p.set.other(p.at) {
		switch away.Class {
		case "connect", "dns", "tls":
			p.end(err)
			return nil, &UnavailableError{Class: "connection_closed", Err: err} // unsent: it may go to another endpoint
		}
	}
	return raw, err
}

func (p *pinned) close(ctx context.Context) {
	p.end(errClosed)
	p.quit()
	p.link.close(ctx)
	p.wg.Wait()
}

// subscribe implements subscriber.
func (p *pinned) subscribe(ctx context.Context, uri string) error {
	if sub, ok := p.link.(subscriber); ok {
		return sub.subscribe(ctx, uri)
	}
	return errNoSubscriptions
}

// unsubscribe implements subscriber.
func (p *pinned) unsubscribe(ctx context.Context, uri string) error {
	if sub, ok := p.link.(subscriber); ok {
		return sub.unsubscribe(ctx, uri)
	}
	return nil
}

// call makes a call at the endpoint and notes what came of it.
func (e *replica) call(ctx context.Context, set *replicas, l link, c *Call) (json.RawMessage, error) {
	e.pending.Add(1)
	raw, err := l.call(ctx, c)
	e.pending.Add(-1)
	set.note(e, err, true)
	return raw, err
}

// other reports whether another endpoint than e seems to work.
func (r *replicas) other(e *replica) bool {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range r.all {
		if o != e && !now.Before(o.ejected) {
			return true
		}
	}
	return false
}

// balanced is the link to a modern server with several endpoints: each call goes to the one that waits for the fewest.
type balanced struct {
	set    *replicas
	o      opening
	self   *peer
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	ended  chan struct{}

	mu    sync.Mutex // guards what follows
	links map[*replica]link
	subs  map[string]bool
	why   error
}

func newBalanced(set *replicas, o opening, first *replica, l link) *balanced {
	b := &balanced{set: set, o: o, self: l.peer(), ended: make(chan struct{}), links: map[*replica]link{}, subs: map[string]bool{}}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	for _, e := range set.all {
		var have link
		if e == first {
			have = l
			b.put(e, l)
		}
		b.wg.Go(func() { b.keep(e, have) })
	}
	return b
}

func (b *balanced) put(e *replica, l link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.links[e] = l
	e.sessions.Add(1)
}

// keep keeps a link to one endpoint open, so that no call has to wait for one.
func (b *balanced) keep(e *replica, l link) {
	again := backoff{initial: b.set.cfg.Restart.InitialDelay, most: b.set.cfg.Restart.MaxDelay}
	for b.ctx.Err() == nil {
		if l == nil {
			if l = b.reopen(e); l == nil {
				t := time.NewTimer(max(again.next(), b.set.cfg.Restart.InitialDelay))
				select {
				case <-t.C:
				case <-b.ctx.Done():
				}
				t.Stop()
				continue
			}
		}
		again.reset()
		select {
		case <-l.done():
		case <-b.ctx.Done():
		}
		b.mu.Lock()
		delete(b.links, e)
		b.mu.Unlock()
		e.sessions.Add(-1)
		closing, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), b.set.cfg.Timeouts.Close)
		l.close(closing)
		cancel()
		l = nil
	}
}

// reopen opens a link to one endpoint; nil if it does not work.
func (b *balanced) reopen(e *replica) link {
	ctx, cancel := context.WithTimeout(b.ctx, b.set.cfg.Timeouts.Initialize)
	defer cancel()
	l, err := b.set.openAt(ctx, e, b.o, 1)
	if err == nil && !l.peer().modern() {
		l.close(ctx)
		err = errors.New("it speaks an older revision than the other endpoints")
	}
	if err != nil {
		if b.ctx.Err() == nil {
			b.set.log.DebugContext(ctx, "an endpoint cannot be used", "endpoint", e.shown, "err", err)
		}
		return nil
	}
	b.mu.Lock()
	uris := make([]string, 0, len(b.subs))
	for uri := range b.subs {
		uris = append(uris, uri)
	}
	b.mu.Unlock()
	if sub, ok := l.(subscriber); ok {
		for _, uri := range uris {
			if err := sub.subscribe(ctx, uri); err != nil {
				b.set.log.WarnContext(ctx, "a resource subscription could not be renewed", "endpoint", e.shown, "uri", uri, "err", err)
			}
		}
	}
	b.put(e, l)
	return l
}

func (b *balanced) peer() *peer           { return b.self }
func (b *balanced) done() <-chan struct{} { return b.ended }

func (b *balanced) err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.why
}

// usable returns the links in the order in which to try them.
func (b *balanced) usable() ([]*replica, []link) {
	b.mu.Lock()
	have := maps.Clone(b.links)
	b.mu.Unlock()
	order := b.set.order(func(e *replica) bool { return have[e] != nil })
	links := make([]link, len(order))
	for i, e := range order {
		links[i] = have[e]
	}
	return order, links
}

// call sends the request to one endpoint. What was not sent goes on to the next; what was lost or refused by a broken endpoint only if
// making it twice does no harm, and only once.
func (b *balanced) call(ctx context.Context, c *Call) (raw json.RawMessage, err error) {
	order, links := b.usable()
	if len(order) == 0 {
		return nil, &UnavailableError{Class: "connect", Err: errors.New("no endpoint can be reached")}
	}
	sent := 0
	for i, e := range order {
		one := *c // a link may change it
		raw, err = e.call(ctx, b.set, links[i], &one)
		if err == nil || ctx.Err() != nil {
			return raw, err
		}
		if away, ok := errors.AsType[*UnavailableError](err); ok {
			if away.Class == "stopped" || away.Class == "cancelled" {
				return nil, err
			}
			continue
		}
		if sent++; !brokenBy(err) || !c.Safe && !harmless(c.Method) || sent > 1 {
			return nil, err
		}
	}
	return nil, err
}

// harmless reports whether a request of the gateway's own may be made twice.
func harmless(method string) bool {
	switch method {
	case "server/discover", "ping", "tools/list", "prompts/list", "resources/list", "resources/templates/list":
		return true
	}
	return false
}

func (b *balanced) notify(ctx context.Context, method string, params json.RawMessage) error {
	_, links := b.usable()
	var errs []error
	for _, l := range links {
		errs = append(errs, l.notify(ctx, method, params))
	}
	return errors.Join(errs...)
}

func (b *balanced) close(ctx context.Context) {
	b.mu.Lock()
	if b.why == nil {
		b.why = errClosed
		close(b.ended)
	}
	b.mu.Unlock()
	b.cancel()
	ended := make(chan struct{})
	go func() {
		b.wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done(): // what is left ends within Timeouts.Close by itself
	}
}

// subscribe implements subscriber: at every endpoint, because any of them may be where the resource changes.
func (b *balanced) subscribe(ctx context.Context, uri string) error {
	b.mu.Lock()
	b.subs[uri] = true
	b.mu.Unlock()
	_, links := b.usable()
	err := error(errNoSubscriptions)
	agreed := false
	for _, l := range links {
		if sub, ok := l.(subscriber); ok {
			if err = sub.subscribe(ctx, uri); err == nil {
				agreed = true
			}
		}
	}
	if agreed {
		return nil
	}
	b.mu.Lock()
	delete(b.subs, uri)
	b.mu.Unlock()
	return err
}

// unsubscribe implements subscriber.
func (b *balanced) unsubscribe(ctx context.Context, uri string) error {
	b.mu.Lock()
	delete(b.subs, uri)
	b.mu.Unlock()
	_, links := b.usable()
	var errs []error
	for _, l := range links {
		if sub, ok := l.(subscriber); ok {
			errs = append(errs, sub.unsubscribe(ctx, uri))
		}
	}
	return errors.Join(errs...)
}

var (
	_ subscriber = (*balanced)(nil)
	_ subscriber = (*pinned)(nil)
	_ link       = (*balanced)(nil)
	_ link       = (*pinned)(nil)
)
