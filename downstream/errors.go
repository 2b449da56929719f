package downstream

import (
	"fmt"
	"time"
)

// Executed says whether a server may have acted on a request that failed.
type Executed string

// The values of Executed.
const (
	ExecutedNo      Executed = "no"      // it was not sent, or the server answered that it did not act
	ExecutedUnknown Executed = "unknown" // it was sent, or may have been
)

// UnavailableError reports that a server could not be used. Nothing was sent.
type UnavailableError struct {
	Class      string        // "connect", "dns", "tls", "configuration", "starting", "stopped", "overloaded", "connection_closed"
	RetryAfter time.Duration // when the next attempt is due; 0 if unknown
	Err        error
	// Incident is equal (==) for all calls that failed for one and the same reason: here, a failed attempt to open a session. Nil
	// means that this call found out by itself.
	Incident any
}

func (e *UnavailableError) Error() string { return "server unavailable: " + e.Err.Error() }
func (e *UnavailableError) Unwrap() error { return e.Err }

// LostError reports that no answer came to a request that was sent, or may have been: the server may have acted on it.
type LostError struct {
	Class string // "connection", "stream_aborted", "timeout", "cancelled", "malformed_response"
	Err   error
	// Incident is equal (==) for all calls that were lost with the same session; nil if the session lives on.
	Incident any
}

func (e *LostError) Error() string { return "no answer from the server: " + e.Err.Error() }
func (e *LostError) Unwrap() error { return e.Err }

// StatusError reports an HTTP status that is not an answer to the request.
type StatusError struct {
	Status     int
	RetryAfter time.Duration // 0 if the server did not say
	Body       string        // the beginning of the body, cleaned of control characters

	// What follows is of a built-in server, which knows its system. Class says more than the status, such as "auth_error"; Text is a
	// whole sentence instead of Body; Refused says that the system did not act. Status may be 0 then.
	Class   string
	Text    string
	Refused bool
}

func (e *StatusError) Error() string {
	if e.Text != "" {
		return e.Text
	}
	if e.Body == "" {
		return fmt.Sprintf("the server answered HTTP %d", e.Status)
	}
	return fmt.Sprintf("the server answered HTTP %d: %s", e.Status, e.Body)
}

// SessionLostError reports that the server no longer knows the session that the request named (HTTP 404 with a session id), so it
// did not act on it. The caller opens a new session.
type SessionLostError struct{ Err error }

func (e *SessionLostError) Error() string { return "the server ended the session: " + e.Err.Error() }
func (e *SessionLostError) Unwrap() error { return e.Err }
