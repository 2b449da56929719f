package random

import (
	"context"
	"errors"
	"fmt"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// turn is what happened when a message was sent.
type turn struct {
	params    string
	messages  []harness.Message
	questions []harness.Message
	answers   []string
}

func (t *turn) last() harness.Message { return t.messages[len(t.messages)-1] }

// play sends a message one way.
func (l *lane) play(ctx context.Context, s sender, m *message, params, name string) (*turn, error) {
	if s == l.direct {
		if err := l.schemas.validMessage(l.peer.modern, m, params); err != nil {
			return nil, err
		}
	}
	l.peer.tell(m.reply)
	t, asked := &turn{}, 0
	var err error
	t.messages, err = s.send(ctx, m.id, m.method, name, params, func(q harness.Message) string {
		t.questions = append(t.questions, q)
		if asked++; asked > len(m.reply.asks) {
			return `{"unasked":true}`
		}
		return m.reply.asks[asked-1].answer
	})
	if err != nil {
		return nil, err
	}
	seen, answers := l.peer.saw()
	if len(seen) != 1 {
		return nil, fmt.Errorf("the server got %d requests; the answer is %.500s %.500s", len(seen), t.last().Result, t.last().Error)
	}
	t.params, t.answers = seen[0], answers
	if string(t.last().ID) != m.id {
		return nil, fmt.Errorf("the id %s came back as %s", m.id, t.last().ID)
	}
	return t, nil
}

// both sends a message directly and through the gateway, and compares what the server got and what came back, but not the result.
func (l *lane) both(ctx context.Context, m *message) (direct, through *turn, err error) {
	direct, err = l.play(ctx, l.direct, m, m.params(l.peer.modern, m.own), m.headerName(m.own))
	if err != nil {
		return nil, nil, fmt.Errorf("directly: %w", err)
	}
	name := l.exposed(m)
	through, err = l.play(ctx, l.through, m, m.params(l.newClient, name), m.headerName(name))
	if err != nil {
		return nil, nil, fmt.Errorf("through the gateway: %w\nparams %.2000s\nresult %.1000s\nfailure %.500s", err, m.params(l.newClient, name), m.reply.result, m.reply.failure)
	}
	return direct, through, errors.Join(l.sameParams(m, direct.params, through.params), l.sameNotes(m, direct.messages, through.messages), l.sameQuestions(direct, through))
}

// headerName is what Mcp-Name mirrors.
func (m *message) headerName(name string) string {
	if m.rename == "name" || m.rename == "uri" {
		return name
	}
	return ""
}

func (l *lane) compare(ctx context.Context, m *message) error {
	direct, through, err := l.both(ctx, m)
	if err != nil {
		return err
	}
	d, t := direct.last(), through.last()
	if (d.Error == nil) != (t.Error == nil) {
		return differ("answers", string(d.Result)+string(d.Error), string(t.Result)+string(t.Error))
	}
	if d.Error != nil {
		return l.sameError(m, string(d.Error), string(t.Error))
	}
	return l.sameResult(m, string(d.Result), string(t.Result))
}

// sameQuestions compares what the client was asked, and what the server learnt.
func (l *lane) sameQuestions(direct, through *turn) error {
	if len(direct.questions) != len(through.questions) || len(direct.answers) != len(through.answers) {
		return fmt.Errorf("%d questions and %d answers directly, %d and %d through the gateway", len(direct.questions), len(direct.answers), len(through.questions), len(through.answers))
	}
	for i, q := range direct.questions {
		g := through.questions[i]
		if q.Method != g.Method {
			return differ("question", q.Method, g.Method)
		}
		if err := l.sameQuestion(q.Method, string(q.Params), string(g.Params)); err != nil {
			return err
		}
		if a, b := oneLine(direct.answers[i]), oneLine(through.answers[i]); a != b {
			return differ("answer", a, b)
		}
	}
	return nil
}

// sameQuestion compares the params of a question.
func (l *lane) sameQuestion(method, direct, through string) error {
	if !l.all {
		if a, b := oneLine(direct), oneLine(through); a != b {
			return differ("question", a, b)
		}
		return nil
	}
	d, err := parse(direct)
	if err != nil {
		return err
	}
	t, err := parse(through)
	if err != nil {
		return err
	}
	if method == "elicitation/create" {
		own, _ := d.get("message").decoded()
		d.set("message", quoted("["+l.peer.name+"] "+own))
		got, _ := t.get("message").decoded()
		t.set("message", quoted(got))
	}
	meta := t.get("_meta")
	if server, _ := meta.get("dev.mcpgw/server").decoded(); server != l.peer.name {
		return fmt.Errorf("a question does not name its server: %s", t)
	}
	meta.drop("dev.mcpgw/server")
	if len(meta.keys) == 0 && (d.get("_meta") == nil || len(d.get("_meta").keys) == 0) {
		t.drop("_meta")
		d.drop("_meta")
	}
	if a, b := d.String(), t.String(); a != b {
		return differ("question", a, b)
	}
	return nil
}
