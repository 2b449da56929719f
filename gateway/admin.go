package gateway

import (
	"encoding/json"
	"errors"
	"net/http"
)

// AdminHandler serves /healthz, /readyz, /status, POST /-/reload, POST /-/circuit and /-/lab.
func (g *Gateway) AdminHandler() http.Handler { return http.HandlerFunc(g.serveAdmin) }

func (g *Gateway) serveAdmin(w http.ResponseWriter, req *http.Request) {
	cfg := &g.settings.Load().Gateway
	// The same checks as for MCP: a web page must not be able to reload, and who needs a token there needs one here. Only the two
	// probes, which say nothing about anybody, are open to whoever may name the host.
	if _, password, ok := req.BasicAuth(); ok { // a browser cannot send a bearer token by itself
		req = req.Clone(req.Context())
		req.Header.Set("Authorization", "Bearer "+password)
	}
	principal, no := g.admit(req, cfg)
	probe := req.URL.Path == "/healthz" || req.URL.Path == "/readyz"
	if no != nil && !(probe && no.status == http.StatusUnauthorized) {
		if no.status == http.StatusUnauthorized {
			challenge := `Bearer realm="mcpgw"`
			if wantsPage(req) {
				challenge = `Basic realm="mcpgw: any user name, a token of gateway.tokens as password", charset="UTF-8"`
			}
			w.Header().Set("WWW-Authenticate", challenge)
		}
		http.Error(w, no.msg, no.status)
		return
	}
	switch req.URL.Path {
	case "/healthz":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n")) // a client that is gone needs no answer
	case "/readyz":
		if g.isDraining() {
			http.Error(w, "shutting down", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ready\n")) // a client that is gone needs no answer
	case "/status":
		w.Header().Set("Vary", "Accept")
		if wantsPage(req) {
			g.servePage(w)
			return
		}
		st := g.Status()
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(&st) // a client that is gone needs no answer
	case "/metrics":
		if t := g.opts.Telemetry; t != nil && t.Scrape != nil {
			t.Scrape.ServeHTTP(w, req)
			return
		}
		http.Error(w, "not served: telemetry.metrics.prometheus is not true", http.StatusNotFound)
	case "/status/events":
		g.servePageEvents(w, req)
	case "/-/circuit":
		g.serveControl(w, req, principal)
	case "/-/lab":
		g.serveLab(w, req)
	case "/-/reload":
		g.serveReload(w, req)
	default:
		http.Error(w, "not found: the MCP endpoint is /mcp", http.StatusNotFound)
	}
}

// serveReload reads the configuration again and says what was wrong with it, if it was.
func (g *Gateway) serveReload(w http.ResponseWriter, req *http.Request) {
	switch {
	case g.opts.Reload == nil:
		http.Error(w, "this gateway has no configuration file to reload", http.StatusNotFound)
	case req.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "use POST", http.StatusMethodNotAllowed)
	default:
		if err := g.opts.Reload(req.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("reloaded\n")) // a client that is gone needs no answer
	}
}

// serveControl changes a circuit by hand: {"name": "...", "action": "..."}. It answers with what has become of it.
func (g *Gateway) serveControl(w http.ResponseWriter, req *http.Request, principal string) {
	switch {
	case !g.settings.Load().Gateway.AdminTools:
		http.Error(w, "circuits cannot be changed by hand here: gateway.admin_tools is not true", http.StatusForbidden)
		return
	case req.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "use POST", http.StatusMethodNotAllowed)
		return
	}
	const most = 4 << 10
	var order struct{ Name, Action string }
	dec := json.NewDecoder(http.MaxBytesReader(w, req.Body, most))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&order); err != nil {
		http.Error(w, `expected {"name": "...", "action": "..."}: `+err.Error(), http.StatusBadRequest)
		return
	}
	c, err := g.Control(order.Name, order.Action, principal)
	switch {
	case errors.Is(err, ErrNoCircuit):
		http.Error(w, err.Error(), http.StatusNotFound)
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(&c) // a client that is gone needs no answer
	}
}
