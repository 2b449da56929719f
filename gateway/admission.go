package gateway

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"
)

// admission bounds the calls on their way to all downstreams together. Its methods may be called at the same time.
type admission struct {
	mu      sync.Mutex // guards what follows
	cfg     Admission
	n       int
	waiting list.List // of chan struct{}, closed by whoever hands its place over
}

// overloadedError reports that the gateway as a whole has too much to do.
type overloadedError struct {
	waited time.Duration
	cfg    Admission
}

func (e *overloadedError) Error() string {
	if e.waited > 0 {
		return fmt.Sprintf("the gateway has %d calls in flight already, and the wait for a turn was longer than %s (resilience.admission)", e.cfg.MaxInFlight, e.cfg.QueueTimeout)
	}
	return fmt.Sprintf("the gateway has %d calls in flight already, and %d wait (resilience.admission)", e.cfg.MaxInFlight, e.cfg.MaxQueued)
}

// configure puts cfg into force; the zero value stands for the defaults.
func (a *admission) configure(cfg Admission) {
	if cfg == (Admission{}) {
		cfg = DefaultAdmission()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cfg = cfg
	for a.n < cfg.MaxInFlight && a.waiting.Len() > 0 {
		a.n++
		a.hand()
	}
}

// hand gives a place, which is counted already, to the first in the queue. The caller holds mu.
func (a *admission) hand() {
	close(a.waiting.Remove(a.waiting.Front()).(chan struct{}))
}

// enter waits for a place. Each success is followed by one leave.
func (a *admission) enter(ctx context.Context) error {
	a.mu.Lock()
	if a.n < a.cfg.MaxInFlight && a.waiting.Len() == 0 {
		a.n++
		a.mu.Unlock()
		return nil
	}
	cfg := a.cfg
	if a.waiting.Len() >= cfg.MaxQueued {
		a.mu.Unlock()
		return &overloadedError{cfg: cfg}
	}
	turn := make(chan struct{})
	place := a.waiting.PushBack(turn)
	a.mu.Unlock()
	timer := time.NewTimer(cfg.QueueTimeout)
	defer timer.Stop()
	err := error(&overloadedError{cfg.QueueTimeout, cfg})
	select {
	case <-turn:
		return nil
	case <-timer.C:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-turn: // at the same moment
		return nil
	default:
	}
	a.waiting.Remove(place)
	return err
}

func (a *admission) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting.Len() > 0 && a.n <= a.cfg.MaxInFlight {
		a.hand()
		return
	}
	a.n--
}
