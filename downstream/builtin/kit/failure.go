package kit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
)

// CodeFailure is the JSON-RPC error code by which a built-in server tells the gateway that the system behind it failed, with a [Failure] as
// data. It never leaves the process: package downstream turns it into its own errors.
const CodeFailure = -32090

// The classes of a Failure. Others may be used where a system tells more.
const (
	ClassConnect       = "connect"            // nobody answers at the address
	ClassDNS           = "dns"                // the name has no address
	ClassTLS           = "tls"                // the certificate is not accepted
	ClassConnection    = "connection"         // the connection ended before the answer
	ClassTimeout       = "timeout"            // no answer in time
	ClassMalformed     = "malformed_response" // the answer is not what the system speaks
	ClassStatus        = "status"             // an HTTP status, see Failure.Status
	ClassAuth          = "auth_error"         // the credentials are refused; they are tried once
	ClassAuthExhausted = "auth_exhausted"     // all sessions of the system are in use
	ClassRateLimited   = "rate_limited"       // the system wants to be asked less often
	ClassBusy          = "busy"               // the system has too much to do at the moment and did not begin
)

// Failure reports that the system behind a built-in server did not do its part, so that the gateway's policies can decide: whether the call
// may be repeated, and what it means for the circuit. What a system answers to a request that it understood ("no such machine") is no
// Failure but an ordinary error, which becomes a result with isError.
type Failure struct { //nolint:errname // data that the gateway reads first, an error second
	Class      string        `json:"class"`
	Executed   bool          `json:"maybeExecuted"` // the system may have acted
	Status     int           `json:"status,omitempty"`
	RetryAfter time.Duration `json:"retryAfter,omitempty"`
	Message    string        `json:"message"` // a sentence for an owner of the system; holds no secrets
}

func (f *Failure) Error() string { return f.Message }

// wireError returns err as a handler has to return it to the SDK, if it is a Failure or the end of ctx.
func wireError(ctx context.Context, err error) (failed error, ok bool) { //nolint:revive // ok says whether there is one, as with a map
	if f, ok := errors.AsType[*Failure](err); ok {
		data, _ := json.Marshal(f) // strings and numbers only
		return &jsonrpc.Error{Code: CodeFailure, Message: f.Message, Data: data}, true
	}
	if ctx.Err() != nil {
		return context.Cause(ctx), true
	}
	return nil, false
}

// ParseFailure reads a Failure out of the data of an error with CodeFailure.
func ParseFailure(data json.RawMessage) (*Failure, error) {
	f := &Failure{}
	if err := json.Unmarshal(data, f); err != nil {
		return nil, fmt.Errorf("a built-in server's failure: %w", err)
	}
	return f, nil
}
