package llm

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

var openai = dialect{
	name: "the OpenAI-compatible API", root: below("/v1", "/chat/completions", "/models"),
	authorize: func(h http.Header, token string) { h.Set("Authorization", "Bearer "+token) },
	ask: func(base *url.URL, q *question) kit.Request {
		body := map[string]any{"model": q.model, "messages": messages(q, true), "stream": true, "stream_options": map[string]any{"include_usage": true}}
		// OpenAI's own newer models refuse max_tokens; most others know only that.
		if base.Hostname() == "api.openai.com" {
			body["max_completion_tokens"] = q.maxTokens
		} else {
			body["max_tokens"] = q.maxTokens
		}
		if q.temperature != nil {
			body["temperature"] = *q.temperature
		}
		return kit.Request{Method: http.MethodPost, Path: "/chat/completions", JSON: body}
	},
	read: func(_, data []byte) (piece, error) {
		if string(data) == "[DONE]" {
			return piece{completed: true}, nil
		}
		var e struct {
			Model   string
			Choices []struct {
				Delta        openaiText
				Message      openaiText // where the server does not stream
				FinishReason string     `json:"finish_reason"`
			}
			Usage struct {
				Prompt     int `json:"prompt_tokens"`
				Completion int `json:"completion_tokens"`
			}
			Error json.RawMessage
		}
		if err := json.Unmarshal(data, &e); err != nil {
			return piece{}, err
		}
		if len(e.Error) > 0 && string(e.Error) != "null" {
			return piece{failure: gaveUp(errorText(data))}, nil
		}
		p := piece{model: e.Model, input: e.Usage.Prompt, output: e.Usage.Completion}
		if len(e.Choices) > 0 {
			c := &e.Choices[0]
			p.text = c.Delta.Content + c.Message.Content
			p.thinking = len(c.Delta.Reasoning) + len(c.Delta.ReasoningContent)
			p.finish = c.FinishReason
		}
		return p, nil
	},
	list: func(string) kit.Request { return kit.Request{Path: "/models"} },
	models: func(body []byte) (list []model, more string, err error) {
		var l struct {
			Data []struct {
				ID      string `json:"id"`
				OwnedBy string `json:"owned_by"`
				Context int    `json:"context_length"` // OpenRouter
				MaxLen  int    `json:"max_model_len"`  // vLLM
			}
		}
		err = json.Unmarshal(body, &l)
		for _, m := range l.Data {
			list = append(list, model{m.ID, m.OwnedBy, max(m.Context, m.MaxLen)})
		}
		return list, "", err
	},
}

type openaiText struct {
	Content          string
	Reasoning        string
	ReasoningContent string `json:"reasoning_content"`
}

var anthropic = dialect{
	name: "the Anthropic API", root: below("", "/v1/messages", "/v1"),
	authorize: func(h http.Header, token string) { h.Set("X-Api-Key", token) },
	ask: func(_ *url.URL, q *question) kit.Request {
		body := map[string]any{"model": q.model, "messages": messages(q, false), "stream": true, "max_tokens": q.maxTokens}
		if q.system != "" {
			body["system"] = q.system
		}
		if q.temperature != nil {
			body["temperature"] = min(*q.temperature, 1)
		}
		return kit.Request{Method: http.MethodPost, Path: "/v1/messages", JSON: body, Header: anthropicVersion}
	},
	read: func(_, data []byte) (piece, error) {
		type usage struct {
			Input   int `json:"input_tokens"`
			Created int `json:"cache_creation_input_tokens"`
			Read    int `json:"cache_read_input_tokens"`
			Output  int `json:"output_tokens"`
		}
		var e struct {
			Type    string
			Message struct {
				Model string
				Usage usage
			}
			Delta struct {
				Text       string
				Thinking   string
				StopReason string `json:"stop_reason"`
			}
			Content []struct{ Text string } // where the server does not stream
			Model   string
			Stop    string `json:"stop_reason"`
			Usage   usage
			Error   struct{ Type, Message string }
		}
		if err := json.Unmarshal(data, &e); err != nil {
			return piece{}, err
		}
		p := piece{model: cmp.Or(e.Message.Model, e.Model)}
		u := e.Usage
		switch e.Type {
		case "message_start":
			u = e.Message.Usage
		case "content_block_delta":
			p.text, p.thinking = e.Delta.Text, len(e.Delta.Thinking)
		case "message_delta":
			p.finish = e.Delta.StopReason
		case "message":
			for _, c := range e.Content {
				p.text += c.Text
			}
			p.finish, p.completed = e.Stop, true
		case "message_stop":
			p.completed = true
		case "error":
			text := cmp.Or(e.Error.Message, e.Error.Type)
			if e.Error.Type == "overloaded_error" {
				p.failure = overloaded(text)
			} else {
				p.failure = gaveUp(text)
			}
		}
		p.input, p.output = u.Input+u.Created+u.Read, u.Output
		return p, nil
	},
	list: func(after string) kit.Request {
		q := url.Values{"limit": {"1000"}}
		if after != "" {
			q.Set("after_id", after)
		}
		return kit.Request{Path: "/v1/models", Query: q, Header: anthropicVersion}
	},
	models: func(body []byte) (list []model, more string, err error) {
		var l struct {
			Data []struct {
				ID          string
				DisplayName string `json:"display_name"`
			}
			HasMore bool   `json:"has_more"`
			LastID  string `json:"last_id"`
		}
		err = json.Unmarshal(body, &l)
		for _, m := range l.Data {
			list = append(list, model{Name: m.ID, Detail: m.DisplayName})
		}
		if l.HasMore {
			more = l.LastID
		}
		return list, more, err
	},
}

var anthropicVersion = http.Header{"Anthropic-Version": {"2023-06-01"}}

var gemini = dialect{
	name: "the Gemini API", root: below("", "/v1beta/models", "/v1beta"),
	authorize: func(h http.Header, token string) { h.Set("X-Goog-Api-Key", token) },
	ask: func(_ *url.URL, q *question) kit.Request {
		var contents []map[string]any
		for _, t := range q.turns {
			role := "user"
			if t.Role == "assistant" {
				role = "model"
			}
			contents = append(contents, map[string]any{"role": role, "parts": []any{map[string]any{"text": t.Text}}})
		}
		conf := map[string]any{"maxOutputTokens": q.maxTokens}
		if q.temperature != nil {
			conf["temperature"] = *q.temperature
		}
		body := map[string]any{"contents": contents, "generationConfig": conf}
		if q.system != "" {
			body["systemInstruction"] = map[string]any{"parts": []any{map[string]any{"text": q.system}}}
		}
		// The model is a part of the path: a slash in it would choose another method.
		name := url.PathEscape(strings.TrimPrefix(q.model, "models/"))
		return kit.Request{Method: http.MethodPost, Path: "/v1beta/models/" + name + ":streamGenerateContent", Query: url.Values{"alt": {"sse"}}, JSON: body}
	},
	read: func(_, data []byte) (piece, error) {
		var e struct {
			Candidates []struct {
				Content struct {
					Parts []struct {
						Text    string
						Thought bool
					}
				}
				FinishReason string
			}
			UsageMetadata  struct{ PromptTokenCount, CandidatesTokenCount, ThoughtsTokenCount int }
			PromptFeedback struct{ BlockReason string }
			ModelVersion   string
			Error          json.RawMessage
		}
		if err := json.Unmarshal(data, &e); err != nil {
			return piece{}, err
		}
		if len(e.Error) > 0 {
			return piece{failure: gaveUp(errorText(data))}, nil
		}
		u := e.UsageMetadata
		p := piece{model: e.ModelVersion, input: u.PromptTokenCount, output: u.CandidatesTokenCount + u.ThoughtsTokenCount}
		if len(e.Candidates) > 0 {
			for _, part := range e.Candidates[0].Content.Parts {
				if part.Thought {
					p.thinking += len(part.Text)
				} else {
					p.text += part.Text
				}
			}
			p.finish = strings.ToLower(e.Candidates[0].FinishReason)
		} else if e.PromptFeedback.BlockReason != "" {
			p.finish = "blocked: " + strings.ToLower(e.PromptFeedback.BlockReason)
		}
		return p, nil
	},
	list: func(after string) kit.Request {
		q := url.Values{"pageSize": {"1000"}}
		if after != "" {
			q.Set("pageToken", after)
		}
		return kit.Request{Path: "/v1beta/models", Query: q}
	},
	models: func(body []byte) (list []model, more string, err error) {
		var l struct {
			Models []struct {
				Name, DisplayName string
				InputTokenLimit   int
				Methods           []string `json:"supportedGenerationMethods"`
			}
			NextPageToken string
		}
		err = json.Unmarshal(body, &l)
		for _, m := range l.Models {
			if len(m.Methods) == 0 || strings.Contains(strings.Join(m.Methods, " "), "generateContent") {
				list = append(list, model{strings.TrimPrefix(m.Name, "models/"), m.DisplayName, m.InputTokenLimit})
			}
		}
		return list, l.NextPageToken, err
	},
}

var ollama = dialect{
	name: "Ollama", lines: true, root: below("", "/v1", "/api"),
	authorize: func(h http.Header, token string) { h.Set("Authorization", "Bearer "+token) },
	ask: func(_ *url.URL, q *question) kit.Request {
		options := map[string]any{"num_predict": q.maxTokens}
		if q.temperature != nil {
			options["temperature"] = *q.temperature
		}
		return kit.Request{Method: http.MethodPost, Path: "/api/chat", JSON: map[string]any{
			"model": q.model, "messages": messages(q, true), "stream": true, "options": options,
		}}
	},
	read: func(_, data []byte) (piece, error) {
		var e struct {
			Model   string
			Message struct{ Content, Thinking string }
			Done    bool
			Reason  string `json:"done_reason"`
			Input   int    `json:"prompt_eval_count"`
			Output  int    `json:"eval_count"`
			Error   string
		}
		if err := json.Unmarshal(data, &e); err != nil {
			return piece{}, err
		}
		if e.Error != "" {
			return piece{failure: gaveUp(e.Error)}, nil
		}
		p := piece{text: e.Message.Content, thinking: len(e.Message.Thinking), model: e.Model, input: e.Input, output: e.Output, completed: e.Done}
		if e.Done {
			p.finish = cmp.Or(e.Reason, "stop")
		}
		return p, nil
	},
	list: func(string) kit.Request { return kit.Request{Path: "/api/tags"} },
	models: func(body []byte) (list []model, more string, err error) {
		var l struct {
			Models []struct {
				Name    string
				Details struct {
					ParameterSize     string `json:"parameter_size"`
					QuantizationLevel string `json:"quantization_level"`
				}
			}
		}
		err = json.Unmarshal(body, &l)
		for _, m := range l.Models {
			list = append(list, model{Name: m.Name, Detail: strings.TrimSpace(m.Details.ParameterSize + " " + m.Details.QuantizationLevel)})
		}
		return list, "", err
	},
}

// errorText finds the sentence in an error of any of the providers; "" if there is none.
func errorText(body []byte) string {
	var e struct{ Error json.RawMessage }
	if json.Unmarshal(body, &e) != nil || len(e.Error) == 0 {
		return ""
	}
	var text string
	if json.Unmarshal(e.Error, &text) == nil {
		return text
	}
	var o struct{ Message string }
	_ = json.Unmarshal(e.Error, &o)
	return o.Message
}
