package config

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxNodes bounds how much a file can hold after its aliases are followed, and so the work that a small file can ask for.
const maxNodes = 200_000

// decoder fills the fields of Config types from the nodes of a YAML document. It goes on after a fault.
type decoder struct {
	faults
	lookup  func(string) (string, bool)
	initial func(reflect.Type) reflect.Value // what a new element of a map or list is; a fresh value each time
	budget  int                              // nodes left to visit
	aliases []*yaml.Node                     // being followed
	places  map[string]place                 // by path
	bad     []string                         // paths with faults
	layers  map[string][]string              // by the path of merged policies: the sections that they come from, the first wins
}

// place is where and how something is written in the file.
type place struct {
	line, col int
	text      string      // of a scalar, as written
	refs      []reference // variables that text got values from
	secret    bool
}

// spot is what is being decoded.
type spot struct {
	path string
	node *yaml.Node // the key, or the item of a list: what a fault points at
	field
}

func (d *decoder) fault(s spot, format string, args ...any) {
	d.bad = append(d.bad, s.path)
	d.add(s.node.Line, s.node.Column, s.path, format, args...)
}

// visit counts a node and says whether to go on.
func (d *decoder) visit(s spot) bool {
	if d.budget > 0 {
		if d.budget--; d.budget == 0 {
			d.fault(s, "the file holds more than %d values once its aliases are followed", maxNodes)
		}
	}
	return d.budget > 0
}

func (d *decoder) exhausted() bool { return d.budget <= 0 }

// root decodes the document.
func (d *decoder) root(n *yaml.Node, v reflect.Value) {
	s := spot{node: n, field: field{typ: v.Type()}}
	d.value(n, v, s)
	if n.Kind != yaml.MappingNode {
		return
	}
	for _, key := range required {
		if _, ok := d.places[key]; !ok {
			d.bad = append(d.bad, key)
			d.add(1, 1, key, "missing; %s", smallest)
		}
	}
}

// value decodes n into v, which may already hold defaults.
func (d *decoder) value(n *yaml.Node, v reflect.Value, s spot) {
	if !d.visit(s) {
		return
	}
	if n.Kind == yaml.AliasNode {
		if slices.Contains(d.aliases, n.Alias) {
			d.fault(s, "an alias (*NAME) that stands inside what it refers to")
			return
		}
		d.aliases = append(d.aliases, n.Alias)
		defer func() { d.aliases = d.aliases[:len(d.aliases)-1] }()
		n = n.Alias
	}
	if n.Style&yaml.TaggedStyle != 0 {
		d.fault(s, "expected a value without a tag: a text that starts with \"!\" needs quotes")
		return
	}
	if reflect.PointerTo(v.Type()).Implements(textType) && (v.Kind() != reflect.Slice || n.Kind == yaml.ScalarNode) {
		d.scalar(n, v, s)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		// A new one each time: the old one may be the default of several values.
		p := reflect.New(v.Type().Elem())
		if v.IsNil() {
			p.Elem().Set(d.initial(v.Type().Elem()))
		} else {
			p.Elem().Set(v.Elem())
		}
		s.typ = p.Type().Elem()
		d.value(n, p.Elem(), s)
		v.Set(p)
	case reflect.Struct:
		d.section(n, v, s)
	case reflect.Map:
		d.named(n, v, s)
	case reflect.Slice:
		d.items(n, v, s)
	default:
		d.scalar(n, v, s)
	}
}

// section decodes a mapping into the fields of a struct.
func (d *decoder) section(n *yaml.Node, v reflect.Value, s spot) {
	fields := fieldsOf(v.Type())
	if n.Kind != yaml.MappingNode {
		d.fault(s, "expected a section with keys such as %s, found %s", strings.Join(keysOf(fields)[:min(3, len(fields))], ", "), kindOr(n, "{}"))
		return
	}
	pairs := d.pairs(n, s)
	written := make(map[string]pair, len(pairs))
	for _, p := range pairs {
		written[p.key] = p
	}
	for _, f := range fields {
		p, ok := written[f.key]
		delete(written, f.key)
		if !ok {
			continue
		}
		d.entry(p, v.FieldByIndex(f.index), spot{join(s.path, f.key), p.node, f})
	}
	others := aliasesOf(v.Type())
	for _, p := range pairs {
		if _, left := written[p.key]; left {
			if a, ok := others[p.key]; ok {
				d.aliased(p, a, v, s.path)
				continue
			}
			d.unknown(p, v, spot{path: join(s.path, p.key), node: p.node}, s.path, fields)
		}
	}
}

// entry decodes what stands under a key.
func (d *decoder) entry(p pair, v reflect.Value, s spot) {
	at := place{line: s.node.Line, col: s.node.Column, secret: secret(s.typ)}
	if p.value.Kind == yaml.ScalarNode {
		at.text = p.value.Value
	}
	d.places[s.path] = at
	d.value(p.value, v, s)
}

// unknown reports a key that is not in fields. If it is clear what was meant, its value is taken for that: the rest of the section
// can then be judged as if the key were right.
func (d *decoder) unknown(p pair, v reflect.Value, s spot, section string, fields []field) {
	known := keysOf(fields)
	if v.Type() == reflect.TypeFor[toolPolicies]() && slices.Contains(keysOf(fieldsOf(reflect.TypeFor[policies]())), p.key) {
		d.fault(s, "belongs to the whole server, not to one tool")
		return
	}
	meant := suggest(p.key, known)
	if meant == "" {
		if other := elsewhere(p.key); other != "" {
			d.fault(s, "unknown key (it belongs into the section %q)", other)
			return
		}
		d.fault(s, "unknown key (known here: %s)", strings.Join(known, ", "))
		return
	}
	d.fault(s, "unknown key (did you mean %q?)", meant)
	path := join(section, meant)
	if _, ok := d.places[path]; !ok {
		f := fields[slices.Index(known, meant)]
		d.entry(p, v.FieldByIndex(f.index), spot{path, p.node, f})
	}
}

// named decodes a mapping whose keys are names that the user chose.
func (d *decoder) named(n *yaml.Node, v reflect.Value, s spot) {
	if n.Kind != yaml.MappingNode {
		d.fault(s, "expected a section with names and their values, found %s", kindOr(n, "{}"))
		return
	}
	pairs := d.pairs(n, s)
	m := reflect.MakeMapWithSize(v.Type(), len(pairs))
	for _, p := range pairs {
		elem := reflect.New(v.Type().Elem()).Elem()
		elem.Set(d.initial(elem.Type()))
		if s.keys != "" && !regexp.MustCompile(s.keys).MatchString(p.key) {
			d.fault(spot{path: join(s.path, p.key), node: p.node}, "expected a name of %s", s.names)
		}
		d.entry(p, elem, spot{join(s.path, p.key), p.node, field{typ: elem.Type(), enum: s.enum, bytes: s.bytes}})
		m.SetMapIndex(reflect.ValueOf(p.key).Convert(v.Type().Key()), elem)
	}
	v.Set(m)
}

// items decodes a sequence.
func (d *decoder) items(n *yaml.Node, v reflect.Value, s spot) {
	if n.Kind != yaml.SequenceNode {
		d.fault(s, "expected a list such as [a, b], found %s", kindOr(n, "[]"))
		return
	}
	list := reflect.MakeSlice(v.Type(), 0, len(n.Content))
	for i, item := range n.Content {
		elem := reflect.New(v.Type().Elem()).Elem()
		elem.Set(d.initial(elem.Type()))
		d.entry(pair{value: item}, elem, spot{fmt.Sprintf("%s[%d]", s.path, i), item, field{typ: elem.Type(), enum: s.enum, bytes: s.bytes}})
		list = reflect.Append(list, elem)
	}
	v.Set(list)
}

// pair is one key of a mapping and its value.
type pair struct {
	key         string
	node, value *yaml.Node
}

// pairs returns the keys of a mapping, in order; those merged in by "<<" come last and never replace one that is written out.
func (d *decoder) pairs(n *yaml.Node, s spot) []pair {
	var (
		pairs  []pair
		merged []pair
		lines  = map[string]int{}
	)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := spot{path: s.path, node: key}
		if !d.visit(at) {
			return nil
		}
		switch {
		case key.Kind == yaml.ScalarNode && key.Tag == "!!merge":
			merged = append(merged, pair{node: key, value: value})
		case key.Kind != yaml.ScalarNode || isNull(key) || key.Style&yaml.TaggedStyle != 0:
			d.fault(at, "expected a name as key, found %s", kind(key))
		case lines[key.Value] != 0:
			at.path = join(s.path, key.Value)
			d.fault(at, "the key is here twice (first on line %d)", lines[key.Value])
		default:
			lines[key.Value] = key.Line
			pairs = append(pairs, pair{key.Value, key, value})
		}
	}
	for _, m := range merged {
		for _, p := range d.merge(m.value, spot{path: s.path, node: m.node}) {
			if lines[p.key] == 0 {
				lines[p.key] = p.node.Line
				pairs = append(pairs, p)
			}
		}
	}
	return pairs
}

// merge returns the keys that "<<: n" brings in.
func (d *decoder) merge(n *yaml.Node, s spot) []pair {
	if !d.visit(s) {
		return nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		return d.pairs(n, s)
	case yaml.SequenceNode:
		var all []pair
		for _, one := range n.Content {
			all = append(all, d.merge(one, s)...)
		}
		return all
	case yaml.AliasNode:
		if slices.Contains(d.aliases, n.Alias) {
			d.fault(s, "an alias (*NAME) that stands inside what it refers to")
			return nil
		}
		d.aliases = append(d.aliases, n.Alias)
		defer func() { d.aliases = d.aliases[:len(d.aliases)-1] }()
		return d.merge(n.Alias, s)
	}
	d.fault(s, `expected a section, or an alias (*NAME) of one, after "<<", found %s`, kind(n))
	return nil
}

// kind names what n is without saying its content, which may be a secret in the wrong place.
func kind(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a section"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(n):
		return "nothing"
	}
	switch n.ShortTag() {
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	}
	return "text"
}

// kindOr is kind with a hint for a key that has nothing after it.
func kindOr(n *yaml.Node, empty string) string {
	if isNull(n) {
		return "nothing (" + empty + " is an empty one)"
	}
	return kind(n)
}
