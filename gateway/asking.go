package gateway

import (
	"encoding/json"
	"strings"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
)

// questions is a set of what a server may ask a client for.
type questions uint8

// What a client can declare. Tools and context are parts of sampling.
const (
	askRoots questions = 1 << iota
	askForm
	askURL
	askSampling
	askSamplingTools
	askSamplingContext

	askAnything questions = 1<<iota - 1
)

// kindsOf reads what a client declared. An elicitation capability that names no mode means forms (specification 2026-07-28,
// client/elicitation).
func kindsOf(capabilities json.RawMessage) questions {
	var k questions
	wire.Members(capabilities, func(key []byte, v json.RawMessage) bool {
		if !wire.IsObject(v) {
			return true
		}
		switch string(key) {
		case "roots":
			k |= askRoots
		case "sampling":
			k |= askSampling
			if wire.Get(v, "tools") != nil {
				k |= askSamplingTools
			}
			if wire.Get(v, "context") != nil {
				k |= askSamplingContext
			}
		case "elicitation":
			form, url := wire.Get(v, "form"), wire.Get(v, "url")
			if form != nil || url == nil {
				k |= askForm
			}
			if url != nil {
				k |= askURL
			}
		}
		return true
	})
	return k
}

// capabilities says what k stands for as a client declares it, always in the same words.
func (k questions) capabilities() json.RawMessage {
	var parts []string
	if k&askRoots != 0 {
		parts = append(parts, `"roots":{}`)
	}
	if k&(askForm|askURL) != 0 {
		parts = append(parts, `"elicitation":{`+k.list(askForm, `"form":{}`, askURL, `"url":{}`)+`}`)
	}
	if k&askSampling != 0 {
		parts = append(parts, `"sampling":{`+k.list(askSamplingTools, `"tools":{}`, askSamplingContext, `"context":{}`)+`}`)
	}
	return json.RawMessage("{" + strings.Join(parts, ",") + "}")
}

func (k questions) list(one questions, a string, other questions, b string) string {
	switch {
	case k&one != 0 && k&other != 0:
		return a + "," + b
	case k&one != 0:
		return a
	case k&other != 0:
		return b
	}
	return ""
}

// needs returns what a client must have declared to be asked this, and the capability's name in words; ok is false if it is nothing that
// clients are asked.
func needs(method string, params json.RawMessage) (k questions, name string, ok bool) {
	switch method {
	case "roots/list":
		return askRoots, "roots", true
	case "elicitation/create":
		if mode, _ := wire.GetString(params, "mode"); mode == "url" {
			return askURL, "elicitation.url", true
		}
		return askForm, "elicitation.form", true
	case "sampling/createMessage":
		if wire.Get(params, "tools") != nil || wire.Get(params, "toolChoice") != nil {
			return askSampling | askSamplingTools, "sampling.tools", true
		}
		return askSampling, "sampling", true
	}
	return 0, "", false
}

// allowedBy returns what an administrator lets a server ask clients for.
func allowedBy(f downstream.Forbid) questions {
	k := askAnything
	if f.Roots {
		k &^= askRoots
	}
	if f.Elicitation {
		k &^= askForm | askURL
	}
	if f.Sampling {
		k &^= askSampling | askSamplingTools | askSamplingContext
	}
	return k
}

// mayAsk says why a server may not ask a client that declared has, or returns nil. The error is for the server.
func (tg *target) mayAsk(has questions, method string, params json.RawMessage) error {
	k, name, ok := needs(method, params)
	switch {
	case !ok:
		return wire.Errorf(wire.CodeMethodNotFound, "mcpgw: clients cannot be asked %s", shortMethod(method))
	case tg != nil && k&^tg.allowed() != 0:
		key, _, _ := strings.Cut(name, ".")
		return wire.Errorf(wire.CodeMethodNotFound, "mcpgw: the administrator forbids this server to ask clients for %s (downstreams.%s.forbid.%s)", key, tg.name, key)
	case k&^has != 0:
		return wire.Errorf(wire.CodeMethodNotFound, "mcpgw: the client did not declare that it answers %s (capability %s)", method, name)
	}
	return nil
}

// allowed is what the administrator lets the server ask for.
func (tg *target) allowed() questions { return allowedBy(tg.server.Config().Forbid) }

func shortMethod(m string) string {
	if len(m) > 80 {
		m = m[:80] + "…"
	}
	return m
}

// metaServer names, in the _meta of what a server asks through /mcp, the server that asks.
const metaServer = "dev.mcpgw/server"

// asked returns a server's question as the client is to see it. On /mcp it says which server asks: a person must not take one server's
// question for another's, whatever its text pretends. Context that the client has not agreed to is not asked for.
func (t *table) asked(tg *target, has questions, method string, params json.RawMessage) json.RawMessage {
	if method == "sampling/createMessage" && has&askSamplingContext == 0 {
		if in, ok := wire.GetString(params, "includeContext"); ok && in != "none" {
			params = wire.Set(params, "includeContext", nil)
		}
	}
	if t.single != nil || tg == nil {
		return params
	}
	edits := []wire.Member{{Key: "_meta", Value: wire.Set(wire.Get(params, "_meta"), metaServer, wire.Quote(tg.name))}}
	if method == "elicitation/create" {
		message, _ := wire.GetString(params, "message")
		edits = append(edits, wire.Member{Key: "message", Value: wire.Quote("[" + tg.name + "] " + message)})
	}
	return wire.Edit(params, edits...)
}

// askable3 are the capabilities of clients that stand for questions.
var askable3 = [...]struct {
	name string
	kind questions
}{{"roots", askRoots}, {"sampling", askSampling}, {"elicitation", askForm}}

// bridgeable keeps of a client's capabilities those that the gateway carries between client and this server.
func (tg *target) bridgeable(caps json.RawMessage, ext extensionPolicy) json.RawMessage {
	allowed := tg.allowed()
	var keep []wire.Member
	for _, c := range askable3 {
		if v := wire.Get(caps, c.name); v != nil && allowed&c.kind != 0 {
			keep = append(keep, wire.Member{Key: c.name, Value: v})
		}
	}
	if v := wire.Get(ext.filter(caps), "extensions"); v != nil {
		keep = append(keep, wire.Member{Key: "extensions", Value: v})
	}
	return wire.Edit(nil, keep...)
}
