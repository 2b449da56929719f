package config

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// The forms of scalars; the schema holds the same patterns. YAML reads 010 as eight and 1_000 as a thousand: neither is accepted.
var (
	wholeForm    = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)
	numberForm   = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)
	durationForm = regexp.MustCompile(`^-?([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+$`)
	sizeForm     = regexp.MustCompile(`^([0-9]+)(KiB|MiB|GiB)$`)
)

// scalar decodes a single value. What cannot be decoded leaves a text that is not empty, so that what depends on it being there
// is not reported as well.
func (d *decoder) scalar(n *yaml.Node, v reflect.Value, s spot) {
	hidden := secret(v.Type())
	stand := func() {
		if v.Kind() == reflect.String {
			v.SetString("?")
		}
	}
	if n.Kind != yaml.ScalarNode || isNull(n) {
		stand()
		hint := ""
		if isNull(n) && v.Kind() == reflect.String {
			hint = ` ("" is an empty text)`
		}
		d.fault(s, "expected %s, found %s%s", want(v.Type(), s.field), kind(n), hint)
		return
	}
	text, refs, err := expand(n.Value, d.lookup)
	at := d.places[s.path]
	at.line, at.col, at.text, at.refs, at.secret = s.node.Line, s.node.Column, n.Value, refs, hidden
	d.places[s.path] = at
	if err != nil {
		stand()
		d.unexpanded(n, s, hidden, err)
		return
	}
	plain := n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0 || strings.Contains(n.Value, "$")
	hint, ok := set(v, s.field, text, plain)
	if ok {
		return
	}
	stand()
	switch {
	case hidden:
		d.fault(s, "expected %s, found something else", want(v.Type(), s.field))
	case n.Value != text:
		d.fault(s, "expected %s, found %s, which stands for something else", want(v.Type(), s.field), quote(n))
	default:
		d.fault(s, "expected %s, found %s%s", want(v.Type(), s.field), quote(n), hint)
	}
}

// unexpanded reports why the text of n cannot be expanded.
func (d *decoder) unexpanded(n *yaml.Node, s spot, hidden bool, err error) {
	many, ok := err.(interface{ Unwrap() []error })
	if !ok {
		if hidden {
			d.fault(s, "%v", err)
		} else {
			d.fault(s, "%v, found %s", err, quote(n))
		}
		return
	}
	for _, e := range many.Unwrap() {
		if unset, ok := errors.AsType[*unsetError](e); ok {
			d.fault(s, "%v", unset)
		}
	}
}

// set gives v the value that text stands for. plain says that it is written without quotes: only then is 5 a number. If it cannot,
// it returns what might help.
func set(v reflect.Value, f field, text string, plain bool) (hint string, ok bool) {
	if u, is := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr()); is {
		return "", u.UnmarshalText([]byte(text)) == nil
	}
	quoted := ""
	if !plain {
		quoted = " (remove the quotes)"
	}
	switch {
	case v.Type() == durationType:
		dur, err := time.ParseDuration(text)
		if err != nil || !durationForm.MatchString(text) {
			return durationHint(text), false
		}
		v.SetInt(int64(dur))
	case f.bytes:
		n, hint, ok := size(text, plain)
		if !ok || v.OverflowInt(n) {
			return hint, false
		}
		v.SetInt(n)
	case v.CanInt():
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		switch {
		case !wholeForm.MatchString(text):
			return "", false
		case err != nil:
			return " (it is too large)", false
		case !plain:
			return quoted, false
		}
		v.SetInt(n)
	case v.CanFloat():
		n, err := strconv.ParseFloat(text, 64)
		switch {
		case err != nil || !numberForm.MatchString(text):
			return "", false
		case !plain:
			return quoted, false
		}
		v.SetFloat(n)
	case v.Kind() == reflect.Bool:
		b, known := map[string]bool{"true": true, "false": false}[strings.ToLower(text)]
		switch {
		case !known:
			return boolHint(text), false
		case !plain:
			return quoted, false
		}
		v.SetBool(b)
	case v.Kind() == reflect.String:
		if len(f.enum) > 0 && !slices.Contains(f.enum, text) {
			if meant := suggest(text, f.enum); meant != "" {
				return fmt.Sprintf(" (did you mean %q?)", meant), false
			}
			return "", false
		}
		v.SetString(text)
	default:
		panic(fmt.Sprintf("config: cannot decode into %s", v.Type()))
	}
	return "", true
}

// size reads 512KiB, 16MiB, 1GiB or a number of bytes.
func size(text string, plain bool) (n int64, hint string, ok bool) {
	unit := int64(1)
	digits := text
	if m := sizeForm.FindStringSubmatch(text); m != nil {
		digits = m[1]
		unit = map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}[m[2]]
	} else if !wholeForm.MatchString(text) {
		for _, u := range []string{"K", "M", "G"} {
			if number, suffix, cut := strings.Cut(strings.ToUpper(text), u); cut && strings.TrimSpace(number) != "" && len(suffix) <= 2 {
				return 0, fmt.Sprintf(" (write the unit as %siB, without a space)", u), false
			}
		}
		return 0, "", false
	} else if !plain {
		return 0, " (remove the quotes)", false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > math.MaxInt64/unit || n < math.MinInt64/unit {
		return 0, " (it is too large)", false
	}
	return n * unit, "", true
}

func durationHint(text string) string {
	switch {
	case numberForm.MatchString(text):
		return " (a unit is missing: ms, s, m or h)"
	case strings.HasSuffix(text, "d") || strings.HasSuffix(text, "w"):
		return " (the largest unit is h)"
	}
	return ""
}

func boolHint(text string) string {
	switch strings.ToLower(text) {
	case "yes", "on", "1":
		return " (write true)"
	case "no", "off", "0":
		return " (write false)"
	}
	return ""
}

// want says what a value of type t looks like.
func want(t reflect.Type, f field) string {
	switch {
	case len(f.enum) > 0:
		return "one of " + strings.Join(f.enum, ", ")
	case t == durationType:
		return "a duration such as 500ms, 30s or 1h30m"
	case f.bytes:
		return "a size such as 16MiB, 512KiB or a number of bytes"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.String:
		return "text"
	}
	return "a value"
}

// quote shows a scalar as it is written.
func quote(n *yaml.Node) string {
	s := shorten(n.Value, 60)
	if n.Style == 0 && n.ShortTag() != "!!str" && s != "" && !strings.ContainsAny(s, " \n") {
		return s
	}
	return strconv.Quote(s)
}
