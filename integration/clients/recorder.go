package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// recorder stands between a client and the gateway and notes how the client speaks. It changes nothing.
type recorder struct {
	proxy *httputil.ReverseProxy

	mu       sync.Mutex // guards what follows
	revision string     // the newest that the client used
	token    bool       // a call carried a progress token
	ending   []string   // how the client gave up a call, in order: a notification, the stream closed, the session deleted
}

func newRecorder(target string) (*recorder, error) {
	to, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	r := &recorder{}
	r.proxy = &httputil.ReverseProxy{
		FlushInterval: -1,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: to.Scheme, Host: to.Host})
			p.Out.Host = to.Host
		},
		ErrorLog:     slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // clients that go away are what is looked for
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	return r, nil
}

// ServeHTTP implements http.Handler.
func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method == http.MethodDelete {
		r.end("DELETE of the session")
	}
	if req.Method != http.MethodPost {
		r.proxy.ServeHTTP(w, req)
		return
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	call := r.note(req.Header.Get("Mcp-Protocol-Version"), body)
	req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	done := make(chan struct{})
	if call {
		go func() { // ends with the request
			select {
			case <-req.Context().Done():
				select {
				case <-done:
				default:
					r.end("the stream closed")
				}
			case <-done:
			}
		}()
	}
	defer func() {
		close(done)
		if p := recover(); p != nil && p != http.ErrAbortHandler { //nolint:errorlint // the proxy panics with this very value
			panic(p)
		}
	}()
	r.proxy.ServeHTTP(w, req)
}

// note reads one message and reports whether it is a tool call.
func (r *recorder) note(revision string, body []byte) (call bool) {
	var m struct {
		Method string
		Params struct {
			ProtocolVersion string
			Meta            struct {
				Token json.RawMessage `json:"progressToken"`
			} `json:"_meta"`
		}
	}
	if json.Unmarshal(body, &m) != nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.revision = max(r.revision, revision, m.Params.ProtocolVersion)
	switch m.Method {
	case "tools/call":
		r.token = r.token || m.Params.Meta.Token != nil
		return true
	case "notifications/cancelled":
		r.endLocked(m.Method)
	}
	return false
}

func (r *recorder) end(how string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endLocked(how)
}

func (r *recorder) endLocked(how string) {
	if !slices.Contains(r.ending, how) {
		r.ending = append(r.ending, how)
	}
}

// disconnected reports whether a client of an older revision did no more than close the connection.
func (r *recorder) disconnected() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.revision < harness.Modern && slices.Equal(r.ending, []string{"the stream closed"})
}

// how returns in which ways the client gave up.
func (r *recorder) how() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ending) == 0 {
		return "nothing"
	}
	return strings.Join(r.ending, ", then ")
}
