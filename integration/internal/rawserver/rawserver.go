// Package rawserver is an MCP server written by hand, so that it can say what no SDK would: every answer is bytes from a corpus,
// and what it is asked is kept as bytes. It speaks one era, over HTTP or stdio.
package rawserver

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
)

// Server answers tools/call from tables. Its fields must not change once it serves; its methods may be called at the same time.
type Server struct {
	Modern  bool              // speak 2026-07-28, otherwise 2025-11-25
	Tools   []string          // items of tools/list, as JSON
	Results map[string]string // results by tool name, as JSON objects without resultType; a tool without one answers "ok"
	Errors  map[string]string // error objects by tool name

	// Whole answers a tool with bytes that need not be a message at all. It is asked first.
	Whole map[string]func(id string) string
	// Handle answers a tool after notifications; it returns a result, or "" to leave the tool to the tables. Nil for none.
	Handle func(ctx context.Context, name string, params json.RawMessage, notify func(method, params string)) string
	// List returns the result of tools/list for a cursor. Nil lists Tools.
	List func(cursor string) string
	// Seen is told the params of each call before it is answered. Nil for none.
	Seen func(params []byte)
	// Progress is sent, if a call carries a progress token, before its answer: the members of params besides progressToken.
	Progress []string
}

type request struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

// params is what the server reads of a request's params.
type params struct {
	Name   string `json:"name"`
	Cursor string `json:"cursor"`
	Meta   struct {
		Token json.RawMessage `json:"progressToken"`
	} `json:"_meta"`
}

// serve gives say each message that answers body, the answer itself last and marked. It reports whether the request is one that an
// HTTP server refuses with status 400.
func (s *Server) serve(ctx context.Context, body []byte, say func(message string, last bool)) (refused bool) {
	var r request
	if err := json.Unmarshal(body, &r); err != nil {
		say(`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"not JSON"}}`, true)
		return true
	}
	if r.ID == nil {
		return false
	}
	result := func(members string) {
		say(`{"jsonrpc":"2.0","id":`+string(r.ID)+`,"result":`+members+`}`, true)
	}
	failure := func(e string) {
		say(`{"jsonrpc":"2.0","id":`+string(r.ID)+`,"error":`+e+`}`, true)
	}
	var p params
	if r.Params != nil {
		if err := json.Unmarshal(r.Params, &p); err != nil {
			failure(`{"code":-32602,"message":"strange params"}`)
			return false
		}
	}
	switch {
	case r.Method == "initialize" && !s.Modern:
		result(`{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"raw","version":"1"}}`)
	case r.Method == "server/discover" && s.Modern:
		result(`{"resultType":"complete","ttlMs":0,"cacheScope":"public","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},` +
			`"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"raw","version":"1"}}}`)
	case r.Method == "ping" && !s.Modern:
		result(`{}`)
	case r.Method == "tools/list" && s.List != nil:
		result(s.List(p.Cursor))
	case r.Method == "tools/list" && s.Modern:
		result(`{"resultType":"complete","ttlMs":0,"cacheScope":"public","tools":[` + strings.Join(s.Tools, ",") + `]}`)
	case r.Method == "tools/list":
		result(`{"tools":[` + strings.Join(s.Tools, ",") + `]}`)
	case r.Method == "tools/call":
		s.call(ctx, r, p, say, result, failure)
	case r.Method == "initialize":
		failure(`{"code":-32022,"message":"2026-07-28 only","data":{"supported":["2026-07-28"]}}`)
		return true
	default:
		failure(`{"code":-32601,"message":"no such method"}`)
		return true
	}
	return false
}

func (s *Server) call(ctx context.Context, r request, p params, say func(string, bool), result, failure func(string)) {
	if s.Seen != nil {
		s.Seen(r.Params)
	}
	if whole := s.Whole[p.Name]; whole != nil {
		say(whole(string(r.ID)), true)
		return
	}
	if e, ok := s.Errors[p.Name]; ok {
		failure(e)
		return
	}
	notify := func(method, params string) {
		say(`{"jsonrpc":"2.0","method":"`+method+`","params":`+params+`}`, false)
	}
	out := ""
	if s.Handle != nil {
		out = s.Handle(ctx, p.Name, r.Params, notify)
	}
	if out == "" {
		if p.Meta.Token != nil {
			for _, members := range s.Progress {
				notify("notifications/progress", `{"progressToken":`+string(p.Meta.Token)+`,`+members+`}`)
			}
		}
		var ok bool
		if out, ok = s.Results[p.Name]; !ok {
			out = `{"content":[{"type":"text","text":"ok"}]}`
		}
	}
	if s.Modern {
		rest := strings.TrimPrefix(out, "{")
		if strings.TrimSpace(rest) != "}" {
			rest = "," + rest
		}
		out = `{"resultType":"complete"` + rest
	}
	result(out)
}

// ServeHTTP implements http.Handler: JSON for an answer alone, an event stream if notifications come first.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
		return
	case http.MethodPost:
	default:
		http.Error(w, "POST only", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !s.Modern && bytes.Contains(body, []byte(`"initialize"`)) {
		w.Header().Set("Mcp-Session-Id", "raw-session")
	}
	var alone string
	streaming := false
	refused := s.serve(r.Context(), body, func(m string, last bool) {
		if last && !streaming {
			alone = m
			return
		}
		if !streaming {
			streaming = true
			w.Header().Set("Content-Type", "text/event-stream")
		}
		fmt.Fprintf(w, "event: message\ndata: %s\n\n", m)
		_ = http.NewResponseController(w).Flush() // a client that went away ends r.Context
	})
	switch {
	case streaming:
	case alone == "":
		w.WriteHeader(http.StatusAccepted)
	default:
		w.Header().Set("Content-Type", "application/json")
		if refused {
			w.WriteHeader(http.StatusBadRequest)
		}
		fmt.Fprint(w, alone)
	}
}

// ServeStdio serves lines until in ends, each request in a goroutine of its own, and waits for them. A notifications/cancelled is
// not looked at.
func (s *Server) ServeStdio(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var mu sync.Mutex // guards out
	br := bufio.NewReader(in)
	for {
		line, err := br.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		wg.Go(func() {
			s.serve(ctx, line, func(m string, _ bool) {
				mu.Lock()
				defer mu.Unlock()
				if _, err := io.WriteString(out, m+"\n"); err != nil {
					cancel()
				}
			})
		})
	}
}

// Recorder keeps the params of the last call. Its methods may be called at the same time.
type Recorder struct {
	mu   sync.Mutex // guards last
	last []byte
}

// Record is for Server.Seen.
func (r *Recorder) Record(params []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = bytes.Clone(params)
}

// Last returns the params of the last call and forgets them.
func (r *Recorder) Last() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.last
	r.last = nil
	return last
}
