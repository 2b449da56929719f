package config

import (
	"fmt"
	"os"
	"reflect"
	"slices"

	"github.com/mcpgw/mcpgw/gateway"
	"github.com/mcpgw/mcpgw/telemetry"
)

// Outline returns the section "gateway" of the named file, for commands that talk to a gateway that runs: it has the environment variables that
// the file names, and the shell in which the command was started need not. What depends on a variable that is not set is left out.
func Outline(path string) (*gateway.Config, error) {
	data, err := os.ReadFile(path) //nolint:gosec // the file is the one that the user names
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	if _, err := Verify(path, data); err != nil {
		return nil, err
	}
	missing := false
	lookup := func(name string) (string, bool) {
		v, ok := os.LookupEnv(name)
		missing = missing || !ok
		return v, ok
	}
	if f, err := Parse(path, data, lookup); err == nil {
		return &f.Settings.Gateway, nil
	} else if !missing {
		return nil, err
	}
	d := &decoder{faults: faults{file: path}, lookup: os.LookupEnv, budget: maxNodes, places: map[string]place{}, layers: map[string][]string{}}
	doc := newDocument()
	d.initial = doc.initial
	root := d.parse(data)
	if root == nil {
		return nil, d.err()
	}
	d.section(root, reflect.ValueOf(doc).Elem(), spot{node: root, field: field{typ: documentType}})
	doc.Gateway.Tokens = slices.DeleteFunc(doc.Gateway.Tokens, func(s telemetry.Secret) bool { return s == unknownText })
	if doc.Gateway.Listen == unknownText {
		return nil, fmt.Errorf("%s: gateway.listen names an environment variable that is not set here: say --url", path)
	}
	return &doc.Gateway, nil
}

// unknownText stands for a text that cannot be expanded: see scalar.
const unknownText = "?"
