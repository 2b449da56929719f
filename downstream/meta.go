package downstream

import (
	"bytes"
	"encoding/json"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// reserved are the members of _meta that each hop writes anew: what a client says in them is meant for the gateway, not for the
// server behind it.
var reserved = [...]string{
	MetaProtocolVersion, MetaClientInfo, MetaClientCapabilities, MetaLogLevel, MetaServerInfo, MetaSubscriptionID,
}

// outgoing returns c's params as the server p is to see them, and the client's own progress token as it was written, or nil if it
// sent none. The params of c are not changed; where nothing has to change they are returned as they are.
//
// Towards a modern server the reserved members of _meta become the link's: its revision, the gateway's clientInfo, and as
// clientCapabilities what a modern client declared with this request, a legacy client with its session, and o's for the gateway's own
// requests. A modern client's logLevel stays, a legacy client's is the call's. Towards a legacy server the reserved members are left out, and so is a _meta that
// held nothing else. If token is not nil it takes the place of the client's progress token. Everything else is copied byte for
// byte.
func outgoing(c *Call, p *peer, o *opening, token json.RawMessage) (params, clientToken json.RawMessage) {
	r := planRewrite(c, p, o, token)
	if !r.changed {
		return c.Params, r.clientToken
	}
	return r.appendTo(make([]byte, 0, r.size())), r.clientToken
}

// outgoingRequest returns the whole request of a call, with the params of [outgoing]. It has room for one more byte.
func outgoingRequest(id json.RawMessage, c *Call, p *peer, o *opening, token json.RawMessage) (msg []byte, clientToken json.RawMessage) {
	r := planRewrite(c, p, o, token)
	msg = wire.AppendRequest(make([]byte, 0, len(id)+len(c.Method)+r.size()+64), id, c.Method, nil)
	if r.changed || c.Params != nil {
		msg = append(msg[:len(msg)-1], `,"params":`...) // in front of the last brace
		msg = append(r.appendTo(msg), '}')
	}
	return msg, r.clientToken
}

// rewrite is what has to be done to the params of a call.
type rewrite struct {
	params      json.RawMessage
	changed     bool
	meta        json.RawMessage // the new _meta; nil for none
	from, to    int             // of the old _meta in params; 0 for none
	twice       bool            // params have more than one _meta
	empty       bool            // params have no members
	clientToken json.RawMessage
}

// planRewrite reads the params once.
func planRewrite(c *Call, p *peer, o *opening, token json.RawMessage) rewrite {
	r := rewrite{params: c.Params, empty: true}
	if r.params != nil && !wire.IsObject(r.params) {
		return r // not MCP: the server may say so
	}
	body := c.Body
	if body == nil {
		read := wire.Index(r.params)
		body = &read
	}
	body.MembersAt(func(k []byte, from, to int) bool {
		r.empty = false
		if keyIs(k, "_meta") {
			if r.to > 0 {
				r.twice = true
				return false
			}
			r.from, r.to = from, to
		}
		return true
	})
	r.meta, r.clientToken, r.changed = outgoingMeta(r.params[r.from:r.to:r.to], c, p, o, token)
	r.changed = r.changed || r.twice
	return r
}

// size is at least the length of what appendTo appends.
func (r *rewrite) size() int { return len(r.params) + len(r.meta) + len(`{"_meta":,}`) }

// appendTo appends the params as they are to be sent.
func (r *rewrite) appendTo(b []byte) []byte {
	switch {
	case !r.changed:
		return append(b, r.params...)
	case r.twice || r.meta == nil:
		return r.appendMembers(b)
	case r.to > 0:
		return append(append(append(b, r.params[:r.from]...), r.meta...), r.params[r.to:]...)
	case r.empty:
		return append(append(append(b, `{"_meta":`...), r.meta...), '}')
	}
	b = append(b, r.params[:bytes.LastIndexByte(r.params, '}')]...)
	return append(append(append(b, `,"_meta":`...), r.meta...), '}')
}

// appendMembers appends the params member by member, with the new _meta, if there is one, in the place of the first old one.
func (r *rewrite) appendMembers(b []byte) []byte {
	b = append(b, '{')
	done := r.meta == nil
	wire.Members(r.params, func(k []byte, v json.RawMessage) bool {
		if keyIs(k, "_meta") {
			if done {
				return true
			}
			v, done = r.meta, true
		}
		b = append(appendKey(b, k), v...)
		return true
	})
	return append(b, '}')
}

// withoutReserved returns a notification's params without the reserved members of _meta, which no notification carries to a server.
func withoutReserved(params json.RawMessage) json.RawMessage {
	params, _ = outgoing(&Call{Params: params}, &peer{Revision: Legacy}, nil, nil)
	return params
}

// outgoingMeta does what outgoing describes to the _meta member, which is nil where there is none. It returns nil if no _meta is
// to be sent.
func outgoingMeta(meta json.RawMessage, c *Call, p *peer, o *opening, token json.RawMessage) (out, clientToken json.RawMessage, changed bool) {
	var capabilities, level json.RawMessage
	ours, others := 0, 0
	wire.Members(meta, func(k []byte, v json.RawMessage) bool {
		switch reservedKey(k) {
		case "":
			others++
			if keyIs(k, "progressToken") && clientToken == nil && (v[0] == '"' || v[0] == '-' || v[0]-'0' <= 9) {
				clientToken = v
			}
			return true
		case MetaClientCapabilities:
			capabilities = v
		case MetaLogLevel:
			level = v
		}
		ours++
		return true
	})
	replace := token != nil && clientToken != nil
	// The modern revision has no ping; a server that answers it, such as a built-in one, does so outside of it.
	modern := p.modern() && c.Method != "ping"
	if !modern && ours == 0 && !replace {
		return meta, clientToken, false
	}
	if !modern && others == 0 {
		return nil, clientToken, true
	}
	switch {
	case c.Modern && !wire.IsObject(capabilities):
		capabilities = json.RawMessage("{}")
	case c.Client != nil && !c.Modern:
		capabilities = orNone(c.Client.Capabilities) // what it can be asked, the gateway asks it
	case !c.Modern:
		capabilities = o.capabilities
	}
	if !c.Modern {
		level = c.LogLevel
	}
	b := append(make([]byte, 0, len(meta)+len(o.info)+len(capabilities)+256), '{')
	if modern {
		b = appendTriple(b, p.Revision, o.info, capabilities)
		if level != nil {
			b = append(appendKey(b, MetaLogLevel), level...)
		}
	}
	wire.Members(meta, func(k []byte, v json.RawMessage) bool {
		switch {
		case reservedKey(k) != "":
			return true
		case replace && keyIs(k, "progressToken"):
			v = token
		}
		b = append(appendKey(b, k), v...)
		return true
	})
	return append(b, '}'), clientToken, true
}

// appendTriple appends the members that a modern request must carry in its _meta.
func appendTriple(b []byte, revision string, info, capabilities json.RawMessage) []byte {
	b = wire.AppendString(appendKey(b, MetaProtocolVersion), revision)
	if info != nil {
		b = append(appendKey(b, MetaClientInfo), info...)
	}
	if capabilities == nil {
		capabilities = json.RawMessage("{}")
	}
	return append(appendKey(b, MetaClientCapabilities), capabilities...)
}

// appendKey appends a key as it stands in JSON, with the comma before it unless it is the first of its object.
func appendKey[K string | []byte](b []byte, key K) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	return append(append(append(b, '"'), key...), '"', ':')
}

// reservedKey returns which of the reserved members key is, or "".
func reservedKey(key []byte) string {
	for _, name := range reserved {
		if keyIs(key, name) {
			return name
		}
	}
	return ""
}

// keyIs reports whether a key as it stands in JSON means name. Escapes are looked through: a member that is reserved to us must
// not pass by being spelt differently.
func keyIs(key []byte, name string) bool {
	if string(key) == name {
		return true
	}
	if bytes.IndexByte(key, '\\') < 0 {
		return false
	}
	plain, ok := wire.String(append(append([]byte{'"'}, key...), '"'))
	return ok && plain == name
}

// withoutSubscription returns a notification's params without the subscription id that the server put into its _meta, which names
// a request of the link's own.
func withoutSubscription(params json.RawMessage) json.RawMessage {
	meta := wire.Get(params, "_meta")
	if wire.Get(meta, MetaSubscriptionID) == nil {
		return params
	}
	meta = wire.Set(meta, MetaSubscriptionID, nil)
	if len(meta) == len("{}") {
		meta = nil
	}
	return wire.Set(params, "_meta", meta)
}
