package downstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// writeFunc sends one message. It returns when the message is on its way or ctx is done. An error that is an *UnavailableError,
// or the cause of ctx as it is, says that nothing of the message left; after any other error some of it may have. It owns msg
// from then on, which has room for one more byte.
type writeFunc func(ctx context.Context, msg []byte) error

// muxConfig is what a mux is made with.
type muxConfig struct {
	limits Limits
	grace  time.Duration // for telling the server that a request was given up
	silent func()        // called when the time of a request is over without an answer; must not block; nil for nobody
	log    *slog.Logger
}

// mux carries the requests of many callers over one stream of messages, and takes apart what comes back. The transport's reader
// feeds it by receive and ends it by fail.
//
// On such a stream a message of the server's own does not say to which call it belongs. It goes to the only call in flight if
// there is but one, and outside of any call to opening.upcalls. With several calls in flight it goes to the newest one if they
// are all of one client; between calls of different clients the mux never guesses.
type mux struct {
	write writeFunc
	o     opening
	cfg   muxConfig
	log   *slog.Logger

	self atomic.Pointer[peer] // set once by start

	mu      sync.Mutex // guards what follows
	next    int64      // the last id used
	calls   map[int64]*pending
	own     int                                // how many of calls are the link's own
	serving map[string]context.CancelCauseFunc // the server's requests being answered, by their ids
	why     error                              // of the end
	closing bool                               // no goroutine may be started any more

	upcalls lockedStream // opening.upcalls, one notification at a time
	listen  listener
	ended   chan struct{}
	ctx     context.Context // of what belongs to no call; ends with the session
	cancel  context.CancelCauseFunc
	wg      sync.WaitGroup
	heard   atomic.Int64 // messages received, whatever they were
	dropped dropCounts
}

// dropCounts counts what a server sent in vain.
type dropCounts struct {
	late     atomic.Int64 // answers that nobody waited for any more, or never
	progress atomic.Int64 // progress of an unknown or finished call
	messages atomic.Int64 // notifications that could have belonged to several calls
	garbage  atomic.Int64 // lines that are no messages
	requests atomic.Int64 // requests beyond the bound of those being answered
}

// pending is one request that waits for its answer.
type pending struct {
	id     int64
	ctx    context.Context // of the caller; what the server asks meanwhile is asked on its behalf
	stream Stream          // nil refuses requests and drops notifications
	token  json.RawMessage // the client's progress token; nil for none
	own    bool            // the link's own request, which no limit refuses
	answer chan answer

	mu       sync.Mutex // held while stream takes a notification; guards what follows
	over     bool       // nothing may go to stream any more
	asking   context.Context
	stop     context.CancelFunc // ends asking; nil until stream is asked something
	requests sync.WaitGroup     // what stream is being asked
}

type answer struct {
	result json.RawMessage
	err    error
}

// newMux returns a mux on which nothing has been negotiated. It must be ended by fail and then waited for by wait.
func newMux(write writeFunc, o opening, cfg muxConfig) *mux {
	if cfg.log == nil {
		cfg.log = slog.New(slog.DiscardHandler)
	}
	m := &mux{
		write: write, o: o, cfg: cfg, log: cfg.log, calls: map[int64]*pending{}, serving: map[string]context.CancelCauseFunc{},
		upcalls: lockedStream{Stream: o.upcalls}, ended: make(chan struct{}),
	}
	m.ctx, m.cancel = context.WithCancelCause(context.Background())
	m.listen.init(m)
	return m
}

// start makes p what the handshake learnt. It is called once, before call.
func (m *mux) start(p *peer) {
	m.self.Store(p)
	if m.o.listen && p.modern() {
		m.listen.begin(p)
	}
}

func (m *mux) peer() *peer { return m.self.Load() }

func (m *mux) done() <-chan struct{} { return m.ended }

func (m *mux) err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.why
}

// fail ends the session: calls in flight are lost because of err. Only the first err counts.
func (m *mux) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.why != nil {
		return
	}
	m.why = err
	m.closing = true
	m.cancel(err)
	close(m.ended)
}

// wait returns when all goroutines of a mux that was ended have ended.
func (m *mux) wait() { m.wg.Wait() }

// spawn runs f in a goroutine that wait waits for. It reports false if the session has ended.
func (m *mux) spawn(f func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closing {
		return false
	}
	m.wg.Go(f)
	return true
}

// call implements link.
func (m *mux) call(ctx context.Context, c *Call) (json.RawMessage, error) {
	p, err := m.register(ctx, c.Stream, false)
	if err != nil {
		return nil, err
	}
	var scratch [20]byte
	id := strconv.AppendInt(scratch[:0], p.id, 10)
	msg, token := outgoingRequest(id, c, m.peer(), &m.o, id)
	if token != nil {
		p.mu.Lock()
		p.token = token
		p.mu.Unlock()
	}
	return m.roundTrip(ctx, p, msg, true)
}

// request implements messenger.
func (m *mux) request(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error) {
	p, err := m.register(ctx, nil, true)
	if err != nil {
		return nil, err
	}
	msg := wire.AppendRequest(make([]byte, 0, len(method)+len(params)+64), strconv.AppendInt(nil, p.id, 10), method, params)
	return m.roundTrip(ctx, p, msg, false)
}

// notify implements link and messenger.
func (m *mux) notify(ctx context.Context, method string, params json.RawMessage) error {
	if err := m.usable(); err != nil {
		return err
	}
	params = withoutReserved(params)
	size := len(method) + len(params) + 64
	return m.write(ctx, wire.AppendNotification(make([]byte, 0, size), method, params))
}

func (m *mux) usable() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.why != nil {
		return &UnavailableError{Class: "connection_closed", Err: m.why}
	}
	return nil
}

// register gives a request its id.
func (m *mux) register(ctx context.Context, s Stream, own bool) (*pending, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	p := &pending{ctx: ctx, stream: s, own: own, answer: make(chan answer, 1)}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.why != nil:
		return nil, &UnavailableError{Class: "connection_closed", Err: m.why}
	case !own && len(m.calls)-m.own >= m.cfg.limits.InFlight:
		return nil, &UnavailableError{Class: "overloaded", Err: fmt.Errorf("%d requests wait for its answer already (limits.in_flight)", m.cfg.limits.InFlight)}
	}
	m.next++
	p.id = m.next
	m.calls[p.id] = p
	if own {
		m.own++
	}
	return p, nil
}

// forget takes a request out of the table. Its id is not used again, so an answer that still comes is known to be late.
func (m *mux) forget(p *pending) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.calls[p.id] == p {
		delete(m.calls, p.id)
		if p.own {
			m.own--
		}
	}
}

// roundTrip sends p's request and waits for the answer. If tell is set, the server is told when ctx ends first.
func (m *mux) roundTrip(ctx context.Context, p *pending, msg []byte, tell bool) (json.RawMessage, error) {
	defer p.finish()
	defer m.forget(p)
	if err := m.write(ctx, msg); err != nil {
		return nil, m.notWritten(ctx, p, err, tell)
	}
	ended := false
	select {
	case a := <-p.answer:
		return a.result, a.err
	case <-ctx.Done():
	case <-m.ended:
		ended = true
	}
	select {
	case a := <-p.answer: // it came at the same moment
		return a.result, a.err
	default:
	}
	if ended {
		return nil, &LostError{Class: "connection", Err: m.err()}
	}
	return nil, m.givenUp(ctx, p, tell)
}

// notWritten says what an error of write means for the caller.
func (m *mux) notWritten(ctx context.Context, p *pending, err error, tell bool) error {
	cause := context.Cause(ctx)
	var away *UnavailableError
	switch {
	case errors.As(err, &away):
		return err
	case cause != nil && err == cause: //nolint:errorlint // write returns the cause itself where nothing was sent
		if !errors.Is(cause, context.DeadlineExceeded) {
			return cause
		}
		m.isSilent()
		return &UnavailableError{Class: "overloaded", Err: fmt.Errorf("the server has not read its earlier input: %w", cause)}
	case cause != nil:
		return m.givenUp(ctx, p, tell)
	}
	return &LostError{Class: "connection", Err: err}
}

// givenUp returns the error of a request whose ctx has ended, and tells the server.
func (m *mux) givenUp(ctx context.Context, p *pending, tell bool) error {
	cause := context.Cause(ctx)
	class := "cancelled"
	if errors.Is(cause, context.DeadlineExceeded) || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		class = "timeout"
		if !p.own {
			m.isSilent()
		}
	}
	m.forget(p) // before the server hears of it: whatever it answers now is late
	if tell {
		m.spawn(func() { m.tellCancelled(p.id, cause.Error()) })
	}
	return &LostError{Class: class, Err: cause}
}

func (m *mux) isSilent() {
	if m.cfg.silent != nil {
		m.cfg.silent()
	}
}

// tellCancelled sends notifications/cancelled for a request of ours.
func (m *mux) tellCancelled(id int64, reason string) {
	ctx, cancel := context.WithTimeout(m.ctx, m.cfg.grace)
	defer cancel()
	params := strconv.AppendInt([]byte(`{"requestId":`), id, 10)
	params = append(wire.AppendString(append(params, `,"reason":`...), reason), '}')
	if err := m.notify(ctx, "notifications/cancelled", params); err != nil {
		m.log.Debug("the server could not be told of a cancelled request", "err", err)
	}
}

// finish ends what p's stream is being asked, and returns when the stream takes nothing more.
func (p *pending) finish() {
	p.mu.Lock()
	p.over = true
	stop := p.stop
	p.mu.Unlock()
	if stop != nil {
		stop()
		p.requests.Wait()
	}
}

// tell hands a notification to p's stream, unless the call is over.
func (p *pending) tell(method string, params json.RawMessage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over && p.stream != nil {
		p.stream.Notify(method, params)
	}
}

// ask begins a request to p's stream. It returns the context to ask in and what to call when it is answered; the context is nil
// if the call is over.
func (p *pending) ask() (context.Context, func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return nil, nil
	}
	if p.asking == nil {
		p.asking, p.stop = context.WithCancel(p.ctx)
	}
	p.requests.Add(1)
	return p.asking, p.requests.Done
}
