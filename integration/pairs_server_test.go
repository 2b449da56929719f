package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// pairServerEnv makes the test binary the server of the pairing tests over stdio, and names its journal.
const pairServerEnv = "MCPGW_TEST_PAIR_SERVER"

// pairURI is the resource of the pairing server.
const pairURI = "pair://note"

// pairServer is a server of the SDK that does, when called, one thing of each kind that a server can do besides answering, in the way of
// the revision that it is spoken to. What it experiences it writes into its journal, a file to which several processes may add lines.
func pairServer(journal string) *mcp.Server {
	note := func(format string, args ...any) error {
		f, err := os.OpenFile(journal, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(f, format+"\n", args...)
		return errors.Join(err, f.Close())
	}
	p := &pairTools{note: note}
	p.Server = mcp.NewServer(&mcp.Implementation{Name: "pair", Version: "1"}, &mcp.ServerOptions{
		SubscribeHandler:        func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler:      func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
		RootsListChangedHandler: func(context.Context, *mcp.RootsListChangedRequest) { _ = note("roots changed") }, // missed by the test
	})
	p.add()
	return p.Server
}

// pairArgs are the arguments of all tools of the pairing server.
type pairArgs struct {
	Message string `json:"message"` // of form
	ID      string `json:"id"`      // of page, door and hang
	List    string `json:"list"`    // of change
}

// reply is what a tool of the pairing server answers: a text, or a question that a newer client finds in the result.
type reply struct {
	text     string
	question mcp.InputRequest
}

type pairTools struct {
	*mcp.Server

	note  func(format string, args ...any) error
	added atomic.Int64
	open  atomic.Value // the id with which door was called last
}

func (p *pairTools) tool(name string, f func(context.Context, *mcp.CallToolRequest, pairArgs) (reply, error)) {
	p.AddTool(&mcp.Tool{Name: name, InputSchema: json.RawMessage(`{"type":"object"}`)}, func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		var args pairArgs
		if err := json.Unmarshal(r.Params.Arguments, &args); err != nil {
			return nil, err
		}
		a, err := f(ctx, r, args)
		if a.question != nil {
			return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"the question": a.question}, RequestState: "the state"}, err
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: a.text}}}, err
	})
}

// ask asks the client: an older one by a request, which direct makes, a newer one in the result.
func ask(r *mcp.CallToolRequest, question mcp.InputRequest, direct func() (any, error)) (reply, error) {
	var answer any
	var err error
	switch {
	case r.Session.InitializeParams() != nil && r.Session.InitializeParams().ProtocolVersion < harness.Modern:
		answer, err = direct()
	case r.Params.RequestState == "":
		return reply{question: question}, nil
	case r.Params.RequestState != "the state":
		return reply{}, fmt.Errorf("the client came back with the state %q", r.Params.RequestState)
	default:
		answer = r.Params.InputResponses["the question"]
	}
	if err != nil {
		return reply{}, err
	}
	b, err := json.Marshal(answer)
	return reply{text: string(b)}, err
}

func (p *pairTools) add() {
	p.addAsking()
	p.tool("progress", func(ctx context.Context, r *mcp.CallToolRequest, _ pairArgs) (reply, error) {
		for i := range 3 {
			if err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(), Progress: float64(i + 1), Total: 3}); err != nil {
				return reply{}, err
			}
		}
		return reply{text: "done"}, nil
	})
	p.tool("log", func(ctx context.Context, r *mcp.CallToolRequest, _ pairArgs) (reply, error) {
		for _, level := range []mcp.LoggingLevel{"debug", "error"} {
			if err := r.Session.Log(ctx, &mcp.LoggingMessageParams{Level: level, Logger: "pair", Data: map[string]string{"level": string(level)}}); err != nil {
				return reply{}, err
			}
		}
		return reply{text: "done"}, nil
	})
	p.tool("hang", func(ctx context.Context, _ *mcp.CallToolRequest, args pairArgs) (reply, error) {
		err := p.note("begun %s", args.ID)
		<-ctx.Done()
		return reply{}, errors.Join(err, p.note("cancelled %s", args.ID))
	})
	p.AddResource(&mcp.Resource{URI: pairURI, Name: "note"}, readNote)
	p.AddPrompt(&mcp.Prompt{Name: "prompt"}, nil)
	p.tool("touch", func(ctx context.Context, _ *mcp.CallToolRequest, _ pairArgs) (reply, error) {
		return reply{text: "done"}, p.ResourceUpdated(ctx, &mcp.ResourceUpdatedNotificationParams{URI: pairURI})
	})
	p.tool("change", func(_ context.Context, _ *mcp.CallToolRequest, args pairArgs) (reply, error) {
		name := fmt.Sprintf("added_%d_%d", os.Getpid(), p.added.Add(1))
		switch args.List {
		case "tools":
			p.tool(name, nil)
		case "prompts":
			p.AddPrompt(&mcp.Prompt{Name: name}, nil)
		case "resources":
			p.AddResource(&mcp.Resource{URI: "pair://" + name, Name: name}, readNote)
		}
		return reply{text: name}, nil
	})
}

func readNote(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
	return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: r.Params.URI, Text: "note"}}}, nil
}

func (p *pairTools) addAsking() {
	p.tool("form", func(ctx context.Context, r *mcp.CallToolRequest, args pairArgs) (reply, error) {
		q := &mcp.ElicitParams{Message: args.Message, RequestedSchema: json.RawMessage(`{"type":"object","properties":{"name":{"type":"string"}}}`)}
		return ask(r, q, func() (any, error) { return r.Session.Elicit(ctx, q) })
	})
	p.tool("page", func(ctx context.Context, r *mcp.CallToolRequest, args pairArgs) (reply, error) {
		q := &mcp.ElicitParams{Mode: "url", Message: "Log in.", URL: "https://example.net/login?for=" + args.ID}
		return ask(r, q, func() (any, error) {
			q.ElicitationID = args.ID
			a, err := r.Session.Elicit(ctx, q)
			if err != nil {
				return nil, err
			}
			return a, r.Session.NotifyElicitationComplete(ctx, &mcp.ElicitationCompleteParams{ElicitationID: args.ID})
		})
	})
	// door is the other way of an older server: it refuses the call until the page was visited, here until the second call.
	p.tool("door", func(_ context.Context, _ *mcp.CallToolRequest, args pairArgs) (reply, error) {
		if p.open.Swap(args.ID) == args.ID {
			return reply{text: "in"}, nil
		}
		return reply{}, mcp.URLElicitationRequiredError([]*mcp.ElicitParams{{Mode: "url", Message: "Log in first.", URL: "https://example.net/first", ElicitationID: args.ID}})
	})
	p.tool("sample", func(ctx context.Context, r *mcp.CallToolRequest, _ pairArgs) (reply, error) {
		q := &mcp.CreateMessageWithToolsParams{
			MaxTokens: 9, Messages: []*mcp.SamplingMessageV2{{Role: "user", Content: []mcp.Content{&mcp.TextContent{Text: "What is the weather?"}}}},
			Tools:      []*mcp.Tool{{Name: "weather", InputSchema: map[string]any{"type": "object"}}},
			ToolChoice: &mcp.ToolChoice{Mode: "required"},
		}
		return ask(r, q, func() (any, error) { return r.Session.CreateMessageWithTools(ctx, q) })
	})
	p.tool("roots", func(ctx context.Context, r *mcp.CallToolRequest, _ pairArgs) (reply, error) {
		return ask(r, &mcp.ListRootsParams{}, func() (any, error) { return r.Session.ListRoots(ctx, nil) })
	})
}
