package gateway

import (
	"context"
	"sync"
	"time"
)

// registry holds the sessions of HTTP clients, within bounds.
type registry struct {
	mu   sync.RWMutex // guards byID
	byID map[string]*session
}

// add takes a new session in; it reports false if there are limit already.
func (r *registry) add(s *session, limit int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.byID) >= limit {
		return false
	}
	r.byID[s.id] = s
	return true
}

// get returns the session of an id if it belongs to this principal and endpoint. Whose session it is, a stranger does not learn.
func (r *registry) get(id, view, principal string) *session {
	r.mu.RLock()
	defer r.mu.RUnlock()
	s := r.byID[id]
	if s == nil || s.view != view || s.principal != principal {
		return nil
	}
	return s
}

func (r *registry) remove(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byID, s.id)
}

// all returns the sessions there are.
func (r *registry) all() []*session {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := make([]*session, 0, len(r.byID))
	for _, s := range r.byID {
		out = append(out, s)
	}
	return out
}

func (r *registry) len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.byID)
}

// reap ends sessions that nobody uses, until ctx is done. A session with an open request or stream is in use.
func (g *Gateway) reap(ctx context.Context) {
	for {
		t := &g.settings.Load().Gateway.Timeouts
		timer := time.NewTimer(min(max(t.SessionIdle/10, 10*time.Millisecond), time.Minute))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-g.applied: // the times may be others now
			timer.Stop()
			continue
		case <-timer.C:
		}
		now := time.Now()
		for _, s := range g.sessions.all() {
			idle := s.busy.Load() == 0 && now.Sub(time.Unix(0, s.used.Load())) > t.SessionIdle
			if idle || now.Sub(s.created) > t.SessionMax {
				g.log.InfoContext(ctx, "session ended", "session", s.id, "idle", idle)
				s.end(errSessionEnded)
			}
		}
	}
}
