package builtin

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"time"
	"unicode"
)

// text builds the text of a report line by line.
type text struct{ b strings.Builder }

func (t *text) linef(format string, args ...any) {
	if t.b.Len() > 0 {
		t.b.WriteByte('\n')
	}
	fmt.Fprintf(&t.b, format, args...)
}

// end adds the notes and returns the whole.
func (t *text) end(notes []string) string {
	for _, n := range notes {
		t.linef("Note: %s", n)
	}
	return t.b.String()
}

// size writes bytes with binary units.
func size(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v := float64(n)
	for _, unit := range []string{"KiB", "MiB", "GiB", "TiB", "PiB"} {
		v /= 1024
		// 1023.95 would print as 1024.0.
		if v < 1023.95 {
			return fmt.Sprintf("%.1f %s", v, unit)
		}
	}
	return fmt.Sprintf("%.1f EiB", v/1024)
}

// span writes seconds in the two greatest units.
func span(seconds uint64) string {
	d, h, m, s := seconds/86400, seconds/3600%24, seconds/60%60, seconds%60
	switch {
	case d > 0:
		return fmt.Sprintf("%d d %d h", d, h)
	case h > 0:
		return fmt.Sprintf("%d h %d min", h, m)
	case m > 0:
		return fmt.Sprintf("%d min %d s", m, s)
	}
	return fmt.Sprintf("%d s", s)
}

// stamp writes a time as RFC 3339 in UTC, "" for the zero time.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// tenth rounds to one decimal. What is not a number becomes 0, because JSON cannot say it.
func tenth(v float64) float64 { return round(v, 10) }

// hundredth rounds to two decimals as tenth does to one.
func hundredth(v float64) float64 { return round(v, 100) }

func round(v, parts float64) float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	return math.Round(v*parts) / parts
}

// percent returns part of whole as a percentage with one decimal; 0 if there is no whole.
func percent(part, whole float64) float64 {
	if whole <= 0 {
		return 0
	}
	return tenth(part / whole * 100)
}

// clean makes a name that the machine reported safe to show: anyone may name a process or a mount. Control and format characters and
// invalid UTF-8 become U+FFFD, and what is longer than limit runes is cut.
func clean(s string, limit int) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n++; n > limit {
			b.WriteString("…")
			break
		}
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029' {
			r = unicode.ReplacementChar
		}
		b.WriteRune(r)
	}
	return b.String()
}

// password finds the credentials in the device name of a network mount, such as https://user:password@host/.
var password = regexp.MustCompile(`//[^/@]*@`)

func cleanDevice(s string) string { return clean(password.ReplaceAllString(s, "//"), maxName) }

const (
	maxName = 100 // runes of a name
	maxPath = 300
)

// either returns a if it says something, else b.
func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
