package llm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	jsonschema "github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
	"github.com/mcpgw/mcpgw/downstream/builtin/lab"
	"github.com/mcpgw/mcpgw/downstream/builtin/llm/sim"
	"github.com/mcpgw/mcpgw/telemetry"
)

// bench is a server in use, and what a client sees of it.
type bench struct {
	*mcp.ClientSession
	mu       sync.Mutex
	progress []*mcp.ProgressNotificationParams // guarded by mu
}

func (b *bench) told() []*mcp.ProgressNotificationParams {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*mcp.ProgressNotificationParams{}, b.progress...)
}

func start(t *testing.T, cfg kit.Config, change func(*Options)) *bench {
	t.Helper()
	o := DefaultOptions()
	o.Model = "simulated-mini"
	if change != nil {
		change(&o)
	}
	cfg.Options = &o
	if cfg.Token == "" {
		cfg.Token = lab.Credential
	}
	k, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{}
	ct, st := mcp.NewInMemoryTransports()
	if _, err := k.MCP().Connect(t.Context(), st, nil); err != nil {
		t.Fatal(err)
	}
	b.ClientSession, err = mcp.NewClient(&mcp.Implementation{Name: "test"}, &mcp.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.progress = append(b.progress, r.Params)
		},
	}).Connect(t.Context(), ct, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = b.ClientSession.Close()
		if err := k.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b
}

// reply is what came of a call.
type reply struct {
	text    string
	out     completion
	raw     json.RawMessage
	isError bool
	failure *kit.Failure
}

func (b *bench) call(t *testing.T, tool string, args map[string]any) reply {
	t.Helper()
	p := &mcp.CallToolParams{Name: tool, Arguments: args}
	p.SetProgressToken("p")
	res, err := b.CallTool(t.Context(), p)
	if rpc, ok := errors.AsType[*jsonrpc.Error](err); ok && rpc.Code == kit.CodeFailure {
		f, err := kit.ParseFailure(rpc.Data)
		if err != nil {
			t.Fatal(err)
		}
		return reply{failure: f, text: f.Message}
	}
	if err != nil {
		t.Fatal(err)
	}
	r := reply{isError: res.IsError, text: res.Content[0].(*mcp.TextContent).Text}
	if !res.IsError {
		r.raw, _ = json.Marshal(res.StructuredContent)
		if err := json.Unmarshal(r.raw, &r.out); err != nil {
			t.Fatal(err)
		}
		b.valid(t, tool, r.raw)
	}
	if n := len(r.text) + len(r.raw); n > 48<<10 {
		t.Errorf("%s: a result of %d bytes", tool, n)
	}
	return r
}

// valid checks structured content against the schema that the tool declares.
func (b *bench) valid(t *testing.T, tool string, raw json.RawMessage) {
	t.Helper()
	for found, err := range b.Tools(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		if found.Name != tool {
			continue
		}
		declared, _ := json.Marshal(found.OutputSchema)
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(declared)))
		if err != nil {
			t.Fatal(err)
		}
		c := jsonschema.NewCompiler()
		if err := c.AddResource("s.json", doc); err != nil {
			t.Fatal(err)
		}
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(string(raw)))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.MustCompile("s.json").Validate(v); err != nil {
			t.Error(err)
		}
	}
}

func simulated(t *testing.T, o sim.Options) string {
	t.Helper()
	s := httptest.NewServer(sim.NewWith(o))
	t.Cleanup(s.Close)
	return s.URL
}

func TestEveryProviderAnswers(t *testing.T) {
	for _, provider := range providers {
		t.Run(provider, func(t *testing.T) {
			b := start(t, kit.Config{URL: simulated(t, sim.Options{})}, func(o *Options) { o.Provider, o.Model = provider, "" })
			r := b.call(t, "chat", map[string]any{
				"prompt": "Is the ceph cluster healthy?", "model": "simulated-large", "system": "Be short.", "temperature": 0.2,
				"history": []map[string]any{{"role": "user", "text": "hello"}, {"role": "assistant", "text": "hi"}},
			})
			if r.isError || r.failure != nil || !strings.Contains(r.out.Answer, "simulated answer of simulated-large") || !strings.Contains(r.out.Answer, "Is the ceph cluster healthy?") {
				t.Fatalf("got %+v", r)
			}
			if r.out.InputTokens < 5 || r.out.OutputTokens < 10 || r.out.Model != "simulated-large" || r.out.Note != "" || r.out.Finish == "" {
				t.Errorf("got %+v", r.out)
			}
			if !strings.Contains(r.text, fmt.Sprintf("%d out)", r.out.OutputTokens)) {
				t.Errorf("the text does not tell the tokens: %s", r.text)
			}
			if r := b.call(t, "chat", map[string]any{"prompt": "x", "model": "simulated-large", "max_tokens": 3}); r.out.OutputTokens != 3 || !strings.Contains(r.out.Note, "ends at the limit of 3 tokens") {
				t.Errorf("max_tokens: %+v", r)
			}
			if r := b.call(t, "chat", map[string]any{"prompt": "x", "model": "gone/../x"}); !r.isError || !strings.Contains(r.text, "list_models") {
				t.Errorf("unknown model: %+v", r)
			}
			if r := b.call(t, "list_models", nil); !strings.Contains(r.text, "simulated-mini") {
				t.Errorf("models: %+v", r)
			}
			if err := b.Ping(t.Context(), nil); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestListIsSmall(t *testing.T) {
	b := start(t, kit.Config{URL: simulated(t, sim.Options{})}, nil)
	list, err := b.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := json.Marshal(list.Tools)
	if t.Logf("%d bytes: %s", len(raw), raw); len(raw) > 2400 {
		t.Errorf("%d bytes, at most 2400", len(raw))
	}
	for _, tool := range list.Tools {
		if n := len(tool.Description); n < 60 || n > 160 {
			t.Errorf("%s: description of %d characters", tool.Name, n)
		}
		a := tool.Annotations
		if read := tool.Name != "chat"; a.ReadOnlyHint != read || a.IdempotentHint != read || !*a.OpenWorldHint || *a.DestructiveHint {
			t.Errorf("%s: %+v", tool.Name, a)
		}
	}
}

func TestModelIsPinnedOrChosen(t *testing.T) {
	url := simulated(t, sim.Options{})
	b := start(t, kit.Config{URL: url}, nil)
	if r := b.call(t, "chat", map[string]any{"prompt": "x"}); r.out.Model != "simulated-mini" {
		t.Errorf("got %+v", r)
	}
	if r := b.call(t, "chat", map[string]any{"prompt": "x", "model": "simulated-large"}); !r.isError {
		t.Errorf("pinned, and yet: %+v", r)
	}
	if r := b.call(t, "list_models", nil); strings.Contains(r.text, "large") || !strings.Contains(r.text, "mini") {
		t.Errorf("got %s", r.text)
	}
	b = start(t, kit.Config{URL: url}, func(o *Options) { o.Models = []string{"simulated-l*"} })
	if r := b.call(t, "chat", map[string]any{"prompt": "x", "model": "simulated-large"}); r.out.Model != "simulated-large" {
		t.Errorf("got %+v", r)
	}
	if r := b.call(t, "chat", map[string]any{"prompt": "x", "model": "gpt-9"}); !r.isError || !strings.Contains(r.text, "gateway.yaml allows: simulated-mini, simulated-l*") {
		t.Errorf("got %+v", r)
	}
}

func TestLargeListAndAnswerStaySmall(t *testing.T) {
	b := start(t, kit.Config{URL: simulated(t, sim.Options{Extra: 3000, Words: 20000})}, func(o *Options) {
		o.Model, o.Limits.MaxTokens, o.Limits.TokensPerDay = "", 100_000, 0
	})
	if r := b.call(t, "list_models", map[string]any{"limit": 500}); !strings.Contains(r.text, "of 3002 shown") {
		t.Errorf("got %.300s", r.text)
	}
	if r := b.call(t, "chat", map[string]any{"prompt": "x", "model": "simulated-mini"}); !strings.Contains(r.out.Note, "its end is missing") {
		t.Errorf("got %.300s", r.text)
	}
}

func TestProgressTellsWhatComes(t *testing.T) {
	b := start(t, kit.Config{URL: simulated(t, sim.Options{Pause: 40 * time.Millisecond, Words: 60})}, nil)
	if r := b.call(t, "chat", map[string]any{"prompt": "x"}); r.isError || r.failure != nil {
		t.Fatal(r)
	}
	told := b.told()
	if len(told) < 2 || !strings.HasPrefix(told[0].Message, "asked simulated-mini of openai at ") || !strings.HasPrefix(told[1].Message, "about ") {
		t.Fatalf("got %d", len(told))
	}
	for i := 1; i < len(told); i++ {
		if told[i].Progress <= told[i-1].Progress {
			t.Errorf("progress goes from %v to %v", told[i-1].Progress, told[i].Progress)
		}
	}
}

func TestLimits(t *testing.T) {
	url := simulated(t, sim.Options{})
	b := start(t, kit.Config{URL: url}, func(o *Options) { o.Limits.RequestsPerMinute = 2 })
	for range 2 {
		if r := b.call(t, "chat", map[string]any{"prompt": "x"}); r.isError {
			t.Fatal(r)
		}
	}
	if r := b.call(t, "chat", map[string]any{"prompt": "x"}); !r.isError || !strings.Contains(r.text, "limit of 2 completions a minute is reached (llm.limits.requests_per_minute") {
		t.Errorf("got %+v", r)
	}
	b = start(t, kit.Config{URL: url}, func(o *Options) { o.Limits.MaxTokens, o.Limits.TokensPerDay = 100, 120 })
	if r := b.call(t, "chat", map[string]any{"prompt": "x"}); r.isError {
		t.Fatal(r)
	}
	if r := b.call(t, "chat", map[string]any{"prompt": "x"}); !r.isError || !strings.Contains(r.text, "of the 120 that are allowed in 24 hours") || !strings.Contains(r.text, "Nothing was sent") {
		t.Errorf("got %+v", r)
	}
	if r := b.call(t, "chat", map[string]any{"prompt": "x", "max_tokens": 10}); r.isError {
		t.Errorf("a shorter one: %+v", r)
	}
	if r := b.call(t, "chat", map[string]any{"prompt": "x", "max_tokens": 101}); !r.isError || !strings.Contains(r.text, "wrong arguments") {
		t.Errorf("got %+v", r)
	}
}

// What each trouble of a provider means for the gateway's policies.
func TestTroubles(t *testing.T) {
	l := lab.New()
	t.Cleanup(l.Close)
	system, err := l.Start("llm", "llm", sim.New)
	if err != nil {
		t.Fatal(err)
	}
	for _, provider := range providers {
		b := start(t, kit.Config{URL: system.URL()}, func(o *Options) { o.Provider, o.IdleTimeout = provider, 300*time.Millisecond })
		for _, c := range []struct {
			fault, class string
			status       int
			executed     bool
			after        time.Duration
		}{
			{lab.Fault429, kit.ClassRateLimited, 429, false, 1500 * time.Millisecond},
			{lab.Fault529, kit.ClassStatus, 529, false, 0},
			{lab.Fault503, kit.ClassStatus, 503, false, 0},
			{lab.Fault500, kit.ClassStatus, 500, true, 0},
			{lab.FaultGarbage, kit.ClassMalformed, 0, true, 0},
			{lab.FaultHang, kit.ClassTimeout, 0, true, 0},
			{lab.FaultRefuse, kit.ClassConnect, 0, false, 0},
		} {
			f, err := lab.ParseFault(c.fault, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := system.Break(f); err != nil {
				t.Fatal(err)
			}
			r := b.call(t, "chat", map[string]any{"prompt": "x"})
			if r.failure == nil || r.failure.Class != c.class || r.failure.Status != c.status || r.failure.Executed != c.executed || r.failure.RetryAfter != c.after {
				t.Errorf("%s, %s: got %+v (%+v)", provider, c.fault, r.failure, r)
			}
			if !strings.Contains(r.text, provider+" at 127.0.0.1") {
				t.Errorf("%s, %s: it does not say who failed: %s", provider, c.fault, r.text)
			}
		}
		if err := system.Mend(); err != nil {
			t.Fatal(err)
		}
		if r := b.call(t, "chat", map[string]any{"prompt": "x"}); r.isError || r.failure != nil {
			t.Errorf("%s: after all faults: %+v", provider, r)
		}
	}
}

func TestBrokenOffIsNotAskedElsewhere(t *testing.T) {
	second := 0
	spare := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		second++
		sim.New().ServeHTTP(w, r)
	}))
	t.Cleanup(spare.Close)
	b := start(t, kit.Config{URL: simulated(t, sim.Options{BreakAfter: 5})}, func(o *Options) {
		o.Fallbacks = []Fallback{{Provider: "openai", URL: spare.URL, Token: lab.Credential, Model: "simulated-large"}}
	})
	r := b.call(t, "chat", map[string]any{"prompt": "x"})
	if r.failure == nil || !r.failure.Executed || !strings.Contains(r.text, "tokens of the answer had come and are lost") || second != 0 {
		t.Errorf("got %+v after %d calls of the spare", r.failure, second)
	}
}

func TestFallbacks(t *testing.T) {
	spare := simulated(t, sim.Options{})
	for name, first := range map[string]http.HandlerFunc{
		"connection ends": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"rate limited":    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) },
		"wrong key":       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) },
		"no such model":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) },
		"hangs": func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		},
		"silent stream": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "text/event-stream")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(first)
			t.Cleanup(s.Close)
			b := start(t, kit.Config{URL: s.URL}, func(o *Options) {
				o.IdleTimeout = 200 * time.Millisecond
				o.Fallbacks = []Fallback{
					{Provider: "anthropic", URL: "http://127.0.0.1:1", Model: "simulated-mini", Token: "tokenofnobody"},
					{Provider: "ollama", URL: spare, Model: "simulated-large"},
				}
			})
			r := b.call(t, "chat", map[string]any{"prompt": "x"})
			if r.isError || r.failure != nil || r.out.Model != "simulated-large" || !strings.HasPrefix(r.out.Provider, "ollama at ") || !strings.Contains(r.out.Note, "asked as a fallback, because openai at ") {
				t.Errorf("got %+v", r)
			}
		})
	}
	asked := false
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { asked = true; w.WriteHeader(400) }))
	t.Cleanup(s.Close)
	b := start(t, kit.Config{URL: s.URL}, func(o *Options) { o.Fallbacks = []Fallback{{Provider: "openai", URL: spare, Model: "simulated-large"}} })
	if r := b.call(t, "chat", map[string]any{"prompt": "x"}); !r.isError || !asked {
		t.Errorf("a request that is wrong everywhere was asked elsewhere: %+v", r)
	}
}

func TestWrongKeyIsTriedOnceAndNeverShown(t *testing.T) {
	const key = "sk-planted-9f8e7d6c5b"
	asked := 0
	real := sim.New()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		real.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	var logged strings.Builder
	b := start(t, kit.Config{
		URL: s.URL, Token: key, Headers: map[string]telemetry.Secret{"X-Extra": "Bearer planted-header-1"},
		Log: slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}, nil)
	for range 3 {
		r := b.call(t, "chat", map[string]any{"prompt": "x"})
		if r.failure == nil || r.failure.Class != kit.ClassAuth || strings.Contains(r.text, key) || !strings.Contains(r.text, "[redacted]") {
			t.Errorf("got %+v", r.failure)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times with a wrong key", asked)
	}
	for _, told := range b.told() {
		if strings.Contains(told.Message, key) {
			t.Error(told.Message)
		}
	}
	if strings.Contains(logged.String(), "planted") {
		t.Error(logged.String())
	}
}

func TestValidate(t *testing.T) {
	o := DefaultOptions()
	o.Provider, o.Models, o.IdleTimeout = "opnai", []string{"[", "x"}, 0
	o.Limits = Limits{MaxTokens: 10, RequestsPerMinute: -1, TokensPerDay: 5}
	o.Fallbacks = []Fallback{{Provider: "ollama", URL: "ftp://x"}, {Provider: "openai", Token: "x", Model: "y"}, {Provider: "gemini", URL: "https://u:p@x", Model: "z"}}
	want := []string{
		`provider: expected one of openai, anthropic, gemini, ollama, found "opnai"`,
		`models[0]: expected the name of a model, or a pattern such as qwen3:*`,
		`idle_timeout: must be more than 0, found 0s`,
		`limits.tokens_per_day: 5 is less than one answer may have (limits.max_tokens is 10)`,
		`limits.requests_per_minute: must not be negative, found -1`,
		`fallbacks[0].model: missing: a model's name means nothing to another provider`,
		`fallbacks[0].url: expected https:// (or http://) and a host`,
		`fallbacks[1].url: missing: the downstream's own url speaks opnai`,
		`fallbacks[2].url: must not hold a user name or password: use token`,
	}
	if err := o.Validate(); err == nil || err.Error() != strings.Join(want, "\n") {
		t.Errorf("got\n%v", err)
	}
}
