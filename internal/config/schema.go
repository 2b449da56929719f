package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/gateway"
	"github.com/mcpgw/mcpgw/resilience"
)

// Schema returns the JSON schema of gateway.yaml, with a line break at its end. Draft 7 is what yaml-language-server, and so most
// editors, understand best. Keys come in the order of the Config types.
func Schema() []byte {
	root := object{
		{"$schema", "http://json-schema.org/draft-07/schema#"},
		{"title", "gateway.yaml of mcpgw"},
	}
	root = append(root, section(reflect.TypeFor[document]())...)
	definitions := object{}
	for _, t := range sharedTypes {
		definitions = append(definitions, member{shared[t], section(t)})
	}
	root = append(root, member{"required", required}, member{"definitions", definitions})
	compact, err := json.Marshal(root)
	if err != nil {
		panic(fmt.Sprintf("config: schema: %v", err)) // made of strings and numbers only
	}
	var out bytes.Buffer
	if err := json.Indent(&out, compact, "", "  "); err != nil {
		panic(fmt.Sprintf("config: schema: %v", err))
	}
	out.WriteByte('\n')
	return out.Bytes()
}

// rules are what Validate demands across the keys of a section, which tags cannot say.
var rules = map[reflect.Type]object{
	reflect.TypeFor[downstream.Config](): {
		{"anyOf", []object{needs("command"), needs("url"), needs("urls"), needs("preset")}},
		{"not", object{{"anyOf", []object{needs("command", "url"), needs("command", "preset"), needs("url", "urls"), needs("command", "urls"), needs("preset", "urls")}}}},
		{"dependencies", object{{"args", []string{"command"}}, {"env", []string{"command"}}, {"dir", []string{"command"}}}},
	},
}

func needs(keys ...string) object { return object{{"required", keys}} }

// refForm matches a text with ${NAME} in it, which may stand for anything.
const refForm = `\$\{`

// section returns the schema of a struct.
func section(t reflect.Type) object {
	props := object{}
	for _, f := range fieldsOf(t) {
		props = append(props, member{f.key, property(f)})
	}
	for _, name := range slices.Sorted(maps.Keys(aliasesOf(t))) {
		a := aliasesOf(t)[name]
		f := fieldAt(t, a.path)
		f.doc, f.def = "Another name for "+a.path+".", ""
		p := property(f)
		if a.unit != "" {
			p = append(object{p[0]}, or(object{{"type", "number"}}, text(durationForm.String()))...)
		}
		props = append(props, member{name, p})
	}
	o := object{{"type", "object"}, {"additionalProperties", false}, {"properties", props}}
	for _, r := range append([]reflect.Type{t}, embedded(t)...) {
		o = append(o, rules[r]...)
	}
	return o
}

// embedded returns the types of the inlined fields of t.
func embedded(t reflect.Type) []reflect.Type {
	var types []reflect.Type
	for f := range t.Fields() {
		if f.Anonymous {
			types = append(types, f.Type)
		}
	}
	return types
}

// property returns the schema of what stands under a key.
func property(f field) object {
	var o object
	if f.doc != "" {
		o = append(o, member{"description", f.doc})
	}
	if f.def != "" {
		o = append(o, member{"default", defaultOf(f)})
	}
	elem := func() object {
		return property(field{enum: f.enum, bytes: f.bytes, typ: f.typ.Elem()})
	}
	if f.typ.Kind() == reflect.Slice && reflect.PointerTo(f.typ).Implements(textType) { // a list, or the name of one
		list := object{{"type", "array"}, {"items", elem()}}
		return append(o, or(object{{"enum", append(slices.Clone(f.enum), "false")}}, object{{"const", false}}, text(refForm), list)...)
	}
	if reflect.PointerTo(f.typ).Implements(textType) {
		return append(o, member{"type", []string{"string", "number", "boolean"}})
	}
	switch {
	case f.typ == durationType:
		return append(o, text(durationForm.String())...)
	case f.bytes && f.typ.Kind() != reflect.Slice && f.typ.Kind() != reflect.Map:
		return append(o, or(object{{"type", "integer"}}, text(sizeForm.String()))...)
	}
	switch f.typ.Kind() {
	case reflect.Pointer:
		return append(o, elem()...)
	case reflect.Struct:
		if name := shared[f.typ]; name != "" {
			return append(o, member{"allOf", []object{{{"$ref", "#/definitions/" + name}}}})
		}
		return append(o, section(f.typ)...)
	case reflect.Map:
		o = append(o, member{"type", "object"}, member{"additionalProperties", elem()})
		if f.keys != "" {
			o = append(o, member{"propertyNames", object{{"pattern", f.keys}}})
		}
		return o
	case reflect.Slice:
		return append(o, member{"type", "array"}, member{"items", elem()})
	case reflect.Bool:
		return append(o, or(object{{"type", "boolean"}}, text(refForm))...)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return append(o, or(object{{"type", "integer"}}, text(refForm))...)
	case reflect.Float32, reflect.Float64:
		return append(o, or(object{{"type", "number"}}, text(refForm))...)
	case reflect.String:
		if len(f.enum) > 0 {
			return append(o, or(object{{"enum", f.enum}}, text(refForm))...)
		}
		// A number or a word like "true" is taken as it is written: args: [--port, 8080].
		return append(o, member{"type", []string{"string", "number", "boolean"}})
	}
	panic(fmt.Sprintf("config: no schema for %s", f.typ))
}

// text describes a string of a form, or one with a reference in it.
func text(form string) object {
	if form != refForm {
		form += "|" + refForm
	}
	return object{{"type", "string"}, {"pattern", form}}
}

func or(alternatives ...object) object { return object{{"anyOf", alternatives}} }

// sharedTypes are the sections that stand in several places. The schema describes each of them once.
var sharedTypes = []reflect.Type{
	reflect.TypeFor[policies](), reflect.TypeFor[resilience.TimeoutsConfig](), reflect.TypeFor[resilience.RetryConfig](),
	reflect.TypeFor[resilience.CircuitBreakerConfig](), reflect.TypeFor[resilience.BulkheadConfig](), reflect.TypeFor[resilience.RateLimitConfig](),
	reflect.TypeFor[resilience.HedgeConfig](), reflect.TypeFor[gateway.Classification](), reflect.TypeFor[gateway.Fallback](),
}

// shared names them.
var shared = func() map[reflect.Type]string {
	names := map[reflect.Type]string{}
	for _, t := range sharedTypes {
		names[t] = strings.ToLower(strings.TrimSuffix(t.Name(), "Config"))
	}
	return names
}()

// defaultOf returns the default of f as JSON has it.
func defaultOf(f field) any {
	switch f.typ.Kind() {
	case reflect.Slice:
		if reflect.PointerTo(f.typ).Implements(textType) {
			return f.def
		}
		return strings.Split(f.def, ", ")
	case reflect.Bool:
		return f.def == "true"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Float32, reflect.Float64:
		if n, err := strconv.ParseFloat(f.def, 64); err == nil {
			return n
		}
	}
	return f.def
}

// object is a JSON object whose members keep their order.
type object []member

type member struct {
	key   string
	value any
}

// MarshalJSON implements json.Marshaler.
func (o object) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for i, m := range o {
		if i > 0 {
			out = append(out, ',')
		}
		value, err := json.Marshal(m.value)
		if err != nil {
			return nil, err
		}
		out = append(strconv.AppendQuote(out, m.key), ':')
		out = append(out, value...)
	}
	return append(out, '}'), nil
}
