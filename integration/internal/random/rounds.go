package random

import (
	"context"
	"fmt"
)

// compareRounds has a newer server ask in its result, and the client come back.
func (l *lane) compareRounds(ctx context.Context, r *maker, m *message) error {
	again, state := r.asksFirst(m)
	direct, through, err := l.both(ctx, m)
	if err != nil {
		return err
	}
	d, err := parse(string(direct.last().Result))
	if err != nil {
		return err
	}
	t, err := parse(string(through.last().Result))
	if err != nil {
		return err
	}
	sealed := ""
	if state != "" {
		if t.get("requestState") == nil {
			return differ("answers", string(direct.last().Result), string(through.last().Result)+string(through.last().Error))
		}
		sealed = t.get("requestState").String()
		t.set("requestState", state)
	}
	if qs := d.get("inputRequests"); qs != nil && l.all {
		for i, key := range qs.keys {
			g := t.get("inputRequests").get(key)
			if g == nil {
				return fmt.Errorf("the question %q is missing: %s", key, t)
			}
			method, _ := qs.kids[i].get("method").decoded()
			if err := l.sameQuestion(method, qs.kids[i].get("params").String(), g.get("params").String()); err != nil {
				return err
			}
			qs.kids[i].set("params", `"PARAMS"`)
			g.set("params", `"PARAMS"`)
		}
	}
	if err := l.sameResult(m, d.String(), t.String()); err != nil {
		return err
	}
	// The client comes back: each with the state that it got.
	next := again(state)
	direct, err = l.play(ctx, l.direct, next, next.params(true, next.own), next.headerName(next.own))
	if err != nil {
		return fmt.Errorf("directly, coming back: %w", err)
	}
	next, name := again(sealed), l.exposed(m)
	through, err = l.play(ctx, l.through, next, next.params(true, name), next.headerName(name))
	if err != nil {
		return fmt.Errorf("coming back: %w", err)
	}
	if err := l.sameParams(next, direct.params, through.params); err != nil {
		return fmt.Errorf("coming back: %w", err)
	}
	if direct.last().Error != nil || through.last().Error != nil {
		return l.sameError(next, string(direct.last().Error), string(through.last().Error))
	}
	return l.sameResult(next, string(direct.last().Result), string(through.last().Result))
}

// compareTask has a call become a task of revision 2025-11-25, and asks after it.
func (l *lane) compareTask(ctx context.Context, r *maker, tool string) error {
	id := pick(r, `"task-1"`, `"786512e2-9e0d-44bd-8f29-789f320fe840"`, `"aufgäbe \u0041/b"`, r.word())
	m := r.call(tool)
	m.members = append(m.members, pair{"task", r.obj(may("ttl", (*maker).integer))})
	m.reply = reply{result: r.result(must("task", func(r *maker) string { return r.obj(r.task(id)...) }))}
	direct, through, err := l.both(ctx, m)
	if err != nil {
		return err
	}
	d, err := parse(string(direct.last().Result))
	if err != nil {
		return err
	}
	t, err := parse(string(through.last().Result))
	if err != nil {
		return err
	}
	sealed := t.get("task").get("taskId").String()
	if sealed == id {
		return fmt.Errorf("the id of the task is the server's own: %s", t)
	}
	t.get("task").set("taskId", id)
	if a, b := d.String(), t.String(); a != b {
		return differ("task", a, b)
	}
	method := pick(r, "tasks/get", "tasks/cancel", "tasks/result")
	ask := r.request(method, may("x", (*maker).value))
	ask.reply = reply{result: r.result(r.task(id)...)}
	if method == "tasks/result" {
		ask.reply.result = r.callResult()
	}
	with := func(id string) *message {
		c := *ask
		c.members = append(append([]pair(nil), ask.members...), pair{"taskId", id})
		return &c
	}
	direct, err = l.play(ctx, l.direct, with(id), with(id).params(false, ""), "")
	if err != nil {
		return err
	}
	through, err = l.play(ctx, l.through, with(sealed), with(sealed).params(false, ""), "")
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	dp, err := parse(direct.params)
	if err != nil {
		return err
	}
	tp, err := parse(through.params)
	if err != nil {
		return err
	}
	for _, p := range []*tree{dp, tp} {
		own, _ := p.get("taskId").decoded()
		p.set("taskId", quoted(own))
		l.normalParams(with(id), p)
	}
	if a, b := dp.String(), tp.String(); a != b {
		return differ(method+" params", a, b)
	}
	d, err = parse(string(direct.last().Result))
	if err != nil {
		return err
	}
	t, err = parse(string(through.last().Result))
	if err != nil {
		return err
	}
	if method == "tasks/result" {
		return l.sameResult(&message{method: "tools/call"}, d.String(), t.String())
	}
	if got := t.get("taskId").String(); got != sealed {
		return differ("id of the task", sealed, got)
	}
	t.set("taskId", id)
	if a, b := d.String(), t.String(); a != b {
		return differ(method, a, b)
	}
	return nil
}
