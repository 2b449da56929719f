package gateway

import (
	"encoding/json"
	"sync"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// mailbox holds what is to be sent on one client's notification stream until that client takes it. Putting something in never waits,
// so a client that reads slowly, or not at all, delays nobody. News that says the same as news that still waits is not kept twice;
// beyond its bound the mailbox drops the newest and counts it.
type mailbox struct {
	mu      sync.Mutex // guards what follows
	queue   [][]byte   // whole messages
	keys    map[string]bool
	dropped int
	signal  chan struct{} // has one element when queue is not empty
	bound   int
}

func newMailbox(bound int) *mailbox {
	return &mailbox{signal: make(chan struct{}, 1), keys: map[string]bool{}, bound: bound}
}

// put adds a message. A key that is not "" names what the message says: while one with that key waits, another is not needed.
func (m *mailbox) put(key string, msg []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if key != "" {
		if m.keys[key] {
			return true
		}
	}
	if len(m.queue) >= m.bound {
		m.dropped++
		return false
	}
	if key != "" {
		m.keys[key] = true
	}
	m.queue = append(m.queue, msg)
	select {
	case m.signal <- struct{}{}:
	default:
	}
	return true
}

// take returns all that waits, and how much was dropped since the last take.
func (m *mailbox) take() (msgs [][]byte, dropped int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	msgs, dropped = m.queue, m.dropped
	m.queue, m.dropped = nil, 0
	clear(m.keys)
	return msgs, dropped
}

// notification encodes a notification, with the id of the listen request in its _meta if there is one (specification 2026-07-28,
// basic/patterns/subscriptions).
func notification(method string, params, subscription json.RawMessage) []byte {
	if subscription != nil {
		meta := wire.Set(wire.Get(params, "_meta"), metaSubscriptionID, subscription)
		params = wire.Set(params, "_meta", meta)
	}
	return wire.AppendNotification(make([]byte, 0, 64+len(method)+len(params)), method, params)
}
