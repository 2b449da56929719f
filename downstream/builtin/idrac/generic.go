package idrac

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

type getArgs struct {
	Path   string   `json:"path" jsonschema:"such as /redfish/v1/Systems"`
	Select []string `json:"select,omitempty" jsonschema:"only these members"`
}

// resource is what redfish_get answers.
type resource struct {
	Path     string    `json:"path"`
	Resource *kit.JSON `json:"resource"`
}

// Shrink implements kit.Shrinker.
func (r *resource) Shrink() bool { return r.Resource.Shrink() }

func (b *bmc) addGeneric(s *kit.Server) {
	kit.Add(s, kit.Tool{
		Name: "redfish_get", Title: "Any resource",
		Description: "Read any Redfish resource by its path, when no other tool shows it. @odata.id members are paths to go on with.",
	}, b.get)
}

// secretForm are names of members whose values nobody needs to see.
var secretForm = regexp.MustCompile(`(?i)(password|passphrase|secret|community|privatekey|authenticationkey|encryptionkey|token)`)

func (b *bmc) get(ctx context.Context, _ *kit.Call, in getArgs) (*resource, error) {
	at, err := local(in.Path)
	if err != nil {
		return nil, err
	}
	if strings.ContainsAny(at, "?#") {
		return nil, fmt.Errorf("path %q: expected no query; select picks members", in.Path)
	}
	var raw []byte
	if _, err := b.send(ctx, kit.Request{Path: at}, &raw); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v map[string]any
	if err := d.Decode(&v); err != nil {
		return nil, &kit.Failure{Class: kit.ClassMalformed, Executed: true, Message: fmt.Sprintf("%s answered something at %s that is no Redfish resource: %v", b.system, at, err)}
	}
	if len(in.Select) > 0 {
		if v, err = picked(v, in.Select); err != nil {
			return nil, err
		}
	}
	hide(v)
	clean, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return &resource{at, kit.NewJSON(clean)}, nil
}

// picked are the members with the names. It is done here, because few controllers can ($select).
func picked(v map[string]any, names []string) (map[string]any, error) {
	out := map[string]any{}
	for _, n := range names {
		if m, ok := v[n]; ok {
			out[n] = m
		}
	}
	if len(out) == 0 {
		there := make([]string, 0, len(v))
		for k := range v {
			if !strings.HasPrefix(k, "@") {
				there = append(there, k)
			}
		}
		return nil, fmt.Errorf("select: the resource has none of %s (there is: %s)", strings.Join(names, ", "), strings.Join(sorted(there), ", "))
	}
	return out, nil
}

// hide takes the values of secrets out of a resource.
func hide(v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, m := range v {
			if s, ok := m.(string); ok && s != "" && secretForm.MatchString(k) && !strings.Contains(k, "@") {
				v[k] = "[redacted]"
				continue
			}
			hide(m)
		}
	case []any:
		for _, m := range v {
			hide(m)
		}
	}
}
