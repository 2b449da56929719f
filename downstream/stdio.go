package downstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/downstream/internal/proc"
	"github.com/mcpgw/mcpgw/internal/wire"
)

// MaybeReaper is called first of all by the main function of a program that uses this package. On Linux the gateway starts its own
// program again, once for each stdio server, to be the one that ends the server and all that it started, even when the gateway
// is killed: in such a process MaybeReaper does that and never returns. Without the call only process groups are ended.
func MaybeReaper() { proc.MaybeReaper() }

// stdioOpener opens a process for each link.
type stdioOpener struct {
	cfg  *Config
	log  *slog.Logger
	info json.RawMessage
	era  era
}

func newStdioOpener(_ string, cfg *Config, log *slog.Logger, version string) (opener, error) {
	return &stdioOpener{cfg: cfg, log: log, info: gatewayInfo(version)}, nil
}

// gatewayInfo is the clientInfo that servers are shown.
func gatewayInfo(version string) json.RawMessage {
	return append(wire.AppendString([]byte(`{"name":"mcpgw","version":`), version), '}')
}

func (s *stdioOpener) close() {}

// open starts the command and does the handshake, within Timeouts.Initialize. The process does not depend on ctx any more once
// open has returned.
func (s *stdioOpener) open(ctx context.Context, o opening) (link, error) {
	limit := s.cfg.Timeouts.Initialize
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not ready within %s (timeouts.initialize): %w", limit, context.DeadlineExceeded))
	defer cancel()
	if o.info == nil {
		o.info = s.info
	}
	l, p, err := s.attempt(ctx, o, false)
	if broken := (*discoverError)(nil); errors.As(err, &broken) && s.cfg.Protocol == "auto" && ctx.Err() == nil {
		// Some older servers end when a request comes before initialize.
		s.log.DebugContext(ctx, "the server ended when it was asked server/discover, starting it again for the older handshake", "err", err)
		l, p, err = s.attempt(ctx, o, true)
	}
	if err != nil {
		return nil, &UnavailableError{Class: "connect", Err: err}
	}
	l.start(p)
	return l, nil
}

// attempt starts the command once. If legacy is set, server/discover is left out.
func (s *stdioOpener) attempt(ctx context.Context, o opening, legacy bool) (*stdioLink, *peer, error) {
	env := make(map[string]string, len(s.cfg.Env))
	for name, value := range s.cfg.Env {
		env[name] = value.Reveal()
	}
	child, err := proc.Start(proc.Config{
		Path: s.cfg.Command, Args: s.cfg.Args, Env: proc.Environ(env), Dir: s.cfg.Dir,
		Close: s.cfg.Timeouts.Close, Stderr: s.cfg.Limits.Stderr, Logger: s.log,
	})
	if err != nil {
		return nil, nil, err
	}
	l := &stdioLink{command: s.cfg.Command, child: child, turn: make(chan struct{}, 1), closeAfter: s.cfg.Timeouts.Close, wedgedAfter: s.cfg.Restart.WedgedAfter}
	l.mux = newMux(l.send, o, muxConfig{limits: s.cfg.Limits, grace: s.cfg.Timeouts.Close, silent: l.suspect, log: s.log})
	l.reader.Go(func() { l.read(int(s.cfg.Limits.MessageBytes)) })
	var p *peer
	if legacy {
		if p, err = initialize(ctx, l.mux, &o, Legacy); err == nil {
			s.era.setLegacy(true)
		}
	} else {
		p, err = negotiate(ctx, l.mux, &o, s.cfg, &s.era)
	}
	if err == nil {
		return l, p, nil
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(time.Second, s.cfg.Timeouts.Close))
	defer cancel()
	l.close(ending)
	var exit *proc.ExitError
	if words := child.Stderr(); words != "" && !errors.As(err, &exit) {
		err = fmt.Errorf("%w; the last words of command %q: %s", err, s.cfg.Command, words)
	}
	return nil, nil, err
}

// stdioLink is a session with a process. It owns the process, and a goroutine that reads from it.
type stdioLink struct {
	*mux
	command    string
	child      *proc.Process
	closeAfter time.Duration
	turn       chan struct{} // holds one element while a message is being written
	reader     sync.WaitGroup

	wedgedAfter time.Duration
	watching    atomic.Bool // somebody is finding out whether the process is wedged
}

// read takes what the server writes until it ends, then ends the session.
func (l *stdioLink) read(limit int) {
	lines := wire.NewLineReader(l.child.Stdout, limit)
	for {
		line, err := lines.Next()
		if err == nil {
			l.receive(line)
			continue
		}
		if long := (*wire.LineTooLongError)(nil); errors.As(err, &long) {
			l.tooLong(long)
			continue
		}
		_ = l.child.Stdout.Close()
		l.ended(err)
		return
	}
}

// How long a server that closed its output has to end, so that its exit status can be reported.
const exitPatience = 250 * time.Millisecond

// ended ends the session because the server's output has ended.
func (l *stdioLink) ended(err error) {
	t := time.NewTimer(exitPatience)
	defer t.Stop()
	select {
	case <-l.child.Done():
		l.fail(l.child.Err())
	case <-t.C:
		switch {
		case errors.Is(err, io.EOF):
			err = errors.New("it closed its output without ending")
		case errors.Is(err, os.ErrDeadlineExceeded):
			err = errors.New("it ended, but something that it started cannot be ended")
		}
		l.fail(fmt.Errorf("command %q: %w", l.command, err))
	case <-l.done():
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*l.closeAfter)
	defer cancel()
	l.child.Close(ctx)
}

// send is the writeFunc of the link. A server that does not read keeps the caller no longer than ctx; what was begun is written to
// its end, because half a message would spoil the next one.
func (l *stdioLink) send(ctx context.Context, msg []byte) error {
	joinLines(msg)
	msg = append(msg, '\n')
	select {
	case l.turn <- struct{}{}:
	default:
		select {
		case l.turn <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-l.done():
			return &UnavailableError{Class: "connection_closed", Err: l.err()}
		}
	}
	n, err := l.child.TryWrite(msg)
	if err == nil && n < len(msg) {
		var more int
		more, err = l.sendSlowly(ctx, msg[n:])
		n += more
	}
	switch {
	case err == nil:
		<-l.turn
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded) && n == 0:
		<-l.turn
		return context.Cause(ctx)
	case errors.Is(err, os.ErrDeadlineExceeded):
		if !l.spawn(func() { l.finishMessage(msg[n:]) }) {
			<-l.turn
		}
		return fmt.Errorf("the server does not read: %w", context.Cause(ctx))
	}
	<-l.turn
	if n == 0 {
		return &UnavailableError{Class: "connection_closed", Err: l.reason(err)}
	}
	return l.reason(err)
}

// joinLines makes spaces of the line breaks in a message. They can only stand between tokens, where a client over HTTP may write them; on a
// line of its own, what follows one would be a message that nobody checked.
func joinLines(msg []byte) {
	for _, c := range []byte{'\n', '\r'} {
		for rest := msg; ; {
			i := bytes.IndexByte(rest, c)
			if i < 0 {
				break
			}
			rest[i] = ' '
			rest = rest[i+1:]
		}
	}
}

// sendSlowly writes msg and waits for the server to read, until ctx is done; the error is os.ErrDeadlineExceeded then.
func (l *stdioLink) sendSlowly(ctx context.Context, msg []byte) (int, error) {
	fired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = l.child.Stdin.SetWriteDeadline(time.Unix(1, 0))
		close(fired)
	})
	n, err := l.child.Stdin.Write(msg)
	if !stop() {
		<-fired
		_ = l.child.Stdin.SetWriteDeadline(time.Time{})
		if n == len(msg) {
			err = nil
		}
	}
	return n, err
}

// finishMessage writes the rest of a message whose sender has given up.
func (l *stdioLink) finishMessage(rest []byte) {
	defer func() { <-l.turn }()
	if _, err := l.child.Stdin.Write(rest); err != nil {
		l.log.Debug("the rest of a message could not be written", "err", err)
	}
}

// reason returns why the server cannot be written to: how it ended, if it tells in time. If it has only closed its input, the
// session is of no use any more.
func (l *stdioLink) reason(err error) error {
	t := time.NewTimer(exitPatience)
	defer t.Stop()
	select {
	case <-l.done():
		return l.err()
	case <-t.C:
		l.fail(fmt.Errorf("writing to the server: %w", err))
		return l.err()
	}
}

// close implements link.
func (l *stdioLink) close(ctx context.Context) {
	l.fail(errors.New("the gateway closed the session"))
	l.child.Close(ctx)
	ended := make(chan struct{})
	go func() {
		l.reader.Wait()
		l.wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
}
