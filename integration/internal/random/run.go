package random

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// Options says what to compare.
type Options struct {
	Program string // the gateway
	Count   int    // of messages
	Seed    uint64 // the same seed makes the same messages
	Workers int    // rigs that run at the same time; 0 means 2
	PerRig  int    // messages after which a rig is thrown away for one with other lists; 0 means 5000
	Most    int    // differences after which to stop; 0 means 10
	Env     []string
	Schemas *Schemas // check what is made; nil for no check
}

// Report is what came of it.
type Report struct {
	Kinds       map[string]int // messages by method
	Lanes       map[string]int // messages by way
	Differences []string
}

// Count is the number of messages.
func (r *Report) Count() (n int) {
	for _, k := range r.Kinds {
		n += k
	}
	return n
}

// Write prints the report.
func (r *Report) Write(w io.Writer) {
	for _, counts := range []map[string]int{r.Kinds, r.Lanes} {
		for _, k := range slices.Sorted(maps.Keys(counts)) {
			fmt.Fprintf(w, "%8d  %s\n", counts[k], k)
		}
		fmt.Fprintln(w)
	}
	for _, d := range r.Differences {
		fmt.Fprintln(w, d+"\n")
	}
	fmt.Fprintf(w, "%d messages, %d differences\n", r.Count(), len(r.Differences))
}

// Run compares. The error is a fault of the test itself; what differs stands in the report.
func Run(ctx context.Context, o Options) (*Report, error) {
	workers, per, most := o.Workers, o.PerRig, o.Most
	if workers == 0 {
		workers = 2
	}
	if per == 0 {
		per = 5000
	}
	if most == 0 {
		most = 10
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rep := &Report{Kinds: map[string]int{}, Lanes: map[string]int{}}
	var mu sync.Mutex // guards rep, err and what is left to do
	var failed error
	left, stream := o.Count, uint64(0)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				mu.Lock()
				n := min(per, left)
				left -= n
				stream++
				r := newMaker(o.Seed, stream)
				place := fmt.Sprintf("-seed %d, rig %d", o.Seed, stream)
				stop := n == 0 || failed != nil || len(rep.Differences) >= most
				mu.Unlock()
				if stop || ctx.Err() != nil {
					return
				}
				err := o.rig(ctx, r, n, func(kind string, l *lane, diff error, i int) bool {
					mu.Lock()
					defer mu.Unlock()
					rep.Kinds[kind]++
					rep.Lanes[l.name]++
					if diff != nil {
						rep.Differences = append(rep.Differences, fmt.Sprintf("%s, message %d: %s: %s: %v", place, i, l.name, kind, diff))
					}
					return len(rep.Differences) < most
				})
				if err != nil {
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
					cancel()
				}
			}
		})
	}
	wg.Wait()
	return rep, failed
}

// rig sends n messages through one rig.
func (o *Options) rig(ctx context.Context, r *maker, n int, done func(kind string, l *lane, diff error, i int) bool) error {
	dir, err := os.MkdirTemp("", "mcpgw-random-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a folder that stays harms nobody
	g, err := newRig(ctx, r, o.Program, dir, o.Env...)
	if err != nil {
		return err
	}
	for _, p := range g.peers {
		err = errors.Join(err, o.Schemas.validLists(p))
	}
	if err != nil {
		return errors.Join(err, g.stop())
	}
	for _, l := range g.lanes {
		l.schemas = o.Schemas
	}
	for i := range n {
		l := pick(r, g.lanes...)
		kind, diff := g.one(ctx, l)
		if ctx.Err() != nil || !done(kind, l, diff, i) {
			break
		}
	}
	return g.stop()
}

// one makes one message and compares.
func (g *rig) one(ctx context.Context, l *lane) (kind string, diff error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, same := g.maker, l.newClient == l.peer.modern
	r.modern = l.peer.modern
	key := func(kind int) string { return pick(r, l.peer.keys[kind]...) }
	n := r.IntN(100)
	switch {
	case n < 1:
		return "handshake", l.sameHandshake(ctx, r)
	case n < 3:
		k := r.IntN(4)
		return listMethods[k], l.sameList(ctx, k, func() *message { return r.request("") })
	case n < 5 && !l.newClient:
		return l.answeredHere(ctx, r)
	case n < 12 && same && !l.all:
		m := r.vendor()
		return "methods of vendors", l.compare(ctx, m)
	case n < 16 && same && l.newClient:
		return "input_required", l.compareRounds(ctx, r, g.askable(l))
	case n < 20 && same && !l.newClient && !l.stdioServer:
		m := g.askable(l)
		for range 1 + r.IntN(2) {
			m.reply.asks = append(m.reply.asks, r.question())
		}
		return "questions in a call", l.compare(ctx, m)
	case n < 24 && same && !l.newClient:
		return "tasks", l.compareTask(ctx, r, key(tools))
	}
	var m *message
	switch n = r.IntN(100); {
	case n < 65:
		m = r.call(key(tools))
	case n < 77:
		m = r.getPrompt(key(prompts))
	case n < 90:
		uri := key(resources)
		if r.chance(30) {
			uri = strings.Trim(r.uri(), `"`)
			uri = strings.ReplaceAll(uri, `\/`, "/")
		}
		m = r.read(uri)
	case n < 95:
		m = r.complete(prompts, key(prompts))
	default:
		m = r.complete(templates, key(templates))
	}
	return m.method, l.compare(ctx, m)
}

// askable makes a request in which a server may ask.
func (g *rig) askable(l *lane) *message {
	switch g.IntN(4) {
	case 0:
		return g.getPrompt(pick(g.maker, l.peer.keys[prompts]...))
	case 1:
		return g.read(pick(g.maker, l.peer.keys[resources]...))
	}
	return g.call(pick(g.maker, l.peer.keys[tools]...))
}

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

// compareRounds has a newer server ask in its result, and the client come back.
func (l *lane) compareRounds(ctx context.Context, r *maker, m *message) error {
	again, state := r.asksFirst(m)
	direct, through, err := l.both(ctx, m)
	if err != nil {
		return err
	}
	d, err := parse(string(direct.last().Result))
	if err != nil {
		return err
	}
	t, err := parse(string(through.last().Result))
	if err != nil {
		return err
	}
	sealed := ""
	if state != "" {
		if t.get("requestState") == nil {
			return differ("answers", string(direct.last().Result), string(through.last().Result)+string(through.last().Error))
		}
		sealed = t.get("requestState").String()
		t.set("requestState", state)
	}
	if qs := d.get("inputRequests"); qs != nil && l.all {
		for i, key := range qs.keys {
			g := t.get("inputRequests").get(key)
			if g == nil {
				return fmt.Errorf("the question %q is missing: %s", key, t)
			}
			method, _ := qs.kids[i].get("method").decoded()
			if err := l.sameQuestion(method, qs.kids[i].get("params").String(), g.get("params").String()); err != nil {
				return err
			}
			qs.kids[i].set("params", `"PARAMS"`)
			g.set("params", `"PARAMS"`)
		}
	}
	if err := l.sameResult(m, d.String(), t.String()); err != nil {
		return err
	}
	// The client comes back: each with the state that it got.
	next := again(state)
	direct, err = l.play(ctx, l.direct, next, next.params(true, next.own), next.headerName(next.own))
	if err != nil {
		return fmt.Errorf("directly, coming back: %w", err)
	}
	next, name := again(sealed), l.exposed(m)
	through, err = l.play(ctx, l.through, next, next.params(true, name), next.headerName(name))
	if err != nil {
		return fmt.Errorf("coming back: %w", err)
	}
	if err := l.sameParams(next, direct.params, through.params); err != nil {
		return fmt.Errorf("coming back: %w", err)
	}
	if direct.last().Error != nil || through.last().Error != nil {
		return l.sameError(next, string(direct.last().Error), string(through.last().Error))
	}
	return l.sameResult(next, string(direct.last().Result), string(through.last().Result))
}

// compareTask has a call become a task of revision 2025-11-25, and asks after it.
func (l *lane) compareTask(ctx context.Context, r *maker, tool string) error {
	id := pick(r, `"task-1"`, `"786512e2-9e0d-44bd-8f29-789f320fe840"`, `"aufgäbe \u0041/b"`, r.word())
	m := r.call(tool)
	m.members = append(m.members, pair{"task", r.obj(may("ttl", (*maker).integer))})
	m.reply = reply{result: r.result(must("task", func(r *maker) string { return r.obj(r.task(id)...) }))}
	direct, through, err := l.both(ctx, m)
	if err != nil {
		return err
	}
	d, err := parse(string(direct.last().Result))
	if err != nil {
		return err
	}
	t, err := parse(string(through.last().Result))
	if err != nil {
		return err
	}
	sealed := t.get("task").get("taskId").String()
	if sealed == id {
		return fmt.Errorf("the id of the task is the server's own: %s", t)
	}
	t.get("task").set("taskId", id)
	if a, b := d.String(), t.String(); a != b {
		return differ("task", a, b)
	}
	method := pick(r, "tasks/get", "tasks/cancel", "tasks/result")
	ask := r.request(method, may("x", (*maker).value))
	ask.reply = reply{result: r.result(r.task(id)...)}
	if method == "tasks/result" {
		ask.reply.result = r.callResult()
	}
	with := func(id string) *message {
		c := *ask
		c.members = append(append([]pair(nil), ask.members...), pair{"taskId", id})
		return &c
	}
	direct, err = l.play(ctx, l.direct, with(id), with(id).params(false, ""), "")
	if err != nil {
		return err
	}
	through, err = l.play(ctx, l.through, with(sealed), with(sealed).params(false, ""), "")
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	dp, err := parse(direct.params)
	if err != nil {
		return err
	}
	tp, err := parse(through.params)
	if err != nil {
		return err
	}
	for _, p := range []*tree{dp, tp} {
		own, _ := p.get("taskId").decoded()
		p.set("taskId", quoted(own))
		l.normalParams(with(id), p)
	}
	if a, b := dp.String(), tp.String(); a != b {
		return differ(method+" params", a, b)
	}
	d, err = parse(string(direct.last().Result))
	if err != nil {
		return err
	}
	t, err = parse(string(through.last().Result))
	if err != nil {
		return err
	}
	if method == "tasks/result" {
		return l.sameResult(&message{method: "tools/call"}, d.String(), t.String())
	}
	if got := t.get("taskId").String(); got != sealed {
		return differ("id of the task", sealed, got)
	}
	t.set("taskId", id)
	if a, b := d.String(), t.String(); a != b {
		return differ(method, a, b)
	}
	return nil
}

// answeredHere sends what the gateway answers itself: any valid params will do, and the answer is as the specification wants it.
func (l *lane) answeredHere(ctx context.Context, r *maker) (string, error) {
	var m *message
	if r.chance(60) {
		m = r.request("ping")
	} else {
		m = r.request("logging/setLevel", must("level", text(`"debug"`)))
	}
	all, err := l.through.send(ctx, m.id, m.method, "", m.params(false, ""), nil)
	if err != nil {
		return m.method, err
	}
	last := all[len(all)-1]
	if string(last.Result) != "{}" || string(last.ID) != m.id {
		return m.method, differ("answer", m.id+" {}", fmt.Sprintf("%s %s%s", last.ID, last.Result, last.Error))
	}
	return m.method, nil
}

// sameHandshake compares what a server says of itself with what the client learns, where both speak the same revision.
func (l *lane) sameHandshake(ctx context.Context, r *maker) error {
	m := r.request("server/discover")
	s := l.through
	if !l.newClient {
		m = r.request("initialize", must("protocolVersion", text(`"2025-11-25"`)), must("clientInfo", (*maker).implementation), must("capabilities", func(r *maker) string {
			return r.obj(may("roots", func(r *maker) string { return r.obj(may("listChanged", (*maker).boolean)) }), may("sampling", (*maker).loose), may("experimental", func(r *maker) string { return r.mapOf((*maker).loose) }))
		}))
		old, ok := l.through.(*httpClient)
		if !ok {
			return nil // over stdio there is one handshake, which is over
		}
		fresh := &httpClient{&harness.Client{URL: old.URL}}
		defer fresh.close() //nolint:errcheck // the gateway ends it otherwise
		s = fresh
	}
	all, err := s.send(ctx, m.id, m.method, "", m.params(l.newClient, ""), nil)
	if err != nil {
		return err
	}
	last := all[len(all)-1]
	if last.Error != nil || string(last.ID) != m.id {
		return fmt.Errorf("%s with params %s: %s %s", m.method, m.params(l.newClient, ""), last.ID, last.Error)
	}
	if l.all || l.newClient != l.peer.modern {
		return nil // what many servers, or one of another revision, can do is put together by the gateway
	}
	t, err := parse(string(last.Result))
	if err != nil {
		return err
	}
	info := t.get("serverInfo")
	if l.newClient {
		info = t.get("_meta").get("io.modelcontextprotocol/serverInfo")
	}
	instructions, _ := t.get("instructions").decoded()
	for what, pair := range map[string][2]string{
		"capabilities": {l.peer.capabilities, fmt.Sprint(t.get("capabilities"))}, "serverInfo": {l.peer.info, fmt.Sprint(info)},
		"instructions": {l.peer.instructions, quoted(instructions)},
	} {
		want, err := parse(pair[0])
		if err != nil {
			return err
		}
		if own, ok := want.decoded(); ok {
			*want = tree{raw: quoted(own)}
		}
		if want.String() != pair[1] && !(what == "instructions" && pair[1] == `""`) {
			return differ(what, want.String(), pair[1])
		}
	}
	return nil
}
