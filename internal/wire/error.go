package wire

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// JSON-RPC and MCP error codes (specification 2026-07-28, basic/index).
const (
	CodeParse                   = -32700
	CodeInvalidRequest          = -32600
	CodeMethodNotFound          = -32601
	CodeInvalidParams           = -32602
	CodeInternal                = -32603
	CodeResourceNotFound        = -32002 // revisions up to 2025-11-25; later ones use CodeInvalidParams
	CodeHeaderMismatch          = -32020
	CodeMissingClientCapability = -32021
	CodeUnsupportedProtocol     = -32022
	CodeURLElicitationRequired  = -32042 // revision 2025-11-25
	CodeUnavailable             = 5031   // ours: the downstream cannot be used now
	CodeTimeout                 = 5041   // ours: the downstream did not answer in time
	CodeBadGateway              = 5021   // ours: the downstream answered something that is not MCP
	CodeOverloaded              = 5032   // ours: a limit of the gateway is reached
)

// Error is a JSON-RPC error object. As a Go error it is what a peer answered, or what we answer a peer.
type Error struct {
	Code    int64
	Message string
	Data    json.RawMessage // nil when absent

	raw json.RawMessage // as the peer wrote it, so that unknown members survive
}

// Errorf returns an error with a formatted message and no data.
func Errorf(code int64, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

func (e *Error) Error() string {
	return e.Message + " (JSON-RPC error " + strconv.FormatInt(e.Code, 10) + ")"
}

// Bytes returns the error object as JSON: as the peer wrote it if it came from one.
func (e *Error) Bytes() json.RawMessage {
	if e.raw != nil {
		return e.raw
	}
	b := strconv.AppendInt([]byte(`{"code":`), e.Code, 10)
	b = AppendString(append(b, `,"message":`...), e.Message)
	if e.Data != nil {
		b = append(append(b, `,"data":`...), e.Data...)
	}
	return append(b, '}')
}

// ParseError reads the error member of a valid response. It fails if the code is no integer.
func ParseError(raw json.RawMessage) (*Error, error) {
	if !IsObject(raw) {
		return nil, &InvalidError{"error must be an object"}
	}
	e := &Error{raw: raw}
	var err error
	Members(raw, func(k []byte, v json.RawMessage) bool {
		switch string(k) {
		case "code":
			e.Code, err = strconv.ParseInt(string(v), 10, 64)
		case "message":
			e.Message, _ = String(v)
		case "data":
			e.Data = v
		}
		return true
	})
	if err != nil || e.Code == 0 && Get(raw, "code") == nil {
		return nil, &InvalidError{"error code must be an integer"}
	}
	return e, nil
}

// WithCode returns a copy of e under another code; everything else the peer wrote is kept.
func (e *Error) WithCode(code int64) *Error {
	c := *e
	c.Code = code
	if e.raw != nil {
		c.raw = Set(e.raw, "code", strconv.AppendInt(nil, code, 10))
	}
	return &c
}
