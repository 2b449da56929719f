package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
)

// callTool answers tools/call: by the gateway's own tools, or by the downstream that owns the name.
func (g *Gateway) callTool(ctx context.Context, r *request) (answer, error) {
	name, ok := r.params.GetString("name")
	if !ok {
		return answer{}, errInvalid("tools/call: name must be a string")
	}
	to, ok := r.table.tools[name]
	if !ok {
		if r.table.single == nil {
			if own := g.ownTool(name); own != nil {
				r.seen.tool = name
				return own(r)
			}
		}
		if to, ok = r.table.unknown(name); !ok {
			return answer{}, errInvalid("unknown tool: %s", name)
		}
	}
	r.seen.tool = name
	if to.marks != nil {
		args := r.params.Get("arguments")
		if r.header == nil {
			r.header = mirrorArguments(to.marks, args)
		} else if no := checkParamHeaders(to.marks, args, r.header); no != nil {
			return answer{}, no
		}
	}
	params := &r.params
	if to.own != name {
		renamed := params.Edit(wire.Member{Key: "name", Value: wire.Quote(to.own)})
		params = &renamed
	}
	a, err := g.forward(ctx, r, to, params)
	if err == nil {
		return a, nil
	}
	if f := explain(to.target.name, err); f != nil && !errors.Is(err, errCancelledByClient) {
		r.seen.failed.Store(true)
		r.seen.class, r.seen.executed = f.Class, f.Executed
		return g.finish(r, to.target, downstream.Result{Raw: toolFailure(f)}), nil
	}
	return answer{}, err
}

func (g *Gateway) getPrompt(ctx context.Context, r *request) (answer, error) {
	name, ok := r.params.GetString("name")
	if !ok {
		return answer{}, errInvalid("prompts/get: name must be a string")
	}
	to, ok := r.table.prompts[name]
	if !ok {
		if r.table.single == nil {
			return answer{}, errInvalid("unknown prompt: %s", name)
		}
		to = route{target: r.table.single, own: name, safe: readOnly}
	}
	params := &r.params
	if to.own != name {
		renamed := params.Edit(wire.Member{Key: "name", Value: wire.Quote(to.own)})
		params = &renamed
	}
	return g.forward(ctx, r, to, params)
}

func (g *Gateway) readResource(ctx context.Context, r *request) (answer, error) {
	uri, ok := r.params.GetString("uri")
	if !ok {
		return answer{}, errInvalid("resources/read: uri must be a string")
	}
	to, err := r.table.resource(uri)
	if err != nil {
		return answer{}, err
	}
	params := &r.params
	if to.own != uri {
		renamed := params.Edit(wire.Member{Key: "uri", Value: wire.Quote(to.own)})
		params = &renamed
	}
	return g.forward(ctx, r, to, params)
}

// complete answers completion/complete: the reference says whose arguments are to be completed.
func (g *Gateway) complete(ctx context.Context, r *request) (answer, error) {
	ref := r.params.Get("ref")
	kind, _ := wire.GetString(ref, "type")
	var to route
	var key string
	switch kind {
	case "ref/prompt":
		key = "name"
		name, _ := wire.GetString(ref, key)
		found, ok := r.table.prompts[name]
		if !ok && r.table.single == nil {
			return answer{}, errInvalid("completion/complete: unknown prompt: %s", name)
		}
		if to = found; !ok {
			to = route{target: r.table.single, own: name, safe: readOnly}
		}
	case "ref/resource":
		key = "uri"
		uri, _ := wire.GetString(ref, key)
		found, ok := r.table.templateOf(uri)
		if !ok {
			res, err := r.table.resource(uri)
			if err != nil {
				return answer{}, errInvalid("completion/complete: unknown resource: %s", uri)
			}
			found = res
		}
		to = found
	default:
		if r.table.single == nil {
			return answer{}, errInvalid("completion/complete: ref.type must be \"ref/prompt\" or \"ref/resource\"")
		}
		return g.forward(ctx, r, route{target: r.table.single, safe: readOnly}, &r.params)
	}
	params := &r.params
	if own, _ := wire.GetString(ref, key); own != to.own {
		renamed := params.Edit(wire.Member{Key: "ref", Value: wire.Set(ref, key, wire.Quote(to.own))})
		params = &renamed
	}
	return g.forward(ctx, r, to, params)
}

// forward sends a request to the downstream that owns it and brings the answer into the client's terms.
func (g *Gateway) forward(ctx context.Context, r *request, to route, params *wire.Object) (answer, error) {
	r.seen.target, r.seen.key, r.seen.safe = to.target, to.key, to.safe
	rounds := 0
	if r.modern && params.Get("requestState") != nil && asksForInput(r.method) {
		back, err := g.openState(params.Get("requestState"), bound(r, &to, params))
		if err != nil {
			return answer{}, err
		}
		if back.kind == ofParked {
			p, err := g.comeBack(r, back, r.kinds()&to.target.allowed(), params.Get("inputResponses"))
			if err != nil {
				return answer{}, err
			}
			return g.await(ctx, r, &to, params, p)
		}
		if params, err = back.resume(params); err != nil {
			return answer{}, err
		}
		rounds = back.round
	}
	if has := r.kinds() & to.target.allowed(); r.mayPark(to.target, has) {
		own, now := r.alone(), params
		p := g.park(ctx, r, own, to.target, has, rounds, func(ctx context.Context, s downstream.Stream) (downstream.Result, error) {
			return g.send(ctx, own, &to, s, now)
		})
		return g.await(ctx, r, &to, params, p)
	}
	res, err := g.send(ctx, r, &to, r.stream, params)
	if err == nil && res.Asks {
		if r.modern {
			res, err = g.relay(r, &to, params, rounds, res)
		} else {
			res, err = g.fulfil(ctx, r, &to, params, res)
		}
	}
	return g.conclude(r, &to, params, rounds, res, err)
}

// send makes the call.
func (g *Gateway) send(ctx context.Context, r *request, to *route, s downstream.Stream, params *wire.Object) (downstream.Result, error) {
	if params = withoutTask(r, to.target, params); r.modern && to.target.server.Catalog().Modern() {
		params = g.declared(r, to.target, params)
	}
	c := &downstream.Call{
		Method: r.method, Params: params.Raw, Body: params, Target: mirrored(r.method, to.own), Header: r.header, Modern: r.modern, Stream: s, Trace: r.trace,
	}
	switch j := r.joint(g, to.target); {
	case j == nil:
		c.Client = r.sess.client(to.target)
		c.LogLevel = r.sess.logLevel()
	case r.modern && !to.target.server.Catalog().Modern():
		if _, asks := s.(*parked); asks && to.target.lanes {
			var leave func()
			j, leave = g.lane(r, to.target, r.kinds()&to.target.allowed())
			defer leave()
		}
		if level := wire.Get(r.meta(), metaLogLevel); level != nil {
			if err := j.want(ctx, level); err != nil {
				g.log.DebugContext(ctx, "a server did not take the log level", "downstream", to.target.name, "err", err)
			}
		}
		c.Client = &j.Client
	default:
		c.Client = &j.Client
		if r.sess != nil {
			c.LogLevel = r.sess.logLevel()
		}
	}
	return g.call(ctx, r, to, c)
}

// conclude brings what a downstream answered into the client's terms.
func (g *Gateway) conclude(r *request, to *route, params *wire.Object, rounds int, res downstream.Result, err error) (answer, error) {
	if err == nil {
		return g.finish(r, to.target, res), nil
	}
	rpc, ok := errors.AsType[*wire.Error](err)
	switch {
	case ok && r.modern && rpc.Code == wire.CodeURLElicitationRequired:
		return g.visit(r, to, params, rounds, rpc)
	case ok && rpc.Code == wire.CodeMissingClientCapability && g.withheld(r, to.target, rpc):
		return answer{}, &wire.Error{Code: wire.CodeInvalidRequest, Data: rpc.Data, Message: fmt.Sprintf("server %q needs a capability of the client that does not pass this gateway: %s", to.target.name, rpc.Message)}
	case ok && !r.modern && r.method == "resources/read" && rpc.Code == wire.CodeInvalidParams && to.target.server.Catalog().Modern():
		return answer{}, rpc.WithCode(wire.CodeResourceNotFound)
	case ok:
		return answer{}, rpc
	case r.method == "tools/call":
		return answer{}, err // callTool makes a result of it
	}
	return answer{}, wireError(to.target.name, err)
}

// mirrored returns what Mcp-Name mirrors for a method (specification 2026-07-28, basic/transports/streamable-http).
func mirrored(method, own string) string {
	switch method {
	case "tools/call", "prompts/get", "resources/read", "tasks/get", "tasks/update", "tasks/cancel":
		return own
	}
	return ""
}

// finish brings a downstream's result into the client's terms. Towards a client of the same revision on the downstream's own
// endpoint nothing is touched.
func (g *Gateway) finish(r *request, tg *target, res downstream.Result) answer {
	raw := res.Raw
	if !wire.IsObject(raw) {
		return whole(raw)
	}
	if r.answeredBy != nil {
		tg = r.answeredBy
	}
	raw = g.sealTasks(r, tg, raw)
	if r.table.single == nil {
		raw = g.readdress(r, tg, raw)
		if meta := wire.Get(raw, "_meta"); meta != nil && wire.Get(meta, downstream.MetaServerInfo) != nil {
			raw = wire.Set(raw, "_meta", wire.Set(meta, downstream.MetaServerInfo, r.table.info))
		}
	}
	if r.modern && !res.Modern {
		edits := []wire.Member{{Key: "resultType", Value: json.RawMessage(`"complete"`)}}
		if r.method == "resources/read" {
			edits = append(edits, wire.Member{Key: "ttlMs", Value: json.RawMessage("0")}, wire.Member{Key: "cacheScope", Value: json.RawMessage(`"private"`)})
		}
		raw = wire.Edit(raw, edits...)
	}
	return whole(raw)
}

// readdress gives the resources that a result points to URIs that lead back to their own downstream.
func (g *Gateway) readdress(r *request, tg *target, raw json.RawMessage) json.RawMessage {
	switch r.method {
	case "resources/read":
		asked, _ := r.params.GetString("uri")
		if _, own, ok := splitURI(asked); ok {
			return editContents(raw, "contents", func(c json.RawMessage) json.RawMessage {
				if uri, _ := wire.GetString(c, "uri"); uri == own {
					return wire.Set(c, "uri", wire.Quote(asked))
				}
				return c
			})
		}
	case "tools/call", "tasks/result", "prompts/get":
		if !bytes.Contains(raw, []byte(`"resource`)) {
			return raw
		}
		if r.method != "prompts/get" {
			return editContents(raw, "content", func(c json.RawMessage) json.RawMessage { return readdressBlock(r.table, tg, c) })
		}
		return editContents(raw, "messages", func(m json.RawMessage) json.RawMessage {
			c := wire.Get(m, "content")
			if n := readdressBlock(r.table, tg, c); !bytes.Equal(n, c) {
				return wire.Set(m, "content", n)
			}
			return m
		})
	}
	return raw
}

// readdressBlock readdresses one content block: a resource_link, or an embedded resource.
func readdressBlock(t *table, tg *target, c json.RawMessage) json.RawMessage {
	switch kind, _ := wire.GetString(c, "type"); kind {
	case "resource_link":
		if own, ok := wire.GetString(c, "uri"); ok {
			if uri := t.exposeURI(tg, own); uri != own {
				return wire.Set(c, "uri", wire.Quote(uri))
			}
		}
	case "resource":
		res := wire.Get(c, "resource")
		if own, ok := wire.GetString(res, "uri"); ok {
			if uri := t.exposeURI(tg, own); uri != own {
				return wire.Set(c, "resource", wire.Set(res, "uri", wire.Quote(uri)))
			}
		}
	}
	return c
}

// editContents applies edit to each element of the array member of obj; if none changed, obj is returned as it is.
func editContents(obj json.RawMessage, member string, edit func(json.RawMessage) json.RawMessage) json.RawMessage {
	arr := wire.Get(obj, member)
	out := append(make([]byte, 0, len(arr)+64), '[')
	changed := false
	wire.Elements(arr, func(v json.RawMessage) bool {
		n := edit(v)
		changed = changed || !bytes.Equal(n, v)
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, n...)
		return true
	})
	if !changed {
		return obj
	}
	return wire.Set(obj, member, append(out, ']'))
}
