package gateway

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
)

// modern takes a message of revision 2026-07-28: everything about it is in the message, there is no session.
func (e *exchange) modern(m *wire.Message, version string) {
	switch {
	case m.IsResponse():
		e.refuse(http.StatusBadRequest, nil, wire.Errorf(wire.CodeInvalidRequest, "clients of revision %s send no responses", downstream.Modern))
		return
	case m.IsNotification():
		// Revision 2026-07-28 has none that a server could use over HTTP: closing the stream cancels.
		e.w.WriteHeader(http.StatusAccepted)
		return
	}
	if no := checkModern(m, version, e.req.Header); no != nil {
		e.refuse(http.StatusBadRequest, m.ID, no)
		return
	}
	if !e.admitWork(m.ID) {
		return
	}
	r := &request{method: m.Method, id: m.ID, params: m.Body, modern: true, table: e.table, principal: e.principal, header: paramHeaders(e.req.Header), trace: traceOf(e.req.Header)}
	if m.Method == "subscriptions/listen" {
		e.g.work.Leave() // a stream that waits for news is not work that a shutdown waits for
		e.listen(r)
		return
	}
	defer e.g.work.Leave()
	// The end of the stream is the cancellation of the call (specification 2026-07-28, basic/utilities/cancellation).
	ctx, cancel := context.WithCancelCause(e.req.Context())
	defer cancel(nil)
	st := newHTTPStream(e, r, cancel)
	defer st.close()
	r.stream = st
	e.answerTo(ctx, r, st)
}

// checkModern checks what every modern request must carry, in its _meta and mirrored in its headers (specification 2026-07-28,
// basic/transports/streamable-http).
func checkModern(m *wire.Message, version string, h http.Header) *wire.Error {
	meta := m.Body.Get("_meta")
	inBody, ok := wire.GetString(meta, metaProtocolVersion)
	switch {
	case version == "":
		return wire.Errorf(wire.CodeHeaderMismatch, "the header MCP-Protocol-Version is missing")
	case !ok:
		return wire.Errorf(wire.CodeInvalidParams, "params._meta[%q] is missing", metaProtocolVersion)
	case inBody != version:
		return wire.Errorf(wire.CodeHeaderMismatch, "the header MCP-Protocol-Version says %q, params._meta says %q", version, inBody)
	case version != downstream.Modern:
		e := wire.Errorf(wire.CodeUnsupportedProtocol, "unsupported protocol version")
		e.Data = wire.Edit(nil, wire.Member{Key: "supported", Value: []byte(`["` + downstream.Modern + `"]`)}, wire.Member{Key: "requested", Value: wire.Quote(version)})
		return e
	case !wire.IsObject(wire.Get(meta, metaClientCapabilities)):
		return wire.Errorf(wire.CodeInvalidParams, "params._meta[%q] must be an object", metaClientCapabilities)
	}
	if no := mirrors(h, "Mcp-Method", m.Method); no != nil {
		return no
	}
	switch m.Method {
	case "tools/call", "prompts/get":
		name, _ := m.Body.GetString("name")
		return mirrors(h, "Mcp-Name", name)
	case "tasks/get", "tasks/update", "tasks/cancel":
		id, _ := m.Body.GetString("taskId")
		return mirrors(h, "Mcp-Name", id)
	case "resources/read":
		uri, _ := m.Body.GetString("uri")
		return mirrors(h, "Mcp-Name", uri)
	}
	return nil
}

// mirrors checks that a header says what the body says.
func mirrors(h http.Header, name, want string) *wire.Error {
	values := h[name]
	switch {
	case len(values) == 0:
		return wire.Errorf(wire.CodeHeaderMismatch, "the header %s is missing", name)
	case len(values) > 1:
		return wire.Errorf(wire.CodeHeaderMismatch, "the header %s was sent more than once", name)
	}
	got, err := decodeHeader(values[0])
	if err != nil {
		return wire.Errorf(wire.CodeHeaderMismatch, "the header %s is not readable: %v", name, err)
	}
	if got != want {
		return wire.Errorf(wire.CodeHeaderMismatch, "the header %s says %q, the request says %q", name, got, want)
	}
	return nil
}

// decodeHeader reads a mirrored value: as it stands, or in the Base64 form for values that a header cannot hold.
func decodeHeader(v string) (string, error) {
	rest, ok := strings.CutPrefix(v, "=?base64?")
	if !ok {
		return v, nil
	}
	rest, ok = strings.CutSuffix(rest, "?=")
	if !ok {
		return v, nil
	}
	b, err := base64.StdEncoding.DecodeString(rest)
	if err != nil {
		return "", errors.New("its Base64 form is broken")
	}
	return string(b), nil
}

// paramHeaders returns the Mcp-Param-* headers, which are for the server that owns the tool. It is never nil: a modern client over HTTP
// could have sent some.
func paramHeaders(h http.Header) http.Header {
	out := noHeaders
	for name, v := range h {
		if strings.HasPrefix(name, "Mcp-Param-") {
			if len(out) == 0 {
				out = http.Header{}
			}
			out[name] = v
		}
	}
	return out
}

var noHeaders = http.Header{}

// listen serves a subscriptions/listen stream until the client closes it, or the gateway ends.
func (e *exchange) listen(r *request) {
	if err := checkParams(&r.params); err != nil {
		e.refuse(http.StatusBadRequest, r.id, asWire(err))
		return
	}
	l, end, err := e.g.listen(r, e.viewName)
	if errors.Is(err, errTooManyStreams) {
		e.w.Header().Set("Retry-After", "30")
		e.refuse(http.StatusTooManyRequests, r.id, wire.Errorf(wire.CodeOverloaded, "%d streams are open already (gateway.limits.streams)", e.cfg.Limits.Streams))
		return
	}
	if err != nil {
		e.refuse(http.StatusBadRequest, r.id, asWire(err))
		return
	}
	defer end()
	out := newSSE(e.w, e.cfg)
	e.pump(out, l.box, l.ended)
	if out.err == nil && e.req.Context().Err() == nil {
		// The end in good order: the completion of the listen request.
		result := []byte(`{"resultType":"complete","_meta":{"` + metaSubscriptionID + `":` + string(r.id) + `}}`)
		_ = out.event(wire.AppendResult(nil, r.id, result)) // the stream ends either way
	}
}
