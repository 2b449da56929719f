package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
	"github.com/mcpgw/mcpgw/telemetry"
)

// echo answers with what it was sent.
func echo(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		headers := map[string]string{}
		for k := range r.Header {
			headers[k] = r.Header.Get(k)
		}
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/v1/big":
			list := make([]map[string]any, 5000)
			for i := range list {
				list[i] = map[string]any{"id": i, "text": "a rather long text that fills the answer"}
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"rows": list}, "total": 5000})
			return
		case "/v1/number":
			_, _ = w.Write([]byte(`{"id":9007199254740993123,"items":[{"name":"a","id":1},{"name":"b","id":2}]}`))
			return
		case "/v1/text":
			w.Header().Set("Content-Type", "text/plain")
			_, _ = w.Write([]byte("all is well"))
			return
		case "/v1/refuse":
			w.WriteHeader(http.StatusConflict)
			_, _ = w.Write([]byte(`no: ` + headers["X-Api-Key"] + headers["X-Tool"]))
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"method": r.Method, "uri": r.RequestURI, "host": r.Host, "body": string(body), "headers": headers})
	}))
	t.Cleanup(s.Close)
	return s.URL + "/v1"
}

func connect(t *testing.T, k *kit.Server) *mcp.ClientSession {
	t.Helper()
	ct, st := mcp.NewInMemoryTransports()
	if _, err := k.MCP().Connect(t.Context(), st, nil); err != nil {
		t.Fatal(err)
	}
	c, err := mcp.NewClient(&mcp.Implementation{Name: "test"}, nil).Connect(t.Context(), ct, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); _ = k.Close(context.Background()) })
	return c
}

// call returns the structured content as JSON, or the text of an error.
func call(t *testing.T, c *mcp.ClientSession, tool string, args any) (raw, text string, isError bool) {
	t.Helper()
	res, err := c.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: args})
	if rpc, ok := errors.AsType[*jsonrpc.Error](err); ok {
		return "", rpc.Message, true
	}
	if err != nil {
		t.Fatal(err)
	}
	text = res.Content[0].(*mcp.TextContent).Text
	if res.StructuredContent != nil {
		b, _ := json.Marshal(res.StructuredContent)
		raw = string(b)
	}
	if n := len(raw) + len(text); n > 48<<10 {
		t.Errorf("%s: %d bytes", tool, n)
	}
	return raw, text, res.IsError
}

func args(names ...string) map[string]Arg {
	m := map[string]Arg{}
	for _, n := range names {
		a := DefaultArg()
		n, a.Type, _ = strings.Cut(n, ":")
		if a.Type == "" {
			a.Type = "string"
		}
		m[n] = a
	}
	return m
}

func yes() *bool { b := true; return &b }

func options() *Options {
	return &Options{Auth: Auth{Header: "X-Api-Key"}, Tools: []Tool{
		{Name: "get_user", Description: "One user.", Method: "GET", Path: "/users/{id}", Args: args("id", "limit:integer", "tags:array"), Query: map[string]string{"v": "2", "max": "{limit}"}},
		{Name: "create", Description: "Makes one.", Method: "POST", Path: "/users", Args: args("name", "age:integer", "note"), Body: map[string]string{"user.name": "{name}", "user.kind": "human"}, Headers: map[string]telemetry.Secret{"X-Tool": "planted-tool-2"}},
		{Name: "form", Description: "Sends a form.", Method: "PUT", Path: "/form", Args: args("a", "b:array"), Form: true, Effect: Effect{Destructive: new(bool), Idempotent: yes()}},
		{Name: "remove", Description: "Deletes one.", Method: "DELETE", Path: "/users/{id}", Args: args("id:integer")},
		{Name: "find", Description: "Searches, by POST.", Method: "POST", Path: "/number", Select: "items.#.name", Effect: Effect{ReadOnly: yes()}},
		{Name: "number", Description: "A large number.", Method: "GET", Path: "/number"},
		{Name: "nothing", Description: "Selects what is not there.", Method: "GET", Path: "/number", Select: "gone"},
		{Name: "big", Description: "A large answer.", Method: "GET", Path: "/big"},
		{Name: "text", Description: "A text.", Method: "GET", Path: "/text"},
		{Name: "refuse", Description: "Is refused.", Method: "GET", Path: "/refuse", Headers: map[string]telemetry.Secret{"X-Tool": "planted-tool-2"}},
	}}
}

func TestDeclaredTools(t *testing.T) {
	o := options()
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	k, err := New(kit.Config{Name: "api", URL: echo(t), Token: "planted-token-1", Access: kit.Full, Options: o})
	if err != nil {
		t.Fatal(err)
	}
	c := connect(t, k)
	for _, tc := range []struct {
		tool  string
		args  map[string]any
		error bool
		want  []string
	}{
		{"get_user", map[string]any{"id": "a/../../b?x#y", "limit": 5, "tags": []string{"x", "y"}}, false, []string{`"uri":"/v1/users/a%2F..%2F..%2Fb%3Fx%23y?max=5\u0026tags=x\u0026tags=y\u0026v=2"`, `"X-Api-Key":"[redacted]"`}},
		{"get_user", map[string]any{"id": ".."}, true, []string{`must not hold a step of`}},
		{"get_user", map[string]any{"id": ""}, true, []string{`id: missing`}},
		{"get_user", nil, true, []string{"wrong arguments"}},
		{"get_user", map[string]any{"id": "1", "host": "evil"}, true, []string{"wrong arguments"}},
		{"get_user", map[string]any{"id": "//evil.example/x"}, false, []string{`"uri":"/v1/users/%2F%2Fevil.example%2Fx?v=2"`, `"host":"127.0.0.1:`}},
		{"create", map[string]any{"name": "Ann", "age": 30}, false, []string{`"method":"POST"`, `{\"age\":30,\"user\":{\"kind\":\"human\",\"name\":\"Ann\"}}`, `"X-Tool":"[redacted]"`}},
		{"create", map[string]any{"age": json.Number("9007199254740993")}, false, []string{`9007199254740993`}},
		{"form", map[string]any{"a": "x y", "b": []string{"1", "2"}}, false, []string{`"body":"a=x+y\u0026b=1\u0026b=2"`, "x-www-form-urlencoded"}},
		{"remove", map[string]any{"id": 7}, false, []string{`"uri":"/v1/users/7"`, `"method":"DELETE"`, `"body":""`}},
		{"find", nil, false, []string{`{"items":["a","b"]}`}},
		{"number", nil, false, []string{"9007199254740993123"}},
		{"nothing", nil, true, []string{`nothing at "gone"`, "it begins:"}},
		{"big", nil, false, []string{"the longest list was cut", `"total":5000`}},
		{"text", nil, false, []string{`{"text":"all is well"}`}},
		{"refuse", nil, true, []string{"HTTP 409", "[redacted]"}},
	} {
		raw, text, isError := call(t, c, tc.tool, tc.args)
		if isError != tc.error {
			t.Errorf("%s %v: isError is %v: %s", tc.tool, tc.args, isError, text)
		}
		for _, want := range tc.want {
			if got := raw + text; !strings.Contains(got, want) {
				t.Errorf("%s %v lacks %q:\n%.2000s", tc.tool, tc.args, want, got)
			}
		}
		if strings.Contains(raw+text, "planted") {
			t.Errorf("%s shows a secret: %s %s", tc.tool, raw, text)
		}
	}
}

func TestAccessAndHints(t *testing.T) {
	for access, want := range map[kit.Access]string{
		kit.Read:    "big find get_user nothing number refuse text",
		kit.Operate: "big create find form get_user nothing number refuse text",
		kit.Full:    "big create find form get_user nothing number refuse remove text",
	} {
		k, err := New(kit.Config{Name: "api", URL: "https://192.0.2.1", Access: access, Options: options()})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for tool, err := range connect(t, k).Tools(t.Context(), nil) {
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, tool.Name)
			a := tool.Annotations
			got := fmt.Sprintf("%v %v %v", a.ReadOnlyHint, *a.DestructiveHint, a.IdempotentHint)
			hints := map[string]string{"create": "false true false", "form": "false false true", "remove": "false true false"}[tool.Name]
			if hints == "" {
				hints = "true false true"
			}
			if got != hints {
				t.Errorf("%s: read-only, destructive, idempotent are %s, want %s", tool.Name, got, hints)
			}
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: got %s", access, got)
		}
	}
}

func TestFaultsNameTheirKeys(t *testing.T) {
	o := &Options{Auth: Auth{Header: "Host"}, Tools: []Tool{
		{Name: "a b", Method: "GIT", Path: "users"},
		{Name: "x", Description: "d", Method: "GET", Path: "/{id}/../{x", Body: map[string]string{"a": "{b}"}, Effect: Effect{Access: "root", Destructive: yes()}},
		{Name: "x", Description: "d", Method: "POST", Path: "https://evil/{who}", Headers: map[string]telemetry.Secret{"a b": "c"}, Effect: Effect{Access: "read"}, Args: map[string]Arg{
			"n": {Type: "integer", Default: "one", Enum: []string{"1", "two"}}, "b-c": {Type: "text"},
		}},
	}}
	var got []string
	for _, err := range o.Validate().(interface{ Unwrap() []error }).Unwrap() {
		k, ok := errors.AsType[*kit.KeyError](err)
		if !ok {
			t.Fatalf("not a KeyError: %v", err)
		}
		got = append(got, k.Key)
	}
	want := "auth.header tools[0].name tools[0].description tools[0].method tools[0].path " +
		"tools[1].path tools[1].path tools[1].body.a tools[1].body tools[1].access tools[1].destructive " +
		"tools[2].name tools[2].path tools[2].path tools[2].args.b-c tools[2].args.b-c.type tools[2].args.n.default tools[2].args.n.enum[1] tools[2].headers.a b tools[2].access"
	if strings.Join(got, " ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, " "), want)
	}
}

const document = `openapi: 3.0.0
info: {title: t, version: "1"}
servers: [{url: /v1}]
paths:
  /users/{id}:
    parameters: [{name: id, in: path, required: true, schema: {type: integer}}]
    get: {operationId: users.get, tags: [users], summary: One user, description: "<p>Shows <b>one</b> user &amp; more.</p>", responses: {"200": {description: ok}}}
    delete: {operationId: users.delete, tags: [users], responses: {"204": {description: ok}}}
  /users:
    post:
      operationId: users.create
      tags: [users]
      requestBody: {required: true, content: {application/json: {schema: {$ref: "#/components/schemas/User"}}}}
      responses: {"201": {description: ok}}
    get:
      tags: [users, lists]
      parameters: [{name: ids, in: query, explode: false, schema: {type: array, items: {type: integer}}}, {name: X-Trace, in: header, schema: {type: string}}]
      responses: {"200": {description: ok}}
  /upload:
    post: {operationId: upload, tags: [files], requestBody: {required: true, content: {multipart/form-data: {schema: {type: object}}}}, responses: {"200": {description: ok}}}
components:
  schemas:
    User:
      type: object
      required: [name, id]
      properties:
        id: {type: integer, readOnly: true}
        name: {type: string, minLength: 0, nullable: true, example: Ann, xml: {name: n}, description: "<i>Name</i>"}
        boss: {$ref: "#/components/schemas/User"}
        huge: {type: string, description: "DESC"}
`

func openapi(t *testing.T, cfg kit.Config, change func(*OpenAPI)) (*kit.Server, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "api.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(document, "DESC", strings.Repeat("very long ", 2000))), 0o600); err != nil {
		t.Fatal(err)
	}
	o := DefaultOpenAPI()
	o.Document, o.Include = file, []string{"tag:users"}
	if change != nil {
		change(&o)
	}
	cfg.Name, cfg.Access, cfg.Options = "api", kit.Full, &o
	return NewOpenAPI(cfg)
}

func TestGeneratedTools(t *testing.T) {
	base := strings.TrimSuffix(echo(t), "/v1")
	k, err := openapi(t, kit.Config{URL: base}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := connect(t, k)
	var names []string
	for tool, err := range c.Tools(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, tool.Name)
		raw, _ := json.Marshal(tool)
		if len(raw) > maxTool+500 {
			t.Errorf("%s has %d bytes", tool.Name, len(raw))
		}
		for _, noise := range []string{"nullable", "readOnly\"", "xml", "example", "minLength", "<"} {
			if strings.Contains(string(raw), noise) {
				t.Errorf("%s holds %q: %s", tool.Name, noise, raw)
			}
		}
		switch schema, _ := json.Marshal(tool.InputSchema); tool.Name {
		case "users_create":
			if !strings.Contains(string(schema), `"boss":{"type":"object"}`) || strings.Contains(string(schema), `"id"`) || !strings.Contains(string(schema), `"required":["name"]`) {
				t.Errorf("got %s", schema)
			}
			fallthrough
		case "users_delete":
			if tool.Annotations.ReadOnlyHint {
				t.Errorf("%s is read-only", tool.Name)
			}
		case "users_get":
			if tool.Description != "One user. Shows one user & more." || !tool.Annotations.ReadOnlyHint {
				t.Errorf("got %q %+v", tool.Description, tool.Annotations)
			}
		}
	}
	if got := strings.Join(names, " "); got != "get_users users_create users_delete users_get" {
		t.Errorf("got %s", got)
	}
	for tool, tc := range map[string]struct {
		args map[string]any
		want string
	}{
		"users_get":    {map[string]any{"id": 3}, `"uri":"/v1/users/3"`},
		"get_users":    {map[string]any{"ids": []int{1, 2}, "X-Trace": "t1"}, `"X-Trace":"t1"},"host":"`},
		"users_create": {map[string]any{"name": "Ann"}, `"body":"{\"name\":\"Ann\"}"`},
	} {
		if raw, text, isError := call(t, c, tool, tc.args); isError || !strings.Contains(raw, tc.want) {
			t.Errorf("%s: %s %s", tool, raw, text)
		}
	}
}

func TestWhatIsLeftOutIsSaid(t *testing.T) {
	var logged strings.Builder
	log := slog.New(slog.NewTextHandler(&logged, nil))
	if _, err := openapi(t, kit.Config{URL: "https://192.0.2.1", Log: log}, func(o *OpenAPI) {
		o.Include, o.Exclude, o.MaxTools = []string{"*", "/users"}, []string{"DELETE /users/*"}, 2
		o.Tools = map[string]Override{"users.create": {Name: "add_user", Effect: Effect{Idempotent: yes()}}}
	}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"tools=2 left_out=2", "users_get (max_tools is 2)", "upload (its body is neither JSON nor a form)"} {
		if !strings.Contains(logged.String(), want) {
			t.Errorf("lacks %q: %s", want, logged.String())
		}
	}
	if strings.Contains(logged.String(), "users_delete") {
		t.Error("what is excluded is reported")
	}
	if _, err := openapi(t, kit.Config{URL: "https://192.0.2.1"}, func(o *OpenAPI) { o.Include = []string{"gone*"} }); err == nil || !strings.Contains(err.Error(), "no operation of") {
		t.Errorf("got %v", err)
	}
	bad := OpenAPI{MaxTools: 501}
	if err := bad.Validate(); err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("got %v", err)
	}
}

// A document at an address is read when a session begins, with the credentials only if it is on the system itself.
func TestDocumentAtAnAddress(t *testing.T) {
	up, seen := false, ""
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !up {
			http.Error(w, "starting", http.StatusServiceUnavailable)
			return
		}
		seen = r.Header.Get("Authorization")
		_, _ = w.Write([]byte(strings.ReplaceAll(document, "DESC", "d")))
	}))
	t.Cleanup(s.Close)
	for base, auth := range map[string]string{s.URL: "Bearer planted-token-1", "https://192.0.2.1": ""} {
		up = false
		k, err := openapi(t, kit.Config{URL: base, Token: "planted-token-1"}, func(o *OpenAPI) { o.Document = s.URL + "/openapi.yaml" })
		if err != nil {
			t.Fatalf("a document that cannot be read is no fault of the configuration: %v", err)
		}
		ct, st := mcp.NewInMemoryTransports()
		if _, err := k.MCP().Connect(t.Context(), st, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := mcp.NewClient(&mcp.Implementation{Name: "test"}, nil).Connect(t.Context(), ct, nil); err == nil || !strings.Contains(err.Error(), "503") {
			t.Fatalf("got %v", err)
		}
		up = true
		// The second server stands for a session after the pause.
		if k, err = openapi(t, kit.Config{URL: base, Token: "planted-token-1"}, func(o *OpenAPI) { o.Document = s.URL + "/openapi.yaml" }); err != nil {
			t.Fatal(err)
		}
		list, err := connect(t, k).ListTools(t.Context(), nil)
		if err != nil || len(list.Tools) != 4 || seen != auth {
			t.Errorf("%v, %q", err, seen)
		}
	}
}

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{{"a*", "abc", true}, {"*c", "abc", true}, {"a*b*c", "aXbYc", true}, {"a*b*c", "aXcYc", false}, {"abc", "abc", true}, {"*", "", true}, {"a*a", "a", false}} {
		if got := glob(c.pattern, c.s); got != c.want {
			t.Errorf("glob(%q, %q) is %v", c.pattern, c.s, got)
		}
	}
}
