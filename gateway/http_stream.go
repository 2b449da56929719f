package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// sse writes server-sent events. Every write has a deadline, so that a client that does not read cannot hold more than its own stream.
type sse struct {
	w       http.ResponseWriter
	rc      *http.ResponseController
	patient time.Duration
	started bool
	err     error // of the first write that failed; nothing is written after it
}

func newSSE(w http.ResponseWriter, cfg *Config) *sse {
	return &sse{w: w, rc: http.NewResponseController(w), patient: cfg.Timeouts.Write}
}

func (s *sse) start() {
	if s.started {
		return
	}
	s.started = true
	h := s.w.Header()
	h["Content-Type"] = []string{"text/event-stream"}
	h["Cache-Control"] = []string{"no-cache, no-transform"}
	h["X-Accel-Buffering"] = []string{"no"}
}

func (s *sse) write(b []byte) error {
	if s.err != nil {
		return s.err
	}
	s.start()
	_ = s.rc.SetWriteDeadline(time.Now().Add(s.patient)) // only test writers have none
	if _, s.err = s.w.Write(b); s.err == nil {
		s.err = s.rc.Flush()
	}
	return s.err
}

// event sends one message.
func (s *sse) event(msg []byte) error {
	b := make([]byte, 0, len(msg)+24)
	b = append(append(append(b, "event: message\ndata: "...), oneLine(msg)...), "\n\n"...)
	return s.write(b)
}

// comment sends a sign of life that carries nothing.
func (s *sse) comment(text string) error { return s.write([]byte(": " + text + "\n\n")) }

// oneLine returns JSON without line breaks: between tokens they mean nothing, and inside strings they cannot be.
func oneLine(msg []byte) []byte {
	if bytes.IndexByte(msg, '\n') < 0 && bytes.IndexByte(msg, '\r') < 0 {
		return msg
	}
	return bytes.Map(func(r rune) rune {
		if r == '\n' || r == '\r' {
			return ' '
		}
		return r
	}, msg)
}

// httpStream is the answer to one request over HTTP: a single JSON message if nothing comes before it, else a stream of events. It takes
// what the server says in between.
type httpStream struct {
	e      *exchange
	r      *request
	cancel context.CancelCauseFunc
	begun  time.Time

	mu       sync.Mutex // guards what follows
	out      *sse       // nil until the answer became a stream
	over     bool       // the answer is complete, or given up
	timer    *time.Timer
	spoke    bool            // the server said something since the last heartbeat
	progress float64         // last progress that the client was told
	floor    float64         // what an attempt that failed had reached: progress must not go back
	token    json.RawMessage // the client's progress token; nil for none
}

func newHTTPStream(e *exchange, r *request, cancel context.CancelCauseFunc) *httpStream {
	s := &httpStream{e: e, r: r, cancel: cancel, begun: time.Now(), token: wire.Get(r.meta(), "progressToken")}
	if s.takesEvents() {
		s.mu.Lock() // beat reads timer
		defer s.mu.Unlock()
		s.timer = time.AfterFunc(e.cfg.Timeouts.EarlyAnswer, s.beat)
	}
	return s
}

// takesEvents reports whether the client accepts a stream. Clients must accept both forms; some old ones accept only JSON.
func (s *httpStream) takesEvents() bool {
	accept := s.e.req.Header["Accept"]
	if len(accept) == 0 {
		return true
	}
	for _, a := range accept {
		if strings.Contains(a, "text/event-stream") || strings.Contains(a, "*/*") {
			return true
		}
	}
	return false
}

// beat shows the client that its call is alive: clients give up on a call without answer headers after a minute, some without progress
// (systems.md §4.4).
func (s *httpStream) beat() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	var err error
	if s.token != nil && s.out != nil && !s.spoke {
		s.progress += progressStep
		err = s.stream().event(notification("notifications/progress", waiting(s.token, s.progress, s.begun), nil))
	} else {
		err = s.stream().comment("ka")
	}
	s.spoke = false
	if err != nil {
		s.broken(err)
		return
	}
	s.timer.Reset(s.e.cfg.Timeouts.Heartbeat)
}

// stream makes the answer a stream of events, if it is none yet. The caller holds mu.
func (s *httpStream) stream() *sse {
	if s.out == nil {
		s.out = newSSE(s.e.w, s.e.cfg)
	}
	return s.out
}

// broken notes that the client cannot be reached. A modern client has thereby cancelled. The caller holds mu.
func (s *httpStream) broken(err error) {
	s.over = true
	if s.r.modern {
		s.cancel(errors.Join(errCancelledByClient, err))
	}
}

// Notify implements downstream.Stream.
func (s *httpStream) Notify(method string, params json.RawMessage) {
	if method == "notifications/message" && !s.wantsLog(params) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	if !s.takesEvents() {
		s.e.g.log.Debug("notification dropped, the client does not accept a stream", "method", method)
		return
	}
	s.spoke = true
	if method == "notifications/progress" {
		if p, err := strconv.ParseFloat(string(wire.Get(params, "progress")), 64); err == nil {
			if s.floor > 0 && p <= s.floor {
				return
			}
			s.progress = p
		}
	}
	if err := s.stream().event(notification(method, params, nil)); err != nil {
		s.broken(err)
	}
}

// goesOn implements patient.
func (s *httpStream) goesOn(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.token == nil || !s.takesEvents() {
		return
	}
	s.spoke = true
	s.progress += progressStep
	s.floor = s.progress
	if err := s.stream().event(notification("notifications/progress", progressOf(s.token, s.progress, text), nil)); err != nil {
		s.broken(err)
	}
}

// wantsLog reports whether the client wants a log message: a modern one says so with each request, an older one with logging/setLevel.
func (s *httpStream) wantsLog(params json.RawMessage) bool {
	if s.r.sess != nil {
		return s.r.sess.wantsLog(params)
	}
	return wantsLogModern(s.r, params)
}

func wantsLogModern(r *request, params json.RawMessage) bool {
	level := wire.Get(r.meta(), metaLogLevel)
	return level != nil && severity(wire.Get(params, "level")) >= severity(level)
}

// Request implements downstream.Stream: it asks the client on the stream of its own call.
func (s *httpStream) Request(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error) {
	if err := askable(s.r, method); err != nil {
		return nil, err
	}
	if !s.takesEvents() {
		return nil, wire.Errorf(wire.CodeInternal, "mcpgw: the client does not accept a stream, so it cannot be asked %s", method)
	}
	return s.r.sess.ask(ctx, method, params, func(msg []byte) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.over {
			return errors.New("its stream has ended")
		}
		s.spoke = true
		err := s.stream().event(msg)
		if err != nil {
			s.broken(err)
		}
		return err
	})
}

// askable says why a client cannot be asked on a server's behalf, or returns nil.
func askable(r *request, method string) error {
	if r.sess == nil {
		return wire.Errorf(wire.CodeMethodNotFound, "mcpgw: the client speaks revision 2026-07-28, which has no requests from servers: %s cannot be asked in the middle of its call", method)
	}
	return nil
}

// finish sends the result.
func (s *httpStream) finish(id json.RawMessage, a *answer) {
	head := append(append(append(make([]byte, 0, 48+len(id)), `{"jsonrpc":"2.0","id":`...), id...), `,"result":`...)
	s.send(http.StatusOK, head, a, []byte{'}'})
}

// fail sends an error, with the HTTP status that the client's revision has for it.
func (s *httpStream) fail(r *request, e *wire.Error) {
	status := http.StatusOK
	if r.modern {
		switch e.Code {
		case wire.CodeMethodNotFound:
			status = http.StatusNotFound
		case wire.CodeInvalidParams, wire.CodeInvalidRequest, wire.CodeHeaderMismatch, wire.CodeMissingClientCapability, wire.CodeUnsupportedProtocol:
			status = http.StatusBadRequest
		}
	}
	s.send(status, wire.AppendError(nil, r.id, e), &answer{}, nil)
}

func (s *httpStream) send(status int, head []byte, a *answer, tail []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.over = true
	if s.out != nil || !s.takesJSON() {
		msg := append(append(append(make([]byte, 0, len(head)+a.len()+1), head...), a.bytes()...), tail...)
		_ = s.stream().event(msg) // a client that is gone needs no answer
		return
	}
	w := s.e.w
	if time.Since(s.begun) > s.e.cfg.Timeouts.EarlyAnswer {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.e.cfg.Timeouts.Write)) // only test writers have none
	}
	h := w.Header()
	h["Content-Type"] = contentJSON
	h["Content-Length"] = []string{strconv.Itoa(len(head) + a.len() + len(tail))}
	if status != http.StatusOK {
		w.WriteHeader(status)
	}
	for _, part := range [...][]byte{head, a[0], a[1], a[2], tail} {
		if len(part) == 0 {
			continue
		}
		if _, err := w.Write(part); err != nil {
			return // the client is gone
		}
	}
}

var contentJSON = []string{"application/json"}

// takesJSON reports whether the client accepts an answer that is not a stream.
func (s *httpStream) takesJSON() bool {
	accept := s.e.req.Header["Accept"]
	if len(accept) == 0 {
		return true
	}
	for _, a := range accept {
		if strings.Contains(a, "json") || strings.Contains(a, "*/*") {
			return true
		}
	}
	return false
}

// abandon ends the answer without one: the client cancelled.
func (s *httpStream) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.over = true
	if s.out == nil {
		s.e.w.WriteHeader(http.StatusAccepted)
	}
}

// close stops the heartbeat. Nothing touches the ResponseWriter after it has returned.
func (s *httpStream) close() {
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
}
