package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
)

// legacy takes a message of a revision up to 2025-11-25, which belongs to a session.
func (e *exchange) legacy(m *wire.Message, version string) {
	if version != "" && !slices.Contains(downstream.Revisions, version) {
		e.refuse(http.StatusBadRequest, m.ID, wire.Errorf(wire.CodeInvalidRequest, "unknown MCP-Protocol-Version %q", version))
		return
	}
	if m.Method == "initialize" && m.IsRequest() {
		e.open(m)
		return
	}
	s := e.session(m.ID)
	if s == nil {
		return
	}
	s.enter()
	defer s.leave()
	switch {
	case m.IsResponse():
		if !s.answered(*m) {
			e.g.log.Debug("response to no open request ignored", "session", s.id)
		}
		e.w.WriteHeader(http.StatusAccepted)
	case m.IsNotification():
		e.g.notified(e.req.Context(), s, e.table, m.Method, m.Params)
		e.w.WriteHeader(http.StatusAccepted)
	default:
		e.call(s, m)
	}
}

// session finds the session that the request names, or refuses the request and returns nil.
func (e *exchange) session(id json.RawMessage) *session {
	sid, single := e.header(hdrSession)
	if sid == "" || !single {
		e.refuse(http.StatusBadRequest, id, wire.Errorf(wire.CodeInvalidRequest, "the header Mcp-Session-Id is missing: send initialize first and use the session id of its answer"))
		return nil
	}
	s := e.g.sessions.get(sid, e.viewName, e.principal)
	if s == nil {
		// 404 tells the client to begin a new session (specification 2025-11-25, basic/transports).
		e.refuse(http.StatusNotFound, id, wire.Errorf(wire.CodeInvalidRequest, "session not found: it has ended, send initialize again"))
	}
	return s
}

// open answers initialize and begins a session.
func (e *exchange) open(m *wire.Message) {
	if !e.admitWork(m.ID) {
		return
	}
	defer e.g.work.Leave()
	s := newSession(e.g, e.viewName, e.principal)
	result, err := e.g.initialize(s, e.table, &m.Body)
	if err != nil {
		e.refuse(http.StatusBadRequest, m.ID, asWire(err))
		return
	}
	if !e.g.sessions.add(s, e.cfg.Limits.Sessions) {
		e.w.Header().Set("Retry-After", "30")
		e.refuse(http.StatusTooManyRequests, m.ID, wire.Errorf(wire.CodeOverloaded, "%d sessions are open already (gateway.limits.sessions)", e.cfg.Limits.Sessions))
		return
	}
	e.g.log.Debug("session opened", "session", s.id, "protocol", s.revision)
	e.w.Header()[hdrSession] = []string{s.id}
	a := whole(result)
	st := newHTTPStream(e, &request{id: m.ID}, func(error) {})
	defer st.close()
	st.finish(m.ID, &a)
}

// call answers one request of a session.
func (e *exchange) call(s *session, m *wire.Message) {
	if !e.admitWork(m.ID) {
		return
	}
	defer e.g.work.Leave()
	r := &request{method: m.Method, id: m.ID, params: m.Body, table: e.table, sess: s, principal: e.principal, trace: traceOf(e.req.Header)}
	// A client of these revisions that disconnects has not cancelled: only notifications/cancelled does, or the end of the session.
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(e.req.Context()))
	defer cancel(nil)
	if err := s.begin(m.ID, cancel); err != nil {
		e.refuse(http.StatusBadRequest, m.ID, asWire(err))
		return
	}
	st := newHTTPStream(e, r, cancel)
	defer st.close()
	r.stream = st
	a, err := e.g.serve(ctx, r)
	s.done(m.ID) // before the answer: with it the client may use the id again
	switch {
	case errors.Is(context.Cause(ctx), errCancelledByClient):
		st.abandon() // nobody wants the answer (specification, basic/utilities/cancellation)
	case err != nil:
		st.fail(r, asWire(err))
	default:
		st.finish(r.id, &a)
	}
}

// get opens a session's standalone stream.
func (e *exchange) get() {
	if v, _ := e.header(hdrVersion); v >= downstream.Modern {
		e.w.Header().Set("Allow", "POST")
		e.refuse(http.StatusMethodNotAllowed, nil, wire.Errorf(wire.CodeInvalidRequest, "revision %s has no standalone stream: send subscriptions/listen", downstream.Modern))
		return
	}
	s := e.session(nil)
	if s == nil {
		return
	}
	if e.g.streams.Add(1) > int64(e.cfg.Limits.Streams) {
		e.g.streams.Add(-1)
		e.w.Header().Set("Retry-After", "30")
		e.refuse(http.StatusTooManyRequests, nil, wire.Errorf(wire.CodeOverloaded, "%d streams are open already (gateway.limits.streams)", e.cfg.Limits.Streams))
		return
	}
	defer e.g.streams.Add(-1)
	s.mu.Lock()
	taken := s.streaming
	s.streaming = true
	s.mu.Unlock()
	if taken {
		e.refuse(http.StatusConflict, nil, wire.Errorf(wire.CodeInvalidRequest, "this session has a stream open already"))
		return
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.streaming = false
	}()
	s.enter()
	defer s.leave()
	e.pump(newSSE(e.w, e.cfg), s.box, s.ended)
}

// delete ends a session at its client's wish.
func (e *exchange) delete() {
	if v, _ := e.header(hdrVersion); v >= downstream.Modern {
		e.w.Header().Set("Allow", "POST")
		e.refuse(http.StatusMethodNotAllowed, nil, wire.Errorf(wire.CodeInvalidRequest, "revision %s has no sessions", downstream.Modern))
		return
	}
	s := e.session(nil)
	if s == nil {
		return
	}
	s.end(errSessionEnded)
	e.w.WriteHeader(http.StatusNoContent)
}

// pump sends what is in box until the client is gone, ended is closed or the gateway drains. Between news it shows signs of life.
func (e *exchange) pump(out *sse, box *mailbox, ended <-chan struct{}) {
	beat := time.NewTicker(e.cfg.Timeouts.Heartbeat)
	defer beat.Stop()
	if out.comment("ok") != nil {
		return
	}
	send := func() bool {
		msgs, dropped := box.take()
		if dropped > 0 {
			e.g.log.Warn("notifications dropped, the client read its stream too slowly", "count", dropped)
		}
		for _, m := range msgs {
			if out.event(m) != nil {
				return false
			}
		}
		return true
	}
	for {
		select {
		case <-box.signal:
			if !send() {
				return
			}
		case <-beat.C:
			if out.comment("ka") != nil {
				return
			}
		case <-e.req.Context().Done():
			return
		case <-ended:
			send() // what was said before the end, such as that a subscription is acknowledged
			return
		case <-e.g.draining:
			send()
			return
		}
	}
}

// batchAllowed reports whether the session speaks the one revision that has batches.
func (e *exchange) batchAllowed() bool {
	sid, _ := e.header(hdrSession)
	s := e.g.sessions.get(sid, e.viewName, e.principal)
	return s != nil && s.revision == "2025-03-26"
}

// batch answers several messages at once: with the array of the answers, in any order.
func (e *exchange) batch(body []byte) {
	parts, err := wire.Batch(body, e.cfg.Limits.Depth)
	if err != nil {
		e.refuse(http.StatusBadRequest, nil, wire.Errorf(wire.CodeInvalidRequest, "%v", err))
		return
	}
	if len(parts) > maxBatch {
		e.refuse(http.StatusBadRequest, nil, wire.Errorf(wire.CodeInvalidRequest, "a batch of %d messages is too long, at most %d", len(parts), maxBatch))
		return
	}
	s := e.session(nil)
	if s == nil {
		return
	}
	if !e.admitWork(nil) {
		return
	}
	defer e.g.work.Leave()
	s.enter()
	defer s.leave()
	answers := make([][]byte, len(parts))
	var wg sync.WaitGroup
	for i, part := range parts {
		m, err := wire.Parse(part, e.cfg.Limits.Depth)
		switch {
		case err != nil:
			answers[i] = wire.AppendError(nil, m.ID, wire.Errorf(wire.CodeInvalidRequest, "%v", err))
		case m.IsResponse():
			s.answered(m)
		case m.IsNotification():
			e.g.notified(e.req.Context(), s, e.table, m.Method, m.Params)
		default:
			wg.Go(func() { answers[i] = e.batched(s, &m) })
		}
	}
	wg.Wait()
	answers = slices.DeleteFunc(answers, func(a []byte) bool { return a == nil })
	if len(answers) == 0 {
		e.w.WriteHeader(http.StatusAccepted)
		return
	}
	e.w.Header().Set("Content-Type", "application/json")
	_, _ = e.w.Write(append(append([]byte{'['}, bytes.Join(answers, []byte{','})...), ']')) // a client that is gone needs no answer
}

const maxBatch = 100

// batched answers one request of a batch; nil if the client cancelled it.
func (e *exchange) batched(s *session, m *wire.Message) []byte {
	if m.Method == "initialize" {
		return wire.AppendError(nil, m.ID, wire.Errorf(wire.CodeInvalidRequest, "initialize must not be part of a batch"))
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(e.req.Context()))
	defer cancel(nil)
	if err := s.begin(m.ID, cancel); err != nil {
		return wire.AppendError(nil, m.ID, asWire(err))
	}
	defer s.done(m.ID)
	r := &request{method: m.Method, id: m.ID, params: m.Body, table: e.table, sess: s, principal: e.principal, trace: traceOf(e.req.Header)}
	// The answer is one JSON array: what a server says meanwhile goes on the standalone stream.
	r.stream = batchStream{s}
	a, err := e.g.serve(ctx, r)
	switch {
	case errors.Is(context.Cause(ctx), errCancelledByClient):
		return nil
	case err != nil:
		return wire.AppendError(nil, m.ID, asWire(err))
	}
	return wire.AppendResult(nil, m.ID, a.bytes())
}

// batchStream takes what a server says while it answers a request of a batch.
type batchStream struct{ s *session }

func (b batchStream) Notify(method string, params json.RawMessage) {
	sessionUpcalls{b.s, nil}.put(method, params)
}

func (b batchStream) Request(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error) {
	return sessionUpcalls{b.s, nil}.Request(ctx, method, params)
}
