package gateway

import (
	"encoding/json"
	"net/http"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
)

// The reserved members of _meta.
const (
	metaProtocolVersion    = downstream.MetaProtocolVersion
	metaClientCapabilities = downstream.MetaClientCapabilities
	metaLogLevel           = downstream.MetaLogLevel
	metaSubscriptionID     = downstream.MetaSubscriptionID
)

// request is one request of a client, the same whatever transport and revision it came over.
type request struct {
	method    string
	id        json.RawMessage
	params    wire.Object
	modern    bool
	table     *table
	sess      *session // nil for a modern client
	principal string
	header    http.Header // Mcp-Param-* headers; nil if the client cannot send any
	stream    downstream.Stream
	trace     http.Header // of the HTTP request: traceparent, tracestate, baggage; nil for none
	seen      seen        // what telemetry wants to know

	rescued    int     // how many fallbacks to other downstreams it is in
	answeredBy *target // the downstream that stood in for the one that was called; nil for none
}

// caller names the client for what depends on the session, such as a rollout to a share of them.
func (r *request) caller() string {
	if r.sess != nil {
		return r.sess.id
	}
	return r.principal
}

// meta returns the _meta of the request's params; nil for none.
func (r *request) meta() json.RawMessage { return r.params.Get("_meta") }

// answer is the result of a request in up to three parts, so that a long list need not be copied to be sent.
type answer [3][]byte

func whole(result json.RawMessage) answer { return answer{result} }

func (a *answer) len() int { return len(a[0]) + len(a[1]) + len(a[2]) }

func (a *answer) bytes() []byte {
	if a[1] == nil {
		return a[0]
	}
	b := make([]byte, 0, a.len())
	return append(append(append(b, a[0]...), a[1]...), a[2]...)
}

// checkParams refuses params that the gateway and a server could read differently.
func checkParams(params *wire.Object) error {
	if params.Raw == nil {
		return nil
	}
	if !wire.IsObject(params.Raw) {
		return errInvalid("params must be an object")
	}
	if err := params.CheckKeys("name", "uri", "arguments", "_meta", "cursor", "ref"); err != nil {
		return errInvalid("params: %v", err)
	}
	meta := params.Get("_meta")
	if meta == nil {
		return nil
	}
	if !wire.IsObject(meta) {
		return errInvalid("params._meta must be an object")
	}
	if err := wire.CheckKeys(meta, "progressToken", metaProtocolVersion, metaClientCapabilities, metaLogLevel); err != nil {
		return errInvalid("params._meta: %v", err)
	}
	if token := wire.Get(meta, "progressToken"); token != nil && token[0] != '"' && token[0] != '-' && (token[0] < '0' || token[0] > '9') {
		return errInvalid("params._meta.progressToken must be a string or a number")
	}
	return nil
}
