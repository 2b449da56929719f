package builtin

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

const hostInstructions = `Live facts about the machine that the gateway runs on, read when asked; nothing here changes anything. ` +
	`Start with "overview". Lists are short by default: a note says what was left out and which argument shows it. ` +
	`In a container the figures are those the kernel reports, mostly the host's.`

// hostServer reads the machine through its probes. Its methods may be called at the same time.
type hostServer struct {
	probes probes
	runner runner
}

func newHost(cfg Config) (*mcp.Server, error) { return newHostWith(cfg, machine()) }

func newHostWith(cfg Config, p probes) (*mcp.Server, error) {
	s := mcp.NewServer(&mcp.Implementation{Name: "mcpgw-host", Title: "This machine", Version: cfg.Version}, &mcp.ServerOptions{
		Instructions: hostInstructions,
		// Without this the SDK declares the logging capability. Nothing is logged and the tools never change.
		Capabilities: &mcp.ServerCapabilities{Tools: &mcp.ToolCapabilities{}},
	})
	h := &hostServer{probes: p}
	for _, add := range []func(*mcp.Server) error{
		h.addOverview, h.addCPU, h.addMemory, h.addDisks, h.addNetwork, h.addTemperatures, h.addProcesses,
	} {
		if err := add(s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// report is the structured content of a tool's result. Its text says the same for people and for models that see only text.
type report interface{ text() string }

// addReport adds a tool that reads the machine. An error of read becomes an isError result.
func addReport[In any, Out report](s *mcp.Server, name, title, description string, in *jsonschema.Schema,
	read func(context.Context, In) (Out, error),
) error {
	out, err := jsonschema.For[Out](nil)
	if err != nil {
		return fmt.Errorf("output schema of %q: %w", name, err)
	}
	no := false
	mcp.AddTool(s, &mcp.Tool{
		Name: name, Title: title, Description: description, InputSchema: in, OutputSchema: kit.Compact(out),
		Annotations: &mcp.ToolAnnotations{
			ReadOnlyHint: true, DestructiveHint: &no, IdempotentHint: true, OpenWorldHint: &no,
		},
	}, func(ctx context.Context, _ *mcp.CallToolRequest, args In) (*mcp.CallToolResult, Out, error) {
		out, err := read(ctx, args)
		if err != nil {
			return nil, out, fmt.Errorf("%s: %w", name, err)
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: out.text()}}}, out, nil
	})
	return nil
}

// arguments returns an input schema that accepts the named parameters and nothing else.
func arguments(params ...param) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "object", AdditionalProperties: &jsonschema.Schema{Not: &jsonschema.Schema{}}}
	if len(params) > 0 {
		s.Properties = make(map[string]*jsonschema.Schema, len(params))
	}
	for _, p := range params {
		s.Properties[p.name] = p.schema
		s.PropertyOrder = append(s.PropertyOrder, p.name)
	}
	return s
}

type param struct {
	name   string
	schema *jsonschema.Schema
}

func intParam(name, description string, least, most, standard int) param {
	lo, hi := float64(least), float64(most)
	return param{name, &jsonschema.Schema{
		Type: "integer", Description: description, Minimum: &lo, Maximum: &hi, Default: json.RawMessage(strconv.Itoa(standard)),
	}}
}

func boolParam(name, description string) param {
	return param{name, &jsonschema.Schema{Type: "boolean", Description: description}}
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
