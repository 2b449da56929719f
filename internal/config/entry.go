package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mcpgw/mcpgw/downstream"
)

// Entry is a downstream to be written into a file.
type Entry struct {
	Name string
	Keys []Key // in the order in which they are written
}

// Key is a key and its value: a string, bool, []string, []Key, or [Raw]. Strings are in the language of the file, where ${NAME} is the value
// of an environment variable: see [Escape].
type Key struct {
	Name  string
	Value any
}

// Raw is a value as one writes it in the file, such as 30s or [a, b].
type Raw string

// Set puts a value under a path with dots between keys, in place of one that is there.
func (e *Entry) Set(path string, value any) {
	e.Keys = put(e.Keys, strings.Split(path, "."), value)
}

func put(keys []Key, path []string, value any) []Key {
	i := slices.IndexFunc(keys, func(k Key) bool { return k.Name == path[0] })
	if i < 0 {
		i = len(keys)
		keys = append(keys, Key{Name: path[0]})
	}
	if len(path) == 1 {
		keys[i].Value = value
		return keys
	}
	inner, _ := keys[i].Value.([]Key)
	keys[i].Value = put(inner, path[1:], value)
	return keys
}

// String returns the entry as it would stand in a file.
func (e *Entry) String() string { return e.block(2, 2) }

var referenceForm = regexp.MustCompile(`^\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^${}]*)?\}`)

// Escape returns the text that means s in the file. ${NAME} and ${NAME:-default} stay what they are if references is set; every other
// dollar sign means itself.
func Escape(s string, references bool) string {
	var b strings.Builder
	for {
		before, _, found := strings.Cut(s, "$")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		s = s[len(before):]
		if ref := referenceForm.FindString(s); references && ref != "" {
			b.WriteString(ref)
			s = s[len(ref):]
			continue
		}
		b.WriteString("$$")
		s = s[1:]
	}
}

// Presets returns the names of the built-in servers.
func Presets() []string { return downstream.Presets() }

// NameRule is what the name of a downstream must match, and the same in words.
func NameRule() (pattern *regexp.Regexp, words string) {
	for _, f := range fieldsOf(documentType) {
		if f.key == "downstreams" {
			return regexp.MustCompile(f.keys), f.names
		}
	}
	panic("config: no section downstreams")
}

// HasKey says whether a downstream has the key, dots between keys.
func HasKey(path string) bool {
	at := serverType
	for key := range strings.SplitSeq(path, ".") {
		fields := structFields(at)
		i := slices.IndexFunc(fields, func(f field) bool { return f.key == key })
		if i < 0 {
			return false
		}
		at = fields[i].typ
	}
	return true
}

// block writes the entry in the style with one key on a line.
func (e *Entry) block(indent, step int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s%s:\n", strings.Repeat(" ", indent), e.Name)
	writeKeys(&b, e.Keys, indent+step, step)
	return b.String()
}

func writeKeys(b *strings.Builder, keys []Key, indent, step int) {
	for _, k := range keys {
		fmt.Fprintf(b, "%s%s:", strings.Repeat(" ", indent), scalar(k.Name))
		if inner, ok := k.Value.([]Key); ok && len(inner) > 0 {
			b.WriteByte('\n')
			writeKeys(b, inner, indent+step, step)
			continue
		}
		fmt.Fprintf(b, " %s\n", inline(k.Value))
	}
}

// flow writes the keys of the entry in the style with braces, without the outer ones.
func (e *Entry) flow() string {
	s := inline(e.Keys)
	return s[1 : len(s)-1]
}

// inline writes a value on one line.
func inline(v any) string {
	switch v := v.(type) {
	case []Key:
		parts := make([]string, len(v))
		for i, k := range v {
			parts[i] = scalar(k.Name) + ": " + inline(k.Value)
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case []string:
		parts := make([]string, len(v))
		for i, s := range v {
			parts[i] = scalar(s)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case Raw:
		var n yaml.Node
		// A text such as "a: b" or one over several lines would change the file around it.
		if !strings.ContainsAny(string(v), "\r\n#") && yaml.Unmarshal([]byte("[k, "+string(v)+"]"), &n) == nil && len(n.Content) == 1 && len(n.Content[0].Content) == 2 {
			return string(v)
		}
		return scalar(string(v))
	case string:
		return scalar(v)
	}
	return fmt.Sprint(v)
}

var plainForm = regexp.MustCompile(`^(?:-{0,2}[A-Za-z0-9_./~][A-Za-z0-9_./:@=+~%&?-]*)$`)

// scalar writes a text so that YAML reads the same text, whatever stands around it.
func scalar(s string) string {
	if plainForm.MatchString(s) {
		var n yaml.Node
		if yaml.Unmarshal([]byte("["+s+"]"), &n) == nil && len(n.Content) == 1 && len(n.Content[0].Content) == 1 {
			if one := n.Content[0].Content[0]; one.Kind == yaml.ScalarNode && one.ShortTag() == "!!str" && one.Value == s {
				return s
			}
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic(err) // a string always has a JSON form
	}
	// JSON lets these stand, YAML does not.
	return controlForm.ReplaceAllStringFunc(strings.TrimSpace(b.String()), func(c string) string {
		return fmt.Sprintf(`\u%04x`, []rune(c)[0])
	})
}

var controlForm = regexp.MustCompile(`[\x{7f}-\x{9f}\x{feff}\x{fffe}\x{ffff}]`)
