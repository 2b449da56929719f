package downstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// A process that hangs does not end, so nothing would ever replace it. After a call has timed out it is asked for a sign of life, and
// anything that it writes is one. It may also be busy with a call that takes long and read nothing meanwhile: while a call that was sent
// before is still within its own time, it is given that time.

// suspect finds out whether the process is wedged, unless that is being found out already.
func (l *stdioLink) suspect() {
	if l.watching.CompareAndSwap(false, true) && !l.spawn(l.watchWedged) {
		l.watching.Store(false)
	}
}

func (l *stdioLink) watchWedged() {
	defer l.watching.Store(false)
	p := l.peer()
	if p == nil {
		return // the handshake has a limit of its own
	}
	heard, before := l.heard.Load(), l.lastID()
	if l.answers(p) || l.heard.Load() != heard {
		return
	}
	again := time.NewTicker(max(l.wedgedAfter/20, 10*time.Millisecond))
	defer again.Stop()
	for l.waiting(before) {
		select {
		case <-again.C:
		case <-l.done():
			return
		}
		if l.heard.Load() != heard {
			return
		}
	}
	err := fmt.Errorf("it hangs: a call timed out, and then it wrote nothing for %s although it was asked for a sign of life (restart.wedged_after)", l.wedgedAfter)
	l.log.Warn("process is wedged, ending it", "err", err)
	l.fail(err) // who owns the session closes it, which ends the process
}

// answers asks the process for a sign of life and reports whether it answered, whatever that was.
func (l *stdioLink) answers(p *peer) bool {
	ctx, cancel := context.WithTimeout(l.ctx, l.wedgedAfter)
	defer cancel()
	method, params := "ping", []byte(nil)
	if p.modern() {
		method, params = "server/discover", discoverParams(&l.o, p.Revision)
	}
	_, err := l.request(ctx, method, params)
	var rpc *wire.Error
	return err == nil || errors.As(err, &rpc) || l.ctx.Err() != nil
}

// lastID returns the id of the request that was sent last.
func (m *mux) lastID() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.next
}

// waiting reports whether a call that is no younger than id still waits for its answer.
func (m *mux) waiting(id int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for n, p := range m.calls {
		if n <= id && !p.own {
			return true
		}
	}
	return false
}
