package random

import (
	"slices"
	"strconv"
)

// The members of _meta that describe a hop: each hop writes its own.
const (
	metaVersion = "io.modelcontextprotocol/protocolVersion"
	metaClient  = "io.modelcontextprotocol/clientInfo"
	metaCaps    = "io.modelcontextprotocol/clientCapabilities"
	metaLevel   = "io.modelcontextprotocol/logLevel"
)

// message is a request, and what the server answers.
type message struct {
	method  string
	id      string
	members []pair // of params besides _meta, values with the spaces around them
	rename  string // the member that names what is meant: name, uri or ref; "" for none
	kind    int    // of list that it is in
	own     string // its name there
	hasMeta bool   // besides what the revision wants
	meta    []pair
	metaAt  int    // where _meta stands among the members
	first   bool   // what the revision wants stands first in _meta
	caps    string // of a newer client
	level   string // log level that a newer client wants; "" for none
	reply   reply
}

func (m *message) token() bool {
	for _, p := range m.meta {
		if p.key == "progressToken" {
			return true
		}
	}
	return false
}

// params spells the params for a client of one era. Exposed is what the client calls what is meant.
func (m *message) params(modern bool, exposed string) string {
	var ps []pair
	for i := 0; i <= len(m.members); i++ {
		if i == m.metaAt && (m.hasMeta || modern) {
			ps = append(ps, pair{"_meta", m.metaText(modern)})
		}
		if i == len(m.members) {
			break
		}
		p := m.members[i]
		if p.key == m.rename && exposed != m.own {
			if p.key == "ref" {
				t, err := parse(p.value)
				if err != nil {
					panic(err) // the maker is wrong
				}
				for _, key := range []string{"name", "uri"} {
					if t.get(key) != nil {
						t.set(key, quoted(exposed))
					}
				}
				p.value = t.String()
			} else {
				p.value = quoted(exposed)
			}
		}
		ps = append(ps, p)
	}
	return join(ps, nil)
}

func (m *message) metaText(modern bool) string {
	own := m.meta
	if !modern {
		return join(own, nil)
	}
	hop := []pair{{metaVersion, `"2026-07-28"`}, {metaCaps, m.caps}, {metaClient, `{"name":"random","version":"1"}`}}
	if m.level != "" {
		hop = append(hop, pair{metaLevel, m.level})
	}
	if m.first {
		return join(append(hop, own...), nil)
	}
	return join(append(slices.Clip(own), hop...), nil)
}

// ids and tokens of requests.
func (r *maker) id() string {
	if r.chance(60) {
		return strconv.Itoa(r.IntN(1000))
	}
	return pick(r, `"a"`, `""`, `"1"`, `"caf\u00e9"`, `"\/"`, "0", "-1", "9007199254740993", "18446744073709551615", `"日本 \ud83d\ude00"`, `"`+strconv.Itoa(r.IntN(1000))+`"`)
}

// request makes a request with its own members and those that every request has.
func (r *maker) request(method string, fields ...field) *message {
	m := &message{method: method, id: r.id(), first: r.chance(50), hasMeta: r.chance(50), level: pick(r, "", "", `"debug"`, `"info"`, `"error"`)}
	m.caps = r.obj(must("elicitation", text(`{"form":{}}`)), must("sampling", text(`{}`)), must("roots", text(`{}`)), may("experimental", func(r *maker) string { return r.mapOf((*maker).loose) }))
	if m.hasMeta {
		m.meta = r.pairs(true, may("vendor.example/kept", (*maker).value), may("progressToken", (*maker).id))
	}
	m.members = r.pairs(true, fields...)
	for i := range m.members {
		m.members[i].value = r.space() + m.members[i].value + r.space()
	}
	m.metaAt = r.IntN(len(m.members) + 1)
	return m
}

// answered gives the request an answer of the server.
func (r *maker) answered(m *message, result func() string) *message {
	a := reply{stream: r.chance(30), reversed: r.chance(20)}
	if r.chance(8) {
		a.failure = r.rpcError()
	} else {
		a.result = r.space() + result() + r.space()
	}
	if r.chance(20) {
		a.notes = r.notes()
	}
	m.reply = a
	return m
}

// notes is what a server says in the middle of a call.
func (r *maker) notes() (ns [][2]string) {
	done := 0
	for range 1 + r.IntN(3) {
		if r.chance(50) {
			ns = append(ns, [2]string{"notifications/message", r.obj(must("level", func(r *maker) string { return pick(r, `"debug"`, `"info"`, `"error"`, `"emergency"`) }),
				may("logger", (*maker).str), must("data", (*maker).value), may("_meta", (*maker).meta))})
			continue
		}
		done += 1 + r.IntN(5)
		ns = append(ns, [2]string{"notifications/progress", r.obj(must("progressToken", text(tokenMark)),
			must("progress", text(strconv.Itoa(done)+pick(r, "", ".0", ".50", "e0"))), may("total", (*maker).number), may("message", (*maker).str), may("_meta", (*maker).meta))})
	}
	return ns
}

func (r *maker) call(name string) *message {
	m := r.request("tools/call", must("name", text(quoted(name))), field{"arguments", func(r *maker) string { return r.object(r.IntN(6)) }, 85})
	m.rename, m.kind, m.own = "name", tools, name
	return r.answered(m, r.callResult)
}

func (r *maker) getPrompt(name string) *message {
	m := r.request("prompts/get", must("name", text(quoted(name))), field{"arguments", func(r *maker) string { return r.mapOf((*maker).str) }, 70})
	m.rename, m.kind, m.own = "name", prompts, name
	return r.answered(m, r.promptResult)
}

func (r *maker) read(uri string) *message {
	m := r.request("resources/read", must("uri", text(quoted(uri))))
	m.rename, m.kind, m.own = "uri", resources, uri
	return r.answered(m, func() string { return r.readResult(quoted(uri)) })
}

func (r *maker) complete(kind int, name string) *message {
	m := r.request("completion/complete", must("ref", func(r *maker) string {
		if kind == prompts {
			return r.obj(must("type", text(`"ref/prompt"`)), must("name", text(quoted(name))), may("title", (*maker).str))
		}
		return r.obj(must("type", text(`"ref/resource"`)), must("uri", text(quoted(name))))
	}), must("argument", func(r *maker) string { return r.obj(must("name", (*maker).str), must("value", (*maker).str)) }),
		may("context", func(r *maker) string {
			return r.obj(may("arguments", func(r *maker) string { return r.mapOf((*maker).str) }))
		}))
	m.rename, m.kind, m.own = "ref", kind, name
	return r.answered(m, r.completeResult)
}

// vendor is a request that the specification does not have, and does not forbid.
func (r *maker) vendor() *message {
	return r.answered(r.request(pick(r, "vendor/do", "x", "vendor.example/a-b_c", "tools/unheard-of"), may("a", (*maker).value)), func() string { return r.result(may("b", (*maker).value)) })
}

// asksFirst makes a newer server ask in its result. It returns the request, and what the client sends when it comes back: the state is the
// one that it got.
func (r *maker) asksFirst(m *message) (again func(state string) *message, state string) {
	state = pick(r, "", `"state"`, `"\u0000 caf\u00e9"`, `""`, r.str())
	requests, responses := "", ""
	if state == "" || r.chance(80) {
		var qs, as []pair
		for i := range 1 + r.IntN(2) {
			q, key := r.question(), r.key()+strconv.Itoa(i)
			qs = append(qs, pair{key, r.obj(must("method", text(quoted(q.method))), must("params", text(q.params)))})
			as = append(as, pair{key, q.answer})
		}
		requests, responses = join(qs, r), join(as, r)
	}
	fields := []field{must("resultType", text(`"input_required"`)), may("_meta", (*maker).resultMeta)}
	if requests != "" {
		fields = append(fields, must("inputRequests", text(requests)))
	}
	if state != "" {
		fields = append(fields, must("requestState", text(state)))
	}
	final := m.reply
	m.reply = reply{result: r.obj(fields...)}
	return func(sealed string) *message {
		next := *m
		next.reply = final
		next.members = append([]pair(nil), m.members...)
		if responses != "" {
			next.members = append(next.members, pair{"inputResponses", responses})
		}
		if sealed != "" {
			next.members = append(next.members, pair{"requestState", sealed})
		}
		return &next
	}, state
}
