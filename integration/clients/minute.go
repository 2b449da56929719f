package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

const flowMinute = "from an empty folder to a called tool"

var listenLine = regexp.MustCompile(`(?m)^\s*listen:\s*"?([\d.:]+)`)

// minute is what a stranger does who has mcpgw, Claude Code and an empty folder: three commands, then the agent calls a tool.
func (r *runner) minute(ctx context.Context) (string, error) {
	a := agents[0]
	program, err := r.node.Install(ctx, a.pkg+"@"+a.version, a.program, a.scripts)
	if err != nil {
		return "", err
	}
	a.settings = func(_, _, model string) ([]string, error) { return claudeEnv(model), nil } // the gateway writes the rest
	p, err := r.settle(ctx, a, "http://127.0.0.1:1", "circuit_status", "{}")
	if err != nil {
		return "", err
	}
	defer p.close()
	start := time.Now()
	var commands []string
	run := func(program string, args ...string) (string, error) {
		commands = append(commands, "`mcpgw "+strings.Join(args, " ")+"`")
		return r.finish(ctx, p, program, args)
	}
	if _, err := run(r.gateway, "init", "--yes"); err != nil {
		return "", err
	}
	file, err := os.ReadFile(filepath.Join(p.home, "gateway.yaml"))
	if err != nil {
		return "", fmt.Errorf("what mcpgw init wrote: %w", err)
	}
	listen := listenLine.FindSubmatch(file)
	if listen == nil {
		return "", fmt.Errorf("mcpgw init wrote no address to listen on:\n%s", file)
	}
	if out, err := run(r.gateway, "clients", "claude-code", "--write"); err != nil {
		return "", fmt.Errorf("%w:\n%s", err, out)
	}
	commands = append(commands, "`mcpgw serve`")
	gw, err := harness.StartHTTP(ctx, harness.Spec{Name: "mcpgw serve", Path: r.gateway, Args: []string{"serve"}, Dir: p.home, Env: append([]string{"PATH=" + r.node.PATH(), "HOME=" + p.home}, p.env...)}, string(listen[1]))
	if err != nil {
		return "", err
	}
	defer gw.Kill()
	ready := time.Since(start)
	out, err := r.finish(ctx, p, program, []string{"-p", "how is the gateway?", "--output-format", "stream-json", "--verbose", "--allowedTools", "mcp__mcpgw", "--model", "claude-sonnet-4-5"})
	if err != nil {
		return "", err
	}
	text, _, err := p.model.result()
	if err != nil {
		return "", fmt.Errorf("%w; Claude Code printed:\n%.3000s", err, out)
	}
	return fmt.Sprintf("%d commands (%s), %s; the agent's answer, with the result of circuit_status, after %s in all", len(commands), strings.Join(commands, ", "), seconds(ready), seconds(time.Since(start))),
		contains(text, "host")
}
