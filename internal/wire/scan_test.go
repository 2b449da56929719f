package wire

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
	"unicode/utf8"
)

// TestStringsOfEveryShape compares strings made of what is hard, at every place of a word of eight bytes, with encoding/json.
func TestStringsOfEveryShape(t *testing.T) {
	parts := []string{`\`, `\`, `\"`, `\\`, `\n`, `\u00e9`, `\ud83d`, `\u12`, `\x`, `"`, "a", "bc", "defghijk", "é", "\U0001F600", "\x01", "\xff", "/"}
	r := rand.New(rand.NewPCG(1, 2))
	for range 300_000 {
		b := []byte{'"'}
		for range r.IntN(12) {
			b = append(b, parts[r.IntN(len(parts))]...)
		}
		b = append(b, '"')
		got, want := Valid(b, 10) == nil, json.Valid(b) && utf8.Valid(b)
		if got != want {
			t.Fatalf("%q: got %v, want %v", b, got, want)
		}
		if n := skipString(append(b, `"\ and more`...), 0); want && n != len(b) {
			t.Fatalf("%q: skipped %d of %d bytes", b, n, len(b))
		}
	}
}
