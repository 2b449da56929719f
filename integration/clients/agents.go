package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// agent is a program with a model in it.
type agent struct {
	name, pkg, version, program string
	scripts                     bool // its installation script puts the program for this machine in place

	// settings writes its settings into home and returns its environment. Gateway and model are URLs.
	settings func(home, gateway, model string) ([]string, error)
	health   [][]string // commands that connect without a model; nil: see connect
	healthy  []string   // what the last of them prints
	talk     []string   // arguments of one conversation
}

const claudeVersion = "2.1.329"

var agents = []agent{
	{
		name: "Claude Code", pkg: "@anthropic-ai/claude-code", version: claudeVersion, program: "claude", scripts: true,
		settings: func(home, gateway, model string) ([]string, error) {
			servers := map[string]any{"mcpServers": map[string]any{"gw": map[string]any{"type": "http", "url": gateway}}}
			return claudeEnv(model), writeJSON(filepath.Join(home, "mcp.json"), servers)
		},
		health:  [][]string{{"mcp", "add", "--transport", "http", "gw", "GATEWAY"}, {"mcp", "list"}},
		healthy: []string{"gw", "Connected"},
		talk: []string{
			"-p", "go", "--output-format", "stream-json", "--verbose", "--allowedTools", "mcp__gw", "--mcp-config", "HOME/mcp.json", "--strict-mcp-config",
			"--model", "claude-sonnet-4-5",
		},
	},
	{
		name: "Codex", pkg: "@openai/codex", version: "0.169.0", program: "codex", scripts: true,
		settings: func(home, gateway, model string) ([]string, error) {
			dir := filepath.Join(home, ".codex")
			if err := os.MkdirAll(dir, 0o750); err != nil {
				return nil, err
			}
			toml := fmt.Sprintf("model = \"gpt-5\"\nmodel_provider = \"script\"\napproval_policy = \"never\"\n"+
				"[model_providers.script]\nname = \"script\"\nbase_url = %q\nwire_api = \"responses\"\nenv_key = \"SCRIPT_KEY\"\n"+
				"[mcp_servers.gw]\nurl = %q\ntool_timeout_sec = 280\n", model+"/v1", gateway)
			return []string{"SCRIPT_KEY=none"}, os.WriteFile(filepath.Join(dir, "config.toml"), []byte(toml), 0o600)
		},
		talk: []string{"exec", "--skip-git-repo-check", "--json", "go"},
	},
	{
		name: "Gemini CLI", pkg: "@google/gemini-cli", version: "0.61.0", program: "gemini", scripts: true,
		settings: func(home, gateway, model string) ([]string, error) {
			dir := filepath.Join(home, ".gemini")
			if err := os.MkdirAll(dir, 0o750); err != nil {
				return nil, err
			}
			settings := map[string]any{
				"mcpServers": map[string]any{"gw": map[string]any{"type": "http", "url": gateway}},
				"security":   map[string]any{"auth": map[string]any{"selectedType": "gemini-api-key"}},
				"privacy":    map[string]any{"usageStatisticsEnabled": false},
				"general":    map[string]any{"disableAutoUpdate": true, "disableUpdateNag": true},
			}
			env := []string{"GEMINI_CLI_TRUST_WORKSPACE=true", "GEMINI_API_KEY=none", "GOOGLE_GEMINI_BASE_URL=" + model}
			return env, writeJSON(filepath.Join(dir, "settings.json"), settings)
		},
		health:  [][]string{{"mcp", "list"}},
		healthy: []string{"gw", "Connected"},
		talk:    []string{"-p", "go", "--yolo", "-o", "json", "-m", "gemini-2.5-flash"},
	},
	{
		name: "OpenCode", pkg: "opencode-ai", version: "1.18.33", program: "opencode", scripts: true,
		settings: func(home, gateway, model string) ([]string, error) {
			settings := map[string]any{
				"mcp": map[string]any{"gw": map[string]any{"type": "remote", "url": gateway}},
				"provider": map[string]any{"script": map[string]any{
					"npm": "@ai-sdk/openai-compatible", "options": map[string]any{"baseURL": model + "/v1", "apiKey": "none"},
					"models": map[string]any{"m": map[string]any{"name": "m"}},
				}},
				"model": "script/m", "small_model": "script/m", "autoupdate": false, "share": "disabled",
			}
			return []string{"OPENCODE_DISABLE_MODELS_FETCH=1"}, writeJSON(filepath.Join(home, "opencode.json"), settings)
		},
		health:  [][]string{{"mcp", "list"}},
		healthy: []string{"gw", "connected"},
		talk:    []string{"run", "--format", "json", "go"},
	},
}

// claudeEnv is what Claude Code needs to talk to the scripted model and to nobody else.
func claudeEnv(model string) []string {
	return []string{
		"DISABLE_TELEMETRY=1", "DISABLE_AUTOUPDATER=1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1",
		"ANTHROPIC_BASE_URL=" + model, "ANTHROPIC_API_KEY=none",
	}
}

func writeJSON(file string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o600)
}
