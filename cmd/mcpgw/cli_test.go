package main

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/mcpgw/mcpgw/internal/config"
)

func TestCommandLine(t *testing.T) {
	valid, invalid := write(t, hostOnly), write(t, "downstreams: {host: {preset: hots}}\n")
	exposing := write(t, "gateway: {listen: \"0.0.0.0:0\"}\n"+hostOnly)
	exposingAdmin := write(t, "gateway: {listen: \"127.0.0.1:0\", admin: {listen: \":0\"}}\n"+hostOnly)
	missing := filepath.Join(t.TempDir(), "no.yaml")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()

	tests := []struct {
		name           string
		args           []string
		code           int
		stdout, stderr []string // each must be there; none: nothing may be
	}{
		{"help", []string{"--help"}, 0, []string{"Exit codes:", "serve", "stdio", "check", "version", "schema", "completion"}, nil},
		{"no command", nil, 0, []string{"Usage:"}, nil},
		{"help of serve", []string{"serve", "--help"}, 0, []string{"--listen address", "--insecure", "SIGHUP", "64  the command line is wrong"}, nil},
		{"help of status", []string{"status", "--help"}, 0, []string{"--watch", "--interval", "--url address", "one cannot be used"}, nil},
		{"help of circuit", []string{"circuit", "--help"}, 0, []string{"isolate", "gateway.admin_tools", "64  the command line is wrong"}, nil},
		{"help of init", []string{"init", "--help"}, 0, []string{"--yes", "--discover", "never overwritten", "no credentials"}, nil},
		{"help of call", []string{"call", "--help"}, 0, []string{"KEY=VALUE", "--args JSON", "4   call: the tool"}, nil},
		{"call without a tool", []string{"call"}, 64, nil, []string{"requires at least 1 arg"}},
		{"remove without a name", []string{"remove"}, 64, nil, []string{"requires at least 1 arg"}},
		{"add without a file", []string{"add", "x", "http://127.0.0.1:1/", "--config", missing}, 2, nil, []string{"reading the configuration"}},
		{"circuit without a name", []string{"circuit", "open"}, 64, nil, []string{"accepts 2 arg(s), received 1"}},
		{"bad interval", []string{"status", "--interval", "0s"}, 64, nil, []string{"mcpgw: --interval: must be more than 0, found 0s"}},
		{"help of check", []string{"check", "--help"}, 0, []string{"--timeout", "--connect", "a downstream is not ready"}, nil},
		{"version", []string{"version"}, 0, []string{"mcpgw ", "go1."}, nil},
		{"version as JSON", []string{"version", "--output", "json"}, 0, []string{`"version": "`, `"platform": "`}, nil},
		{"schema", []string{"schema"}, 0, []string{`"$schema": "http://json-schema.org/draft-07/schema#"`}, nil},
		{"completion", []string{"completion", "bash"}, 0, []string{"__start_mcpgw"}, nil},

		{"unknown command", []string{"srve"}, 64, nil, []string{`mcpgw: unknown command "srve" for "mcpgw"`, "Did you mean", "serve", "Usage: mcpgw"}},
		{"unknown flag", []string{"check", "--conect"}, 64, nil, []string{"mcpgw: unknown flag: --conect", "Usage: mcpgw check [flags]"}},
		{"unknown argument", []string{"serve", "now"}, 64, nil, []string{`unknown command "now" for "mcpgw serve"`, "Usage: mcpgw serve [flags]"}},
		{"bad level", []string{"version", "--log-level", "loud"}, 64, nil, []string{`mcpgw: --log-level: expected one of debug, info, warn, error, found "loud"`}},
		{"bad form", []string{"version", "--log-format", "xml"}, 64, nil, []string{`mcpgw: --log-format: expected one of text, json, found "xml"`}},
		{"bad output", []string{"version", "-o", "xml"}, 64, nil, []string{"expected text or json"}},
		{"bad timeout", []string{"check", "--timeout", "0s"}, 64, nil, []string{"mcpgw: --timeout: must be more than 0, found 0s", "Usage: mcpgw check [flags]"}},

		{"no file of this name", []string{"serve", "--config", missing}, 2, nil, []string{"mcpgw: reading the configuration: open " + missing + ": no such file"}},
		{"serve with faults", []string{"serve", "--config", invalid}, 2, nil, []string{invalid + `:1:22: downstreams.host.preset: expected one of `, `found "hots" (did you mean "host"?)`}},
		{"stdio with faults", []string{"stdio", "--config", invalid}, 2, nil, []string{invalid + ":1:22: "}},
		{"check with faults", []string{"check", "--config", invalid}, 2, nil, []string{invalid + ":1:22: "}},
		{"check with faults as JSON", []string{"check", "--config", invalid, "-o", "json"}, 2, []string{`"valid": false`, `"line": 1`, `"column": 22`, `"path": "downstreams.host.preset"`, `"message": "expected one of `}, nil},
		{"check of no file as JSON", []string{"check", "--config", missing, "-o", "json"}, 2, []string{`"valid": false`, `"error": "reading the configuration: `}, nil},
		{"check without connecting", []string{"check", "--config", valid, "--connect=false"}, 0, []string{valid + " is valid, 1 downstream", "host", "builtin", "not started"}, nil},
		{"check says what serve will refuse", []string{"check", "--config", exposing, "--connect=false"}, 0, []string{"note: serve will refuse it: gateway.listen: 0.0.0.0:0 can be reached by others"}, nil},

		{"open to others", []string{"serve", "--config", exposing}, 2, nil, []string{"gateway.listen: 0.0.0.0:0 can be reached by others", "set gateway.tokens", "--insecure"}},
		{"open to others by flag", []string{"serve", "--config", valid, "--listen", ":0"}, 2, nil, []string{"gateway.listen: :0 can be reached by others"}},
		{"administration open to others", []string{"serve", "--config", exposingAdmin}, 2, nil, []string{"gateway.admin.listen: :0 can be reached by others"}},
		{"bad address", []string{"serve", "--config", valid, "--listen", "nowhere"}, 2, nil, []string{"gateway.listen", "nowhere"}},
		{"address taken", []string{"serve", "--config", valid, "--listen", taken.Addr().String()}, 1, nil, []string{"listening on " + taken.Addr().String(), "address already in use", "lsof -i", "--listen"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), tt.args, strings.NewReader(""), &stdout, &stderr); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			for _, s := range []struct {
				name, got string
				want      []string
			}{{"stdout", stdout.String(), tt.stdout}, {"stderr", stderr.String(), tt.stderr}} {
				if len(s.want) == 0 && s.got != "" {
					t.Errorf("expected nothing on %s, found\n%s", s.name, s.got)
				}
				for _, want := range s.want {
					if !strings.Contains(s.got, want) {
						t.Errorf("%s lacks %q:\n%s", s.name, want, s.got)
					}
				}
			}
		})
	}
}

// TestWhereTheFileIs follows the search for the configuration.
func TestWhereTheFileIs(t *testing.T) {
	here, home := t.TempDir(), t.TempDir()
	t.Chdir(here)
	t.Setenv("XDG_CONFIG_HOME", home)
	t.Setenv("HOME", home)
	t.Setenv("AppData", home)
	dir, err := os.UserConfigDir()
	if err != nil {
		t.Fatal(err)
	}
	users := filepath.Join(dir, "mcpgw", "gateway.yaml")
	a := &app{}
	_, err = a.find()
	if err == nil || !strings.Contains(err.Error(), filepath.Join(here, "gateway.yaml")) || !strings.Contains(err.Error(), users) || !strings.Contains(err.Error(), "--config") {
		t.Errorf("expected both places and the flag, got %v", err)
	}
	if err := os.MkdirAll(filepath.Dir(users), 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, users, hostOnly)
	if got, err := a.find(); got != users || err != nil {
		t.Errorf("got %q, %v; want %q", got, err, users)
	}
	put(t, filepath.Join(here, "gateway.yaml"), hostOnly)
	if got, err := a.find(); got != "gateway.yaml" || err != nil {
		t.Errorf("got %q, %v; want gateway.yaml", got, err)
	}
	a.configPath = "other.yaml"
	if got, err := a.find(); got != "other.yaml" || err != nil {
		t.Errorf("got %q, %v; want other.yaml", got, err)
	}
}

func TestCheckConnects(t *testing.T) {
	path := write(t, hostOnly)
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"check", "--config", path, "-o", "json"}, nil, &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, stdout.String(), stderr.String())
	}
	var r report
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if !r.Valid || !r.Connected || !r.Ready || len(r.Downstreams) != 1 {
		t.Fatalf("got %+v", r)
	}
	d := r.Downstreams[0]
	if d.Name != "host" || d.State != "ready" || d.Transport != "builtin" || d.Protocol == "" || d.Tools == 0 || d.Bytes == 0 || d.Tokens != d.Bytes/4 || r.Total != d.size {
		t.Errorf("got %+v, in all %+v", d, r.Total)
	}
}

func TestCheckSaysWhatIsNotReady(t *testing.T) {
	path := write(t, "downstreams:\n  gone: {command: /nowhere/to/be/found}\n  off: {command: x, disabled: true}\n  host: {preset: host}\n")
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"check", "--config", path}, nil, &stdout, &stderr); code != exitNotReady {
		t.Errorf("exit code %d, want %d\n%s", code, exitNotReady, stderr.String())
	}
	out := stdout.String()
	for _, want := range []string{"3 downstreams", "gone: ", "/nowhere/to/be/found", "disabled", "together"} {
		if !strings.Contains(out, want) {
			t.Errorf("lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "off: ") {
		t.Errorf("a disabled downstream has nothing wrong with it:\n%s", out)
	}
}

func TestCheckDoesNotWaitForever(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	path := write(t, "downstreams: {mute: {url: \"http://"+l.Addr().String()+"/mcp\"}}\n")
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"check", "--config", path, "--timeout", "200ms"}, nil, &stdout, &stderr); code != exitNotReady {
		t.Errorf("exit code %d, want %d\n%s", code, exitNotReady, stderr.String())
	}
	if want := "note: not every downstream answered within 200ms"; !strings.Contains(stdout.String(), want) {
		t.Errorf("lacks %q:\n%s", want, stdout.String())
	}
}

func TestReportPrints(t *testing.T) {
	r := &report{
		Config: "gateway.yaml", Valid: true, Connected: true,
		Downstreams: []checked{
			{Name: "a", State: "ready", Transport: "stdio", Protocol: "2025-11-25", Problems: []string{"tool \"x\" dropped: bad schema"}, size: size{3, 4000, 1000}},
			{Name: "b", State: "reconnecting", Transport: "http", LastError: "connection refused"},
		},
		Clashes: []string{"a__x and A__x"}, Notes: []string{"a note"}, Total: size{3, 4000, 1000},
	}
	want := `gateway.yaml is valid, 2 downstreams

NAME      STATE         TRANSPORT  PROTOCOL    TOOLS  BYTES  TOKENS (ABOUT)
a         ready         stdio      2025-11-25  3      4000   1000
b         reconnecting  http       -           0      0      0
together                                       3      4000   1000

a: tool "x" dropped: bad schema

b: connection refused

name clash: a__x and A__x

note: a note
`
	var out bytes.Buffer
	if err := r.print(&out); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestSchemaCommand keeps the command equal to the file in the repository.
func TestSchemaCommand(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"schema"}, nil, &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	if !bytes.Equal(stdout.Bytes(), config.Schema()) {
		t.Error("the command prints another schema")
	}
}

func TestLoopback(t *testing.T) {
	tests := map[string]bool{
		"127.0.0.1:80": true, "127.9.9.9:80": true, "[::1]:80": true, "localhost:80": true, "[::ffff:127.0.0.1]:80": true,
		":80": false, "0.0.0.0:80": false, "[::]:80": false, "192.0.2.1:80": false, "[2001:db8::1]:80": false,
	}
	for address, want := range tests {
		if got, err := loopback(t.Context(), address); got != want || err != nil {
			t.Errorf("loopback(%q) = %v, %v; want %v", address, got, err, want)
		}
	}
	if _, err := loopback(t.Context(), "no port"); err == nil {
		t.Error("expected an error for an address without a port")
	}
}

func TestCgroupLimit(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		want  int64
	}{
		{"no Linux", nil, 0},
		{"no limit", map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, 0},
		{"container", map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1048576\n"}, 1 << 20},
		{"service", map[string]string{
			"proc/self/cgroup":                                          "0::/system.slice/mcpgw.service\n",
			"sys/fs/cgroup/system.slice/memory.max":                     "2097152\n",
			"sys/fs/cgroup/system.slice/mcpgw.service/memory.max":       "max\n",
			"sys/fs/cgroup/system.slice/mcpgw.service/child/memory.max": "1\n",
		}, 2 << 20},
		{"version 1", map[string]string{"proc/self/cgroup": "4:memory:/docker/abc\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "4194304\n"}, 4 << 20},
		{"version 1 without a limit", map[string]string{"proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := fstest.MapFS{}
			for name, text := range tt.files {
				root[name] = &fstest.MapFile{Data: []byte(text)}
			}
			if got := cgroupLimit(root); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}
