package main

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
)

// report is what docs/clients.md says of each client. Its methods may be called at the same time.
type report struct {
	mu   sync.Mutex // guards rows
	rows map[string]*reportRow
}

type reportRow struct {
	version  string
	revision string
	token    bool
	cells    map[string]string // by flow
	seen     string            // what reaches the model when the circuit is open
}

// order is the order of the clients in the page.
var order = []string{"Claude Code", "Codex", "Gemini CLI", "OpenCode", "Inspector, legacy", "Inspector, modern", mcpRemoteName}

func (r *report) row(client string) *reportRow {
	if r.rows == nil {
		r.rows = map[string]*reportRow{}
	}
	if r.rows[client] == nil {
		r.rows[client] = &reportRow{cells: map[string]string{}}
	}
	return r.rows[client]
}

func (r *report) set(client, flow, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.row(client).cells[flow] = text
}

func (r *report) version(client, version string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.row(client).version = version
}

func (r *report) seen(client, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.row(client).seen = text
}

func (r *report) wire(client string, w *recorder) {
	w.mu.Lock()
	revision, token := w.revision, w.token
	w.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.row(client).revision, r.row(client).token = revision, token
}

// loopback hides the ports, which are others each time.
var loopback = regexp.MustCompile(`127\.0\.0\.1:\d+`)

// markdown returns the tables of the page: a line for each flow would be too wide, so there is a section for each client.
func (r *report) markdown() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "| client | version | revision | sends a progress token | %s |\n|---|---|---|---|---|\n", flowLong)
	var there []string
	for _, name := range order {
		row := r.rows[name]
		if row == nil {
			continue
		}
		there = append(there, name)
		token := "no"
		if row.token {
			token = "yes"
		}
		if row.revision == "" {
			row.revision, token = "?", "?"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", name, row.version, row.revision, token, row.cells[flowLong])
	}
	fmt.Fprint(&b, "\n")
	for _, flow := range flows {
		if flow == flowLong {
			continue
		}
		fmt.Fprintf(&b, "**%s**\n\n", strings.ToUpper(flow[:1])+flow[1:])
		for _, name := range there {
			if text := r.rows[name].cells[flow]; text != "" {
				fmt.Fprintf(&b, "* %s: %s\n", name, loopback.ReplaceAllString(text, "127.0.0.1:PORT"))
			}
		}
		fmt.Fprint(&b, "\n")
	}
	fmt.Fprint(&b, "**What the model is given when the circuit of a server is open**\n\n")
	for _, name := range there {
		if seen := r.rows[name].seen; seen != "" && name != "Inspector, legacy" { // its answer is that of the other era
			fmt.Fprintf(&b, "%s:\n\n```\n%s\n```\n\n", name, shorten(loopback.ReplaceAllString(seen, "127.0.0.1:PORT")))
		}
	}
	return b.String()
}

// shorten keeps a page readable.
func shorten(s string) string {
	const most = 1500
	s = strings.TrimSpace(s)
	if len(s) > most {
		s = s[:most] + " …"
	}
	return s
}
