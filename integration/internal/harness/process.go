package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Spec says what to start.
type Spec struct {
	Name string    // for messages; "" means Path
	Path string    // program
	Args []string  // without the program itself
	Env  []string  // complete environment; nil inherits the caller's
	Dir  string    // working directory; "" is the caller's
	Log  io.Writer // gets the error stream besides the memory of it; nil for none

	Stdin  io.Reader // nil for none
	Stdout io.Writer // nil joins the error stream
}

// Process is a running program in a process group of its own. It ends with the caller, however that ends. Its methods may be
// called at the same time.
type Process struct {
	name string
	cmd  *exec.Cmd
	log  *tail
	done chan struct{}
	err  error // valid once done is closed
}

// Start runs the program. The caller ends it with Stop or Kill; when ctx is done it is killed.
func Start(ctx context.Context, s Spec) (*Process, error) {
	if s.Name == "" {
		s.Name = s.Path
	}
	p := &Process{name: s.Name, log: &tail{also: s.Log}, done: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, s.Path, s.Args...)
	p.cmd.Env, p.cmd.Dir, p.cmd.Stdin, p.cmd.Stderr = s.Env, s.Dir, s.Stdin, p.log
	p.cmd.Stdout = s.Stdout
	if s.Stdout == nil {
		p.cmd.Stdout = p.log
	}
	// Pdeathsig follows the thread that forked; the Go runtime keeps its threads for as long as the process lives.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.cmd.Cancel = func() error { return syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) }
	p.cmd.WaitDelay = 2 * time.Second
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", s.Name, err)
	}
	go func() { // ends with the process; every way of ending one waits for done
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Log returns the last 64 KiB of the error stream (and of the output, unless Spec.Stdout took it).
func (p *Process) Log() string { return p.log.String() }

// Signal sends sig to the process alone, not to its group.
func (p *Process) Signal(sig syscall.Signal) error { return p.cmd.Process.Signal(sig) }

// Stop asks the process to end with SIGTERM and waits at most limit before the group is killed. The error says how it ended:
// nil for exit code 0.
func (p *Process) Stop(limit time.Duration) error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		<-p.done
		return p.err
	}
	select {
	case <-p.done:
		return p.err
	case <-time.After(limit):
		p.Kill()
		return fmt.Errorf("%s did not end within %s of SIGTERM", p.name, limit)
	}
}

// Kill kills the group and waits for the process.
func (p *Process) Kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // it may have ended by itself
	<-p.done
}

// WaitListening waits until something accepts connections at addr, the process has ended or ctx is done.
func (p *Process) WaitListening(ctx context.Context, addr string) error {
	return p.Until(ctx, "listening at "+addr, func() error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
}

// Until polls ready every few milliseconds until it returns nil, the process has ended or ctx is done. The error then holds the
// last one of ready and the end of the log.
func (p *Process) Until(ctx context.Context, what string, ready func() error) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.done:
			return fmt.Errorf("%s ended before %s (%w); its log:\n%s", p.name, what, errors.Join(p.err, err), p.Log())
		case <-ctx.Done():
			return fmt.Errorf("%s: waiting for %s: %w; its log:\n%s", p.name, what, errors.Join(context.Cause(ctx), err), p.Log())
		}
	}
}

// FreeAddr returns a loopback address that nothing listens at just now.
func FreeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed at once
	if err != nil {
		return "", fmt.Errorf("looking for a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

const tailSize = 64 << 10

// tail remembers the end of what is written to it.
type tail struct {
	mu   sync.Mutex // guards buf
	buf  []byte
	also io.Writer
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - tailSize; over > tailSize {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	if t.also != nil {
		return t.also.Write(b)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.buf
	if over := len(b) - tailSize; over > 0 {
		b = b[over:]
	}
	return strings.ToValidUTF8(string(b), "\ufffd")
}
