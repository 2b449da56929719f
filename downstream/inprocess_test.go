package downstream

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/downstream/builtin"
	"github.com/mcpgw/mcpgw/downstream/builtin/lab"
	"github.com/mcpgw/mcpgw/internal/wire"
)

func TestInProcessWithARealServer(t *testing.T) {
	for _, revision := range revisions {
		t.Run(revision, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.Preset, cfg.Protocol = "host", revision
			s := newServerOpener(realServer(), &cfg, slog.New(slog.DiscardHandler), "v1")
			testRealServer(t, func(o opening) link {
				l, err := openLink(t, s, o)
				if err != nil {
					t.Fatal(err)
				}
				return l
			}, revision)
		})
	}
}

func TestInProcessPanic(t *testing.T) {
	cfg := DefaultConfig()
	var log lockedBuffer
	l, err := openLink(t, newServerOpener(realServer(), &cfg, slog.New(slog.NewTextHandler(&log, nil)), "v1"), opening{})
	if err != nil {
		t.Fatal(err)
	}
	var e *wire.Error
	if _, err := l.call(t.Context(), toolCall("panic", `{}`, "")); !errors.As(err, &e) {
		t.Errorf("a call that panics: %v", err)
	}
	if !strings.Contains(log.String(), "on purpose") {
		t.Errorf("the log does not say what happened: %s", log.String())
	}
	if _, err := l.call(t.Context(), toolCall("echo", `{}`, "")); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

func TestInProcessPresets(t *testing.T) {
	systems := lab.New()
	defer systems.Close()
	for _, preset := range Presets() {
		if builtin.NeedsURL(preset) && !builtin.HasLab(preset) {
			continue // it needs more than a name
		}
		t.Run(preset, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.Preset = preset
			if builtin.HasLab(preset) {
				cfg.URL = lab.URL
			}
			l, err := openLink(t, newInProcessOpener("test", &cfg, slog.New(slog.DiscardHandler), "v1", systems), opening{})
			if err != nil {
				t.Fatal(err)
			}
			if raw, err := l.call(t.Context(), &Call{Method: "tools/list"}); err != nil || wire.Get(raw, "tools") == nil {
				t.Errorf("tools/list: %.200s, %v", raw, err)
			}
		})
	}
}

// TestInProcessBadConfiguration shows that what is wrong with one built-in server is found when it is opened, and is tried again.
func TestInProcessBadConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	cfg := DefaultConfig()
	cfg.Preset, cfg.URL, cfg.TokenFile = "proxmox", "https://192.0.2.1", file
	o := newInProcessOpener("test", &cfg, slog.New(slog.DiscardHandler), "v1", nil)
	defer o.close()
	for content, want := range map[string]string{"": "token_file", "half a token": "USER@REALM!TOKENID=UUID"} {
		if content != "" {
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		} else if err := os.RemoveAll(file); err != nil {
			t.Fatal(err)
		}
		_, err := o.open(t.Context(), opening{})
		if away, ok := errors.AsType[*UnavailableError](err); !ok || away.Class != "configuration" || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", content, err)
		}
	}
	if err := os.WriteFile(file, []byte("root@pam!mcpgw=0badc0de-5ec2-4e70-8000-70616e746564"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := o.open(t.Context(), opening{upcalls: lockedStream{}.Stream})
	if err != nil {
		t.Fatalf("with a good token: %v", err)
	}
	l.close(t.Context())
}

// TestInProcessCloseEndsHandlers: one that runs, and a subscription that has just been asked for.
func TestInProcessCloseEndsHandlers(t *testing.T) {
	for range 50 {
		cfg := DefaultConfig()
		s := newServerOpener(realServer(), &cfg, slog.New(slog.DiscardHandler), "v1")
		l, err := s.open(t.Context(), opening{upcalls: newRecorder(t), listen: true})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			_, err := l.call(t.Context(), toolCall("wait", `{}`, ""))
			ended <- err
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		l.close(ctx)
		if ctx.Err() != nil {
			t.Fatal("close did not end")
		}
		cancel()
		if err := <-ended; err == nil {
			t.Error("the call in flight got an answer")
		}
	}
}
