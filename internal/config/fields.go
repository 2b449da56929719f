package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/telemetry"
)

// field is one key of a section, as the tags of a Config type describe it.
type field struct {
	key   string
	doc   string
	def   string // as one would write it in the file; "" for none
	keys  string // pattern for the keys of a map; "" for any
	names string // what keys says, in words
	enum  []string
	bytes bool
	index []int
	typ   reflect.Type
}

// fieldsOf returns the keys of a section in the order of its fields. Embedded structs with `yaml:",inline"` count as if their
// fields stood in their place. A field without a yaml tag is a mistake in this program, and a panic; yaml:"-" hides one.
func fieldsOf(t reflect.Type) []field {
	var fields []field
	for f := range t.Fields() {
		name, option, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case option == "inline":
			for _, in := range fieldsOf(f.Type) {
				in.index = append([]int{f.Index[0]}, in.index...)
				fields = append(fields, in)
			}
			continue
		case name == "-" || !f.IsExported():
			continue
		case name == "":
			panic(fmt.Sprintf("config: %s.%s has no yaml tag", t, f.Name))
		}
		one := field{
			key: name, doc: f.Tag.Get("doc"), def: f.Tag.Get("default"), keys: f.Tag.Get("keys"), names: f.Tag.Get("names"),
			bytes: f.Tag.Get("unit") == "bytes",
			index: f.Index, typ: f.Type,
		}
		if e := f.Tag.Get("enum"); e != "" {
			one.enum = strings.Split(e, "|")
		}
		fields = append(fields, one)
	}
	return fields
}

func keysOf(fields []field) []string {
	keys := make([]string, len(fields))
	for i, f := range fields {
		keys[i] = f.key
	}
	return keys
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	secretType   = reflect.TypeFor[telemetry.Secret]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// secret says whether values of t, or what they consist of, must not be shown.
func secret(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return secret(t.Elem())
	}
	return t == secretType
}

// join appends a key to a path.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
