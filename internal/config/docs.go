package config

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Docs returns the page about gateway.yaml, in Markdown: every key with its type, default and sentence, from the same tags as [Schema].
func Docs() []byte {
	d := &docs{}
	d.b.WriteString(`# gateway.yaml

<!-- Made by go test ./internal/config -update. Do not edit. -->

Every key. ` + "`${VAR}` must be set, `${VAR:-default}` need not, `$$` is a dollar sign" + `. Unknown keys are errors. Durations are written 500ms, 30s, 5m, 1h30m;
sizes 512KiB, 16MiB. The only key that must be there is ` + "`downstreams`" + `. How the policies work: [resilience.md](resilience.md).

Policies come in layers, each of which changes only what is written in it: built-in values, ` + "`resilience.defaults`, the profile, " +
		"`downstreams.NAME.resilience`, `downstreams.NAME.resilience.tools.PATTERN`" + `. The environment variable ` + "`" + killSwitch + "=false`" + `
switches all of them off.
`)
	d.section("", reflect.TypeFor[document]())
	fmt.Fprintf(&d.b, "\n## Other spellings\n\nAccepted in every section of policies, as other programs spell them:\n\n| key | is | a plain number means |\n|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(aliases)) {
		a := aliases[name]
		unit := map[string]string{"s": "seconds", "ms": "milliseconds"}[a.unit]
		fmt.Fprintf(&d.b, "| `%s` | `%s` | %s |\n", name, a.path, unit)
	}
	fmt.Fprintf(&d.b, "\nAccepted in the entry of a server:\n\n| key | is |\n|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(serverAliases)) {
		fmt.Fprintf(&d.b, "| `%s` | `%s` |\n", name, serverAliases[name].path)
	}
	return d.b.Bytes()
}

type docs struct {
	b    bytes.Buffer
	seen map[reflect.Type]string // where a section is described that stands in several places
}

// section writes a table of the keys of a section, then the sections in it.
func (d *docs) section(path string, t reflect.Type) {
	type part struct {
		path string
		typ  reflect.Type
		doc  string
	}
	var inner []part
	if d.seen == nil {
		d.seen = map[reflect.Type]string{}
	}
	if path != "" {
		d.seen[t] = path
	}
	d.b.WriteString("\n| key | type | default | |\n|---|---|---|---|\n")
	for _, f := range fieldsOf(t) {
		here := join(path, f.key)
		sub, typ := here, f.typ
		switch {
		case f.typ.Kind() == reflect.Map && f.typ.Elem().Kind() == reflect.Struct:
			sub, typ = here+".NAME", f.typ.Elem()
		case f.typ.Kind() == reflect.Slice && f.typ.Elem().Kind() == reflect.Struct:
			sub, typ = here+"[]", f.typ.Elem()
		}
		for typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		kind := kindOf(f)
		if typ.Kind() == reflect.Struct {
			if at := d.seen[typ]; at != "" {
				kind = "as [" + at + "](#" + anchor(at) + ")"
			} else {
				kind = "[" + kind + "](#" + anchor(sub) + ")"
				inner = append(inner, part{sub, typ, f.doc})
			}
		}
		def := ""
		if f.def != "" {
			def = "`" + f.def + "`"
		}
		fmt.Fprintf(&d.b, "| `%s` | %s | %s | %s |\n", f.key, kind, def, f.doc)
	}
	for _, in := range inner {
		fmt.Fprintf(&d.b, "\n## %s\n\n%s\n", in.path, in.doc)
		d.section(in.path, in.typ)
	}
}

// anchor is the fragment that renderers of Markdown give a heading.
func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		if r == '.' || r == '[' || r == ']' {
			return -1
		}
		return r
	}, strings.ToLower(heading))
}

// kindOf says what is written after a key.
func kindOf(f field) string {
	switch {
	case len(f.enum) > 0 && f.typ.Kind() == reflect.String:
		return strings.Join(f.enum, ", ")
	case f.typ == durationType:
		return "duration"
	case f.bytes:
		return "size"
	case f.typ.Kind() == reflect.Slice && reflect.PointerTo(f.typ).Implements(textType):
		return "list of sections, or " + strings.Join(f.enum, ", ")
	case reflect.PointerTo(f.typ).Implements(textType):
		return "number, true or false"
	}
	switch f.typ.Kind() {
	case reflect.Bool:
		return "true, false"
	case reflect.Slice:
		if f.typ.Elem().Kind() == reflect.Struct {
			return "list of sections"
		}
		return "list"
	case reflect.Pointer:
		f.typ = f.typ.Elem()
		return kindOf(f)
	case reflect.Map:
		if f.typ.Elem().Kind() == reflect.String {
			return "values by name"
		}
		return "section by name"
	case reflect.Struct:
		return "section"
	case reflect.Float32, reflect.Float64:
		return "number"
	case reflect.String:
		return "text"
	}
	return "whole number"
}
