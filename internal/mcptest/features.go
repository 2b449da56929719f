package mcptest

import (
	"context"
	"fmt"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// What every server offers besides tools, unless it is bare.
const (
	TextURI      = "mcptest://text"      // a resource, which can be subscribed to
	BlobURI      = "mcptest://blob"      // a resource of bytes
	ItemTemplate = "mcptest://item/{id}" // completes id to one, two, three
	Prompt       = "greet"               // takes name, which it needs, and style, which completes to formal, friendly

	resourceText = "the text of a resource"
)

func (s *Server) addFeatures() {
	s.addText(TextURI, "text")
	s.AddResource(&mcp.Resource{URI: BlobURI, Name: "blob", MIMEType: "application/octet-stream"},
		func(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
			return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: r.Params.URI, MIMEType: "application/octet-stream", Blob: []byte{0, 1, 254, 255}}}}, nil
		})
	s.AddResourceTemplate(&mcp.ResourceTemplate{URITemplate: ItemTemplate, Name: "item", MIMEType: "text/plain"},
		func(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
			id := strings.TrimPrefix(r.Params.URI, "mcptest://item/")
			if id == "missing" {
				return nil, mcp.ResourceNotFoundError(r.Params.URI)
			}
			return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: r.Params.URI, MIMEType: "text/plain", Text: "item " + id}}}, nil
		})
	s.addPrompt(Prompt)
}

func (s *Server) addText(uri, name string) {
	s.AddResource(&mcp.Resource{URI: uri, Name: name, Title: strings.ToUpper(name), MIMEType: "text/plain"},
		func(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
			return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: r.Params.URI, MIMEType: "text/plain", Text: resourceText}}}, nil
		})
}

func (s *Server) addPrompt(name string) {
	s.AddPrompt(&mcp.Prompt{
		Name: name, Description: "Greets somebody.",
		Arguments: []*mcp.PromptArgument{{Name: "name", Required: true}, {Name: "style"}},
	}, func(_ context.Context, r *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		who := r.Params.Arguments["name"]
		if who == "" {
			return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: `the argument "name" is missing`}
		}
		return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{
			Role: "user", Content: &mcp.TextContent{Text: strings.TrimSpace(fmt.Sprintf("Greet %s %s", who, r.Params.Arguments["style"]))},
		}}}, nil
	})
}

// complete knows the values of the prompt's style and of the template's id.
func complete(_ context.Context, r *mcp.CompleteRequest) (*mcp.CompleteResult, error) {
	known := map[string][]string{
		"ref/prompt " + Prompt + " style":      {"formal", "friendly"},
		"ref/resource " + ItemTemplate + " id": {"one", "two", "three"},
	}
	values := []string{}
	for _, v := range known[r.Params.Ref.Type+" "+r.Params.Ref.Name+r.Params.Ref.URI+" "+r.Params.Argument.Name] {
		if strings.HasPrefix(v, r.Params.Argument.Value) {
			values = append(values, v)
		}
	}
	return &mcp.CompleteResult{Completion: mcp.CompletionResultDetails{Values: values, Total: len(values)}}, nil
}
