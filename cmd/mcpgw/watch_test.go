package main

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/gateway"
)

var update = flag.Bool("update", false, "write the expected results anew")

// golden compares got with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (go test -run %s -update writes it anew): %s", path, t.Name(), d)
	}
}

// aStatus is a gateway with one server of each kind of trouble. calls counts what the first one has answered.
func aStatus(t *testing.T, at time.Time, calls uint64) *gateway.Status {
	t.Helper()
	ptr := func(s string) *string { return &s }
	ms := func(n int64) *int64 { return &n }
	then := at.Add(-90 * time.Second)
	st := &gateway.Status{
		Time:    at,
		Summary: gateway.Summary{Total: 4, Ready: 2, Circuits: 4, Closed: 2, Open: 1, HalfOpen: 1, Health: "degraded"},
		Downstreams: []gateway.DownstreamStatus{
			{Name: "files", State: "ready", Transport: "stdio", Tools: 14, InFlight: 3},
			{Name: "nas", State: "ready", Transport: "http", Tools: 31, LastError: ptr("the answer took longer than 30s"), LastErrorAt: &then},
			{Name: "pve", State: "reconnecting", Transport: "builtin", Tools: 22, CatalogStale: true, RetryAfterMS: ms(7400), LastError: ptr("dial tcp 192.0.2.7:8006: connect: no route to host, and a long story about what else was tried"), LastErrorAt: &then},
			{Name: "new", State: "starting", Transport: "stdio"},
		},
		Circuits: []gateway.CircuitStatus{
			{Name: "files", Dependency: "files", Scope: "downstream", State: "closed", Mode: "enforce", Successes: 40},
			{Name: "nas", Dependency: "nas", Scope: "downstream", State: "half_open", Mode: "enforce", Successes: 3, Failures: 1},
			{Name: "pve", Dependency: "pve", Scope: "downstream", State: "open", Mode: "enforce", Failures: 5, RetryAfterMS: 31000},
			{Name: "files/write", Dependency: "files", Scope: "tool", Key: ptr("write"), State: "open", Mode: "enforce"},
		},
	}
	st.Circuits[0].Totals.Successes = calls
	return st
}

// TestView compares what the terminal shows, with and without colours, narrow and wide.
func TestView(t *testing.T) {
	zone := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = zone })
	begun := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name  string
		paint paint
		width int
	}{{"watch.txt", false, 140}, {"watch_narrow.txt", false, 100}, {"watch_color.txt", true, 140}} {
		v := &view{base: "http://127.0.0.1:8080", interval: 2 * time.Second, paint: tt.paint}
		v.frame(aStatus(t, begun, 100), nil, tt.width)
		text := v.frame(aStatus(t, begun.Add(2*time.Second), 125), nil, tt.width)
		text += "----\n" + v.frame(nil, errors.New("no gateway answers at http://127.0.0.1:8080: refused\nStart it"), tt.width)
		golden(t, tt.name, text)
		if !bool(tt.paint) && strings.Contains(text, "\x1b") {
			t.Error("colours where there should be none")
		}
		for line := range strings.Lines(text) {
			if n := len([]rune(strings.TrimSuffix(line, "\n"))); !bool(tt.paint) && n > tt.width && !strings.HasPrefix(line, "mcpgw") {
				t.Errorf("%s: %d columns: %s", tt.name, n, line)
			}
		}
	}
	empty := (&view{}).frame(&gateway.Status{}, nil, 80)
	if !strings.Contains(empty, "no servers: mcpgw add") {
		t.Errorf("got %s", empty)
	}
}

// TestPlainWatch prints what changed, once.
func TestPlainWatch(t *testing.T) {
	zone := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = zone })
	var out bytes.Buffer
	show := (&app{stdout: &out}).plainWatch("http://x")
	st := aStatus(t, time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC), 0)
	for range 2 {
		if err := show(st, nil); err != nil {
			t.Fatal(err)
		}
	}
	st.Downstreams = st.Downstreams[:2]
	st.Downstreams[1].State = "reconnecting"
	if err := show(st, nil); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	if len(lines) != 8 || lines[0] != "09:00:00 files: ready, circuit closed, 14 tools" {
		t.Errorf("got\n%s", out.String())
	}
	for _, want := range []string{"nas: reconnecting, circuit half open, 31 tools: the answer took", "pve: removed", "new: removed"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("lacks %q:\n%s", want, out.String())
		}
	}
}

func TestNoColor(t *testing.T) {
	if colors(&bytes.Buffer{}) || terminal(&bytes.Buffer{}) {
		t.Error("a buffer is no terminal")
	}
	if got := paint(false).red("x"); got != "x" {
		t.Errorf("got %q", got)
	}
	if got := paint(true).red("x"); got != "\x1b[31mx\x1b[0m" {
		t.Errorf("got %q", got)
	}
}
