package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/tidwall/gjson"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

// operation is a tool and the request that it makes.
type operation struct {
	tool   kit.Tool
	schema *jsonschema.Schema
	method string
	path   string            // {NAME} stands for an argument
	query  map[string]string // texts with {NAME} for arguments
	body   map[string]string // the same; dots nest
	header http.Header
	form   bool
	pick   string // of the answer
	// places is where arguments go that path, query and body do not mention.
	places map[string]place
}

// place is where an argument goes.
type place struct {
	in   string // query, body, header, whole (it is the body)
	name string
	// joined puts a list into one parameter, with this between its items; "" repeats the parameter.
	joined string
}

// api is a system whose operations are tools.
type api struct {
	client *kit.Client
	prefix string // before all paths
}

func newAPI(cfg *kit.Config, auth Auth, hidden ...string) (*api, error) {
	client, err := kit.NewClient(cfg, kit.ClientOptions{
		System: cfg.Name, Hidden: hidden,
		Authorize: func(r *http.Request) error {
			switch {
			case cfg.Token != "":
				name, prefix := auth.Header, auth.Prefix
				if name == "" {
					name = "Authorization"
				}
				if prefix == "" && strings.EqualFold(name, "Authorization") {
					prefix = "Bearer "
				}
				r.Header.Set(name, prefix+cfg.Token.Reveal())
			case cfg.Username != "":
				r.SetBasicAuth(cfg.Username, cfg.Password.Reveal())
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	return &api{client: client}, nil
}

// add makes a tool of o.
func (a *api) add(k *kit.Server, o *operation) error {
	return kit.AddDynamic(k, o.tool, o.schema, func(ctx context.Context, _ *kit.Call, args map[string]any) (any, error) {
		r, err := o.request(args)
		if err != nil {
			return nil, err
		}
		r.Path = a.prefix + r.Path
		var raw []byte
		header, err := a.client.Do(ctx, r, &raw)
		if err != nil {
			return nil, err
		}
		return o.result(a, header, raw)
	})
}

// result picks what is wanted of an answer.
func (o *operation) result(a *api, header http.Header, raw []byte) (any, error) {
	raw = []byte(a.client.Redact(string(raw))) // some systems repeat what they were sent
	if o.pick == "" {
		if kind := header.Get("Content-Type"); len(raw) > 0 && !json.Valid(raw) && !textual(kind) {
			return nil, fmt.Errorf("the answer is neither JSON nor text but %q of %d bytes", kind, len(raw))
		}
		return kit.NewJSON(raw), nil
	}
	if !json.Valid(raw) {
		return nil, &kit.Failure{Class: kit.ClassMalformed, Executed: true, Message: fmt.Sprintf("the answer is no JSON, of which %q could be taken (%d bytes)", o.pick, len(raw))}
	}
	found := gjson.GetBytes(raw, o.pick)
	if !found.Exists() {
		return nil, fmt.Errorf("the answer has nothing at %q (select in gateway.yaml); it begins: %s", o.pick, beginning(raw))
	}
	return kit.NewJSON([]byte(found.Raw)), nil
}

func textual(kind string) bool {
	return kind == "" || strings.HasPrefix(kind, "text/") || strings.Contains(kind, "json") || strings.Contains(kind, "xml") || strings.Contains(kind, "yaml")
}

func beginning(raw []byte) string {
	s := strings.ToValidUTF8(string(raw[:min(len(raw), 300)]), "")
	return strings.Join(strings.Fields(s), " ")
}

// request makes the request of a call.
func (o *operation) request(args map[string]any) (kit.Request, error) {
	used := map[string]bool{}
	path, err := o.expandPath(args, used)
	if err != nil {
		return kit.Request{}, err
	}
	r := kit.Request{Method: o.method, Path: path, Query: url.Values{}, Header: o.header.Clone()}
	body := map[string]any{}
	for name, text := range o.query {
		if v, ok := expand(text, args, used); ok {
			if s, ok := plain(v); ok {
				r.Query.Set(name, s)
			}
		}
	}
	for name, text := range o.body {
		if v, ok := expand(text, args, used); ok {
			nest(body, strings.Split(name, "."), v)
		}
	}
	for name, v := range args {
		if used[name] || v == nil {
			continue
		}
		at, ok := o.places[name]
		if !ok {
			at = place{in: "body", name: name}
			if bodiless(o.method) {
				at.in = "query"
			}
		}
		switch at.in {
		case "query":
			at.add(r.Query, v)
		case "header":
			s, ok := plain(v)
			if !ok || strings.ContainsAny(s, "\r\n\x00") {
				return r, fmt.Errorf("%s: not a value that a header can hold", name)
			}
			if r.Header == nil {
				r.Header = http.Header{}
			}
			r.Header.Set(at.name, s)
		case "whole":
			r.JSON = v
		default:
			body[at.name] = v
		}
	}
	switch {
	case bodiless(o.method) && len(body) == 0, r.JSON != nil:
	case o.form:
		r.Form = url.Values{}
		for name, v := range body {
			place{name: name}.add(r.Form, v)
		}
	case len(body) > 0 || len(o.body) > 0:
		r.JSON = body
	}
	return r, nil
}

// expandPath puts arguments into the path so that each stays one step of it.
func (o *operation) expandPath(args map[string]any, used map[string]bool) (string, error) {
	var fault error
	path := placeholder.ReplaceAllStringFunc(o.path, func(m string) string {
		name := m[1 : len(m)-1]
		used[name] = true
		s, ok := plain(args[name])
		if !ok || s == "" {
			fault = fmt.Errorf("%s: missing, or not a text or number: it is a part of the path", name)
		}
		return url.PathEscape(s)
	})
	if fault == nil && dots(path) {
		fault = errors.New(`the path must not hold a step of "." or ".."`)
	}
	return path, fault
}

// add puts a value into parameters.
func (p place) add(q url.Values, v any) {
	list, ok := v.([]any)
	if !ok {
		if s, ok := plain(v); ok {
			q.Set(p.name, s)
			return
		}
		raw, _ := json.Marshal(v)
		q.Set(p.name, string(raw))
		return
	}
	var texts []string
	for _, e := range list {
		s, ok := plain(e)
		if !ok {
			raw, _ := json.Marshal(e)
			s = string(raw)
		}
		texts = append(texts, s)
	}
	if p.joined != "" {
		texts = []string{strings.Join(texts, p.joined)}
	}
	q[p.name] = texts
}

// expand replaces the arguments in a text. A text that is one argument alone becomes its value. It reports false if one is not given.
func expand(text string, args map[string]any, used map[string]bool) (any, bool) {
	found := placeholder.FindAllStringSubmatch(text, -1)
	for _, m := range found {
		used[m[1]] = true
		if args[m[1]] == nil {
			return nil, false
		}
	}
	if len(found) == 1 && found[0][0] == text {
		return args[found[0][1]], true
	}
	return placeholder.ReplaceAllStringFunc(text, func(m string) string {
		s, ok := plain(args[m[1:len(m)-1]])
		if !ok {
			raw, _ := json.Marshal(args[m[1:len(m)-1]])
			s = string(raw)
		}
		return s
	}), true
}

// plain is a value as it stands in an address.
func plain(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case float64, bool, int:
		raw, _ := json.Marshal(v)
		return string(raw), true
	}
	return "", false
}

// nest puts a value below keys.
func nest(m map[string]any, keys []string, v any) {
	for _, k := range keys[:len(keys)-1] {
		in, ok := m[k].(map[string]any)
		if !ok {
			in = map[string]any{}
			m[k] = in
		}
		m = in
	}
	m[keys[len(keys)-1]] = v
}
