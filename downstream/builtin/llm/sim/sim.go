// Package sim simulates a provider of language models that speaks as OpenAI, Anthropic, Gemini and Ollama do. Its answers are made up,
// always the same for the same prompt, and say so.
package sim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/downstream/builtin/lab"
)

// Models are the ones that there are.
var Models = []string{"simulated-large", "simulated-mini"}

// Options make a provider that is larger, slower or less reliable. The zero value is an ordinary one.
type Options struct {
	Extra      int           // further models in the lists
	Pause      time.Duration // before each piece of an answer
	BreakAfter int           // the connection breaks after so many pieces; 0: never
	Words      int           // of each answer; 0: a sentence or two
}

// New returns a simulator.
func New() http.Handler { return NewWith(Options{}) }

// NewWith returns a simulator with options.
func NewWith(o Options) http.Handler {
	s := &provider{Options: o}
	s.handle("GET /v1/models", openai, s.openaiModels)
	s.handle("POST /v1/chat/completions", openai, s.openaiChat)
	s.handle("POST /v1/messages", anthropic, s.anthropicChat)
	s.handle("GET /v1beta/models", gemini, s.geminiModels)
	s.handle("POST /v1beta/models/{call}", gemini, s.geminiChat)
	s.handle("GET /api/tags", ollama, s.ollamaModels)
	s.handle("POST /api/chat", ollama, s.ollamaChat)
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		style(r).fail(w, http.StatusNotFound, "not_found_error", "there is nothing at "+r.URL.Path)
	})
	return s
}

type provider struct {
	Options
	mux http.ServeMux
}

// ServeHTTP implements http.Handler.
func (s *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Fault implements lab.Faulter: errors come in the provider's own form.
func (s *provider) Fault(w http.ResponseWriter, r *http.Request, fault string) bool {
	d := style(r)
	switch fault {
	case lab.Fault429:
		w.Header().Set("Retry-After", "2")
		w.Header().Set("Retry-After-Ms", "1500")
		w.Header().Set("X-Ratelimit-Remaining-Requests", "0")
		d.fail(w, http.StatusTooManyRequests, "rate_limit_error", "Rate limit reached (simulated)")
	case lab.Fault500:
		d.fail(w, http.StatusInternalServerError, "api_error", "The server had an error (simulated)")
	case lab.Fault503:
		d.fail(w, http.StatusServiceUnavailable, "api_error", "server busy, please try again (simulated)")
	case lab.Fault529:
		d.fail(w, 529, "overloaded_error", "Overloaded (simulated)")
	case lab.FaultUnauthorized:
		d.fail(w, http.StatusUnauthorized, "authentication_error", "Incorrect API key provided (simulated)")
	default:
		return false
	}
	return true
}

// manner is how a provider asks for the key and reports errors.
type manner struct {
	key  func(*http.Request) string // nil: none is asked for
	body func(status int, kind, text string) any
}

var (
	openai = &manner{
		func(r *http.Request) string { return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ") },
		func(_ int, kind, text string) any {
			return object{"error": object{"message": text, "type": kind, "param": nil, "code": kind}}
		},
	}
	anthropic = &manner{
		func(r *http.Request) string { return r.Header.Get("X-Api-Key") },
		func(_ int, kind, text string) any {
			return object{"type": "error", "error": object{"type": kind, "message": text}, "request_id": "req_simulated"}
		},
	}
	gemini = &manner{
		func(r *http.Request) string { return r.Header.Get("X-Goog-Api-Key") },
		func(status int, kind, text string) any {
			return object{"error": object{"code": status, "message": text, "status": strings.ToUpper(kind)}}
		},
	}
	ollama = &manner{nil, func(_ int, _, text string) any { return object{"error": text} }}
)

type object = map[string]any

// style tells by the path which provider is meant.
func style(r *http.Request) *manner {
	switch {
	case strings.HasPrefix(r.URL.Path, "/v1beta"):
		return gemini
	case strings.HasPrefix(r.URL.Path, "/api"):
		return ollama
	case r.Header.Get("Anthropic-Version") != "":
		return anthropic
	}
	return openai
}

func (d *manner) fail(w http.ResponseWriter, status int, kind, text string) {
	reply(w, status, d.body(status, kind, text))
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (s *provider) handle(pattern string, d *manner, do http.HandlerFunc) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		own := d
		if pattern == "GET /v1/models" {
			own = style(r) // two providers have their list there
		}
		if own.key != nil && own.key(r) != lab.Credential {
			own.fail(w, http.StatusUnauthorized, "authentication_error", "Incorrect API key provided: "+own.key(r)+" (simulated; the lab's key is \""+lab.Credential+"\")")
			return
		}
		do(w, r)
	})
}

func (s *provider) names() []string {
	list := append([]string{}, Models...)
	for i := range s.Extra {
		list = append(list, fmt.Sprintf("simulated-extra-%04d", i))
	}
	return list
}

func (s *provider) known(name string) bool {
	for _, m := range s.names() {
		if m == name || m+":latest" == name {
			return true
		}
	}
	return false
}

// decode reads a request. It answers by itself, and reports false, where there is something wrong with it.
func decode(w http.ResponseWriter, r *http.Request, d *manner, v any) bool {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 8<<20)).Decode(v); err != nil {
		d.fail(w, http.StatusBadRequest, "invalid_request_error", "We could not parse the JSON body of your request")
		return false
	}
	return true
}

// said is an answer in the making.
type said struct {
	words         []string
	finish        bool // false: it ends at the limit
	input, output int
}

// say makes up the answer to a prompt.
func (s *provider) say(model, prompt string, all, most int) said {
	text := fmt.Sprintf("This is a simulated answer of %s from the built-in lab; no model was asked. The prompt has %d characters and begins: %q", model, len([]rune(prompt)), beginning(prompt))
	words := strings.SplitAfter(text, " ")
	for len(words) < s.Words {
		words = append(words, " and so on")
	}
	a := said{words: words, finish: true, input: max(all/4, 1)}
	if most > 0 && len(words) > most {
		a.words, a.finish = words[:most], false
	}
	a.output = len(a.words)
	return a
}

func beginning(s string) string {
	r := []rune(strings.Join(strings.Fields(s), " "))
	return string(r[:min(len(r), 60)])
}

// each calls emit with the words, one after the other, and reports false if the answer breaks off.
func (s *provider) each(w http.ResponseWriter, r *http.Request, words []string, emit func(string)) {
	flush := http.NewResponseController(w)
	for i, word := range words {
		if s.BreakAfter > 0 && i == s.BreakAfter {
			panic(http.ErrAbortHandler)
		}
		if s.Pause > 0 {
			select {
			case <-time.After(s.Pause):
			case <-r.Context().Done():
				panic(http.ErrAbortHandler)
			}
		}
		emit(word)
		_ = flush.Flush()
	}
}
