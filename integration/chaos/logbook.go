package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// logBook reads the log of the gateway as it is written. It may be used by many at the same time.
type logBook struct {
	mu    sync.Mutex // guards what follows
	rest  []byte     // of a line that is not whole yet
	lines []logLine
	odd   []string // what is no line of the log: panics, reports of the race detector
}

// logLine is one line of the log.
type logLine struct {
	At         time.Time `json:"time"`
	Level      string    `json:"level"`
	Msg        string    `json:"msg"`
	Downstream string    `json:"downstream"`
}

// Write implements io.Writer.
func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rest = append(b.rest, p...)
	for {
		line, rest, ok := bytes.Cut(b.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		var l logLine
		switch {
		case json.Unmarshal(line, &l) == nil && l.Msg != "":
			b.lines = append(b.lines, l)
		case len(bytes.TrimSpace(line)) > 0 && len(b.odd) < 200:
			b.odd = append(b.odd, string(line))
		}
		b.rest = rest
	}
}

// unexpected returns what no gateway should write.
func (b *logBook) unexpected() (out []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, l := range b.odd {
		if strings.Contains(l, "DATA RACE") || strings.Contains(l, "panic:") || strings.Contains(l, "fatal error:") {
			out = append(out, strings.Join(b.odd[i:min(i+12, len(b.odd))], " | "))
		}
	}
	for _, l := range b.lines {
		if strings.HasPrefix(l.Msg, "Panic in call") {
			out = append(out, l.Msg)
		}
	}
	return out
}

// transition is one change of a circuit.
type transition struct {
	at time.Time
	to string // opened, half-open or closed
}

// transitions returns the changes of a circuit that the log tells of.
func (b *logBook) transitions(circuit string) (out []transition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.lines {
		rest, ok := strings.CutPrefix(l.Msg, fmt.Sprintf("Circuit breaker '%s' ", circuit))
		if !ok {
			continue
		}
		for _, to := range []string{"opened", "half-open", "closed"} {
			if strings.HasPrefix(rest, to) {
				out = append(out, transition{l.At, to})
			}
		}
	}
	return out
}

// opened counts how often a circuit opened.
func (b *logBook) opened(circuit string) (n int) {
	for _, t := range b.transitions(circuit) {
		if t.to == "opened" {
			n++
		}
	}
	return n
}

func cmdline(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	return string(b)
}
