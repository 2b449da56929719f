package gateway

import (
	"context"
	"encoding/json"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
)

// maxRounds bounds how often a server may answer one call with further questions.
const maxRounds = 10

// fulfil answers what a modern server asks in its result (specification 2026-07-28, basic/patterns/mrtr) by asking a client of an older
// revision, which expects requests in the middle of its call, and sends the call again with the answers, round after round. Every other
// result is returned as it is: a modern client answers for itself.
func (g *Gateway) fulfil(ctx context.Context, r *request, tg *target, params wire.Object, res downstream.Result, send func(wire.Object) (downstream.Result, error)) (downstream.Result, error) {
	if r.modern || !res.Modern {
		return res, nil
	}
	for round := 0; ; round++ {
		if kind, _ := wire.GetString(res.Raw, "resultType"); kind != "input_required" {
			return res, nil
		}
		if round == maxRounds {
			return res, wire.Errorf(wire.CodeInternal, "mcpgw: server %q asked %d times and still wants more: the call is given up", tg.name, maxRounds)
		}
		answers, err := r.ask(ctx, wire.Get(res.Raw, "inputRequests"))
		if err != nil {
			return res, err
		}
		edits := []wire.Member{{Key: "inputResponses", Value: answers}, {Key: "requestState", Value: wire.Get(res.Raw, "requestState")}}
		if res, err = send(params.Edit(edits...)); err != nil {
			return res, err
		}
	}
}

// ask puts a server's questions to the client, one after the other, and returns the answers under the names of the questions. A client
// that cannot be asked, or answers with an error, ends the call.
func (r *request) ask(ctx context.Context, questions json.RawMessage) (json.RawMessage, error) {
	answers := append(make([]byte, 0, 256), '{')
	var err error
	wire.Members(questions, func(name []byte, q json.RawMessage) bool {
		method, ok := wire.GetString(q, "method")
		if !ok {
			err = wire.Errorf(wire.CodeInternal, "mcpgw: the server asks for input without saying what for (inputRequests[%q] has no method)", name)
			return false
		}
		var answer json.RawMessage
		if answer, err = r.stream.Request(ctx, method, wire.Get(q, "params")); err != nil {
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
