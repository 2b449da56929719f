package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
)

// remarks is a log handler that keeps, besides what next takes, the warnings that say how to mend what they warn of: "mcpgw check" shows
// them in its report.
type remarks struct {
	next slog.Handler
	kept *kept
}

type kept struct {
	mu    sync.Mutex
	texts []string // guarded by mu
}

func (k *kept) all() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.texts
}

// Enabled implements slog.Handler.
func (r remarks) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn || r.next.Enabled(ctx, l)
}

// Handle implements slog.Handler.
func (r remarks) Handle(ctx context.Context, rec slog.Record) error {
	var who, mend string
	var facts []string
	rec.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "downstream":
			who = a.Value.String()
		case "mend":
			mend = a.Value.String()
		default:
			facts = append(facts, a.Value.String())
		}
		return true
	})
	if mend != "" {
		text := fmt.Sprintf("downstreams.%s: %s", who, rec.Message)
		if len(facts) > 0 {
			text += ": " + strings.Join(facts, ", ")
		}
		r.kept.mu.Lock()
		r.kept.texts = append(r.kept.texts, text+" ("+mend+")")
		r.kept.mu.Unlock()
	}
	if r.next.Enabled(ctx, rec.Level) {
		return r.next.Handle(ctx, rec)
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (r remarks) WithAttrs(attrs []slog.Attr) slog.Handler {
	return remarks{r.next.WithAttrs(attrs), r.kept}
}

// WithGroup implements slog.Handler.
func (r remarks) WithGroup(name string) slog.Handler { return remarks{r.next.WithGroup(name), r.kept} }
