package gateway

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"time"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// state is what the gateway puts into requestState: a server's own state, or the way back to a call that waits in the gateway
// (specification 2026-07-28, basic/patterns/mrtr).
type state struct {
	kind    stateKind
	round   int             // how often the client has been asked by now
	expires time.Time       // to the second
	inner   json.RawMessage // the server's requestState; nil for none
	call    string          // id of a parked call
}

type stateKind byte

const (
	ofServer stateKind = 's' // the server asked in its result, the request goes to it again with inner
	ofParked stateKind = 'p' // the call waits in the gateway for the answers
	ofURL    stateKind = 'u' // an older server wants a page to be visited first (error -32042), the request goes to it again as it was
)

// bound is what a requestState belongs to, so that it is of no use for anything else: who asked, which server, for what.
func bound(r *request, to *route, params *wire.Object) string {
	return "requestState\x00" + r.principal + "\x00" + to.target.name + "\x00" + r.method + "\x00" + to.own + "\x00" + digest(params)
}

// digest is the same for requests that differ only in what a client changes when it comes back with answers, and in how the JSON is
// spelt.
func digest(params *wire.Object) string {
	rest := params.Edit(wire.Member{Key: "_meta"}, wire.Member{Key: "inputResponses"}, wire.Member{Key: "requestState"})
	dec := json.NewDecoder(bytes.NewReader(rest.Raw))
	dec.UseNumber()
	var v any
	plain := []byte(rest.Raw)
	if dec.Decode(&v) == nil {
		if sorted, err := json.Marshal(v); err == nil {
			plain = sorted
		}
	}
	sum := sha256.Sum256(plain)
	return string(sum[:])
}

// sealState returns the requestState for a client.
func (g *Gateway) sealState(s *state, purpose string) json.RawMessage {
	b := append(make([]byte, 0, 16+len(s.inner)+len(s.call)), byte(s.kind))
	b = binary.BigEndian.AppendUint64(b, uint64(s.expires.Unix())) //nolint:gosec // after 1970
	b = binary.BigEndian.AppendUint16(b, uint16(s.round))          //nolint:gosec // bounded by limits.input_rounds
	if s.kind == ofParked {
		b = append(b, s.call...)
	} else {
		b = append(b, s.inner...)
	}
	return wire.Quote(g.seals.Load().seal(b, purpose))
}

const stateHead = 1 + 8 + 2

var errState = wire.Errorf(wire.CodeInvalidParams, "requestState is not one that this gateway gave for this request and still takes: it was changed, has expired, or belongs to "+
	"another user, another server or other arguments. The server was not asked. Send the request again without requestState and inputResponses to start over.")

// openState reads the requestState that a client sent.
func (g *Gateway) openState(raw json.RawMessage, purpose string) (*state, error) {
	text, ok := wire.String(raw)
	if !ok {
		return nil, errState
	}
	b, err := g.seals.Load().open(text, purpose)
	if err != nil || len(b) < stateHead {
		return nil, errState
	}
	s := &state{
		kind:    stateKind(b[0]),
		expires: time.Unix(int64(binary.BigEndian.Uint64(b[1:])), 0), //nolint:gosec // what sealState wrote
		round:   int(binary.BigEndian.Uint16(b[9:])),
	}
	if time.Now().After(s.expires) {
		return nil, errState
	}
	if rest := b[stateHead:]; s.kind == ofParked {
		s.call = string(rest)
	} else if len(rest) > 0 {
		s.inner = rest
	}
	return s, nil
}
