package llm

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
	"github.com/mcpgw/mcpgw/telemetry"
)

// Options is the section "llm" of a downstream.
type Options struct {
	Provider    string        `yaml:"provider" default:"openai" enum:"openai|anthropic|gemini|ollama" doc:"What url speaks. openai is everything that is compatible with OpenAI's chat completions (vLLM, llama.cpp, LM Studio, OpenRouter …)."`
	Model       string        `yaml:"model" doc:"Model of chat. Without models it is pinned: callers cannot choose."`
	Models      []string      `yaml:"models" doc:"Models that callers may choose, besides model: names, or patterns such as qwen3:*. With neither model nor models any of the provider's may be named."`
	IdleTimeout time.Duration `yaml:"idle_timeout" default:"2m" doc:"A completion ends if the provider sends nothing for this long. There is no limit to the whole, as long as it keeps sending (resilience.timeouts.progress_max)."`
	Limits      Limits        `yaml:"limits" doc:"What callers may spend. The counts start at 0 when the gateway starts or this section changes."`
	Fallbacks   []Fallback    `yaml:"fallbacks" doc:"Asked in this order when the provider cannot be reached, refuses, or fails before it sent anything."`
}

// Limits is the cost guard.
type Limits struct {
	MaxTokens         int `yaml:"max_tokens" default:"4096" doc:"Longest answer, in tokens. It is what callers get that do not ask for less."`
	RequestsPerMinute int `yaml:"requests_per_minute" default:"30" doc:"Completions in any minute. 0: no limit."`
	TokensPerDay      int `yaml:"tokens_per_day" default:"1000000" doc:"Tokens in any 24 hours, of prompts and answers together. 0: no limit."`
}

// Fallback is another provider, or another model of the same one.
type Fallback struct {
	Provider string           `yaml:"provider" default:"openai" enum:"openai|anthropic|gemini|ollama" doc:"What url speaks."`
	URL      string           `yaml:"url" doc:"Address of the provider. Default: that of the downstream, whose token is then used too."`
	Token    telemetry.Secret `yaml:"token" doc:"API key."`
	Model    string           `yaml:"model" doc:"Model to ask."`
}

// DefaultOptions returns Options with every default filled in.
func DefaultOptions() Options {
	return Options{
		Provider: "openai", IdleTimeout: 2 * time.Minute,
		Limits: Limits{MaxTokens: 4096, RequestsPerMinute: 30, TokensPerDay: 1_000_000},
	}
}

// DefaultFallback returns a Fallback with every default filled in.
func DefaultFallback() Fallback { return Fallback{Provider: "openai"} }

// Validate reports every fault of o, joined, each a *[kit.KeyError].
func (o *Options) Validate() error {
	var faults kit.Faults
	fault := faults.Add
	provider := func(key, name string) {
		if _, ok := dialects[name]; !ok {
			fault(key, "expected one of %s, found %q", strings.Join(providers, ", "), name)
		}
	}
	provider("provider", o.Provider)
	if strings.TrimSpace(o.Model) != o.Model {
		fault("model", "begins or ends with a space")
	}
	for i, m := range o.Models {
		if _, err := path.Match(m, ""); err != nil || m == "" {
			fault(fmt.Sprintf("models[%d]", i), "expected the name of a model, or a pattern such as qwen3:*")
		}
	}
	if o.IdleTimeout <= 0 {
		fault("idle_timeout", "must be more than 0, found %s", o.IdleTimeout)
	}
	if l := o.Limits; l.MaxTokens < 1 {
		fault("limits.max_tokens", "must be at least 1, found %d", l.MaxTokens)
	} else if l.TokensPerDay > 0 && l.TokensPerDay < l.MaxTokens {
		fault("limits.tokens_per_day", "%d is less than one answer may have (limits.max_tokens is %d)", l.TokensPerDay, l.MaxTokens)
	}
	if o.Limits.RequestsPerMinute < 0 {
		fault("limits.requests_per_minute", "must not be negative, found %d", o.Limits.RequestsPerMinute)
	}
	if o.Limits.TokensPerDay < 0 {
		fault("limits.tokens_per_day", "must not be negative, found %d", o.Limits.TokensPerDay)
	}
	for i, f := range o.Fallbacks {
		key := fmt.Sprintf("fallbacks[%d].", i)
		provider(key+"provider", f.Provider)
		if f.Model == "" {
			fault(key+"model", "missing: a model's name means nothing to another provider")
		}
		switch {
		case f.URL == "" && f.Provider != o.Provider:
			fault(key+"url", "missing: the downstream's own url speaks %s", o.Provider)
		case f.URL == "" && f.Token != "":
			fault(key+"token", "only with an url of its own")
		case f.URL != "":
			if err := address(f.URL); err != nil {
				fault(key+"url", "%v", err)
			}
		}
	}
	return faults.Err()
}

func address(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return errors.New("expected https:// (or http://) and a host") // err would repeat a password
	case u.User != nil:
		return errors.New("must not hold a user name or password: use token")
	}
	return nil
}

// Secrets returns the values that nobody may see.
func (o *Options) Secrets() []telemetry.Secret {
	var list []telemetry.Secret
	for _, f := range o.Fallbacks {
		list = append(list, f.Token)
	}
	return list
}

// pinned says that callers have no choice.
func (o *Options) pinned() bool { return o.Model != "" && len(o.Models) == 0 }

// allowed says whether callers may ask for a model.
func (o *Options) allowed(model string) bool {
	if model == o.Model || o.Model == "" && len(o.Models) == 0 {
		return true
	}
	return slices.ContainsFunc(o.Models, func(pattern string) bool {
		ok, _ := path.Match(pattern, model)
		return ok || pattern == model
	})
}
