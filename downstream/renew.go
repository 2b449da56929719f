package downstream

import (
	"context"
	"errors"
	"time"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// renewEvery is how often a server may say that what is known of it is out of date: one that says so each time is not asked each time.
const renewEvery = 10 * time.Second

// Refresh reads the server's lists again, unless that was done a moment ago, and waits for that, but not for long.
func (s *Server) Refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeouts.Discover)
	defer cancel()
	s.mu.Lock()
	due := time.Since(s.refreshed) >= renewEvery
	if due {
		s.refreshed, s.refreshing = time.Now(), s.relisted
	}
	listed := s.refreshing
	s.mu.Unlock()
	if due {
		s.Relist()
	}
	select {
	case <-listed:
	case <-ctx.Done():
	case <-s.ctx.Done():
	}
}

// wasListed lets those who wait for the lists go on.
func (s *Server) wasListed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.relisted)
	s.relisted = make(chan struct{})
}

// ender is a link that can be told that its session is over.
type ender interface{ fail(err error) }

var errOutdated = errors.New("the server does not speak the revision any more that was negotiated")

// renegotiate ends a session whose revision the server refused (-32022), so that the next one is negotiated anew. It reports whether the
// request may be made again on that.
func (s *Server) renegotiate(l link, err error) bool {
	rpc, ok := errors.AsType[*wire.Error](err)
	if !ok || rpc.Code != wire.CodeUnsupportedProtocol {
		return false
	}
	if m, ok := l.(*mainLink); ok {
		l = m.link
	}
	e, ok := l.(ender)
	s.mu.Lock()
	due := time.Since(s.renegotiated) >= renewEvery
	if ok && due {
		s.renegotiated = time.Now()
	}
	s.mu.Unlock()
	if !ok || !due {
		return false
	}
	s.log.Info("the server refused the revision of the session, negotiating again", "err", err)
	e.fail(errOutdated)
	return true
}
