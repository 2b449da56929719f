package clients_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/internal/clients"
)

var gw = clients.Gateway{Name: "mcpgw", URL: "http://127.0.0.1:8080/mcp", Command: []string{"/usr/bin/mcpgw", "stdio"}}

func client(t *testing.T, name string) *clients.Client {
	t.Helper()
	for _, c := range clients.All() {
		if c.Name == name {
			return &c
		}
	}
	t.Fatalf("no client %s", name)
	return nil
}

// TestWrite keeps everything of a file but the one entry, to the byte.
func TestWrite(t *testing.T) {
	tests := []struct{ name, client, before, after string }{
		{"a new file", "claude-code", "", "{\n  \"mcpServers\": {\n    \"mcpgw\": {\n      \"type\": \"http\",\n      \"url\": \"http://127.0.0.1:8080/mcp\"\n    }\n  }\n}\n"},
		{"beside others", "cursor", `{
    "mcpServers": {
        "a": {"url": "x"} // mine
    },
    "z": [1,   2]
}
`, `{
    "mcpServers": {
        "a": {"url": "x"},
        "mcpgw": {
            "url": "http://127.0.0.1:8080/mcp"
        } // mine
    },
    "z": [1,   2]
}
`},
		{"comma at the end", "vscode", "{\n\t\"servers\": {\n\t\t\"a\": {\"url\": \"x\"}, // mine\n\t}\n}", "{\n\t\"servers\": {\n\t\t\"a\": {\"url\": \"x\"},\n\t\t\"mcpgw\": {\n\t\t\t\"type\": \"http\",\n\t\t\t\"url\": \"http://127.0.0.1:8080/mcp\"\n\t\t} // mine\n\t}\n}"},
		{"no section yet", "gemini", "{\n  \"theme\": \"dark\"\n}\n", "{\n  \"theme\": \"dark\",\n  \"mcpServers\": {\n    \"mcpgw\": {\n      \"type\": \"http\",\n      \"url\": \"http://127.0.0.1:8080/mcp\"\n    }\n  }\n}\n"},
		{"an empty section", "claude-desktop", `{"mcpServers": {}}`, "{\"mcpServers\": {\n  \"mcpgw\": {\n    \"command\": \"/usr/bin/mcpgw\",\n    \"args\": [\n      \"stdio\"\n    ]\n  }\n}}"},
		{"on one line", "cursor", `{"mcpServers": {"a": {}}, "b": 1}`, "{\"mcpServers\": {\"a\": {},\n  \"mcpgw\": {\n    \"url\": \"http://127.0.0.1:8080/mcp\"\n  }\n}, \"b\": 1}"},
		{"another address before", "cursor", `{"mcpServers": {"mcpgw": {"url": "http://old/mcp"}, "b": {}}}`, "{\"mcpServers\": {\"mcpgw\": {\n  \"url\": \"http://127.0.0.1:8080/mcp\"\n}, \"b\": {}}}"},
		{"Codex, a new file", "codex", "", "[mcp_servers.mcpgw]\nurl = \"http://127.0.0.1:8080/mcp\"\n"},
		{"Codex, beside others", "codex", "model = \"x\" # mine\n\n[mcp_servers.a]\ncommand = \"a\"", "model = \"x\" # mine\n\n[mcp_servers.a]\ncommand = \"a\"\n\n[mcp_servers.mcpgw]\nurl = \"http://127.0.0.1:8080/mcp\"\n"},
		{"Codex, another address before", "codex", "[mcp_servers.mcpgw]\nurl = \"http://old/mcp\"\nenabled = true\n\n# b\n[mcp_servers.b]\ncommand = \"b\"\n", "[mcp_servers.mcpgw]\nurl = \"http://127.0.0.1:8080/mcp\"\n\n# b\n[mcp_servers.b]\ncommand = \"b\"\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := client(t, tt.client)
			got, err := c.Write([]byte(tt.before), gw)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.after, string(got)); d != "" {
				t.Error(d)
			}
			again, err := c.Write(got, gw)
			if err != nil || string(again) != string(got) {
				t.Errorf("writing it again changed the file: %v\n%s", err, again)
			}
			// What was written is what import reads, and knows to be the gateway.
			r := clients.NewReader("", nil)
			if err := r.Read("f.json", got); err != nil {
				t.Fatal(err)
			}
			found := false
			for _, s := range r.Found().Servers {
				found = found || s.Entry.Name == "mcpgw"
			}
			if !found {
				t.Errorf("the entry cannot be read back:\n%s", got)
			}
		})
	}
}

func TestWriteRefuses(t *testing.T) {
	tests := []struct{ name, client, before, want string }{
		{"no JSON", "cursor", "{", "not valid JSON"},
		{"a list", "cursor", "[]", "expected an object"},
		{"a section that is none", "cursor", `{"mcpServers": []}`, "mcpServers: expected an object"},
		{"no TOML", "codex", "= 1", "not valid TOML"},
		{"an inline table", "codex", "mcp_servers = {a = {command = \"x\"}}\n", "by hand"},
	}
	for _, tt := range tests {
		if _, err := client(t, tt.client).Write([]byte(tt.before), gw); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

// TestNoTokenInFiles names a variable wherever the gateway wants a token.
func TestNoTokenInFiles(t *testing.T) {
	g := gw
	g.TokenEnv = "GW_TOKEN"
	want := map[string]string{
		"claude-code": "Bearer ${GW_TOKEN}", "codex": `bearer_token_env_var = "GW_TOKEN"`, "cursor": "Bearer ${env:GW_TOKEN}", "gemini": "Bearer ${GW_TOKEN}",
		"opencode": "Bearer {env:GW_TOKEN}", "vscode": "Bearer ${env:GW_TOKEN}", "claude-desktop": `"stdio"`,
	}
	for _, c := range clients.All() {
		if s := c.Snippet(g); want[c.Name] == "" || !strings.Contains(s, want[c.Name]) {
			t.Errorf("%s: got\n%s", c.Name, s)
		}
	}
}

func TestFiles(t *testing.T) {
	p := clients.Place{OS: "linux", Home: "/home/ann", Config: "/home/ann/.config", Getenv: func(string) string { return "" }}
	want := map[string][2]string{
		"claude-code":    {"/home/ann/.claude.json", "/p/.mcp.json"},
		"claude-desktop": {"/home/ann/.config/Claude/claude_desktop_config.json", ""},
		"codex":          {"/home/ann/.codex/config.toml", "/p/.codex/config.toml"},
		"cursor":         {"/home/ann/.cursor/mcp.json", "/p/.cursor/mcp.json"},
		"gemini":         {"/home/ann/.gemini/settings.json", "/p/.gemini/settings.json"},
		"opencode":       {"/home/ann/.config/opencode/opencode.json", "/p/opencode.json"},
		"vscode":         {"/home/ann/.config/Code/User/mcp.json", "/p/.vscode/mcp.json"},
	}
	for _, c := range clients.All() {
		q := p
		q.Project = "/p"
		if got := [2]string{c.File(p), c.File(q)}; got != want[c.Name] {
			t.Errorf("%s: got %v, want %v", c.Name, got, want[c.Name])
		}
	}
}
