package kit

import (
	"fmt"
	"reflect"

	"github.com/google/jsonschema-go/jsonschema"
)

// inputSchema infers the schema of a tool's arguments from the fields of In: `json` names them and says by omitempty which are optional,
// `jsonschema` describes them. Unknown arguments are refused. What cannot be said in a tag is put into adjust.
func inputSchema[In any](adjust func(*jsonschema.Schema)) (*jsonschema.Schema, error) {
	s, err := jsonschema.For[In](nil)
	if err != nil {
		return nil, fmt.Errorf("input schema of %s: %w", reflect.TypeFor[In](), err)
	}
	plain(s)
	if adjust != nil {
		adjust(s)
	}
	return s, nil
}

// outputSchema infers the schema of a tool's structured content, in the short form of [Compact].
func outputSchema[Out any]() (*jsonschema.Schema, error) {
	s, err := jsonschema.For[Out](nil)
	if err != nil {
		return nil, fmt.Errorf("output schema of %s: %w", reflect.TypeFor[Out](), err)
	}
	return Compact(s), nil
}

// plain takes the "null or" out of types: what is a pointer, a slice or a map in Go is left out rather than null.
func plain(s *jsonschema.Schema) {
	if s == nil {
		return
	}
	if len(s.Types) == 2 && s.Types[0] == "null" {
		s.Type, s.Types = s.Types[1], nil
	}
	for _, p := range s.Properties {
		plain(p)
	}
	plain(s.Items)
}

// Compact shortens an inferred output schema, because clients may put it before a model. What a pointer or a slice is in Go ("null or …")
// is never null here; no member is required, because what could not be read is left out; and a client need not refuse members that a later
// version adds. It changes s and returns it.
func Compact(s *jsonschema.Schema) *jsonschema.Schema {
	if s == nil {
		return nil
	}
	if len(s.Types) == 2 && s.Types[0] == "null" {
		s.Type, s.Types = s.Types[1], nil
	}
	s.AdditionalProperties, s.Required, s.Minimum = nil, nil, nil
	for _, p := range s.Properties {
		Compact(p)
	}
	Compact(s.Items)
	return s
}

// Enum restricts a string argument to the values. It is for the Adjust of a [Tool].
func Enum(s *jsonschema.Schema, name string, values ...string) {
	p := s.Properties[name]
	if p == nil {
		panic(fmt.Sprintf("kit: no argument %q", name))
	}
	p.Enum = make([]any, len(values))
	for i, v := range values {
		p.Enum[i] = v
	}
}

// Range restricts a numeric argument. It is for the Adjust of a [Tool].
func Range(s *jsonschema.Schema, name string, least, most float64) {
	p := s.Properties[name]
	if p == nil {
		panic(fmt.Sprintf("kit: no argument %q", name))
	}
	p.Minimum, p.Maximum = &least, &most
}
