package resilience

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// logger writes the lines that operators of such systems know by heart, word for word, with attributes after them. Lines that calls
// cause are written at most once a second for each kind and class; the next one says how many were left out.
type logger struct {
	to   *slog.Logger
	name string // of the dependency

	mu    sync.Mutex
	lines map[string]*lineLimit
}

type lineLimit struct {
	last    time.Time
	skipped int
}

const (
	linesPer = time.Second
	maxLines = 256 // kinds and classes that are told apart
)

func newLogger(to *slog.Logger, name string) *logger {
	if to == nil {
		to = slog.New(slog.DiscardHandler)
	}
	return &logger{to: to, name: name, lines: map[string]*lineLimit{}}
}

// allowed reports whether a line of this kind and class may be written now, and how many were left out before it.
func (l *logger) allowed(level slog.Level, kind, class string) (skipped int, ok bool) {
	if !l.to.Enabled(context.Background(), level) {
		return 0, false
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	id := kind + " " + class
	n := l.lines[id]
	if n == nil {
		if len(l.lines) >= maxLines {
			id = kind
		}
		if n = l.lines[id]; n == nil {
			n = &lineLimit{}
			l.lines[id] = n
		}
	}
	if !n.last.IsZero() && now.Sub(n.last) < linesPer {
		n.skipped++
		return 0, false
	}
	skipped, n.skipped, n.last = n.skipped, 0, now
	return skipped, true
}

// write adds what every line about a call has.
func (l *logger) write(ctx context.Context, level slog.Level, c Call, skipped int, msg string, attrs ...slog.Attr) {
	all := make([]slog.Attr, 0, len(attrs)+4)
	all = append(all, slog.String("downstream", l.name))
	if c.Key != "" {
		all = append(all, slog.String("tool", c.Key))
	}
	if c.TraceID != "" {
		all = append(all, slog.String("trace_id", c.TraceID))
	}
	all = append(all, attrs...)
	if skipped > 0 {
		all = append(all, slog.Int("skipped", skipped))
	}
	l.to.LogAttrs(ctx, level, msg, all...) //nolint:sloglint // the texts are fixed word for word, with names and numbers in them
}

func (l *logger) retry(ctx context.Context, c Call, r RetryInfo) {
	if skipped, ok := l.allowed(slog.LevelWarn, "retry", r.Outcome.Class); ok {
		l.write(ctx, slog.LevelWarn, c, skipped,
			fmt.Sprintf("Retry attempt %d/%d failed: %s, retrying in %s...", r.Attempt, r.Max, displayName(r.Outcome.Class), humanDuration(r.Delay)),
			slog.String("class", r.Outcome.Class), slog.Int("attempts", r.Attempt), slog.Int64("delay_ms", r.Delay.Milliseconds()), slog.Any("err", r.Err))
	}
}

func (l *logger) exhausted(ctx context.Context, c Call, tries, most int, o Outcome, x Executed) {
	if skipped, ok := l.allowed(slog.LevelError, "exhausted", o.Class); ok {
		l.write(ctx, slog.LevelError, c, skipped,
			fmt.Sprintf("Retries exhausted for '%s' after %d/%d attempts: %s", l.name, tries, most, displayName(o.Class)),
			slog.String("class", o.Class), slog.Int("attempts", tries), slog.String("executed", string(x)))
	}
}

func (l *logger) timeout(ctx context.Context, c Call, e *TimeoutError, x Executed) {
	if skipped, ok := l.allowed(slog.LevelWarn, "timeout", e.scope()); ok {
		l.write(ctx, slog.LevelWarn, c, skipped,
			fmt.Sprintf("Timeout exceeded for '%s': %s %s (scope=%s)", l.name, e.scope(), e.Limit, e.scope()),
			slog.String("class", ClassTimeout), slog.String("executed", string(x)))
	}
}

func (l *logger) panicked(ctx context.Context, c Call, e *PanicError) {
	if skipped, ok := l.allowed(slog.LevelError, "panic", e.At); ok {
		l.write(ctx, slog.LevelError, c, skipped, fmt.Sprintf("Panic in call to '%s': %v at %s", l.name, e.Value, e.At),
			slog.String("class", ClassPanic), slog.String("stack", string(e.Stack)))
	}
}

func (l *logger) fallback(ctx context.Context, c Call, class, name string) {
	if skipped, ok := l.allowed(slog.LevelWarn, "fallback", class+" "+name); ok {
		l.write(ctx, slog.LevelWarn, c, skipped, fmt.Sprintf("Primary handler failed: %s, using fallback '%s'", class, name),
			slog.String("class", class))
	}
}

// broken tells of a fault in the code that this package was given: a Classifier or listener that panicked.
func (l *logger) broken(err error) {
	if skipped, ok := l.allowed(slog.LevelError, "broken", ""); ok {
		l.write(context.Background(), slog.LevelError, Call{}, skipped, "policy callback failed", slog.Any("err", err))
	}
}

// stateChange is never left out.
func (l *logger) stateChange(ev StateChange) {
	ctx := context.Background() // a circuit changes for all its callers
	attrs := []slog.Attr{slog.String("circuit", ev.Circuit), slog.String("reason", ev.Reason)}
	c := Call{Key: ev.Key}
	switch {
	case ev.To == StateOpen && ev.Reason == "manual":
		l.write(ctx, slog.LevelWarn, c, 0, fmt.Sprintf("Circuit breaker '%s' opened by hand", ev.Circuit),
			append(attrs, slog.Int64("delay_ms", ev.RetryAfter.Milliseconds()))...)
	case ev.To == StateOpen:
		l.write(ctx, slog.LevelWarn, c, 0, fmt.Sprintf("Circuit breaker '%s' opened after %d failures", ev.Circuit, ev.Failures),
			append(attrs, slog.Int64("delay_ms", ev.RetryAfter.Milliseconds()))...)
	case ev.To == StateHalfOpen:
		l.write(ctx, slog.LevelInfo, c, 0, fmt.Sprintf("Circuit breaker '%s' half-open, testing connection", ev.Circuit), attrs...)
	case ev.To == StateClosed:
		l.write(ctx, slog.LevelInfo, c, 0, fmt.Sprintf("Circuit breaker '%s' closed", ev.Circuit), append(attrs, slog.Int64("outage_ms", ev.Outage.Milliseconds()))...)
	default: // isolated, disabled
		l.write(ctx, slog.LevelWarn, c, 0, fmt.Sprintf("Circuit breaker '%s' %s by hand", ev.Circuit, ev.To), attrs...)
	}
}
