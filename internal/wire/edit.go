package wire

import (
	"encoding/json"
	"unicode/utf8"
)

// Member is one member of an object. In [Edit] a nil Value removes the member.
type Member struct {
	Key   string // needs no escaping
	Value json.RawMessage
}

// Edit returns a copy of the valid object obj in which each edit replaced the member of its key, or removed it if its value is
// nil. Members that obj does not have are appended in the order of edits. Everything else is copied as it stands. A nil or
// empty obj counts as the empty object.
func Edit(obj []byte, edits ...Member) json.RawMessage {
	o := Index(obj)
	out := o.Edit(edits...)
	return out.Raw
}

// Set is [Edit] with one member.
func Set(obj []byte, key string, value json.RawMessage) json.RawMessage {
	return Edit(obj, Member{Key: key, Value: value})
}

// Quote returns s as a JSON string.
func Quote(s string) json.RawMessage { return AppendString(make([]byte, 0, len(s)+2), s) }

// AppendString appends s as a JSON string to dst. Invalid UTF-8 becomes U+FFFD; nothing else is escaped but what RFC 8259 wants
// escaped.
func AppendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError || n > 1 {
				i += n
				continue
			}
			dst = append(append(dst, s[from:i]...), "\ufffd"...)
			i += n
			from = i
			continue
		}
		dst = append(dst, s[from:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i++
		from = i
	}
	return append(append(dst, s[from:]...), '"')
}
