//go:build unix

package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// bothWays runs a test with and without the reaper, where there is one.
func bothWays(t *testing.T, f func(t *testing.T, reaped bool)) {
	t.Helper()
	if runtime.GOOS != "linux" {
		f(t, false)
		return
	}
	t.Run("reaper", func(t *testing.T) { f(t, true) })
	t.Run("group", func(t *testing.T) {
		defer withoutReaper()()
		f(t, false)
	})
}

func TestBytesPassBothWays(t *testing.T) {
	bothWays(t, func(t *testing.T, _ bool) {
		p := begin(t, role(t, "cat"))
		want := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
		go func() {
			_, _ = p.Stdin.Write(want)
			_ = p.Stdin.Close()
		}()
		got, err := io.ReadAll(p.Stdout)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes came back, %v, want the %d that were sent", len(got), err, len(want))
		}
		<-p.Done()
		if got := p.Err().Error(); !strings.Contains(got, "exit status 0") {
			t.Errorf("Err = %q, want exit status 0", got)
		}
	})
}

// TestEnvironment is T50: the child has the allow-list and what it was given, and no secret is in anybody's command line.
func TestEnvironment(t *testing.T) {
	bothWays(t, func(t *testing.T, reaped bool) {
		t.Setenv("HOME", "/home/of\xffbytes")
		t.Setenv("LANG", "C.UTF-8")
		t.Setenv("TMPDIR", "/tmp")
		t.Setenv("GATEWAY_SECRET", "canary")
		cfg := role(t, "env")
		cfg.Env = Environ(map[string]string{"PROC_TEST": "env", "TOKEN": "given canary", "LANG": "de", "EMPTY": ""})
		p := begin(t, cfg)
		out, err := io.ReadAll(p.Stdout)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Split(strings.TrimSpace(string(out)), "\n")
		slices.Sort(got)
		want := []string{"EMPTY=", "HOME=/home/of\xffbytes", "LANG=de", "PATH=" + os.Getenv("PATH"), "PROC_TEST=env", "TMPDIR=/tmp", "TOKEN=given canary"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("environment (-want +got):\n%s", diff)
		}
		if !reaped {
			return
		}
		q := begin(t, role(t, "cat"))
		for _, file := range []string{"environ", "cmdline"} {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", reaperOf(q), file))
			if err != nil || bytes.Contains(b, []byte("canary")) || bytes.Contains(b, []byte("PROC_TEST")) {
				t.Errorf("%s of the reaper: %q, %v, want nothing of the child's", file, b, err)
			}
		}
	})
}

func TestExitIsReportedWithItsReason(t *testing.T) {
	bothWays(t, func(t *testing.T, _ bool) {
		p := begin(t, role(t, "exit"))
		<-p.Done()
		var exit *ExitError
		if !errors.As(p.Err(), &exit) {
			t.Fatalf("Err = %v, want an ExitError", p.Err())
		}
		if want := `first\x1b[31m | the reason`; exit.Status != "exit status 7" || exit.Stderr != want {
			t.Errorf("status %q, stderr %q, want exit status 7 and %q", exit.Status, exit.Stderr, want)
		}
	})
}

func TestStartErrors(t *testing.T) {
	dir := t.TempDir()
	plainFile := dir + "/file"
	if err := os.WriteFile(plainFile, []byte("no program"), 0o600); err != nil {
		t.Fatal(err)
	}
	script := dir + "/script"
	if err := os.WriteFile(script, []byte("#!/no/such/interpreter\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"unknown", Config{Path: "no-such-program", Env: []string{"PATH=/bin"}}, `command "no-such-program": no such program in PATH (/bin): install it or write its full path`},
		{"no such file", Config{Path: dir + "/none"}, "no such file"},
		{"not executable", Config{Path: plainFile}, "is not executable"},
		{"a directory", Config{Path: dir + "/"}, "is a directory"},
		{"no interpreter", Config{Path: script}, "no such file or directory"},
		{"no working directory", Config{Path: "/bin/true", Dir: dir + "/none"}, "working directory"},
		{"nul in an argument", Config{Path: "/bin/sh", Args: []string{"a\x00b"}}, "invalid argument"},
	} {
		t.Run(test.name, func(t *testing.T) {
			bothWays(t, func(t *testing.T, _ bool) {
				p, err := Start(test.cfg)
				if err == nil {
					p.Close(t.Context())
					t.Fatal("it started")
				}
				var start *StartError
				if !errors.As(err, &start) || !strings.Contains(err.Error(), test.want) {
					t.Errorf("Start: %v, want a StartError with %q", err, test.want)
				}
			})
		})
	}
}

// TestArgumentsReachNoShell is T52.
func TestArgumentsReachNoShell(t *testing.T) {
	bothWays(t, func(t *testing.T, _ bool) {
		args := []string{"%s|", "; touch x", "$(id)", "`id`", "a b", "", "\xff", "*"}
		p := begin(t, Config{Path: "printf", Args: args, Env: Environ(nil), Close: time.Second})
		out, err := io.ReadAll(p.Stdout)
		if want := strings.Join(args[1:], "|") + "|"; err != nil || string(out) != want {
			t.Errorf("printf wrote %q, %v, want %q", out, err, want)
		}
	})
}

func TestCloseEndsTheStubborn(t *testing.T) {
	bothWays(t, func(t *testing.T, _ bool) {
		p := begin(t, role(t, "stubborn"))
		all := pids(t, p.Stdout)
		began := time.Now()
		p.Close(t.Context())
		if took := time.Since(began); took < 600*time.Millisecond || took > 5*time.Second {
			t.Errorf("Close took %s, want two steps of 300ms and little more", took)
		}
		if got := p.Err(); got == nil || !strings.Contains(got.Error(), "signal: killed") {
			t.Errorf("Err = %v, want that it was killed", got)
		}
		gone(t, all)
	})
}

func TestCloseWithinItsContext(t *testing.T) {
	bothWays(t, func(t *testing.T, _ bool) {
		cfg := role(t, "stubborn")
		cfg.Close = time.Hour
		p := begin(t, cfg)
		all := pids(t, p.Stdout)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		p.Close(ctx)
		gone(t, all)
	})
}

func TestCloseTwiceAtOnce(t *testing.T) {
	p := begin(t, role(t, "cat"))
	other := make(chan struct{})
	go func() {
		defer close(other)
		p.Close(context.Background())
	}()
	p.Close(t.Context())
	<-other
	<-p.Done()
}

// TestFamilyIsEnded: whatever way the child ends, what it started ends too. Without the reaper that is true of its group.
func TestFamilyIsEnded(t *testing.T) {
	for _, test := range []struct {
		name, role string
		end        func(p *Process, all []int)
	}{
		{"closed", "family", func(p *Process, _ []int) { p.Close(context.Background()) }},
		{"killed from outside", "family", func(_ *Process, all []int) { _ = syscall.Kill(all[0], syscall.SIGKILL) }},
		{"left by the child", "leaver", func(*Process, []int) {}},
	} {
		t.Run(test.name, func(t *testing.T) {
			bothWays(t, func(t *testing.T, reaped bool) {
				p := begin(t, role(t, test.role))
				all := pids(t, p.Stdout)
				test.end(p, all)
				<-p.Done()
				if !reaped {
					_ = syscall.Kill(all[2], syscall.SIGKILL) // it has a session of its own: out of reach
				}
				gone(t, all)
			})
		})
	}
}

// TestGrandchildDoesNotHoldUs: a grandchild that we cannot end holds stdout and stderr; the process counts as ended all the same.
func TestGrandchildDoesNotHoldUs(t *testing.T) {
	defer withoutReaper()()
	p := begin(t, role(t, "leaver"))
	all := pids(t, p.Stdout)
	defer syscall.Kill(all[2], syscall.SIGKILL)
	select {
	case <-p.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the process does not count as ended")
	}
	if _, err := p.Stdout.Read(make([]byte, 1)); err == nil {
		t.Error("stdout can still be read")
	}
}

// TestNothingOutlivesTheGateway is T51: the gateway is killed with SIGKILL.
func TestNothingOutlivesTheGateway(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Log("only Linux has the reaper")
		return
	}
	for _, kin := range []string{"family", "clan"} { // the clan while it is being closed
		t.Run(kin, func(t *testing.T) {
			for range 5 {
				gateway := exec.CommandContext(t.Context(), os.Args[0])
				gateway.Env = append(os.Environ(), "PROC_TEST=gateway", "PROC_ROLE="+kin)
				out, err := gateway.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := gateway.Start(); err != nil {
					t.Fatal(err)
				}
				all := pids(t, out)
				for _, pid := range all {
					if !alive(pid) {
						t.Fatalf("process %d of %v is gone before its time", pid, all)
					}
				}
				if err := gateway.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				_ = gateway.Wait()
				gone(t, all)
			}
		})
	}
}

// TestFloodOnStderr is T53 and a bound: what is logged is clean, cut and thinned out, and nothing is dropped unsaid.
func TestFloodOnStderr(t *testing.T) {
	var buf bytes.Buffer
	cfg := role(t, "flood")
	cfg.Logger = slog.New(slog.NewTextHandler(&buf, nil))
	p := begin(t, cfg)
	<-p.Done()
	log := buf.String()
	if buf.Len() > stderrBurst*2+64<<10 {
		t.Errorf("%d bytes were logged, more than the bound", buf.Len())
	}
	for _, want := range []string{`line="line 0 xxx`, "server stderr lines dropped"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not say %q", want)
		}
	}
	if strings.ContainsAny(log, "\x1b\u202e\r") {
		t.Error("the log holds control characters")
	}
	if got := p.Stderr(); !strings.HasSuffix(got, `\x1b[2J\u202eend`) || len(got) > 2*tailBytes {
		t.Errorf("Stderr = %q, want the cleaned end", got)
	}
}

func TestLongLineIsCut(t *testing.T) {
	var buf bytes.Buffer
	l := newStderrLog(1<<10, slog.New(slog.NewTextHandler(&buf, nil)))
	l.read(strings.NewReader(strings.Repeat("y", 100<<10) + "\nnext\n\n"))
	log := buf.String()
	if strings.Count(log, "\n") != 3 || !strings.Contains(log, "bytes=102401") || !strings.Contains(log, "line=next") {
		t.Errorf("logged:\n%.300s\nwant the beginning, a note of the cut and the next line", log)
	}
	if len(l.ring) > 2<<10 {
		t.Errorf("the ring holds %d bytes", len(l.ring))
	}
}

func TestClean(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"plain ünïcödé 日本 👍\t.", "plain ünïcödé 日本 👍\t."},
		{"a\r\nb\x00\x1b[31m\x7f", `a\r\nb\x00\x1b[31m\x7f`},
		{"bad \xff\xc3", `bad \xff\xc3`},
		{"turn \u202e zero \u200b tag \U000E0041", `turn \u202e zero \u200b tag \U000e0041`},
		{strings.Repeat("x", 100), strings.Repeat("x", 60) + " [40 more bytes]"},
	} {
		if got := Clean(test.in, 60); got != test.want {
			t.Errorf("Clean(%q) = %q, want %q", test.in, got, test.want)
		}
	}
}
