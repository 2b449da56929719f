package kit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Text shows a JSON object to people: a line for each plain member, an indented part for each object, a table for each list of objects.
func Text(structured []byte) (string, error) {
	d := json.NewDecoder(bytes.NewReader(structured))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return "", fmt.Errorf("text of a result: %w", err)
	}
	var b strings.Builder
	write(&b, v, "")
	return b.String(), nil
}

func write(b *strings.Builder, v any, indent string) {
	switch v := v.(type) {
	case map[string]any:
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		// Plain members first: they are what the parts after them are about.
		slices.SortFunc(keys, func(a, b string) int {
			if d := rank(v[a]) - rank(v[b]); d != 0 {
				return d
			}
			return strings.Compare(a, b)
		})
		for _, k := range keys {
			if rank(v[k]) == 0 {
				fmt.Fprintf(b, "%s%s: %s\n", indent, k, cell(v[k]))
				continue
			}
			fmt.Fprintf(b, "%s%s:\n", indent, k)
			write(b, v[k], indent+"  ")
		}
	case []any:
		items := make([]Item, 0, len(v))
		for _, e := range v {
			if o, ok := e.(map[string]any); ok {
				items = append(items, o)
			}
		}
		if len(items) == len(v) && len(items) > 0 {
			var t strings.Builder
			table(&t, keysOf(items), items)
			for line := range strings.Lines(t.String()) {
				b.WriteString(indent + line)
			}
			return
		}
		for _, e := range v {
			fmt.Fprintf(b, "%s- %s\n", indent, cell(e))
		}
	default:
		fmt.Fprintf(b, "%s%s\n", indent, cell(v))
	}
}

// rank is 0 for what fits on a line.
func rank(v any) int {
	switch v := v.(type) {
	case map[string]any:
		if len(v) > 0 {
			return 1
		}
	case []any:
		for _, e := range v {
			if rank(e) > 0 {
				return 2
			}
		}
		if len(cell(v)) > 100 {
			return 2
		}
	}
	return 0
}

// table writes items with one column for each key, as wide as it has to be.
func table(b *strings.Builder, columns []string, items []Item) {
	const widest = 60
	columns = slices.DeleteFunc(slices.Clone(columns), func(c string) bool {
		return !slices.ContainsFunc(items, func(it Item) bool { return it[c] != nil })
	})
	rows := make([][]string, 0, len(items)+1)
	rows = append(rows, columns)
	for _, it := range items {
		row := make([]string, len(columns))
		for i, c := range columns {
			row[i] = clip(cell(it[c]), 200)
		}
		rows = append(rows, row)
	}
	width := make([]int, len(columns))
	for _, row := range rows {
		for i, s := range row {
			width[i] = max(width[i], min(utf8.RuneCountInString(s), widest))
		}
	}
	for _, row := range rows {
		for i, s := range row {
			if i == len(row)-1 {
				b.WriteString(s)
				continue
			}
			b.WriteString(s)
			b.WriteString(strings.Repeat(" ", max(width[i]-utf8.RuneCountInString(s), 0)+2))
		}
		b.WriteByte('\n')
	}
}

// cell shows a value on one line.
func cell(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return strings.Join(strings.Fields(v), " ")
	case json.Number:
		return v.String()
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1e15 {
			return strconv.FormatInt(int64(v), 10)
		}
		return strconv.FormatFloat(v, 'g', 6, 64)
	case bool:
		if v {
			return "yes"
		}
		return "no"
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = cell(e)
		}
		return strings.Join(parts, ", ")
	case []string:
		return strings.Join(v, ", ")
	case map[string]any, Item, []Item:
		raw, _ := json.Marshal(v)
		return string(raw)
	}
	return fmt.Sprint(v)
}

// clip shortens s to at most n bytes, at the border of a character, and says so.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const mark = "… (cut)"
	n = max(n-len(mark), 0)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + mark
}
