package mcptest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// asServer is the first argument that makes a test binary a server.
const asServer = "mcptest-server"

var hooked bool // Main was called

// Main is a TestMain for packages whose tests use [Command]:
//
//	func TestMain(m *testing.M) { mcptest.Main(m) }
func Main(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == asServer {
		exit(Run(os.Args[2:]))
	}
	hooked = true
	os.Exit(m.Run())
}

// exit ends the process at once. A program that was built to find races would sleep for a second in os.Exit, which is no fault that a
// test asked for.
func exit(code int) { syscall.Exit(code) }

// Command returns a command that starts this test binary as a server over stdio, with the flags of [Run].
func Command(tb testing.TB, flags ...string) (command string, args []string) {
	tb.Helper()
	if !hooked {
		tb.Fatal("mcptest: Command needs mcptest.Main in TestMain")
	}
	self, err := os.Executable()
	if err != nil {
		tb.Fatalf("mcptest: %v", err)
	}
	return self, append([]string{asServer}, flags...)
}

// modes are what -mode may name, several separated by commas.
var modes = []string{
	"banner", "die", "exit", "flood-stderr", "garbage", "grandchild", "grandchild-setsid", "hang-on-eof", "hostile", "ignore-term", "mute",
	"slow-start", "stderr-close", "stdout-close",
}

// process is a server over stdio with the faults that its flags name.
type process struct {
	mode         map[string]bool
	delay        time.Duration
	calls        int
	say          string
	code         int
	list, prefix string
	more         int
}

const usage = `An MCP server over stdio that misbehaves on request.

-mode is a list, separated by commas, of
  slow-start         waits -delay before it reads anything
  exit               writes -say to stderr and exits with -code
  die                exits with -code, without an answer, in the call after -calls calls
  hang-on-eof        goes on after stdin was closed, until a signal
  ignore-term        ignores SIGTERM, SIGINT and SIGHUP
  flood-stderr       writes 64 MiB of lines to stderr while it serves
  stderr-close       closes stderr
  stdout-close       closes stdout after -calls calls and goes on
  grandchild         starts a process that holds stdout and ignores signals; the tool "session" tells its pid
  grandchild-setsid  the same in a session, and process group, of its own
  banner             writes lines to stdout that are not MCP before it serves
  garbage            writes such lines before each message, too
  mute               reads, but answers nothing
  hostile            is the script Hostile instead, with -list as its list
Without a mode it is the server of NewServer.

`

// Run is a server over stdin and stdout. It returns the exit code. The flags are those of the program integration/testserver; -help lists
// them.
func Run(args []string) int {
	if len(args) == 1 && args[0] == asGrandchild {
		return runGrandchild()
	}
	p := process{mode: map[string]bool{}}
	f := flag.NewFlagSet("testserver", flag.ContinueOnError)
	f.Usage = func() {
		_, _ = io.WriteString(f.Output(), usage)
		f.PrintDefaults()
	}
	f.Func("mode", "what to do wrong; see above", func(v string) error {
		for m := range strings.SplitSeq(v, ",") {
			if !slices.Contains(modes, m) {
				return fmt.Errorf("no mode %q, there are %s", m, strings.Join(modes, ", "))
			}
			p.mode[m] = true
		}
		return nil
	})
	f.DurationVar(&p.delay, "delay", 5*time.Second, "of slow-start")
	f.IntVar(&p.calls, "calls", 0, "of die and stdout-close")
	f.StringVar(&p.say, "say", "testserver: the configuration is missing", "of exit")
	f.IntVar(&p.code, "code", 3, "exit code of exit and die")
	f.StringVar(&p.list, "list", "", "of hostile")
	f.StringVar(&p.prefix, "prefix", "", "put before the name of each tool")
	f.IntVar(&p.more, "more", 0, "number of further tools")
	if err := f.Parse(args); err != nil {
		return 2
	}
	if err := p.serve(); err != nil {
		fmt.Fprintln(os.Stderr, "testserver:", err)
		return 1
	}
	return p.end()
}

// end is the end of a process whose stdin was closed.
func (p *process) end() int {
	if p.mode["exit"] {
		return p.code
	}
	if p.mode["hang-on-eof"] {
		forever()
	}
	return 0
}

// forever waits until a signal ends the process. Without a timer, the runtime would take it for a deadlock.
func forever() {
	for {
		<-time.After(time.Hour)
	}
}

func (p *process) serve() error {
	if p.mode["exit"] {
		fmt.Fprintln(os.Stderr, p.say)
		return nil
	}
	if p.mode["ignore-term"] {
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	}
	if p.mode["grandchild"] || p.mode["grandchild-setsid"] {
		pid, err := startGrandchild(p.mode["grandchild-setsid"])
		if err != nil {
			return err
		}
		grandchild = pid
	}
	if p.mode["stderr-close"] {
		_ = os.Stderr.Close()
	}
	if p.mode["flood-stderr"] {
		go flood(os.Stderr, 64<<20) // ends with the process
	}
	if p.mode["slow-start"] {
		<-time.After(p.delay)
	}
	var out io.WriteCloser = os.Stdout
	if p.mode["banner"] || p.mode["garbage"] {
		if _, err := io.WriteString(out, "Welcome to testserver!\n\n[info] listening on stdio\n{\"level\":\"info\",\"msg\":\"a log line in JSON\"}\n"); err != nil {
			return fmt.Errorf("writing the banner: %w", err)
		}
	}
	if p.mode["garbage"] {
		out = &littering{out}
	}
	ctx := context.Background()
	switch {
	case p.mode["mute"]:
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	case p.mode["hostile"]:
		return Hostile(p.list).Serve(ctx, os.Stdin, out)
	}
	s := newServer(Options{Name: "testserver", Prefix: p.prefix, More: p.more})
	s.AddReceivingMiddleware(p.faults)
	err := s.Run(ctx, &mcp.IOTransport{Reader: os.Stdin, Writer: out})
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return err
}

// faults is the middleware of die and stdout-close.
func (p *process) faults(next mcp.MethodHandler) mcp.MethodHandler {
	var calls atomic.Int64
	return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
		if method == "tools/call" && int(calls.Add(1)) > p.calls {
			if p.mode["die"] {
				exit(p.code)
			}
			if p.mode["stdout-close"] {
				_ = os.Stdout.Close()
			}
		}
		return next(ctx, method, req)
	}
}

// littering writes a line that is not MCP before each write.
type littering struct{ io.WriteCloser }

func (l *littering) Write(b []byte) (int, error) {
	if _, err := io.WriteString(l.WriteCloser, "DEBUG sending a message {\n"); err != nil {
		return 0, err
	}
	return l.WriteCloser.Write(b)
}

// flood writes n bytes of lines.
func flood(w io.Writer, n int) {
	line := []byte(strings.Repeat("all work and no play makes a dull server ", 25) + "\n")
	for ; n > 0; n -= len(line) {
		if _, err := w.Write(line); err != nil {
			return
		}
	}
}
