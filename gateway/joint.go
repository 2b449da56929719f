package gateway

import (
	"context"
	"encoding/json"
	"math/bits"
	"strconv"
	"sync"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
)

// joint is what a downstream with sessions is told of several clients that share one: the modern clients of one principal, whose revision
// has no sessions, or with session: shared all clients of whatever principal. Those who can be asked for different things have different
// sessions, so that no server is told of something that the client at hand cannot do.
type joint struct {
	downstream.Client
	tg *target

	mu    sync.Mutex
	level json.RawMessage // the most talkative that any of them wanted; nil for none
	busy  uint64          // on lane 0: which lanes are taken
}

type jointKey struct {
	principal string // "" for all of them
	lane      int
	tg        *target
	has       questions
}

// joint returns what clients share that declared has; principal "" is for all principals.
func (g *Gateway) joint(key jointKey) *joint {
	if c, ok := g.clients.Load(key); ok {
		return c.(*joint)
	}
	j := &joint{tg: key.tg}
	j.ID, j.Shared, j.Capabilities = "principal:"+key.principal, true, key.has.capabilities()
	if key.principal == "" {
		j.ID = "shared"
		j.Upcalls = jointUpcalls{g, "", key.tg}
	} else {
		j.Upcalls = jointUpcalls{g, key.principal, key.tg}
		j.Lost = func() { g.relisten(key.principal, key.tg) }
	}
	if key.lane != 0 {
		j.ID += "/" + strconv.Itoa(key.lane)
	}
	if key.has != 0 {
		j.ID += ":" + strconv.Itoa(int(key.has))
	}
	c, _ := g.clients.LoadOrStore(key, j)
	return c.(*joint)
}

// lane returns one of several sessions of the same clients on which no other call of theirs is under way, and a function to call when the
// call is over. On a stream that all calls share (stdio) nothing that a server asks says which call it is for: so each call that a
// server may ask in has a session to itself. Where too many are taken they share one, and what cannot be told apart is refused.
func (g *Gateway) lane(r *request, tg *target, has questions) (*joint, func()) {
	base := g.joint(jointKey{principal: r.principal, tg: tg, has: has})
	base.mu.Lock()
	lane := bits.TrailingZeros64(^base.busy)
	if lane == 64 {
		base.mu.Unlock()
		return base, func() {}
	}
	base.busy |= 1 << lane
	base.mu.Unlock()
	return g.joint(jointKey{principal: r.principal, tg: tg, has: has, lane: lane}), func() {
		base.mu.Lock()
		defer base.mu.Unlock()
		base.busy &^= 1 << lane
	}
}

// want makes the server tell the clients of j at least what is as severe as level.
func (j *joint) want(ctx context.Context, level json.RawMessage) error {
	if severity(level) > 7 {
		return nil
	}
	j.mu.Lock()
	if j.level != nil && severity(j.level) <= severity(level) {
		j.mu.Unlock()
		return nil
	}
	j.level = append(json.RawMessage(nil), level...)
	level = j.level
	j.mu.Unlock()
	return j.tg.server.SetLevel(ctx, &j.Client, level)
}

// jointUpcalls takes what a server says, outside of any call, on a session that clients share.
type jointUpcalls struct {
	g         *Gateway
	principal string
	tg        *target
}

func (u jointUpcalls) Notify(method string, params json.RawMessage) {
	switch method {
	case "notifications/resources/updated":
		if u.principal == "" {
			u.g.sharedUpcall(u.tg, method, params)
			return
		}
		u.g.listens.updated(u.tg, params, u.principal)
	case "notifications/tools/list_changed", "notifications/prompts/list_changed", "notifications/resources/list_changed":
		u.tg.server.Relist()
	default:
		u.g.log.Debug("notification dropped, it belongs to no call and the clients have no session", "downstream", u.tg.name, "method", method)
	}
}

func (u jointUpcalls) Request(_ context.Context, method string, _ json.RawMessage) (json.RawMessage, error) {
	if method == "roots/list" && u.tg.allowed()&askRoots != 0 {
		// Servers ask for them as soon as a session is open. Which roots there are depends on the call.
		return json.RawMessage(`{"roots":[]}`), nil
	}
	return nil, wire.Errorf(wire.CodeMethodNotFound, "mcpgw: %s cannot be asked here: it belongs to no call, and several clients share this session", shortMethod(method))
}

// client returns what a downstream is told of the client with a call.
func (r *request) client(g *Gateway, tg *target) *downstream.Client {
	if j := r.joint(g, tg); j != nil {
		return &j.Client
	}
	return r.sess.client(tg)
}

// joint returns the clients that this one shares a session with; nil if it has one of its own.
func (r *request) joint(g *Gateway, tg *target) *joint {
	if tg.joins {
		if has := r.kinds() & tg.allowed(); has != 0 {
			return g.joint(jointKey{tg: tg, has: has})
		}
	}
	if r.sess != nil {
		return nil
	}
	var has questions
	if !tg.server.Catalog().Modern() { // a modern one is told with each request
		has = r.kinds() & tg.allowed()
	}
	return g.joint(jointKey{principal: r.principal, tg: tg, has: has})
}

// kinds returns what the client of the request can be asked.
func (r *request) kinds() questions {
	if r.sess != nil {
		return r.sess.kinds
	}
	return kindsOf(wire.Get(r.meta(), metaClientCapabilities))
}
