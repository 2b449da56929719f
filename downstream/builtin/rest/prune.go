package rest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"iter"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/jsonschema-go/jsonschema"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

// maxTool bounds what one tool takes of a list, in bytes.
const maxTool = 8 << 10

func mapKeys[V any](m map[string]V) iter.Seq[string] { return maps.Keys(m) }

// generate makes a tool of an operation, with as much of its schema as there is room for.
func generate(method, path string, item *openapi3.PathItem, op *openapi3.Operation, opts *OpenAPI) (*operation, error) {
	name := nameOf(method, path, op)
	over, ok := opts.Tools[op.OperationID]
	if !ok {
		over = opts.Tools[name]
	}
	if !slices.Contains(methods, method) {
		return nil, fmt.Errorf("%s is not supported", method)
	}
	o := &operation{
		method: method, path: path, pick: over.Select, places: map[string]place{},
		tool: kit.Tool{Name: cmp.Or(over.Name, name), Title: text(op.Summary, 80)},
	}
	over.apply(&o.tool, method)
	o.tool.Description = cmp.Or(over.Description, text(about(op), 300), method+" "+path)
	// A schema that is too large loses depth and descriptions before it is given up.
	for _, p := range []pruner{{depth: 6, words: 160}, {depth: 4, words: 100}, {depth: 3, words: 60}, {depth: 2, words: 40}, {depth: 2}, {depth: 1}} {
		if err := o.arguments(item, op, p); err != nil {
			return nil, err
		}
		raw, err := json.Marshal(o.schema)
		if err != nil {
			return nil, err
		}
		if len(raw)+len(o.tool.Description) <= maxTool {
			return o, nil
		}
	}
	return nil, fmt.Errorf("its arguments take more than %d bytes", maxTool)
}

func about(op *openapi3.Operation) string {
	if op.Summary == "" || strings.HasPrefix(op.Description, op.Summary) {
		return op.Description
	}
	return strings.TrimRight(op.Summary, ". ") + ". " + op.Description
}

// arguments makes the schema of the arguments, and notes where they go.
func (o *operation) arguments(item *openapi3.PathItem, op *openapi3.Operation, p pruner) error {
	properties, required := map[string]any{}, []string{}
	o.places = map[string]place{}
	for _, ref := range append(append(openapi3.Parameters{}, op.Parameters...), item.Parameters...) {
		if ref == nil || ref.Value == nil {
			continue
		}
		in := ref.Value
		if _, twice := properties[in.Name]; twice { // that of the operation comes before that of the path
			continue
		}
		at := place{in: in.In, name: in.Name}
		switch in.In {
		case openapi3.ParameterInPath:
		case openapi3.ParameterInQuery:
			if in.Explode != nil && !*in.Explode {
				at.joined = ","
			}
		case openapi3.ParameterInHeader:
			if !headerName(in.Name) || slices.ContainsFunc([]string{"Authorization", "Accept", "Cookie"}, func(s string) bool { return strings.EqualFold(s, in.Name) }) {
				continue
			}
		default:
			continue
		}
		schema := p.schema(in.Schema, p.depth, nil)
		if d := text(in.Description, p.words); d != "" {
			schema["description"] = d
		}
		properties[in.Name], o.places[in.Name] = schema, at
		if in.Required || in.In == openapi3.ParameterInPath {
			required = append(required, in.Name)
		}
	}
	for _, m := range placeholder.FindAllStringSubmatch(o.path, -1) {
		if _, ok := properties[m[1]]; !ok {
			properties[m[1]] = map[string]any{"type": "string"}
			required = append(required, m[1])
		}
	}
	if err := o.bodyArguments(op, p, properties, &required); err != nil {
		return err
	}
	slices.Sort(required)
	raw, err := json.Marshal(map[string]any{"type": "object", "properties": properties, "required": slices.Compact(required), "additionalProperties": false})
	if err != nil {
		return err
	}
	o.schema = &jsonschema.Schema{}
	return json.Unmarshal(raw, o.schema)
}

// bodyArguments makes arguments of the members of the body, or one of all of it.
func (o *operation) bodyArguments(op *openapi3.Operation, p pruner, properties map[string]any, required *[]string) error {
	if op.RequestBody == nil || op.RequestBody.Value == nil || o.method == http.MethodGet || o.method == http.MethodHead {
		return nil
	}
	body := op.RequestBody.Value
	media := body.Content.Get("application/json")
	if form := body.Content["application/x-www-form-urlencoded"]; media == nil && form != nil {
		media, o.form = form, true
	}
	if media == nil || media.Schema == nil {
		if !body.Required && media == nil {
			return nil
		}
		return errors.New("its body is neither JSON nor a form")
	}
	schema := p.schema(media.Schema, p.depth, nil)
	members, _ := schema["properties"].(map[string]any)
	clash := len(members) == 0
	for name := range members {
		if _, there := properties[name]; there {
			clash = true
		}
	}
	if clash {
		if _, there := properties["body"]; there {
			return errors.New(`its body and its parameters have members of the same names, and one is called "body"`)
		}
		properties["body"], o.places["body"] = schema, place{in: "whole"}
		if body.Required {
			*required = append(*required, "body")
		}
		return nil
	}
	for name, member := range members {
		properties[name], o.places[name] = member, place{in: "body", name: name}
	}
	if names, ok := schema["required"].([]string); ok && body.Required {
		*required = append(*required, names...)
	}
	return nil
}

// pruner shortens schemas: models pay for every byte of them.
type pruner struct {
	depth int
	words int // bytes of each description; 0 drops them
}

// schema returns what matters of a schema to whoever fills it in. above are the schemas around it: some contain themselves.
func (p pruner) schema(ref *openapi3.SchemaRef, depth int, above []*openapi3.Schema) map[string]any {
	out := map[string]any{}
	if ref == nil || ref.Value == nil {
		return out
	}
	s := ref.Value
	kind := kindOf(s)
	if kind != "" {
		out["type"] = kind
	}
	if d := text(s.Description, p.words); d != "" {
		out["description"] = d
	}
	if depth <= 0 || slices.Contains(above, s) {
		return out
	}
	above = append(slices.Clone(above), s)
	p.values(s, out)
	if kind == "array" {
		if items := p.schema(s.Items, depth-1, above); len(items) > 0 {
			out["items"] = items
		}
	}
	p.members(s, out, depth, above)
	for _, list := range []openapi3.SchemaRefs{s.OneOf, s.AnyOf} {
		var choices []any
		for _, one := range list {
			if c := p.schema(one, depth-1, above); len(c) > 0 {
				choices = append(choices, c)
			}
		}
		if len(choices) == 1 {
			for k, v := range choices[0].(map[string]any) {
				if _, there := out[k]; !there {
					out[k] = v
				}
			}
		} else if len(choices) == len(list) && len(choices) > 0 {
			// A value may fit several once they are shortened, which oneOf forbids.
			out["anyOf"] = choices
		}
	}
	return out
}

// values takes over what a plain value must be.
func (p pruner) values(s *openapi3.Schema, out map[string]any) {
	if len(s.Enum) > 0 {
		values := slices.Clone(s.Enum)
		if s.Nullable {
			values = slices.DeleteFunc(values, func(v any) bool { return v == nil })
		}
		const most = 40
		if len(values) > 0 && len(values) <= most {
			out["enum"] = values
		}
	}
	if s.Default != nil && p.words > 0 {
		// A default in the schema would be sent with each call; the system knows its own.
		if raw, err := json.Marshal(s.Default); err == nil && len(raw) < 60 {
			if d, ok := out["description"].(string); ok {
				out["description"] = d + " (default " + string(raw) + ")"
			}
		}
	}
	if s.Min != nil && *s.Min != 0 {
		out["minimum"] = *s.Min
	}
	if s.Max != nil {
		out["maximum"] = *s.Max
	}
	if s.MinLength > 0 {
		out["minLength"] = s.MinLength
	}
	if s.MaxLength != nil && out["type"] == "string" {
		out["maxLength"] = *s.MaxLength
	}
}

// members takes over the members of an object, those of its parts (allOf) with them.
func (p pruner) members(s *openapi3.Schema, out map[string]any, depth int, above []*openapi3.Schema) {
	properties, required := map[string]any{}, []string{}
	for _, name := range slices.Sorted(mapKeys(s.Properties)) {
		member := s.Properties[name]
		if member == nil || member.Value == nil || member.Value.ReadOnly || member.Value.Deprecated {
			continue
		}
		properties[name] = p.schema(member, depth-1, above)
		if slices.Contains(s.Required, name) {
			required = append(required, name)
		}
	}
	for _, part := range s.AllOf {
		whole := p.schema(part, depth, above)
		for k, v := range whole {
			switch k {
			case "properties":
				maps.Copy(properties, v.(map[string]any))
			case "required":
				required = append(required, v.([]string)...)
			default:
				if _, there := out[k]; !there {
					out[k] = v
				}
			}
		}
	}
	if len(properties) > 0 {
		out["type"], out["properties"] = "object", properties
	}
	if len(required) > 0 {
		slices.Sort(required)
		out["required"] = slices.Compact(required)
	}
}

// kindOf is the type without "or null".
func kindOf(s *openapi3.Schema) string {
	for _, t := range s.Type.Slice() {
		if t != "null" {
			if len(s.Type.Slice()) > 2 {
				return "" // several: anything goes
			}
			return t
		}
	}
	return ""
}

var tags = regexp.MustCompile(`(?s)<!--.*?-->|<[a-zA-Z/][^<>]*>`)

// text makes a plain line of a description in HTML or Markdown, of at most n bytes.
func text(s string, n int) string {
	if n <= 0 {
		return ""
	}
	s = strings.Join(strings.Fields(html.UnescapeString(tags.ReplaceAllString(s, " "))), " ")
	if len(s) <= n {
		return s
	}
	n -= len("…")
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return strings.TrimRight(s[:n], " ,.;") + "…"
}
