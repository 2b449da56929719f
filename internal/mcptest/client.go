package mcptest

import (
	"encoding/json"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Connect connects an SDK client that speaks the revision, or the latest one if that is empty. Opts may be nil.
func Connect(tb testing.TB, transport mcp.Transport, revision string, opts *mcp.ClientOptions) *mcp.ClientSession {
	tb.Helper()
	c := mcp.NewClient(&mcp.Implementation{Name: "mcptest-client", Version: "1.0.0"}, opts)
	cs, err := c.Connect(tb.Context(), transport, &mcp.ClientSessionOptions{ProtocolVersion: revision})
	if err != nil {
		tb.Fatalf("mcptest: connecting: %v", err)
	}
	tb.Cleanup(func() { _ = cs.Close() })
	return cs
}

// Client connects an SDK client over streamable HTTP.
func (e *Endpoint) Client(tb testing.TB, revision string, opts *mcp.ClientOptions) *mcp.ClientSession {
	tb.Helper()
	return Connect(tb, &mcp.StreamableClientTransport{Endpoint: e.URL}, revision, opts)
}

// Call calls a tool and decodes its structured content into v unless v is nil. The arguments may be a json.RawMessage. The test fails
// if the call does. The SDK's client has made float64s of the structured numbers; [Text] is exact.
func Call(tb testing.TB, cs *mcp.ClientSession, tool string, args, v any) *mcp.CallToolResult {
	tb.Helper()
	res, err := cs.CallTool(tb.Context(), &mcp.CallToolParams{Name: tool, Arguments: args})
	if err != nil {
		tb.Fatalf("mcptest: calling %s: %v", tool, err)
	}
	if v == nil {
		return res
	}
	if res.IsError {
		tb.Fatalf("mcptest: %s failed: %s", tool, Text(res))
	}
	raw, err := json.Marshal(res.StructuredContent)
	if err != nil {
		tb.Fatalf("mcptest: result of %s: %v", tool, err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		tb.Fatalf("mcptest: result of %s: %v in %s", tool, err, raw)
	}
	return res
}

// Text returns the text of the first block of content, or "".
func Text(res *mcp.CallToolResult) string {
	if len(res.Content) > 0 {
		if c, ok := res.Content[0].(*mcp.TextContent); ok {
			return c.Text
		}
	}
	return ""
}
