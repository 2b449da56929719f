package config

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// TestEveryPolicyHasARow: the table in docs/resilience.md names a test for each key of the policies.
func TestEveryPolicyHasARow(t *testing.T) {
	page, err := os.ReadFile("../../docs/resilience.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(page), "## Each key and the test that turns it")
	if !found {
		t.Fatal("the table is gone")
	}
	rows := map[string]bool{}
	quoted := regexp.MustCompile("`([a-z_.*]+)`")
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || !strings.Contains(line, "Test") {
			continue
		}
		section := ""
		for _, key := range quoted.FindAllStringSubmatch(cells[1], -1) {
			if i := strings.LastIndex(key[1], "."); i >= 0 {
				section = key[1][:i+1]
				rows[key[1]] = true
				continue
			}
			rows[section+key[1]] = true
		}
	}
	n := 0
	var walk func(reflect.Type, string)
	walk = func(typ reflect.Type, path string) {
		for _, f := range fieldsOf(typ) {
			here := join(path, f.key)
			if rows[here+".*"] {
				n++
				continue
			}
			if f.typ.Kind() == reflect.Struct && !reflect.PointerTo(f.typ).Implements(textType) {
				walk(f.typ, here)
				continue
			}
			n++
			if !rows[here] {
				t.Errorf("no row names %s", here)
			}
		}
	}
	walk(reflect.TypeFor[policies](), "")
	if n < 40 {
		t.Errorf("only %d keys were looked at", n)
	}
}
