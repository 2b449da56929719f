// Package kittest calls the tools of built-in servers as a client does, and holds what they answer against what they promise.
package kittest

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

// Client is a client of one built-in server, in memory.
type Client struct {
	Tools    []*mcp.Tool
	Session  *mcp.ClientSession
	Progress chan string // texts of progress notifications; those that find it full are dropped
	schemas  map[string]*jsonschema.Schema
	called   map[string]bool
	token    int
}

// Connect returns a client of s. s is closed at the end of the test.
func Connect(t *testing.T, s *kit.Server) *Client {
	t.Helper()
	there, here := mcp.NewInMemoryTransports()
	if _, err := s.MCP().Connect(t.Context(), there, nil); err != nil {
		t.Fatal(err)
	}
	c := &Client{Progress: make(chan string, 100), schemas: map[string]*jsonschema.Schema{}, called: map[string]bool{}}
	session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, &mcp.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
			select {
			case c.Progress <- r.Params.Message:
			default:
			}
		},
	}).Connect(t.Context(), here, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = session.Close()
		_ = s.Close(t.Context())
	})
	c.Session = session
	list, err := session.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Tools = list.Tools
	for _, tool := range list.Tools {
		raw, _ := json.Marshal(tool.OutputSchema)
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(raw)))
		if err != nil {
			t.Fatal(err)
		}
		compiler := jsonschema.NewCompiler()
		if err := compiler.AddResource("file:///"+tool.Name, doc); err != nil {
			t.Fatal(err)
		}
		if c.schemas[tool.Name], err = compiler.Compile("file:///" + tool.Name); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// Result is what a call came to.
type Result struct {
	Text       string
	Structured map[string]any
	Raw        string       // structured content
	IsError    bool         // a result with isError
	Failure    *kit.Failure // set if the system failed
}

// Has reports whether the text or the structured content holds s.
func (r *Result) Has(s string) bool { return strings.Contains(r.Text, s) || strings.Contains(r.Raw, s) }

// Call calls a tool. It fails the test if the result breaks a promise: a size, a schema, the mark of the lab.
func (c *Client) Call(t *testing.T, name string, args map[string]any) *Result {
	t.Helper()
	c.called[name] = true
	c.token++
	params := &mcp.CallToolParams{Name: name, Arguments: args}
	params.SetProgressToken(c.token)
	res, err := c.Session.CallTool(t.Context(), params)
	if err != nil {
		rpc, ok := errors.AsType[*jsonrpc.Error](err)
		if !ok || rpc.Code != kit.CodeFailure {
			t.Fatalf("%s %v: %v", name, args, err)
		}
		f, err := kit.ParseFailure(rpc.Data)
		if err != nil {
			t.Fatal(err)
		}
		return &Result{Failure: f, Text: f.Message}
	}
	out := &Result{IsError: res.IsError}
	for _, content := range res.Content {
		if text, ok := content.(*mcp.TextContent); ok {
			out.Text += text.Text
		}
	}
	if strings.TrimSpace(out.Text) == "" {
		t.Errorf("%s: no text", name)
	}
	if res.IsError {
		return out
	}
	raw, _ := json.Marshal(res.StructuredContent)
	out.Raw = string(raw)
	if err := json.Unmarshal(raw, &out.Structured); err != nil {
		t.Errorf("%s: structured content: %v", name, err)
	}
	if len(raw)+len(out.Text) > 48<<10 {
		t.Errorf("%s %v: %d bytes", name, args, len(raw)+len(out.Text))
	}
	doc, _ := jsonschema.UnmarshalJSON(strings.NewReader(out.Raw))
	if schema := c.schemas[name]; schema == nil {
		t.Errorf("%s: no output schema", name)
	} else if err := schema.Validate(doc); err != nil {
		t.Errorf("%s %v: %v", name, args, err)
	}
	return out
}

// OK is Call for what must succeed.
func (c *Client) OK(t *testing.T, name string, args map[string]any) *Result {
	t.Helper()
	r := c.Call(t, name, args)
	if r.IsError || r.Failure != nil {
		t.Fatalf("%s %v: %s", name, args, r.Text)
	}
	return r
}

// Uncalled returns the tools that were not called yet.
func (c *Client) Uncalled() []string {
	var out []string
	for _, tool := range c.Tools {
		if !c.called[tool.Name] {
			out = append(out, tool.Name)
		}
	}
	return out
}

// CheckList fails the test if the list of tools costs a model more than tokens, or a tool lacks what every tool has.
func (c *Client) CheckList(t *testing.T, tokens int) {
	t.Helper()
	raw, _ := json.Marshal(c.Tools)
	t.Logf("%d tools, %d bytes, about %d tokens", len(c.Tools), len(raw), len(raw)/4)
	if len(raw)/4 > tokens {
		t.Errorf("the list has about %d tokens, more than %d", len(raw)/4, tokens)
	}
	for _, tool := range c.Tools {
		one, _ := json.Marshal(tool)
		t.Logf("%5d %s", len(one), tool.Name)
		if n := len(tool.Description); n < 60 || n > 160 || len(tool.Name) > 25 {
			t.Errorf("%s: description has %d characters", tool.Name, n)
		}
		if a := tool.Annotations; a == nil || a.DestructiveHint == nil || a.OpenWorldHint == nil || tool.Title == "" {
			t.Errorf("%s: annotations or title missing", tool.Name)
		}
	}
}
