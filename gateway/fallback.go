package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
	"github.com/mcpgw/mcpgw/resilience"
)

// spare is what answers when a downstream does not. It is replaced, not changed, when the policies are; the cache stays.
type spare struct {
	steps []Fallback
	good  *lastGood // nil: nothing is kept
}

// setSpare puts the fallbacks of p into force.
func (pol *policy) setSpare(p *Policies) {
	was := pol.spare.Load()
	if len(p.Fallback) == 0 {
		pol.spare.Store(nil)
		return
	}
	s := &spare{steps: p.Fallback}
	for i := range p.Fallback {
		if c := p.Fallback[i].Cache; c != nil {
			if s.good = newLastGood(); was != nil && was.good != nil {
				s.good = was.good
			}
			s.good.configure(*c)
		}
	}
	pol.spare.Store(s)
}

// rescue is one call on its way through the fallbacks.
type rescue struct {
	g     *Gateway
	f     *flight
	to    *route
	spare *spare
	safe  safety
	key   string // of the cache; "" for none

	by     string            // which fallback answered; "" for none
	cause  *resilience.Error // what they were asked for
	failed []string          // what came of those that did not answer
}

// newRescue prepares the fallbacks of a call.
func (g *Gateway) newRescue(f *flight, to *route, s *spare, guard *resilience.Guard) *rescue {
	r := &rescue{g: g, f: f, to: to, spare: s, safe: safetyUnder(guard, f.call.Body, to)}
	if s.good != nil && r.safe == readOnly {
		r.key = goodKey(f.request, f.call.Method, to.own, f.call.Body)
	}
	return r
}

// steps returns the fallbacks that can answer the call, in order.
func (r *rescue) steps() []resilience.Fallback[downstream.Result] {
	tool := r.f.call.Method == "tools/call"
	var list []resilience.Fallback[downstream.Result]
	for i := range r.spare.steps {
		step := &r.spare.steps[i]
		if tool && !step.serves(r.to.own) || !tool && len(step.Tools) > 0 {
			continue
		}
		var answer func(context.Context, *failure) (downstream.Result, error)
		switch {
		case step.Cache != nil && r.key != "":
			answer = r.fromCache
		case step.Static != nil && tool:
			answer = func(_ context.Context, f *failure) (downstream.Result, error) { return r.fixed(step.Static, f), nil } //nolint:unparam // one of several ways
		case step.Downstream != "" && tool:
			other := r.to.own
			if len(step.ToolMap) > 0 {
				other = step.ToolMap[r.to.own]
			}
			if other != "" {
				answer = func(ctx context.Context, f *failure) (downstream.Result, error) {
					return r.ask(ctx, step.Downstream, other, f)
				}
			}
		}
		if answer == nil {
			continue
		}
		list = append(list, resilience.Fallback[downstream.Result]{Name: step.kind(), Timeout: step.Timeout, Func: func(ctx context.Context, cause error) (downstream.Result, error) {
			r.cause, _ = errors.AsType[*resilience.Error](cause)
			res, err := answer(ctx, r.explain())
			if err != nil {
				r.failed = append(r.failed, fmt.Sprintf("%s: %v", step.kind(), err))
				return res, err
			}
			r.by = step.kind()
			return res, nil
		}})
	}
	return list
}

// explain says why the downstream did not answer.
func (r *rescue) explain() *failure {
	e := *r.cause
	if class := r.to.target.policy.last.get(); class != "" && e.Class == resilience.ClassCircuitOpen {
		e.Class = class // what opened the circuit says more than that it is open
	}
	f := explain(r.to.target.name, &e)
	if f == nil { // it answered, with a JSON-RPC error that means that it does not work
		f = &failure{Error: "failed", Downstream: r.to.target.name, Executed: downstream.Executed(e.Executed), Class: e.Class, Attempts: e.Attempts}
	}
	return f
}

// landed notes what came of the call: a good answer is kept for later, and if no fallback answered either, the error says so.
func (r *rescue) landed(res *downstream.Result, err error) error {
	switch {
	case err == nil && r.by == "" && r.key != "" && good(res):
		r.spare.good.put(r.key, *res)
	case err != nil && r.cause != nil:
		return &unrescuedError{r.cause, "No fallback could answer (" + strings.Join(r.failed, "; ") + ")."}
	}
	return err
}

// unrescuedError is the error of a call that no fallback answered either. Those of the fallbacks are texts in it, so that none of them is
// taken for what the server said.
type unrescuedError struct {
	cause *resilience.Error
	text  string
}

func (e *unrescuedError) Error() string { return e.cause.Error() + " " + e.text }
func (e *unrescuedError) Unwrap() error { return e.cause }

// note is what a client is told about an answer that is not its server's. It is in the _meta of the result, and where that is allowed in
// its structured content.
type note struct {
	Fallback     string              `json:"fallback"`         // cache, static or downstream
	Downstream   string              `json:"downstream"`       // that did not answer
	Server       string              `json:"server,omitempty"` // that answered instead
	Tool         string              `json:"tool,omitempty"`   // of Server
	Stale        bool                `json:"stale"`
	AgeMS        *int64              `json:"age_ms,omitempty"`
	Error        string              `json:"error"` // why the downstream did not
	Class        string              `json:"class"`
	Executed     downstream.Executed `json:"executed"`
	RetryAfterMS int64               `json:"retry_after_ms,omitempty"`
}

const metaFallback = "dev.mcpgw/fallback"

// structuredNote is the member of structuredContent that repeats the note: some clients show a model nothing else.
const structuredNote = "mcpgw_fallback"

func (r *rescue) note(kind string, f *failure) note {
	return note{
		Fallback: kind, Downstream: r.to.target.name, Error: f.Error, Class: f.Class, Executed: f.Executed, RetryAfterMS: f.RetryAfterMS,
	}
}

// why ends the sentence about a fallback.
func (n *note) why() string {
	s := fmt.Sprintf("because server %q did not answer (%s)", n.Downstream, n.Error)
	if n.RetryAfterMS > 0 {
		s += ", which may work again after " + strconv.FormatInt(n.RetryAfterMS/1000, 10) + " seconds"
	}
	return s + "."
}

// fromCache answers with the last good result.
func (r *rescue) fromCache(_ context.Context, f *failure) (downstream.Result, error) {
	res, age, ok := r.spare.good.get(r.key)
	if !ok {
		return res, errors.New("there is no recent result of the same call")
	}
	n := r.note("cache", f)
	n.Stale, n.AgeMS = true, new(age.Milliseconds())
	return r.mark(res, &n, fmt.Sprintf("Stale: this is the last good answer, %s old, %s", age.Round(time.Second), n.why())), nil
}

// fixed is a static answer.
func (r *rescue) fixed(s *StaticFallback, f *failure) downstream.Result {
	n := r.note("static", f)
	res := downstream.Result{Raw: wire.Edit(nil, wire.Member{Key: "content", Value: textContent(s.Text)})}
	if s.Structured != "" {
		res.Raw = wire.Set(res.Raw, "structuredContent", json.RawMessage(s.Structured))
	}
	if r.safe != readOnly || s.Structured == "" && r.outputSchema() != nil {
		// A success would say that the change was made, or lack what the tool promises.
		res.Raw = wire.Set(res.Raw, "isError", json.RawMessage("true"))
	}
	return r.mark(res, &n, fmt.Sprintf("This is a fixed answer of the gateway, %s %s", n.why(), maybeExecuted(f.Executed)))
}

// ask has another downstream answer.
func (r *rescue) ask(ctx context.Context, name, tool string, f *failure) (downstream.Result, error) {
	view := r.g.view.Load().single[name]
	if view == nil {
		return downstream.Result{}, fmt.Errorf("there is no server %q", name)
	}
	to, ok := view.tools[tool]
	if !ok {
		return downstream.Result{}, fmt.Errorf("server %q has no tool %q", name, tool)
	}
	req, was := r.f.request, r.f.call
	params := was.Body.Edit(wire.Member{Key: "name", Value: wire.Quote(tool)})
	stream := was.Stream
	if req.sess == nil && stream != nil {
		stream = unasked{stream}
	}
	header := req.header
	req.header = mirrorArguments(to.marks, params.Get("arguments"))
	req.rescued++
	res, err := r.g.send(ctx, req, &to, stream, &params)
	req.rescued--
	req.header = header
	if err != nil {
		if f := explain(name, err); f != nil {
			return res, errors.New(f.Message)
		}
		return res, err
	}
	if res.Asks {
		return downstream.Result{}, fmt.Errorf("server %q wants input, which only the server that was called can be given", name)
	}
	req.answeredBy = to.target
	n := r.note("downstream", f)
	n.Server, n.Tool = name, tool
	return r.mark(res, &n, fmt.Sprintf("This is the answer of tool %q of server %q, %s", tool, name, n.why())), nil
}

// unasked is a stream on which a server cannot ask: what a modern client answers comes back to the server that it called.
type unasked struct{ downstream.Stream }

func (unasked) Request(context.Context, string, json.RawMessage) (json.RawMessage, error) {
	return nil, wire.Errorf(wire.CodeMethodNotFound, "mcpgw: a server that stands in for another one cannot ask the client")
}

// mark says in a result what it is.
func (r *rescue) mark(res downstream.Result, n *note, text string) downstream.Result {
	facts, _ := json.Marshal(n) // strings and numbers only
	raw := wire.Set(res.Raw, "_meta", wire.Set(wire.Get(res.Raw, "_meta"), metaFallback, facts))
	if r.f.call.Method == "tools/call" {
		raw = wire.Set(raw, "content", appendText(wire.Get(raw, "content"), "["+text+"]"))
		if sc := wire.Get(raw, "structuredContent"); wire.IsObject(sc) && allowsMore(r.outputSchema()) {
			raw = wire.Set(raw, "structuredContent", wire.Set(sc, structuredNote, facts))
		}
	}
	return downstream.Result{Raw: raw, Modern: res.Modern}
}

// outputSchema returns what the called tool promises about structuredContent; nil for nothing.
func (r *rescue) outputSchema() json.RawMessage {
	for _, it := range r.to.target.server.Catalog().Lists[downstream.Tools].Items {
		if it.Key == r.to.own {
			return wire.Get(it.Raw, "outputSchema")
		}
	}
	return nil
}

// allowsMore reports whether a schema allows members that it does not name.
func allowsMore(schema json.RawMessage) bool {
	for _, key := range []string{"additionalProperties", "unevaluatedProperties"} {
		if v := wire.Get(schema, key); v != nil && string(v) != "true" {
			return false
		}
	}
	return true
}

// appendText puts a text block behind the others of an array of content.
func appendText(content json.RawMessage, text string) json.RawMessage {
	block := textContent(text)
	content = bytes.TrimSpace(content)
	if len(content) < 2 || content[0] != '[' {
		return block
	}
	inner := bytes.TrimSpace(content[1 : len(content)-1])
	if len(inner) == 0 {
		return block
	}
	out := append(append([]byte{'['}, inner...), ',')
	return append(out, block[1:]...)
}
