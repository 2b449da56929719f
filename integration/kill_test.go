package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// stdioVariants are ways in which a server over stdio is started, and which of its processes is killed.
var stdioVariants = []struct {
	name    string
	command string // and args in gateway.yaml; SELF is the test binary as a raw server, TESTSERVER the program
	victim  string // as the kernel names the process that is killed; SELF for the test binary
	tool    string // that must work again
}{
	{"the server itself", `command: 'SELF'`, "SELF", "echo"},
	// As npx and uvx do it: what the gateway started waits for the server and relays nothing.
	{"the server is a grandchild", `command: sh, args: [-c, '"$0"; exit $?', 'SELF']`, "SELF", "echo"},
	{"the starter of the server", `command: sh, args: [-c, '"$0"; exit $?', 'SELF']`, "sh", "echo"},
	// A helper of the server keeps its output open, so that the end of the server is not the end of the stream.
	{"a grandchild holds the output", `command: sh, args: [-c, 'sleep 600 & exec "$0"', 'SELF']`, "SELF", "echo"},
	{"a grandchild ignores signals", `command: 'TESTSERVER', args: [-mode, grandchild]`, "testserver", "echo"},
	{"a grandchild in another session", `command: 'TESTSERVER', args: [-mode, grandchild-setsid]`, "testserver", "echo"},
}

// stdioServer is a downstream in gateway.yaml: a server in one of its variants, under a mark.
func stdioServer(t *testing.T, variant int, mark string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := filepath.Abs(filepath.Join("testdata", "corpus"))
	if err != nil {
		t.Fatal(err)
	}
	command := strings.ReplaceAll(stdioVariants[variant].command, "SELF", self)
	if strings.Contains(command, "TESTSERVER") {
		command = strings.ReplaceAll(command, "TESTSERVER", program(t, harness.TestServer))
	}
	return fmt.Sprintf("{ %s, env: { %s: legacy, %s: '%s', MCPGW_TEST_CORPUS: '%s', %s: '%s' } }",
		command, rawServerEnv, rawRecordEnv, filepath.Join(t.TempDir(), "params"), data, markEnv, mark)
}

// victim finds the process to kill: of several with the same name the one that is nearest to the gateway. It may be just starting.
func victim(t *testing.T, variant int, mark string) (found int) {
	t.Helper()
	name := stdioVariants[variant].victim
	if name == "SELF" {
		name = comm(os.Getpid())
	}
	eventually(t, 5*time.Second, "a process "+name, func() error {
		pids := named(t, mark, name)
		for _, pid := range pids {
			if !slices.Contains(pids, parent(t, pid)) {
				found = pid
				return nil
			}
		}
		return errors.New("none")
	})
	return found
}

// connect opens a session and waits until every tool is in the list.
func connect(t *testing.T, gw *harness.Server, path string, modern bool, tools ...string) *harness.Client {
	t.Helper()
	ctx := deadline(t, 20*time.Second)
	c := &harness.Client{URL: "http://" + gw.Addr + path, Modern: modern}
	if _, err := c.Connect(ctx); err != nil {
		t.Fatal(err)
	}
	err := gw.Until(ctx, fmt.Sprint("tools ", tools), func() error { return has(ctx, c, tools...) })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// has returns nil if every tool is listed.
func has(ctx context.Context, c *harness.Client, tools ...string) error {
	names, err := listed(ctx, c)
	if err != nil {
		return err
	}
	for _, name := range tools {
		if !names[name] {
			return fmt.Errorf("no tool %s", name)
		}
	}
	return nil
}

// callText calls a tool without arguments. Anything but a result that is no error is an error.
func callText(ctx context.Context, c *harness.Client, tool string) error {
	r, err := c.Request(ctx, "tools/call", tool, c.Params(`"name":"`+tool+`","arguments":{}`, ""))
	if err != nil {
		return err
	}
	if isError(r) {
		return fmt.Errorf("%s: the result is an error: %.500s", tool, r)
	}
	return nil
}

// TestKillStdioServer kills servers over stdio as the kernel would when memory runs out: the next call works within two seconds, the
// other downstream notices nothing, and nothing is left when the gateway has ended. Bar 7 of issue 2.
func TestKillStdioServer(t *testing.T) {
	t.Parallel()
	for i, v := range stdioVariants {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			mark := fmt.Sprintf("%s-%d-%d", t.Name(), os.Getpid(), i)
			gw := startGateway(t, fmt.Sprintf("gateway: { listen: LISTEN }\ndownstreams:\n  victim: %s\n  other: %s\n",
				stdioServer(t, i, mark), stdioServer(t, 0, mark+"-other")))
			c := connect(t, gw, "/mcp", true, "victim__"+v.tool, "other__echo")

			// The other downstream is called all the time.
			stop := make(chan struct{})
			var wg sync.WaitGroup
			var others int
			var slowest time.Duration
			var otherErr error
			wg.Go(func() {
				for otherErr == nil {
					select {
					case <-stop:
						return
					default:
					}
					start := time.Now()
					otherErr = callText(t.Context(), c, "other__echo")
					slowest = max(slowest, time.Since(start))
					others++
				}
			})
			for round := range 3 {
				if err := syscall.Kill(victim(t, i, mark), syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				killed := time.Now()
				var first error
				for tries := 1; ; tries++ {
					err := callText(deadline(t, 5*time.Second), c, "victim__"+v.tool)
					took := time.Since(killed)
					if err == nil {
						t.Logf("round %d: call %d worked %s after the kill (the first said: %.300v)", round, tries, took.Round(time.Millisecond), first)
						if took > 2*time.Second {
							t.Errorf("round %d: the next call worked after %s, want at most 2s", round, took)
						}
						break
					}
					if first == nil {
						first = err
					}
					if took > 5*time.Second {
						t.Fatalf("round %d: no call works any more: %v", round, err)
					}
				}
			}
			close(stop)
			wg.Wait()
			if otherErr != nil {
				t.Errorf("the other downstream: %v", otherErr)
			}
			t.Logf("the other downstream: %d calls, the slowest took %s", others, slowest.Round(time.Millisecond))
			if slowest > time.Second {
				t.Errorf("the other downstream was held up for %s", slowest)
			}
			if err := gw.Stop(30 * time.Second); err != nil {
				t.Errorf("the gateway did not end well: %v", err)
			}
			for _, m := range []string{mark, mark + "-other"} {
				eventually(t, 2*time.Second, "no process left", func() error { return none(t, m) })
			}
		})
	}
}

func none(t *testing.T, mark string) error {
	t.Helper()
	for _, pid := range marked(t, mark) {
		return fmt.Errorf("process %d (%s) is left", pid, comm(pid))
	}
	return nil
}

// TestKillGateway kills the gateway, which then can do nothing about its children any more. They end all the same.
func TestKillGateway(t *testing.T) {
	t.Parallel()
	for i, v := range stdioVariants {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			mark := fmt.Sprintf("%s-%d-%d", t.Name(), os.Getpid(), i)
			gw := startGateway(t, "gateway: { listen: LISTEN }\ndownstreams:\n  s: "+stdioServer(t, i, mark)+"\n")
			connect(t, gw, "/mcp", true, "s__"+v.tool)
			if len(marked(t, mark)) == 0 {
				t.Fatal("the server has no process: this test would prove nothing")
			}
			// The gateway alone, not its group: whoever kills a program with kill -9 PID does no more.
			if err := gw.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			<-gw.Done()
			t.Cleanup(func() { // what the gateway failed to end must not outlive the test
				for _, pid := range marked(t, mark) {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
			})
			eventually(t, 5*time.Second, "no orphan", func() error { return none(t, mark) })
		})
	}
}

// TestKillServerThatHoldsCall kills a server while it works on a call: the call ends at once with an error that says so.
func TestKillServerThatHoldsCall(t *testing.T) {
	t.Parallel()
	mark := fmt.Sprintf("%s-%d", t.Name(), os.Getpid())
	gw := startGateway(t, "gateway: { listen: LISTEN }\ndownstreams:\n  s: "+stdioServer(t, 0, mark)+"\n")
	c := connect(t, gw, "/mcp", true, "s__hang")
	type answer struct {
		err  error
		took time.Duration
	}
	done := make(chan answer)
	entered := make(chan struct{})
	var once sync.Once
	go func() {
		start := time.Now()
		var last harness.Message
		err := c.Stream(deadline(t, 20*time.Second), `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":`+
			c.Params(`"name":"s__hang","arguments":{}`, `"progressToken":1`)+`}`, "tools/call", "s__hang", func(m harness.Message) {
			if bytes.Contains(m.Params, []byte("hanging")) {
				once.Do(func() { close(entered) })
			}
			last = m
		})
		if err == nil && !isError(last.Result) && last.Error == nil {
			err = fmt.Errorf("the call worked: %s", last.Result)
		}
		done <- answer{err, time.Since(start)}
	}()
	select {
	case <-entered:
	case a := <-done:
		t.Fatalf("the call ended before the server had said anything: %v", a.err)
	}
	for _, pid := range marked(t, mark) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
	}
	a := <-done
	if a.err != nil {
		t.Fatal(a.err)
	}
	t.Logf("the call ended after %s", a.took.Round(time.Millisecond))
}
