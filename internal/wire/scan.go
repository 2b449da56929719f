package wire

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"unicode/utf8"
)

// SyntaxError reports bytes that are not the JSON that this package accepts. JSON-RPC answers it with code -32700.
type SyntaxError struct {
	Offset int    // of the first byte that does not fit
	Reason string // lower case, without the offset
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("invalid JSON at byte %d: %s", e.Offset, e.Reason)
}

// Valid reports whether b is exactly one JSON value (RFC 8259) in UTF-8 that is nested at most maxDepth deep. The error is a
// *[SyntaxError].
func Valid(b []byte, maxDepth int) error {
	s := scanner{b: b, max: maxDepth}
	s.space()
	if err := s.value(); err != nil {
		return err
	}
	return s.end()
}

// scanner validates JSON from left to right. It never allocates but for errors.
type scanner struct {
	b     []byte
	i     int
	depth int
	max   int

	noting bool   // remember the members of the object that was read last at depth 2
	note   Object // that object
}

// noted returns the object between two offsets, which was read last at depth 2.
func (s *scanner) noted(from, to int) Object {
	if len(s.note.Raw) == to-from && len(s.note.Raw) > 0 && &s.note.Raw[0] == &s.b[from] {
		return s.note
	}
	return Object{Raw: s.b[from:to:to]}
}

func (s *scanner) fail(reason string) error { return &SyntaxError{Offset: s.i, Reason: reason} }

// unexpected describes the byte at the cursor, or the end of the input.
func (s *scanner) unexpected(want string) error {
	if s.i >= len(s.b) {
		return s.fail("unexpected end, expected " + want)
	}
	return s.fail(fmt.Sprintf("unexpected %q, expected %s", s.b[s.i], want))
}

func (s *scanner) space() { s.i = skipSpace(s.b, s.i) }

func (s *scanner) end() error {
	s.space()
	if s.i != len(s.b) {
		return s.fail("data after the value")
	}
	return nil
}

func (s *scanner) value() error {
	if s.i >= len(s.b) {
		return s.unexpected("a value")
	}
	switch c := s.b[s.i]; {
	case c == '"':
		return s.str()
	case c == '{':
		return s.object(nil)
	case c == '[':
		return s.array()
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n':
		return s.literal("null")
	}
	return s.unexpected("a value")
}

func (s *scanner) enter() error {
	s.depth++
	if s.depth > s.max {
		return s.fail(fmt.Sprintf("nested deeper than %d", s.max))
	}
	return nil
}

// object reads an object. It calls member, if there is one, with the offsets of each key (without quotes) and each value.
func (s *scanner) object(member func(keyFrom, keyTo, from, to int) error) error {
	if err := s.enter(); err != nil {
		return err
	}
	begin := s.i
	noting := s.noting && s.depth == 2
	if noting {
		s.note = Object{}
	}
	s.i++
	s.space()
	if s.i < len(s.b) && s.b[s.i] == '}' {
		s.leave(begin, noting)
		return nil
	}
	for {
		if s.i >= len(s.b) || s.b[s.i] != '"' {
			return s.unexpected("a member name")
		}
		key := s.i
		if err := s.str(); err != nil {
			return err
		}
		keyEnd := s.i
		s.space()
		if s.i >= len(s.b) || s.b[s.i] != ':' {
			return s.unexpected("':'")
		}
		s.i++
		s.space()
		from := s.i
		if err := s.value(); err != nil {
			return err
		}
		if member != nil {
			if err := member(key+1, keyEnd-1, from, s.i); err != nil {
				return err
			}
		}
		if noting {
			s.note.add(s.b[key+1:keyEnd-1], s.b[from:s.i:s.i], from-begin)
		}
		s.space()
		if s.i < len(s.b) && s.b[s.i] == ',' {
			s.i++
			s.space()
			continue
		}
		if s.i < len(s.b) && s.b[s.i] == '}' {
			s.leave(begin, noting)
			return nil
		}
		return s.unexpected("',' or '}'")
	}
}

// leave ends the object that began at begin.
func (s *scanner) leave(begin int, noting bool) {
	s.i++
	s.depth--
	if noting {
		s.note.Raw = s.b[begin:s.i:s.i]
	}
}

func (s *scanner) array() error {
	if err := s.enter(); err != nil {
		return err
	}
	s.i++
	s.space()
	if s.i < len(s.b) && s.b[s.i] == ']' {
		s.i++
		s.depth--
		return nil
	}
	for {
		if err := s.value(); err != nil {
			return err
		}
		s.space()
		if s.i < len(s.b) && s.b[s.i] == ',' {
			s.i++
			s.space()
			continue
		}
		if s.i < len(s.b) && s.b[s.i] == ']' {
			s.i++
			s.depth--
			return nil
		}
		return s.unexpected("',' or ']'")
	}
}

func (s *scanner) literal(word string) error {
	if len(s.b)-s.i < len(word) || string(s.b[s.i:s.i+len(word)]) != word {
		return s.fail("unknown literal")
	}
	s.i += len(word)
	return nil
}

func (s *scanner) number() error {
	if s.b[s.i] == '-' {
		s.i++
	}
	switch {
	case s.i < len(s.b) && s.b[s.i] == '0':
		s.i++
	case s.digits() == 0:
		return s.unexpected("a digit")
	}
	if s.i < len(s.b) && s.b[s.i] == '.' {
		s.i++
		if s.digits() == 0 {
			return s.unexpected("a digit")
		}
	}
	if s.i < len(s.b) && (s.b[s.i] == 'e' || s.b[s.i] == 'E') {
		s.i++
		if s.i < len(s.b) && (s.b[s.i] == '+' || s.b[s.i] == '-') {
			s.i++
		}
		if s.digits() == 0 {
			return s.unexpected("a digit")
		}
	}
	return nil
}

func (s *scanner) digits() int {
	from := s.i
	for s.i < len(s.b) && s.b[s.i]-'0' <= 9 {
		s.i++
	}
	return s.i - from
}

const (
	ones  = 0x0101010101010101
	lows  = 0x7f7f7f7f7f7f7f7f
	highs = 0x8080808080808080
)

// zeros returns a word whose high bits mark the bytes of w that are zero, exactly those.
func zeros(w uint64) uint64 { return ^((w&lows + lows) | w) & highs }

// squeeze gathers the high bits of eight bytes into one, the first byte's as the lowest.
func squeeze(marks uint64) uint { return uint(marks * 0x0002040810204081 >> 56) }

// escapes says which of eight bytes follow a backslash that counts, by which of them are backslashes (bits 0 to 7) and whether the first
// one follows one (bit 8). Bit 8 of the answer is that of the next eight.
var escapes = func() (table [512]uint16) {
	for in := range table {
		escaped := in>>8 == 1
		for bit := range 8 {
			slash := in>>bit&1 == 1
			if escaped {
				table[in] |= 1 << bit
			}
			escaped = slash && !escaped
		}
		if escaped {
			table[in] |= 1 << 8
		}
	}
	return table
}()

// str reads a string, eight bytes at a time: most of what passes through a gateway is inside strings. Quotes and backslashes of a word are
// looked at together, so that text full of escapes (JSON inside JSON), whose branches no processor can foresee, is read nearly as fast as
// plain text.
func (s *scanner) str() error {
	b, i := s.b, s.i+1
	escaped := uint(0) // 1 if b[i-1] is a backslash that counts
	for i+8 <= len(b) {
		w := binary.LittleEndian.Uint64(b[i:])
		// Plain text, which is nearly everything, takes the cheap test; it never misses what needs a look.
		quote, slash := w^(ones*'"'), w^(ones*'\\')
		if ((w-ones*0x20)|(quote-ones)|(slash-ones)|w)&highs == 0 && escaped == 0 {
			i += 8
			continue
		}
		if zeros(w&(ones*0xe0))|w&highs != 0 {
			// Control characters, or text that is not ASCII.
			if escaped == 1 {
				i--
			}
			next, end, err := s.strWord(i)
			if err != nil || end {
				return err
			}
			i, escaped = next, 0
			continue
		}
		quotes, slashes := squeeze(zeros(quote)), squeeze(zeros(slash))
		marks := uint(escapes[escaped<<8|slashes])
		end := quotes &^ marks
		// Of what is escaped before the end, quotes and backslashes are as they should be.
		for odd := marks & 0xff &^ (quotes | slashes) & (end&-end - 1); odd != 0; odd &= odd - 1 {
			at := bits.TrailingZeros(odd)
			if simpleEscape[byte(w>>(8*at)&0xff)] {
				continue
			}
			n := escape(b[i+at-1:])
			if n == 0 {
				s.i = i + at - 1
				return s.fail("invalid escape in string")
			}
			i += at - 1 + n - 8 // to go on behind it
			marks, end = 0, 0
			break
		}
		if end != 0 {
			s.i = i + bits.TrailingZeros(end) + 1
			return nil
		}
		escaped = marks >> 8
		i += 8
	}
	if escaped == 1 {
		i--
	}
	return s.strTail(i)
}

// strWord reads at least one and at most eight bytes of a string, byte by byte. It returns where to go on, or that the string has ended.
func (s *scanner) strWord(i int) (next int, end bool, err error) {
	for stop := i + 8; i < stop && i < len(s.b); {
		switch c := s.b[i]; {
		case c == '"':
			s.i = i + 1
			return i, true, nil
		case c == '\\':
			n := escape(s.b[i:])
			if n == 0 {
				s.i = i
				return i, false, s.fail("invalid escape in string")
			}
			i += n
		case c < 0x20:
			s.i = i
			return i, false, s.fail("control character in string")
		case c < utf8.RuneSelf:
			i++
		default:
			r, n := utf8.DecodeRune(s.b[i:])
			if r == utf8.RuneError && n <= 1 {
				s.i = i
				return i, false, s.fail("invalid UTF-8 in string")
			}
			i += n
		}
	}
	return i, false, nil
}

// strTail reads the end of a string.
func (s *scanner) strTail(i int) error {
	for i < len(s.b) {
		next, end, err := s.strWord(i)
		if err != nil || end {
			return err
		}
		i = next
	}
	s.i = i
	return s.fail("unterminated string")
}

// simpleEscape says what may follow a backslash, but for 'u'.
var simpleEscape = [256]bool{'"': true, '\\': true, '/': true, 'b': true, 'f': true, 'n': true, 'r': true, 't': true}

// escape returns the length of the escape sequence that b starts with, or 0 if it is none.
func escape(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(b) < 6 {
			return 0
		}
		for _, c := range b[2:6] {
			if c-'0' > 9 && (c|0x20)-'a' > 5 {
				return 0
			}
		}
		return 6
	}
	return 0
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}
