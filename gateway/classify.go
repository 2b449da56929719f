package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
	"github.com/mcpgw/mcpgw/resilience"
)

// rules is what classification needs of the settings in force. It is never changed after it is made.
type rules struct {
	patterns []pattern
	codes    map[int64]bool
	statuses map[int]statusMeaning
	secrets  []string // values that no error text may show
	trust    bool
	stdio    bool
}

type rulesPointer = atomic.Pointer[rules]

// setRules puts the classification of p into force.
func (pol *policy) setRules(p *Policies, cfg *downstream.Config) error {
	patterns, err := compilePatterns(p.Classification.ToolErrorPatterns)
	if err != nil {
		return err
	}
	r := &rules{patterns: patterns, trust: p.Classification.TrustAnnotations, stdio: cfg.Kind() == "stdio"}
	for _, c := range p.Classification.RPCFailureCodes {
		if r.codes == nil {
			r.codes = map[int64]bool{}
		}
		r.codes[int64(c)] = true
	}
	if r.statuses, err = p.Classification.statuses(); err != nil {
		return err
	}
	const telling = 6 // shorter values are words that texts contain by chance
	for _, v := range cfg.Headers {
		// Of "Bearer x" it is x that must not be seen.
		for part := range strings.FieldsSeq(v.Reveal()) {
			if len(part) >= telling && !strings.EqualFold(part, "bearer") {
				r.secrets = append(r.secrets, part)
			}
		}
	}
	for _, v := range append(slices.Collect(maps.Values(cfg.Env)), cfg.Token, cfg.Password) {
		if s := v.Reveal(); len(s) >= telling {
			r.secrets = append(r.secrets, s)
		}
	}
	pol.rules.Store(r)
	return nil
}

// redact takes the secrets of the downstream out of a text that is kept and shown.
func (pol *policy) redact(text string) string {
	for _, s := range pol.rules.Load().secrets {
		text = strings.ReplaceAll(text, s, "[redacted]")
	}
	return text
}

// lastClass remembers what the last failure was: whoever is refused by an open circuit wants to know.
type lastClass struct{ p atomic.Pointer[string] }

func (l *lastClass) set(class string) { l.p.Store(&class) }

func (l *lastClass) get() string {
	if s := l.p.Load(); s != nil {
		return *s
	}
	return ""
}

// classify is the resilience.Classifier for a downstream (resilience.md §3.2). How far the request got decides about repeating it, never
// the text of an error.
func (pol *policy) classify(_ context.Context, result any, err error) resilience.Outcome {
	r := pol.rules.Load()
	if err == nil {
		if res, ok := result.(downstream.Result); ok {
			return r.answer(&res)
		}
		return resilience.Outcome{Sent: resilience.Answered} // of a probe
	}
	o := r.failure(err)
	if o.Breaker == resilience.Failure {
		pol.last.set(o.Class)
	}
	return o
}

var markIsError = []byte(`"isError"`)

const classLoadShed = "input_required_load_shed"

// answer classifies a result. It reads results only where that may make a difference: they can be large.
func (r *rules) answer(res *downstream.Result) resilience.Outcome {
	o := resilience.Outcome{Sent: resilience.Answered}
	if res.Asks && loadShed(res.Raw) != nil {
		return resilience.Outcome{Breaker: resilience.Ignored, Retry: resilience.RetryRejected, Class: classLoadShed, Sent: resilience.Answered}
	}
	if len(r.patterns) == 0 || !bytes.Contains(res.Raw, markIsError) || string(wire.Get(res.Raw, "isError")) != "true" {
		return o
	}
	text := errorText(res.Raw)
	for _, p := range r.patterns {
		if p.match.MatchString(text) {
			return p.out
		}
	}
	return o
}

// loadShed returns the state with which a modern server wants the request again, at a better time: it asks for input and names none. raw is
// a result that asks; nil means that it names some.
func loadShed(raw json.RawMessage) json.RawMessage {
	if in := wire.Get(raw, "inputRequests"); in != nil && string(in) != "{}" && string(in) != "null" {
		return nil
	}
	return wire.Get(raw, "requestState")
}

// errorText is the text of a result's content.
func errorText(raw json.RawMessage) string {
	var b strings.Builder
	wire.Elements(wire.Get(raw, "content"), func(c json.RawMessage) bool {
		if text, ok := wire.GetString(c, "text"); ok {
			b.WriteString(text)
			b.WriteByte('\n')
		}
		return b.Len() < 64<<10
	})
	return b.String()
}

// homecoming is how long a call waits for a server that is away. If its next attempt is later than that, the call ends now and says
// when to come back.
const homecoming = 5 * time.Second

// failure classifies an error of package downstream.
func (r *rules) failure(err error) resilience.Outcome {
	var (
		rpc     *wire.Error
		away    *downstream.UnavailableError
		lost    *downstream.LostError
		status  *downstream.StatusError
		session *downstream.SessionLostError
	)
	switch {
	case errors.As(err, &rpc):
		return r.rpc(rpc.Code)
	case errors.As(err, &away):
		o := resilience.Outcome{Breaker: resilience.Failure, Retry: resilience.RetryUnsent, Class: away.Class, Sent: resilience.NotSent, Incident: away.Incident}
		if errors.As(away.Err, &status) { // the handshake was refused
			if s := r.status(status); s.Breaker == resilience.Ignored {
				o.Breaker, o.Retry = resilience.Ignored, resilience.RetryNever
			}
			o.Class = r.status(status).Class
		}
		switch away.Class {
		case "tls", "stopped", "configuration":
			o.Retry = resilience.RetryNever
		case "connection_closed":
			o.Breaker, o.Immediate = resilience.Ignored, true // the attempt to open the next session decides
		case "overloaded", "cancelled":
			o.Breaker, o.Retry = resilience.Ignored, resilience.RetryNever
		}
		if away.Class == "stopped" {
			o.Breaker = resilience.Ignored
		}
		if o.RetryAfter = away.RetryAfter; o.RetryAfter > homecoming {
			o.Retry = resilience.RetryNever
		}
		return o
	case errors.As(err, &session):
		return resilience.Outcome{Breaker: resilience.Ignored, Retry: resilience.RetryRejected, Class: "session_lost", Sent: resilience.Answered, Immediate: true}
	case errors.As(err, &status):
		return r.status(status)
	case errors.As(err, &lost):
		o := resilience.Outcome{Breaker: resilience.Failure, Retry: resilience.RetryIdempotent, Class: lost.Class, Sent: resilience.WasSent, Incident: lost.Incident}
		if lost.Class == "cancelled" {
			o.Breaker, o.Retry = resilience.Ignored, resilience.RetryNever
		}
		o.Immediate = lost.Incident != nil // the session is being opened again already, which the next attempt waits for
		return o
	case errors.Is(err, context.Canceled), errors.Is(err, errCancelledByClient), errors.Is(err, errSessionEnded):
		return resilience.Outcome{Breaker: resilience.Ignored, Class: resilience.ClassCancelled, Sent: resilience.NotSent}
	case errors.Is(err, context.DeadlineExceeded): // of ours: the request had not been sent when the time was over
		return resilience.Outcome{Breaker: resilience.Failure, Retry: resilience.RetryUnsent, Class: resilience.ClassTimeout, Sent: resilience.NotSent}
	}
	return resilience.Outcome{Breaker: resilience.Failure, Retry: resilience.RetryIdempotent, Class: resilience.ClassOther}
}

// rpc classifies a JSON-RPC error that the server answered.
func (r *rules) rpc(code int64) resilience.Outcome {
	o := resilience.Outcome{Class: "rpc_" + strconv.FormatInt(code, 10), Sent: resilience.Answered}
	switch {
	case r.codes[code], code == wire.CodeInternal:
		o.Breaker, o.Retry = resilience.Failure, resilience.RetryIdempotent
	case code == wire.CodeParse: // it cannot read what we say
		o.Breaker = resilience.Failure
	case code == wire.CodeHeaderMismatch, code == wire.CodeUnsupportedProtocol:
		// It did not act, and refused the request again after the session, or what is known of the tool, had been renewed.
		o.Breaker = resilience.Ignored
	}
	return o
}

// status classifies an HTTP status that is not an answer to the request.
func (r *rules) status(e *downstream.StatusError) resilience.Outcome {
	o := ofStatus(e)
	if e.Class != "" {
		o.Class = e.Class
	}
	meaning, ok := r.statuses[e.Status]
	switch {
	case e.Class == "auth_error", e.Class == "auth_exhausted":
		// Nothing gets better by asking again: accounts are locked, and sessions are used up, by attempts.
		o.Breaker, o.Retry = resilience.Ignored, resilience.RetryNever
	case e.Class == "rate_limited", e.Class == "busy":
		o.Breaker, o.Retry = resilience.Ignored, resilience.RetryRejected
	case !ok:
	case meaning == statusFailure:
		o.Breaker, o.Retry = resilience.Failure, resilience.RetryIdempotent
	case meaning == statusPushback:
		o.Breaker, o.Retry = resilience.Ignored, resilience.RetryRejected
	case meaning == statusIgnored:
		o.Breaker, o.Retry = resilience.Ignored, resilience.RetryNever
	}
	return o
}

// ofStatus classifies an HTTP status that is not an answer to the request.
func ofStatus(e *downstream.StatusError) resilience.Outcome {
	o := resilience.Outcome{Breaker: resilience.Ignored, Class: strconv.Itoa(e.Status), Sent: resilience.Answered, RetryAfter: e.RetryAfter}
	switch e.Status {
	case http.StatusTooManyRequests:
		o.Retry = resilience.RetryRejected
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
	case http.StatusRequestTimeout:
		o.Breaker, o.Retry = resilience.Failure, resilience.RetryIdempotent
	default:
		if e.Status >= 500 {
			o.Breaker, o.Retry = resilience.Failure, resilience.RetryIdempotent
		}
		if e.Status >= 500 && e.Refused { // a built-in server knows that its system did not begin
			o.Retry = resilience.RetryRejected
		}
	}
	return o
}
