package sim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// event writes one server-sent event.
func event(w http.ResponseWriter, name string, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and numbers only
	}
	if name != "" {
		_, _ = fmt.Fprintf(w, "event: %s\n", name)
	}
	_, _ = fmt.Fprintf(w, "data: %s\n\n", raw)
}

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

func last(messages []message) (prompt string, all int) {
	for _, m := range messages {
		all += len(m.Content)
		prompt = m.Content
	}
	return prompt, all
}

func (s *provider) openaiModels(w http.ResponseWriter, _ *http.Request) {
	list := []object{}
	for _, m := range s.names() {
		list = append(list, object{"id": m, "object": "model", "created": 1750000000, "owned_by": "lab", "type": "model", "display_name": "Simulated"})
	}
	reply(w, http.StatusOK, object{"object": "list", "data": list, "has_more": false})
}

func (s *provider) openaiChat(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Model               string
		Messages            []message
		Stream              bool
		MaxTokens           int `json:"max_tokens"`
		MaxCompletionTokens int `json:"max_completion_tokens"`
		StreamOptions       struct {
			IncludeUsage bool `json:"include_usage"`
		} `json:"stream_options"`
	}
	if !decode(w, r, openai, &q) {
		return
	}
	if !s.known(q.Model) {
		openai.fail(w, http.StatusNotFound, "model_not_found", fmt.Sprintf("The model %q does not exist (simulated)", q.Model))
		return
	}
	prompt, all := last(q.Messages)
	a := s.say(q.Model, prompt, all, max(q.MaxTokens, q.MaxCompletionTokens))
	reason := "stop"
	if !a.finish {
		reason = "length"
	}
	usage := object{"prompt_tokens": a.input, "completion_tokens": a.output, "total_tokens": a.input + a.output}
	base := func(kind string, choices ...object) object {
		if choices == nil {
			choices = []object{}
		}
		return object{"id": "chatcmpl-simulated", "object": kind, "created": 1750000000, "model": q.Model, "choices": choices}
	}
	if !q.Stream {
		o := base("chat.completion", object{"index": 0, "message": message{"assistant", strings.Join(a.words, "")}, "finish_reason": reason})
		o["usage"] = usage
		reply(w, http.StatusOK, o)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	chunk := func(delta object, finish any) {
		event(w, "", base("chat.completion.chunk", object{"index": 0, "delta": delta, "finish_reason": finish}))
	}
	chunk(object{"role": "assistant", "content": ""}, nil)
	s.each(w, r, a.words, func(word string) { chunk(object{"content": word}, nil) })
	chunk(object{}, reason)
	if q.StreamOptions.IncludeUsage {
		o := base("chat.completion.chunk")
		o["usage"] = usage
		event(w, "", o)
	}
	_, _ = w.Write([]byte("data: [DONE]\n\n"))
}

func (s *provider) anthropicChat(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Model     string
		System    string
		Messages  []message
		MaxTokens int `json:"max_tokens"`
	}
	if !decode(w, r, anthropic, &q) {
		return
	}
	switch {
	case r.Header.Get("Anthropic-Version") == "":
		anthropic.fail(w, http.StatusBadRequest, "invalid_request_error", "anthropic-version: header is required")
		return
	case q.MaxTokens < 1:
		anthropic.fail(w, http.StatusBadRequest, "invalid_request_error", "max_tokens: Field required")
		return
	case !s.known(q.Model):
		anthropic.fail(w, http.StatusNotFound, "not_found_error", "model: "+q.Model)
		return
	}
	prompt, all := last(q.Messages)
	a := s.say(q.Model, prompt, all+len(q.System), q.MaxTokens)
	reason := "end_turn"
	if !a.finish {
		reason = "max_tokens"
	}
	w.Header().Set("Content-Type", "text/event-stream")
	event(w, "message_start", object{"type": "message_start", "message": object{
		"id": "msg_simulated", "type": "message", "role": "assistant", "model": q.Model, "content": []any{}, "usage": object{"input_tokens": a.input, "output_tokens": 1},
	}})
	event(w, "content_block_start", object{"type": "content_block_start", "index": 0, "content_block": object{"type": "text", "text": ""}})
	event(w, "ping", object{"type": "ping"})
	s.each(w, r, a.words, func(word string) {
		event(w, "content_block_delta", object{"type": "content_block_delta", "index": 0, "delta": object{"type": "text_delta", "text": word}})
	})
	event(w, "content_block_stop", object{"type": "content_block_stop", "index": 0})
	event(w, "message_delta", object{"type": "message_delta", "delta": object{"stop_reason": reason}, "usage": object{"output_tokens": a.output}})
	event(w, "message_stop", object{"type": "message_stop"})
}

func (s *provider) geminiModels(w http.ResponseWriter, _ *http.Request) {
	list := []object{}
	for _, m := range s.names() {
		list = append(list, object{"name": "models/" + m, "displayName": "Simulated", "inputTokenLimit": 32768, "supportedGenerationMethods": []string{"generateContent"}})
	}
	reply(w, http.StatusOK, object{"models": list})
}

func (s *provider) geminiChat(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Contents []struct {
			Role  string
			Parts []struct{ Text string }
		}
		GenerationConfig struct{ MaxOutputTokens int }
	}
	if !decode(w, r, gemini, &q) {
		return
	}
	name, method, _ := strings.Cut(r.PathValue("call"), ":")
	if !s.known(name) || method != "streamGenerateContent" || r.URL.Query().Get("alt") != "sse" {
		gemini.fail(w, http.StatusNotFound, "not_found", fmt.Sprintf("models/%s is not found or not supported for %s (simulated)", name, method))
		return
	}
	prompt, all := "", 0
	for _, c := range q.Contents {
		for _, p := range c.Parts {
			prompt, all = p.Text, all+len(p.Text)
		}
	}
	a := s.say(name, prompt, all, q.GenerationConfig.MaxOutputTokens)
	reason := "STOP"
	if !a.finish {
		reason = "MAX_TOKENS"
	}
	w.Header().Set("Content-Type", "text/event-stream")
	count := 0
	s.each(w, r, a.words, func(word string) {
		count++
		candidate := object{"index": 0, "content": object{"role": "model", "parts": []object{{"text": word}}}}
		if count == len(a.words) {
			candidate["finishReason"] = reason
		}
		event(w, "", object{"candidates": []object{candidate}, "modelVersion": name, "usageMetadata": object{
			"promptTokenCount": a.input, "candidatesTokenCount": count, "totalTokenCount": a.input + count,
		}})
	})
}

func (s *provider) ollamaModels(w http.ResponseWriter, _ *http.Request) {
	list := []object{}
	for _, m := range s.names() {
		list = append(list, object{"name": m + ":latest", "model": m + ":latest", "size": 4 << 30, "details": object{"parameter_size": "7B", "quantization_level": "Q4_K_M"}})
	}
	reply(w, http.StatusOK, object{"models": list})
}

func (s *provider) ollamaChat(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Model    string
		Messages []message
		Options  struct {
			NumPredict int `json:"num_predict"`
		}
	}
	if !decode(w, r, ollama, &q) {
		return
	}
	if !s.known(q.Model) {
		ollama.fail(w, http.StatusNotFound, "", fmt.Sprintf("model %q not found", q.Model))
		return
	}
	prompt, all := last(q.Messages)
	a := s.say(q.Model, prompt, all, q.Options.NumPredict)
	w.Header().Set("Content-Type", "application/x-ndjson")
	lines := json.NewEncoder(w)
	line := func(word string, done bool) object {
		return object{"model": q.Model, "created_at": "2026-01-01T00:00:00Z", "message": message{"assistant", word}, "done": done}
	}
	s.each(w, r, a.words, func(word string) { _ = lines.Encode(line(word, false)) })
	end := line("", true)
	end["done_reason"], end["prompt_eval_count"], end["eval_count"] = "stop", a.input, a.output
	if !a.finish {
		end["done_reason"] = "length"
	}
	_ = lines.Encode(end)
}
