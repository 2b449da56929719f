package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// lines is a program that speaks JSON-RPC over its standard input and output, a message a line.
type lines struct {
	proc *harness.Process
	in   *io.PipeWriter
	out  chan []byte // each line; closed at the end of the output
	end  func()
}

func (r *runner) startLines(ctx context.Context, p *place, program string, args ...string) (*lines, error) {
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	cmd := r.node.Command(ctx, p.home, p.env, program)
	proc, err := harness.Start(ctx, harness.Spec{Name: cmd.Path, Path: cmd.Path, Args: args, Env: cmd.Env, Dir: p.home, Stdin: inR, Stdout: outW})
	if err != nil {
		return nil, err
	}
	l := &lines{proc: proc, in: inW, out: make(chan []byte, 1024)}
	go func() { // ends with the program
		defer close(l.out)
		s := bufio.NewScanner(outR)
		s.Buffer(nil, 16<<20)
		for s.Scan() {
			l.out <- append([]byte(nil), s.Bytes()...)
		}
	}()
	go func() { // ends with the program
		<-proc.Done()
		_ = outW.Close()
		_ = inR.Close()
	}()
	l.end = func() {
		_ = inW.Close()
		proc.Kill()
	}
	return l, nil
}

func (l *lines) send(message string) error {
	_, err := io.WriteString(l.in, message+"\n")
	return err
}

// answer waits for the answer to the request with the id and returns its result. Other messages are given to other, which may be nil.
func (l *lines) answer(ctx context.Context, id int, other func(harness.Message)) (json.RawMessage, error) {
	for {
		select {
		case line, ok := <-l.out:
			if !ok {
				return nil, fmt.Errorf("the program ended; its log:\n%.2000s", l.proc.Log())
			}
			var m harness.Message
			if json.Unmarshal(line, &m) != nil {
				continue
			}
			switch {
			case m.Method != "" && other != nil:
				other(m)
			case m.Method == "" && string(m.ID) == strconv.Itoa(id) && m.Error != nil:
				return nil, fmt.Errorf("the answer is an error: %s", m.Error)
			case m.Method == "" && string(m.ID) == strconv.Itoa(id):
				return m.Result, nil
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for an answer: %w; its log:\n%.2000s", context.Cause(ctx), l.proc.Log())
		}
	}
}

// codexStatus asks Codex's app server how its MCP servers are: "codex mcp list" does not connect.
func codexStatus(ctx context.Context, r *runner, p *place, program string) (string, error) {
	l, err := r.startLines(ctx, p, program, "app-server")
	if err != nil {
		return "", err
	}
	defer l.end()
	if err := l.send(`{"id":1,"method":"initialize","params":{"clientInfo":{"name":"clients","title":"clients","version":"1"}}}`); err != nil {
		return "", err
	}
	if _, err := l.answer(ctx, 1, nil); err != nil {
		return "", err
	}
	if err := errors.Join(l.send(`{"method":"initialized"}`), l.send(`{"id":2,"method":"mcpServerStatus/list","params":{}}`)); err != nil {
		return "", err
	}
	status, err := l.answer(ctx, 2, nil)
	if err != nil {
		return "", err
	}
	return "`codex app-server`, `mcpServerStatus/list`, shows the tools", contains(string(status), `"gw"`, "demo__hello")
}
