package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
)

// serve answers a request. The error is a *wire.Error in the terms of the client's revision.
func (g *Gateway) serve(ctx context.Context, r *request) (a answer, err error) {
	if g.obs != nil {
		ctx = g.obs.begin(ctx, r)
		defer func() { g.obs.end(ctx, r, &a, err) }()
	}
	defer func() {
		if p := recover(); p != nil {
			g.log.ErrorContext(ctx, "panic while answering a request", "method", r.method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			a, err = answer{}, wire.Errorf(wire.CodeInternal, "mcpgw: internal error, see the gateway's log")
		}
	}()
	if err := checkParams(&r.params); err != nil {
		return answer{}, err
	}
	a, err = g.dispatch(ctx, r)
	if err != nil {
		return answer{}, inEra(wireError("", err), r.modern)
	}
	return a, nil
}

// onlyLegacy are the methods that revision 2026-07-28 removed.
var onlyLegacy = map[string]bool{
	"initialize": true, "ping": true, "logging/setLevel": true, "resources/subscribe": true, "resources/unsubscribe": true,
}

func (g *Gateway) dispatch(ctx context.Context, r *request) (answer, error) {
	if r.modern && onlyLegacy[r.method] {
		return answer{}, wire.Errorf(wire.CodeMethodNotFound, "%s does not exist in revision %s", r.method, downstream.Modern)
	}
	switch r.method {
	case "tools/call":
		return g.callTool(ctx, r)
	case "tools/list":
		return g.list(r, downstream.Tools)
	case "prompts/list":
		return g.list(r, downstream.Prompts)
	case "resources/list":
		return g.list(r, downstream.Resources)
	case "resources/templates/list":
		return g.list(r, downstream.Templates)
	case "prompts/get":
		return g.getPrompt(ctx, r)
	case "resources/read":
		return g.readResource(ctx, r)
	case "completion/complete":
		return g.complete(ctx, r)
	case "server/discover":
		if r.modern {
			return g.discover(r), nil
		}
	case "ping":
		return whole(json.RawMessage(`{}`)), nil
	case "logging/setLevel":
		return g.setLevel(ctx, r)
	case "resources/subscribe":
		return g.subscribe(ctx, r)
	case "resources/unsubscribe":
		return g.unsubscribe(ctx, r)
	default:
		if taskMethod(r.method, r.modern) {
			return g.task(ctx, r)
		}
		if r.table.single != nil && r.modern == r.table.single.server.Catalog().Modern() {
			return g.forward(ctx, r, route{target: r.table.single, safe: safetyOfMethod(r.method)}, &r.params)
		}
	}
	return answer{}, wire.Errorf(wire.CodeMethodNotFound, "method not found: %s", r.method)
}

// list answers one of the list methods from memory.
func (g *Gateway) list(r *request, kind int) (answer, error) {
	p := r.table.pages[kind]
	body, err := p.page(kind, r.params.Get("cursor"))
	if err != nil {
		return answer{}, err
	}
	if !p.fresh.IsZero() && time.Now().After(p.fresh) {
		r.table.renew(kind)
	}
	if r.modern {
		return answer{p.head(r.table.info), body, []byte{'}'}}, nil
	}
	return answer{[]byte{'{'}, body, []byte{'}'}}, nil
}

// discover answers server/discover (specification 2026-07-28, basic/versioning).
func (g *Gateway) discover(r *request) answer {
	b := appendModern(make([]byte, 0, 512+len(r.table.instructions)), r.table.ttl, r.table.scope, r.table.info)
	b = append(b, `"supportedVersions":["`+downstream.Modern+`"],"capabilities":`...)
	b = append(b, r.table.modernCaps...)
	if r.table.instructions != "" {
		b = wire.AppendString(append(b, `,"instructions":`...), r.table.instructions)
	}
	return whole(append(b, '}'))
}

// initialize answers the handshake of revisions up to 2025-11-25 and makes s the session that it opens.
func (g *Gateway) initialize(s *session, t *table, params *wire.Object) (result json.RawMessage, err error) {
	if g.obs != nil {
		r := &request{method: "initialize", params: *params, sess: s, principal: s.principal}
		ctx := g.obs.begin(context.Background(), r)
		defer func() { g.obs.end(ctx, r, &answer{result}, err) }()
	}
	if err := checkParams(params); err != nil {
		return nil, err
	}
	asked, ok := params.GetString("protocolVersion")
	if !ok {
		return nil, errInvalid("initialize: protocolVersion must be a string such as %q", downstream.Legacy)
	}
	s.revision = downstream.Legacy
	for _, v := range downstream.Revisions {
		if v == asked && v < downstream.Modern {
			s.revision = v
		}
	}
	if caps := params.Get("capabilities"); wire.IsObject(caps) {
		s.caps = append(json.RawMessage(nil), caps...)
		s.kinds = kindsOf(caps)
	}
	if info := params.Get("clientInfo"); info != nil {
		s.info = append(json.RawMessage(nil), info...)
	}
	b := append(make([]byte, 0, 512+len(t.instructions)), `{"protocolVersion":"`...)
	b = append(append(b, s.revision...), `","capabilities":`...)
	b = append(b, t.legacyCaps...)
	b = append(append(b, `,"serverInfo":`...), t.info...)
	if t.instructions != "" {
		b = wire.AppendString(append(b, `,"instructions":`...), t.instructions)
	}
	return append(b, '}'), nil
}

// notified takes a notification from a client. There is nobody to answer, so what cannot be used is only logged.
func (g *Gateway) notified(ctx context.Context, s *session, t *table, method string, params json.RawMessage) {
	switch {
	case method == "notifications/cancelled":
		if s != nil {
			s.cancel(wire.Get(params, "requestId"))
		}
	case method == "notifications/initialized":
	case s != nil && strings.HasPrefix(method, "notifications/"):
		// notifications/roots/list_changed, and whatever else a client has to tell, goes to the server sessions that are its own.
		for _, tg := range t.targets {
			tg.server.NotifyClient(ctx, s.id, method, params)
		}
	default:
		g.log.DebugContext(ctx, "notification ignored", "method", method)
	}
}

// asWire returns what err is on the wire.
func asWire(err error) *wire.Error {
	if rpc, ok := errors.AsType[*wire.Error](err); ok {
		return rpc
	}
	return wireError("", err)
}
