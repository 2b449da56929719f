package gateway

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
)

// parked is a call of a modern client to an older server, which may ask in the middle of it. The client cannot be asked there: its request
// is answered with the questions, and while it is away the call waits, until the client comes back with the answers in another
// request (specification 2026-07-28, basic/patterns/mrtr). To the server it is one call all the time.
//
// It owns the goroutine of the call, which ends with the call; a client that stays away ends both after Timeouts.Input.
type parked struct {
	g      *Gateway
	tg     *target
	owner  string   // principal
	sent   *request // stands for the first request in the call
	id     string   // names the call in requestState, and nowhere else
	cancel context.CancelCauseFunc
	news   chan struct{} // has one element when the server has asked something since the client was last looked at
	done   chan struct{} // closed when the call has ended, with:
	res    downstream.Result
	err    error

	mu      sync.Mutex  // held while the client is told something; guards what follows
	at      *request    // of the client while it is here; nil while it is away
	table   *table      // that the client saw last
	has     questions   // what the client can be asked, as it said last
	open    []*question // that are not answered
	asked   int         // questions so far
	rounds  int         // how often the client was sent away with questions
	entered bool        // in the lot
	timer   *time.Timer // runs while the client is away
	gone    bool        // the client stayed away for too long
}

// question is something that the server wants to know in the middle of its call.
type question struct {
	key    string
	method string
	params json.RawMessage // as the client is to see them
	answer chan json.RawMessage
}

// gathering is how long further questions are waited for when one has come, so that the client is asked all of them at once.
const gathering = 20 * time.Millisecond

// mayPark reports whether a call may have to wait for its client.
func (r *request) mayPark(tg *target, has questions) bool {
	if !r.modern || has == 0 || tg.server.Catalog().Modern() {
		return false
	}
	switch r.method {
	case "tools/call", "prompts/get", "resources/read":
		return true
	}
	return false
}

// alone returns a request that stands for r when r has been answered and its call goes on.
func (r *request) alone() *request {
	own := &request{
		method: r.method, id: r.id, params: r.params, modern: r.modern, table: r.table, principal: r.principal, header: r.header, trace: r.trace,
	}
	own.seen.span, own.seen.start, own.seen.tool = r.seen.span, r.seen.start, r.seen.tool
	own.seen.target, own.seen.key, own.seen.safe = r.seen.target, r.seen.key, r.seen.safe
	return own
}

// park begins a call for a client that may have to go away in the middle of it.
func (g *Gateway) park(ctx context.Context, r, sent *request, tg *target, has questions, rounds int, call func(context.Context, downstream.Stream) (downstream.Result, error)) *parked {
	p := &parked{
		g: g, tg: tg, sent: sent, owner: r.principal, id: rand.Text(), has: has, rounds: rounds, at: r, table: r.table,
		news: make(chan struct{}, 1), done: make(chan struct{}),
	}
	ctx, p.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(g.ctx, func() { p.cancel(errDraining) })
	g.wg.Go(func() {
		defer stop()
		defer p.cancel(nil)
		defer close(p.done)
		defer func() {
			if v := recover(); v != nil {
				g.log.ErrorContext(ctx, "panic in a call", "downstream", tg.name, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
				p.err = wire.Errorf(wire.CodeInternal, "mcpgw: internal error, see the gateway's log")
			}
		}()
		p.res, p.err = call(ctx, p)
	})
	return p
}

// wait returns when the call has ended, or when the client has to be asked: then with a result that says what.
func (p *parked) wait(ctx context.Context, purpose func() string) (res downstream.Result, asks json.RawMessage, err error) {
	for {
		select {
		case <-p.done:
			p.leave()
			return p.res, nil, p.err
		case <-ctx.Done():
			p.cancel(context.Cause(ctx))
			<-p.done
			p.leave()
			return p.res, nil, p.err
		case <-p.news:
		}
		more := time.NewTimer(gathering)
		select {
		case <-more.C:
		case <-p.done:
		case <-ctx.Done():
		}
		more.Stop()
		if ctx.Err() != nil {
			continue
		}
		if asks, err = p.sendAway(purpose); asks != nil || err != nil {
			return res, asks, err
		}
	}
}

// sendAway returns the result with the open questions and lets the client go; nil if there is none (any more).
func (p *parked) sendAway(purpose func() string) (json.RawMessage, error) {
	cfg := &p.g.settings.Load().Gateway
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.done:
		return nil, nil
	default:
	}
	if len(p.open) == 0 {
		return nil, nil
	}
	err := error(nil)
	switch {
	case p.rounds >= cfg.Limits.InputRounds:
		err = errTooManyRounds(p.tg.name, cfg.Limits.InputRounds)
	case p.g.isDraining():
		err = wire.Errorf(wire.CodeUnavailable, "mcpgw: server %q wants answers, but the gateway is shutting down: the call was cancelled in the middle, it may have been executed in part", p.tg.name)
	}
	if err != nil {
		p.g.lot.leave(p)
		p.gone, p.at = true, nil
		p.cancel(err)
		return nil, err
	}
	p.rounds++
	expires := time.Now().Add(cfg.Timeouts.Input)
	b := append(make([]byte, 0, 512), `{"resultType":"input_required","inputRequests":{`...)
	for i, q := range p.open {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(append(append(b, '"'), q.key...), `":{"method":"`...), q.method...), '"')
		if q.params != nil {
			b = append(append(b, `,"params":`...), q.params...)
		}
		b = append(b, '}')
	}
	b = append(b, `},"requestState":`...)
	b = append(b, p.g.sealState(&state{kind: ofParked, round: p.rounds, expires: expires.Add(time.Second), call: p.id}, purpose())...)
	b = append(b, `,"_meta":{"`+downstream.MetaServerInfo+`":`...)
	b = append(append(b, p.table.info...), '}', '}')
	p.at = nil
	p.timer = time.AfterFunc(cfg.Timeouts.Input, func() { p.abandon(errAway) })
	return b, nil
}

func errTooManyRounds(server string, limit int) error {
	return wire.Errorf(wire.CodeInternal, "mcpgw: server %q asked %d times in one call and still wants more (gateway.limits.input_rounds): the call was given up, it may have been executed in part", server, limit)
}

// abandon gives the call up, unless the client is here.
func (p *parked) abandon(cause error) {
	p.mu.Lock()
	if p.at != nil || p.gone {
		p.mu.Unlock()
		return
	}
	p.gone = true
	p.timer.Stop()
	p.mu.Unlock()
	p.g.lot.leave(p)
	p.cancel(cause)
	p.g.log.Info("a call that waited for its client was given up", "downstream", p.tg.name, "err", cause)
}

// leave takes the call out of the lot.
func (p *parked) leave() {
	p.mu.Lock()
	in := p.entered
	p.mu.Unlock()
	if in {
		p.g.lot.leave(p)
	}
}

var errNotWaiting = wire.Errorf(wire.CodeInvalidParams, "the call that this requestState belongs to does not wait any more: it was given up at the server because nobody came back in time, or "+
	"the gateway was restarted, or another request has answered already. It may have been executed in part. Send the request again without requestState and inputResponses to start over.")

// comeBack finds the call that a client comes back to, and hands the server the answers.
func (g *Gateway) comeBack(r *request, s *state, has questions, answers json.RawMessage) (*parked, error) {
	p := g.lot.get(s.call)
	if p == nil {
		return nil, errNotWaiting
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone || p.at != nil || p.rounds != s.round {
		return nil, errNotWaiting
	}
	p.timer.Stop()
	p.at, p.table, p.has = r, r.table, has
	still := p.open[:0]
	for _, q := range p.open {
		// What is not answered, or not as an answer must be, is asked again.
		if a := wire.Get(answers, q.key); wire.IsObject(a) {
			q.answer <- append(json.RawMessage(nil), a...)
			continue
		}
		still = append(still, q)
	}
	clear(p.open[len(still):])
	if p.open = still; len(still) > 0 {
		p.tellNews()
	}
	return p, nil
}

// tellNews makes wait look at the questions. The caller holds mu.
func (p *parked) tellNews() {
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// Notify implements downstream.Stream. While the client is away nobody hears it.
func (p *parked) Notify(method string, params json.RawMessage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at == nil || method == "notifications/elicitation/complete" { // revision 2026-07-28 removed it with the ids that it names
		return
	}
	if method == "notifications/progress" {
		// The client may have come back with another token.
		token := wire.Get(p.at.meta(), "progressToken")
		if token == nil {
			return
		}
		if string(token) != string(wire.Get(params, "progressToken")) {
			params = wire.Set(params, "progressToken", token)
		}
	}
	p.at.stream.Notify(method, params)
}

// goesOn implements patient.
func (p *parked) goesOn(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at == nil {
		return
	}
	if s, ok := p.at.stream.(patient); ok {
		s.goesOn(text)
	}
}

// Request implements downstream.Stream: the question waits until the client comes back with an answer.
func (p *parked) Request(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error) {
	q, err := p.ask(method, params)
	if err != nil {
		return nil, err
	}
	select {
	case a := <-q.answer:
		return a, nil
	case <-ctx.Done():
		p.withdraw(q)
		select {
		case a := <-q.answer: // at the same moment
			return a, nil
		default:
			return nil, wire.Errorf(wire.CodeInternal, "mcpgw: the client did not answer before the call ended: %v", context.Cause(ctx))
		}
	}
}

// ask puts a question among the open ones.
func (p *parked) ask(method string, params json.RawMessage) (*question, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.tg.mayAsk(p.has, method, params); err != nil {
		return nil, err
	}
	if p.gone {
		return nil, wire.Errorf(wire.CodeInternal, "mcpgw: the client is gone")
	}
	if len(p.open) >= maxQuestions {
		return nil, wire.Errorf(wire.CodeOverloaded, "mcpgw: the client is being asked %d things already", maxQuestions)
	}
	if !p.entered {
		if err := p.g.lot.enter(p, &p.g.settings.Load().Gateway.Limits); err != nil {
			return nil, err
		}
		p.entered = true
	}
	p.asked++
	q := &question{key: "q" + strconv.Itoa(p.asked), method: method, params: p.table.asked(p.tg, p.has, method, modernQuestion(params)), answer: make(chan json.RawMessage, 1)}
	p.open = append(p.open, q)
	p.tellNews()
	return q, nil
}

const maxQuestions = 64

// modernQuestion leaves out what only revisions have in which servers send requests: the id of an elicitation whose end is reported, the
// token of progress, and tasks.
func modernQuestion(params json.RawMessage) json.RawMessage {
	if params == nil {
		return nil
	}
	edits := []wire.Member{{Key: "elicitationId"}, {Key: "task"}}
	if meta := wire.Get(params, "_meta"); wire.Get(meta, "progressToken") != nil {
		edits = append(edits, wire.Member{Key: "_meta", Value: wire.Set(meta, "progressToken", nil)})
	}
	return append(json.RawMessage(nil), wire.Edit(params, edits...)...)
}

// withdraw takes a question back that the server does not want answered any more.
func (p *parked) withdraw(q *question) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, o := range p.open {
		if o == q {
			p.open = append(p.open[:i], p.open[i+1:]...)
			return
		}
	}
}
