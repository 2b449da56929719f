package proc

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean returns s fit for a log or an error message: control characters, escape sequences, invisible and direction-changing
// characters and invalid UTF-8 are written as escapes, and what exceeds limit bytes is cut off and counted.
func Clean(s string, limit int) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if b.Len()+n > limit {
			b.WriteString(" [" + strconv.Itoa(len(s)-i) + " more bytes]")
			break
		}
		switch {
		case r == utf8.RuneError && n <= 1:
			b.WriteString(`\x` + string(hex[s[i]>>4]) + string(hex[s[i]&15]))
		case unicode.IsPrint(r) || r == '\t':
			b.WriteString(s[i : i+n])
		default:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		i += n
	}
	return b.String()
}

const hex = "0123456789abcdef"
