package wire

import (
	"encoding/binary"
	"encoding/json"
	"math/bits"
)

// Members calls f with each member of the object obj, in order, until f returns false. The key is as written, without its
// quotes: an escaped key is not decoded. The object must be valid JSON, as a message is that [Parse] accepted; what is not an
// object has no members.
func Members(obj []byte, f func(key []byte, value json.RawMessage) bool) {
	MembersAt(obj, func(key []byte, from, to int) bool { return f(key, obj[from:to:to]) })
}

// MembersAt is [Members] with the offsets of each value, for those who splice.
func MembersAt(obj []byte, f func(key []byte, from, to int) bool) {
	i := skipSpace(obj, 0)
	if i >= len(obj) || obj[i] != '{' {
		return
	}
	i = skipSpace(obj, i+1)
	for i < len(obj) && obj[i] == '"' {
		key := i + 1
		i = skipString(obj, i)
		keyEnd := i - 1
		i = skipSpace(obj, i)
		i = skipSpace(obj, i+1) // the colon
		from := i
		i = skipValue(obj, i)
		if i > len(obj) || keyEnd < key || !f(obj[key:keyEnd], from, i) {
			return
		}
		i = skipSpace(obj, i)
		if i >= len(obj) || obj[i] != ',' {
			return
		}
		i = skipSpace(obj, i+1)
	}
}

// Elements calls f with each element of the array arr, in order, until f returns false. The array must be valid JSON; what is
// not an array has no elements.
func Elements(arr []byte, f func(value json.RawMessage) bool) {
	i := skipSpace(arr, 0)
	if i >= len(arr) || arr[i] != '[' {
		return
	}
	i = skipSpace(arr, i+1)
	for i < len(arr) && arr[i] != ']' {
		from := i
		i = skipValue(arr, i)
		if i > len(arr) || !f(arr[from:i:i]) {
			return
		}
		i = skipSpace(arr, i)
		if i < len(arr) && arr[i] == ',' {
			i = skipSpace(arr, i+1)
		}
	}
}

// Get returns the value of the member key of the valid object obj, or nil if there is none.
func Get(obj []byte, key string) json.RawMessage {
	var found json.RawMessage
	Members(obj, func(k []byte, v json.RawMessage) bool {
		if string(k) == key {
			found = v
			return false
		}
		return true
	})
	return found
}

// GetString returns the decoded string that is the member key of the valid object obj; ok is false if there is no such member
// or it is not a string.
func GetString(obj []byte, key string) (s string, ok bool) { return String(Get(obj, key)) }

// String decodes a valid JSON string; ok is false if v is something else.
func String(v json.RawMessage) (s string, ok bool) {
	if len(v) < 2 || v[0] != '"' {
		return "", false
	}
	if inner := v[1 : len(v)-1]; indexSpecial(inner, 0) == len(inner) {
		return string(inner), true
	}
	err := json.Unmarshal(v, &s)
	return s, err == nil
}

// IsObject reports whether the valid JSON v is an object.
func IsObject(v []byte) bool { return starts(v, '{') }

// IsArray reports whether the valid JSON v is an array.
func IsArray(v []byte) bool { return starts(v, '[') }

func starts(v []byte, c byte) bool {
	i := skipSpace(v, 0)
	return i < len(v) && v[i] == c
}

// CheckKeys is [Object.CheckKeys] of the valid object obj.
func CheckKeys(obj []byte, known ...string) error {
	o := Index(obj)
	return o.CheckKeys(known...)
}

// skipString returns the offset after the string that starts at b[i], or more than len(b) if it does not end.
func skipString(b []byte, i int) int {
	i++
	escaped := uint(0) // 1 if b[i-1] is a backslash that counts
	for i+8 <= len(b) {
		w := binary.LittleEndian.Uint64(b[i:])
		quote, slash := w^(ones*'"'), w^(ones*'\\')
		if ((quote-ones)|(slash-ones))&^w&highs == 0 && escaped == 0 {
			i += 8
			continue
		}
		marks := uint(escapes[escaped<<8|squeeze(zeros(slash))])
		if end := squeeze(zeros(quote)) &^ marks; end != 0 {
			return i + bits.TrailingZeros(end) + 1
		}
		escaped = marks >> 8
		i += 8
	}
	i += int(escaped)
	for i < len(b) {
		switch b[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
		i++
	}
	return len(b) + 1
}

// indexSpecial returns the offset of the next quote or backslash at or after i, or len(b).
func indexSpecial(b []byte, i int) int {
	for i+8 <= len(b) {
		w := binary.LittleEndian.Uint64(b[i:])
		quote, slash := w^(ones*'"'), w^(ones*'\\')
		if hit := ((quote-ones)&^quote | (slash-ones)&^slash) & highs; hit != 0 {
			return i + bits.TrailingZeros64(hit)/8
		}
		i += 8
	}
	for i < len(b) && b[i] != '"' && b[i] != '\\' {
		i++
	}
	return min(i, len(b))
}

// skipValue returns the offset after the valid value that starts at b[i], or more than len(b) if it does not end.
func skipValue(b []byte, i int) int {
	if i >= len(b) {
		return len(b) + 1
	}
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		depth := 0
		for i < len(b) {
			switch b[i] {
			case '"':
				i = skipString(b, i)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				depth--
				if depth == 0 {
					return i + 1
				}
			}
			i++
		}
		return len(b) + 1
	}
	for i < len(b) {
		switch b[i] {
		case ',', '}', ']', ' ', '\n', '\r', '\t':
			return i
		}
		i++
	}
	return i
}
