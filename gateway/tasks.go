package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// Tasks are known to a server by ids of its own. Clients see them sealed, together with the server and whose they are: so a task is found
// again without anything being kept, and nobody finds another's. The experiment of revision 2025-11-25 and the extension of 2026-07-28
// do not understand each other: tasks stay within their era.

const metaRelatedTask = "io.modelcontextprotocol/related-task"

var markRelated = []byte(`related-task`)

// taskMethod reports whether a method is about tasks, in the era of the client.
func taskMethod(method string, modern bool) bool {
	switch method {
	case "tasks/get", "tasks/cancel":
		return true
	case "tasks/update":
		return modern
	case "tasks/result", "tasks/list":
		return !modern
	}
	return false
}

// task answers the methods that are about a task.
func (g *Gateway) task(ctx context.Context, r *request) (answer, error) {
	if r.modern && wire.Get(wire.Get(wire.Get(r.meta(), metaClientCapabilities), "extensions"), extTasks) == nil {
		no := wire.Errorf(wire.CodeMissingClientCapability, "%s: the request does not declare the extension %s", r.method, extTasks)
		no.Data = json.RawMessage(`{"requiredCapabilities":{"extensions":{"` + extTasks + `":{}}}}`)
		return answer{}, no
	}
	if r.method == "tasks/list" {
		tg := r.table.single
		if tg == nil || tg.server.Catalog().Modern() {
			return answer{}, wire.Errorf(wire.CodeMethodNotFound, "method not found: %s (a server's tasks are listed on /servers/NAME/mcp)", r.method)
		}
		return g.forward(ctx, r, route{target: tg, safe: readOnly}, &r.params)
	}
	sealed, ok := r.params.GetString("taskId")
	if !ok {
		return answer{}, errInvalid("%s: taskId must be a string", r.method)
	}
	name, own, ok := g.openTask(r.principal, sealed)
	tg := r.table.targets[name]
	if !ok || tg == nil || tg.server.Catalog().Modern() != r.modern {
		return answer{}, errInvalid("%s: unknown task", r.method)
	}
	params := r.params.Edit(wire.Member{Key: "taskId", Value: wire.Quote(own)})
	return g.forward(ctx, r, route{target: tg, own: own, safe: safetyOfMethod(r.method)}, &params)
}

func taskPurpose(principal string) string { return "task\x00" + principal }

// sealTask returns the id by which a client knows a server's task. It is always the same.
func (g *Gateway) sealTask(principal string, tg *target, own string) string {
	return g.seals.Load().sealSame([]byte(tg.name+"\x00"+own), taskPurpose(principal))
}

func (g *Gateway) openTask(principal, sealed string) (server, own string, ok bool) {
	b, err := g.seals.Load().open(sealed, taskPurpose(principal))
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(b), "\x00")
}

// sealTasks seals the ids of tasks in the result of a request.
func (g *Gateway) sealTasks(r *request, tg *target, raw json.RawMessage) json.RawMessage {
	one := func(obj json.RawMessage) json.RawMessage {
		own, ok := wire.GetString(obj, "taskId")
		if !ok {
			return obj
		}
		id := g.sealTask(r.principal, tg, own)
		if asked, _ := r.params.GetString("taskId"); asked != "" {
			// After a change of keys the client goes on with the id that it has.
			if name, same, ok := g.openTask(r.principal, asked); ok && name == tg.name && same == own {
				id = asked
			}
		}
		return wire.Set(obj, "taskId", wire.Quote(id))
	}
	switch r.method {
	case "tools/call":
		if r.modern {
			if wire.Get(wire.Get(wire.Get(r.meta(), metaClientCapabilities), "extensions"), extTasks) == nil {
				return raw
			}
			if kind, _ := wire.GetString(raw, "resultType"); kind == "task" {
				return one(raw)
			}
			return raw
		}
		if t := wire.Get(raw, "task"); r.params.Get("task") != nil && wire.IsObject(t) {
			raw = wire.Set(raw, "task", one(t))
		}
	case "tasks/get", "tasks/cancel":
		raw = one(raw)
		if in := wire.Get(raw, "inputRequests"); in != nil && r.modern {
			raw = wire.Set(raw, "inputRequests", r.table.nameAll(tg, in))
		}
		return raw
	case "tasks/list":
		return editContents(raw, "tasks", one)
	case "tasks/result":
		return g.sealRelated(r.principal, tg, raw)
	}
	return raw
}

// nameAll names the server in everything that it asks.
func (t *table) nameAll(tg *target, questions json.RawMessage) json.RawMessage {
	if t.single != nil {
		return questions
	}
	var all []wire.Member
	wire.Members(questions, func(name []byte, q json.RawMessage) bool {
		method, _ := wire.GetString(q, "method")
		all = append(all, wire.Member{Key: string(name), Value: wire.Set(q, "params", t.asked(tg, askAnything, method, wire.Get(q, "params")))})
		return true
	})
	return wire.Edit(nil, all...)
}

// sealRelated seals the id of the task that a message belongs to (revision 2025-11-25).
func (g *Gateway) sealRelated(principal string, tg *target, msg json.RawMessage) json.RawMessage {
	if !bytes.Contains(msg, markRelated) {
		return msg
	}
	meta := wire.Get(msg, "_meta")
	task := wire.Get(meta, metaRelatedTask)
	own, ok := wire.GetString(task, "taskId")
	if !ok {
		return msg
	}
	return wire.Set(msg, "_meta", wire.Set(meta, metaRelatedTask, wire.Set(task, "taskId", wire.Quote(g.sealTask(principal, tg, own)))))
}

// taskStatus seals the id in notifications/tasks/status.
func (g *Gateway) taskStatus(principal string, tg *target, params json.RawMessage) json.RawMessage {
	if own, ok := wire.GetString(params, "taskId"); ok {
		params = wire.Set(params, "taskId", wire.Quote(g.sealTask(principal, tg, own)))
	}
	return g.sealRelated(principal, tg, params)
}

// withoutTask takes out of a call to a server of the other era that the client would take a task for an answer.
func withoutTask(r *request, tg *target, params *wire.Object) *wire.Object {
	if params.Get("task") == nil || r.method != "tools/call" || r.modern == tg.server.Catalog().Modern() {
		return params
	}
	rest := params.Edit(wire.Member{Key: "task"})
	return &rest
}
