package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// ErrByHand says that a file is written in a way that cannot be edited without risk. The message tells what to do instead.
var ErrByHand = errors.New("edit the file by hand")

// Add returns the content of a file with one more downstream, and everything else as it was, to the byte. The result may be invalid, if
// data or the entry is: see [Verify].
func Add(data []byte, e Entry) ([]byte, error) {
	t, err := newPage(data)
	if err != nil {
		return nil, err
	}
	if slices.Contains(t.names(), e.Name) {
		return nil, fmt.Errorf("there is a downstream %q already (line %d)", e.Name, t.entry(e.Name).Line)
	}
	out, err := t.add(&e)
	if err != nil {
		return nil, err
	}
	if !sameBut(data, out, e.Name) {
		return nil, fmt.Errorf("%w, and put this into downstreams:\n%s", ErrByHand, e.block(2, 2))
	}
	return out, nil
}

// Remove returns the content of a file without one downstream, and everything else as it was, to the byte. removed holds the comment that
// stood directly above the entry and went with it.
func Remove(data []byte, name string) (out []byte, removed []string, err error) {
	t, err := newPage(data)
	if err != nil {
		return nil, nil, err
	}
	if !slices.Contains(t.names(), name) {
		hint := ""
		if s := suggest(name, t.names()); s != "" {
			hint = fmt.Sprintf(" (did you mean %q?)", s)
		} else if len(t.names()) > 0 {
			hint = ": there are " + strings.Join(t.names(), ", ")
		}
		return nil, nil, fmt.Errorf("there is no downstream %q%s", name, hint)
	}
	out, removed, err = t.remove(name)
	if err == nil && !sameBut(out, data, name) {
		err = fmt.Errorf("%w: the entry %q (line %d) cannot be taken out without touching the others", ErrByHand, name, t.entry(name).Line)
	}
	return out, removed, err
}

// Names returns the names of the downstreams in the order of the file.
func Names(data []byte) ([]string, error) {
	t, err := newPage(data)
	if err != nil {
		return nil, err
	}
	return t.names(), nil
}

var unsetForm = regexp.MustCompile(`^the environment variable (\S+) is not set`)

// Verify says what is wrong with the content of a file, as [Parse] does, but for environment variables that are not set in this process:
// these are returned, sorted.
func Verify(name string, data []byte) (unset []string, err error) {
	_, err = Parse(name, data, os.LookupEnv)
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return nil, err
	}
	rest := &Error{More: e.More}
	for _, f := range e.Faults {
		if m := unsetForm.FindStringSubmatch(f.Msg); m != nil {
			unset = append(unset, m[1])
		} else {
			rest.Faults = append(rest.Faults, f)
		}
	}
	slices.Sort(unset)
	if len(rest.Faults) == 0 {
		return slices.Compact(unset), nil
	}
	return nil, rest
}

// sameBut says whether with means the same as without plus the downstream called name.
func sameBut(without, with []byte, name string) bool {
	var a, b map[string]any
	if yaml.Unmarshal(without, &a) != nil || yaml.Unmarshal(with, &b) != nil {
		return false
	}
	servers, ok := b["downstreams"].(map[string]any)
	if _, there := servers[name]; !ok || !there {
		return false
	}
	delete(servers, name)
	if len(servers) == 0 {
		delete(b, "downstreams")
	}
	if was, _ := a["downstreams"].(map[string]any); len(was) == 0 {
		delete(a, "downstreams")
	}
	return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b)
}

// page is a file as lines, with the nodes that tell where things are.
type page struct {
	bom        []byte
	lines      []string // with their ends
	eol        string
	root       *yaml.Node // nil: there is nothing but comments
	key, value *yaml.Node // of downstreams; nil: there is none
	after      *yaml.Node // the key that follows
}

func newPage(data []byte) (*page, error) {
	t := &page{eol: "\n"}
	if rest, ok := bytes.CutPrefix(data, []byte("\xef\xbb\xbf")); ok {
		t.bom, data = data[:3], rest
	}
	if bytes.Contains(data, []byte("\r\n")) {
		t.eol = "\r\n"
	}
	// YAML breaks lines at these too, and would count others than we do.
	if strings.ContainsAny(strings.ReplaceAll(string(data), "\r\n", "\n"), "\r\u0085\u2028\u2029") {
		return nil, fmt.Errorf("%w: there are line breaks in it that are neither LF nor CRLF", ErrByHand)
	}
	t.lines = slices.Collect(strings.Lines(string(data)))
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("the file is not valid YAML (mcpgw check says where): %w", err)
	}
	if len(doc.Content) == 0 || isNull(doc.Content[0]) && doc.Content[0].Value == "" {
		return t, nil
	}
	t.root = doc.Content[0]
	if t.root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%w: it is not a section with keys", ErrByHand)
	}
	for i := 0; i+1 < len(t.root.Content); i += 2 {
		switch {
		case t.key != nil:
			t.after = t.root.Content[i]
			return t, t.editable()
		case t.root.Content[i].Value == "downstreams":
			t.key, t.value = t.root.Content[i], t.root.Content[i+1]
		}
	}
	return t, t.editable()
}

// editable refuses what is not written where it stands.
func (t *page) editable() error {
	if t.key != nil && t.value.Kind != yaml.MappingNode && !isNull(t.value) {
		return fmt.Errorf("%w: downstreams (line %d) is not a section with names", ErrByHand, t.key.Line)
	}
	return nil
}

// names lists the entries that are written out; those that "<<" brings in cannot be edited.
func (t *page) names() []string {
	var names []string
	if t.value != nil {
		for i := 0; i+1 < len(t.value.Content); i += 2 {
			if k := t.value.Content[i]; k.Tag != "!!merge" {
				names = append(names, k.Value)
			}
		}
	}
	return names
}

// entry returns the key of an entry that is there.
func (t *page) entry(name string) *yaml.Node {
	for i := 0; i+1 < len(t.value.Content); i += 2 {
		if t.value.Content[i].Value == name {
			return t.value.Content[i]
		}
	}
	return nil
}

func flow(n *yaml.Node) bool { return n.Style&yaml.FlowStyle != 0 }

func (t *page) add(e *Entry) ([]byte, error) {
	switch {
	case t.root == nil:
		return t.insert(len(t.lines), "downstreams:\n"+e.block(2, 2)), nil
	case t.key == nil && flow(t.root):
		return t.insertFlow(t.root, "downstreams: {"+e.flow()+"}")
	case t.key == nil:
		indent := t.root.Content[0].Column - 1
		return t.insert(t.end(len(t.lines)), strings.Repeat(" ", indent)+"downstreams:\n"+e.block(indent+2, 2)), nil
	case isNull(t.value) && flow(t.root):
		return nil, fmt.Errorf("%w: write {} after downstreams (line %d)", ErrByHand, t.key.Line)
	case isNull(t.value):
		line := &t.lines[t.key.Line-1]
		if v := t.value.Value; v != "" { // "null" or "~"
			at := t.column(t.value)
			*line = strings.TrimRight((*line)[:at], " ") + (*line)[at+len(v):]
		}
		return t.insert(t.key.Line, e.block(t.key.Column+1, 2)), nil
	case flow(t.value) && len(t.value.Content) == 0 && !flow(t.root):
		line, at := t.lines[t.value.Line-1], t.column(t.value)
		if closing := strings.IndexByte(line[at:], '}'); closing >= 0 && strings.TrimSpace(line[at+1:at+closing]) == "" {
			t.lines[t.value.Line-1] = strings.TrimRight(line[:at], " ") + line[at+closing+1:]
			return t.insert(t.value.Line, e.block(t.key.Column+1, 2)), nil
		}
		return t.insertFlow(t.value, e.Name+": {"+e.flow()+"}")
	case flow(t.value):
		return t.insertFlow(t.value, e.Name+": {"+e.flow()+"}")
	}
	first := t.value.Content[0]
	step := 2
	if v := t.value.Content[1]; v.Kind == yaml.MappingNode && !flow(v) && v.Column > first.Column {
		step = v.Column - first.Column
	}
	last := t.sectionEnd()
	for last > first.Line && (blank(t.lines[last-1]) || comment(t.lines[last-1]) && indentOf(t.lines[last-1]) < first.Column-1) {
		last--
	}
	block := e.block(first.Column-1, step)
	if slices.ContainsFunc(t.lines[first.Line-1:last], blank) {
		block = "\n" + block // the others have an empty line between them
	}
	return t.insert(last, block), nil
}

// sectionEnd returns the number of the last line before what follows the section downstreams.
func (t *page) sectionEnd() int {
	last := len(t.lines)
	if t.after != nil {
		last = t.after.Line - 1
	}
	return t.end(last)
}

// end returns last, or the line before the one that ends the document.
func (t *page) end(last int) int {
	for i := t.root.Line; i < last; i++ {
		if l := strings.TrimRight(t.lines[i], " \r\n"); l == "..." || l == "---" {
			return i
		}
	}
	return last
}

// insert puts lines after the line with the number n.
func (t *page) insert(n int, block string) []byte {
	block = strings.ReplaceAll(block, "\n", t.eol)
	if n > 0 && !strings.HasSuffix(t.lines[n-1], "\n") {
		block = t.eol + strings.TrimSuffix(block, t.eol) // the file goes on to end without a line break
	}
	return t.join(slices.Insert(slices.Clone(t.lines), n, block))
}

func (t *page) join(lines []string) []byte {
	return append(slices.Clone(t.bom), strings.Join(lines, "")...)
}

func (t *page) remove(name string) ([]byte, []string, error) {
	key := t.entry(name)
	if flow(t.value) {
		out, err := t.removeFlow(name)
		return out, nil, err
	}
	// Nothing between the entry before and this one belongs to it but the comment directly above.
	from, above := key.Line, t.key.Line
	for from-1 > above && comment(t.lines[from-2]) && indentOf(t.lines[from-2]) == key.Column-1 {
		from--
	}
	to := t.sectionEnd()
	for _, k := range t.value.Content {
		if k.Line > key.Line && k.Column == key.Column {
			to = k.Line - 1
			break
		}
	}
	for to > key.Line && (blank(t.lines[to-1]) || comment(t.lines[to-1]) && indentOf(t.lines[to-1]) <= key.Column-1) {
		to--
	}
	removed := make([]string, 0, key.Line-from)
	for _, l := range t.lines[from-1 : key.Line-1] {
		removed = append(removed, strings.TrimSpace(l))
	}
	if to < len(t.lines) && blank(t.lines[to]) && (from-1 == above && len(t.names()) > 1 || blank(t.lines[from-2])) {
		to++ // one empty line between two things is enough
	}
	lines := slices.Delete(slices.Clone(t.lines), from-1, to)
	if len(t.names()) == 1 {
		line := lines[t.key.Line-1]
		at := strings.IndexByte(line, ':') + 1
		lines[t.key.Line-1] = line[:at] + " {}" + line[at:]
	}
	return t.join(lines), removed, nil
}

// column returns the offset of n in its line, in bytes.
func (t *page) column(n *yaml.Node) int {
	line := t.lines[n.Line-1]
	col := 1
	for i := range line {
		if col == n.Column {
			return i
		}
		col++
	}
	return len(line)
}

func blank(line string) bool   { return strings.TrimSpace(line) == "" }
func comment(line string) bool { return strings.HasPrefix(strings.TrimLeft(line, " "), "#") }

func indentOf(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }
