package downstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/downstream/builtin"
	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
	"github.com/mcpgw/mcpgw/internal/wire"
)

// inProcessOpener opens sessions with a server that runs in the gateway's own process.
type inProcessOpener struct {
	cfg    *Config
	log    *slog.Logger
	info   json.RawMessage
	server *mcp.Server
	era    era
	end    func(context.Context) error // gives back what the server holds; nil for nothing
}

// lateOpener makes a built-in server when the first session is opened, and tries again as for any server that is away: a key of the
// wrong form, or a file that is not there yet, is the trouble of this server and of no other.
type lateOpener struct {
	make func() (*inProcessOpener, error)

	mu   sync.Mutex
	made *inProcessOpener // nil until it could be made; guarded by mu
}

func newInProcessOpener(name string, cfg *Config, log *slog.Logger, version string, lab *Lab) opener {
	return &lateOpener{make: func() (*inProcessOpener, error) {
		conf, err := cfg.builtinConfig()
		if err != nil {
			return nil, err
		}
		conf.Name, conf.Version, conf.Log, conf.Lab = name, version, log, lab
		server, err := builtin.New(cfg.Preset, conf)
		if err != nil {
			return nil, err
		}
		o := newServerOpener(server.MCP, cfg, log, version)
		o.end = server.Close
		return o, nil
	}}
}

func (l *lateOpener) open(ctx context.Context, o opening) (link, error) {
	l.mu.Lock()
	if l.made == nil {
		made, err := l.make()
		if err != nil {
			l.mu.Unlock()
			return nil, &UnavailableError{Class: "configuration", Err: err}
		}
		l.made = made
	}
	made := l.made
	l.mu.Unlock()
	return made.open(ctx, o)
}

func (l *lateOpener) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.made != nil {
		l.made.close()
	}
}

// newServerOpener returns an opener for a server in this process.
func newServerOpener(server *mcp.Server, cfg *Config, log *slog.Logger, version string) *inProcessOpener {
	// The SDK runs handlers in goroutines of its own: a panic would end the gateway.
	server.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (result mcp.Result, err error) {
			defer func() {
				if r := recover(); r != nil {
					log.ErrorContext(ctx, "a built-in server panicked", "method", method, "err", fmt.Sprint(r), "stack", string(debug.Stack()))
					result, err = nil, errors.New("the built-in server failed; the gateway's log says where")
				}
			}()
			return next(ctx, method, req)
		}
	})
	return &inProcessOpener{cfg: cfg, log: log, info: gatewayInfo(version), server: server}
}

func (s *inProcessOpener) close() {
	if s.end == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Timeouts.Close)
	defer cancel()
	if err := s.end(ctx); err != nil {
		s.log.WarnContext(ctx, "the built-in server could not give everything back", "err", err)
	}
}

func (s *inProcessOpener) open(ctx context.Context, o opening) (link, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeouts.Initialize)
	defer cancel()
	if o.info == nil {
		o.info = s.info
	}
	l := &inProcessLink{in: make(chan []byte, 16), closed: make(chan struct{})}
	l.mux = newMux(l.send, o, muxConfig{limits: s.cfg.Limits, grace: s.cfg.Timeouts.Close, log: s.log})
	session, err := s.server.Connect(context.WithoutCancel(ctx), l, nil)
	if err != nil {
		l.mux.fail(err)
		return nil, &UnavailableError{Class: "connect", Err: err}
	}
	l.session = session
	p, err := negotiate(ctx, l.mux, &o, s.cfg, &s.era)
	if err != nil {
		l.close(ctx)
		return nil, &UnavailableError{Class: "connect", Err: err}
	}
	l.start(p)
	return l, nil
}

// inProcessLink is a session with a server in this process. It is also the server's end of the session, as the SDK wants it: what
// one side writes is handed to the other as it is, with no stream between them.
type inProcessLink struct {
	*mux
	session *mcp.ServerSession
	in      chan []byte // to the server
	once    sync.Once
	closed  chan struct{} // no more messages either way
	out     sync.Mutex    // held while the mux takes a message
}

// Connect implements mcp.Transport.
func (l *inProcessLink) Connect(context.Context) (mcp.Connection, error) { return serverEnd{l}, nil }

// call implements link. What the system behind a built-in server did wrong is an error as it would be of a remote server.
func (l *inProcessLink) call(ctx context.Context, c *Call) (json.RawMessage, error) {
	raw, err := l.mux.call(ctx, c)
	if rpc, ok := errors.AsType[*wire.Error](err); ok && rpc.Code == kit.CodeFailure {
		return nil, ofSystem(rpc)
	}
	return raw, err
}

// ofSystem turns a failure that a built-in server reports into an error of this package.
func ofSystem(rpc *wire.Error) error {
	f, err := kit.ParseFailure(rpc.Data)
	if err != nil {
		return rpc
	}
	switch {
	case f.Status != 0 || f.Class == kit.ClassRateLimited || f.Class == kit.ClassBusy || f.Class == kit.ClassAuth || f.Class == kit.ClassAuthExhausted:
		e := &StatusError{Status: f.Status, RetryAfter: f.RetryAfter, Text: f.Message, Refused: !f.Executed}
		if f.Class != kit.ClassStatus {
			e.Class = f.Class
		}
		return e
	case f.Executed:
		return &LostError{Class: f.Class, Err: f}
	}
	return &UnavailableError{Class: f.Class, RetryAfter: f.RetryAfter, Err: f}
}

// send is the writeFunc of the link.
func (l *inProcessLink) send(ctx context.Context, msg []byte) error {
	select {
	case l.in <- msg:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-l.closed:
		return &UnavailableError{Class: "connection_closed", Err: l.err()}
	}
}

// close implements link.
func (l *inProcessLink) close(ctx context.Context) {
	l.fail(errors.New("the gateway closed the session"))
	ended := make(chan struct{})
	go func() {
		// The end of what it reads makes the server cancel its handlers. Closing first could wait for one whose request was still
		// on its way, such as subscriptions/listen, for ever.
		l.end()
		_ = l.session.Close()
		l.wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

func (l *inProcessLink) end() {
	l.once.Do(func() {
		close(l.closed)
		l.fail(errors.New("the built-in server ended the session"))
	})
}

// serverEnd is the server's end of an inProcessLink, an mcp.Connection.
type serverEnd struct{ l *inProcessLink }

func (e serverEnd) SessionID() string { return "" }

func (e serverEnd) Read(ctx context.Context) (jsonrpc.Message, error) {
	select {
	case msg := <-e.l.in:
		return jsonrpc.DecodeMessage(msg)
	case <-e.l.closed:
		return nil, io.EOF
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (e serverEnd) Write(_ context.Context, msg jsonrpc.Message) error {
	line, err := jsonrpc.EncodeMessage(msg)
	if err != nil {
		return err
	}
	e.l.out.Lock()
	defer e.l.out.Unlock()
	select {
	case <-e.l.closed:
		return io.ErrClosedPipe
	default:
	}
	e.l.receive(line)
	return nil
}

func (e serverEnd) Close() error {
	e.l.end()
	return nil
}
