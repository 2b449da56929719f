package downstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// Options is what a Server is given besides its Config.
type Options struct {
	Logger  *slog.Logger // nil discards
	Version string       // of the gateway, for clientInfo

	// Changed is called after the catalogue has changed. It must not block.
	Changed func()
	// Ready is called when a session has been opened again, or for the first time. It must not block; nil for nobody.
	Ready func()
	// Upcalls takes what a server says on a session that several clients share, outside of any call: notifications only, such as
	// notifications/resources/updated. Nil drops it.
	Upcalls func(method string, params json.RawMessage)

	Lab *Lab // where presets with "url: lab" have their simulators; nil for none

	// Events tell of what happens, for metrics.
	Events Events

	// Seed is shown as the catalogue until the server has been listed; nil shows nothing. It bridges the time in which a server is
	// replaced by itself with other settings.
	Seed *Catalog
	// Former is the Server that this one replaces; what that knows of the endpoints that both have is taken over. Nil for none.
	Former *Server
}

// State says what a Server is doing.
type State string

// The states of a Server.
const (
	Starting     State = "starting"     // never been ready
	Ready        State = "ready"        // a session is open
	Reconnecting State = "reconnecting" // it was ready, or the first attempt failed
	Stopped      State = "stopped"      // closed, or disabled
)

// Status is what an operator sees of a Server.
type Status struct {
	State     State
	Since     time.Time // of State
	Attempt   int       // failed attempts to open a session since it was last ready
	NextTry   time.Time // of the next attempt; zero while ready or trying
	LastError string    // of a session or call; "" if there was none
	LastErrAt time.Time
	LastOK    time.Time  // last answer of any kind; zero if there was none
	Sessions  int        // open sessions that belong to one client each
	InFlight  int        // calls waiting for an answer
	Endpoints []Endpoint // of a server that has several
}

// A Server is one configured downstream. It owns every process, session and goroutine that it starts; Close waits for all of them.
// Its methods may be called at the same time.
type Server struct {
	name   string
	cfg    Config
	opts   Options
	log    *slog.Logger
	opener opener

	catalog atomic.Pointer[Catalog]
	main    atomic.Pointer[mainLink]
	lastOK  atomic.Int64 // UnixNano
	calls   Gate
	pool    pool

	ctx        context.Context // ends when Close gives up waiting for calls
	cancel     context.CancelFunc
	wg         sync.WaitGroup
	suspect    chan struct{} // a call found the server unreachable
	changed    chan struct{} // the server says that its lists changed
	settled    chan struct{} // closed by settle after the first attempt, however it ended
	settleOnce sync.Once

	mu      sync.Mutex // guards what follows
	status  Status
	away    error                      // why the last attempt to open a session failed, or the session ended
	ended   uint64                     // how often that has happened
	waiting chan struct{}              // closed when main is set, or an attempt failed
	subs    map[string]int             // on the shared session: how many want updates of each URI
	levels  map[string]json.RawMessage // on the shared session: the log level that each client set

	relisted     chan struct{} // closed, and replaced, when the lists have been read
	refreshing   chan struct{} // closed when they have been read again because they were out of date
	refreshed    time.Time     // when that was last asked for
	renegotiated time.Time     // when a session was last ended because its revision was
}

// mainLink is the session that the catalogue is read from, which is also the session that clients share where they share one.
type mainLink struct{ link }

// New returns a Server that does nothing before Start. The Config must be valid.
func New(name string, cfg Config, opts Options) (*Server, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Changed == nil {
		opts.Changed = func() {}
	}
	s := &Server{
		name: name, cfg: cfg, opts: opts, log: opts.Logger.With("downstream", name),
		suspect: make(chan struct{}, 1), changed: make(chan struct{}, 1), settled: make(chan struct{}), waiting: make(chan struct{}),
		subs: map[string]int{}, levels: map[string]json.RawMessage{}, relisted: make(chan struct{}),
	}
	var err error
	if s.opener, err = newOpener(name, &s.cfg, s.log, &opts); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.pool.init(s)
	if opts.Seed == nil {
		opts.Seed = &Catalog{}
	}
	s.catalog.Store(opts.Seed)
	s.status = Status{State: Starting, Since: time.Now()}
	return s, nil
}

// newOpener chooses the transport.
func newOpener(name string, cfg *Config, log *slog.Logger, opts *Options) (opener, error) {
	switch cfg.Kind() {
	case "builtin":
		return newInProcessOpener(name, cfg, log, opts.Version, opts.Lab), nil
	case "stdio":
		return newStdioOpener(name, cfg, log, opts.Version)
	case "http":
		if len(cfg.URLs) > 0 {
			return newReplicas(name, cfg, log, opts.Version, opts.Former)
		}
		return newHTTPOpener(name, cfg, log, opts.Version)
	}
	return nil, fmt.Errorf("downstream %q: unknown kind", name)
}

// Start begins to open a session and to read the catalogue, in the background. It is called once.
func (s *Server) Start() {
	if s.cfg.Disabled {
		s.stopped()
		s.settle()
		return
	}
	s.wg.Go(s.supervise)
}

// Name returns the name in gateway.yaml.
func (s *Server) Name() string { return s.name }

// Config returns the configuration that the Server was made with.
func (s *Server) Config() Config { return s.cfg }

// Catalog returns what the server offers as far as is known: the last good lists while the server is away. It is never nil.
func (s *Server) Catalog() *Catalog { return s.catalog.Load() }

// Settled is closed when the server has been tried once, however that ended.
func (s *Server) Settled() <-chan struct{} { return s.settled }

// Status returns the state of the server. It never waits for the server.
func (s *Server) Status() Status {
	s.mu.Lock()
	st := s.status
	s.mu.Unlock()
	if ns := s.lastOK.Load(); ns != 0 {
		st.LastOK = time.Unix(0, ns)
	}
	st.Sessions = s.pool.len()
	st.InFlight = s.calls.Len()
	if r, ok := s.opener.(*replicas); ok {
		st.Endpoints = r.endpoints()
	}
	return st
}

// newResult reads once what everybody after it wants to know of a result: results can be large.
func newResult(raw json.RawMessage, modern bool) Result {
	r := Result{Raw: raw, Modern: modern}
	if modern {
		kind, _ := wire.GetString(raw, "resultType")
		r.Asks = kind == "input_required"
	}
	return r
}

// Call sends a request to the server and waits for its answer. It opens a session for the client where the server wants one. The
// error is a *wire.Error that the server answered, or one of this package's error types, which say whether the request may have
// been executed.
func (s *Server) Call(ctx context.Context, c *Call) (Result, error) {
	switch err := s.calls.Enter(s.cfg.Limits.InFlight); {
	case err == nil:
	case errors.Is(err, ErrGateFull):
		return Result{}, &UnavailableError{Class: "overloaded", Err: fmt.Errorf("%d requests wait for it already (limits.in_flight)", s.cfg.Limits.InFlight)}
	default:
		return Result{}, &UnavailableError{Class: "stopped", Err: errors.New("it is being removed")}
	}
	defer s.calls.Leave()
	ctx, end := s.limit(ctx, c)
	defer end()
	for again := false; ; again = true {
		l, release, err := s.linkFor(ctx, c.Client)
		if err != nil {
			return Result{}, s.failed(err)
		}
		raw, err := l.call(ctx, c)
		release()
		if err == nil {
			s.lastOK.Store(time.Now().UnixNano())
			return newResult(raw, l.peer().modern()), nil
		}
		var lost *SessionLostError
		if errors.As(err, &lost) && !again {
			// The server refused the session, not the request: nothing was executed, so a new session may carry it.
			s.log.InfoContext(ctx, "the server ended a session, opening a new one", "err", err)
			s.pool.drop(c.Client, l)
			if c.Client != nil && c.Client.Lost != nil {
				c.Client.Lost()
			}
			continue
		}
		if !again && s.renegotiate(l, err) {
			continue // it did not act
		}
		if away, ok := errors.AsType[*UnavailableError](err); ok && away.Class == "connection_closed" && !again {
			continue // it ended just before the request would have been sent
		}
		return Result{}, s.failed(incident(l, err))
	}
}

// incident marks the error of a request that was lost with its whole session, so that the calls that were lost with it can be counted
// as one.
func incident(l link, err error) error {
	lost, ok := err.(*LostError) //nolint:errorlint // as the link made it; one that is wrapped says something else
	if !ok || lost.Class == "cancelled" || lost.Class == "timeout" {
		return err
	}
	select {
	case <-l.done():
		return &LostError{Class: lost.Class, Err: lost.Err, Incident: l}
	default:
		return err
	}
}

// attempt names one failed attempt to open the main session of a server.
type attempt struct {
	s *Server
	n uint64
}

// failed notes the error of a call and returns it.
func (s *Server) failed(err error) error {
	if _, ok := errors.AsType[*wire.Error](err); ok {
		s.lastOK.Store(time.Now().UnixNano()) // it answered
		return err
	}
	if lost := (*LostError)(nil); errors.As(err, &lost) && lost.Class == "cancelled" {
		return err // the client's doing
	}
	s.mu.Lock()
	s.status.LastError, s.status.LastErrAt = err.Error(), time.Now()
	s.mu.Unlock()
	var away *UnavailableError
	if errors.As(err, &away) && away.Class != "overloaded" && away.Class != "stopped" {
		select {
		case s.suspect <- struct{}{}:
		default:
		}
	}
	return err
}

// limit bounds a call: by Timeouts.Call since it was sent or last showed progress, and by Timeouts.MaxCall altogether. Where the caller
// bounds it more tightly itself, as the gateway's policies do, that is enough: a second clock would only cost time.
func (s *Server) limit(ctx context.Context, c *Call) (context.Context, func()) {
	if end, ok := ctx.Deadline(); ok && time.Until(end) <= s.cfg.Timeouts.Call {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	quiet := time.AfterFunc(s.cfg.Timeouts.Call, func() {
		cancel(fmt.Errorf("no answer and no progress within %s (timeouts.call): %w", s.cfg.Timeouts.Call, context.DeadlineExceeded))
	})
	if c.Stream == nil {
		return ctx, func() { quiet.Stop(); cancel(nil) }
	}
	latest := time.Now().Add(s.cfg.Timeouts.MaxCall)
	c.Stream = &lively{Stream: c.Stream, alive: func() {
		quiet.Reset(min(s.cfg.Timeouts.Call, time.Until(latest)))
	}}
	return ctx, func() { quiet.Stop(); cancel(nil) }
}

// lively is a Stream that calls alive for each thing that the server says.
type lively struct {
	Stream
	alive func()
}

func (l *lively) Notify(method string, params json.RawMessage) {
	l.alive()
	l.Stream.Notify(method, params)
}

func (l *lively) Request(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error) {
	l.alive()
	defer l.alive()
	return l.Stream.Request(ctx, method, params)
}

// perClient reports whether each client has a session of its own with this server (architecture.md D14).
func (s *Server) perClient(p *peer) bool {
	switch s.cfg.Session {
	case "shared":
		return false
	case "per_client":
		return !p.modern()
	}
	return s.cfg.Kind() == "http" && !p.modern()
}

// linkFor returns the session for a client's requests, and a function to call when the request is done.
func (s *Server) linkFor(ctx context.Context, c *Client) (link, func(), error) {
	m, err := s.ready(ctx)
	if err != nil {
		return nil, nil, err
	}
	if c == nil || !s.perClient(m.peer()) && (!c.Shared || m.peer().modern() || s.cfg.Session != "shared" || s.cfg.Kind() != "http") {
		return m, func() {}, nil
	}
	return s.pool.get(ctx, c)
}

// ready returns the main session. While one is being opened it waits, at most Timeouts.Ready.
func (s *Server) ready(ctx context.Context) (*mainLink, error) {
	if m := s.live(); m != nil {
		return m, nil
	}
	timer := time.NewTimer(s.cfg.Timeouts.Ready)
	defer timer.Stop()
	for {
		s.mu.Lock()
		waiting, st, away, n := s.waiting, s.status, s.away, s.ended
		s.mu.Unlock()
		if m := s.live(); m != nil {
			return m, nil
		}
		if st.State == Stopped {
			return nil, &UnavailableError{Class: "stopped", Err: errors.New("it is stopped")}
		}
		if wait := time.Until(st.NextTry); !st.NextTry.IsZero() && wait > 0 {
			return nil, &UnavailableError{Class: awayClass(away), RetryAfter: wait, Err: reason(away), Incident: attempt{s, n}}
		}
		select {
		case <-waiting:
		case <-timer.C:
			return nil, &UnavailableError{Class: "starting", RetryAfter: s.cfg.Timeouts.Ready, Err: fmt.Errorf("it is still starting (waited %s)", s.cfg.Timeouts.Ready)}
		case <-ctx.Done():
			return nil, &UnavailableError{Class: "cancelled", Err: context.Cause(ctx)}
		}
	}
}

// live returns the main session; nil if there is none, or if it has ended and the supervisor is about to notice: the next one is worth
// waiting for, that one is not worth trying.
func (s *Server) live() *mainLink {
	m := s.main.Load()
	if m == nil {
		return nil
	}
	select {
	case <-m.done():
		return nil
	default:
		return m
	}
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// awayClass is the class of a call that was not sent because no session could be opened, or the last one ended.
func awayClass(away error) string {
	if e := (*UnavailableError)(nil); errors.As(away, &e) && (e.Class == "dns" || e.Class == "tls" || e.Class == "configuration") {
		return e.Class
	}
	return "connect"
}

// reason is what a call that was not sent is told of the failed attempt to open a session. Of that error only the HTTP status is kept:
// an answer to the handshake is not one to the call.
func reason(away error) error {
	if status := (*StatusError)(nil); errors.As(away, &status) {
		return status
	}
	text := ""
	if away != nil {
		text = strings.TrimPrefix(away.Error(), "server unavailable: ")
	}
	return errors.New(orElse(text, "not connected"))
}

// Close refuses new calls, waits for those in flight until ctx is done, ends every session and process, and waits for that too.
// It may be called more than once, and without Start.
func (s *Server) Close(ctx context.Context) error {
	err := s.calls.Drain(ctx)
	s.cancel()
	s.pool.close(ctx)
	s.wg.Wait()
	s.opener.close()
	s.stopped()
	return err
}
