package clients

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// set returns the content of a JSON file with value at the path, and everything else as it was, to the byte. data may be empty.
func set(data []byte, path []string, value any) ([]byte, error) {
	if len(bytes.TrimSpace(strip(data, true))) == 0 {
		b, err := json.MarshalIndent(nest(path, value), "", "  ")
		return append(append(bytes.TrimSpace(data), b...), '\n'), err
	}
	before, err := parseJSON(data)
	if err != nil {
		return nil, err
	}
	root, ok := before.(object)
	if !ok {
		return nil, errors.New("expected an object at the top, found something else")
	}
	bom := len(data) - len(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))
	p := strip(data, false)
	at := bom + bytes.IndexByte(p[bom:], '{')
	for i, key := range path {
		m := find(p, at, key)
		if m.value < 0 { // the rest of the path is not there
			return insert(data, p, at, m, key, nest(path[i+1:], value))
		}
		if i == len(path)-1 {
			return replace(data, m, path, root, value)
		}
		if p[m.value] != '{' {
			return nil, fmt.Errorf("%s: expected an object, found something else", strings.Join(path[:i+1], "."))
		}
		at = m.value
	}
	return data, nil
}

func nest(path []string, value any) any {
	for _, key := range slices.Backward(path) {
		value = map[string]any{key: value}
	}
	return value
}

// replace puts value in the place of the one that is there.
func replace(data []byte, m place, path []string, root object, value any) ([]byte, error) {
	old := any(root)
	for _, key := range path {
		o, _ := old.(object)
		old = o.get(key)
	}
	if same(old, value) {
		return data, nil
	}
	b, err := json.MarshalIndent(value, indentAt(data, m.key), unit(data))
	if err != nil {
		return nil, err
	}
	return slices.Concat(data[:m.value], b, data[m.end:]), nil
}

// insert puts a member at the end of the object that begins at from.
func insert(data, p []byte, from int, m place, key string, value any) ([]byte, error) {
	step := unit(data)
	indent := indentAt(data, from) + step
	if m.first >= 0 && bytes.IndexByte(data[from:m.first], '\n') >= 0 {
		indent = indentAt(data, m.first)
	}
	b, err := json.MarshalIndent(value, indent, step)
	if err != nil {
		return nil, err
	}
	k, err := json.Marshal(key)
	if err != nil {
		return nil, err
	}
	text := "\n" + indent + string(k) + ": " + string(b)
	at := from + 1
	switch {
	case m.first >= 0:
		at = m.last
		rest := p[m.last:m.close]
		if i := bytes.IndexByte(rest, ','); i >= 0 {
			at += i + 1 // a comma that nothing follows
		} else {
			text = "," + text
		}
		if bytes.IndexByte(data[at:m.close], '\n') < 0 {
			text += "\n" + indentAt(data, from)
			return slices.Concat(data[:at], []byte(text), bytes.TrimLeft(data[at:], " \t")), nil
		}
	case bytes.IndexByte(data[from:m.close], '\n') < 0:
		return slices.Concat(data[:at], []byte(text+"\n"+indentAt(data, from)), data[m.close:]), nil
	}
	return slices.Concat(data[:at], []byte(text), data[at:]), nil
}

// place is where a member of an object stands, and where others could.
type place struct {
	key, value, end int // -1: it is not there
	first, last     int // beginning of the first member, end of the last one; -1: the object is empty
	close           int // the bracket
}

// find looks for a member of the object that begins at from. p is valid JSON, but for commas at the end.
func find(p []byte, from int, key string) place {
	m := place{key: -1, value: -1, end: -1, first: -1, last: -1}
	i := from + 1
	for {
		for i < len(p) && strings.IndexByte(" \t\r\n,", p[i]) >= 0 {
			i++
		}
		if i >= len(p) || p[i] == '}' {
			m.close = i
			return m
		}
		begin := i
		i = skip(p, i)
		var name string
		_ = json.Unmarshal(p[begin:i], &name) // the whole was parsed before
		i += bytes.IndexByte(p[i:], ':') + 1
		for strings.IndexByte(" \t\r\n", p[i]) >= 0 {
			i++
		}
		v := i
		i = skip(p, i)
		if m.first < 0 {
			m.first = begin
		}
		m.last = i
		if name == key {
			m.key, m.value, m.end = begin, v, i
		}
	}
}

// skip returns the end of the value that begins at i.
func skip(p []byte, i int) int {
	depth := 0
	for ; i < len(p); i++ {
		switch p[i] {
		case '"':
			for i++; i < len(p) && p[i] != '"'; i++ {
				if p[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\t', '\r', '\n', ':':
			if depth == 0 {
				return i
			}
		}
	}
	return i
}

// indentAt returns the blanks at the beginning of the line in which at stands.
func indentAt(data []byte, at int) string {
	line := data[bytes.LastIndexByte(data[:at], '\n')+1:]
	return string(line[:len(line)-len(bytes.TrimLeft(line, " \t"))])
}

// unit guesses what one step of indentation is.
func unit(data []byte) string {
	for line := range bytes.Lines(data) {
		if in := indentAt(line, 0); in != "" && len(bytes.TrimSpace(line)) > 0 {
			return in
		}
	}
	return "  "
}

// same compares what was read with what would be written.
func same(old, value any) bool {
	a, err := json.Marshal(unordered(old))
	if err != nil {
		return false
	}
	b, err := json.Marshal(value)
	if err != nil {
		return false
	}
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

func unordered(v any) any {
	switch v := v.(type) {
	case object:
		m := map[string]any{}
		for _, e := range v {
			m[e.key] = unordered(e.value)
		}
		return m
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = unordered(e)
		}
		return out
	}
	return v
}

var inlineForm = regexp.MustCompile(`(?m)^\s*mcp_servers\s*=`)

// setTOML returns the content of the file of Codex with the section [mcp_servers.NAME], and everything else as it was. text is the section.
func setTOML(data []byte, name, text string) ([]byte, error) {
	var was, is, section map[string]any
	if _, err := toml.Decode(string(data), &was); err != nil {
		return nil, fmt.Errorf("not valid TOML: %w", err)
	}
	if _, err := toml.Decode(text, &section); err != nil {
		return nil, err
	}
	old, _ := was["mcp_servers"].(map[string]any)
	wanted, _ := section["mcp_servers"].(map[string]any)
	if reflect.DeepEqual(old[name], wanted[name]) {
		return data, nil
	}
	lines := slices.Collect(strings.Lines(string(data)))
	header := regexp.MustCompile(`^\s*\[\s*mcp_servers\s*\.\s*"?` + regexp.QuoteMeta(name) + `"?\s*[.\]]`)
	var kept []string
	inside, at := false, -1
	for _, l := range lines {
		if strings.HasPrefix(strings.TrimSpace(l), "[") {
			if inside = header.MatchString(l); inside && at < 0 {
				at = len(kept)
			}
		}
		if !inside || strings.HasPrefix(strings.TrimSpace(l), "#") || strings.TrimSpace(l) == "" {
			kept = append(kept, l)
		}
	}
	if at < 0 {
		at = len(kept)
		if at > 0 && !strings.HasSuffix(kept[at-1], "\n") {
			kept[at-1] += "\n"
		}
		if at > 0 && strings.TrimSpace(kept[at-1]) != "" {
			text = "\n" + text
		}
	}
	out := []byte(strings.Join(slices.Insert(kept, at, text), ""))
	byHand := fmt.Errorf("the file is written in a way that cannot be edited without risk. Put this into it by hand:\n\n%s", text)
	if inlineForm.Match(data) { // nothing may be added to it elsewhere, although some parsers let it pass
		return nil, byHand
	}
	// Whatever the file looks like, only this section may mean something else afterwards.
	if _, err := toml.Decode(string(out), &is); err != nil {
		return nil, byHand
	}
	now, _ := is["mcp_servers"].(map[string]any)
	if !reflect.DeepEqual(now[name], wanted[name]) || !sameElse(was, is, name) {
		return nil, byHand
	}
	return out, nil
}

// sameElse compares two files of Codex but for one server. It changes both.
func sameElse(a, b map[string]any, name string) bool {
	for _, m := range []map[string]any{a, b} {
		servers, _ := m["mcp_servers"].(map[string]any)
		if delete(servers, name); len(servers) == 0 {
			delete(m, "mcp_servers")
		}
	}
	return reflect.DeepEqual(a, b)
}
