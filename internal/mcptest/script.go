package mcptest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A Script is a server that answers with raw bytes. It maps "METHOD", or "tools/call NAME" for one tool, to an answer. What it does not
// hold is answered as a server does that offers nothing; see [Script.answer]. It must not change while it is served.
type Script map[string]Answer

// Answer answers one request or notification. It may send anything. Over HTTP, what it sends is the answer to the request's POST, and the
// stream ends when it returns; a notification has no answer.
type Answer func(x *Exchange)

// Exchange is one request or notification that a script got.
type Exchange struct {
	context.Context // ends with the connection, or when the client cancels

	ID     json.RawMessage // nil for a notification
	Method string
	Params json.RawMessage // nil if absent
	Tool   string          // of tools/call
	Raw    []byte          // the whole message as it came

	send func([]byte) error
}

// Result answers with a result, given as raw JSON.
func Result(raw string) Answer { return func(x *Exchange) { x.Result(raw) } }

// Raw answers with a message as it stands, but for $ID, which is replaced by the request's id.
func Raw(message string) Answer {
	return func(x *Exchange) { x.Send(strings.ReplaceAll(message, "$ID", string(x.ID))) }
}

// Discover is the answer to server/discover of a modern server with tools. The results of a modern script need a resultType.
var Discover = Result(`{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"serverInfo":{"name":"script","version":"1"}}`)

// Never answers nothing, until the client gives up.
func Never(x *Exchange) { <-x.Done() }

// Send sends one message, which need not be JSON. It reports false if nobody reads any more.
func (x *Exchange) Send(message string) bool { return x.send([]byte(message)) == nil }

// Result sends the result, given as raw JSON.
func (x *Exchange) Result(raw string) bool {
	return x.Send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, x.ID, raw))
}

// Error sends an error, given as raw JSON.
func (x *Exchange) Error(raw string) bool {
	return x.Send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":%s}`, x.ID, raw))
}

// Token returns the progress token of the request, or nil.
func (x *Exchange) Token() json.RawMessage {
	var p struct {
		Meta struct {
			Token json.RawMessage `json:"progressToken"`
		} `json:"_meta"`
	}
	_ = json.Unmarshal(x.Params, &p)
	return p.Meta.Token
}

// exchange decodes the envelope of a message; nil means that it is none.
func exchange(ctx context.Context, raw []byte, send func([]byte) error) *Exchange {
	var m struct {
		ID     json.RawMessage `json:"id"`
		Method string          `json:"method"`
		Params json.RawMessage `json:"params"`
	}
	if json.Unmarshal(raw, &m) != nil {
		return nil
	}
	x := &Exchange{Context: ctx, ID: m.ID, Method: m.Method, Params: m.Params, Raw: raw, send: send}
	if m.Method == "tools/call" {
		var p struct{ Name string }
		_ = json.Unmarshal(m.Params, &p)
		x.Tool = p.Name
	}
	return x
}

// answer finds the answer to x. By default a script agrees to the client's legacy revision, has tools, has empty lists, answers ping
// and knows no other method; so a client that asks for server/discover first finds a legacy server.
func (s Script) answer(x *Exchange) {
	if a, ok := s["tools/call "+x.Tool]; ok && x.Tool != "" {
		a(x)
		return
	}
	if a, ok := s[x.Method]; ok {
		a(x)
		return
	}
	switch x.Method {
	case "": // a response
	case "initialize":
		var p struct{ ProtocolVersion string }
		_ = json.Unmarshal(x.Params, &p)
		if p.ProtocolVersion == "" || p.ProtocolVersion > "2025-11-25" {
			p.ProtocolVersion = "2025-11-25"
		}
		x.Result(fmt.Sprintf(`{"protocolVersion":%q,"capabilities":{"tools":{}},"serverInfo":{"name":"script","version":"1"}}`, p.ProtocolVersion))
	case "tools/list", "resources/list", "prompts/list", "resources/templates/list":
		what, _ := strings.CutSuffix(x.Method, "/list")
		if what == "resources/templates" {
			what = "resourceTemplates"
		}
		x.Result(`{"` + what + `":[]}`)
	case "ping":
		x.Result(`{}`)
	default:
		if x.ID != nil {
			x.Error(`{"code":-32601,"message":"the script does not know this method"}`)
		}
	}
}

// HTTP serves the script over streamable HTTP without a session id: GET and DELETE are not allowed, and each answer is a stream of
// events. So a message must be one line.
func (s Script) HTTP(tb testing.TB) *Endpoint {
	tb.Helper()
	return Serve(tb, func() http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.serveHTTP(w, r, "text/event-stream", "event: message\ndata: %s\n\n")
		})
	})
}

// JSON is as HTTP, but each answer is a body of JSON: whatever is sent, put together.
func (s Script) JSON(tb testing.TB) *Endpoint {
	tb.Helper()
	return Serve(tb, func() http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serveHTTP(w, r, "application/json", "%s") })
	})
}

func (s Script) serveHTTP(w http.ResponseWriter, r *http.Request, contentType, format string) {
	if r.Method != http.MethodPost {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	// The headers go out with the first message, so that an answer can take its time with them, too.
	x := exchange(r.Context(), raw, func(m []byte) error {
		w.Header().Set("Content-Type", contentType)
		if _, err := fmt.Fprintf(w, format, m); err != nil {
			return err
		}
		return http.NewResponseController(w).Flush()
	})
	if x == nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if x.ID == nil || x.Method == "" {
		x.send = func([]byte) error { return nil }
		s.answer(x)
		w.WriteHeader(http.StatusAccepted)
		return
	}
	s.answer(x)
}

// Serve serves the script over a stream of lines until in ends. Requests are answered side by side; a client's cancellation and the end
// of in end their contexts.
func (s Script) Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	var (
		wg    sync.WaitGroup
		write sync.Mutex
		mu    sync.Mutex
		calls = map[string]context.CancelFunc{} // guarded by mu
	)
	defer wg.Wait()
	defer cancel()
	send := func(m []byte) error {
		write.Lock()
		defer write.Unlock()
		if err := ctx.Err(); err != nil {
			return err
		}
		_, err := out.Write(append(slices.Clip(m), '\n'))
		return err
	}
	r := bufio.NewReader(in)
	for {
		line, err := r.ReadBytes('\n')
		if line = bytes.TrimSpace(line); len(line) > 0 {
			callCtx, end := context.WithCancel(ctx)
			x := exchange(callCtx, line, send)
			switch {
			case x == nil:
				end()
			case x.Method == "notifications/cancelled":
				var p struct {
					RequestID json.RawMessage `json:"requestId"`
				}
				_ = json.Unmarshal(x.Params, &p)
				mu.Lock()
				if stop := calls[string(p.RequestID)]; stop != nil {
					stop()
				}
				mu.Unlock()
				end()
			default:
				mu.Lock()
				calls[string(x.ID)] = end
				mu.Unlock()
				wg.Go(func() {
					s.answer(x)
					mu.Lock()
					delete(calls, string(x.ID))
					mu.Unlock()
					end()
				})
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the client: %w", err)
		}
	}
}
