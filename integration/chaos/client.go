package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// told is one call and what its client was told in the end.
type told struct {
	nonce  string
	server string
	tool   string
	at     time.Time     // when it was sent
	took   time.Duration // until the end of the answer

	answers  int    // messages with the call's id
	lost     string // why there is no answer; "" if there is one
	gaveUp   bool   // the client cancelled it
	wrong    string // what is wrong with the answer; "" for nothing
	answered bool   // the server's own result came
	needs    bool   // the result asks for input
	state    string // with which the answers are to come

	// Of a failure that the gateway reports:
	Error        string `json:"error"`
	Class        string `json:"class"`
	Executed     string `json:"executed"`
	RetryAfterMS int64  `json:"retry_after_ms"`
	Attempts     int    `json:"attempts"`
	text         string
}

// end is when the answer had come.
func (t *told) end() time.Time { return t.at.Add(t.took) }

// rejected reports whether a policy refused the call before the server heard of it.
func (t *told) rejected() bool { return !t.answered && t.Error == "circuit_open" && t.Attempts == 0 }

func (t *told) String() string {
	what := "answered"
	switch {
	case t.lost != "":
		what = "lost: " + t.lost
	case t.wrong != "":
		what = "wrong: " + t.wrong
	case !t.answered:
		what = fmt.Sprintf("error=%s class=%s executed=%s attempts=%d retry_after=%dms: %.200s", t.Error, t.Class, t.Executed, t.Attempts, t.RetryAfterMS, t.text)
	}
	return fmt.Sprintf("%s %s %s after %s: %s", t.server, t.tool, t.nonce, t.took.Round(time.Millisecond), what)
}

// ledger keeps what every client was told. Its methods may be called at the same time.
type ledger struct {
	next atomic.Int64

	mu  sync.Mutex // guards all
	all []*told
}

func (l *ledger) nonce() string { return "n" + strconv.FormatInt(l.next.Add(1), 10) + "n" }

func (l *ledger) add(t *told) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, t)
}

// calls returns a copy of what has ended.
func (l *ledger) calls() []*told {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*told(nil), l.all...)
}

// call is what a client wants.
type call struct {
	server string
	tool   string        // read, write or idem
	do     string        // what the server shall do wrong, see serverRole.work
	pad    int           // further bytes of arguments
	limit  time.Duration // the client cancels after this; 0: it waits for half a minute, and then the answer is lost
	more   string        // further members of params
	of     *told         // answers what this call was asked
	token  bool          // ask for progress
}

const patience = 30 * time.Second // for one answer: above every limit that the scenarios configure

// client makes calls through the gateway and enters them into the ledger. It may be used by many at the same time.
type client struct {
	mcp    harness.Client
	ledger *ledger
	bare   bool // speak to a server itself, which does not know the gateway's names
}

func newClient(url string, l *ledger) *client {
	return &client{mcp: harness.Client{URL: url, Modern: true, HTTP: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1024, DisableCompression: true}}}, ledger: l}
}

func (c *client) close() { c.mcp.HTTP.CloseIdleConnections() }

// do makes one call and returns what came of it.
func (c *client) do(ctx context.Context, k call) *told {
	t := &told{nonce: c.ledger.nonce(), server: k.server, tool: k.tool}
	if k.of != nil { // the arguments must be the same
		t.nonce = k.of.nonce
		k.more = `"inputResponses":{"name":{"action":"accept","content":{"yes":true}}},"requestState":"` + k.of.state + `"`
	}
	args := `"nonce":"` + t.nonce + `"`
	if k.do != "" {
		args += `,"do":"` + k.do + `"`
	}
	if k.pad > 0 {
		args += `,"pad":"` + strings.Repeat("x", k.pad) + `"`
	}
	name, meta := k.server+"__"+k.tool, ""
	if c.bare {
		name = k.tool
	}
	if k.token {
		meta = `"progressToken":"` + t.nonce + `"`
	}
	members := `"name":"` + name + `","arguments":{` + args + `}`
	if k.more != "" {
		members += "," + k.more
	}
	limit := patience
	if k.limit > 0 {
		limit = k.limit
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	id := `"` + t.nonce + `"`
	t.at = time.Now()
	err := c.mcp.Stream(ctx, `{"jsonrpc":"2.0","id":`+id+`,"method":"tools/call","params":`+c.mcp.Params(members, meta)+`}`, "tools/call", name, func(m harness.Message) {
		t.hear(id, m)
	})
	t.took = time.Since(t.at)
	switch {
	case t.answers > 0:
	case k.limit > 0 && ctx.Err() != nil:
		t.gaveUp = true
	case err != nil:
		t.lost = err.Error()
	default:
		t.lost = "the stream ended without an answer"
	}
	c.ledger.add(t)
	return t
}

// hear reads one message of the answer to t.
func (t *told) hear(id string, m harness.Message) {
	if m.Method != "" {
		var p struct {
			Token string `json:"progressToken"`
		}
		if m.Method == "notifications/progress" && (json.Unmarshal(m.Params, &p) != nil || p.Token != t.nonce) {
			t.wrong = "progress of another call: " + string(m.Params)
		}
		return
	}
	t.answers++
	if string(m.ID) != id {
		t.wrong = "the answer has the id " + string(m.ID)
		return
	}
	var r struct {
		Content []struct{ Text string } `json:"content"`
		Facts   json.RawMessage         `json:"structuredContent"`
		IsError bool                    `json:"isError"`
		Type    string                  `json:"resultType"`
		State   string                  `json:"requestState"`
	}
	var e struct {
		Message string          `json:"message"`
		Data    json.RawMessage `json:"data"`
	}
	var facts json.RawMessage
	switch {
	case m.Error != nil:
		if err := json.Unmarshal(m.Error, &e); err != nil {
			t.wrong = "unreadable error: " + err.Error()
			return
		}
		facts, t.text = e.Data, e.Message
	case json.Unmarshal(m.Result, &r) != nil:
		t.wrong = "unreadable result: " + string(m.Result[:min(len(m.Result), 200)])
		return
	case r.Type == "input_required":
		t.answered, t.needs, t.state = true, true, r.State
		return
	case r.IsError:
		facts = r.Facts
		if len(r.Content) > 0 {
			t.text = r.Content[0].Text
		}
	default:
		t.answered = true
		if want := t.server + " " + t.nonce; len(r.Content) != 1 || r.Content[0].Text != want {
			t.wrong = fmt.Sprintf("the answer is %.200s, want %q", m.Result, want)
		}
		return
	}
	if err := json.Unmarshal(facts, t); err != nil || t.Error == "" {
		t.wrong = fmt.Sprintf("a failure without facts: %.300s%.300s", m.Result, m.Error)
	}
}

// overview is what circuit_status says.
type overview struct {
	Circuits    []circuit `json:"circuits"`
	Downstreams []struct {
		Name  string `json:"name"`
		State string `json:"state"`
	} `json:"downstreams"`
	Summary struct {
		Circuits, Closed, Open, Isolated, Disabled int
		HalfOpen                                   int `json:"half_open"`
	} `json:"summary"`
}

// circuit is one circuit of a status.
type circuit struct {
	Name       string `json:"name"`
	Downstream string `json:"downstream"`
	State      string `json:"state"`
	Totals     struct {
		Successes, Failures, Ignored, Rejected, Opens int
	} `json:"totals"`
	ConsecutiveOpens int `json:"consecutive_opens"`
	HalfOpen         *struct {
		InFlight int `json:"in_flight"`
	} `json:"half_open"`
	Bulkhead *struct {
		InFlight  int `json:"in_flight"`
		Queued    int `json:"queued"`
		HighWater int `json:"high_water"`
	} `json:"bulkhead"`
	Counters *struct {
		Calls, Attempts, Retries int
		Late                     int `json:"late_answers"`
	} `json:"counters"`
	Abandoned int `json:"abandoned_attempts"`
}

// of returns the circuit of a downstream as a whole; nil if there is none.
func (s *overview) of(downstream string) *circuit {
	for i := range s.Circuits {
		if s.Circuits[i].Downstream == downstream {
			return &s.Circuits[i]
		}
	}
	return nil
}

// sum says what is wrong with the sums of the status; "" for nothing.
func (s *overview) sum() string {
	m := s.Summary
	if n := m.Closed + m.Open + m.HalfOpen + m.Isolated + m.Disabled; n != m.Circuits || len(s.Circuits) != m.Circuits {
		return fmt.Sprintf("summary %d, states %d, circuits %d", m.Circuits, n, len(s.Circuits))
	}
	return ""
}

// status calls a tool of the gateway's own: circuit_status or circuit_metrics.
func (c *client) status(ctx context.Context, tool string) (*overview, error) {
	r, err := c.mcp.Request(ctx, "tools/call", tool, c.mcp.Params(`"name":"`+tool+`","arguments":{}`, ""))
	if err != nil {
		return nil, err
	}
	var out struct {
		Facts overview `json:"structuredContent"`
	}
	if err := json.Unmarshal(r, &out); err != nil {
		return nil, fmt.Errorf("%s: %w", tool, err)
	}
	return &out.Facts, nil
}
