// Package sim simulates a TrueNAS that is spoken to by JSON-RPC 2.0 over a WebSocket at /api/current: its methods, query filters, errors, and
// jobs that take their time. Nothing outside its memory is touched.
package sim

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/mcpgw/mcpgw/downstream/builtin/lab"
)

// Options say how large and how old the simulated NAS is. The zero value is a small homelab on a recent release.
type Options struct {
	Snapshots int           // besides the usual ones
	Datasets  int           // besides the usual ones
	Job       time.Duration // how long a job takes; 0 means two seconds
	Key       string        // the API key that is accepted; "" means lab.Credential
	Username  string        // whose key it is; "" means lab.Credential
	Release   string        // "25.10" (the default), "25.04" (with SMART results, other names of methods), "24.04" (no auth.login_ex)
}

// New returns a simulator of a small homelab's NAS.
func New() http.Handler { return NewWith(Options{}) }

// NAS is a simulated TrueNAS.
type NAS struct {
	opts  Options
	begun time.Time

	mu      sync.Mutex
	tables  map[string][]object      // by the method that queries them; guarded by mu
	jobs    []*job                   // guarded by mu
	asked   map[string]int           // calls by method; guarded by mu
	revoked bool                     // guarded by mu
	sockets map[*websocket.Conn]bool // guarded by mu
}

type object = map[string]any

// NewWith returns a simulator of the kind that opts describe.
func NewWith(opts Options) *NAS {
	if opts.Job <= 0 {
		opts.Job = 2 * time.Second
	}
	if opts.Key == "" {
		opts.Key = lab.Credential
	}
	if opts.Username == "" {
		opts.Username = lab.Credential
	}
	if opts.Release == "" {
		opts.Release = "25.10"
	}
	n := &NAS{opts: opts, begun: time.Now(), asked: map[string]int{}, sockets: map[*websocket.Conn]bool{}}
	n.tables = estate(opts)
	return n
}

// Asked returns how often a method was called.
func (n *NAS) Asked(method string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked[method]
}

// Revoke makes the API key invalid, for those who are logged in as well.
func (n *NAS) Revoke() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.revoked = true
}

// Drop ends all connections as a reboot does: without a word.
func (n *NAS) Drop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for ws := range n.sockets {
		go func() { _ = ws.CloseNow() }()
	}
}

// Close ends all connections.
func (n *NAS) Close() { n.Drop() }

// Fault lets the connection begin where the fault is one of the calls on it.
func (n *NAS) Fault(w http.ResponseWriter, r *http.Request, fault string) bool {
	switch fault {
	case lab.Fault500, lab.Fault429, lab.FaultGarbage, lab.FaultUnauthorized:
		n.ServeHTTP(w, r)
		return true
	}
	return false
}

// ServeHTTP implements http.Handler.
func (n *NAS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/api/current" && r.URL.Path != "/api/v"+n.opts.Release {
		http.NotFound(w, r)
		return
	}
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	ws.SetReadLimit(1 << 20)
	ctx, cancel := context.WithCancel(r.Context())
	c := &client{nas: n, ws: ws}
	n.mu.Lock()
	n.sockets[ws] = true
	n.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { watch(ctx, ws) })
	c.serve(ctx)
	cancel()
	_ = ws.CloseNow()
	wg.Wait()
	n.mu.Lock()
	delete(n.sockets, ws)
	n.mu.Unlock()
}

// watch ends the connection when the system is down: the lab closes the door, but who is inside stays.
func watch(ctx context.Context, ws *websocket.Conn) {
	for {
		fault, changed := lab.Current(ctx)
		var later <-chan time.Time
		switch fault.Name {
		case lab.FaultRefuse, lab.Fault503:
			_ = ws.CloseNow()
			return
		case lab.FaultFlap:
			t := time.NewTimer(fault.Delay)
			defer t.Stop()
			later = t.C
		}
		select {
		case <-changed:
		case <-later:
			_ = ws.CloseNow()
			return
		case <-ctx.Done():
			return
		}
	}
}

// client is one connection.
type client struct {
	nas      *NAS
	ws       *websocket.Conn
	loggedIn atomic.Bool
	under    atomic.Int32
}

type request struct {
	Version string `json:"jsonrpc"`
	ID      any    `json:"id"`
	Method  string `json:"method"`
	Params  []any  `json:"params"`
}

func (c *client) serve(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		_, raw, err := c.ws.Read(ctx)
		if err != nil {
			return
		}
		fault, changed := lab.Current(ctx)
		if fault.Name == lab.FaultHang { // nothing is read any more, pings neither
			select {
			case <-changed:
			case <-ctx.Done():
			}
			return
		}
		var req request
		if err := json.Unmarshal(raw, &req); err != nil || req.Version != "2.0" {
			c.answer(ctx, nil, nil, &fail{Code: -32700, Message: "Invalid JSON"})
			continue
		}
		wg.Go(func() { c.handle(ctx, &req, fault, changed) })
	}
}

// hardLimit is how many calls of one connection TrueNAS takes before it refuses.
const hardLimit = 20

func (c *client) handle(ctx context.Context, req *request, fault lab.Fault, changed <-chan struct{}) {
	if c.under.Add(1) > hardLimit || fault.Name == lab.Fault429 {
		c.under.Add(-1)
		c.answer(ctx, req.ID, nil, &fail{Code: -32000, Message: "Maximum number of concurrent calls (20) has exceeded"})
		return
	}
	defer c.under.Add(-1)
	switch fault.Name {
	case lab.FaultSlow:
		t := time.NewTimer(fault.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-changed:
		case <-ctx.Done():
			return
		}
	case lab.FaultGarbage:
		_ = c.ws.Write(ctx, websocket.MessageText, []byte(`{"jsonrpc": "2.0", "resu<html>502 Bad Gateway`))
		return
	case lab.Fault500:
		c.answer(ctx, req.ID, nil, callError(14, "EFAULT", "[EFAULT] Internal error of the middleware"))
		return
	}
	result, err := c.dispatch(req, fault.Name == lab.FaultUnauthorized)
	c.answer(ctx, req.ID, result, err)
}

// fail is an error as TrueNAS answers it.
type fail struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Data    any    `json:"data,omitempty"`
}

// Trace is in every error, as on a real one; no reader of a result may see it.
const Trace = `Traceback (most recent call last): File "/usr/lib/python3/dist-packages/middlewared/api/base/server/ws_handler/rpc.py"`

func callError(errno int, name, reason string) *fail {
	return &fail{-32001, "Method call error", object{
		"error": errno, "errname": name, "reason": reason, "trace": object{"class": "CallError", "formatted": Trace, "repr": "CallError()"}, "extra": nil,
	}}
}

func invalid(attribute, reason string) *fail {
	return &fail{-32602, "Invalid params", object{
		"error": 22, "errname": "EINVAL", "reason": "[EINVAL] " + attribute + ": " + reason, "trace": object{"class": "ValidationErrors", "formatted": Trace, "repr": ""}, "extra": []any{[]any{attribute, reason, 22}},
	}}
}

func (c *client) answer(ctx context.Context, id, result any, err *fail) {
	out := object{"jsonrpc": "2.0", "id": id}
	if err != nil {
		out["error"] = err
	} else {
		out["result"] = result
	}
	raw, e := json.Marshal(out)
	if e != nil {
		return
	}
	_ = c.ws.Write(ctx, websocket.MessageText, raw)
}

// dispatch answers one call. It writes the answer down before another call can change what it shows.
func (c *client) dispatch(req *request, revoked bool) (any, *fail) {
	c.nas.mu.Lock()
	defer c.nas.mu.Unlock()
	result, bad := c.run(req, revoked)
	if bad != nil {
		return nil, bad
	}
	raw, err := json.Marshal(result)
	if err != nil {
		return nil, callError(14, "EFAULT", err.Error())
	}
	return json.RawMessage(raw), nil
}

// run does what a call asks for. The caller holds mu.
func (c *client) run(req *request, revoked bool) (any, *fail) {
	n := c.nas
	n.asked[req.Method]++
	revoked = revoked || n.revoked
	switch req.Method {
	case "core.ping":
		return "pong", nil
	case "auth.login_ex":
		if n.opts.Release == "24.04" {
			return nil, &fail{Code: -32601, Message: "Method does not exist"}
		}
		data, _ := arg[map[string]any](req.Params, 0)
		ok := data["mechanism"] == "API_KEY_PLAIN" && data["api_key"] == n.opts.Key && data["username"] == n.opts.Username && !revoked
		if c.loggedIn.Store(ok); !ok {
			return object{"response_type": "AUTH_ERR"}, nil
		}
		return object{"response_type": "SUCCESS", "user_info": nil, "authenticator": "LEVEL_1", "reconnect_token": nil}, nil
	case "auth.login_with_api_key":
		key, _ := arg[string](req.Params, 0)
		c.loggedIn.Store(key == n.opts.Key && !revoked)
		return c.loggedIn.Load(), nil
	}
	if revoked || !c.loggedIn.Load() {
		return nil, callError(207, "ENOTAUTHENTICATED", "[ENOTAUTHENTICATED] Not authenticated")
	}
	n.settle()
	if rows, ok := n.rows(req.Method); ok {
		return query(rows, req.Params)
	}
	if m, ok := methods[req.Method]; ok && n.has(req.Method) {
		return m(n, req.Params)
	}
	return nil, &fail{Code: -32601, Message: "Method does not exist"}
}

func arg[T any](params []any, i int) (T, bool) {
	var zero T
	if i >= len(params) {
		return zero, false
	}
	v, ok := params[i].(T)
	return v, ok
}
