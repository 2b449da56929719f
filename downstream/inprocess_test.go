package downstream

import (
	"context"
	"errors"
	"log/slog"
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
			s, err := newInProcessOpener("test", &cfg, slog.New(slog.DiscardHandler), "v1", systems)
			if err != nil {
				t.Fatal(err)
			}
			l, err := openLink(t, s, opening{})
			if err != nil {
				t.Fatal(err)
			}
			if raw, err := l.call(t.Context(), &Call{Method: "tools/list"}); err != nil || wire.Get(raw, "tools") == nil {
				t.Errorf("tools/list: %.200s, %v", raw, err)
			}
		})
	}
}

func TestInProcessUnknownPreset(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Preset = "none"
	if _, err := newInProcessOpener("test", &cfg, slog.New(slog.DiscardHandler), "v1", nil); err == nil {
		t.Error("an unknown preset was accepted")
	}
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
