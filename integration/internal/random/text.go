package random

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// maker makes JSON texts. The same seed makes the same texts.
type maker struct {
	*rand.Rand

	modern bool // types of revision 2026-07-28, else of 2025-11-25
	deep   int  // how deep the value that is being made stands
	serial int
}

func newMaker(seed, stream uint64) *maker { return &maker{Rand: rand.New(rand.NewPCG(seed, stream))} }

// chance is true n times of a hundred.
func (r *maker) chance(n int) bool { return r.IntN(100) < n }

func pick[T any](r *maker, of ...T) T { return of[r.IntN(len(of))] }

// space is what may stand between tokens. Line breaks are among it; who sends a message in one line takes them out.
func (r *maker) space() string {
	if r.chance(92) {
		return ""
	}
	return pick(r, " ", "  ", "\t", "\n", "\r\n", " \n ")
}

// Pieces of strings as they are spelled between the quotes: escapes in every form, and what has tripped programs before.
var pieces = []string{
	"a", "Z", "0", " ", "  ", "text", "caf\u00e9", `caf\u00e9`, "cafe\u0301", `\u00E9`, "日本", `\u65e5`, "😀", `\ud83d\ude00`, `\uD83D\uDE00`, "\u202e", "\u200b", "\ufeff",
	"\u2028", `\u2028`, "\u007f", `\u0000`, `\u001f`, `\n`, `\r\n`, `\t`, `\b`, `\f`, `\/`, "/", `\\`, `\"`, "'", "<b>&amp;", `\u003c`, "{", "}", "[", "]", ":", ",", "//", "/*",
	"__proto__", "null", "true", "1e5", "data: ", `\n\ndata: {}\n\n`, "%00", "%s", "${HOME}", "..", "\U0010ffff", "mcpgw://", `"id\":1`[1:], "=?base64?eA==?=", "ﬁ", "İ", "ß",
}

// str returns a string with its quotes.
func (r *maker) str() string {
	switch n := r.IntN(100); {
	case n < 8:
		return `""`
	case n < 9:
		return `"` + strings.Repeat(pick(r, pieces...), 200+r.IntN(800)) + `"`
	case n < 10:
		return pick(r, `"\ud800"`, `"\udfff tail"`, `"\ude00\ud83d"`) // halves of pairs are valid JSON
	}
	var b strings.Builder
	b.WriteByte('"')
	for range 1 + r.IntN(4) {
		b.WriteString(pick(r, pieces...))
	}
	return b.String() + `"`
}

// word returns a short string that is not empty and means the same however it is spelled.
func (r *maker) word() string {
	return `"` + pick(r, "one", "two", "über", "x y", "naïve", "日本", "a/b") + `"`
}

func (r *maker) number() string {
	return pick(r, "0", "-0", "0.0", "1", "-1", "1.0", "1.50", "1e2", "1E+2", "1e-7", "-1.5E-10", "0.1", "100", "9007199254740991", "9007199254740993", "-9223372036854775808",
		"18446744073709551615", "123456789012345678901234567890", "3.141592653589793238462643383279", "1e400", "-1e-400", strconv.Itoa(r.IntN(1000)),
		strconv.FormatFloat(r.NormFloat64(), 'g', -1, 64))
}

func (r *maker) integer() string {
	return pick(r, "0", "1", "2", "-1", "1.0", "1e3", "100", "9007199254740991", "9007199254740993", "18446744073709551615", strconv.Itoa(r.IntN(100000)))
}

// between returns a number from 0 to 1.
func (r *maker) between() string {
	return pick(r, "0", "1", "1.0", "0.50", "5e-1", "0.123456789012345678", "1e-30")
}

func (r *maker) boolean() string { return pick(r, "true", "false") }

// value returns any value.
func (r *maker) value() string {
	r.deep++
	defer func() { r.deep-- }()
	n := r.IntN(100)
	if r.deep > 4 && n < 50 {
		n += 50
	}
	switch {
	case n < 20:
		return r.object(r.IntN(5))
	case n < 38:
		return r.list(r.IntN(5), (*maker).value)
	case n < 40:
		levels := 10 + r.IntN(50)
		open, shut := "[", "]"
		if r.chance(50) {
			open, shut = `{"d":`, "}"
		}
		return strings.Repeat(open, levels) + r.scalar() + strings.Repeat(shut, levels)
	}
	return r.scalar()
}

func (r *maker) scalar() string {
	switch n := r.IntN(10); {
	case n < 5:
		return r.str()
	case n < 8:
		return r.number()
	case n < 9:
		return r.boolean()
	}
	return "null"
}

// key returns the name of a member that the specification does not have; some look as if it had.
func (r *maker) key() string {
	r.serial++
	return pick(r, "", "x-", "vendor.example/", " ", "été ", `\u00e9`, "😀", "Content ", "name ", " name", "_META", "nаme", "typе", "$", "0", "__proto__", "constructor") + strconv.Itoa(r.serial%1000)
}

func (r *maker) object(n int) string {
	var b strings.Builder
	b.WriteByte('{')
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(r.space() + `"` + r.anyKey() + `"` + r.space() + ":" + r.space() + r.value() + r.space())
	}
	return b.String() + "}"
}

// anyKey is a key where the specification allows all: also twice, or the same spelled in another way, or like a member of the protocol.
func (r *maker) anyKey() string {
	if r.chance(60) {
		return r.key()
	}
	return pick(r, "", "a", "A", `\u0061`, "ａ", "a ", "name", "Name", "uri", "_meta", "type", "jsonrpc", "id", "method", "resultType", "é", `\u00e9`, "e\u0301", `\"`, `\\`)
}

func (r *maker) list(n int, of func(*maker) string) string {
	var b strings.Builder
	b.WriteByte('[')
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(r.space() + of(r) + r.space())
	}
	return b.String() + "]"
}

// mapOf returns an object with values of one kind.
func (r *maker) mapOf(of func(*maker) string) string {
	var fs []field
	for range r.IntN(4) {
		fs = append(fs, must(r.key(), func(r *maker) string { return of(r) }))
	}
	return join(r.pairs(false, fs...), r)
}

// field is a member that the specification has.
type field struct {
	name  string
	make  func(*maker) string
	often int // of a hundred; 100 is a member that must be there
}

func must(name string, f func(*maker) string) field { return field{name, f, 100} }
func may(name string, f func(*maker) string) field  { return field{name, f, 40} }

func text(s string) func(*maker) string { return func(*maker) string { return s } }

// quoted returns s as a JSON string.
func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Sprintf("%q", s)
	}
	return string(b)
}

// pair is one member as it is spelled.
type pair struct{ key, value string }

// pairs returns the members of an object in any order, among them, if it is open, some that the specification does not have.
func (r *maker) pairs(open bool, fields ...field) []pair {
	var ps []pair
	for _, f := range fields {
		if f.often == 100 || r.chance(f.often) {
			ps = append(ps, pair{f.name, f.make(r)})
		}
	}
	if open && r.deep < 3 && r.chance(30) {
		for range 1 + r.IntN(2) {
			ps = append(ps, pair{r.key(), r.value()})
		}
	}
	r.Shuffle(len(ps), func(i, j int) { ps[i], ps[j] = ps[j], ps[i] })
	return ps
}

// join spells an object. Without a maker it is spelled without spaces.
func join(ps []pair, r *maker) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, p := range ps {
		if i > 0 {
			b.WriteByte(',')
		}
		if r == nil {
			b.WriteString(`"` + p.key + `":` + p.value)
			continue
		}
		b.WriteString(r.space() + `"` + p.key + `"` + r.space() + ":" + r.space() + p.value + r.space())
	}
	return b.String() + "}"
}

func (r *maker) obj(fields ...field) string {
	r.deep++
	defer func() { r.deep-- }()
	return join(r.pairs(true, fields...), r)
}

// oneLine takes out the line breaks, which can only stand between tokens.
func oneLine(s string) string { return strings.NewReplacer("\n", " ", "\r", " ").Replace(s) }
