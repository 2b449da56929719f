package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Message is one JSON-RPC message whose members have been found but not decoded. The raw members share memory with the bytes
// that were parsed.
type Message struct {
	ID     json.RawMessage // string or number as written; nil in a notification; "null" only in an error response
	Method string          // "" in a response
	Params json.RawMessage // object or array as written; nil when absent
	Result json.RawMessage // nil unless this is a successful response
	Error  json.RawMessage // nil unless this is an error response

	// Body is Params or Result, whichever there is, as an object. It has no members if that is not an object.
	Body Object
}

// IsRequest reports whether m wants an answer.
func (m *Message) IsRequest() bool { return m.Method != "" && m.ID != nil }

// IsNotification reports whether m wants no answer.
func (m *Message) IsNotification() bool { return m.Method != "" && m.ID == nil }

// IsResponse reports whether m answers a request.
func (m *Message) IsResponse() bool { return m.Method == "" }

// InvalidError reports JSON that is not a JSON-RPC 2.0 message as MCP wants it. JSON-RPC answers it with code -32600.
type InvalidError struct{ Reason string }

func (e *InvalidError) Error() string { return "invalid JSON-RPC message: " + e.Reason }

// ErrBatch reports a JSON array where one message was expected. MCP allows batches only in the revision 2025-03-26; [Batch]
// reads them.
var ErrBatch error = &InvalidError{"a batch is not allowed here, send one message"}

var envelope = [...]string{"jsonrpc", "id", "method", "params", "result", "error"}

// Parse reads one message nested at most maxDepth deep. It refuses what two readers could understand differently: a byte order
// mark, invalid UTF-8, data after the message, a member of the envelope that occurs twice, is escaped or differs in case. Other
// members of the envelope are ignored. The error is a *[SyntaxError], an *[InvalidError] or [ErrBatch]; with an *InvalidError
// the message holds the id if there was a usable one, so that the sender can be answered.
func Parse(b []byte, maxDepth int) (Message, error) {
	var m Message
	s := scanner{b: b, max: maxDepth, noting: true}
	s.space()
	if s.i < len(b) && b[s.i] == '[' {
		if err := Valid(b, maxDepth); err != nil {
			return m, err
		}
		return m, ErrBatch
	}
	if s.i >= len(b) || b[s.i] != '{' {
		return m, s.unexpected("a JSON-RPC message, which is an object")
	}
	var version json.RawMessage
	var seen [len(envelope)]bool
	var invalid error
	err := s.object(func(keyFrom, keyTo, from, to int) error {
		n, err := envelopeMember(b[keyFrom:keyTo])
		if err != nil || n < 0 {
			invalid = errors.Join(invalid, err)
			return nil
		}
		if seen[n] {
			invalid = errors.Join(invalid, fmt.Errorf("member %q occurs twice", envelope[n]))
			return nil
		}
		seen[n] = true
		v := json.RawMessage(b[from:to:to])
		switch n {
		case 0:
			version = v
		case 1:
			m.ID = v
		case 2:
			method, ok := String(v)
			if !ok || method == "" {
				invalid = errors.Join(invalid, errors.New("method must be a string that is not empty"))
			}
			m.Method = method
		case 3:
			m.Params = v
			m.Body = s.noted(from, to)
		case 4:
			m.Result = v
			m.Body = s.noted(from, to)
		case 5:
			m.Error = v
		}
		return nil
	})
	if err == nil {
		err = s.end()
	}
	if err != nil {
		return Message{}, err
	}
	if err := m.check(version, invalid); err != nil {
		return Message{ID: m.ID}, &InvalidError{strings.ReplaceAll(err.Error(), "\n", "; ")}
	}
	return m, nil
}

// check finds what is wrong with the envelope as a whole, and drops an id that cannot be answered to.
func (m *Message) check(version json.RawMessage, invalid error) error {
	if c := append(m.ID, 0)[0]; m.ID != nil && c != '"' && c != '-' && (c < '0' || c > '9') {
		if string(m.ID) != "null" || m.Error == nil {
			invalid = errors.Join(invalid, errors.New("id must be a string or a number"))
		}
		if string(m.ID) != "null" {
			m.ID = nil
		}
	}
	if string(version) != `"2.0"` {
		invalid = errors.Join(invalid, errors.New(`jsonrpc must be "2.0"`))
	}
	if m.Params != nil && m.Params[0] != '{' && m.Params[0] != '[' {
		invalid = errors.Join(invalid, errors.New("params must be an object"))
	}
	switch {
	case m.Method != "" && (m.Result != nil || m.Error != nil):
		invalid = errors.Join(invalid, errors.New("a message with a method cannot carry a result or an error"))
	case m.Method == "" && invalid == nil && (m.Result == nil) == (m.Error == nil):
		invalid = errors.New("neither a request (method) nor a response (result or error)")
	case m.Method == "" && m.ID == nil && invalid == nil:
		invalid = errors.New("a response must carry the id of its request")
	}
	return invalid
}

// envelopeMember returns the index in envelope that key means, or -1 if it means none of them. A key that only a lax reader would
// take for one of them is an error.
func envelopeMember(key []byte) (int, error) {
	for n, name := range envelope {
		if string(key) == name {
			return n, nil
		}
	}
	plain := string(key)
	if strings.IndexByte(plain, '\\') >= 0 {
		plain, _ = String(append(append([]byte{'"'}, key...), '"'))
	}
	for _, name := range envelope {
		if strings.EqualFold(plain, name) {
			return -1, fmt.Errorf("member %q is ambiguous: write %q exactly", key, name)
		}
	}
	return -1, nil
}

// Batch returns the elements of a JSON array of messages, which the caller parses one by one. Only revision 2025-03-26 has
// batches.
func Batch(b []byte, maxDepth int) ([]json.RawMessage, error) {
	if err := Valid(b, maxDepth); err != nil {
		return nil, err
	}
	var all []json.RawMessage
	Elements(b, func(v json.RawMessage) bool {
		all = append(all, v)
		return true
	})
	if len(all) == 0 {
		return nil, &InvalidError{"an empty batch"}
	}
	return all, nil
}

// AppendRequest appends a request to dst. The id is raw JSON; params may be nil.
func AppendRequest(dst []byte, id json.RawMessage, method string, params json.RawMessage) []byte {
	dst = append(append(dst, `{"jsonrpc":"2.0","id":`...), id...)
	dst = AppendString(append(dst, `,"method":`...), method)
	return appendParams(dst, params)
}

// AppendNotification appends a notification to dst. Params may be nil.
func AppendNotification(dst []byte, method string, params json.RawMessage) []byte {
	dst = AppendString(append(dst, `{"jsonrpc":"2.0","method":`...), method)
	return appendParams(dst, params)
}

func appendParams(dst []byte, params json.RawMessage) []byte {
	if params != nil {
		dst = append(append(dst, `,"params":`...), params...)
	}
	return append(dst, '}')
}

// AppendResult appends a successful response to dst.
func AppendResult(dst []byte, id, result json.RawMessage) []byte {
	dst = append(append(dst, `{"jsonrpc":"2.0","id":`...), id...)
	dst = append(append(dst, `,"result":`...), result...)
	return append(dst, '}')
}

// AppendError appends an error response to dst. A nil id is written as null, which JSON-RPC wants when the request's id could
// not be read.
func AppendError(dst []byte, id json.RawMessage, e *Error) []byte {
	if id == nil {
		id = json.RawMessage("null")
	}
	dst = append(append(dst, `{"jsonrpc":"2.0","id":`...), id...)
	dst = append(append(dst, `,"error":`...), e.Bytes()...)
	return append(dst, '}')
}
