package gateway

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"strconv"
	"time"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
)

// asksForInput reports whether the result of a method may ask the client for input (specification 2026-07-28, basic/patterns/mrtr).
func asksForInput(method string) bool {
	return method == "tools/call" || method == "prompts/get" || method == "resources/read"
}

// asking reports whether a modern result asks for input.
func asking(raw json.RawMessage) bool {
	kind, _ := wire.GetString(raw, "resultType")
	return kind == "input_required"
}

// fulfil answers what a modern server asks in its result by asking a client of an older revision, which expects requests in the middle of
// its call, and sends the call again with the answers, round after round. Every other result is returned as it is.
func (g *Gateway) fulfil(ctx context.Context, r *request, to *route, params *wire.Object, res downstream.Result) (downstream.Result, error) {
	limit := g.settings.Load().Gateway.Limits.InputRounds
	for round := 0; asking(res.Raw); round++ {
		if round == limit {
			return res, errTooManyRounds(to.target.name, limit)
		}
		answers, err := r.ask(ctx, to.target, wire.Get(res.Raw, "inputRequests"))
		if err != nil {
			return res, err
		}
		edits := []wire.Member{{Key: "inputResponses", Value: answers}, {Key: "requestState", Value: wire.Get(res.Raw, "requestState")}}
		next := params.Edit(edits...)
		if res, err = g.send(ctx, r, to, r.stream, &next); err != nil {
			return res, err
		}
	}
	return res, nil
}

// ask puts a server's questions to the client, one after the other, and returns the answers under the names of the questions. A client
// that cannot be asked, or answers with an error, ends the call.
func (r *request) ask(ctx context.Context, tg *target, questions json.RawMessage) (json.RawMessage, error) {
	answers := append(make([]byte, 0, 256), '{')
	var err error
	wire.Members(questions, func(name []byte, q json.RawMessage) bool {
		method, ok := wire.GetString(q, "method")
		if !ok {
			err = wire.Errorf(wire.CodeInternal, "mcpgw: the server asks for input without saying what for (inputRequests[%q] has no method)", name)
			return false
		}
		params := wire.Get(q, "params")
		if err = tg.mayAsk(r.sess.kinds, method, params); err != nil {
			return false
		}
		if mode, _ := wire.GetString(params, "mode"); method == "elicitation/create" && mode == "url" && wire.Get(params, "elicitationId") == nil {
			params = wire.Set(params, "elicitationId", wire.Quote(rand.Text())) // older revisions want one
		}
		var answer json.RawMessage
		if answer, err = r.stream.Request(ctx, method, r.table.asked(tg, r.sess.kinds, method, params)); err != nil {
			return false
		}
		if len(answers) > 1 {
			answers = append(answers, ',')
		}
		answers = append(append(append(answers, '"'), name...), '"', ':')
		answers = append(answers, answer...)
		return true
	})
	return append(answers, '}'), err
}

// relay passes on what a modern server asks a modern client in its result: the server's state sealed, so that nobody else can bring it
// back, or with something else; and nothing asked that the administrator forbids.
func (g *Gateway) relay(r *request, to *route, params *wire.Object, rounds int, res downstream.Result) (downstream.Result, error) {
	if !asking(res.Raw) {
		return res, nil
	}
	cfg := &g.settings.Load().Gateway
	if rounds >= cfg.Limits.InputRounds {
		return res, errTooManyRounds(to.target.name, cfg.Limits.InputRounds)
	}
	var edits []wire.Member
	has := kindsOf(wire.Get(r.meta(), metaClientCapabilities))
	if allowed := to.target.allowed(); allowed != askAnything || r.table.single == nil {
		var asks []wire.Member
		var err error
		wire.Members(wire.Get(res.Raw, "inputRequests"), func(name []byte, q json.RawMessage) bool {
			method, _ := wire.GetString(q, "method")
			p := wire.Get(q, "params")
			if k, _, ok := needs(method, p); ok && k&^allowed != 0 {
				err = to.target.mayAsk(has, method, p)
				return false
			}
			asks = append(asks, wire.Member{Key: string(name), Value: wire.Set(q, "params", r.table.asked(to.target, has|askSamplingContext, method, p))})
			return true
		})
		if err != nil {
			return res, err
		}
		if asks != nil {
			edits = append(edits, wire.Member{Key: "inputRequests", Value: wire.Edit(nil, asks...)})
		}
	}
	if inner := wire.Get(res.Raw, "requestState"); inner != nil {
		s := &state{kind: ofServer, round: rounds + 1, expires: time.Now().Add(cfg.Timeouts.Input + time.Second), inner: inner}
		edits = append(edits, wire.Member{Key: "requestState", Value: g.sealState(s, bound(r, to, params))})
	}
	res.Raw = wire.Edit(res.Raw, edits...)
	return res, nil
}

// resume returns the params with which a server gets a request again whose client has come back.
func (s *state) resume(params *wire.Object) (*wire.Object, error) {
	if s.kind == ofServer {
		next := params.Edit(wire.Member{Key: "requestState", Value: s.inner})
		return &next, nil
	}
	answers := params.Get("inputResponses")
	var err error
	seen := 0
	wire.Members(answers, func(_ []byte, a json.RawMessage) bool {
		seen++
		if action, _ := wire.GetString(a, "action"); action != "accept" {
			err = wire.Errorf(wire.CodeInvalidRequest, "the user did not agree (%q) to visit the page that the server wants visited first: the call was not executed", action)
		}
		return err == nil
	})
	if err == nil && seen == 0 {
		err = wire.Errorf(wire.CodeInvalidParams, "inputResponses is missing: say for each of inputRequests what the user decided")
	}
	next := params.Edit(wire.Member{Key: "requestState"}, wire.Member{Key: "inputResponses"})
	return &next, err
}

// visit tells a modern client which pages an older server wants visited before it takes the call (error -32042 of revision 2025-11-25): in
// its revision that is a question like any other.
func (g *Gateway) visit(r *request, to *route, params *wire.Object, rounds int, e *wire.Error) (answer, error) {
	cfg := &g.settings.Load().Gateway
	has := r.kinds() & to.target.allowed()
	var asks []wire.Member
	wire.Elements(wire.Get(e.Data, "elicitations"), func(v json.RawMessage) bool {
		if wire.IsObject(v) {
			p := r.table.asked(to.target, has, "elicitation/create", wire.Edit(v, wire.Member{Key: "elicitationId"}, wire.Member{Key: "mode", Value: json.RawMessage(`"url"`)}))
			q := wire.Edit(nil, wire.Member{Key: "method", Value: json.RawMessage(`"elicitation/create"`)}, wire.Member{Key: "params", Value: p})
			asks = append(asks, wire.Member{Key: "q" + strconv.Itoa(len(asks)+1), Value: q})
		}
		return len(asks) < 10
	})
	switch {
	case asks == nil || !asksForInput(r.method):
		return answer{}, wire.Errorf(wire.CodeInvalidRequest, "server %q wants a page visited first and does not say which: %s", to.target.name, e.Message)
	case has&askURL == 0:
		no := wire.Errorf(wire.CodeMissingClientCapability, "server %q wants a page visited first, and the client cannot be asked that: %s", to.target.name, e.Message)
		no.Data = json.RawMessage(`{"requiredCapabilities":{"elicitation":{"url":{}}}}`)
		return answer{}, no
	case rounds >= cfg.Limits.InputRounds:
		return answer{}, errTooManyRounds(to.target.name, cfg.Limits.InputRounds)
	}
	s := &state{kind: ofURL, round: rounds + 1, expires: time.Now().Add(cfg.Timeouts.Input + time.Second)}
	return whole(wire.Edit(nil, wire.Member{Key: "resultType", Value: json.RawMessage(`"input_required"`)},
		wire.Member{Key: "inputRequests", Value: wire.Edit(nil, asks...)}, wire.Member{Key: "requestState", Value: g.sealState(s, bound(r, to, params))},
		wire.Member{Key: "_meta", Value: wire.Set(nil, downstream.MetaServerInfo, r.table.info)})), nil
}

// await answers a request whose call may be parked.
func (g *Gateway) await(ctx context.Context, r *request, to *route, params *wire.Object, p *parked) (answer, error) {
	res, asks, err := p.wait(ctx, func() string { return bound(r, to, params) })
	if asks != nil {
		return whole(asks), nil
	}
	if err == nil {
		r.answeredBy = p.sent.answeredBy // the call has ended
	}
	return g.conclude(r, to, params, p.rounds, res, err)
}
