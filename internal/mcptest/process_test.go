//go:build unix

package mcptest_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/mcptest"
)

// server is a process with its pipes.
type server struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	errs *bufio.Reader
	id   int
}

func start(t *testing.T, flags ...string) *server {
	t.Helper()
	command, args := mcptest.Command(t, flags...)
	cmd := exec.CommandContext(t.Context(), command, args...)
	cmd.Env = []string{"PATH=/bin"}
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	errs, err3 := cmd.StderrPipe()
	if err := errors.Join(err1, err2, err3, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, cmd: cmd, in: in, out: bufio.NewReader(out), errs: bufio.NewReader(errs)}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return s
}

// line reads the next line of stdout. The test's own time limit is the limit.
func (s *server) line() string {
	s.t.Helper()
	l, err := s.out.ReadString('\n')
	if err != nil {
		s.t.Fatalf("reading stdout: %v", err)
	}
	return strings.TrimSuffix(l, "\n")
}

// call sends a request and returns the next line that looks like an answer.
func (s *server) call(method, params string) string {
	s.t.Helper()
	s.id++
	s.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`, s.id, method, params))
	for {
		if l := s.line(); strings.HasPrefix(l, "{\"jsonrpc\"") {
			return l
		}
	}
}

func (s *server) send(message string) {
	s.t.Helper()
	if _, err := io.WriteString(s.in, message+"\n"); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) initialize() {
	s.t.Helper()
	got := s.call("initialize", `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}`)
	if !strings.Contains(got, `"result"`) {
		s.t.Fatalf("initialize: %.200s", got)
	}
	s.send(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
}

// tool calls a tool and returns the answer.
func (s *server) tool(name string) string {
	s.t.Helper()
	return s.call("tools/call", fmt.Sprintf(`{"name":%q,"arguments":{"a":1},"_meta":{"progressToken":"p"}}`, name))
}

// session returns what the tool session says.
func (s *server) session() mcptest.Session {
	s.t.Helper()
	var a struct {
		Result struct{ StructuredContent mcptest.Session }
	}
	if err := json.Unmarshal([]byte(s.tool("session")), &a); err != nil {
		s.t.Fatal(err)
	}
	return a.Result.StructuredContent
}

// exits waits for the end and returns the exit code, or -1 after a signal.
func (s *server) exits() int {
	s.t.Helper()
	_, _ = io.Copy(io.Discard, s.out)
	_ = s.cmd.Wait()
	return s.cmd.ProcessState.ExitCode()
}

func TestProcess(t *testing.T) {
	command, args := mcptest.Command(t)
	c := mcptest.Connect(t, &mcp.CommandTransport{Command: exec.CommandContext(t.Context(), command, args...)}, "", nil)
	var who mcptest.Session
	mcptest.Call(t, c, "session", nil, &who)
	if who.PID == os.Getpid() || who.PID == 0 || who.Revision != "2026-07-28" {
		t.Errorf("%+v", who)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	s := start(t)
	s.initialize()
	_ = s.in.Close()
	if code := s.exits(); code != 0 {
		t.Errorf("exit code %d after stdin was closed", code)
	}
}

func TestProcessExits(t *testing.T) {
	s := start(t, "-mode=exit", "-say=no token", "-code=7")
	said, _ := s.errs.ReadString('\n')
	if code := s.exits(); code != 7 || said != "no token\n" {
		t.Errorf("exit code %d, stderr %q", code, said)
	}
	s = start(t, "-mode=die", "-calls=2")
	s.initialize()
	s.tool("echo")
	s.tool("echo")
	s.send(`{"jsonrpc":"2.0","id":99,"method":"tools/call","params":{"name":"echo"}}`)
	rest, _ := io.ReadAll(s.out)
	if code := s.exits(); code != 3 || len(rest) != 0 {
		t.Errorf("exit code %d after the third call, stdout %q", code, rest)
	}
	s = start(t, "-mode=nonsense")
	said, _ = s.errs.ReadString('\n')
	if code := s.exits(); code != 2 || !strings.Contains(said, `no mode "nonsense"`) {
		t.Errorf("exit code %d, stderr %q", code, said)
	}
}

func TestProcessThatDoesNotEnd(t *testing.T) {
	s := start(t, "-mode=hang-on-eof,ignore-term")
	s.initialize()
	_ = s.in.Close()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.cmd.Wait() }()
	select {
	case err := <-ended:
		t.Errorf("it ended: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	if err := s.cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	<-ended
}

func TestProcessNoise(t *testing.T) {
	s := start(t, "-mode=banner")
	if l := s.line(); l != "Welcome to testserver!" {
		t.Errorf("banner %q", l)
	}
	s.initialize()
	s = start(t, "-mode=garbage")
	s.initialize()
	s.send(`{"jsonrpc":"2.0","id":9,"method":"ping"}`)
	if l := s.line(); !strings.HasPrefix(l, "DEBUG") {
		t.Errorf("before the answer: %q", l)
	}
	s = start(t, "-mode=flood-stderr")
	flood, err := s.errs.ReadString('\n')
	if err != nil || len(flood) < 1000 {
		t.Errorf("stderr %q, %v", flood, err)
	}
	s.initialize()
	s = start(t, "-mode=stdout-close")
	s.initialize()
	s.send(`{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"echo"}}`)
	if rest, err := io.ReadAll(s.out); len(rest) != 0 || err != nil {
		t.Errorf("stdout %q, %v", rest, err)
	}
	s = start(t, "-mode=mute")
	s.send(`{"jsonrpc":"2.0","id":9,"method":"ping"}`)
	_ = s.in.Close()
	if rest, _ := io.ReadAll(s.out); len(rest) != 0 || s.exits() != 0 {
		t.Errorf("a mute server said %q", rest)
	}
	s = start(t, "-mode=stderr-close,slow-start", "-delay=50ms")
	began := time.Now()
	s.initialize()
	if _, err := s.errs.ReadByte(); err != io.EOF || time.Since(began) < 50*time.Millisecond {
		t.Errorf("stderr: %v after %v", err, time.Since(began))
	}
}

func TestProcessGrandchild(t *testing.T) {
	for _, mode := range []string{"grandchild", "grandchild-setsid"} {
		t.Run(mode, func(t *testing.T) {
			s := start(t, "-mode="+mode)
			s.initialize()
			who := s.session()
			if who.Grandchild == 0 || who.PID != s.cmd.Process.Pid {
				t.Fatalf("%+v", who)
			}
			group, err := syscall.Getpgid(who.Grandchild)
			if err != nil {
				t.Fatal(err)
			}
			if own := group == who.Grandchild; own != (mode == "grandchild-setsid") {
				t.Errorf("process group %d of grandchild %d", group, who.Grandchild)
			}
			// The server ends; the grandchild ignores what would end it and holds stdout.
			_ = s.in.Close()
			state, err := s.cmd.Process.Wait()
			if err != nil || state.ExitCode() != 0 {
				t.Errorf("%v, %v", state, err)
			}
			eof := make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, s.out)
				eof <- err
			}()
			if err := syscall.Kill(who.Grandchild, syscall.SIGTERM); err != nil {
				t.Errorf("the grandchild is gone: %v", err)
			}
			select {
			case err := <-eof:
				t.Errorf("stdout ended: %v", err)
			case <-time.After(100 * time.Millisecond):
			}
			if err := syscall.Kill(who.Grandchild, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
			<-eof
		})
	}
}

func TestProcessHostile(t *testing.T) {
	s := start(t, "-mode=hostile")
	s.initialize()
	if got := s.call("tools/list", `{}`); strings.Count(got, `"inputSchema"`) != len(mcptest.HostileNames) {
		t.Errorf("tools/list: %s", got)
	}
	for tool, want := range map[string]string{
		"good": `"mcptest/params":{"name":"good"`, "utf8": "\xff\xc0\xaf", "duplicate": `"id":4711`, "case": `"Result"`, "wrong_id": `"nobody asked"`,
		"deep": strings.Repeat(`{"a":`, 1000), "number": `"result":42`, "surrogate": `\ud800`, "both": `"error"`, "flood": `"progressToken":"p","progress":1}`,
		"spam": "spam 0", "ask": "mcptest/unknown", "twice": "late but well",
	} {
		one := start(t, "-mode=hostile")
		if got := one.tool(tool); !strings.Contains(got, want) {
			t.Errorf("%s: %.300q does not contain %q", tool, got, want)
		}
	}
	if got := s.tool("line"); len(got) < mcptest.LongLine {
		t.Errorf("line: %d bytes", len(got))
	}
	s.send(`{"jsonrpc":"2.0","id":"j","method":"tools/call","params":{"name":"junk"}}`)
	if l := s.line(); !strings.HasPrefix(l, "DEBUG") {
		t.Errorf("junk: %q", l)
	}
	for list, want := range map[string]string{
		"schemas": "schema_regexp", "line": "xxxx", "utf8": "\xff\xfe", "duplicate": `"name":"second"`, "clash": `"GOOD"`, "cursor": `"nextCursor":"again"`, "nope": "no list nope",
	} {
		if got := start(t, "-mode=hostile", "-list="+list).call("tools/list", `{}`); !strings.Contains(got, want) {
			t.Errorf("list %s: %.300q does not contain %q", list, got, want)
		}
	}
	s = start(t, "-mode=hostile")
	s.send(`{"jsonrpc":"2.0","id":"n","method":"tools/call","params":{"name":"never"}}`)
	s.send(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"n"}}`)
	if got := s.call("ping", `{}`); !strings.Contains(got, `"result":{}`) {
		t.Errorf("ping: %s", got)
	}
	_ = s.in.Close()
	if code := s.exits(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
