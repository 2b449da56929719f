package config

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/gateway"
	"github.com/mcpgw/mcpgw/telemetry"
)

// env answers from pairs of name and value.
func env(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

func TestParse(t *testing.T) {
	const text = `
gateway:
  listen: 127.0.0.1:${PORT:-9000}
  tokens: ["${TOKEN}"]
  allowed_hosts: [gw.example.net]
  admin: { listen: "127.0.0.1:9090" }
  page_size: ${PAGE}
  instructions: |
    Costs $5 or $$HOME.
  limits: { request_bytes: 1MiB, depth: 64, sessions: 7 }
  timeouts:
    shutdown: 1m30s
downstreams:
  files:
    command: npx
    args: [-y, 8080, 1.0, true, 0x10, "${HOME}/shared"]
    env: { LOG_LEVEL: info, PORT: 8080, EMPTY: "" }
    dir: /tmp
    limits: &limits { message_bytes: 512KiB, item_bytes: "${SIZE}" }
    timeouts: &times { call: 10s, max_call: "${LONG:-20s}" }
  search:
    url: "https://mcp.example.net/${PATH_:-mcp}"
    headers: { Authorization: "Bearer ${TOKEN}" }
    protocol: 2025-11-25
    transport: ${TRANSPORT:-sse}
    limits: *limits
    timeouts:
      <<: *times
      call: 5s
  host: { preset: host, disabled: "${OFF}" }
telemetry: { log_level: debug }
`
	got, err := Parse("gateway.yaml", []byte(text), env("TOKEN", "0123456789abcdef", "PAGE", "50", "HOME", "/home/me", "SIZE", "2KiB", "OFF", "true", "TRANSPORT", ""))
	if err != nil {
		t.Fatal(err)
	}

	gw := gateway.DefaultConfig()
	gw.Listen, gw.Admin.Listen = "127.0.0.1:9000", "127.0.0.1:9090"
	gw.Tokens = []telemetry.Secret{"0123456789abcdef"}
	gw.AllowedHosts = []string{"gw.example.net"}
	gw.PageSize = 50
	gw.Instructions = "Costs $5 or $HOME.\n"
	gw.Limits.RequestBytes, gw.Limits.Depth, gw.Limits.Sessions = 1<<20, 64, 7
	gw.Timeouts.Shutdown = 90 * time.Second

	files := downstream.DefaultConfig()
	files.Command, files.Dir = "npx", "/tmp"
	files.Args = []string{"-y", "8080", "1.0", "true", "0x10", "/home/me/shared"}
	files.Env = map[string]telemetry.Secret{"LOG_LEVEL": "info", "PORT": "8080", "EMPTY": ""}
	files.Limits.MessageBytes, files.Limits.ItemBytes = 512<<10, 2<<10
	files.Timeouts.Call, files.Timeouts.MaxCall = 10*time.Second, 20*time.Second

	search := downstream.DefaultConfig()
	search.URL, search.Protocol, search.Transport = "https://mcp.example.net/mcp", "2025-11-25", "sse"
	search.Headers = map[string]telemetry.Secret{"Authorization": "Bearer 0123456789abcdef"}
	search.Limits.MessageBytes, search.Limits.ItemBytes = 512<<10, 2<<10
	search.Timeouts.Call, search.Timeouts.MaxCall = 5*time.Second, 20*time.Second

	host := downstream.DefaultConfig()
	host.Preset, host.Disabled = "host", true

	trusted := gateway.DefaultPolicies()
	gateway.ApplyPreset("host", &trusted)

	tel := telemetry.DefaultConfig()
	tel.LogLevel = "debug"
	want := &File{
		Settings: gateway.Settings{
			Gateway: gw, Downstreams: map[string]downstream.Config{"files": files, "search": search, "host": host}, Admission: gateway.DefaultAdmission(),
			Policies: map[string]gateway.Policies{"files": gateway.DefaultPolicies(), "search": gateway.DefaultPolicies(), "host": trusted},
		},
		Warnings: []*Fault{
			{File: "gateway.yaml", Line: 20, Col: 24, Path: "downstreams.files.timeouts.call", Msg: "10s ends calls before resilience.timeouts.attempt (30s) does"},
			{File: "gateway.yaml", Line: 29, Col: 7, Path: "downstreams.search.timeouts.call", Msg: "5s ends calls before resilience.timeouts.attempt (30s) does"},
		},
		Telemetry: tel,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestForms(t *testing.T) {
	host := "downstreams: {host: {preset: host}}\n"
	tests := []struct{ name, text string }{
		{"byte order mark", "\xef\xbb\xbf" + host},
		{"CRLF", "downstreams:\r\n  host:\r\n    preset: host\r\n"},
		{"JSON", `{"downstreams": {"host": {"preset": "host"}}}`},
		{"tabs in JSON", "{\n\t\"downstreams\": {\n\t\t\"host\": {\"preset\": \"host\"}\n\t}\n}"},
		{"explicit start and end", "---\n" + host + "...\n"},
		{"no downstreams, on purpose", "downstreams: {}\n"},
		{"empty sections, on purpose", "gateway: {limits: {}, tokens: []}\ntelemetry: {}\n" + host},
		{"a name that looks like a number", "downstreams: {1: {preset: host}, true: {preset: host}}\n"},
		{"merge of several", "downstreams:\n  a: &a {preset: host}\n  b: &b {preset: host, disabled: true}\n  c: {<<: [*a, *b]}\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Parse("gateway.yaml", []byte(tt.text), env()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestMergeKeepsWhatIsWritten(t *testing.T) {
	const text = "downstreams:\n  a: &a {preset: host, disabled: true, dir: x}\n  b: {<<: *a, dir: y, <<: {dir: z, session: shared}}\n"
	_, err := Parse("f", []byte(text), env())
	// dir is not for presets: the two faults show that each got its own.
	want := "f:2:40: downstreams.a.dir: only a server with a command has it\nf:3:15: downstreams.b.dir: only a server with a command has it"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

// TestDefaults compares the default tags, which people read, with DefaultConfig, which counts.
func TestDefaults(t *testing.T) {
	var walk func(path string, v reflect.Value)
	walk = func(path string, v reflect.Value) {
		for _, f := range fieldsOf(v.Type()) {
			path, got := join(path, f.key), v.FieldByIndex(f.index)
			if f.typ.Kind() == reflect.Struct {
				walk(path, got)
				continue
			}
			if f.doc == "" || !strings.HasSuffix(f.doc, ".") {
				t.Errorf("%s: expected a sentence as doc tag, found %q", path, f.doc)
			}
			want := reflect.New(f.typ).Elem()
			if f.def != "" && f.typ.Kind() == reflect.Slice {
				want = reflect.ValueOf(strings.Split(f.def, ", "))
			} else if f.def != "" {
				if _, ok := set(want, f, f.def, true); !ok {
					t.Errorf("%s: the default %q cannot be decoded", path, f.def)
				}
			}
			if f.typ.Kind() == reflect.Map && f.typ.Elem().Kind() == reflect.Struct {
				walk(path+".NAME", newDocument().initial(f.typ.Elem()))
			} else if !reflect.DeepEqual(got.Interface(), want.Interface()) {
				t.Errorf("%s: the default tag says %v, DefaultConfig %v", path, want, got)
			}
		}
	}
	walk("", reflect.ValueOf(newDocument()).Elem())
}

// TestEnums compares the enum tags with what Validate accepts where other packages decide.
func TestEnums(t *testing.T) {
	for _, f := range fieldsOf(reflect.TypeFor[server]()) {
		var want []string
		switch f.key {
		case "preset":
			want = downstream.Presets()
		case "protocol":
			want = append([]string{"auto"}, downstream.Revisions...)
		default:
			continue
		}
		if d := cmp.Diff(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(f.enum))); d != "" {
			t.Errorf("%s: %s", f.key, d)
		}
	}
}

func TestLoad(t *testing.T) {
	t.Setenv("MCPGW_TEST_DIR", "/srv")
	path := filepath.Join(t.TempDir(), "gateway.yaml")
	if _, _, err := Load(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want that the file does not exist", err)
	}
	if err := os.WriteFile(path, []byte("downstreams: {a: {command: sh, dir: \"${MCPGW_TEST_DIR}\"}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, data, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Settings.Downstreams["a"].Dir; got != "/srv" {
		t.Errorf("dir = %q", got)
	}
	if len(data) == 0 {
		t.Error("expected the content")
	}
}

// TestShipped reads the file that the repository ships, as it is and with its examples switched on.
func TestShipped(t *testing.T) {
	data, err := os.ReadFile("../../gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse("gateway.yaml", data, env())
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(f.Settings.Downstreams)); !slices.Equal(got, []string{"host", "idrac", "llm", "pfsense", "proxmox", "truenas"}) {
		t.Errorf("found %v", got)
	}
	for name, d := range f.Settings.Downstreams {
		if d.Preset != name || name != "host" && d.URL != "lab" {
			t.Errorf("%s is a %s at %q", name, d.Preset, d.URL)
		}
	}
	all := regexp.MustCompile(`(?m)^  # `).ReplaceAll(data, []byte("  "))
	f, err = Parse("gateway.yaml", all, env("HOME", "/home/me", "SEARCH_TOKEN", "t"))
	if err != nil {
		t.Fatal(err)
	}
	if d := f.Settings.Downstreams; len(d) != 8 || d["files"].Command == "" || d["search"].URL == "" {
		t.Errorf("expected the rack, files and search, found %v", d)
	}
}
