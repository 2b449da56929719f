package kit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// MaxResult bounds a whole result, text and structured content together, in bytes. Larger ones are cut by clients, or stored away from the
// model (systems.md §4.4).
const MaxResult = 47 << 10

// Tool describes one tool.
type Tool struct {
	Name        string // snake_case, without the system's name
	Title       string
	Description string // for a model: what it tells or does, when to use it, what to pass
	Access      Access // Read for tools that change nothing
	Idempotent  bool   // doing it twice changes nothing more; of no meaning for Read
	Destructive bool   // it deletes, overwrites or interrupts
	Hints       *Hints // nil derives them from Access, Idempotent and Destructive
	Adjust      func(*jsonschema.Schema)
}

// Hints are the annotations of a tool for which the level of access does not say it all, such as one that changes nothing but costs money.
type Hints struct{ ReadOnly, Destructive, Idempotent, OpenWorld bool }

func (t *Tool) annotations() *mcp.ToolAnnotations {
	read := t.Access == Read
	h := Hints{ReadOnly: read, Destructive: t.Destructive && !read, Idempotent: read || t.Idempotent}
	if t.Hints != nil {
		h = *t.Hints
	}
	return &mcp.ToolAnnotations{
		ReadOnlyHint: h.ReadOnly, DestructiveHint: &h.Destructive, IdempotentHint: h.Idempotent, OpenWorldHint: &h.OpenWorld,
	}
}

// Texter is structured content that says by itself what it tells people; other content is shown by [Text].
type Texter interface{ Text() string }

// Shrinker is structured content that can leave out some of what it holds. It reports false when it cannot.
type Shrinker interface{ Shrink() bool }

// Call is one call of a tool under way.
type Call struct {
	request   *mcp.CallToolRequest
	simulated bool
}

// Progress tells the client how far the call is, if it wants to know; total 0 means unknown. Errors are of no use to the caller.
func (c *Call) Progress(ctx context.Context, done, total float64, text string) {
	token := c.request.Params.GetProgressToken()
	if token == nil || c.request.Session == nil {
		return
	}
	_ = c.request.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: done, Total: total, Message: text})
}

// WantsProgress reports whether the client hears what [Call.Progress] tells. Whoever works for long without it has to answer before the
// client, or the gateway, gives up.
func (c *Call) WantsProgress() bool {
	return c.request.Session != nil && c.request.Params.GetProgressToken() != nil
}

// Add adds a tool to s unless the access that s is configured with forbids it. do returns the structured content, a struct or a pointer to
// one. An error that is a [*Failure] goes to the gateway's policies, any other becomes a result with isError that shows its text.
//
// The panics of Add are faults of the program: a type without a schema, an argument that does not exist.
func Add[In, Out any](s *Server, t Tool, do func(context.Context, *Call, In) (Out, error)) {
	if t.Access > s.cfg.Access {
		return
	}
	in, err := inputSchema[In](t.Adjust)
	if err != nil {
		panic(err)
	}
	out, err := outputSchema[Out]()
	if err != nil {
		panic(err)
	}
	if s.cfg.Simulated {
		if out.Properties == nil {
			out.Properties = map[string]*jsonschema.Schema{}
		}
		out.Properties["simulated"] = &jsonschema.Schema{Type: "boolean"}
	}
	resolved, err := in.Resolve(&jsonschema.ResolveOptions{ValidateDefaults: true})
	if err != nil {
		panic(fmt.Errorf("input schema of %q: %w", t.Name, err))
	}
	s.mcp.AddTool(&mcp.Tool{
		Name: t.Name, Title: t.Title, Description: t.Description, InputSchema: in, OutputSchema: out,
		Annotations: t.annotations(),
	}, func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		args, err := arguments[In](req.Params.Arguments, resolved)
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
}

// arguments validates and decodes the arguments of a call.
func arguments[In any](raw json.RawMessage, schema *jsonschema.Resolved) (In, error) {
	var in In
	if len(raw) == 0 || string(raw) == "null" {
		raw = json.RawMessage("{}")
	}
	members := map[string]any{}
	if err := json.Unmarshal(raw, &members); err != nil {
		return in, errors.New("the arguments must be a JSON object")
	}
	if err := schema.ApplyDefaults(&members); err != nil {
		return in, err
	}
	if err := schema.Validate(members); err != nil {
		return in, fmt.Errorf("wrong arguments: %w", err)
	}
	whole, err := json.Marshal(members)
	if err != nil {
		return in, err
	}
	d := json.NewDecoder(bytes.NewReader(whole))
	return in, d.Decode(&in)
}

func refused(err error) *mcp.CallToolResult {
	return &mcp.CallToolResult{IsError: true, Content: []mcp.Content{&mcp.TextContent{Text: clip(err.Error(), MaxResult/2)}}}
}

// result makes the result of a tool. It leaves out items until the result is small enough.
func (s *Server) result(v any) (*mcp.CallToolResult, error) {
	for {
		structured, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("structured content: %w", err)
		}
		text, err := textOf(v, structured)
		if err != nil {
			return nil, err
		}
		if s.cfg.Simulated {
			text = simulatedNote + "\n" + text
			structured = marked(structured)
		}
		if len(structured)+len(text) > MaxResult {
			if c, ok := v.(Shrinker); ok && c.Shrink() {
				continue
			}
			if len(structured) > MaxResult*3/4 {
				return refused(fmt.Errorf("the answer has %d bytes, which is more than a result may hold (%d): ask for less, by a filter, fewer fields or a smaller limit",
					len(structured), MaxResult)), nil
			}
			text = clip(text, MaxResult-len(structured))
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}, StructuredContent: json.RawMessage(structured)}, nil
	}
}

// textOf is what content tells people.
func textOf(v any, structured []byte) (string, error) {
	if t, ok := v.(Texter); ok {
		return t.Text(), nil
	}
	return Text(structured)
}

const simulatedNote = "[simulated: this comes from the built-in lab, not from a real system]"

// marked adds the member by which programs see that content is simulated.
func marked(object []byte) []byte {
	if len(object) < 2 || object[0] != '{' {
		return object
	}
	if string(object) == "{}" {
		return []byte(`{"simulated":true}`)
	}
	return append([]byte(`{"simulated":true,`), object[1:]...)
}
