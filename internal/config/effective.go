package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/gateway"
	"github.com/mcpgw/mcpgw/telemetry"
)

var (
	documentType = reflect.TypeFor[document]()
	serverType   = reflect.TypeFor[server]()
)

// structFields is fieldsOf for a type that may be a pointer, and none for what has no keys of its own.
func structFields(t reflect.Type) []field {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t == reflect.TypeFor[time.Time]() {
		return nil
	}
	return fieldsOf(t)
}

// Setting is one key of a policy with the value that holds after all layers.
type Setting struct {
	Key     string `json:"key"` // dots between keys
	Value   string `json:"value"`
	Changed bool   `json:"changed,omitempty"` // it is not the built-in value
}

// Effective lists the policies that guard a downstream, as they hold after all layers, in the order of their section. Those of single tools
// come last, and only where they differ.
func Effective(p gateway.Policies) []Setting {
	was := gateway.DefaultPolicies()
	var list []Setting
	list = settings(list, "", reflect.ValueOf(p.Config), reflect.ValueOf(was.Config))
	list = settings(list, "classification", reflect.ValueOf(p.Classification), reflect.ValueOf(was.Classification))
	tools := make([]string, 0, len(p.Tools))
	for pattern := range p.Tools {
		tools = append(tools, pattern)
	}
	slices.Sort(tools)
	for _, pattern := range tools {
		for _, s := range settings(nil, "tools."+pattern, reflect.ValueOf(p.Tools[pattern]), reflect.ValueOf(p.Config)) {
			if s.Changed {
				list = append(list, s)
			}
		}
	}
	return list
}

func settings(list []Setting, path string, v, was reflect.Value) []Setting {
	for _, f := range fieldsOf(v.Type()) {
		here := join(path, f.key)
		value, before := v.FieldByIndex(f.index), was.FieldByIndex(f.index)
		if f.typ.Kind() == reflect.Struct && len(structFields(f.typ)) > 0 && !reflect.PointerTo(f.typ).Implements(textType) {
			list = settings(list, here, value, before)
			continue
		}
		list = append(list, Setting{here, show(value), !reflect.DeepEqual(value.Interface(), before.Interface())})
	}
	return list
}

// show writes a value as one would in the file.
func show(v reflect.Value) string {
	switch {
	case secret(v.Type()):
		if v.IsZero() {
			return ""
		}
		return telemetry.Secret("x").String()
	case v.Type() == durationType:
		return ShortDuration(time.Duration(v.Int()))
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return "-"
		}
		return show(v.Elem())
	case reflect.Slice:
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = show(v.Index(i))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case reflect.Struct:
		var parts []string
		for _, f := range structFields(v.Type()) {
			parts = append(parts, f.key+": "+show(v.FieldByIndex(f.index)))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return fmt.Sprint(v.Interface())
}

// ShortDuration writes a duration as people do: it leaves out the zeros of 1h0m0s.
func ShortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
