package proc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Config says what to run.
type Config struct {
	Path string   // found in the PATH of Env unless it has a slash; then relative to Dir
	Args []string // without the program itself
	Env  []string // all of it: nothing is inherited. See [Environ].
	Dir  string   // "" is the gateway's own

	Close  time.Duration // each step of Close
	Stderr int           // bytes of the error stream that are kept for error messages
	Logger *slog.Logger  // takes the error stream line by line; nil discards
}

// How long a process that was killed, and the pipes of one that ended, are waited for.
const (
	killGrace = time.Second
	waitDelay = 2 * time.Second
)

// A Process is one child process with all its descendants. Close must be called, and ends it. Its methods may be called at the
// same time.
type Process struct {
	// Stdin writes to the child. It has deadlines.
	Stdin *os.File
	// Stdout reads from the child. Once the child has ended it can be read for two more seconds. The reader closes it.
	Stdout *os.File

	cfg    Config
	child  child
	stderr *stderrLog

	closing atomic.Bool
	done    chan struct{}
	err     error // set before done is closed
}

// child is what the systems do differently.
type child interface {
	pid() int
	// wait calls ended when the process has ended, and returns how it ended when everything that it started has been killed. It
	// is called once.
	wait(ended func()) error
	// terminate asks the process group to end.
	terminate()
	// kill kills everything. It may be called again where once was not enough.
	kill()
}

// ExitError says how a process ended.
type ExitError struct {
	Path   string
	Status string // "exit status 1", "signal: killed"
	Stderr string // its last lines, cleaned; "" if there were none
}

func (e *ExitError) Error() string {
	s := fmt.Sprintf("command %q ended (%s)", e.Path, e.Status)
	if e.Stderr == "" {
		return s + " without a word on its error stream"
	}
	return s + "; its last words: " + e.Stderr
}

// StartError says why a process could not be started.
type StartError struct {
	Path string
	Err  error
}

func (e *StartError) Error() string { return fmt.Sprintf("command %q: %v", e.Path, e.Err) }
func (e *StartError) Unwrap() error { return e.Err }

// Start runs a command, without a shell. The error is a *[StartError].
func Start(cfg Config) (*Process, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	path, err := lookPath(cfg.Path, cfg.Env, cfg.Dir)
	if err != nil {
		return nil, &StartError{Path: cfg.Path, Err: err}
	}
	var pipes [3][2]*os.File
	for n := range pipes {
		if pipes[n][0], pipes[n][1], err = os.Pipe(); err != nil {
			closeAll(pipes[:n])
			return nil, &StartError{Path: cfg.Path, Err: fmt.Errorf("making its pipes: %w", err)}
		}
	}
	files := []*os.File{pipes[0][0], pipes[1][1], pipes[2][1]}
	c, err := spawn(path, append([]string{cfg.Path}, cfg.Args...), cfg.Env, cfg.Dir, files)
	for _, f := range files {
		_ = f.Close()
	}
	p := &Process{Stdin: pipes[0][1], Stdout: pipes[1][0], cfg: cfg, child: c, done: make(chan struct{})}
	if err != nil {
		closeAll([][2]*os.File{{p.Stdin, p.Stdout}, {pipes[2][0], pipes[2][0]}})
		return nil, &StartError{Path: cfg.Path, Err: err}
	}
	p.stderr = newStderrLog(cfg.Stderr, cfg.Logger)
	go p.run(pipes[2][0])
	return p, nil
}

func closeAll(pipes [][2]*os.File) {
	for _, p := range pipes {
		_ = p[0].Close()
		_ = p[1].Close()
	}
}

// run watches over the process until it has ended; done is closed then.
func (p *Process) run(stderr *os.File) {
	var pump sync.WaitGroup
	pump.Go(func() { p.stderr.read(stderr) })
	err := p.child.wait(func() {
		// Whoever still holds the other end of a pipe, which only a process can that cannot be killed, does not hold us.
		deadline := time.Now().Add(waitDelay)
		_ = p.Stdout.SetReadDeadline(deadline)
		_ = stderr.SetReadDeadline(deadline)
	})
	pump.Wait()
	_ = stderr.Close()
	_ = p.Stdin.Close()
	p.err = &ExitError{Path: p.cfg.Path, Status: err.Error(), Stderr: p.stderr.Tail()}
	close(p.done)
}

// errExited says that a process ended well.
var errExited = errors.New("exit status 0")

// Pid returns the child's process id.
func (p *Process) Pid() int { return p.child.pid() }

// Done is closed when the process and all that it started have ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how the process ended, as an *[ExitError]. It is nil before Done is closed.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Stderr returns the last lines of the error stream, cleaned, on one line.
func (p *Process) Stderr() string { return p.stderr.Tail() }

// Close ends the process: it closes its input, then asks it to end (SIGTERM to the process group), then kills it, and waits after
// each step for Config.Close at most. When ctx is done it goes to the last step at once. It returns when the process and all
// that it started have ended, or a second after they have been killed. While one Close runs another one only waits for it.
func (p *Process) Close(ctx context.Context) {
	if !p.closing.Swap(true) {
		p.end(ctx)
		return
	}
	select {
	case <-p.done:
	case <-ctx.Done():
	}
}

func (p *Process) end(ctx context.Context) {
	_ = p.Stdin.Close()
	if p.waited(ctx, p.cfg.Close) {
		return
	}
	if ctx.Err() == nil {
		p.child.terminate()
		if p.waited(ctx, p.cfg.Close) {
			return
		}
	}
	last := context.WithoutCancel(ctx)
	for range 2 {
		p.child.kill()
		if p.waited(last, killGrace) {
			return
		}
	}
	p.cfg.Logger.ErrorContext(ctx, "a process could not be killed", "pid", p.Pid(), "command", p.cfg.Path)
}

// waited reports whether the process has ended within d.
func (p *Process) waited(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-p.done:
		return true
	case <-t.C:
	case <-ctx.Done():
	}
	return false
}

// Environ returns the environment for a child: what the gateway itself has of PATH, HOME, LANG and TMPDIR, and extra on top.
func Environ(extra map[string]string) []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "LANG", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			if _, replaced := extra[name]; !replaced {
				env = append(env, name+"="+value)
			}
		}
	}
	for name, value := range extra {
		env = append(env, name+"="+value)
	}
	return env
}

// getenv returns the value that a name has in env.
func getenv(env []string, name string) string {
	for _, e := range env {
		if value, ok := strings.CutPrefix(e, name+"="); ok {
			return value
		}
	}
	return ""
}
