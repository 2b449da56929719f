package rest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

// New returns the server of the preset "http". cfg.Options is an *Options.
func New(cfg kit.Config) (*kit.Server, error) {
	o, ok := cfg.Options.(*Options)
	if !ok || o == nil {
		return nil, errors.New("http: missing: expected a section with the tools")
	}
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("http: %w", err)
	}
	var hidden []string
	for _, t := range o.Tools {
		for _, v := range t.Headers {
			hidden = append(hidden, strings.Fields(v.Reveal())...)
		}
	}
	a, err := newAPI(&cfg, o.Auth, hidden...)
	if err != nil {
		return nil, err
	}
	k := kit.NewServer(cfg, "http", cfg.Name, "Tools that the owner has declared for an HTTP API.")
	k.OnClose(a.client.Close)
	for i := range o.Tools {
		if err := a.add(k, o.Tools[i].operation()); err != nil {
			return nil, fmt.Errorf("http.tools[%d]: %w", i, err)
		}
	}
	return k, nil
}

func (t *Tool) operation() *operation {
	o := &operation{
		tool:   kit.Tool{Name: t.Name, Title: t.Title, Description: t.Description},
		schema: &jsonschema.Schema{Type: "object", AdditionalProperties: &jsonschema.Schema{Not: &jsonschema.Schema{}}},
		method: t.Method, path: t.Path, query: t.Query, body: t.Body, form: t.Form, pick: t.Select,
	}
	t.Effect.apply(&o.tool, t.Method)
	if len(t.Headers) > 0 {
		o.header = http.Header{}
		for name, v := range t.Headers {
			o.header.Set(name, v.Reveal())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.Args)) {
		a := t.Args[name]
		if o.schema.Properties == nil {
			o.schema.Properties = map[string]*jsonschema.Schema{}
		}
		o.schema.Properties[name] = a.schema()
		o.schema.PropertyOrder = append(o.schema.PropertyOrder, name)
		if a.Required || a.Default == "" && strings.Contains(t.Path, "{"+name+"}") {
			o.schema.Required = append(o.schema.Required, name)
		}
	}
	return o
}

func (a *Arg) schema() *jsonschema.Schema {
	s := &jsonschema.Schema{Type: a.Type, Description: a.Description}
	if a.Type == "array" && a.Items != "" {
		s.Items = &jsonschema.Schema{Type: a.Items}
	}
	for _, e := range a.Enum {
		v, _ := a.value(e) // Validate has read it
		s.Enum = append(s.Enum, v)
	}
	if a.Default != "" {
		v, _ := a.value(a.Default)
		s.Default, _ = json.Marshal(v)
	}
	return s
}
