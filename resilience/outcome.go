package resilience

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// Safety says what happens when a call is made twice. The zero value is the safe one.
type Safety uint8

// The values of Safety.
const (
	Unsafe     Safety = iota // a second time may do harm, or nobody knows
	Idempotent               // a second time changes nothing more
	ReadOnly                 // nothing is changed at all; only these calls are hedged
)

func (s Safety) String() string {
	switch s {
	case Idempotent:
		return "idempotent"
	case ReadOnly:
		return "read_only"
	}
	return "unsafe"
}

// Effect is what an outcome means for the circuit.
type Effect uint8

// The values of Effect.
const (
	Success Effect = iota // the dependency works
	Failure               // the dependency does not work
	Ignored               // neither: a cancelled call, a wrong argument, our own refusal. It neither opens nor closes a circuit.
)

func (e Effect) String() string {
	switch e {
	case Failure:
		return "failure"
	case Ignored:
		return "ignored"
	}
	return "success"
}

// Retry is when an outcome allows another attempt.
type Retry uint8

// The values of Retry.
const (
	RetryNever      Retry = iota // never
	RetryUnsent                  // if the request provably did not leave
	RetryIdempotent              // if it did not leave, or the call is [Idempotent] or [ReadOnly]
	RetryRejected                // always: the dependency said that it did not act on the request
)

func (r Retry) String() string {
	switch r {
	case RetryUnsent:
		return "unsent"
	case RetryIdempotent:
		return "idempotent"
	case RetryRejected:
		return "rejected"
	}
	return "never"
}

// Sent is how far a request got. The zero value, not known, counts as sent.
type Sent uint8

// The values of Sent.
const (
	SentUnknown Sent = iota // it may have left
	NotSent                 // no byte left: repeating it cannot do harm
	WasSent                 // it left, and no answer came
	Answered                // the dependency answered it
)

func (s Sent) String() string {
	switch s {
	case NotSent:
		return "not_sent"
	case WasSent:
		return "sent"
	case Answered:
		return "answered"
	}
	return "unknown"
}

// Executed says whether a dependency may have acted on a call that failed.
type Executed string

// The values of Executed.
const (
	ExecutedNo      Executed = "no"      // it never left, or the dependency said that it did not act
	ExecutedUnknown Executed = "unknown" // it left, or may have
)

// The classes of errors that this package gives by itself. A [Classifier] may use them and any others; a class is a short word for
// logs and metrics, so there must be few of them.
const (
	ClassTimeout        = "timeout"
	ClassCancelled      = "cancelled"
	ClassCallerDeadline = "caller_deadline"
	ClassHedgeLost      = "hedge_lost"
	ClassPanic          = "panic"
	ClassCircuitOpen    = "circuit_open"
	ClassBulkheadFull   = "bulkhead_full"
	ClassRateLimited    = "rate_limited" // by our own rate limit
	ClassTooMany        = "429"          // by the dependency's; see CircuitBreakerConfig.CountRateLimited
	ClassConnect        = "connect"
	ClassDNS            = "dns"
	ClassTLS            = "tls"
	ClassConnection     = "connection"
	ClassOther          = "other"
)

// Outcome is what one attempt came to. The zero value is a success.
type Outcome struct {
	Breaker Effect
	Retry   Retry
	Class   string // what kind of error it is; "" for a success
	Sent    Sent
	// RetryAfter is how long the dependency asked callers to stay away; 0 if it did not.
	RetryAfter time.Duration
	// Immediate asks for the first repetition without a pause: a fresh connection is all that is needed.
	Immediate bool
	// Incident makes one failure out of many: of the failures with the same non-nil Incident (a comparable value, for instance the
	// pointer of a session that broke under fifty calls) the circuit counts only the first.
	Incident any
	// KeyOnly counts a failure in the circuit of [Call.Key] only; for the circuit of the whole dependency it is a success.
	KeyOnly bool
}

// A Classifier says what an attempt came to that returned result and err; result is nil where err is not. It is called once for each
// attempt, on the goroutine of the attempt, with the context of the attempt, and must not block.
//
// It need not know about time and cancellation: where the context ended before an answer came, Guard keeps Sent and Incident of the
// outcome and decides the rest.
type Classifier func(ctx context.Context, result any, err error) Outcome

// Classify is the [Classifier] that is used where none is given. It knows the errors of the standard library: what failed before a
// request can have left is NotSent, any other error is a failure that only idempotent calls may repeat.
func Classify(_ context.Context, _ any, err error) Outcome {
	if err == nil {
		return Outcome{Sent: Answered}
	}
	var (
		op      *net.OpError
		dns     *net.DNSError
		cert    *tls.CertificateVerificationError
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		record  tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &dns):
		return Outcome{Breaker: Failure, Retry: RetryUnsent, Class: ClassDNS, Sent: NotSent}
	case errors.As(err, &cert), errors.As(err, &unknown), errors.As(err, &host), errors.As(err, &record):
		return Outcome{Breaker: Failure, Retry: RetryNever, Class: ClassTLS, Sent: NotSent}
	case errors.As(err, &op) && op.Op == "dial":
		return Outcome{Breaker: Failure, Retry: RetryUnsent, Class: ClassConnect, Sent: NotSent}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return Outcome{Breaker: Failure, Retry: RetryIdempotent, Class: ClassTimeout}
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Outcome{Breaker: Failure, Retry: RetryIdempotent, Class: ClassConnection}
	}
	return Outcome{Breaker: Failure, Retry: RetryIdempotent, Class: ClassOther}
}

// mayRepeat is the rule of what is safe, in one place.
func mayRepeat(o Outcome, s Safety) bool {
	switch o.Retry {
	case RetryRejected:
		return true
	case RetryUnsent:
		return o.Sent == NotSent
	case RetryIdempotent:
		return o.Sent == NotSent || s >= Idempotent
	}
	return false
}

// mayHaveRun reports whether the dependency may have acted on an attempt that failed with o.
func mayHaveRun(o Outcome) bool { return o.Sent != NotSent && o.Retry != RetryRejected }

// displayName is how a class is called in a log line for people.
func displayName(class string) string {
	switch class {
	case ClassConnect, ClassConnection, "connection_closed", "stream_aborted":
		return "Connection error"
	case ClassDNS:
		return "DNS error"
	case ClassTLS:
		return "TLS error"
	case ClassTimeout:
		return "Timeout"
	case ClassTooMany, ClassRateLimited:
		return "Rate limited"
	case "503":
		return "Service unavailable"
	case "session_lost":
		return "Session lost"
	case "malformed_response":
		return "Malformed response"
	case ClassOther, "":
		return "Error"
	}
	return class
}
