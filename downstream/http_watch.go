package downstream

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// watch keeps the stream open on which a legacy server speaks of its own accord, until the session ends. That the stream cannot
// be had harms nothing else.
func (l *httpLink) watch() {
	b := l.backoff()
	var lastID, lastErr string
	heard := false // a stream was open before, so something may have been missed since
	var first sync.Once
	asks := l.newAsks(l.ctx, l.opening.upcalls)
	defer asks.end()
	for {
		var wait time.Duration
		resp, err := l.get(l.ctx, lastID)
		first.Do(func() { close(l.hearing) })
		switch {
		case err == nil:
			if heard && lastID == "" {
				l.missed()
			}
			heard = true
			opened := time.Now()
			var n int
			n, lastID, wait, err = l.follow(resp, lastID, asks)
			if n > 0 || time.Since(opened) >= l.cfg.Restart.HealthyAfter {
				b.reset()
			}
		case l.ctx.Err() != nil:
			return
		default:
			if !l.mayListen(err) {
				return
			}
		}
		if l.ctx.Err() != nil {
			return
		}
		if msg := err.Error(); msg != lastErr { // the same again and again is one line in the log
			lastErr = msg
			l.log.DebugContext(l.ctx, "the server's own stream ended, opening it again", "err", err)
		}
		l.inDoubt()
		if l.listenAgain(&b, wait) != nil {
			return
		}
	}
}

// hearingLimit is how long the first call of a session waits for the server's stream. Some servers send no headers before the first event.
const hearingLimit = time.Second

// awaitHearing waits until the server has the stream on which it can ask the client of this session something, or has refused it. Servers
// (those of the TypeScript SDK, unless they name the call that a question belongs to) drop a question that they have no stream for, and
// then wait for the answer for ever.
func (l *httpLink) awaitHearing(ctx context.Context) {
	caps := l.opening.capabilities
	if !l.opening.listen || bytes.Equal(caps, noCapabilities) || bytes.Equal(caps, catalogCapabilities) {
		return // nobody is there to be asked
	}
	limit := time.NewTimer(hearingLimit)
	defer limit.Stop()
	select {
	case <-l.hearing:
	case <-l.ended:
	case <-limit.C:
	case <-ctx.Done():
	}
}

// mayListen says whether to ask for the server's stream again after err.
func (l *httpLink) mayListen(err error) bool {
	l.noteLost(err)
	if l.err() != nil {
		return false
	}
	status, ok := errors.AsType[*StatusError](err)
	if !ok || !refusal(status.Status) {
		return true
	}
	if status.Status != http.StatusMethodNotAllowed && l.opening.shared { // 405 says in so many words that there is none
		l.log.WarnContext(l.ctx, "the server refused its own stream, so changes of its lists are only seen by listing again", "err", err)
	}
	return false
}

// follow hands on what comes on a stream of the server's own until it ends. It returns how many messages came, the id of the last
// event and how long the server wants us to wait before the stream is opened again; the error is never nil.
func (l *httpLink) follow(resp *http.Response, lastID string, asks *asks) (n int, last string, wait time.Duration, err error) {
	defer resp.Body.Close()
	events := wire.NewSSEReader(resp.Body, l.client.maxBody)
	defer events.Release()
	for {
		e, err := events.Next()
		if err != nil {
			return n, lastID, wait, err
		}
		if e.ID != "" {
			lastID = e.ID
		}
		if e.Retry != 0 {
			wait = e.Retry
		}
		if len(e.Data) == 0 || e.Name != "" && e.Name != "message" {
			continue
		}
		n++
		l.unsolicited(e.Data, asks)
	}
}

// unsolicited takes a message that belongs to no call.
func (l *httpLink) unsolicited(b []byte, asks *asks) {
	m, err := wire.Parse(b, l.cfg.Limits.Depth)
	if errors.Is(err, wire.ErrBatch) && l.batches() {
		all, _ := wire.Batch(b, l.cfg.Limits.Depth) // of an invalid one nothing can be used
		for _, one := range all {
			l.unsolicited(one, asks)
		}
		return
	}
	switch {
	case err != nil:
		l.drop(l.ctx, "an event that is no message: "+err.Error(), b)
	case m.IsRequest():
		asks.answer(&m)
	case m.IsResponse():
		l.drop(l.ctx, "a response on a stream that carries none", m.ID)
	case m.Method == "notifications/cancelled":
		l.asked.takenBack(m.Params)
	default:
		l.upcalls.Notify(m.Method, m.Params)
	}
}

// changes are the lists that a server may announce changes of: the member of its capabilities, that of the filter of
// subscriptions/listen, and the notification.
var changes = [...]struct{ capability, filter, method string }{
	{"tools", "toolsListChanged", "notifications/tools/list_changed"},
	{"prompts", "promptsListChanged", "notifications/prompts/list_changed"},
	{"resources", "resourcesListChanged", "notifications/resources/list_changed"},
}

// missed tells of changes that the server may have announced while nobody listened.
func (l *httpLink) missed() {
	for _, c := range changes {
		if l.announces(c.capability) {
			l.upcalls.Notify(c.method, nil)
		}
	}
}

// announces reports whether the server said that it tells of changes of a list.
func (l *httpLink) announces(capability string) bool {
	return string(wire.Get(wire.Get(l.self.Capabilities, capability), "listChanged")) == "true"
}

// backoff returns the delays between attempts to listen.
func (l *httpLink) backoff() backoff {
	return backoff{initial: l.cfg.Restart.InitialDelay, most: l.cfg.Restart.MaxDelay}
}

// inDoubt says that a stream broke, which may mean that the server is gone.
func (l *httpLink) inDoubt() {
	if l.opening.doubt != nil {
		l.opening.doubt()
	}
}

// listenAgain waits before a stream that only listens is opened again: as b says, but never shorter than the server wants, nor in
// a loop without any pause.
func (l *httpLink) listenAgain(b *backoff, wanted time.Duration) error {
	return pause(l.ctx, max(b.next(), min(wanted, l.cfg.Restart.MaxDelay), jitter(l.cfg.Restart.InitialDelay)))
}
