// Package rest makes tools of an HTTP API: those that the preset "http" declares in gateway.yaml, and those that the preset "openapi" takes
// from a document. The address of the system is never a part of what a caller can say.
package rest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/textproto"
	"regexp"
	"slices"
	"strings"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
	"github.com/mcpgw/mcpgw/telemetry"
)

// Options is the section "http" of a downstream.
type Options struct {
	Auth  Auth   `yaml:"auth" doc:"How token is sent."`
	Tools []Tool `yaml:"tools" doc:"The tools."`
}

// Auth says how the token of a downstream is sent.
type Auth struct {
	Header string `yaml:"header" default:"Authorization" doc:"Header that holds token."`
	Prefix string `yaml:"prefix" doc:"What stands before token, such as \"Token \". Default: \"Bearer \" in Authorization, nothing in any other header."`
}

// Tool is one request that callers can have made.
type Tool struct {
	Name        string                      `yaml:"name" doc:"Name of the tool: letters, digits, '-' and '_'."`
	Title       string                      `yaml:"title" doc:"Name for people."`
	Description string                      `yaml:"description" doc:"What it tells or does and when to use it. Models choose by it."`
	Method      string                      `yaml:"method" default:"GET" enum:"GET|HEAD|POST|PUT|PATCH|DELETE" doc:"HTTP method."`
	Path        string                      `yaml:"path" doc:"Path below url, such as /users/{id}. {NAME} is an argument, which is escaped."`
	Args        map[string]Arg              `yaml:"args" doc:"Arguments, by name. What neither path nor query nor body mentions goes into the query (GET, HEAD, DELETE) or the body, under its own name."`
	Query       map[string]string           `yaml:"query" doc:"Parameters of the query: fixed texts, or with {NAME} for an argument. One whose argument is not given is left out."`
	Body        map[string]string           `yaml:"body" doc:"Members of the JSON body: fixed texts, or {NAME} for the value of an argument. Dots nest: filter.name."`
	Form        bool                        `yaml:"form" default:"false" doc:"Send the body as a form rather than as JSON."`
	Headers     map[string]telemetry.Secret `yaml:"headers" doc:"HTTP headers of this request, besides those of the downstream."`
	Select      string                      `yaml:"select" doc:"Part of the JSON answer to return, as a gjson path: data.items, items.#.name, items.#.{id,name}."`
	Effect      `yaml:",inline"`
}

// Effect says what a tool does to the system.
type Effect struct {
	ReadOnly    *bool  `yaml:"read_only" doc:"It changes nothing, so it may be called freely and repeated. Default: true for GET and HEAD."`
	Destructive *bool  `yaml:"destructive" doc:"It deletes, overwrites or interrupts. Default: true unless read_only."`
	Idempotent  *bool  `yaml:"idempotent" doc:"Doing it twice changes nothing more, so it may be repeated. Default: only if read_only."`
	Access      string `yaml:"access" enum:"read|operate|full" doc:"Level of access from which on the tool exists. Default: read if read_only, full for DELETE, operate for the rest."`
}

// Arg is an argument of a tool.
type Arg struct {
	Type        string   `yaml:"type" default:"string" enum:"string|integer|number|boolean|array|object" doc:"What it is."`
	Description string   `yaml:"description" doc:"What it means."`
	Required    bool     `yaml:"required" default:"false" doc:"It must be given. Arguments in the path are, unless they have a default."`
	Enum        []string `yaml:"enum" doc:"The values that it may have."`
	Default     string   `yaml:"default" doc:"Value where none is given."`
	Items       string   `yaml:"items" default:"string" enum:"string|integer|number|boolean|object" doc:"What an array consists of."`
}

// DefaultTool returns a Tool with every default filled in.
func DefaultTool() Tool { return Tool{Method: http.MethodGet} }

// DefaultArg returns an Arg with every default filled in.
func DefaultArg() Arg { return Arg{Type: "string", Items: "string"} }

// DefaultAuth returns an Auth with every default filled in.
func DefaultAuth() Auth { return Auth{Header: "Authorization"} }

var (
	toolName    = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	argName     = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	placeholder = regexp.MustCompile(`\{([^{}]*)\}`)
	methods     = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}
	types       = []string{"string", "integer", "number", "boolean", "array", "object"}
)

// Validate reports every fault of o, joined, each a *[kit.KeyError].
func (o *Options) Validate() error {
	var f kit.Faults
	o.Auth.validate(&f)
	if len(o.Tools) == 0 {
		f.Add("tools", "missing: expected at least one tool")
	}
	seen := map[string]int{}
	for i := range o.Tools {
		t, key := &o.Tools[i], fmt.Sprintf("tools[%d].", i)
		switch first, twice := seen[t.Name]; {
		case !toolName.MatchString(t.Name):
			f.Add(key+"name", "expected 1 to 64 letters, digits, '-' and '_', found %q", t.Name)
		case twice:
			f.Add(key+"name", "tools[%d] is called so too", first)
		}
		seen[t.Name] = i
		t.validate(&f, key)
	}
	return f.Err()
}

func (a *Auth) validate(f *kit.Faults) {
	if a.Header != "" && !headerName(a.Header) {
		f.Add("auth.header", "not the name of a header that can be set, found %q", a.Header)
	}
	if strings.ContainsAny(a.Prefix, "\r\n") {
		f.Add("auth.prefix", "must not hold a line break")
	}
}

func headerName(s string) bool {
	for _, own := range []string{"Host", "Content-Length", "Transfer-Encoding", "Connection", "Content-Type"} {
		if strings.EqualFold(s, own) {
			return false
		}
	}
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune("\"(),/:;<=>?@[\\]{}", r)
	}) && textproto.CanonicalMIMEHeaderKey(s) != ""
}

func (t *Tool) validate(f *kit.Faults, key string) {
	if strings.TrimSpace(t.Description) == "" {
		f.Add(key+"description", "missing: models choose tools by what it says")
	}
	if !slices.Contains(methods, t.Method) {
		f.Add(key+"method", "expected one of %s, found %q", strings.Join(methods, ", "), t.Method)
	}
	switch plain := placeholder.ReplaceAllString(t.Path, "x"); {
	case !strings.HasPrefix(t.Path, "/"):
		f.Add(key+"path", "expected a path below url that begins with a slash, such as /users/{id}, found %q", t.Path)
	case strings.ContainsAny(plain, "{}?#\\ \r\n"):
		f.Add(key+"path", "must not hold ? # \\ or spaces, nor { and } but around the name of an argument; parameters belong into query")
	case dots(plain):
		f.Add(key+"path", "must not hold a step of . or ..")
	}
	used := map[string]bool{}
	refer := func(at, text string) {
		for _, m := range placeholder.FindAllStringSubmatch(text, -1) {
			used[m[1]] = true
			if _, ok := t.Args[m[1]]; !ok {
				f.Add(at, "{%s} is no argument of this tool (args has: %s)", m[1], strings.Join(slices.Sorted(maps.Keys(t.Args)), ", "))
			}
		}
	}
	refer(key+"path", t.Path)
	for _, k := range slices.Sorted(maps.Keys(t.Query)) {
		refer(key+"query."+k, t.Query[k])
	}
	for _, k := range slices.Sorted(maps.Keys(t.Body)) {
		refer(key+"body."+k, t.Body[k])
	}
	if bodiless(t.Method) && len(t.Body) > 0 {
		f.Add(key+"body", "%s has no body", t.Method)
	}
	for _, name := range slices.Sorted(maps.Keys(t.Args)) {
		a := t.Args[name]
		a.validate(f, key+"args."+name, name)
	}
	for _, name := range slices.Sorted(maps.Keys(t.Headers)) {
		if !headerName(name) {
			f.Add(key+"headers."+name, "not the name of a header that can be set")
		}
	}
	t.Effect.validate(f, key, t.Method)
}

func (a *Arg) validate(f *kit.Faults, key, name string) {
	if !argName.MatchString(name) {
		f.Add(key, "expected a name of letters, digits and '_'")
	}
	if !slices.Contains(types, a.Type) {
		f.Add(key+".type", "expected one of %s, found %q", strings.Join(types, ", "), a.Type)
		return
	}
	if a.Default != "" {
		if _, err := a.value(a.Default); err != nil {
			f.Add(key+".default", "expected a value of type %s, found %q", a.Type, a.Default)
		} else if len(a.Enum) > 0 && !slices.Contains(a.Enum, a.Default) {
			f.Add(key+".default", "expected one of %s, found %q", strings.Join(a.Enum, ", "), a.Default)
		}
	}
	for i, e := range a.Enum {
		if _, err := a.value(e); err != nil {
			f.Add(fmt.Sprintf("%s.enum[%d]", key, i), "expected a value of type %s, found %q", a.Type, e)
		}
	}
}

// value reads a text of the file as what the argument is.
func (a *Arg) value(s string) (any, error) {
	if a.Type == "string" {
		return s, nil
	}
	var v any
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		return nil, err
	}
	ok := false
	switch t := v.(type) {
	case float64:
		ok = a.Type == "number" || a.Type == "integer" && t == float64(int64(t))
	case bool:
		ok = a.Type == "boolean"
	case []any:
		ok = a.Type == "array"
	case map[string]any:
		ok = a.Type == "object"
	}
	if !ok {
		return nil, fmt.Errorf("not of type %s", a.Type)
	}
	return v, nil
}

func (e *Effect) validate(f *kit.Faults, key, method string) {
	if e.Access != "" {
		if _, err := kit.ParseAccess(e.Access); err != nil {
			f.Add(key+"access", "%v", err)
		}
	}
	if e.readOnly(method) {
		if e.Destructive != nil && *e.Destructive {
			f.Add(key+"destructive", "a tool that is read_only destroys nothing")
		}
	} else if e.Access == "read" {
		f.Add(key+"access", "read is for tools that change nothing: set read_only: true if that is so of this %s", method)
	}
}

func (e *Effect) readOnly(method string) bool {
	if e.ReadOnly != nil {
		return *e.ReadOnly
	}
	return method == http.MethodGet || method == http.MethodHead
}

// apply puts the annotations and the level of access into t. HTTP promises more of PUT and DELETE than many systems keep (an id that is a
// position names another object the second time), so they count as idempotent only where the owner says so.
func (e *Effect) apply(t *kit.Tool, method string) {
	is := func(b *bool, otherwise bool) bool {
		if b != nil {
			return *b
		}
		return otherwise
	}
	read := e.readOnly(method)
	t.Hints = &kit.Hints{ReadOnly: read, Destructive: !read && is(e.Destructive, true), Idempotent: read || is(e.Idempotent, false)}
	switch {
	case e.Access != "":
		t.Access, _ = kit.ParseAccess(e.Access) // Validate has seen it
	case read:
		t.Access = kit.Read
	case method == http.MethodDelete:
		t.Access = kit.Full
	default:
		t.Access = kit.Operate
	}
}

func bodiless(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodDelete
}

// dots says whether a path has a step that means another folder.
func dots(path string) bool {
	for step := range strings.SplitSeq(path, "/") {
		if step == "." || step == ".." {
			return true
		}
	}
	return false
}
