package gateway

import (
	"errors"
	"sync"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// lot holds the calls that wait for their clients to come back with answers, within bounds. The zero value is empty.
type lot struct {
	mu     sync.Mutex // guards what follows
	byID   map[string]*parked
	owners map[string]int
}

// enter takes a call in, unless there are too many. Each success is followed by one leave.
func (l *lot) enter(p *parked, limits *Limits) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case len(l.byID) >= limits.Parked:
		return wire.Errorf(wire.CodeOverloaded, "mcpgw: %d calls wait for answers of their clients already (gateway.limits.parked), so the client cannot be asked now", limits.Parked)
	case l.owners[p.owner] >= limits.ParkedPerClient:
		return wire.Errorf(wire.CodeOverloaded, "mcpgw: %d calls of this client wait for its answers already (gateway.limits.parked_per_client), so it cannot be asked now", limits.ParkedPerClient)
	}
	if l.byID == nil {
		l.byID, l.owners = map[string]*parked{}, map[string]int{}
	}
	l.byID[p.id] = p
	l.owners[p.owner]++
	return nil
}

// leave lets a call go. It may be called more than once.
func (l *lot) leave(p *parked) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byID[p.id] != p {
		return
	}
	delete(l.byID, p.id)
	if l.owners[p.owner]--; l.owners[p.owner] == 0 {
		delete(l.owners, p.owner)
	}
	if len(l.byID) == 0 {
		l.byID, l.owners = nil, nil // a map keeps the room that it once needed
	}
}

func (l *lot) get(id string) *parked {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byID[id]
}

func (l *lot) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.byID)
}

// clear gives up the calls whose clients are away: nobody can come back any more.
func (l *lot) clear() {
	l.mu.Lock()
	all := make([]*parked, 0, len(l.byID))
	for _, p := range l.byID {
		all = append(all, p)
	}
	l.mu.Unlock()
	for _, p := range all {
		p.abandon(errDraining)
	}
}

var (
	errDraining = errors.New("the gateway is shutting down")
	errAway     = errors.New("the client did not come back with answers in time (gateway.timeouts.input)")
)
