package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// dialect is the protocol of one kind of model.
type dialect struct {
	path  func(string) bool
	read  func(body []byte) said
	write func(w http.ResponseWriter, c *call) // nil: say FINAL
}

var dialects = []dialect{
	{func(p string) bool { return strings.HasSuffix(p, "/messages") }, readAnthropic, writeAnthropic},
	{func(p string) bool { return strings.HasSuffix(p, "/responses") }, readResponses, writeResponses},
	{func(p string) bool { return strings.HasSuffix(p, "/chat/completions") }, readChat, writeChat},
	{func(p string) bool { return strings.Contains(p, "enerateContent") }, readGemini, writeGemini},
}

// decode ignores what does not fit: a request that is not understood offers no tool, and the check says so.
func decode(body []byte, v any) { _ = json.Unmarshal(body, v) }

func event(w http.ResponseWriter, name, format string, args ...any) {
	if name != "" {
		fmt.Fprintf(w, "event: %s\n", name)
	}
	fmt.Fprintf(w, "data: "+format+"\n\n", args...)
}

func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return `""`
	}
	return string(b)
}

func readAnthropic(body []byte) (s said) {
	var r struct {
		Tools    []struct{ Name string }
		Messages []struct{ Content json.RawMessage }
	}
	decode(body, &r)
	for _, t := range r.Tools {
		s.tools = append(s.tools, offer{"", t.Name})
	}
	for _, m := range r.Messages {
		var blocks []struct {
			Type    string
			ID      string `json:"tool_use_id"`
			Content json.RawMessage
		}
		decode(m.Content, &blocks)
		for _, b := range blocks {
			if b.Type == "tool_result" && b.ID == callID {
				s.answer = b.Content
			}
		}
	}
	return s
}

func writeAnthropic(w http.ResponseWriter, c *call) {
	block, delta, stop := `{"type":"text","text":""}`, `{"type":"text_delta","text":"FINAL"}`, "end_turn"
	if c != nil {
		block = `{"type":"tool_use","id":"` + c.id + `","name":` + quoted(c.name) + `,"input":{}}`
		delta, stop = `{"type":"input_json_delta","partial_json":`+quoted(c.args)+`}`, "tool_use"
	}
	w.Header().Set("Content-Type", "text/event-stream")
	event(w, "message_start", `{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-4-5",`+
		`"content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}}`)
	event(w, "content_block_start", `{"type":"content_block_start","index":0,"content_block":%s}`, block)
	event(w, "content_block_delta", `{"type":"content_block_delta","index":0,"delta":%s}`, delta)
	event(w, "content_block_stop", `{"type":"content_block_stop","index":0}`)
	event(w, "message_delta", `{"type":"message_delta","delta":{"stop_reason":"%s","stop_sequence":null},"usage":{"output_tokens":1}}`, stop)
	event(w, "message_stop", `{"type":"message_stop"}`)
}

func readResponses(body []byte) (s said) {
	var r struct {
		Tools []struct {
			Type, Name string
			Tools      []struct{ Name string }
		}
		Input []struct {
			Type   string
			ID     string `json:"call_id"`
			Output json.RawMessage
		}
	}
	decode(body, &r)
	for _, t := range r.Tools {
		if t.Type != "namespace" {
			s.tools = append(s.tools, offer{"", t.Name})
			continue
		}
		for _, inner := range t.Tools {
			s.tools = append(s.tools, offer{t.Name, inner.Name})
		}
	}
	for _, i := range r.Input {
		if i.Type == "function_call_output" && i.ID == callID {
			s.answer = i.Output
		}
	}
	return s
}

func writeResponses(w http.ResponseWriter, c *call) {
	item := `{"type":"message","id":"msg_1","role":"assistant","status":"completed","content":[{"type":"output_text","text":"FINAL","annotations":[]}]}`
	if c != nil {
		item = `{"type":"function_call","id":"fc_1","status":"completed","call_id":"` + c.id + `","name":` + quoted(c.name) + `,"arguments":` + quoted(c.args)
		if c.namespace != "" {
			item += `,"namespace":` + quoted(c.namespace)
		}
		item += `}`
	}
	w.Header().Set("Content-Type", "text/event-stream")
	event(w, "response.created", `{"type":"response.created","response":{"id":"resp_1"}}`)
	event(w, "response.output_item.done", `{"type":"response.output_item.done","output_index":0,"item":%s}`, item)
	event(w, "response.completed", `{"type":"response.completed","response":{"id":"resp_1","output":[%s],`+
		`"usage":{"input_tokens":1,"input_tokens_details":null,"output_tokens":1,"output_tokens_details":null,"total_tokens":2}}}`, item)
}

func readChat(body []byte) (s said) {
	var r struct {
		Tools    []struct{ Function struct{ Name string } }
		Messages []struct {
			Role    string
			ID      string `json:"tool_call_id"`
			Content json.RawMessage
		}
	}
	decode(body, &r)
	for _, t := range r.Tools {
		s.tools = append(s.tools, offer{"", t.Function.Name})
	}
	for _, m := range r.Messages {
		if m.Role == "tool" && m.ID == callID {
			s.answer = m.Content
		}
	}
	return s
}

func writeChat(w http.ResponseWriter, c *call) {
	delta, stop := `{"role":"assistant","content":"FINAL"}`, "stop"
	if c != nil {
		delta = `{"role":"assistant","tool_calls":[{"index":0,"id":"` + c.id + `","type":"function","function":{"name":` + quoted(c.name) +
			`,"arguments":` + quoted(c.args) + `}}]}`
		stop = "tool_calls"
	}
	w.Header().Set("Content-Type", "text/event-stream")
	const head = `{"id":"chat_1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,`
	event(w, "", head+`"delta":%s,"finish_reason":null}]}`, delta)
	event(w, "", head+`"delta":{},"finish_reason":"%s"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`, stop)
	event(w, "", "[DONE]")
}

func readGemini(body []byte) (s said) {
	var r struct {
		Tools    []struct{ FunctionDeclarations []struct{ Name string } }
		Contents []struct {
			Parts []struct {
				FunctionResponse *struct{ Response json.RawMessage }
			}
		}
	}
	decode(body, &r)
	for _, t := range r.Tools {
		for _, f := range t.FunctionDeclarations {
			s.tools = append(s.tools, offer{"", f.Name})
		}
	}
	for _, c := range r.Contents {
		for _, p := range c.Parts {
			if p.FunctionResponse != nil {
				s.answer = p.FunctionResponse.Response
			}
		}
	}
	return s
}

func writeGemini(w http.ResponseWriter, c *call) {
	part := `{"text":"FINAL"}`
	if c != nil {
		part = `{"functionCall":{"id":"` + c.id + `","name":` + quoted(c.name) + `,"args":` + c.args + `}}`
	}
	w.Header().Set("Content-Type", "text/event-stream")
	event(w, "", `{"candidates":[{"content":{"role":"model","parts":[%s]},"finishReason":"STOP","index":0}],`+
		`"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":1,"totalTokenCount":2},"modelVersion":"m"}`, part)
}
