package clients

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
)

// Gateway is what a client has to know about the gateway.
type Gateway struct {
	Name     string   // under which the client knows it
	URL      string   // of the endpoint
	TokenEnv string   // environment variable of the client that holds the bearer token; "" if there are no tokens
	Command  []string // for clients that start a command
}

// Place is the machine and the user that a client runs for.
type Place struct {
	OS      string // as runtime.GOOS
	Home    string
	Config  string // as os.UserConfigDir
	Project string // the folder of a project, for its own file; "" for the user's
	Getenv  func(string) string
}

// Client is a program that speaks MCP and has a file that lists its servers.
type Client struct {
	Name  string // on the command line
	Title string
	After string // what the user has to do when the file was changed

	root    string // of the servers in the file
	file    func(p Place) string
	project string // path in the folder of a project; "" if there is no such file
	entry   func(g Gateway) any
	command func(g Gateway) string // the client's own command that does the same; nil if there is none
	toml    bool
}

// All lists the clients that are known, sorted by name.
func All() []Client {
	return []Client{
		{
			Name: "claude-code", Title: "Claude Code", root: "mcpServers", project: ".mcp.json", After: "claude mcp list shows the connection",
			file: func(p Place) string { return filepath.Join(p.either("CLAUDE_CONFIG_DIR", p.Home), ".claude.json") },
			entry: func(g Gateway) any {
				return remoteEntry{Type: "http", URL: g.URL, Headers: g.bearer("${%s}")}
			},
			command: func(g Gateway) string {
				return strings.TrimSpace("claude mcp add --scope user --transport http " + g.Name + " " + g.URL + g.flag(` --header 'Authorization: Bearer ${%s}'`))
			},
		},
		{
			Name: "claude-desktop", Title: "Claude Desktop", root: "mcpServers", After: "start Claude Desktop again",
			file: func(p Place) string {
				return filepath.Join(p.Config, "Claude", "claude_desktop_config.json")
			},
			// It starts commands only; its connectors for URLs are reached from the maker's cloud.
			entry: func(g Gateway) any { return commandEntry{Command: g.Command[0], Args: g.Command[1:]} },
		},
		{
			Name: "codex", Title: "Codex", root: "mcp_servers", toml: true, project: filepath.Join(".codex", "config.toml"), After: "start Codex again",
			file: func(p Place) string {
				return filepath.Join(p.either("CODEX_HOME", filepath.Join(p.Home, ".codex")), "config.toml")
			},
			command: func(g Gateway) string {
				return "codex mcp add " + g.Name + " --url " + g.URL + g.flag(" --bearer-token-env-var %s")
			},
		},
		{
			Name: "cursor", Title: "Cursor", root: "mcpServers", project: filepath.Join(".cursor", "mcp.json"), After: "switch the server on in Settings, MCP",
			file:  func(p Place) string { return filepath.Join(p.Home, ".cursor", "mcp.json") },
			entry: func(g Gateway) any { return remoteEntry{URL: g.URL, Headers: g.bearer("${env:%s}")} },
		},
		{
			Name: "gemini", Title: "Gemini CLI", root: "mcpServers", project: filepath.Join(".gemini", "settings.json"), After: "gemini mcp list shows the connection, in a folder that it trusts",
			file:  func(p Place) string { return filepath.Join(p.Home, ".gemini", "settings.json") },
			entry: func(g Gateway) any { return remoteEntry{Type: "http", URL: g.URL, Headers: g.bearer("${%s}")} },
			command: func(g Gateway) string {
				return "gemini mcp add --scope user --transport http " + g.Name + " " + g.URL + g.flag(` --header 'Authorization: Bearer ${%s}'`)
			},
		},
		{
			Name: "opencode", Title: "OpenCode", root: "mcp", project: "opencode.json", After: "opencode mcp list shows the connection",
			file: func(p Place) string {
				return filepath.Join(p.either("XDG_CONFIG_HOME", filepath.Join(p.Home, ".config")), "opencode", "opencode.json")
			},
			entry: func(g Gateway) any {
				enabled := true
				return remoteEntry{Type: "remote", URL: g.URL, Enabled: &enabled, Headers: g.bearer("{env:%s}")}
			},
		},
		{
			Name: "vscode", Title: "VS Code", root: "servers", project: filepath.Join(".vscode", "mcp.json"), After: "start the server in the list of MCP servers",
			file:  func(p Place) string { return filepath.Join(p.Config, "Code", "User", "mcp.json") },
			entry: func(g Gateway) any { return remoteEntry{Type: "http", URL: g.URL, Headers: g.bearer("${env:%s}")} },
		},
	}
}

type remoteEntry struct {
	Type    string            `json:"type,omitempty"`
	URL     string            `json:"url"`
	Enabled *bool             `json:"enabled,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
}

type commandEntry struct {
	Command string   `json:"command"`
	Args    []string `json:"args"`
}

// either returns the value of a variable, or def if it is not set.
func (p *Place) either(variable, def string) string {
	if v := p.Getenv(variable); v != "" {
		return v
	}
	return def
}

// bearer returns the header that the gateway wants. No secret is in it: the client reads the variable.
func (g *Gateway) bearer(form string) map[string]string {
	if g.TokenEnv == "" {
		return nil
	}
	return map[string]string{"Authorization": "Bearer " + fmt.Sprintf(form, g.TokenEnv)}
}

func (g *Gateway) flag(form string) string {
	if g.TokenEnv == "" {
		return ""
	}
	return fmt.Sprintf(form, g.TokenEnv)
}

// File returns the path of the client's file. It is "" if a project cannot have one.
func (c *Client) File(p Place) string {
	switch {
	case p.Project == "":
		return c.file(p)
	case c.project == "":
		return ""
	}
	return filepath.Join(p.Project, c.project)
}

// Command returns the client's own command that adds the gateway; "" if there is none.
func (c *Client) Command(g Gateway) string {
	if c.command == nil {
		return ""
	}
	return c.command(g)
}

// Snippet returns what belongs into the client's file.
func (c *Client) Snippet(g Gateway) string {
	if c.toml {
		return codexSection(g)
	}
	b, err := json.MarshalIndent(nest([]string{c.root, g.Name}, c.entry(g)), "", "  ")
	if err != nil {
		panic(err) // texts only
	}
	return string(b) + "\n"
}

func codexSection(g Gateway) string {
	s := fmt.Sprintf("[mcp_servers.%s]\nurl = %q\n", g.Name, g.URL)
	if g.TokenEnv != "" {
		s += fmt.Sprintf("bearer_token_env_var = %q\n", g.TokenEnv)
	}
	return s
}

// Write returns the content of the client's file with the entry for the gateway, and everything else as it was. It returns data itself if
// nothing has to change. data may be empty.
func (c *Client) Write(data []byte, g Gateway) ([]byte, error) {
	if c.toml {
		return setTOML(data, g.Name, codexSection(g))
	}
	return set(data, []string{c.root, g.Name}, c.entry(g))
}
