// Package llm is a built-in server that asks another model: OpenAI-compatible APIs, Anthropic, Gemini and Ollama. Completions are streamed
// from the provider, which keeps long ones alive, and bounded in number and size, because they cost money.
package llm

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

// server asks the providers. Its methods may be called at the same time.
type server struct {
	opts      Options
	guard     guard
	providers []*provider // the first one, and its fallbacks in their order
}

const instructions = `Ask another language model. "chat" sends a prompt and returns the answer with the tokens that it took; nothing is remembered ` +
	`between calls. Calls cost money and are limited: ask once, with everything that is needed.`

// New returns the server. cfg.Options is an *Options, or nil for the defaults.
func New(cfg kit.Config) (*kit.Server, error) {
	o := DefaultOptions()
	if given, ok := cfg.Options.(*Options); ok && given != nil {
		o = *given
	}
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("llm: %w", err)
	}
	s := &server{opts: o, guard: guard{limits: o.Limits}}
	first, err := newProvider(&cfg, o.Provider, cfg.URL, "", cfg.Token)
	if err != nil {
		return nil, err
	}
	s.providers = []*provider{first}
	for i, f := range o.Fallbacks {
		address, token, own := f.URL, f.Token, cfg
		if address == "" {
			address, token = cfg.URL, cfg.Token
		} else {
			// Another system: neither the headers nor the certificate of the first one are for it.
			own.Headers, own.TLS = nil, kit.TLS{}
		}
		p, err := newProvider(&own, f.Provider, address, f.Model, token)
		if err != nil {
			return nil, fmt.Errorf("llm.fallbacks[%d].%w", i, err)
		}
		s.providers = append(s.providers, p)
	}
	k := kit.NewServer(cfg, "llm", "Language model", instructions)
	s.addChat(k)
	kit.Add(k, kit.Tool{
		Name: "list_models", Title: "Models", Adjust: kit.PageLimits,
		Description: "Models that chat can ask, by name. Narrow long lists with search.",
		Hints:       &kit.Hints{ReadOnly: true, Idempotent: true, OpenWorld: true},
	}, s.listModels)
	// The list of models costs nothing.
	k.OnPing(func(ctx context.Context) error {
		_, err := first.list(ctx)
		return err
	})
	for _, p := range s.providers {
		k.OnClose(p.client.Close)
	}
	return k, nil
}

type listArgs struct {
	Search string `json:"search,omitempty" jsonschema:"text in the name"`
	Limit  int    `json:"limit,omitempty"`
	Offset int    `json:"offset,omitempty"`
}

func (s *server) listModels(ctx context.Context, _ *kit.Call, in listArgs) (*kit.Listing, error) {
	models, err := s.providers[0].list(ctx)
	if err != nil {
		return nil, err
	}
	items := []kit.Item{}
	seen := map[string]bool{}
	add := func(m model) {
		if seen[m.Name] {
			return
		}
		seen[m.Name] = true
		it := kit.Item{"model": m.Name}
		if m.Detail != "" {
			it["about"] = m.Detail
		}
		if m.Context > 0 {
			it["context_tokens"] = m.Context
		}
		if m.Name == s.opts.Model {
			it["default"] = true
		}
		items = append(items, it)
	}
	for _, m := range models {
		if s.opts.allowed(m.Name) {
			add(m)
		}
	}
	if s.opts.Model != "" {
		add(model{Name: s.opts.Model, Detail: "set in gateway.yaml; the provider does not list it"})
	}
	slices.SortFunc(items, func(a, b kit.Item) int { return cmp.Compare(fmt.Sprint(a["model"]), fmt.Sprint(b["model"])) })
	return kit.List(items, kit.Page{Search: in.Search, Limit: in.Limit, Offset: in.Offset}, "model", "default", "about", "context_tokens"), nil
}

// choose returns the model to ask for.
func (s *server) choose(asked string) (string, error) {
	switch {
	case asked == "" && s.opts.Model != "":
		return s.opts.Model, nil
	case asked == "":
		return "", errors.New("name a model (list_models shows them), or have the owner set llm.model in gateway.yaml")
	case strings.ContainsAny(asked, "\r\n\x00"):
		return "", errors.New("model: not the name of a model")
	case !s.opts.allowed(asked):
		allowed := append([]string{}, s.opts.Models...)
		if s.opts.Model != "" {
			allowed = append([]string{s.opts.Model}, allowed...)
		}
		return "", fmt.Errorf("model %q is not among those that gateway.yaml allows: %s", asked, strings.Join(allowed, ", "))
	}
	return asked, nil
}

// noModel takes the argument away where there is nothing to choose.
func (s *server) adjust(schema *jsonschema.Schema) {
	kit.Range(schema, "max_tokens", 1, float64(s.opts.Limits.MaxTokens))
	kit.Range(schema, "temperature", 0, 2)
	if s.opts.pinned() {
		delete(schema.Properties, "model")
		schema.PropertyOrder = slices.DeleteFunc(schema.PropertyOrder, func(p string) bool { return p == "model" })
	} else if s.opts.Model == "" {
		schema.Required = append(schema.Required, "model")
	}
}

// newLines reads lines of at most maxAnswer bytes.
func newLines(r io.Reader) *bufio.Scanner {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 16<<10), maxAnswer)
	return s
}
