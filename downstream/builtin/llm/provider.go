package llm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
	"github.com/mcpgw/mcpgw/internal/wire"
	"github.com/mcpgw/mcpgw/telemetry"
)

// maxAnswer bounds what one completion can make the gateway hold, in bytes.
const maxAnswer = 1 << 20

// provider is one API that completions can be asked of. Its methods may be called at the same time.
type provider struct {
	*dialect
	client *kit.Client
	base   *url.URL
	model  string // that is asked here; "" for the one that the caller names
	label  string // for people: "openai at api.openai.com"
}

func newProvider(cfg *kit.Config, kind, address, model string, token telemetry.Secret) (*provider, error) {
	p := &provider{dialect: dialects[kind], model: model}
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("url: expected http:// or https:// and a host")
	}
	p.root(u)
	own := *cfg
	own.URL, own.Token = u.String(), token
	p.label = kind + " at " + u.Host
	p.client, err = kit.NewClient(&own, kit.ClientOptions{
		System: p.name, Explain: explain,
		Authorize: func(r *http.Request) error {
			if token != "" {
				p.authorize(r.Header, token.Reveal())
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	p.base = p.client.Base()
	return p, nil
}

const statusOverloaded = 529 // Anthropic's

// explain is what the statuses of LLM providers mean where they mean something of their own.
func explain(status int, _ string, header http.Header, body []byte) error {
	told := errorText(body)
	if told == "" {
		return ordinary(status, header)
	}
	switch status {
	case http.StatusTooManyRequests:
		if strings.Contains(told, "quota") || strings.Contains(told, "billing") {
			return &kit.Refusal{Status: status, Message: "the provider refuses until the account has credit again: " + told}
		}
		return &kit.Failure{Class: kit.ClassRateLimited, Status: status, RetryAfter: kit.RetryAfter(header), Message: "the provider wants to be asked less often (HTTP 429): " + told}
	case http.StatusServiceUnavailable, statusOverloaded:
		return pushback(status, header, told)
	case http.StatusUnauthorized:
		return &kit.Failure{Class: kit.ClassAuth, Status: status, Message: "the provider does not accept the key (HTTP 401): " + told}
	case http.StatusForbidden:
		return &kit.Refusal{Status: status, Message: "the provider does not allow this with the key (HTTP 403): " + told}
	case http.StatusBadRequest:
		if strings.Contains(told, "API key not valid") { // Gemini's way to say 401
			return &kit.Failure{Class: kit.ClassAuth, Status: http.StatusUnauthorized, Message: "the provider does not accept the key: " + told}
		}
	case http.StatusNotFound:
		return &kit.Refusal{Status: status, Message: "the provider has no such model, or nothing at this address (list_models shows the models): " + told}
	}
	if status >= http.StatusInternalServerError {
		return &kit.Failure{Class: kit.ClassStatus, Status: status, Executed: true, RetryAfter: kit.RetryAfter(header), Message: fmt.Sprintf("the provider failed (HTTP %d): %s", status, told)}
	}
	return &kit.Refusal{Status: status, Message: fmt.Sprintf("the provider refuses the request (HTTP %d): %s", status, told)}
}

// ordinary explains a status without a sentence.
func ordinary(status int, header http.Header) error {
	switch {
	case status == http.StatusServiceUnavailable || status == statusOverloaded:
		return pushback(status, header, "overloaded")
	case status >= http.StatusInternalServerError:
		return &kit.Failure{Class: kit.ClassStatus, Status: status, Executed: true, RetryAfter: kit.RetryAfter(header), Message: fmt.Sprintf("the provider failed (HTTP %d)", status)}
	}
	return nil
}

// pushback is a provider that has too much to do and did not begin.
func pushback(status int, header http.Header, told string) error {
	return &kit.Failure{Class: kit.ClassStatus, Status: status, RetryAfter: kit.RetryAfter(header), Message: fmt.Sprintf("the provider is overloaded and did not begin (HTTP %d): %s", status, told)}
}

// answer is a completion, whole or as far as it came.
type answer struct {
	text          strings.Builder
	thinking      int
	pieces        int
	finish        string
	model         string
	input, output int // tokens; 0 if not told
	cut           bool
	completed     bool
}

func (a *answer) began() bool { return a.text.Len() > 0 || a.thinking > 0 }

// tokens estimates what the answer has so far where the provider has not said.
func (a *answer) tokens() int { return max(a.output, (a.text.Len()+a.thinking)/4) }

func (a *answer) add(p *piece) {
	if p.text != "" || p.thinking > 0 {
		a.pieces++
	}
	if a.text.Len()+len(p.text) > maxAnswer {
		p.text, a.cut = "", true
	}
	a.text.WriteString(p.text)
	a.thinking += p.thinking
	if p.model != "" {
		a.model = p.model
	}
	if p.finish != "" {
		a.finish = p.finish
	}
	a.input, a.output = max(a.input, p.input), max(a.output, p.output)
	a.completed = a.completed || p.completed
}

// ask makes one completion. told is called after each piece. An answer that broke off is returned with the error.
func (p *provider) ask(ctx context.Context, q *question, idle time.Duration, told func(*answer)) (*answer, error) {
	a := &answer{}
	waiting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var silent atomic.Bool
	timer := time.AfterFunc(idle, func() {
		silent.Store(true)
		cancel(context.DeadlineExceeded)
	})
	defer timer.Stop()
	r := p.dialect.ask(p.base, q)
	r.Stream = func(h http.Header, body io.Reader) error {
		timer.Reset(idle)
		return p.stream(h, body, a, func() {
			timer.Reset(idle)
			told(a)
		})
	}
	_, err := p.client.Do(waiting, r, nil)
	if err == nil && !a.completed && a.finish == "" && !a.cut {
		err = &kit.Failure{Class: kit.ClassConnection, Executed: true, Message: "ended the answer before it was complete"}
	}
	if silent.Load() && ctx.Err() == nil {
		err = &kit.Failure{Class: kit.ClassTimeout, Executed: true, Message: fmt.Sprintf("sent nothing for %s (llm.idle_timeout)", idle)}
	}
	return a, err
}

// stream reads the body of a completion into a.
func (p *provider) stream(h http.Header, body io.Reader, a *answer, told func()) error {
	take := func(event string, data []byte) error {
		part, err := p.read([]byte(event), data)
		if err != nil {
			return &kit.Failure{Class: kit.ClassMalformed, Executed: true, Message: fmt.Sprintf("sent something that is not a part of an answer: %v", err)}
		}
		if f := part.failure; f != nil {
			f.Executed = f.Executed || a.began()
			f.Message = p.client.Redact(f.Message)
			return f
		}
		a.add(&part)
		told()
		return nil
	}
	if !p.lines && strings.HasPrefix(h.Get("Content-Type"), "application/json") { // some do not stream
		whole, err := io.ReadAll(io.LimitReader(body, 4*maxAnswer))
		if err != nil {
			return err
		}
		return take("", whole)
	}
	if p.lines {
		return p.readLines(body, a, take)
	}
	events := wire.NewSSEReader(body, maxAnswer)
	defer events.Release()
	for !a.cut {
		e, err := events.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(bytes.TrimSpace(e.Data)) == 0 {
			continue
		}
		if err := take(e.Name, e.Data); err != nil {
			return err
		}
		if a.completed {
			return nil
		}
	}
	return nil
}

func (p *provider) readLines(body io.Reader, a *answer, take func(string, []byte) error) error {
	lines := newLines(body)
	for !a.cut && !a.completed && lines.Scan() {
		if line := bytes.TrimSpace(lines.Bytes()); len(line) > 0 {
			if err := take("", line); err != nil {
				return err
			}
		}
	}
	return lines.Err()
}

// list returns the models that the provider offers.
func (p *provider) list(ctx context.Context) ([]model, error) {
	var all []model
	after := ""
	for range 10 {
		var body []byte
		if _, err := p.client.Do(ctx, p.dialect.list(after), &body); err != nil {
			return nil, err
		}
		list, more, err := p.models(body)
		if err != nil {
			return nil, &kit.Failure{Class: kit.ClassMalformed, Executed: true, Message: fmt.Sprintf("%s sent something that is not a list of models: %v", p.label, err)}
		}
		all = append(all, list...)
		if more == "" || more == after {
			break
		}
		after = more
	}
	return all, nil
}
