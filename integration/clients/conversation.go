package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// output keeps what a program prints to its standard output.
type output struct {
	mu  sync.Mutex // guards buf
	buf strings.Builder
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// place is a home with an agent's settings in it.
type place struct {
	home, url string
	env       []string
	model     *model
	wire      *recorder
	close     func()
}

// settle makes a place for one run.
func (r *runner) settle(ctx context.Context, a agent, gateway, tool, args string) (*place, error) {
	home, err := os.MkdirTemp(r.dir, a.program+"-")
	if err != nil {
		return nil, err
	}
	p := &place{home: home, model: &model{tool: tool, args: args}}
	modelURL, stopModel, err := listening(ctx, p.model)
	if err != nil {
		return nil, err
	}
	if p.wire, err = newRecorder(gateway); err != nil {
		stopModel()
		return nil, err
	}
	wireURL, stopWire, err := listening(ctx, p.wire)
	if err != nil {
		stopModel()
		return nil, err
	}
	p.url = wireURL + "/mcp"
	p.close = func() { stopModel(); stopWire() }
	if p.env, err = a.settings(home, p.url, modelURL); err != nil {
		p.close()
		return nil, fmt.Errorf("settings of %s: %w", a.name, err)
	}
	return p, nil
}

// start starts the program with its arguments, in which HOME and GATEWAY are replaced.
func (r *runner) start(ctx context.Context, p *place, program string, args []string) (*harness.Process, *output, error) {
	out := &output{}
	list := make([]string, len(args))
	for i, arg := range args {
		list[i] = strings.NewReplacer("HOME", p.home, "GATEWAY", p.url).Replace(arg)
	}
	cmd := r.node.Command(ctx, p.home, p.env, program)
	proc, err := harness.Start(ctx, harness.Spec{Name: filepath.Base(program), Path: cmd.Path, Args: list, Env: cmd.Env, Dir: p.home, Stdout: out})
	return proc, out, err
}

// finish runs the program to its end and returns what it printed.
func (r *runner) finish(ctx context.Context, p *place, program string, args []string) (string, error) {
	proc, out, err := r.start(ctx, p, program, args)
	if err != nil {
		return "", err
	}
	select {
	case <-proc.Done():
	case <-ctx.Done():
		proc.Kill()
		return out.String(), fmt.Errorf("%s %s: %w; it printed:\n%.2000s\n%.2000s", filepath.Base(program), args[0], context.Cause(ctx), out, proc.Log())
	}
	if r.verbose {
		r.print("$ %s %s\n%s%s", filepath.Base(program), strings.Join(args, " "), out, proc.Log())
	}
	return out.String() + proc.Log(), nil
}

// talk has one conversation, in which the model calls one tool.
func (r *runner) talk(ctx context.Context, a agent, program, gateway, tool, args string) (*place, error) {
	p, err := r.settle(ctx, a, gateway, tool, args)
	if err != nil {
		return nil, err
	}
	defer p.close()
	out, err := r.finish(ctx, p, program, a.talk)
	if err != nil {
		return p, err
	}
	if _, _, err := p.model.result(); err != nil {
		return p, fmt.Errorf("%w; the agent printed:\n%.3000s", err, out)
	}
	if !strings.Contains(out, "FINAL") {
		return p, fmt.Errorf("the agent did not show the last words of the model; it printed:\n%.3000s", out)
	}
	return p, nil
}

// interrupt starts a conversation, waits until the server works on the call, and interrupts the agent as Ctrl-C in a terminal does. It
// returns how long the server's call then still lasted.
func (r *runner) interrupt(ctx context.Context, a agent, program, gateway, tool string, d *demo) (*place, time.Duration, error) {
	id := a.program + "-" + tool
	p, err := r.settle(ctx, a, gateway, tool, `{"id":"`+id+`"}`)
	if err != nil {
		return nil, 0, err
	}
	defer p.close()
	proc, out, err := r.start(ctx, p, program, a.talk)
	if err != nil {
		return p, 0, err
	}
	defer proc.Kill()
	took, err := cancelled(ctx, d.hanging(id), func() error { return syscall.Kill(-proc.PID(), syscall.SIGINT) })
	if err != nil {
		return p, 0, fmt.Errorf("%w; the agent said: %s; it printed:\n%.2000s\n%.2000s", err, p.wire.how(), out, proc.Log())
	}
	return p, took, nil
}

// unheard is how long to wait for a cancellation.
const unheard = 15 * time.Second

var errUnheard = fmt.Errorf("the server was not told within %s that the call is cancelled", unheard)

// cancelText says how a cancellation came out. A client of an older revision that only closes its connection has not cancelled: the
// specification says that a disconnection should not be taken for it.
func cancelText(p *place, took time.Duration, err error) (string, error) {
	if err == nil {
		return fmt.Sprintf("server told after %s (client: %s)", seconds(took), p.wire.how()), nil
	}
	if p != nil && errors.Is(err, errUnheard) && p.wire.disconnected() {
		return "the client only closes the connection, which its revision says is no cancellation: the call goes on until a limit of the gateway", nil
	}
	return "", err
}

// cancelled waits until the call hangs, does what interrupts it, and waits until the server is told.
func cancelled(ctx context.Context, h *hang, interrupt func() error) (time.Duration, error) {
	select {
	case <-h.begun:
	case <-ctx.Done():
		return 0, fmt.Errorf("the call did not reach the server: %w", context.Cause(ctx))
	}
	start := time.Now()
	if err := interrupt(); err != nil {
		return 0, fmt.Errorf("interrupting the client: %w", err)
	}
	select {
	case <-h.ended:
		return time.Since(start), nil
	case <-time.After(unheard):
		return 0, errUnheard
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}
