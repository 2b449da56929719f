package mcptest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// addTools adds the tools. Each takes its arguments as the SDK got them, so that a test can send what no schema allows.
func (s *Server) addTools() {
	no := false
	reading := &mcp.ToolAnnotations{ReadOnlyHint: true, DestructiveHint: &no, IdempotentHint: true, OpenWorldHint: &no}
	for _, tool := range []struct {
		name, description, args string // args are the properties of the input schema
		annotations             *mcp.ToolAnnotations
		handle                  mcp.ToolHandler
	}{
		{"echo", "Returns its arguments exactly, as structured content and as text.", ``, reading, echo},
		{"write", "Returns its arguments as echo does, but may have changed something.", ``, nil, echo},
		{"slow", "Waits until the test releases it, or it is cancelled.", ``, reading, s.slow},
		{"progress", "Sends n progress notifications, then returns.", `"n":{"type":"integer"}`, reading, progress},
		{"fail", "Fails as a tool does.", `"message":{"type":"string"}`, nil, fail},
		{"rpc_error", "Fails as a request does.", `"code":{"type":"integer"},"message":{"type":"string"},"data":{}`, nil, rpcError},
		{"elicit", "Asks the user, in as many rounds.", `"message":{"type":"string"},"rounds":{"type":"integer"}`, nil, elicit},
		{"sample", "Asks the client's model.", `"message":{"type":"string"}`, nil, sample},
		{"roots", "Asks for the client's roots.", ``, nil, roots},
		{"log", "Sends n log messages, then returns.", `"n":{"type":"integer"},"level":{"type":"string"},"data":{}`, nil, logTool},
		{"huge", "Returns so many bytes of text.", `"bytes":{"type":"integer"}`, reading, huge},
		{"contents", "Returns a block of each type of content.", ``, reading, contents},
		{"change", "Adds one more tool, resource or prompt.", `"list":{"enum":["tools","resources","prompts"]}`, nil, s.change},
		{"touch", "Tells subscribers that a resource has changed.", `"uri":{"type":"string"}`, nil, s.touch},
		{"session", "Says which session and process answers, and who asks.", ``, reading, session},
	} {
		if s.has(tool.name) {
			s.AddTool(&mcp.Tool{
				Name: s.opts.Prefix + tool.name, Title: strings.ToUpper(tool.name), Description: tool.description, Annotations: tool.annotations,
				InputSchema: json.RawMessage(`{"type":"object","properties":{` + tool.args + `}}`),
			}, tool.handle)
		}
	}
	for i := range s.opts.More {
		s.AddEcho(fmt.Sprintf("more_%04d", i))
	}
}

// AddEcho adds a tool that does what echo does, or replaces one. Clients are told.
func (s *Server) AddEcho(name string) {
	s.AddTool(&mcp.Tool{
		Name: s.opts.Prefix + name, Description: "Returns its arguments exactly.", InputSchema: json.RawMessage(`{"type":"object"}`),
	}, echo)
}

// arguments decodes the arguments of a call into v.
func arguments(r *mcp.CallToolRequest, v any) error {
	if len(r.Params.Arguments) == 0 {
		return nil
	}
	if err := json.Unmarshal(r.Params.Arguments, v); err != nil {
		return &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: fmt.Sprintf("arguments of %s: %v", r.Params.Name, err)}
	}
	return nil
}

func text(format string, args ...any) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprintf(format, args...)}}}
}

// structured returns v both ways.
func structured(v any) (*mcp.CallToolResult, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding the result: %w", err)
	}
	res := text("%s", raw)
	res.StructuredContent = json.RawMessage(raw)
	return res, nil
}

func echo(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	args := r.Params.Arguments
	if len(args) == 0 {
		args = json.RawMessage("{}")
	}
	res := text("%s", args)
	res.StructuredContent = args
	return res, nil
}

func (s *Server) slow(ctx context.Context, _ *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	s.mu.Lock()
	gate := s.gate
	s.mu.Unlock()
	select {
	case <-gate:
		return text("released"), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func progress(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	var a struct{ N int }
	if err := arguments(r, &a); err != nil {
		return nil, err
	}
	token, sent := r.Params.GetProgressToken(), 0
	for i := range a.N {
		if token == nil {
			break
		}
		p := &mcp.ProgressNotificationParams{
			ProgressToken: token, Progress: float64(i + 1), Total: float64(a.N), Message: "step " + strconv.Itoa(i+1),
		}
		if err := r.Session.NotifyProgress(ctx, p); err != nil {
			return nil, fmt.Errorf("sending progress: %w", err)
		}
		sent++
	}
	return structured(map[string]int{"sent": sent})
}

func fail(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	a := struct{ Message string }{"it did not work"}
	if err := arguments(r, &a); err != nil {
		return nil, err
	}
	res := text("%s", a.Message)
	res.IsError = true
	return res, nil
}

func rpcError(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	a := struct {
		Code    int64
		Message string
		Data    json.RawMessage
	}{Code: -32000, Message: "it did not work"}
	if err := arguments(r, &a); err != nil {
		return nil, err
	}
	return nil, &jsonrpc.Error{Code: a.Code, Message: a.Message, Data: a.Data}
}

// legacy reports whether the client speaks a revision in which servers send requests.
func legacy(ss *mcp.ServerSession) bool {
	p := ss.InitializeParams()
	return p != nil && p.ProtocolVersion < "2026-07-28"
}

// ask asks the client: a legacy one by a request, which direct sends, a modern one by a result that wants input. It returns nil and a
// result when there is no answer yet.
func ask[T mcp.InputResponse](r *mcp.CallToolRequest, round int, question mcp.InputRequest, direct func() (T, error)) (T, *mcp.CallToolResult, error) {
	var none T
	if legacy(r.Session) {
		answer, err := direct()
		if err != nil {
			return none, nil, fmt.Errorf("asking the client: %w", err)
		}
		return answer, nil, nil
	}
	if state := strconv.Itoa(round); r.Params.RequestState == state {
		answer, ok := r.Params.InputResponses["question-"+state].(T)
		if !ok {
			return none, nil, errors.New("the client's answer is missing")
		}
		return answer, nil, nil
	}
	state := strconv.Itoa(round)
	return none, &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"question-" + state: question}, RequestState: state}, nil
}

func elicit(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	a := struct {
		Message string
		Rounds  int
	}{"What is your name?", 1}
	if err := arguments(r, &a); err != nil {
		return nil, err
	}
	first, _ := strconv.Atoi(r.Params.RequestState) // a modern client comes back with the round that it answers
	for round := max(1, first); ; round++ {
		p := &mcp.ElicitParams{
			Message:         fmt.Sprintf("%s (%d of %d)", a.Message, round, a.Rounds),
			RequestedSchema: json.RawMessage(`{"type":"object","properties":{"name":{"type":"string"}},"required":["name"]}`),
		}
		answer, unfinished, err := ask(r, round, p, func() (*mcp.ElicitResult, error) { return r.Session.Elicit(ctx, p) })
		if err != nil || unfinished != nil {
			return unfinished, err
		}
		if round >= a.Rounds || answer.Action != "accept" {
			return structured(map[string]any{"action": answer.Action, "content": answer.Content, "rounds": round})
		}
	}
}

func sample(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	a := struct{ Message string }{"Say something."}
	if err := arguments(r, &a); err != nil {
		return nil, err
	}
	p := &mcp.CreateMessageParams{
		MaxTokens: 100, Messages: []*mcp.SamplingMessage{{Role: "user", Content: &mcp.TextContent{Text: a.Message}}},
	}
	type response = *mcp.CreateMessageWithToolsResult
	answer, unfinished, err := ask(r, 1, p, func() (response, error) {
		one, err := r.Session.CreateMessage(ctx, p)
		if err != nil {
			return nil, err
		}
		return &mcp.CreateMessageWithToolsResult{Model: one.Model, Role: one.Role, Content: []mcp.Content{one.Content}}, nil
	})
	if err != nil || unfinished != nil {
		return unfinished, err
	}
	return structured(map[string]any{"model": answer.Model, "content": answer.Content})
}

func roots(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	p := &mcp.ListRootsParams{}
	answer, unfinished, err := ask(r, 1, p, func() (*mcp.ListRootsResult, error) { return r.Session.ListRoots(ctx, p) })
	if err != nil || unfinished != nil {
		return unfinished, err
	}
	return structured(map[string]any{"roots": answer.Roots})
}

func logTool(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	a := struct {
		N     int
		Level mcp.LoggingLevel
		Data  any
	}{1, "info", "hello"}
	if err := arguments(r, &a); err != nil {
		return nil, err
	}
	for range a.N {
		if err := r.Session.Log(ctx, &mcp.LoggingMessageParams{Level: a.Level, Logger: "mcptest", Data: a.Data}); err != nil {
			return nil, fmt.Errorf("logging: %w", err)
		}
	}
	return text("logged"), nil
}

func huge(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	a := struct{ Bytes int }{1 << 20}
	if err := arguments(r, &a); err != nil {
		return nil, err
	}
	return text("%s", strings.Repeat("x", max(0, a.Bytes))), nil
}

func contents(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	return &mcp.CallToolResult{
		Meta: mcp.Meta{"example.net/kept": "as it is"},
		Content: []mcp.Content{
			&mcp.TextContent{Text: "text", Annotations: &mcp.Annotations{Audience: []mcp.Role{"user"}, Priority: 0.5}},
			&mcp.ImageContent{Data: []byte{0x89, 'P', 'N', 'G'}, MIMEType: "image/png"},
			&mcp.AudioContent{Data: []byte("RIFF"), MIMEType: "audio/wav"},
			&mcp.ResourceLink{URI: TextURI, Name: "text"},
			&mcp.EmbeddedResource{Resource: &mcp.ResourceContents{URI: TextURI, MIMEType: "text/plain", Text: resourceText}},
		},
	}, nil
}

func (s *Server) change(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	a := struct{ List string }{"tools"}
	if err := arguments(r, &a); err != nil {
		return nil, err
	}
	var name string
	s.update(func() {
		s.added[a.List]++
		name = "added_" + strconv.Itoa(s.added[a.List])
	})
	switch a.List {
	case "tools":
		s.AddEcho(name)
	case "resources":
		s.addText("mcptest://added/"+name, name)
	case "prompts":
		s.addPrompt(name)
	default:
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: fmt.Sprintf("there is no list %q", a.List)}
	}
	return structured(map[string]string{"added": name})
}

func (s *Server) touch(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	a := struct{ URI string }{TextURI}
	if err := arguments(r, &a); err != nil {
		return nil, err
	}
	if err := s.Touch(ctx, a.URI); err != nil {
		return nil, fmt.Errorf("telling subscribers: %w", err)
	}
	return text("touched %s", a.URI), nil
}

// Session is what the tool session answers.
type Session struct {
	ID         string              `json:"id"`  // of the HTTP session; "" over stdio
	PID        int                 `json:"pid"` // of the server's process
	Grandchild int                 `json:"grandchild,omitempty"`
	Revision   string              `json:"revision"`
	Client     *mcp.Implementation `json:"client"`
	Header     map[string][]string `json:"header,omitempty"` // of the HTTP request
}

// grandchild is the process that this process started; see [Run].
var grandchild int

func session(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	a := Session{ID: r.Session.ID(), PID: os.Getpid(), Grandchild: grandchild}
	if p := r.Session.InitializeParams(); p != nil {
		a.Revision, a.Client = p.ProtocolVersion, p.ClientInfo
	}
	if r.Extra != nil {
		a.Header = r.Extra.Header
	}
	return structured(a)
}
