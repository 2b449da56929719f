package gateway

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/telemetry"
)

// policyFacts lists the effective policies of a downstream under the keys of gateway.yaml, in the order of the file.
func policyFacts(p *Policies) []pageFact {
	facts := keysOf(nil, "", reflect.ValueOf(p.Config))
	facts = keysOf(facts, "classification", reflect.ValueOf(p.Classification))
	for _, pattern := range slices.Sorted(maps.Keys(p.Tools)) {
		was := map[string]string{}
		for _, f := range facts {
			was[f.Name] = f.Value
		}
		for _, f := range keysOf(nil, "", reflect.ValueOf(p.Tools[pattern])) {
			if was[f.Name] != f.Value {
				facts = append(facts, pageFact{"tools." + pattern + "." + f.Name, f.Value})
			}
		}
	}
	return facts
}

func keysOf(facts []pageFact, path string, v reflect.Value) []pageFact {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		key, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if !f.IsExported() || key == "-" {
			continue
		}
		here := key
		if path != "" {
			here = path + "." + key
		}
		value := v.Field(i)
		switch {
		case value.Type() == reflect.TypeFor[time.Duration](), value.Type() == reflect.TypeFor[telemetry.Secret]():
		case value.Kind() == reflect.Struct:
			if strings.Contains(options, "inline") || key == "" {
				here = path
			}
			facts = keysOf(facts, here, value)
			continue
		case key == "", value.IsZero() && (value.Kind() == reflect.Slice || value.Kind() == reflect.Map || value.Kind() == reflect.Pointer):
			continue
		}
		facts = append(facts, pageFact{here, fmt.Sprint(value.Interface())})
	}
	return facts
}
