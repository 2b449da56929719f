package downstream

import (
	"errors"

	"github.com/mcpgw/mcpgw/downstream/builtin"
	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

// Own is the part of [Config] that belongs to one preset each: a section called as the preset.
type Own struct {
	LLM *LLM `yaml:"llm" doc:"Of preset llm: provider, models, and what may be spent."`
}

// LLM is the section of the preset llm.
type LLM = builtin.LLM

// LLMFallback is an entry of llm.fallbacks.
type LLMFallback = builtin.LLMFallback

// DefaultLLM returns an LLM with every default filled in.
func DefaultLLM() LLM { return builtin.DefaultLLM() }

// DefaultLLMFallback returns an LLMFallback with every default filled in.
func DefaultLLMFallback() LLMFallback { return builtin.DefaultLLMFallback() }

// section is one of Own, with the preset that it belongs to.
type section struct {
	preset string
	value  interface{ Validate() error } // nil if it is not written
}

func (o *Own) sections() []section {
	list := []section{{preset: "llm"}}
	if o.LLM != nil {
		list[0].value = o.LLM
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
