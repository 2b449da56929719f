package random

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// Schemas are the specification's own, of both revisions: they say whether what the maker makes is valid.
type Schemas struct {
	mu    sync.Mutex // guards what follows
	dir   string
	types map[string]*jsonschema.Schema
	c     *jsonschema.Compiler
}

// LoadSchemas reads 2025-11-25.json and 2026-07-28.json, which are schema.json of the folders schema/REVISION of
// github.com/modelcontextprotocol/modelcontextprotocol.
func LoadSchemas(dir string) (*Schemas, error) {
	s := &Schemas{dir: dir, types: map[string]*jsonschema.Schema{}, c: jsonschema.NewCompiler()}
	for _, revision := range []string{harness.Legacy, harness.Modern} {
		b, err := os.ReadFile(filepath.Join(dir, revision+".json"))
		if err != nil {
			return nil, err
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			return nil, err
		}
		// The generated file has neither null nor fractions in a JSONValue, which schema.ts has.
		if top, ok := doc.(map[string]any); ok {
			if defs, ok := top["$defs"].(map[string]any); ok && defs["JSONValue"] != nil {
				defs["JSONValue"] = true
			}
		}
		if err := s.c.AddResource("mem:///"+revision+".json", doc); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// valid says why a text is not of a type.
func (s *Schemas) valid(modern bool, kind, text string) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	url := "mem:///" + map[bool]string{false: harness.Legacy, true: harness.Modern}[modern] + ".json#/$defs/" + kind
	t := s.types[url]
	if t == nil {
		var err error
		if t, err = s.c.Compile(url); err != nil {
			return err
		}
		s.types[url] = t
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(text)))
	if err == nil {
		err = t.Validate(v)
	}
	if err != nil {
		return fmt.Errorf("the maker made no %s: %w: %.2000s", kind, err, text)
	}
	return nil
}

// typesOf are the types of requests and of their results.
var typesOf = map[string][2]string{
	"tools/call": {"CallToolRequest", "CallToolResult"}, "prompts/get": {"GetPromptRequest", "GetPromptResult"}, "resources/read": {"ReadResourceRequest", "ReadResourceResult"},
	"completion/complete": {"CompleteRequest", "CompleteResult"}, "tasks/get": {"GetTaskRequest", "GetTaskResult"}, "tasks/result": {"GetTaskPayloadRequest", "GetTaskPayloadResult"},
	"tasks/cancel": {"CancelTaskRequest", "CancelTaskResult"},
}

// validMessage checks a request and all that the server says to it.
func (s *Schemas) validMessage(modern bool, m *message, params string) error {
	if s == nil {
		return nil
	}
	kinds, ok := typesOf[m.method]
	if !ok {
		kinds = [2]string{"JSONRPCRequest", "Result"}
	}
	if err := s.valid(modern, kinds[0], `{"jsonrpc":"2.0","id":`+m.id+`,"method":"`+m.method+`","params":`+params+`}`); err != nil {
		return err
	}
	for _, n := range m.reply.notes {
		kind := map[string]string{"notifications/progress": "ProgressNotificationParams", "notifications/message": "LoggingMessageNotificationParams"}[n[0]]
		if err := s.valid(modern, kind, string(bytes.ReplaceAll([]byte(n[1]), []byte(tokenMark), []byte("1")))); err != nil {
			return err
		}
	}
	for _, q := range m.reply.asks {
		if err := s.validQuestion(modern, q.method, q.params, q.answer); err != nil {
			return err
		}
	}
	if m.reply.failure != "" {
		return s.valid(modern, "Error", m.reply.failure)
	}
	var v struct {
		ResultType string                     `json:"resultType"`
		Requests   map[string]json.RawMessage `json:"inputRequests"`
		Task       json.RawMessage            `json:"task"`
	}
	if err := json.Unmarshal([]byte(m.reply.result), &v); err != nil {
		return err
	}
	switch {
	case v.ResultType == "input_required":
		kinds[1] = "InputRequiredResult"
	case v.Task != nil && m.method == "tools/call":
		kinds[1] = "CreateTaskResult"
	}
	return s.valid(modern, kinds[1], m.reply.result)
}

func (s *Schemas) validQuestion(modern bool, method, params, answer string) error {
	kinds := map[string][2]string{
		"elicitation/create": {"ElicitRequestParams", "ElicitResult"}, "sampling/createMessage": {"CreateMessageRequestParams", "CreateMessageResult"},
		"roots/list": {"", "ListRootsResult"},
	}[method]
	if kinds[0] != "" {
		if err := s.valid(modern, kinds[0], params); err != nil {
			return err
		}
	}
	return s.valid(modern, kinds[1], answer)
}

// validLists checks what a server lists.
func (s *Schemas) validLists(p *peer) error {
	for kind, name := range [4]string{"Tool", "Prompt", "Resource", "ResourceTemplate"} {
		for _, item := range p.items[kind] {
			if err := s.valid(p.modern, name, item); err != nil {
				return err
			}
		}
	}
	return nil
}
