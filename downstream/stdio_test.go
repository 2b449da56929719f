//go:build unix

package downstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// openStdio opens a link to a stdio server and closes it with the test.
func openStdio(t testing.TB, cfg *Config, o opening, log *slog.Logger) link {
	t.Helper()
	l, err := tryStdio(t, cfg, o, log)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return l
}

func tryStdio(t testing.TB, cfg *Config, o opening, log *slog.Logger) (link, error) {
	t.Helper()
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s, err := newStdioOpener("test", cfg, log, "v1")
	if err != nil {
		t.Fatal(err)
	}
	return openLink(t, s, o)
}

func openLink(t testing.TB, s opener, o opening) (link, error) {
	t.Helper()
	if o.upcalls == nil {
		o.upcalls = newRecorder(t)
	}
	l, err := s.open(t.Context(), o)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		l.close(ctx)
		if ctx.Err() != nil {
			t.Error("close did not end")
		}
		s.close()
	})
	return l, nil
}

// revisions are the ways to speak to a server of both eras.
var revisions = []string{"auto", "2024-11-05", Legacy, Modern}

func TestStdioWithARealServer(t *testing.T) {
	for _, revision := range revisions {
		t.Run(revision, func(t *testing.T) {
			cfg := stdioConfig(t, "sdk")
			cfg.Protocol = revision
			testRealServer(t, func(o opening) link { return openStdio(t, cfg, o, nil) }, revision)
		})
	}
}

// testRealServer is what every transport must do with a real server of both eras.
func testRealServer(t *testing.T, open func(opening) link, revision string) {
	up := newRecorder(t)
	l := open(opening{upcalls: up, shared: true, listen: true, capabilities: json.RawMessage(`{"elicitation":{"form":{}}}`)})
	p := l.peer()
	want := revision
	if revision == "auto" {
		want = Modern
	}
	if p.Revision != want || p.Instructions != "be kind" || !strings.Contains(string(p.Info), `"sdk"`) || wire.Get(p.Capabilities, "tools") == nil {
		t.Errorf("peer: %s, %q, %s, %s", p.Revision, p.Instructions, p.Info, p.Capabilities)
	}
	t.Run("call", func(t *testing.T) {
		raw, err := l.call(t.Context(), toolCall("echo", `{"n":18446744073709551615}`, ""))
		if err != nil || textOf(t, raw) != `{"n":18446744073709551615}` {
			t.Errorf("%s, %v", raw, err)
		}
	})
	t.Run("error", func(t *testing.T) {
		_, err := l.call(t.Context(), toolCall("none", `{}`, ""))
		var e *wire.Error
		if !errors.As(err, &e) || e.Code != wire.CodeInvalidParams {
			t.Errorf("%v, want the server's error", err)
		}
	})
	t.Run("meta", func(t *testing.T) {
		raw, err := l.call(t.Context(), toolCall("meta", `{}`, `{"x/y":1}`))
		if err != nil {
			t.Fatal(err)
		}
		text := textOf(t, raw)
		if !strings.Contains(text, `"x/y":1`) || strings.Contains(text, MetaClientInfo) != p.modern() || p.modern() && !strings.Contains(text, `"mcpgw"`) {
			t.Errorf("the server saw %s", text)
		}
	})
	t.Run("20 callers, one token", func(t *testing.T) {
		var wg sync.WaitGroup
		for n := range 20 {
			wg.Go(func() {
				s := newRecorder(t)
				c := toolCall("progress", fmt.Sprintf(`{"who":%d}`, n), `{"progressToken":"same"}`)
				c.Stream = s
				raw, err := l.call(t.Context(), c)
				if err != nil {
					t.Error(err)
					return
				}
				var want []string
				for step := range 20 {
					want = append(want, fmt.Sprintf(`{"who":%d} %d "same"`, n, step))
				}
				var got []string
				for _, h := range s.all() {
					params := []byte(strings.TrimPrefix(h, "notifications/progress "))
					message, _ := wire.GetString(params, "message")
					step := wire.Get(params, "progress")
					if step == nil {
						step = json.RawMessage("0") // the SDK leaves it out
					}
					got = append(got, fmt.Sprintf("%s %s %s", message, step, wire.Get(params, "progressToken")))
				}
				if diff := cmp.Diff(want, got); diff != "" || textOf(t, raw) != fmt.Sprintf(`{"who":%d}`, n) {
					t.Errorf("result %s, progress (-want +got):\n%s", raw, diff)
				}
			})
		}
		wg.Wait()
	})
	t.Run("cancel", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := l.call(ctx, toolCall("wait", `{}`, ""))
			done <- err
		}()
		cancel()
		var lost *LostError
		if err := <-done; !errors.Is(err, context.Canceled) || errors.As(err, &lost) && lost.Class != "cancelled" {
			t.Errorf("the call ended with %v", err)
		} else if lost == nil {
			return // it had not been sent yet
		}
		if _, err := l.call(t.Context(), toolCall("cancelled", `{}`, "")); err != nil {
			t.Errorf("the server did not see the end of the call: %v", err)
		}
	})
	t.Run("ask", func(t *testing.T) {
		if p.modern() {
			return // it has no requests of the server's
		}
		s := newRecorder(t)
		s.answer = func(_ context.Context, method string, _ json.RawMessage) (json.RawMessage, error) {
			if method != "elicitation/create" {
				return nil, wire.Errorf(wire.CodeMethodNotFound, "unexpected %s", method)
			}
			return json.RawMessage(`{"action":"accept","content":{"name":"Ada"}}`), nil
		}
		c := toolCall("ask", `{}`, "")
		c.Stream = s
		raw, err := l.call(t.Context(), c)
		if err != nil || textOf(t, raw) != "accept Ada" {
			t.Errorf("%s, %v", raw, err)
		}
	})
	t.Run("changes", func(t *testing.T) {
		if _, err := l.call(t.Context(), toolCall("grow", `{}`, "")); err != nil {
			t.Fatal(err)
		}
		up.waitFor("notifications/tools/list_changed")
	})
	t.Run("subscriptions", func(t *testing.T) { testSubscriptions(t, l, up) })
	if l.err() != nil {
		t.Errorf("the session ended: %v", l.err())
	}
}

func testSubscriptions(t *testing.T, l link, up *recorder) {
	sub, ok := l.(subscriber)
	if !ok {
		t.Fatal("the link is no subscriber")
	}
	updates := func(uri string) int {
		n := 0
		for _, h := range up.all() {
			if strings.HasPrefix(h, `notifications/resources/updated {"uri":"`+uri+`"`) {
				n++
			}
		}
		return n
	}
	touch := func(uri string) {
		t.Helper()
		before := updates(uri)
		if _, err := l.call(t.Context(), toolCall("touch", `{"uri":"`+uri+`"}`, "")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "an update of "+uri, func() bool { return updates(uri) > before })
	}
	for _, uri := range []string{"test://a", "test://b", "test://c"} {
		if err := sub.subscribe(t.Context(), uri); err != nil {
			t.Fatalf("subscribe %s: %v", uri, err)
		}
	}
	if err := sub.subscribe(t.Context(), "test://a"); err != nil {
		t.Errorf("subscribing twice: %v", err)
	}
	touch("test://a")
	touch("test://b")
	touch("test://c")
	if err := sub.unsubscribe(t.Context(), "test://b"); err != nil {
		t.Fatal(err)
	}
	if err := sub.subscribe(t.Context(), "test://d"); err != nil { // the filter without b is in force after it
		t.Fatal(err)
	}
	b := updates("test://b")
	if _, err := l.call(t.Context(), toolCall("touch", `{"uri":"test://b"}`, "")); err != nil {
		t.Fatal(err)
	}
	touch("test://a")
	touch("test://d")
	if got := updates("test://b"); got != b {
		t.Errorf("%d updates came after unsubscribe", got-b)
	}
	if _, err := l.call(t.Context(), toolCall("grow", `{}`, "")); err != nil {
		t.Fatal(err)
	}
}

func TestStdioHandshakes(t *testing.T) {
	for _, test := range []struct {
		name, role, protocol string
		discover             time.Duration
		want                 string // revision
		err                  string
	}{
		{name: "an unknown method", role: "raw", want: Legacy},
		{name: "with a banner", role: "banner", want: Legacy},
		{name: "silence", role: "discover-silent", discover: 50 * time.Millisecond, want: Legacy},
		{name: "exits", role: "discover-exits", want: Legacy},
		{name: "refuses the revision", role: "discover-unsupported", want: "2025-06-18"},
		{name: "modern but late", role: "modern-late", discover: 50 * time.Millisecond, want: Modern},
		{name: "pinned", role: "discover-exits", protocol: "2025-03-26", want: "2025-03-26"},
		{name: "pinned to what it does not speak", role: "raw", protocol: Modern, err: "does not speak 2026-07-28"},
		{name: "mute", role: "mute", discover: 50 * time.Millisecond, err: "not ready within 500ms (timeouts.initialize)"},
		{name: "ends at once", role: "exits", err: `exit status 4); its last words: cannot open \x1b[31mthe database\x1b[0m: file is locked`},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := stdioConfig(t, test.role)
			if test.protocol != "" {
				cfg.Protocol = test.protocol
			}
			if test.discover > 0 {
				cfg.Timeouts.Discover = test.discover
			}
			if test.role == "mute" {
				cfg.Timeouts.Initialize = 500 * time.Millisecond
			}
			l, err := tryStdio(t, cfg, opening{}, nil)
			if test.err != "" {
				var away *UnavailableError
				if err == nil || !strings.Contains(err.Error(), test.err) || !errors.As(err, &away) || away.Class != "connect" {
					t.Errorf("open: %v, want %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := l.peer(); got.Revision != test.want {
				t.Errorf("revision %s, want %s", got.Revision, test.want)
			}
			if raw, err := l.call(t.Context(), toolCall("ok", `{}`, "")); err != nil || string(raw) != `{"content":[],"n":18446744073709551615}` {
				t.Errorf("a call: %s, %v", raw, err)
			}
		})
	}
}

// TestStdioRemembersTheEra: what was learnt once is not asked again, until it proves wrong.
func TestStdioRemembersTheEra(t *testing.T) {
	cfg := stdioConfig(t, "discover-silent")
	cfg.Timeouts.Discover = 300 * time.Millisecond
	o, err := newStdioOpener("test", cfg, slog.New(slog.DiscardHandler), "v1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openLink(t, o, opening{}); err != nil {
		t.Fatal(err)
	}
	s := o.(*stdioOpener)
	if !s.era.isLegacy() {
		t.Fatal("the era was forgotten")
	}
	cfg.Timeouts.Discover = time.Hour // would be waited for if it were asked
	if _, err := openLink(t, o, opening{}); err != nil {
		t.Fatal(err)
	}
	// The server is replaced by one that knows no initialize.
	next := stdioConfig(t, "modern-late")
	cfg.Env, cfg.Timeouts.Discover = next.Env, 50*time.Millisecond
	l, err := openLink(t, o, opening{})
	if err != nil || !l.peer().modern() || s.era.isLegacy() {
		t.Errorf("after the server was replaced: %v", err)
	}
}

func TestStdioStartErrors(t *testing.T) {
	cfg := stdioConfig(t, "raw")
	cfg.Command = "no-such-command"
	_, err := tryStdio(t, cfg, opening{}, nil)
	var away *UnavailableError
	if !errors.As(err, &away) || away.Class != "connect" || !strings.Contains(err.Error(), `command "no-such-command": no such program in PATH`) {
		t.Errorf("open: %v", err)
	}
}

// lockedBuffer is a bytes.Buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestStdioEnvironment is T50.
func TestStdioEnvironment(t *testing.T) {
	t.Setenv("GATEWAY_SECRET", "canary")
	for name, value := range map[string]string{"HOME": "/home", "LANG": "C", "TMPDIR": "/tmp"} {
		t.Setenv(name, value)
	}
	l := openStdio(t, stdioConfig(t, "raw"), opening{}, nil)
	raw, err := l.call(t.Context(), toolCall("environment", `{}`, ""))
	if want := `{"names":["HOME","LANG","MCPGW_TEST_SERVER","PATH","TMPDIR"]}`; err != nil || string(raw) != want {
		t.Errorf("the server has %s, %v, want %s", raw, err, want)
	}
}

// TestStdioSlowStartIsNotRemembered: a server of both eras that was slow is spoken to in the older one, but only this once.
func TestStdioSlowStartIsNotRemembered(t *testing.T) {
	cfg := stdioConfig(t, "dual-late")
	cfg.Timeouts.Discover = 50 * time.Millisecond
	o, err := newStdioOpener("test", cfg, slog.New(slog.DiscardHandler), "v1")
	if err != nil {
		t.Fatal(err)
	}
	l, err := openLink(t, o, opening{})
	if err != nil || l.peer().Revision != Legacy || o.(*stdioOpener).era.isLegacy() {
		t.Errorf("open: %v, want a legacy session and no memory of it", err)
	}
}
