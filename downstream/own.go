package downstream

import (
	"errors"
	"reflect"

	"github.com/mcpgw/mcpgw/downstream/builtin"
	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

// Own is the part of [Config] that belongs to one preset each: a section called as the preset.
type Own struct {
	LLM     *builtin.LLM     `yaml:"llm" doc:"Of preset llm: provider, models, and what may be spent."`
	IDRAC   *builtin.IDRAC   `yaml:"idrac" doc:"Of preset idrac: how to log in."`
	HTTP    *builtin.HTTP    `yaml:"http" doc:"Of preset http: the tools."`
	OpenAPI *builtin.OpenAPI `yaml:"openapi" doc:"Of preset openapi: the document, and what of it becomes tools."`
}

// section is one of Own, with the preset that it belongs to.
type section struct {
	preset string
	value  interface{ Validate() error } // nil if it is not written
}

func (o *Own) sections() []section {
	list := []section{{preset: "llm"}, {preset: "http"}, {preset: "openapi"}, {preset: "idrac"}}
	if o.LLM != nil {
		list[0].value = o.LLM
	}
	if o.HTTP != nil {
		list[1].value = o.HTTP
	}
	if o.OpenAPI != nil {
		list[2].value = o.OpenAPI
	}
	if o.IDRAC != nil {
		list[3].value = o.IDRAC
	}
	return list
}

// of returns the section of a preset as its server wants it; nil if it is not written.
func (o *Own) of(preset string) any {
	for _, s := range o.sections() {
		if s.preset == preset && s.value != nil {
			return s.value
		}
	}
	return nil
}

func (c *Config) validateOwn() []error {
	var errs []error
	for _, s := range c.Own.sections() {
		switch {
		case s.value == nil && s.preset == c.Preset && s.preset != "llm" && s.preset != "idrac":
			errs = append(errs, fieldErrorf(s.preset, "missing: preset %s has no tools without it", s.preset))
		case s.value == nil:
		case s.preset != c.Preset:
			errs = append(errs, fieldErrorf(s.preset, "only a server with preset: %s has it", s.preset))
		default:
			errs = append(errs, keyErrors(s.preset, s.value.Validate())...)
		}
	}
	return errs
}

// keyErrors turns the faults of a preset's section into those of this package.
func keyErrors(section string, err error) []error {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var errs []error
		for _, e := range many.Unwrap() {
			errs = append(errs, keyErrors(section, e)...)
		}
		return errs
	}
	if k, ok := errors.AsType[*kit.KeyError](err); ok {
		return []error{fieldErrorf(section+"."+k.Key, "%s", k.Msg)}
	}
	return []error{fieldErrorf(section, "%v", err)}
}

// Initial returns what a value of one of the types in [Own] is before anything is written over it, and false for other types.
func Initial(t reflect.Type) (reflect.Value, bool) {
	switch t {
	case reflect.TypeFor[builtin.LLM]():
		return reflect.ValueOf(builtin.DefaultLLM()), true
	case reflect.TypeFor[builtin.LLMFallback]():
		return reflect.ValueOf(builtin.DefaultLLMFallback()), true
	case reflect.TypeFor[builtin.IDRAC]():
		return reflect.ValueOf(builtin.DefaultIDRAC()), true
	case reflect.TypeFor[builtin.HTTP]():
		return reflect.ValueOf(builtin.DefaultHTTP()), true
	case reflect.TypeFor[builtin.HTTPTool]():
		return reflect.ValueOf(builtin.DefaultHTTPTool()), true
	case reflect.TypeFor[builtin.HTTPArg]():
		return reflect.ValueOf(builtin.DefaultHTTPArg()), true
	case reflect.TypeFor[builtin.OpenAPI]():
		return reflect.ValueOf(builtin.DefaultOpenAPI()), true
	}
	return reflect.Value{}, false
}
