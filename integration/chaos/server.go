package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// serverRole is a downstream server as a process of its own. It keeps a journal of what it executes, which is the truth that what
// clients were told is compared with, and does wrong what its control file, or the argument "do" of a call, says.
type serverRole struct {
	name   string
	dir    string // of the journal and the control file
	addr   string // to serve HTTP at; "" for stdio
	modern bool   // speak 2026-07-28, otherwise 2025-11-25

	journal *os.File
}

// The kinds of lines of a journal: a letter, a space, and what it is about.
const (
	lineStart    = 'S' // a process began; its pid
	lineExecuted = 'X' // a call was executed; its nonce
	lineEnded    = 'C' // the client no longer waits for a call; its nonce
)

func journalFile(dir, name string) string { return filepath.Join(dir, name+".journal") }
func controlFile(dir, name string) string { return filepath.Join(dir, name+".control") }

func (s *serverRole) args() []string {
	return []string{"-role", "server", "-name", s.name, "-dir", s.dir, "-addr", s.addr, fmt.Sprintf("-modern=%t", s.modern)}
}

// run serves until the input ends or ctx is done.
func (s *serverRole) run(ctx context.Context) error {
	f, err := os.OpenFile(journalFile(s.dir, s.name), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	s.journal = f
	s.note(lineStart, strconv.Itoa(os.Getpid()))
	if s.control() == "crash" {
		return errors.New("told to crash")
	}
	if s.addr != "" {
		return s.serveHTTP(ctx)
	}
	return s.serveStdio(ctx, os.Stdin, os.Stdout)
}

// note writes one line. A line is one write to a file opened for appending, so lines of several processes do not mix, and what a killed
// process wrote is there.
func (s *serverRole) note(kind byte, what string) {
	if _, err := s.journal.Write([]byte(string(kind) + " " + what + "\n")); err != nil {
		fmt.Fprintln(os.Stderr, "chaos server: the journal:", err)
		os.Exit(4) // an execution that is not in the journal would hide a fault
	}
}

// control returns what the server is told to do at the moment.
func (s *serverRole) control() string {
	b, err := os.ReadFile(controlFile(s.dir, s.name))
	if err != nil {
		return ""
	}
	return string(b)
}

// message is what the server reads of a message.
type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Name      string          `json:"name"`
		RequestID json.RawMessage `json:"requestId"`
		Arguments struct {
			Nonce string `json:"nonce"`
			Do    string `json:"do"`
		} `json:"arguments"`
		InputResponses json.RawMessage `json:"inputResponses"`
		Meta           struct {
			Token json.RawMessage `json:"progressToken"`
		} `json:"_meta"`
	} `json:"params"`
}

// tools are what each server offers: the same work under different promises.
const tools = `{"name":"write","description":"Changes something.","inputSchema":{"type":"object"}},` +
	`{"name":"read","description":"Changes nothing.","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}},` +
	`{"name":"idem","description":"Twice is as once.","inputSchema":{"type":"object"},"annotations":{"idempotentHint":true}}`

// answer is a result or an error object, each as JSON.
type answer struct{ result, failure string }

// answer works on one request. Notify sends a notification that belongs to it; raw writes bytes that need not be MCP.
func (s *serverRole) answer(ctx context.Context, m *message, notify func(string), raw io.Writer) answer {
	modern := ""
	if s.modern {
		modern = `"resultType":"complete",`
	}
	switch {
	case m.Method == "initialize" && !s.modern:
		return answer{result: `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"` + s.name + `","version":"1"}}`}
	case m.Method == "server/discover" && s.modern:
		return answer{result: `{` + modern + `"ttlMs":0,"cacheScope":"public","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"serverInfo":{"name":"` + s.name + `","version":"1"}}`}
	case m.Method == "ping" && !s.modern:
		return answer{result: `{}`}
	case m.Method == "tools/list" && s.modern:
		return answer{result: `{` + modern + `"ttlMs":0,"cacheScope":"public","tools":[` + tools + `]}`}
	case m.Method == "tools/list":
		return answer{result: `{"tools":[` + tools + `]}`}
	case m.Method != "tools/call":
		return answer{failure: `{"code":-32601,"message":"no such method"}`}
	}
	do := m.Params.Arguments.Do
	if do == "" {
		do = s.control()
	}
	nonce := m.Params.Arguments.Nonce
	if do == "ask" && m.Params.InputResponses == nil {
		return answer{result: `{"resultType":"input_required","requestState":"` + nonce + `","inputRequests":{"name":{"method":"elicitation/create","params":{"mode":"form","message":"Sure?",` +
			`"requestedSchema":{"type":"object","properties":{"yes":{"type":"boolean"}}}}}}}`}
	}
	s.note(lineExecuted, nonce)
	if !s.work(ctx, do, m, notify, raw) {
		s.note(lineEnded, nonce)
		return answer{}
	}
	return answer{result: `{` + modern + `"content":[{"type":"text","text":"` + s.name + ` ` + nonce + `"}]}`}
}

// work does what the call or the control file says and reports whether the client still waits.
func (s *serverRole) work(ctx context.Context, do string, m *message, notify func(string), raw io.Writer) bool {
	what, value, _ := strings.Cut(do, "=")
	switch what {
	case "delay": // answers late
		return pause(ctx, duration(value))
	case "late": // answers late, and does not hear that nobody waits any more
		pause(context.WithoutCancel(ctx), duration(value))
		return true
	case "hang": // answers when the control file says something else, if ever
		for s.control() == do || m.Params.Arguments.Do == do {
			if !pause(ctx, 5*time.Millisecond) {
				return false
			}
		}
	case "exit":
		os.Exit(3)
	case "noise": // lines that are no messages, on the stream of messages
		_, _ = io.WriteString(raw, "Traceback (most recent call last):\n  not a message {\n")
	case "flood-stdout": // the answer, as one endless line
		_, _ = io.WriteString(raw, `{"jsonrpc":"2.0","id":`+string(m.ID)+`,"result":{"content":[{"type":"text","text":"`)
		if err := flood(raw, number(value)<<20, ""); err != nil {
			return false
		}
		_, _ = io.WriteString(raw, "\"}]}}\n")
		return true
	case "flood-stderr":
		if err := flood(os.Stderr, number(value)<<20, "\n"); err != nil {
			return false
		}
	case "progress": // reports and never ends
		for i := 1; ; i++ {
			notify(fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":%d}}`, m.Params.Meta.Token, i))
			if !pause(ctx, duration(value)) {
				return false
			}
		}
	}
	return ctx.Err() == nil
}

// flood writes n bytes in pieces of 64 KiB, each ending with end.
func flood(w io.Writer, n int, end string) error {
	piece := []byte(strings.Repeat("x", 64<<10-len(end)) + end)
	for ; n > 0; n -= len(piece) {
		if _, err := w.Write(piece); err != nil {
			return err
		}
	}
	return nil
}

func duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos server:", err)
		os.Exit(2)
	}
	return d
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos server:", err)
		os.Exit(2)
	}
	return n
}

// pause waits for d and reports whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// serveStdio serves lines until in ends, each request in a goroutine of its own, and heeds notifications/cancelled.
func (s *serverRole) serveStdio(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	w := &lockedWriter{w: out}
	var mu sync.Mutex // guards running
	running := map[string]context.CancelFunc{}
	br := bufio.NewReaderSize(in, 64<<10)
	for {
		line, err := br.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		m := new(message)
		if err := json.Unmarshal(line, m); err != nil {
			return fmt.Errorf("the gateway sent what is no message: %w: %.200q", err, line)
		}
		if m.ID == nil {
			if m.Method == "notifications/cancelled" {
				mu.Lock()
				if end := running[string(m.Params.RequestID)]; end != nil {
					end()
				}
				mu.Unlock()
			}
			continue
		}
		callCtx, end := context.WithCancel(ctx)
		mu.Lock()
		running[string(m.ID)] = end
		mu.Unlock()
		wg.Go(func() {
			a := s.answer(callCtx, m, func(n string) { w.line(n) }, w)
			mu.Lock()
			delete(running, string(m.ID))
			mu.Unlock()
			end()
			if text := a.message(m.ID); text != "" {
				w.line(text)
			}
		})
	}
}

// message is the answer as a message; "" if there is none.
func (a answer) message(id json.RawMessage) string {
	switch {
	case a.failure != "":
		return `{"jsonrpc":"2.0","id":` + string(id) + `,"error":` + a.failure + `}`
	case a.result != "":
		return `{"jsonrpc":"2.0","id":` + string(id) + `,"result":` + a.result + `}`
	}
	return ""
}

// lockedWriter keeps the writes of several goroutines apart.
type lockedWriter struct {
	mu sync.Mutex // guards w
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

func (l *lockedWriter) line(text string) {
	var b bytes.Buffer
	b.WriteString(text)
	b.WriteByte('\n')
	_, _ = l.Write(b.Bytes()) // a reader that is gone ends the input as well
}
