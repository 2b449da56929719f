package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
	"github.com/mcpgw/mcpgw/resilience"
)

func errInvalid(format string, args ...any) error {
	return wire.Errorf(wire.CodeInvalidParams, format, args...)
}

// errNotFound reports a resource that does not exist. Its code is that of older revisions; inEra translates it.
func errNotFound(format string, args ...any) error {
	return wire.Errorf(wire.CodeResourceNotFound, format, args...)
}

// failure is everything that a client is told about a call that no answer came to (architecture.md D8).
type failure struct {
	Error        string              `json:"error"` // circuit_open, isolated, bulkhead_full, rate_limited, unavailable, timeout, connection_lost, ...
	Downstream   string              `json:"downstream"`
	Message      string              `json:"message"`
	Executed     downstream.Executed `json:"executed"`
	Class        string              `json:"class"`
	RetryAfter   string              `json:"retry_after,omitempty"`
	RetryAfterMS int64               `json:"retry_after_ms,omitempty"`
	Attempts     int                 `json:"attempts"`

	code int64
}

// explain turns an error of a call to a downstream into what the client is told, or returns nil if it is the downstream's own answer.
func explain(name string, err error) *failure {
	f := &failure{Downstream: name, Executed: downstream.ExecutedUnknown, Attempts: 1}
	var (
		rpc     *wire.Error
		away    *downstream.UnavailableError
		lost    *downstream.LostError
		status  *downstream.StatusError
		session *downstream.SessionLostError
		policy  *resilience.Error
		busy    *overloadedError
		wait    time.Duration
	)
	if errors.As(err, &rpc) {
		return nil
	}
	if errors.As(err, &policy) {
		f = f.byPolicy(policy)
		if lost, ok := errors.AsType[*unrescuedError](err); ok {
			f.Message += " " + lost.text
		}
		return f
	}
	switch {
	case errors.As(err, &busy):
		f.Error, f.code, f.Class, f.Executed, f.Attempts = "overloaded", wire.CodeOverloaded, "gateway_overloaded", downstream.ExecutedNo, 0
		f.Message = sentence(busy.Error()) + ". The call was not executed."
		wait = time.Second
	case errors.As(err, &away):
		f.Error, f.code, f.Class, f.Executed, wait = "unavailable", wire.CodeUnavailable, away.Class, downstream.ExecutedNo, away.RetryAfter
		if away.Class == "overloaded" {
			f.Error, f.code = "overloaded", wire.CodeOverloaded
		}
		f.Message = fmt.Sprintf("Server %q cannot be used now: %v. The call was not executed.", name, away.Err)
	case errors.As(err, &session):
		f.Error, f.code, f.Class, f.Executed = "unavailable", wire.CodeUnavailable, "session_lost", downstream.ExecutedNo
		f.Message = fmt.Sprintf("Server %q ended its session twice: %v. The call was not executed.", name, session.Err)
	case errors.As(err, &status):
		f.Error, f.code, f.Class, wait = "http_status", wire.CodeBadGateway, strconv.Itoa(status.Status), status.RetryAfter
		f.Executed = executedAfter(status.Status)
		if status.Class != "" {
			f.Error, f.Class = status.Class, status.Class
		}
		if status.Refused {
			f.Executed = downstream.ExecutedNo
		}
		f.Message = fmt.Sprintf("Server %q refused: %v. %s", name, status, maybeExecuted(f.Executed))
	case errors.As(err, &lost) && errors.Is(lost.Err, context.DeadlineExceeded):
		f.Error, f.code, f.Class = "timeout", wire.CodeTimeout, "timeout"
		f.Message = fmt.Sprintf("Server %q did not answer in time: %v. The call may have been executed.", name, lost.Err)
	case errors.As(err, &lost):
		f.Error, f.code, f.Class = "connection_lost", wire.CodeBadGateway, lost.Class
		if lost.Class == "malformed_response" {
			f.Error = "bad_answer"
		}
		f.Message = fmt.Sprintf("No usable answer from server %q: %v. The call may have been executed.", name, lost.Err)
	default:
		f.Error, f.code, f.Class = "internal", wire.CodeInternal, "internal"
		f.Message = fmt.Sprintf("The call to server %q failed: %v. It may have been executed.", name, err)
	}
	f.comeBack(wait)
	return f
}

// comeBack says when to try again; nothing if that is not known.
func (f *failure) comeBack(wait time.Duration) {
	if wait <= 0 || f.RetryAfterMS > 0 {
		return
	}
	// In whole seconds, and never too early.
	wait = max((wait + time.Second/2).Truncate(time.Second), time.Second)
	f.RetryAfterMS = wait.Milliseconds()
	f.RetryAfter = strconv.FormatInt(int64(wait/time.Second), 10) + " seconds"
	f.Message += " Retry after " + f.RetryAfter + "."
}

// sentence begins with a capital letter.
func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// byPolicy explains a call that a policy ended, or that failed and was not repeated.
func (f *failure) byPolicy(e *resilience.Error) *failure {
	f.Executed, f.Attempts, f.Class = downstream.Executed(e.Executed), e.Attempts, e.Class
	status := " The tool circuit_status tells more."
	switch e.Reason {
	case resilience.CircuitOpen, resilience.HalfOpenLimit:
		f.Error, f.code = "circuit_open", wire.CodeUnavailable
		f.Message = fmt.Sprintf("Circuit breaker '%s' is open - service temporarily unavailable. %s%s", e.Circuit, maybeExecuted(f.Executed), status)
	case resilience.Isolated:
		f.Error, f.code = "isolated", wire.CodeUnavailable
		f.Message = fmt.Sprintf("Circuit breaker '%s' is isolated: an operator has taken server %q out of service. %s", e.Circuit, f.Downstream, maybeExecuted(f.Executed))
	case resilience.BulkheadFull, resilience.QueueTimeout:
		f.Error, f.code = "bulkhead_full", wire.CodeOverloaded
		f.Message = fmt.Sprintf("Bulkhead full: server %q is busy with as many calls as it may have, and the queue is %s. %s",
			f.Downstream, map[bool]string{true: "full", false: "too slow"}[e.Reason == resilience.BulkheadFull], maybeExecuted(f.Executed))
		f.comeBack(max(e.RetryAfter, time.Second))
	case resilience.RateLimited:
		f.Error, f.code = "rate_limited", wire.CodeOverloaded
		f.Message = fmt.Sprintf("Rate limit: server %q may not be called this often. %s", f.Downstream, maybeExecuted(f.Executed))
	case resilience.AttemptTimeout, resilience.IdleTimeout, resilience.OverallTimeout:
		f.Error, f.code, f.Class = "timeout", wire.CodeTimeout, "timeout"
		f.Message = fmt.Sprintf("Server %q did not answer in time (%s). %s", f.Downstream, strings.ReplaceAll(string(e.Reason), "_", " "), maybeExecuted(f.Executed))
	case resilience.Cancelled:
		f.Error, f.code = "cancelled", wire.CodeInternal
		f.Message = fmt.Sprintf("The call to server %q was cancelled. %s", f.Downstream, maybeExecuted(f.Executed))
	case resilience.Panicked:
		f.Error, f.code, f.Class = "internal", wire.CodeInternal, "panic"
		f.Message = fmt.Sprintf("The call to server %q failed in the gateway itself, whose log says more. %s", f.Downstream, maybeExecuted(f.Executed))
	default: // the server's failure, which was not repeated, or not with success
		f.byItself(e)
	}
	if e.Attempts > 1 {
		f.Message += fmt.Sprintf(" It was tried %d times.", e.Attempts)
	}
	f.comeBack(e.RetryAfter)
	return f
}

// byItself explains what the server did wrong in the last attempt; whether the call was executed follows from all of them.
func (f *failure) byItself(e *resilience.Error) {
	if e.Err == nil {
		f.Error, f.code = "unavailable", wire.CodeUnavailable
		f.Message = fmt.Sprintf("Server %q cannot be used now (%s). %s", f.Downstream, e.Class, maybeExecuted(f.Executed))
		return
	}
	last := explain(f.Downstream, e.Err)
	f.Error, f.code, f.Class, f.Message = last.Error, last.code, last.Class, last.Message
	f.RetryAfter, f.RetryAfterMS = last.RetryAfter, last.RetryAfterMS
	if last.Executed != f.Executed {
		f.Message += " An earlier attempt may have been executed."
	}
}

// executedAfter says whether a server that answered an HTTP status instead of a result may have acted. Refusals did not.
func executedAfter(status int) downstream.Executed {
	switch status {
	case 400, 401, 403, 404, 405, 406, 411, 413, 414, 415, 421, 422, 426, 428, 429, 431:
		return downstream.ExecutedNo
	}
	if status/100 == 3 {
		return downstream.ExecutedNo
	}
	return downstream.ExecutedUnknown
}

func maybeExecuted(e downstream.Executed) string {
	if e == downstream.ExecutedNo {
		return "The call was not executed."
	}
	return "The call may have been executed."
}

// wireError is the one place where an error becomes what a client reads. A tool call that no answer came to is a result with isError
// instead, see toolFailure.
func wireError(name string, err error) *wire.Error {
	if rpc, ok := errors.AsType[*wire.Error](err); ok {
		return rpc
	}
	f := explain(name, err)
	data, _ := json.Marshal(f) // strings and numbers only
	return &wire.Error{Code: f.code, Message: f.Message, Data: data}
}

// toolFailure is the result of a tool call that no answer came to. Some clients show a model only the text, some only the structured
// part (systems.md §4), so each says everything.
func toolFailure(f *failure) json.RawMessage {
	facts, _ := json.Marshal(f) // strings and numbers only
	b := append([]byte(nil), `{"content":[{"type":"text","text":`...)
	b = wire.AppendString(b, f.Message+fmt.Sprintf(" [error=%s downstream=%s executed=%s class=%s attempts=%d]", f.Error, f.Downstream, f.Executed, f.Class, f.Attempts))
	b = append(append(b, `}],"structuredContent":`...), facts...)
	return append(b, `,"isError":true}`...)
}

// inEra gives an error the code that the client's revision has for it (spec.md §1.1 W6).
func inEra(e *wire.Error, modern bool) *wire.Error {
	if modern && e.Code == wire.CodeResourceNotFound {
		return e.WithCode(wire.CodeInvalidParams)
	}
	return e // where a newer server's error is to be an older client's, conclude has seen to it
}
