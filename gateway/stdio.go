package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
)

// stdioEdge serves one client over a pair of streams, in both eras: a message says itself which one it is of.
type stdioEdge struct {
	g    *Gateway
	sess *session // the process of the client; modern requests use it only to be cancelled
	wg   sync.WaitGroup

	shaken atomic.Bool // the client has the answer to initialize, and may be told of changes

	mu  sync.Mutex // guards out
	out io.Writer
}

// ServeStdio serves one client over in and out until in ends, ctx is done or the gateway drains. Requests in flight may then finish
// within Timeouts.Shutdown. Only one client can be served so at a time by a process that owns in and out.
func (g *Gateway) ServeStdio(ctx context.Context, in io.Reader, out io.Writer) error {
	cfg := &g.settings.Load().Gateway
	e := &stdioEdge{g: g, sess: newSession(g, "", "stdio"), out: out}
	e.sess.streaming = true
	g.stdio.add(e.sess, math.MaxInt)
	defer g.stdio.remove(e.sess)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	e.wg.Go(func() { e.pump(ctx, e.sess.box) })

	lines := wire.NewLineReader(in, int(cfg.Limits.RequestBytes))
	read := make(chan error, 1)
	// Reading cannot be interrupted; the goroutine ends with in, which ends with the process.
	go func() { read <- e.read(ctx, lines) }()
	var err error
	select {
	case err = <-read:
	case <-ctx.Done():
	case <-g.draining:
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	e.finish(cfg.Timeouts.Shutdown, cancel)
	return err
}

// finish waits for requests in flight, then ends the rest.
func (e *stdioEdge) finish(patience time.Duration, cancel context.CancelFunc) {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for e.sess.busy.Load() > 0 {
		select {
		case <-poll.C:
			continue
		case <-deadline.C:
			e.g.log.Warn("ending with requests in flight", "count", e.sess.busy.Load())
		}
		break
	}
	e.sess.end(errSessionEnded)
	cancel()
	e.wg.Wait()
}

// read takes messages until the client ends its output.
func (e *stdioEdge) read(ctx context.Context, lines *wire.LineReader) error {
	depth := e.g.settings.Load().Gateway.Limits.Depth
	for {
		line, err := lines.Next()
		var tooLong *wire.LineTooLongError
		switch {
		case errors.As(err, &tooLong):
			e.fail(nil, wire.Errorf(wire.CodeInvalidRequest, "%v (gateway.limits.request_bytes)", err))
			continue
		case err != nil:
			return err
		}
		m, err := wire.Parse(line, depth)
		if err != nil {
			code := int64(wire.CodeInvalidRequest)
			if _, ok := errors.AsType[*wire.SyntaxError](err); ok {
				code = wire.CodeParse
			}
			e.fail(m.ID, wire.Errorf(code, "%v", err))
			continue
		}
		e.take(ctx, &m)
	}
}

// take deals with one message.
func (e *stdioEdge) take(ctx context.Context, m *wire.Message) {
	t := e.g.tableFor("")
	switch {
	case m.IsResponse():
		if !e.sess.answered(*m) {
			e.g.log.DebugContext(ctx, "response to no open request ignored")
		}
		return
	case m.IsNotification():
		e.g.notified(ctx, e.sess, t, m.Method, m.Params)
		return
	}
	r := &request{method: m.Method, id: m.ID, params: m.Body, table: t, principal: e.sess.principal}
	if wire.Get(r.meta(), metaProtocolVersion) != nil {
		if no := checkModernMeta(m); no != nil {
			e.fail(m.ID, no)
			return
		}
		r.modern = true
	} else {
		r.sess = e.sess
		switch {
		case m.Method == "initialize":
			e.initialize(t, m)
			return
		case e.sess.revision == "" && m.Method != "ping":
			e.fail(m.ID, wire.Errorf(wire.CodeInvalidRequest, "send initialize first, or name revision %s in params._meta[%q]", downstream.Modern, metaProtocolVersion))
			return
		}
	}
	limit := e.g.settings.Load().Gateway.Limits.InFlight
	switch err := e.g.work.Enter(limit); {
	case errors.Is(err, downstream.ErrGateFull):
		e.fail(m.ID, wire.Errorf(wire.CodeOverloaded, "%d requests are being answered already (gateway.limits.in_flight), this one was not executed", limit))
		return
	case err != nil:
		e.fail(m.ID, wire.Errorf(wire.CodeUnavailable, "the gateway is shutting down, the request was not executed"))
		return
	}
	ctx, cancel := context.WithCancelCause(ctx)
	if err := e.sess.begin(m.ID, cancel); err != nil {
		cancel(nil)
		e.g.work.Leave()
		e.fail(m.ID, asWire(err))
		return
	}
	e.wg.Go(func() {
		defer cancel(nil)
		if r.modern && m.Method == "subscriptions/listen" {
			defer e.sess.done(m.ID)
			e.g.work.Leave() // a stream that waits for news is not work that a shutdown waits for
			e.listen(ctx, r)
			return
		}
		defer e.g.work.Leave()
		e.sess.enter()
		defer e.sess.leave()
		e.answer(ctx, r)
	})
}

// checkModernMeta checks what every modern request must carry, where there are no headers.
func checkModernMeta(m *wire.Message) *wire.Error {
	meta := m.Body.Get("_meta")
	if v, _ := wire.GetString(meta, metaProtocolVersion); v != downstream.Modern {
		e := wire.Errorf(wire.CodeUnsupportedProtocol, "unsupported protocol version")
		e.Data = wire.Edit(nil, wire.Member{Key: "supported", Value: []byte(`["` + downstream.Modern + `"]`)}, wire.Member{Key: "requested", Value: wire.Quote(v)})
		return e
	}
	if !wire.IsObject(wire.Get(meta, metaClientCapabilities)) {
		return wire.Errorf(wire.CodeInvalidParams, "params._meta[%q] must be an object", metaClientCapabilities)
	}
	return nil
}

func (e *stdioEdge) initialize(t *table, m *wire.Message) {
	if e.sess.revision != "" {
		e.fail(m.ID, wire.Errorf(wire.CodeInvalidRequest, "initialize was sent already"))
		return
	}
	result, err := e.g.initialize(e.sess, t, &m.Body)
	if err != nil {
		e.fail(m.ID, asWire(err))
		return
	}
	e.write(wire.AppendResult(nil, m.ID, result))
	e.shaken.Store(true)
}

// answer serves one request and writes the answer, unless the client cancelled it.
func (e *stdioEdge) answer(ctx context.Context, r *request) {
	st := &stdioStream{e: e, r: r, token: wire.Get(r.meta(), "progressToken")}
	r.stream = st
	stop := st.keepAlive(ctx)
	a, err := e.g.serve(ctx, r)
	stop()
	e.sess.done(r.id) // before the answer: with it the client may use the id again
	switch {
	case errors.Is(context.Cause(ctx), errCancelledByClient):
	case err != nil:
		e.fail(r.id, asWire(err))
	default:
		e.write(wire.AppendResult(make([]byte, 0, a.len()+64), r.id, a.bytes()))
	}
}

func (e *stdioEdge) fail(id json.RawMessage, err *wire.Error) {
	e.write(wire.AppendError(nil, id, err))
}

// write sends one message. When the client is gone its input ends too, so a failure needs no second report.
func (e *stdioEdge) write(msg []byte) {
	line := oneLine(msg)
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := e.out.Write(append(slices.Clip(line), '\n')); err != nil {
		e.g.log.Debug("writing to the client failed", "err", err)
	}
}

// pump sends what belongs to no request.
func (e *stdioEdge) pump(ctx context.Context, box *mailbox) {
	for {
		select {
		case <-box.signal:
			msgs, dropped := box.take()
			if dropped > 0 {
				e.g.log.WarnContext(ctx, "notifications dropped, the client read its stream too slowly", "count", dropped)
			}
			if box == e.sess.box && !e.shaken.Load() {
				continue // not initialized, or a modern client: it has listen
			}
			for _, m := range msgs {
				e.write(m)
			}
		case <-ctx.Done():
			return
		}
	}
}

// listen serves subscriptions/listen until the client cancels it or the gateway ends.
func (e *stdioEdge) listen(ctx context.Context, r *request) {
	if err := checkParams(&r.params); err != nil {
		e.fail(r.id, asWire(err))
		return
	}
	l, end, err := e.g.listen(r, "")
	if errors.Is(err, errTooManyStreams) {
		err = wire.Errorf(wire.CodeOverloaded, "%v (gateway.limits.streams)", err)
	}
	if err != nil {
		e.fail(r.id, asWire(err))
		return
	}
	defer end()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(e.g.ctx, cancel)
	defer stop()
	go func() { // ends with ctx, which this function cancels
		select {
		case <-e.g.draining:
			cancel()
		case <-l.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	e.pump(ctx, l.box)
	if !errors.Is(context.Cause(ctx), errCancelledByClient) {
		rest, _ := l.box.take() // what was said before the end
		for _, m := range rest {
			e.write(m)
		}
		e.write(wire.AppendResult(nil, r.id, []byte(`{"resultType":"complete","_meta":{"`+metaSubscriptionID+`":`+string(r.id)+`}}`)))
	}
}

// stdioStream takes what a server says while it answers one request of a stdio client.
type stdioStream struct {
	e *stdioEdge
	r *request

	mu       sync.Mutex // guards what follows
	token    json.RawMessage
	spoke    bool
	progress float64
	floor    float64 // what an attempt that failed had reached: progress must not go back
}

// Notify implements downstream.Stream.
func (s *stdioStream) Notify(method string, params json.RawMessage) {
	if method == "notifications/message" {
		if s.r.sess != nil && !s.r.sess.wantsLog(params) || s.r.sess == nil && !wantsLogModern(s.r, params) {
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spoke = true
	if method == "notifications/progress" {
		if p, err := strconv.ParseFloat(string(wire.Get(params, "progress")), 64); err == nil {
			if s.floor > 0 && p <= s.floor {
				return
			}
			s.progress = p
		}
	}
	s.e.write(notification(method, params, nil))
}

// goesOn implements patient.
func (s *stdioStream) goesOn(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token == nil {
		return
	}
	s.spoke = true
	s.progress += progressStep
	s.floor = s.progress
	s.e.write(notification("notifications/progress", progressOf(s.token, s.progress, text), nil))
}

// Request implements downstream.Stream.
func (s *stdioStream) Request(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error) {
	if err := askable(s.r, method); err != nil {
		return nil, err
	}
	return s.r.sess.ask(ctx, method, params, func(msg []byte) error {
		s.e.write(msg)
		return nil
	})
}

// keepAlive tells the client of a call that takes long that it is alive, if the client asked for progress. The returned function ends
// that and waits for it.
func (s *stdioStream) keepAlive(ctx context.Context) (stop func()) {
	if s.token == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	begun := time.Now()
	go func() {
		defer close(done)
		beat := time.NewTicker(s.e.g.settings.Load().Gateway.Timeouts.Heartbeat)
		defer beat.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-beat.C:
				s.beat(begun)
			}
		}
	}()
	return func() { cancel(); <-done }
}

func (s *stdioStream) beat(begun time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.spoke {
		s.progress += progressStep
		s.e.write(notification("notifications/progress", waiting(s.token, s.progress, begun), nil))
	}
	s.spoke = false
}

// progressStep is more than nothing, as the specification wants of each further progress, and less than what a server will say.
const progressStep = 1e-9

// waiting is the progress that the gateway reports when a server reports none.
func waiting(token json.RawMessage, progress float64, begun time.Time) json.RawMessage {
	return progressOf(token, progress, fmt.Sprintf("mcpgw: still waiting for the server, %s", time.Since(begun).Round(time.Second)))
}

func progressOf(token json.RawMessage, progress float64, text string) json.RawMessage {
	return wire.Edit(nil, wire.Member{Key: "progressToken", Value: token},
		wire.Member{Key: "progress", Value: strconv.AppendFloat(nil, progress, 'g', -1, 64)},
		wire.Member{Key: "message", Value: wire.Quote(text)})
}
