package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/internal/mcptest"
)

// serving starts a gateway with the server host, and returns the flags by which commands find it.
func serving(t *testing.T) []string {
	t.Helper()
	path := write(t, "gateway: {listen: \"127.0.0.1:0\", tokens: [0123456789abcdef]}\n"+hostOnly)
	r := start(t, nil, "serve", "--config", path)
	url := r.base(t)
	r.log.await(t, "server ready", 1)
	at := []string{"--config", path, "--url", url}
	// The server is ready before its tools are listed.
	late, tick := time.NewTimer(20*time.Second), time.NewTicker(20*time.Millisecond)
	defer late.Stop()
	defer tick.Stop()
	for {
		code, out, errs := command(t, append([]string{"tools", "host"}, at...)...)
		if code == 0 {
			return at
		}
		select {
		case <-tick.C:
		case <-late.C:
			t.Fatalf("no tools: %d\n%s%s", code, out, errs)
		}
	}
}

func TestToolsAndCall(t *testing.T) {
	at := serving(t)
	client := filepath.Join(t.TempDir(), "args.json")
	put(t, client, `{"limit": 1}`)
	tests := []struct {
		name           string
		args           []string
		code           int
		stdout, stderr []string
	}{
		{"tools", []string{"tools"}, 0, []string{"circuit_status", "host__processes     reads"}, nil},
		{"tools of a server", []string{"tools", "host"}, 0, []string{"host__memory", "\n7 tools\n"}, nil},
		{"a tool", []string{"tools", "host__processes"}, 0, []string{"limit  integer", "mcpgw call host__processes"}, nil},
		{"a tool as JSON", []string{"tools", "host__memory", "-o", "json"}, 0, []string{`"name": "host__memory"`, `"readOnlyHint": true`}, nil},
		{"no such tool", []string{"tools", "memory"}, 1, nil, []string{`no tool or server "memory" (did you mean host__memory?)`}},
		{"call", []string{"call", "circuit_status"}, 0, []string{"1 of 1 servers ready"}, nil},
		{"call with arguments", []string{"call", "host__processes", "limit=2", "sort=memory", "-o", "json"}, 0, []string{`"structuredContent"`}, nil},
		{"call with JSON", []string{"call", "host__processes", "--args", `{"limit": 1}`}, 0, []string{"process"}, nil},
		{"call with a file", []string{"call", "host__processes", "--args", "@" + client}, 0, []string{"process"}, nil},
		{"no such argument", []string{"call", "host__processes", "limits=2"}, exitUsage, nil, []string{`the tool has no argument "limits"; it has `}},
		{"not a number", []string{"call", "host__processes", "limit=two"}, exitUsage, nil, []string{`limit: expected integer as JSON, found "two"`}},
		{"bad JSON", []string{"call", "host__processes", "--args", "{"}, exitUsage, nil, []string{"--args: expected a JSON object"}},
		{"the tool refuses", []string{"call", "host__processes", "limit:=\"x\""}, exitToolError, nil, nil},
		{"call of nothing", []string{"call", "host__memroy"}, exitToolError, nil, []string{"no tool or server"}},
		{"nobody there", []string{"call", "circuit_status", "--url", strings.TrimSuffix(mcptest.Refusing(t), "/mcp")}, exitUnreachable, nil, []string{"no gateway answers at", "mcpgw doctor"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, out, errs := command(t, append(append([]string{}, at...), tt.args...)...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			for _, want := range tt.stdout {
				if !strings.Contains(out, want) {
					t.Errorf("stdout lacks %q", want)
				}
			}
			for _, want := range tt.stderr {
				if !strings.Contains(errs, want) {
					t.Errorf("stderr lacks %q", want)
				}
			}
			if t.Failed() {
				t.Logf("%s%s", out, errs)
			}
		})
	}
}

// TestCompletion asks as a shell does, of a gateway that runs and of a file alone.
func TestCompletion(t *testing.T) {
	at := serving(t)
	alone := []string{"--config", write(t, "gateway: {listen: \"127.0.0.1:1\"}\ndownstreams: {one: {preset: host}, two: {preset: host}}\n")}
	tests := []struct {
		args []string
		with []string
		want []string
	}{
		{[]string{"circuit", "reset", ""}, at, []string{"host"}},
		{[]string{"circuit", ""}, at, []string{"open", "isolate"}},
		{[]string{"call", "host__m"}, at, []string{"host__memory\t"}},
		{[]string{"call", "host__processes", ""}, at, []string{"limit=\t"}},
		{[]string{"tools", ""}, at, []string{"host\n", "host__cpu\t"}},
		{[]string{"circuit", "reset", ""}, alone, []string{"one", "two"}},
		{[]string{"remove", "one", ""}, alone, []string{"two"}},
		{[]string{"clients", "c"}, alone, []string{"claude-code", "codex", "cursor"}},
		{[]string{"add", "x", "--preset", ""}, alone, []string{"host"}},
	}
	for _, tt := range tests {
		args := append([]string{"__complete"}, tt.args[:1]...)
		args = append(append(args, tt.with...), tt.args[1:]...)
		if tt.args[0] == "remove" || tt.args[0] == "clients" || tt.args[0] == "add" {
			args = append([]string{"__complete"}, append(append([]string{}, tt.with[:2]...), tt.args...)...)
		}
		code, out, errs := command(t, args...)
		for _, want := range tt.want {
			if code != 0 || !strings.Contains(out, want) {
				t.Errorf("%v: %d, lacks %q:\n%s%s", tt.args, code, want, out, errs)
			}
		}
	}
}

func TestArgumentOf(t *testing.T) {
	s := schemaOf(json.RawMessage(`{"properties": {"n": {"type": "integer"}, "b": {"type": ["boolean", "null"]}, "t": {"type": "string"}, "l": {"type": "array"}, "any": {}}}`))
	tests := []struct {
		pair string
		want any
	}{
		{"n=9007199254740993", json.Number("9007199254740993")},
		{"b=true", true},
		{"t=12", "12"},
		{"t=a=b", "a=b"},
		{`l=[1,"x"]`, []any{json.Number("1"), "x"}},
		{"any=5", "5"},
		{"any:=5", json.Number("5")},
	}
	for _, tt := range tests {
		_, got, err := argumentOf(s, tt.pair)
		if err != nil {
			t.Errorf("%s: %v", tt.pair, err)
		} else if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: %s", tt.pair, d)
		}
	}
	for _, pair := range []string{"n", "n=x", "=1", "b=1 2", "other=1"} {
		if _, v, err := argumentOf(s, pair); err == nil {
			t.Errorf("%s: expected an error, got %v", pair, v)
		}
	}
}

// TestProgressIsShown tells what takes longer than a second, on the error stream, and what the server says meanwhile.
func TestProgressIsShown(t *testing.T) {
	var errs lockedBuffer
	a := &app{stderr: &errs}
	p := a.working("calling x")
	a.heard(p, "x", message{Method: "notifications/progress", Params: json.RawMessage(`{"progress": 0.000000001, "message": "still waiting"}`)})
	a.heard(p, "x", message{Method: "notifications/progress", Params: json.RawMessage(`{"progress": 3, "total": 10, "message": "copying"}`)})
	a.heard(p, "x", message{Method: "notifications/message", Params: json.RawMessage(`{"level": "warning", "data": "disk is slow"}`)})
	late := time.NewTimer(20 * time.Second)
	defer late.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(errs.text(), "calling x: 3 of 10: copying, 1s\n") {
		select {
		case <-tick.C:
		case <-late.C:
			t.Fatalf("nothing is told:\n%s", errs.text())
		}
	}
	p.done()
	for _, want := range []string{"mcpgw: calling x: still waiting\n", "mcpgw: calling x: 3 of 10: copying\n", "warning: disk is slow\n"} {
		if !strings.Contains(errs.text(), want) {
			t.Errorf("lacks %q:\n%s", want, errs.text())
		}
	}
	quick := &app{stderr: new(lockedBuffer)}
	quick.working("calling y").done()
	if got := quick.stderr.(*lockedBuffer).text(); got != "" {
		t.Errorf("got %q for what took no time", got)
	}
}

// lockedBuffer may be written to and read at the same time.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
