package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/downstream"
)

// TestMain makes the test binary the program itself when a test starts it as that.
func TestMain(m *testing.M) {
	downstream.MaybeReaper()
	if os.Getenv("MCPGW_TEST_AS_PROGRAM") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

const hostOnly = "downstreams: {host: {preset: host}}\n"

// write puts text into a file of a new folder, as gateway.yaml.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gateway.yaml")
	put(t, path, text)
	return path
}

// put writes a file in place.
func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// logLines collects records that are written as lines of JSON. It may be used by several goroutines.
type logLines struct {
	mu    sync.Mutex
	rest  []byte
	lines []string
	more  chan struct{} // closed and replaced with every line
}

func newLogLines() *logLines { return &logLines{more: make(chan struct{})} }

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	for {
		line, rest, ok := bytes.Cut(l.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		l.lines = append(l.lines, string(line))
		l.rest = rest
		close(l.more)
		l.more = make(chan struct{})
	}
}

// text returns all that was written.
func (l *logLines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n") + string(l.rest)
}

// await returns the n-th record with the message, as soon as it is there.
func (l *logLines) await(t *testing.T, msg string, n int) map[string]any {
	t.Helper()
	late := time.NewTimer(20 * time.Second)
	defer late.Stop()
	for {
		l.mu.Lock()
		found := 0
		for _, line := range l.lines {
			var r map[string]any
			if json.Unmarshal([]byte(line), &r) != nil || r["msg"] != msg {
				continue
			}
			if found++; found == n {
				l.mu.Unlock()
				return r
			}
		}
		more := l.more
		l.mu.Unlock()
		select {
		case <-more:
		case <-late.C:
			t.Fatalf("the log never said %q for the %d. time:\n%s", msg, n, l.text())
		}
	}
}

// running is a command in this process.
type running struct {
	log    *logLines
	stdout *bytes.Buffer
	cancel context.CancelFunc
	code   chan int
}

// start runs the command in this process until the test ends.
func start(t *testing.T, stdin io.Reader, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{log: newLogLines(), stdout: new(bytes.Buffer), cancel: cancel, code: make(chan int, 1)}
	go func() { r.code <- run(ctx, append(args, "--log-format", "json"), stdin, r.stdout, r.log) }()
	t.Cleanup(func() {
		cancel()
		select {
		case code := <-r.code:
			r.code <- code
		case <-time.After(30 * time.Second):
			t.Errorf("the command did not end:\n%s", r.log.text())
		}
	})
	return r
}

// base returns the address of a running serve, as http://HOST:PORT.
func (r *running) base(t *testing.T) string {
	t.Helper()
	url, _ := r.log.await(t, "serving", 1)["url"].(string)
	return strings.TrimSuffix(url, "/mcp")
}

// wait returns the exit code.
func (r *running) wait(t *testing.T) int {
	t.Helper()
	select {
	case code := <-r.code:
		r.code <- code
		return code
	case <-time.After(30 * time.Second):
		t.Fatalf("the command did not end:\n%s", r.log.text())
		return -1
	}
}

// program starts this binary as mcpgw, with real signals and standard files.
func program(t *testing.T, args ...string) (*exec.Cmd, *logLines) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	log := newLogLines()
	cmd := exec.CommandContext(t.Context(), exe, append(args, "--log-format", "json")...)
	cmd.Env = append(os.Environ(), "MCPGW_TEST_AS_PROGRAM=1")
	cmd.Stderr = log
	return cmd, log
}
