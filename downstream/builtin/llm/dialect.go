package llm

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

// question is one completion to be made.
type question struct {
	model       string
	system      string
	turns       []turn
	maxTokens   int
	temperature *float64
}

type turn struct {
	Role string `json:"role" jsonschema:"user or assistant"`
	Text string `json:"text"`
}

// piece is what one event of a stream adds to an answer.
type piece struct {
	text      string
	thinking  int    // bytes of reasoning, which is not shown
	finish    string // why the answer ended; "" if it has not
	model     string // that answers
	input     int    // tokens so far, 0 if not told
	output    int
	failure   *kit.Failure // the provider gives up
	completed bool
}

// model is one that a provider offers.
type model struct {
	Name    string
	Detail  string
	Context int // tokens of prompt and answer
}

// dialect is how a provider speaks.
type dialect struct {
	name      string         // for people
	lines     bool           // the stream is a JSON object on each line, not server-sent events
	root      func(*url.URL) // makes the address that people write the one that paths are below
	authorize func(h http.Header, token string)
	ask       func(base *url.URL, q *question) kit.Request
	read      func(event, data []byte) (piece, error)
	list      func(after string) kit.Request
	models    func(body []byte) (list []model, more string, err error)
}

var providers = []string{"openai", "anthropic", "gemini", "ollama"}

var dialects = map[string]*dialect{"openai": &openai, "anthropic": &anthropic, "gemini": &gemini, "ollama": &ollama}

// below returns a root that cuts suffixes which belong to the paths, and puts one in front of them where there is no path at all.
func below(always string, cut ...string) func(*url.URL) {
	return func(u *url.URL) {
		u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
		for _, c := range cut {
			u.Path = strings.TrimSuffix(u.Path, c)
		}
		if u.Path == "" {
			u.Path = always
		}
	}
}

// messages returns the turns as most providers want them, with their name for who answered.
func messages(q *question, system bool) []map[string]any {
	var list []map[string]any
	if system && q.system != "" {
		list = append(list, map[string]any{"role": "system", "content": q.system})
	}
	for _, t := range q.turns {
		list = append(list, map[string]any{"role": t.Role, "content": t.Text})
	}
	return list
}

// overloaded is a provider that has too much to do and says so inside a stream.
func overloaded(text string) *kit.Failure {
	return &kit.Failure{Class: kit.ClassBusy, Status: 529, Message: "is overloaded: " + text}
}

// gaveUp is a provider that reports an error inside a stream.
func gaveUp(text string) *kit.Failure {
	return &kit.Failure{Class: "provider_error", Executed: true, Message: "gave up: " + text}
}
