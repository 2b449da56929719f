package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// model is a language model that calls one tool and then says FINAL. It understands the four protocols that the agents speak and keeps
// what it was given: that is what a real model would have seen.
type model struct {
	tool, args string // the gateway's name of the tool, and a JSON object

	mu       sync.Mutex // guards what follows
	offered  []string   // names of all tools, as the agent shows them
	named    []string   // names in the text
	sought   bool       // it has asked the agent's search for the tool
	asked    bool       // it has called the tool
	askedAt  time.Time
	answer   json.RawMessage // the result of the call as the agent passes it on; nil for none yet
	took     time.Duration
	requests []string // paths, for error messages
}

// callID is the id of the call that matters.
const callID = "call_1"

// call is what the model wants to be called.
type call struct {
	offer

	id, args string
}

// said is what of a request matters here.
type said struct {
	tools  []offer
	answer json.RawMessage
	body   []byte
}

// offer is one tool as the model sees it.
type offer struct{ namespace, name string }

func (o offer) String() string {
	if o.namespace == "" {
		return o.name
	}
	return o.namespace + "." + o.name
}

// ServeHTTP implements http.Handler.
func (m *model) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	m.mu.Lock()
	m.requests = append(m.requests, r.Method+" "+r.URL.Path)
	m.mu.Unlock()
	for _, d := range dialects {
		if r.Method == http.MethodPost && d.path(r.URL.Path) {
			s := d.read(body)
			s.body = body
			d.write(w, m.turn(s))
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, `{}`) // token counts, lists of models, telemetry
}

// toolSearch is how Claude Code offers tools of which the model has seen no more than the names.
const toolSearch = "ToolSearch"

var toolNames = regexp.MustCompile(`mcp__\w+__(circuit_status|(demo|old|broken)__\w+)\b`)

// turn keeps what was said and returns the tool to call, or nil to end.
func (m *model) turn(s said) *call {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range s.tools {
		if !slices.Contains(m.offered, t.String()) {
			m.offered = append(m.offered, t.String())
		}
	}
	// Tools that are only named so far stand in the text.
	for _, name := range toolNames.FindAllString(string(s.body), -1) {
		if !slices.Contains(m.named, name) {
			m.named = append(m.named, name)
		}
	}
	if s.answer != nil {
		if m.answer == nil {
			m.answer, m.took = s.answer, time.Since(m.askedAt)
		}
		return nil
	}
	// A title of the conversation may be asked for in a request of its own, without tools.
	for _, t := range s.tools {
		if !m.asked && strings.HasSuffix(t.name, m.tool) {
			m.asked, m.askedAt = true, time.Now()
			return &call{t, callID, m.args}
		}
	}
	for _, t := range s.tools {
		if t.name != toolSearch || m.sought || m.tool == "" {
			continue
		}
		for _, name := range m.named {
			if strings.HasSuffix(name, "__"+m.tool) {
				m.sought = true
				return &call{t, "call_0", `{"query":` + quoted("select:"+name) + `,"max_results":5}`}
			}
		}
	}
	return nil
}

// result returns the answer as text, and how long the call took.
func (m *model) result() (string, time.Duration, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case !m.asked:
		return "", 0, fmt.Errorf("the model was never offered %s; it was offered %s in %s", m.tool, strings.Join(m.offered, " "), strings.Join(m.requests, ", "))
	case m.answer == nil:
		return "", 0, fmt.Errorf("no result of %s reached the model", m.tool)
	}
	return plain(m.answer), m.took, nil
}

// names returns the tools that came from the gateway, as the model sees them.
func (m *model) names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []string
	for _, n := range append(slices.Clone(m.offered), m.named...) {
		if slices.Contains(all, n) {
			continue
		}
		if strings.Contains(n, "circuit_status") || strings.Contains(n, "__hello") {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return all
}

// plain returns a JSON string as its text and anything else as compact JSON.
func plain(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}
