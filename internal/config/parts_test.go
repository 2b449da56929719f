package config

import (
	"errors"
	"strings"
	"testing"
)

func TestExpand(t *testing.T) {
	variables := env("A", "one", "EMPTY", "", "D", "$B ${C} $$", "_x9", "two")
	tests := []struct {
		in, want string
		err      error
	}{
		{in: "", want: ""},
		{in: "plain", want: "plain"},
		{in: "${A}", want: "one"},
		{in: "x${A}y${_x9}z", want: "xoneytwoz"},
		{in: "${EMPTY}", want: ""},
		{in: "${EMPTY:-d}", want: "d"},
		{in: "${NO:-}", want: ""},
		{in: "${NO:-a:-b $ c}", want: "a:-b $ c"},
		{in: "${A:-d}", want: "one"},
		{in: "$$", want: "$"},
		{in: "$${A}", want: "${A}"},
		{in: "$$$$A", want: "$$A"},
		{in: "$$${A}", want: "$one"},
		{in: "5$", want: "5$"},
		{in: "$5 and $ 6", want: "$5 and $ 6"},
		{in: "${D}", want: "$B ${C} $$"}, // what a variable holds is not looked into
		{in: "}{", want: "}{"},
		{in: "${", err: errUnclosed},
		{in: "${A", err: errUnclosed},
		{in: "${}", err: errForm},
		{in: "${A-}", err: errForm},
		{in: "${ A }", err: errForm},
		{in: "${9}", err: errForm},
		{in: "${A:-${B}}", err: errNested},
		{in: "$A", err: errDollar},
		{in: "$_", err: errDollar},
	}
	for _, tt := range tests {
		got, _, err := expand(tt.in, variables)
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("expand(%q) = %q, %v; want %q, %v", tt.in, got, err, tt.want, tt.err)
		}
	}
	if _, _, err := expand("${X}${A}${Y}", variables); err == nil || strings.Count(err.Error(), "is not set") != 2 {
		t.Errorf("expected both variables to be named, got %v", err)
	}
}

func TestSuggest(t *testing.T) {
	known := []string{"command", "args", "env", "url", "transport", "timeouts", "max_call", "dir"}
	tests := map[string]string{
		"comand": "command", "commands": "command", "Command": "command", "cmd": "command", "arg": "args", "ags": "args",
		"maxCall": "max_call", "max-call": "max_call", "uri": "url", "type": "transport", "tranpsort": "transport",
		"timeout": "timeouts", "cwd": "dir", "xyz": "", "": "", "qwertzuiop": "", strings.Repeat("timeouts", 50): "",
	}
	for in, want := range tests {
		if got := suggest(in, known); got != want {
			t.Errorf("suggest(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	tests := []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"ab", "ba", 1}, {"kitten", "sitting", 3}, {"listen", "lsiten", 1}, {strings.Repeat("a", 65), "a", 64}}
	for _, tt := range tests {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

// FuzzParse holds that Parse never panics, that a file without an error is valid, and that errors do not show the environment.
func FuzzParse(f *testing.F) {
	const value = "hunter2-4f1c9a77e0"
	for _, seed := range []string{
		host, "", "gateway:\n  listen: ${S}\n" + host, "downstreams:\n  a: {url: \"https://x/#${S}\", headers: {A: \"${S}\"}}\n",
		"gateway:\n  page_size: ${N}\n  limits: {request_bytes: 4MiB}\n  timeouts: {idle: 5s}\n  tokens: [\"${S}\"]\n" + host,
		"downstreams:\n  a: &a\n    preset: host\n  b: {<<: *a}\n  c: {command: npx, args: [-y, \"${S:-x}\"], env: {A: b}}\ntelemetry: {log_level: debug}\n",
		"a: [*b\n\t- \"", "? [a]\n: {b: c}\n", "--- !x\n%YAML 1.1\n...\n", "downstreams: &x {a: *x}\n", "- |\n  ${S}\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse("f", data, env("S", value, "N", "17", "D", "5s"))
		if err == nil {
			if err := file.Settings.Validate(); err != nil {
				t.Errorf("Parse accepted what Validate does not: %v", err)
			}
			return
		}
		var e *Error
		if !errors.As(err, &e) || len(e.Faults) == 0 {
			t.Fatalf("not an *Error with faults: %v", err)
		}
		lines := 1 // in YAML 1.1 these end a line too
		for _, end := range []string{"\n", "\r", "\u0085", "\u2028", "\u2029"} {
			lines += strings.Count(string(data), end)
		}
		for _, fault := range e.Faults {
			if fault.Line < 1 || fault.Line > lines || fault.Col < 1 || fault.Msg == "" {
				t.Errorf("fault without a place in the file (%d lines): %v", lines, fault)
			}
		}
		for i := 0; i+8 <= len(value); i++ {
			if part := value[i : i+8]; strings.Contains(err.Error(), part) && !strings.Contains(string(data), part) {
				t.Fatalf("the error shows the environment:\n%v", err)
			}
		}
	})
}
