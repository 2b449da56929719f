package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"
)

// Access is the access log.
type Access struct {
	log    *slog.Logger
	sample float64
}

func newAccess(c *AccessLogConfig, log *slog.Logger) *Access {
	if !c.Enabled {
		return nil
	}
	return &Access{log, c.Sample}
}

// Wants reports whether a request is to be written; failed ones always are.
func (a *Access) Wants(failed bool) bool {
	return a != nil && (failed || a.sample >= 1 || rand.Float64() < a.sample) //nolint:gosec // chooses lines, guards nothing
}

// Write writes one line.
func (a *Access) Write(ctx context.Context, attrs ...slog.Attr) {
	a.log.LogAttrs(ctx, slog.LevelInfo, "request", attrs...)
}

// Audit is the audit log.
type Audit struct {
	log       *slog.Logger
	file      io.Closer // nil: the program's log
	arguments bool
	secret    *regexp.Regexp // names of arguments
}

// secretNames are names of arguments whose values nobody wants in a log.
const secretNames = `pass(word|wd|phrase)?$|^pwd$|secret|token|api_?-?key|private_?-?key|credential|authorization|cookie|session_?-?id|^otp$|^pin$` //nolint:gosec // names, no values

func newAudit(c *AuditLogConfig, log *slog.Logger) (*Audit, error) {
	if !c.Enabled {
		return nil, nil
	}
	re, err := regexp.Compile("(?i)" + strings.Join(append([]string{secretNames}, c.Redact...), "|"))
	if err != nil {
		return nil, fmt.Errorf("audit_log.redact: %w", err)
	}
	a := &Audit{log: log, arguments: c.Arguments, secret: re}
	if c.Path != "" {
		f, err := os.OpenFile(c.Path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, fmt.Errorf("telemetry.audit_log.path: %w", err)
		}
		a.file, a.log = f, slog.New(traced{slog.NewJSONHandler(f, nil)})
	}
	return a, nil
}

func (a *Audit) close() error {
	if a.file == nil {
		return nil
	}
	return a.file.Close()
}

// Write writes one record. arguments is a JSON value, or nil for none.
func (a *Audit) Write(ctx context.Context, arguments json.RawMessage, attrs ...slog.Attr) {
	if a.arguments && arguments != nil {
		attrs = append(attrs, slog.String("arguments", a.redact(arguments)))
	}
	a.log.LogAttrs(ctx, slog.LevelInfo, "audit", attrs...)
}

// What a record shows of arguments.
const (
	maxText      = 256     // bytes of one text
	maxArguments = 4 << 10 // bytes of all arguments
	maxReadable  = 1 << 20 // bytes of arguments that are looked into
	maxElements  = 20      // of a list
)

// redact returns arguments as they may be logged.
func (a *Audit) redact(arguments json.RawMessage) string {
	if len(arguments) > maxReadable {
		return fmt.Sprintf("[%d bytes]", len(arguments))
	}
	dec := json.NewDecoder(bytes.NewReader(arguments))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return "[unreadable]"
	}
	out, err := json.Marshal(a.clean(v))
	if err != nil {
		return "[unreadable]"
	}
	return cut(string(out), maxArguments)
}

func (a *Audit) clean(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			if a.secret.MatchString(name) {
				v[name] = Redacted
			} else {
				v[name] = a.clean(value)
			}
		}
	case []any:
		if n := len(v); n > maxElements {
			v = append(v[:maxElements:maxElements], fmt.Sprintf("[%d more]", n-maxElements))
		}
		for i := range v {
			v[i] = a.clean(v[i])
		}
		return v
	case string:
		return cut(v, maxText)
	}
	return v
}

// cut shortens a text to about n bytes.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return fmt.Sprintf("%s…[%d bytes]", s[:n], len(s))
}
