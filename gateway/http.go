package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
)

// Handler serves /mcp and /servers/NAME/mcp, and what AdminHandler serves unless the settings give that an address of its own.
func (g *Gateway) Handler() http.Handler { return http.HandlerFunc(g.serveHTTP) }

func (g *Gateway) serveHTTP(w http.ResponseWriter, req *http.Request) {
	cfg := &g.settings.Load().Gateway
	viewName, isMCP := endpoint(req.URL.Path)
	if !isMCP {
		if cfg.Admin.Listen != "" {
			http.NotFound(w, req)
			return
		}
		g.serveAdmin(w, req)
		return
	}
	principal, no := g.admit(req, cfg)
	if no != nil {
		if no.status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Bearer realm="mcpgw"`)
		}
		refuse(w, no.status, nil, wire.Errorf(wire.CodeInvalidRequest, "%s", no.msg))
		return
	}
	if allowPage(w, req) {
		return
	}
	t := g.tableFor(viewName)
	if t == nil {
		refuse(w, http.StatusNotFound, nil, wire.Errorf(wire.CodeInvalidRequest, "no downstream %q is configured", viewName))
		return
	}
	e := &exchange{g: g, w: w, req: req, cfg: cfg, table: t, viewName: viewName, principal: principal}
	switch req.Method {
	case http.MethodPost:
		e.post()
	case http.MethodGet:
		e.get()
	case http.MethodDelete:
		e.delete()
	default:
		w.Header().Set("Allow", "GET, POST, DELETE")
		refuse(w, http.StatusMethodNotAllowed, nil, wire.Errorf(wire.CodeInvalidRequest, "method %s is not allowed here", req.Method))
	}
}

// endpoint says which MCP endpoint a path is: "" is /mcp, else the name in /servers/NAME/mcp.
func endpoint(path string) (viewName string, ok bool) {
	if path == "/mcp" || path == "/mcp/" {
		return "", true
	}
	rest, ok := strings.CutPrefix(path, "/servers/")
	if !ok {
		return "", false
	}
	name, rest, _ := strings.Cut(rest, "/")
	return name, name != "" && (rest == "mcp" || rest == "mcp/")
}

// exchange is one HTTP request to an MCP endpoint.
type exchange struct {
	g         *Gateway
	w         http.ResponseWriter
	req       *http.Request
	cfg       *Config
	table     *table
	viewName  string
	principal string
}

// refuse answers with an HTTP status and a JSON-RPC error: clients of the SDK survive only a body that they can read.
func refuse(w http.ResponseWriter, status int, id json.RawMessage, e *wire.Error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(wire.AppendError(nil, id, e)) // a client that is gone needs no answer
}

func (e *exchange) refuse(status int, id json.RawMessage, err *wire.Error) {
	refuse(e.w, status, id, err)
}

const (
	hdrSession = "Mcp-Session-Id"
	hdrVersion = "Mcp-Protocol-Version"
)

// header returns the only value of a header with a canonical name; ok is false if it was sent more than once.
func (e *exchange) header(name string) (value string, ok bool) {
	v := e.req.Header[name]
	switch len(v) {
	case 0:
		return "", true
	case 1:
		return v[0], true
	}
	return "", false
}

// post takes one message (or, in revision 2025-03-26, a batch) from a client.
func (e *exchange) post() {
	if ct := e.req.Header["Content-Type"]; len(ct) != 1 || ct[0] != "application/json" {
		if typ, _, err := mime.ParseMediaType(strings.Join(ct, ",")); err != nil || typ != "application/json" {
			e.refuse(http.StatusUnsupportedMediaType, nil, wire.Errorf(wire.CodeInvalidRequest, "Content-Type must be application/json"))
			return
		}
	}
	body, err := e.body()
	if err != nil {
		if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
			e.refuse(http.StatusRequestEntityTooLarge, nil, wire.Errorf(wire.CodeInvalidRequest, "the request has more than %d bytes (gateway.limits.request_bytes)", tooLarge.Limit))
		} else {
			e.refuse(http.StatusBadRequest, nil, wire.Errorf(wire.CodeParse, "reading the request: %v", err))
		}
		return
	}
	m, err := wire.Parse(body, e.cfg.Limits.Depth)
	if errors.Is(err, wire.ErrBatch) && e.batchAllowed() {
		e.batch(body)
		return
	}
	if err != nil {
		code := int64(wire.CodeInvalidRequest)
		if _, ok := errors.AsType[*wire.SyntaxError](err); ok {
			code = wire.CodeParse
		}
		e.refuse(http.StatusBadRequest, m.ID, wire.Errorf(code, "%v", err))
		return
	}
	version, single := e.header(hdrVersion)
	if !single {
		e.refuse(http.StatusBadRequest, m.ID, wire.Errorf(wire.CodeHeaderMismatch, "the header MCP-Protocol-Version was sent more than once"))
		return
	}
	if version >= downstream.Modern || wire.Get(m.Body.Get("_meta"), metaProtocolVersion) != nil {
		e.modern(&m, version)
		return
	}
	e.legacy(&m, version)
}

// body reads the request's body within the limit.
func (e *exchange) body() ([]byte, error) {
	limit := e.cfg.Limits.RequestBytes
	n := e.req.ContentLength
	if n > limit {
		return nil, &http.MaxBytesError{Limit: limit}
	}
	if n > 0 {
		b := make([]byte, n)
		_, err := io.ReadFull(e.req.Body, b)
		return b, err
	}
	return io.ReadAll(http.MaxBytesReader(e.w, e.req.Body, limit))
}

// answerTo answers one request of a client on this exchange.
func (e *exchange) answerTo(ctx context.Context, r *request, st *httpStream) {
	a, err := e.g.serve(ctx, r)
	if err != nil {
		st.fail(r, asWire(err))
		return
	}
	st.finish(r.id, &a)
}

// admitWork counts a request in, or refuses it because the gateway is ending or full. Each success is followed by one Leave.
func (e *exchange) admitWork(id json.RawMessage) bool {
	switch err := e.g.work.Enter(e.cfg.Limits.InFlight); {
	case err == nil:
		return true
	case errors.Is(err, downstream.ErrGateFull):
		e.w.Header().Set("Retry-After", "1")
		e.refuse(http.StatusTooManyRequests, id, wire.Errorf(wire.CodeOverloaded, "the gateway is answering %d requests already (gateway.limits.in_flight), this one was not executed", e.cfg.Limits.InFlight))
	default:
		e.w.Header().Set("Connection", "close")
		e.w.Header().Set("Retry-After", "1")
		e.refuse(http.StatusServiceUnavailable, id, wire.Errorf(wire.CodeUnavailable, "the gateway is shutting down, the request was not executed"))
	}
	return false
}
