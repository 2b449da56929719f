package clients_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/internal/clients"
	"github.com/mcpgw/mcpgw/internal/config"
)

var update = flag.Bool("update", false, "write the expected results anew")

// samples are files as the clients write them.
var samples = []string{
	"claude_desktop_config.json", "claude.json", ".cursor/mcp.json", ".vscode/mcp.json", ".gemini/settings.json", "lmstudio.json", "opencode.json",
	"codex.toml", "server.json", "registry-remote.json",
}

// TestReadSamples compares what is made of a real file with what was looked at and found right.
func TestReadSamples(t *testing.T) {
	project, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range samples {
		t.Run(name, func(t *testing.T) {
			r := clients.NewReader("/home/ann", nil)
			data := load(t, filepath.Join("testdata", name))
			if err := r.Read(filepath.Join("testdata", name), data); err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			file := []byte("downstreams: {}\n")
			for _, s := range r.Found().Servers {
				if s.Skip != "" {
					fmt.Fprintf(&b, "%s\n  skipped: %s\n", s.From, s.Skip)
					continue
				}
				fmt.Fprintf(&b, "%s\n%s", s.From, s.Entry.String())
				for _, n := range s.Notes {
					fmt.Fprintf(&b, "  note: %s\n", n)
				}
				if file, err = config.Add(file, s.Entry); err != nil {
					t.Fatal(err)
				}
			}
			for _, v := range r.Found().Variables {
				fmt.Fprintf(&b, "variable %s=%q: %s\n", v.Name, v.Value, v.Why)
			}
			if _, err := config.Verify(name, file); err != nil {
				t.Errorf("not a valid gateway.yaml: %v\n%s", err, file)
			}
			for _, v := range r.Found().Variables {
				if v.Value != "" && strings.Contains(string(file), v.Value) {
					t.Errorf("the secret of %s is in the file:\n%s", v.Name, file)
				}
			}
			got := strings.ReplaceAll(b.String(), project, "PROJECT")
			golden := filepath.Join("testdata", "want", strings.NewReplacer("/", "_", ".", "_").Replace(name)+".txt")
			if *update {
				if err := os.MkdirAll(filepath.Dir(golden), 0o750); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if d := cmp.Diff(string(load(t, golden)), got); d != "" {
				t.Error(d)
			}
		})
	}
}

func load(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestNamesAreUnique reads several files into a configuration that has servers already.
func TestNamesAreUnique(t *testing.T) {
	r := clients.NewReader("", []string{"Git_Hub", "server"})
	for _, text := range []string{
		`{"mcpServers": {"git-hub": {"command": "a"}, "git.hub": {"command": "b"}, "__": {"command": "c"}}}`,
		`{"mcpServers": {"` + strings.Repeat("long", 10) + `": {"command": "d"}, "` + strings.Repeat("long", 11) + `": {"command": "e"}, "tools__": {"command": "f"}}}`,
	} {
		if err := r.Read("f.json", []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, s := range r.Found().Servers {
		got = append(got, s.Entry.Name)
		if len(s.Notes) == 0 {
			t.Errorf("%s: the change of the name is not told", s.From)
		}
	}
	want := []string{"git-hub_2", "git_hub_3", "server_2", "longlonglonglonglonglonglonglo", "longlonglonglonglonglonglong_2", "tools"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestSecretsOfTheSameName(t *testing.T) {
	r := clients.NewReader("", nil)
	err := r.Read("f.json", []byte(`{"mcpServers": {
		"a": {"command": "x", "env": {"API_KEY": "first-secret"}},
		"b": {"command": "x", "env": {"API_KEY": "first-secret"}},
		"c": {"command": "x", "env": {"API_KEY": "other-secret"}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range r.Found().Servers {
		got = append(got, s.Entry.String())
	}
	all := strings.Join(got, "")
	if strings.Count(all, `"${API_KEY}"`) != 2 || strings.Count(all, `"${C_API_KEY}"`) != 1 || len(r.Found().Variables) != 2 {
		t.Errorf("got %s%v", all, r.Found().Variables)
	}
}

func TestReadRefuses(t *testing.T) {
	tests := []struct{ name, path, text, want string }{
		{"no servers", "a.json", `{"theme": "dark"}`, "no servers found"},
		{"a list", "a.json", `[1]`, "no servers found"},
		{"broken", "a.json", "{\n\"mcpServers\": {\n", "not valid JSON: it ends too early"},
		{"two values", "a.json", `{"mcpServers": {}} {}`, "behind the end"},
		{"broken TOML", "a.toml", "a = \n", "line 1: not valid TOML"},
		{"TOML of something else", "a.toml", "a = 1\n", "no servers found"},
		{"deep", "a.json", strings.Repeat(`{"a":`, 200) + "1" + strings.Repeat("}", 200), "nested too deeply"},
	}
	for _, tt := range tests {
		err := clients.NewReader("", nil).Read(tt.path, []byte(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
	r := clients.NewReader("", nil)
	if err := r.Read("a.json", []byte(`{"mcpServers": {}}`)); err != nil || len(r.Found().Notes) != 1 {
		t.Errorf("an empty section: %v, %v", err, r.Found().Notes)
	}
	if err := r.Read("b.json", []byte(`{"bare": {"command": "x"}}`)); err != nil || len(r.Found().Servers) != 1 {
		t.Errorf("a piece of documentation: %v, %v", err, r.Found().Servers)
	}
}

// FuzzRead reads whatever there is: entries that come of it can be written, and read again by the configuration's parser.
func FuzzRead(f *testing.F) {
	for _, name := range samples {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, path := range []string{"a.json", "a.toml"} {
			r := clients.NewReader("/home/x", nil)
			if r.Read(path, data) != nil {
				continue
			}
			file := []byte("downstreams: {}\n")
			for _, s := range r.Found().Servers {
				if s.Skip != "" {
					continue
				}
				with, err := config.Add(file, s.Entry)
				if errors.Is(err, config.ErrByHand) {
					continue // such as a header that is there twice
				}
				if err != nil {
					t.Fatalf("%q: %v", data, err)
				}
				file = with
			}
		}
	})
}
