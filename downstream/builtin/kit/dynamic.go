package kit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// AddDynamic adds a tool whose arguments are known only when the program runs, unless the access that s is configured with forbids it. It
// is as [Add] otherwise. The numbers among the arguments are json.Number, and what the schema gives a default is there. An error means
// that the schema is not one.
func AddDynamic(s *Server, t Tool, in *jsonschema.Schema, do func(context.Context, *Call, map[string]any) (any, error)) error {
	if in == nil || in.Type != "object" {
		return fmt.Errorf("input schema of %q: not of type object", t.Name)
	}
	resolved, err := in.Resolve(&jsonschema.ResolveOptions{ValidateDefaults: true})
	if err != nil {
		return fmt.Errorf("input schema of %q: %w", t.Name, err)
	}
	if t.Access > s.cfg.Access {
		return nil
	}
	s.mcp.AddTool(&mcp.Tool{
		Name: t.Name, Title: t.Title, Description: t.Description, InputSchema: in, Annotations: t.annotations(),
	}, func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		args, err := dynamicArguments(req.Params.Arguments, resolved)
		if err != nil {
			return refused(fmt.Errorf("%s: %w", t.Name, err)), nil
		}
		v, err := do(ctx, &Call{req, s.cfg.Simulated}, args)
		if err != nil {
			if failed, ok := wireError(ctx, err); ok {
				return nil, failed
			}
			return refused(err), nil
		}
		return s.result(v)
	})
	return nil
}

func dynamicArguments(raw json.RawMessage, schema *jsonschema.Resolved) (map[string]any, error) {
	if len(raw) == 0 || string(raw) == "null" {
		raw = json.RawMessage("{}")
	}
	judged, exact := map[string]any{}, map[string]any{}
	if err := json.Unmarshal(raw, &judged); err != nil {
		return nil, errors.New("the arguments must be a JSON object")
	}
	if err := schema.ApplyDefaults(&judged); err != nil {
		return nil, err
	}
	if err := schema.Validate(judged); err != nil {
		return nil, fmt.Errorf("wrong arguments: %w", err)
	}
	// Once more with the numbers as they were written: an id may have more digits than a float64.
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&exact); err != nil {
		return nil, err
	}
	for name, v := range judged {
		if _, ok := exact[name]; !ok {
			exact[name] = v
		}
	}
	return exact, nil
}

// JSON is structured content of any form, such as the answer of an API that is not known in detail. Numbers stay as they were written. A
// large one loses items of its largest list, and then its end.
type JSON struct {
	value any
	note  string
}

// NewJSON reads an answer. A text that is no JSON becomes {"text": …}, a list {"items": …}, another value {"value": …}.
func NewJSON(raw []byte) *JSON {
	if len(bytes.TrimSpace(raw)) == 0 {
		return &JSON{value: map[string]any{"result": "done; the answer is empty"}}
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil || d.More() {
		return &JSON{value: map[string]any{"text": string(bytes.ToValidUTF8(raw, []byte("�")))}}
	}
	switch t := v.(type) {
	case map[string]any:
	case []any:
		v = map[string]any{"items": t}
	default:
		v = map[string]any{"value": t}
	}
	return &JSON{value: v}
}

// MarshalJSON implements json.Marshaler.
func (j *JSON) MarshalJSON() ([]byte, error) {
	if m, ok := j.value.(map[string]any); ok && j.note != "" {
		m["note"] = j.note
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(j.value)
	return bytes.TrimSpace(b.Bytes()), err
}

// Shrink implements Shrinker.
func (j *JSON) Shrink() bool {
	if list, size, put := largest(j.value, 3); len(list) > 1 && size > 1<<10 {
		put(list[:len(list)*3/4])
		j.note = "the answer was too large: the longest list was cut. Ask for less, by a filter or a page."
		return true
	}
	m, ok := j.value.(map[string]any)
	if !ok {
		return false
	}
	if text, ok := m["text"].(string); ok && len(m) <= 2 {
		if len(text) < 2<<10 {
			return false
		}
		m["text"] = clip(text, len(text)*3/4)
		return true
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return false
	}
	j.value = map[string]any{"text": clip(string(raw), 20<<10)}
	j.note = "the answer was too large: this is its beginning, as text. Ask for less, by a filter or a page."
	return true
}

// largest finds the list with the most bytes among the members of v, and how to put another in its place.
func largest(v any, depth int) (list []any, size int, put func([]any)) {
	m, ok := v.(map[string]any)
	if !ok || depth == 0 {
		return nil, 0, nil
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		var (
			l []any
			n int
			p func([]any)
		)
		if in, ok := m[k].([]any); ok {
			raw, err := json.Marshal(in)
			if err != nil {
				continue
			}
			l, n, p = in, len(raw), func(short []any) { m[k] = short }
		} else {
			l, n, p = largest(m[k], depth-1)
		}
		if n > size {
			list, size, put = l, n, p
		}
	}
	return list, size, put
}
