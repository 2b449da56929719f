package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/internal/config"
)

var files = config.Entry{Name: "files", Keys: []config.Key{
	{Name: "command", Value: "npx"},
	{Name: "args", Value: []string{"-y", "@modelcontextprotocol/server-filesystem", "${HOME}/shared"}},
	{Name: "env", Value: []config.Key{{Name: "LOG_LEVEL", Value: "info"}, {Name: "PORT", Value: "8080"}}},
}}

const filesBlock = `  files:
    command: npx
    args: [-y, "@modelcontextprotocol/server-filesystem", "${HOME}/shared"]
    env:
      LOG_LEVEL: info
      PORT: "8080"
`

const filesFlow = `files: {command: npx, args: [-y, "@modelcontextprotocol/server-filesystem", "${HOME}/shared"], env: {LOG_LEVEL: info, PORT: "8080"}}`

// TestAddAndRemove adds an entry to files of every style, and takes it away again: what is left is the file as it was.
func TestAddAndRemove(t *testing.T) {
	tests := []struct{ name, before, after string }{
		{"comments stay", `# top

gateway:
  listen: 127.0.0.1:8080          # aligned
downstreams:                      # the servers

  # the machine
  host:
    preset: host                  # built in

  # files:   an example
  #   command: npx

# at the end
telemetry:
  log_level: info
`, `# top

gateway:
  listen: 127.0.0.1:8080          # aligned
downstreams:                      # the servers

  # the machine
  host:
    preset: host                  # built in

  # files:   an example
  #   command: npx

` + filesBlock + `
# at the end
telemetry:
  log_level: info
`},
		{"the last section, without a line break at the end", "downstreams:\n  host:\n    preset: host", "downstreams:\n  host:\n    preset: host\n" + strings.TrimSuffix(filesBlock, "\n")},
		{"four spaces", "downstreams:\n    host:\n        preset: host\n", "downstreams:\n    host:\n        preset: host\n" +
			"    files:\n        command: npx\n        args: [-y, \"@modelcontextprotocol/server-filesystem\", \"${HOME}/shared\"]\n        env:\n            LOG_LEVEL: info\n            PORT: \"8080\"\n"},
		{"no empty lines", "downstreams:\n  a: {preset: host}\n  b: {preset: host}\ntelemetry: {}\n", "downstreams:\n  a: {preset: host}\n  b: {preset: host}\n" + filesBlock + "telemetry: {}\n"},
		{"nothing yet", "downstreams: {} # none\n# end\n", "downstreams: # none\n" + filesBlock + "# end\n"},
		{"in braces", "downstreams: {host: {preset: host}}\n", "downstreams: {host: {preset: host}, " + filesFlow + "}\n"},
		{"in braces, on lines", "downstreams: {\n  host: {preset: host}, # it's } here\n}\n", "downstreams: {\n  host: {preset: host}, # it's } here\n" + filesFlow + "}\n"},
		{"JSON", `{"downstreams":{"host":{"preset":"host"}},"telemetry":{}}`, `{"downstreams":{"host":{"preset":"host"}, ` + filesFlow + `},"telemetry":{}}`},
		{"end of document", "downstreams:\n  host: {preset: host}\n...\n", "downstreams:\n  host: {preset: host}\n" + filesBlock + "...\n"},
		{"a block of text at the end", "downstreams:\n  host:\n    preset: host\ngateway:\n  instructions: |\n    # a heading\n    downstreams:\n", "downstreams:\n  host:\n    preset: host\n" + filesBlock + "gateway:\n  instructions: |\n    # a heading\n    downstreams:\n"},
		{"lines end in CRLF", "downstreams:\r\n  host: {preset: host}\r\n", "downstreams:\r\n  host: {preset: host}\r\n" + strings.ReplaceAll(filesBlock, "\n", "\r\n")},
		{"byte order mark", "\xef\xbb\xbfdownstreams: {host: {preset: host}}\n", "\xef\xbb\xbfdownstreams: {host: {preset: host}, " + filesFlow + "}\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := config.Add([]byte(tt.before), files)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.after, string(got)); d != "" {
				t.Errorf("after Add: %s", d)
			}
			if _, err := config.Verify("gateway.yaml", got); err != nil {
				t.Errorf("not valid: %v", err)
			}
			back, comments, err := config.Remove(got, "files")
			if err != nil || len(comments) > 0 {
				t.Fatal(err, comments)
			}
			want := tt.before
			switch tt.name {
			case "the last section, without a line break at the end":
				want += "\n" // the line break that came with the entry stays
			case "in braces, on lines":
				return // the comma that was there before the entry may go with it
			}
			if d := cmp.Diff(want, string(back)); d != "" {
				t.Errorf("after Remove: %s", d)
			}
		})
	}
}

func TestAddToNothing(t *testing.T) {
	tests := []struct{ before, after string }{
		{"", "downstreams:\n" + filesBlock},
		{"# only a comment\n", "# only a comment\ndownstreams:\n" + filesBlock},
		{"gateway:\n  listen: 127.0.0.1:1\n", "gateway:\n  listen: 127.0.0.1:1\ndownstreams:\n" + filesBlock},
		{"downstreams:\n", "downstreams:\n" + filesBlock},
		{"downstreams: ~ # none\ngateway: {}\n", "downstreams: # none\n" + filesBlock + "gateway: {}\n"},
	}
	for _, tt := range tests {
		got, err := config.Add([]byte(tt.before), files)
		if err != nil {
			t.Errorf("%q: %v", tt.before, err)
			continue
		}
		if d := cmp.Diff(tt.after, string(got)); d != "" {
			t.Errorf("%q: %s", tt.before, d)
		}
	}
}

func TestRemoveTakesTheCommentAbove(t *testing.T) {
	before := `downstreams:
  # servers at home

  # the NAS; ask Bob
  nas:
    url: http://nas.example.net/mcp
    # it is slow
    timeouts: {call: 1m}

  # the machine
  host: {preset: host}
  # search: an example
`
	after := `downstreams:
  # servers at home

  # the machine
  host: {preset: host}
  # search: an example
`
	got, comments, err := config.Remove([]byte(before), "nas")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(after, string(got)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"# the NAS; ask Bob"}, comments); d != "" {
		t.Error(d)
	}
	got, _, err = config.Remove(got, "host")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff("downstreams: {}\n  # servers at home\n\n  # search: an example\n", string(got)); d != "" {
		t.Error(d)
	}
}

func TestEditRefuses(t *testing.T) {
	tests := []struct{ name, file, want string }{
		{"there already", "downstreams: {files: {preset: host}}\n", `there is a downstream "files" already (line 1)`},
		{"an alias", "x: &a {host: {preset: host}}\ndownstreams: *a\n", "edit the file by hand"},
		{"a list", "downstreams: [a]\n", "edit the file by hand"},
		{"no section", "just text\n", "edit the file by hand"},
		{"no YAML", "downstreams: {\n", "not valid YAML"},
	}
	for _, tt := range tests {
		if _, err := config.Add([]byte(tt.file), files); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
	if _, _, err := config.Remove([]byte("downstreams: {files: {preset: host}}\n"), "flies"); err == nil || !strings.Contains(err.Error(), `did you mean "files"?`) {
		t.Errorf("got %v", err)
	}
	// An anchor that others use cannot go with its entry.
	if _, _, err := config.Remove([]byte("downstreams:\n  a: &a\n    preset: host\n  b: *a\n"), "a"); err == nil {
		t.Error("expected an error")
	}
}

func TestEscape(t *testing.T) {
	tests := []struct{ in, literal, referring string }{
		{"plain", "plain", "plain"},
		{"$HOME/x", "$$HOME/x", "$$HOME/x"},
		{"a${HOME}b${X:-y z}$", "a$${HOME}b$${X:-y z}$$", "a${HOME}b${X:-y z}$$"},
		{"${1} ${a-b} $$", "$${1} $${a-b} $$$$", "$${1} $${a-b} $$$$"},
	}
	for _, tt := range tests {
		if got := config.Escape(tt.in, false); got != tt.literal {
			t.Errorf("%q as it is: got %q, want %q", tt.in, got, tt.literal)
		}
		if got := config.Escape(tt.in, true); got != tt.referring {
			t.Errorf("%q with references: got %q, want %q", tt.in, got, tt.referring)
		}
	}
}

func TestVerifyNamesWhatIsNotSet(t *testing.T) {
	t.Setenv("MCPGW_TEST_SET", "x")
	unset, err := config.Verify("f", []byte("downstreams: {a: {url: \"${MCPGW_TEST_NO_URL}\", headers: {A: \"${MCPGW_TEST_NO_TOKEN} ${MCPGW_TEST_SET}\"}}}\n"))
	if d := cmp.Diff([]string{"MCPGW_TEST_NO_TOKEN", "MCPGW_TEST_NO_URL"}, unset); err != nil || d != "" {
		t.Error(err, d)
	}
	if _, err := config.Verify("f", []byte("downstreams: {a: {url: \"${MCPGW_TEST_NO_URL}\", urll: x}}\n")); err == nil || !strings.Contains(err.Error(), "urll") || strings.Contains(err.Error(), "MCPGW_TEST_NO_URL is") {
		t.Errorf("got %v", err)
	}
}

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real.yaml"), filepath.Join(dir, "link.yaml")
	if err := config.Replace(real, nil, []byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := config.Replace(real, nil, []byte("two")); err == nil || !strings.Contains(err.Error(), "never overwritten") {
		t.Errorf("got %v", err)
	}
	if err := os.Chmod(real, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real.yaml", link); err != nil {
		t.Fatal(err)
	}
	if err := config.Replace(link, []byte("one"), []byte("two")); err != nil {
		t.Fatal(err)
	}
	if err := config.Replace(link, []byte("one"), []byte("three")); err == nil || !strings.Contains(err.Error(), "changed by another program") {
		t.Errorf("got %v", err)
	}
	info, err := os.Lstat(link)
	if err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v %v", info, err)
	}
	info, err = os.Stat(real)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("got %v, %v", info, err)
	}
	if got, err := os.ReadFile(real); err != nil || string(got) != "two" {
		t.Errorf("got %q, %v", got, err)
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 2 {
		t.Errorf("something is left behind: %v %v", all, err)
	}
}

// FuzzEdit adds an entry to whatever parses: the result means the same plus the entry, or it is refused.
func FuzzEdit(f *testing.F) {
	f.Add("downstreams:\n  a: {preset: host}\n# x\nb: |\n  # y\n")
	f.Add("downstreams: {a: {b: 'it''s'}, }\n")
	f.Add("? downstreams\n: a: b\n")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := config.Add([]byte(s), files)
		if err != nil {
			return
		}
		names, err := config.Names(got)
		if err != nil {
			t.Fatalf("%q became %q: %v", s, got, err)
		}
		if len(names) == 0 {
			t.Fatalf("%q became %q: no entry", s, got)
		}
		_, _, _ = config.Remove(got, "files")
		_, _, _ = config.Remove([]byte(s), "a")
	})
}
