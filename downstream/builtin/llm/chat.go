package llm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

type chatArgs struct {
	Prompt      string   `json:"prompt" jsonschema:"what to ask, complete in itself"`
	System      string   `json:"system,omitempty" jsonschema:"instructions for the model"`
	Model       string   `json:"model,omitempty"`
	History     []turn   `json:"history,omitempty" jsonschema:"earlier turns, oldest first"`
	MaxTokens   int      `json:"max_tokens,omitempty" jsonschema:"longest answer"`
	Temperature *float64 `json:"temperature,omitempty"`
}

// completion is the structured content of a chat.
type completion struct {
	Answer       string `json:"answer"`
	Model        string `json:"model" jsonschema:"that answered"`
	Provider     string `json:"provider"`
	Finish       string `json:"finish_reason,omitempty"`
	InputTokens  int    `json:"input_tokens"`
	OutputTokens int    `json:"output_tokens"`
	Note         string `json:"note,omitempty"`
}

// Text implements kit.Texter.
func (c *completion) Text() string {
	text := fmt.Sprintf("%s\n\n(%s, %s: %d tokens in, %d out", c.Answer, c.Model, c.Provider, c.InputTokens, c.OutputTokens)
	if c.Note != "" {
		text += "; " + c.Note
	}
	return text + ")\n"
}

// Shrink implements kit.Shrinker. The answer stands in a result twice.
func (c *completion) Shrink() bool {
	if len(c.Answer) < 1<<10 {
		return false
	}
	n := len(c.Answer) * 7 / 8
	for n > 0 && !utf8.RuneStart(c.Answer[n]) {
		n--
	}
	c.Answer = c.Answer[:n]
	const cut = "the answer was too long for a result: its end is missing"
	if !strings.Contains(c.Note, cut) {
		c.Note = join(c.Note, cut)
	}
	return true
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

func (s *server) addChat(k *kit.Server) {
	description := "Ask a language model and get its answer. It sees only what is passed here. Each call costs money and is limited."
	if s.opts.Model != "" {
		description += " Default model: " + s.opts.Model + "."
	}
	if s.opts.pinned() {
		description = strings.Replace(description, "Default model", "Model", 1)
	}
	kit.Add(k, kit.Tool{
		Name: "chat", Title: "Ask a model", Description: description, Adjust: s.adjust,
		// A completion changes nothing, so every level of access has it. It is not marked read-only all the same: what is read-only may be
		// called without asking anyone, and repeated whenever no answer came, and a completion costs money each time. The world is open: the
		// prompt leaves the house.
		Hints: &kit.Hints{OpenWorld: true},
	}, s.chat)
}

func (s *server) chat(ctx context.Context, call *kit.Call, in chatArgs) (*completion, error) {
	name, err := s.choose(in.Model)
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(in.Prompt) == "" {
		return nil, errors.New("prompt: there is nothing to ask")
	}
	q := question{model: name, system: in.System, maxTokens: in.MaxTokens, temperature: in.Temperature}
	if q.maxTokens <= 0 {
		q.maxTokens = s.opts.Limits.MaxTokens
	}
	size := len(in.System) + len(in.Prompt)
	for i, t := range in.History {
		if t.Role != "user" && t.Role != "assistant" {
			return nil, fmt.Errorf("history[%d].role: expected user or assistant, found %q", i, t.Role)
		}
		size += len(t.Text)
	}
	q.turns = append(append(q.turns, in.History...), turn{"user", in.Prompt})
	worst := size/3 + q.maxTokens // 4 bytes are a token in English, fewer in most other languages
	if err := s.guard.begin(worst); err != nil {
		return nil, err
	}
	spent := 0
	defer func() { s.guard.settle(worst, spent) }()
	done, tokens, err := s.complete(ctx, call, &q, size)
	spent = tokens
	return done, err
}

// complete asks the providers in turn until one of them begins to answer. tokens is what all of it took.
func (s *server) complete(ctx context.Context, call *kit.Call, q *question, size int) (done *completion, tokens int, err error) {
	var (
		failed []string
		step   float64 // of the progress told so far
	)
	for i, p := range s.providers {
		asked := *q
		if p.model != "" {
			asked.model = p.model
		}
		news := newNews(ctx, call, p.label, asked.model, step)
		a, err := p.ask(ctx, &asked, s.opts.IdleTimeout, news.told)
		news.stop()
		if a.began() {
			tokens += max(a.input, size/4) + a.tokens()
		}
		if err == nil {
			return finish(a, &asked, p, failed, size), max(tokens, a.input+a.output), nil
		}
		if ctx.Err() != nil {
			return nil, tokens, err
		}
		err = s.named(p, &asked, a, err)
		// After the first bytes the answer is being paid for: asking elsewhere would pay twice, and could say something else.
		if a.began() || i == len(s.providers)-1 || !elsewhere(err) {
			return nil, tokens, also(err, failed)
		}
		failed = append(failed, err.Error())
		step = news.next()
		call.Progress(ctx, step, 0, fmt.Sprintf("%s; asking %s", err, s.providers[i+1].label))
	}
	return nil, tokens, err
}

// finish makes the result of a completion.
func finish(a *answer, q *question, p *provider, failed []string, size int) *completion {
	c := &completion{
		Answer: a.text.String(), Model: a.model, Provider: p.label, Finish: a.finish, InputTokens: a.input, OutputTokens: a.output,
	}
	if c.Model == "" {
		c.Model = q.model
	}
	if a.input == 0 && a.output == 0 {
		c.InputTokens, c.OutputTokens = size/4, a.tokens()
		c.Note = "the provider did not count the tokens: these are estimates"
	}
	if len(failed) > 0 {
		c.Note = join(c.Note, "asked as a fallback, because "+strings.Join(failed, "; "))
	}
	switch {
	case a.cut:
		c.Note = join(c.Note, "the answer was longer than the gateway takes: its end is missing")
	case a.finish == "length" || a.finish == "max_tokens":
		c.Note = join(c.Note, fmt.Sprintf("the answer ends at the limit of %d tokens", q.maxTokens))
	case c.Answer == "" && a.thinking > 0:
		c.Note = join(c.Note, "the model only thought: allow more max_tokens")
	}
	return c
}

// named says in err who failed, and how far the answer came.
func (s *server) named(p *provider, q *question, a *answer, err error) error {
	who := fmt.Sprintf("%s (model %s)", p.label, q.model)
	if f, ok := errors.AsType[*kit.Failure](err); ok {
		named := *f
		named.Message = who + ": " + f.Message
		if a.began() {
			named.Executed = true
			if f.Class == kit.ClassConnection {
				named.Message = who + ": the connection ended in the middle of the answer"
			}
			named.Message += fmt.Sprintf(". About %d tokens of the answer had come and are lost; they are paid for, so it is not asked again by itself", a.tokens())
		}
		return &named
	}
	if r, ok := errors.AsType[*kit.Refusal](err); ok {
		return &kit.Refusal{Status: r.Status, Message: who + ": " + r.Message}
	}
	return fmt.Errorf("%s: %w", who, err)
}

// also puts the failures of those asked before into the text of an error.
func also(err error, failed []string) error {
	if len(failed) == 0 {
		return err
	}
	before := ". Asked before: " + strings.Join(failed, "; ")
	if f, ok := errors.AsType[*kit.Failure](err); ok {
		f.Message += before
		return f
	}
	return fmt.Errorf("%w%s", err, before)
}

// elsewhere says whether another provider may do better: not where the request itself is at fault.
func elsewhere(err error) bool {
	if r, ok := errors.AsType[*kit.Refusal](err); ok {
		return slices.Contains([]int{http.StatusForbidden, http.StatusNotFound, http.StatusTooManyRequests, http.StatusPaymentRequired}, r.Status)
	}
	_, ok := errors.AsType[*kit.Failure](err)
	return ok
}

// news turns what comes from a provider into progress of the call. Its methods may be called at the same time.
type news struct {
	ctx  context.Context //nolint:containedctx // of the one call that it reports on
	call *kit.Call
	end  chan struct{}
	wg   sync.WaitGroup

	mu   sync.Mutex
	last time.Time // guarded by mu
	step float64   // guarded by mu
	text string    // guarded by mu
}

const (
	newsPause   = time.Second      // at least, between two reports
	newsSilence = 10 * time.Second // at most, so that clients see that the call lives
)

// newNews reports once, as the step after the one given, and then whenever nothing else did for a while. The caller ends it with stop.
func newNews(ctx context.Context, call *kit.Call, label, model string, step float64) *news {
	n := &news{ctx: ctx, call: call, end: make(chan struct{}), step: step, text: fmt.Sprintf("asked %s of %s", model, label)}
	n.report()
	n.wg.Go(func() {
		tick := time.NewTicker(newsSilence)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				n.mu.Lock()
				quiet := time.Since(n.last) >= newsSilence-newsPause
				n.mu.Unlock()
				if quiet {
					n.report()
				}
			case <-n.end:
				return
			}
		}
	})
	return n
}

func (n *news) stop() {
	close(n.end)
	n.wg.Wait()
}

// told takes note of a further piece.
func (n *news) told(a *answer) {
	n.mu.Lock()
	switch {
	case a.text.Len() > 0:
		n.text = fmt.Sprintf("about %d tokens: …%s", a.tokens(), tail(a.text.String(), 80))
	case a.thinking > 0:
		n.text = fmt.Sprintf("thinking: about %d tokens", a.thinking/4)
	}
	due := time.Since(n.last) >= newsPause
	n.mu.Unlock()
	if due {
		n.report()
	}
}

func (n *news) report() {
	n.mu.Lock()
	n.last = time.Now()
	n.step++
	step, text := n.step, n.text
	n.mu.Unlock()
	n.call.Progress(n.ctx, step, 0, text)
}

// next returns a number for a report by someone else.
func (n *news) next() float64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.step++
	return n.step
}

// tail returns the end of a text, on one line.
func tail(s string, n int) string {
	if len(s) > n {
		s = s[len(s)-n:]
		for len(s) > 0 && !utf8.RuneStart(s[0]) {
			s = s[1:]
		}
	}
	return strings.Join(strings.Fields(s), " ")
}
