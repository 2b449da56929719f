//go:build unix

package downstream

import (
	"context"
	"errors"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/internal/wire"
)

func TestStdioFaultsOfOneCall(t *testing.T) {
	cfg := stdioConfig(t, "raw")
	l := openStdio(t, cfg, opening{}, nil)
	for _, test := range []struct{ tool, class string }{
		{"garbage", ""},
		{"spaces", ""},
		{"utf8", "malformed_response"},
		{"duplicate", "malformed_response"},
		{"nan", "malformed_response"},
		{"both", "malformed_response"},
		{"neither", "malformed_response"},
		{"null", "malformed_response"},
		{"bad error", "malformed_response"},
		{"deep", "malformed_response"},
		{"big", "malformed_response"},
		{"big-last", "malformed_response"},
	} {
		t.Run(test.tool, func(t *testing.T) {
			_, err := l.call(t.Context(), toolCall(test.tool, `{}`, ""))
			var lost *LostError
			if errors.As(err, &lost); test.class == "" && err != nil || test.class != "" && (lost == nil || lost.Class != test.class) {
				t.Errorf("%v, want class %q", err, test.class)
			}
			if _, err := l.call(t.Context(), toolCall("ok", `{}`, "")); err != nil {
				t.Errorf("the next call: %v", err)
			}
		})
	}
	t.Run("error", func(t *testing.T) {
		_, err := l.call(t.Context(), toolCall("error", `{}`, ""))
		var e *wire.Error
		if !errors.As(err, &e) || string(e.Bytes()) != `{"code":-32602,"message":"no such thing","data":{"n":18446744073709551615},"extra":1}` {
			t.Errorf("%v", err)
		}
	})
	t.Run("timeout", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := l.call(ctx, toolCall("silent", `{}`, ""))
		var lost *LostError
		if !errors.As(err, &lost) || lost.Class != "timeout" {
			t.Errorf("%v", err)
		}
	})
}

func TestStdioServerEnds(t *testing.T) {
	for _, test := range []struct {
		tool string
		want string
	}{
		{"exit", " | out of cheese"},
		{"close", "closed its output"},
		{"killed", "signal: killed"},
	} {
		t.Run(test.tool, func(t *testing.T) {
			role := "raw,grandchild" // which holds stdout
			tool := test.tool
			switch tool {
			case "killed":
				tool = "silent"
			case "close":
				role = "raw"
			}
			cfg := stdioConfig(t, role)
			l := openStdio(t, cfg, opening{}, nil)
			done := make(chan error, 1)
			go func() {
				_, err := l.call(t.Context(), toolCall(tool, `{}`, ""))
				done <- err
			}()
			if test.tool == "killed" {
				raw, err := l.call(t.Context(), toolCall("pid", `{}`, ""))
				if err != nil {
					t.Fatal(err)
				}
				pid, err := strconv.Atoi(string(wire.Get(raw, "pid")))
				if err != nil {
					t.Fatal(err)
				}
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
			began := time.Now()
			err := <-done
			var lost *LostError
			if !errors.As(err, &lost) || lost.Class != "connection" || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the call in flight: %v, want %q", err, test.want)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it took %s to notice", took)
			}
			<-l.done()
			var away *UnavailableError
			if _, err := l.call(t.Context(), toolCall("ok", `{}`, "")); !errors.As(err, &away) {
				t.Errorf("the next call: %v", err)
			}
		})
	}
}

var grandchildPid = regexp.MustCompile(`grandchild (\d+)`)

// TestStdioCloseEndsEverything: the server ignores the end of its input and SIGTERM, and has a grandchild in a session of its own
// that holds its stdout.
func TestStdioCloseEndsEverything(t *testing.T) {
	var log lockedBuffer
	cfg := stdioConfig(t, "stubborn,grandchild")
	l := openStdio(t, cfg, opening{}, slog.New(slog.NewTextHandler(&log, nil)))
	raw, err := l.call(t.Context(), toolCall("pid", `{}`, ""))
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(string(wire.Get(raw, "pid")))
	if err != nil {
		t.Fatal(err)
	}
	var grandchild int
	eventually(t, "the server's words in the log", func() bool {
		if m := grandchildPid.FindStringSubmatch(log.String()); m != nil {
			grandchild, err = strconv.Atoi(m[1])
			return err == nil
		}
		return false
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	began := time.Now()
	l.close(ctx)
	if took := time.Since(began); took < 2*cfg.Timeouts.Close || took > 5*time.Second {
		t.Errorf("close took %s", took)
	}
	for _, pid := range []int{child, grandchild} {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d: %v, want that it is gone", pid, err)
		}
	}
}

// TestStdioServerThatDoesNotRead: calls keep their deadlines, and tell whether anything was sent.
func TestStdioServerThatDoesNotRead(t *testing.T) {
	cfg := stdioConfig(t, "raw")
	l := openStdio(t, cfg, opening{}, nil)
	deaf, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	_, _ = l.call(deaf, toolCall("deaf", `{}`, "")) // the last that it reads
	stop()
	big := `"` + strings.Repeat("x", 1<<20) + `"`
	var sent, notSent int
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		began := time.Now()
		_, err := l.call(ctx, toolCall("ok", `{"a":`+big+`}`, ""))
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("the call returned after %s", took)
		}
		cancel()
		var lost *LostError
		var away *UnavailableError
		switch {
		case errors.As(err, &lost) && lost.Class == "timeout":
			sent++
		case errors.As(err, &away) && away.Class == "overloaded" && errors.Is(err, context.DeadlineExceeded):
			notSent++
		default:
			t.Errorf("the call ended with %v", err)
		}
	}
	if sent != 1 || notSent != 4 {
		t.Errorf("%d calls may have been sent and %d not, want 1 and 4", sent, notSent)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the client is gone")
	cancel(gone)
	if _, err := l.call(ctx, toolCall("ok", `{}`, "")); !errors.Is(err, gone) {
		t.Errorf("a cancelled call: %v", err)
	}
}

// TestStdioSessionSurvivesASlowReader: what was begun is written to its end, what was not begun is taken back.
func TestStdioSessionSurvivesASlowReader(t *testing.T) {
	cfg := stdioConfig(t, "raw")
	l := openStdio(t, cfg, opening{}, nil).(*stdioLink)
	raw, err := l.call(t.Context(), toolCall("pid", `{}`, ""))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(wire.Get(raw, "pid")))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	big := `"` + strings.Repeat("x", 1<<20) + `"`
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if _, err := l.call(ctx, toolCall("ok", `{"a":`+big+`}`, "")); err == nil {
			t.Error("a stopped process answered")
		}
		cancel()
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if _, err := l.call(t.Context(), toolCall("ok", `{}`, "")); err != nil {
		t.Errorf("after it went on: %v", err)
	}
	if got := l.dropped.late.Load(); got != 1 {
		t.Errorf("%d late answers, want 1: of the three calls one was begun", got)
	}
}

// TestStdioServerClosesItsInput: it cannot be used any more, so the session ends and another one can be opened.
func TestStdioServerClosesItsInput(t *testing.T) {
	l := openStdio(t, stdioConfig(t, "raw"), opening{}, nil)
	if _, err := l.call(t.Context(), toolCall("close-input", `{}`, "")); err != nil {
		t.Fatal(err)
	}
	var away *UnavailableError
	if _, err := l.call(t.Context(), toolCall("ok", `{}`, "")); !errors.As(err, &away) || away.Class != "connection_closed" {
		t.Errorf("the next call: %v", err)
	}
	<-l.done()
}
