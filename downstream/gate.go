package downstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// A Gate counts calls in and out, within a bound, so that its owner can be closed when the last one is out. The zero value is open. Its
// methods may be called at the same time.
type Gate struct {
	mu     sync.Mutex // guards what follows
	n      int
	closed bool
	idle   chan struct{} // closed when n reaches 0 after Drain; nil while nobody waits
}

// Why a Gate lets nobody in.
var (
	ErrGateClosed = errors.New("closed")
	ErrGateFull   = errors.New("full")
)

// Enter counts a call in. It fails with ErrGateClosed once Drain has begun, and with ErrGateFull while limit calls are inside. Each
// success is followed by one Leave.
func (g *Gate) Enter(limit int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return ErrGateClosed
	case g.n >= limit:
		return ErrGateFull
	}
	g.n++
	return nil
}

// Leave counts a call out.
func (g *Gate) Leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n--
	if g.n == 0 && g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
}

// Len returns how many calls are inside.
func (g *Gate) Len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.n
}

// Drain lets nobody in any more and waits until all are out, or fails when ctx is done.
func (g *Gate) Drain(ctx context.Context) error {
	g.mu.Lock()
	g.closed = true
	if g.n > 0 && g.idle == nil {
		g.idle = make(chan struct{})
	}
	idle := g.idle
	g.mu.Unlock()
	if idle == nil {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d calls were still in flight: %w", g.Len(), context.Cause(ctx))
	}
}
