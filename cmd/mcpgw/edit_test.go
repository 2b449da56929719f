package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// edited is a file in which everything is written in its own way.
const edited = `# our gateway
gateway:
  listen: 127.0.0.1:0   # any port

downstreams:
  # this machine
  host: {preset: host}  # built in

# at the end
`

// TestAddAndRemoveCommands follows a file through several edits.
func TestAddAndRemoveCommands(t *testing.T) {
	path := write(t, edited)
	steps := []struct {
		args   []string
		code   int
		stderr []string
		file   string
	}{
		{
			[]string{"add", "files", "--env", "LOG_LEVEL=info", "--", "npx", "-y", "server", "${HOME}/a b", "$5"},
			0,
			[]string{"added", "A gateway that runs takes it over by itself"},
			strings.Replace(edited, "\n# at the end", `  files:
    command: npx
    args: [-y, server, "${HOME}/a b", "$$5"]
    env:
      LOG_LEVEL: info

# at the end`, 1),
		},
		{[]string{"add", "files", "http://127.0.0.1:1/mcp"}, 1, []string{`there is a downstream "files" already (line 8)`}, ""},
		{[]string{"remove", "files"}, 0, []string{"removed files"}, edited},
		{
			[]string{"add", "search", "https://mcp.example.net/mcp?key=abcdefgh1234", "-H", "Authorization: Bearer s3cr3t-s3cr3t", "--set", "resilience.timeouts.attempt=5s", "--set", "timeouts.initialize=1m"},
			0,
			[]string{"export SEARCH_TOKEN='…'   # header Authorization of search", "export SEARCH_KEY='…'"},
			strings.Replace(edited, "\n# at the end", `  search:
    url: "https://mcp.example.net/mcp?key=${SEARCH_KEY}"
    headers:
      Authorization: "Bearer ${SEARCH_TOKEN}"
    resilience:
      timeouts:
        attempt: 5s
    timeouts:
      initialize: 1m

# at the end`, 1),
		},
		{[]string{"rm", "search", "host"}, 0, []string{"with its comment: # this machine"}, "# our gateway\ngateway:\n  listen: 127.0.0.1:0   # any port\n\ndownstreams: {}\n\n# at the end\n"},
		{[]string{"add", "machine", "--preset", "host"}, 0, nil, "# our gateway\ngateway:\n  listen: 127.0.0.1:0   # any port\n\ndownstreams:\n  machine:\n    preset: host\n\n# at the end\n"},
		{[]string{"add", "x", "http://127.0.0.1:1/mcp", "--set", "urll=1"}, 2, []string{"nothing was written", "urll"}, ""},
		{[]string{"add", "x", "--preset", "hots"}, 2, []string{"nothing was written", `did you mean "host"?`}, ""},
		{[]string{"remove", "machin"}, 2, []string{`there is no downstream "machin" (did you mean "machine"?)`}, ""},
	}
	last := edited
	for _, s := range steps {
		code, out, errs := command(t, append([]string{"--config", path}, s.args...)...)
		if code != s.code || out != "" {
			t.Fatalf("%v: exit code %d, want %d\n%s%s", s.args, code, s.code, out, errs)
		}
		for _, want := range s.stderr {
			if !strings.Contains(errs, want) {
				t.Errorf("%v: lacks %q:\n%s", s.args, want, errs)
			}
		}
		if strings.Contains(errs, "s3cr3t") || strings.Contains(errs, "abcdefgh1234") {
			t.Errorf("%v: a secret is shown:\n%s", s.args, errs)
		}
		if s.file != "" {
			last = s.file
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(last, string(got)); d != "" {
			t.Fatalf("%v: %s", s.args, d)
		}
	}
}

func TestAddRefusesCommandLines(t *testing.T) {
	path := write(t, hostOnly)
	tests := []struct {
		args []string
		want string
	}{
		{nil, "expected a name"},
		{[]string{"a"}, "expected a URL, -- COMMAND or --preset"},
		{[]string{"a", "npx"}, "before a command stands --: mcpgw add a -- npx"},
		{[]string{"a", "--"}, "expected a command after --"},
		{[]string{"a", "b", "--", "c"}, "with the -- right after the name"},
		{[]string{"a", "--preset", "host", "--", "c"}, "one of a command, a URL and --preset"},
		{[]string{"a b", "http://x/"}, "is no name for a server"},
		{[]string{"a", "http://x/", "-H", "nothing"}, "--header: expected 'Name: value'"},
		{[]string{"a", "http://x/", "--set", "nothing"}, "--set: expected KEY=VALUE"},
	}
	for _, tt := range tests {
		code, _, errs := command(t, append([]string{"--config", path, "add"}, tt.args...)...)
		if code != exitUsage || !strings.Contains(errs, tt.want) {
			t.Errorf("%v: exit code %d, want %d with %q:\n%s", tt.args, code, exitUsage, tt.want, errs)
		}
	}
}

// TestSetHidesSecrets writes a password as a variable, whatever the way it comes in, and a number as one.
func TestSetHidesSecrets(t *testing.T) {
	path := write(t, hostOnly)
	code, out, errs := command(t, "add", "x", "--dry-run", "--config", path, "--set", "headers.X-Password=hunter2hunter2", "--set", "resilience.retry.max_attempts=2", "--env", "MAX_TOKENS=4096", "--env", "DB_PASSWORD=123456", "--", "cmd")
	for _, want := range []string{`X-Password: "${X_X_PASSWORD}"`, "max_attempts: 2\n", `MAX_TOKENS: "4096"`, `DB_PASSWORD: "${DB_PASSWORD}"`} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("%d, lacks %q:\n%s%s", code, want, out, errs)
		}
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != hostOnly {
		t.Errorf("--dry-run has written: %v\n%s", err, text)
	}
}

// TestInit makes a file, and never another one in its place.
func TestInit(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("HOME", t.TempDir())
	code, out, errs := command(t, "init", "--yes")
	if code != 0 || out != "" || !strings.Contains(errs, "gateway.yaml: written") || !strings.Contains(errs, "mcpgw clients claude-code --write") {
		t.Fatalf("exit code %d\n%s%s", code, out, errs)
	}
	was, err := os.ReadFile("gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if code, out, errs = command(t, "check"); code != 0 || !strings.Contains(out, "gateway.yaml is valid, 1 downstream") {
		t.Errorf("check: %d\n%s%s", code, out, errs)
	}
	if code, _, errs = command(t, "init", "--yes"); code != exitFailed || !strings.Contains(errs, "never overwritten") {
		t.Errorf("a second time: %d\n%s", code, errs)
	}
	if now, err := os.ReadFile("gateway.yaml"); err != nil || string(now) != string(was) {
		t.Errorf("the file has changed: %v\n%s", err, now)
	}
	other := filepath.Join(t.TempDir(), "other.yaml")
	client := filepath.Join(t.TempDir(), "mcp.json")
	put(t, client, `{"mcpServers": {"db": {"command": "db-mcp", "env": {"DB_PASSWORD": "hunter2hunter2"}}}}`)
	code, _, errs = command(t, "init", "--config", other, "--host=false", "--listen", "127.0.0.1:18080", "--import", client)
	text, err := os.ReadFile(other)
	if code != 0 || err != nil || !strings.Contains(string(text), "listen: 127.0.0.1:18080") || !strings.Contains(string(text), `DB_PASSWORD: "${DB_PASSWORD}"`) || strings.Contains(string(text), "preset: host") {
		t.Errorf("%d %v\n%s%s", code, err, text, errs)
	}
	if code, _, errs = command(t, "init", "--config", filepath.Join(t.TempDir(), "x.yaml"), "--listen", "nowhere"); code != exitUsage || !strings.Contains(errs, "--listen") {
		t.Errorf("a bad address: %d\n%s", code, errs)
	}
}

// TestImportStarts takes a server over from a client, and starts it. The server is this very program, as mcpgw stdio.
func TestImportStarts(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	inner := write(t, hostOnly)
	file, err := json.Marshal(map[string]any{"mcpServers": map[string]any{
		"inner one": map[string]any{
			"command": exe, "args": []string{"--config", inner, "stdio"}, "autoApprove": []string{"*"},
			"env": map[string]string{"MCPGW_TEST_AS_PROGRAM": "1", "SOME_TOKEN": "t0ps3cr3t!", "HOME": "${HOME}"},
		},
		"odd": map[string]any{"command": "${command:x}"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	client := filepath.Join(dir, "client.json")
	put(t, client, string(file))
	path, secrets := write(t, edited), filepath.Join(dir, "secrets.env")

	code, out, errs := command(t, "import", client, "--config", path)
	if code != 0 || !strings.Contains(out, "inner_one:\n    command: ") || !strings.Contains(errs, "Nothing was written: --write adds 1 server") {
		t.Fatalf("without --write: %d\n%s%s", code, out, errs)
	}
	if now, err := os.ReadFile(path); err != nil || string(now) != edited {
		t.Fatalf("the file has changed: %v\n%s", err, now)
	}
	code, out, errs = command(t, "import", client, "--config", path, "--write", "--env-file", secrets)
	for _, want := range []string{"imported: inner_one", "auto-approval is never imported: autoApprove (1)", "not imported: odd", "has no meaning outside of its client", "set -a; . " + secrets} {
		if !strings.Contains(errs, want) {
			t.Errorf("lacks %q:\n%s", want, errs)
		}
	}
	now, err := os.ReadFile(path)
	if code != 0 || err != nil || !strings.Contains(string(now), "# this machine") || !strings.Contains(string(now), "\n# at the end\n") || strings.Contains(string(now)+out+errs, "t0ps3cr3t") {
		t.Fatalf("%d %v\n%s%s%s", code, err, now, out, errs)
	}
	if env, err := os.ReadFile(secrets); err != nil || string(env) != "SOME_TOKEN='t0ps3cr3t!'\n" {
		t.Errorf("got %q, %v", env, err)
	}
	if info, err := os.Stat(secrets); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", info, err)
	}
	t.Setenv("SOME_TOKEN", "t0ps3cr3t!")
	code, out, errs = command(t, "check", "--config", path, "-o", "json")
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 {
		t.Fatalf("check: %d %v\n%s%s", code, err, out, errs)
	}
	i := 0
	for i < len(r.Downstreams) && r.Downstreams[i].Name != "inner_one" {
		i++
	}
	if i == len(r.Downstreams) || r.Downstreams[i].State != "ready" || r.Downstreams[i].Tools == 0 {
		t.Errorf("the imported server does not work: %+v", r.Downstreams)
	}
}

func TestImportSkipsTheGatewayItself(t *testing.T) {
	path := write(t, "gateway: {listen: \"127.0.0.1:18099\"}\n"+hostOnly)
	client := filepath.Join(t.TempDir(), "client.json")
	put(t, client, `{"mcpServers": {"mcpgw": {"url": "http://localhost:18099/mcp"}, "bad": {"url": "ftp://x"}}}`)
	code, out, errs := command(t, "import", client, "--config", path, "-o", "json")
	if code != 0 || !strings.Contains(out, `"skipped": "it is this gateway"`) || !strings.Contains(out, "expected http:// or https://") {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
	if code, _, errs = command(t, "import", client, "--config", path, "--only", "nobody"); code != exitFailed || !strings.Contains(errs, `there is no server "nobody"`) {
		t.Errorf("%d\n%s", code, errs)
	}
	if code, _, errs = command(t, "import", "--config", path); code != exitUsage || !strings.Contains(errs, "expected the file of a client") {
		t.Errorf("%d\n%s", code, errs)
	}
}

// TestClients writes into the files of every client, and keeps what is there.
func TestClients(t *testing.T) {
	home := t.TempDir()
	for _, v := range []string{"HOME", "XDG_CONFIG_HOME", "AppData", "USERPROFILE"} {
		t.Setenv(v, home)
	}
	for _, v := range []string{"CLAUDE_CONFIG_DIR", "CODEX_HOME"} {
		t.Setenv(v, "")
	}
	path := write(t, "gateway: {listen: \"127.0.0.1:18098\", tokens: [\"${MCPGW_TEST_UNSET_A}\", 0123456789abcdef]}\ndownstreams: {a: {url: \"${MCPGW_TEST_UNSET_B}\"}}\n")
	mine := filepath.Join(home, ".claude.json")
	put(t, mine, "{\"numStartups\": 3}\n")
	args := append([]string{"clients", "--write", "--config", path}, clientNames()...)
	code, out, errs := command(t, args...)
	if code != 0 || out != "" || strings.Contains(errs, "0123456789abcdef") || !strings.Contains(errs, "set MCPGW_TOKEN") {
		t.Fatalf("%d\n%s%s", code, out, errs)
	}
	got, err := os.ReadFile(mine)
	if err != nil || !strings.Contains(string(got), `"numStartups": 3`) || !strings.Contains(string(got), `"url": "http://127.0.0.1:18098/mcp"`) || !strings.Contains(string(got), "Bearer ${MCPGW_TOKEN}") {
		t.Errorf("%v\n%s", err, got)
	}
	backups, err := filepath.Glob(mine + ".*.bak")
	if err != nil || len(backups) != 1 {
		t.Fatal(backups, err)
	}
	if was, err := os.ReadFile(backups[0]); err != nil || string(was) != "{\"numStartups\": 3}\n" {
		t.Errorf("got %q, %v", was, err)
	}
	if code, _, errs = command(t, args...); code != 0 || strings.Count(errs, "knows the gateway already") != len(clientNames()) {
		t.Errorf("a second time: %d\n%s", code, errs)
	}
	if code, out, _ = command(t, "clients", "--config", path); code != 0 || !strings.Contains(out, "codex mcp add mcpgw --url http://127.0.0.1:18098/mcp --bearer-token-env-var MCPGW_TOKEN") {
		t.Errorf("%d\n%s", code, out)
	}
	if code, _, errs = command(t, "clients", "emacs", "--config", path); code != exitUsage || !strings.Contains(errs, "expected one of claude-code") {
		t.Errorf("%d\n%s", code, errs)
	}
}
