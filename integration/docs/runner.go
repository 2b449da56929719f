package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// runner runs the blocks of one page.
type runner struct {
	root, bin, page string

	dir     string // of the current page: the working folder of its commands
	file    string // gateway.yaml that the page shows; "" for the default one
	exports []string
	gateway *harness.Server

	checked, ran, left int
	others             map[string]bool
	faults             []string
}

// elsewhere are the programs that documentation may name although they cannot run here, or are proved by a command of their own.
var elsewhere = []string{
	"docker", "systemctl", "journalctl", "kubectl", "launchctl", "helm", "npx", "npm", "claude", "codex", "gemini", "code", "cursor", "opencode", "install", "cp", "openssl",
	"git", "go", ".ci/run", "source", "export", "cd", "mkdir", "kill", "top", "pveum", "promtool", "prometheus", "jq", "ssh", "racadm", "pip", "sudo", "brew", "midclt", "ollama", "unset", "chmod", "echo",
}

var variable = regexp.MustCompile(`\$\{(\w+)\}`)

var topKeys = regexp.MustCompile(`^(gateway|downstreams|resilience|telemetry):`)

func (p *runner) fault(b block, format string, args ...any) {
	p.faults = append(p.faults, fmt.Sprintf("line %d: ", b.line)+fmt.Sprintf(format, args...))
}

func (p *runner) list() string {
	if len(p.others) == 0 {
		return ""
	}
	return " (" + strings.Join(slices.Sorted(maps.Keys(p.others)), ", ") + ")"
}

// all runs the blocks of the page.
func (p *runner) all(ctx context.Context, dir string, blocks []block) error {
	var err error
	if p.dir, err = os.MkdirTemp(dir, "page-"); err != nil {
		return err
	}
	p.others = map[string]bool{}
	defer func() {
		if p.gateway != nil {
			p.gateway.Kill()
		}
	}()
	if err := p.fixtures(); err != nil {
		return err
	}
	for _, b := range blocks {
		switch b.kind {
		case "yaml":
			p.configuration(ctx, b)
		case "yaml gateway.yaml":
			p.configuration(ctx, b)
			if err := p.ownFile(ctx, b); err != nil {
				return err
			}
		case "sh", "console", "bash", eventually:
			if err := p.commands(ctx, b); err != nil {
				return err
			}
		case "", "text", "json", "yaml fragment", "sh example", "go", "xml", "promql", "mermaid", "toml":
		default:
			p.fault(b, "a block of an unknown kind %q", b.kind)
		}
	}
	return nil
}

// fixtures puts there what examples take for granted: the files of clients that are imported from, and an npx that starts a server of ours.
func (p *runner) fixtures() error {
	for name, text := range map[string]string{
		".cursor/mcp.json":           `{"mcpServers":{"notes":{"command":"true"}}}`,
		".codex/config.toml":         "[mcp_servers.search]\nurl = \"https://mcp.example.net/mcp\"\n",
		"claude_desktop_config.json": `{"mcpServers":{"files":{"command":"true","args":["x"]}}}`,
	} {
		file := filepath.Join(p.dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return err
		}
	}
	npx := filepath.Join(p.dir, "bin", "npx")
	if err := os.MkdirAll(filepath.Dir(npx), 0o700); err != nil {
		return err
	}
	return os.WriteFile(npx, []byte("#!/bin/sh\nexec '"+filepath.Join(filepath.Dir(p.bin), "testserver")+"'\n"), 0o700)
}

// configuration has mcpgw check a gateway.yaml, or a part of one that has its downstreams at the margin.
func (p *runner) configuration(ctx context.Context, b block) {
	text := b.text
	first := ""
	for line := range strings.Lines(text) {
		if t := strings.TrimSpace(line); t != "" && !strings.HasPrefix(t, "#") {
			first = line
			break
		}
	}
	if !topKeys.MatchString(first) {
		text = "downstreams:\n  " + strings.ReplaceAll(text, "\n", "\n  ") + "\n"
	}
	if !regexp.MustCompile(`(?m)^downstreams:`).MatchString(text) {
		text += "\ndownstreams: { host: { preset: host } }\n"
	}
	text = strings.ReplaceAll(text, "sha256:…", "sha256:"+strings.Repeat("0", 64)) // a fingerprint that each reader has to fill in
	file := filepath.Join(p.dir, "checked.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		p.fault(b, "%v", err)
		return
	}
	cmd := exec.CommandContext(ctx, p.bin, "check", "--connect=false", "--config", file)
	cmd.Dir, cmd.Env = p.dir, p.env(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		p.fault(b, "mcpgw check says:\n%s", out)
		return
	}
	p.checked++
}

// env has a value for every variable that a text names without a default.
func (p *runner) env(text string) []string {
	path := strings.Join([]string{filepath.Join(p.dir, "bin"), filepath.Dir(p.bin), os.Getenv("PATH")}, string(os.PathListSeparator))
	env := []string{"PATH=" + path, "HOME=" + p.dir, "NO_COLOR=1"}
	env = append(env, p.exports...)
	for _, m := range variable.FindAllStringSubmatch(text, -1) {
		if m[1] == "HOME" {
			continue
		}
		value := "a-value-for-the-documentation"
		if strings.HasSuffix(m[1], "_URL") {
			value = "https://192.0.2.1"
		}
		env = append(env, m[1]+"="+value)
	}
	return env
}

// start starts the page's gateway when the first command needs it: with the file that the page shows, or else the default one.
func (p *runner) start(ctx context.Context) error {
	if p.gateway != nil {
		return nil
	}
	text := p.file
	if text == "" {
		yaml, err := os.ReadFile(filepath.Join(p.root, "gateway.yaml"))
		if err != nil {
			return err
		}
		text = strings.Replace(string(yaml), usual, usual+"\n  admin_tools: true", 1)
	}
	var err error
	if p.gateway, err = harness.StartGateway(ctx, p.bin, p.dir, strings.ReplaceAll(text, usual, "listen: LISTEN"), p.env(text)...); err != nil {
		return err
	}
	return p.gateway.Until(ctx, "the servers to be ready", func() error {
		out, err := p.command(ctx, []string{"status"}).CombinedOutput()
		if e, ok := errors.AsType[*exec.ExitError](err); ok && e.ExitCode() == 3 {
			return fmt.Errorf("%s", out)
		}
		return err
	})
}

// usual is where the files of the documentation listen; the gateways of the pages get addresses of their own.
const usual = "listen: 127.0.0.1:8080"

// ownFile makes a block the gateway.yaml of the page. A gateway that runs already takes it over.
func (p *runner) ownFile(ctx context.Context, b block) error {
	p.file = b.text
	if p.gateway == nil {
		return nil
	}
	text := strings.ReplaceAll(p.file, usual, "listen: "+p.gateway.Addr)
	if err := os.WriteFile(filepath.Join(p.dir, "gateway.yaml"), []byte(text), 0o600); err != nil {
		return err
	}
	if fault := p.execute(ctx, step{line: "curl -sS -X POST http://127.0.0.1:8080/-/reload"}); fault != "" {
		p.fault(b, "%s", fault)
	}
	return nil
}

func (p *runner) command(ctx context.Context, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.bin, args...)
	cmd.Dir, cmd.Env = p.dir, p.env("")
	cmd.WaitDelay = time.Second
	return cmd
}

// step is a command of a block, with the output that the block shows.
type step struct {
	line string
	want []string
	wait bool // repeat it until the output is as shown
}

// steps returns the commands of a block. In a console block only what follows a "$" is a command, and the rest is output; where there is
// no "$", every line is a command.
func steps(b block) []step {
	text := strings.ReplaceAll(b.text, "\\\n", " ")
	prompted := strings.Contains("\n"+text, "\n$ ")
	var list []step
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if prompted {
			rest, ok := strings.CutPrefix(line, "$ ")
			if !ok {
				if last := len(list) - 1; last >= 0 && line != "" {
					list[last].want = append(list[last].want, line)
				}
				continue
			}
			line = rest
		}
		if at := strings.Index(line, " #"); at >= 0 {
			line = strings.TrimSpace(line[:at])
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		list = append(list, step{line: line, wait: b.kind == eventually})
	}
	return list
}

func (p *runner) commands(ctx context.Context, b block) error {
	for _, s := range steps(b) {
		if err := p.line(ctx, b, s); err != nil {
			return err
		}
	}
	return nil
}

var assignment = regexp.MustCompile(`^\w+=("[^"]*"|'[^']*'|\$\([^)]*\)|\S*)\s*`)

var export = regexp.MustCompile(`^export (\w+)=(\S+)$`)

// line runs one command line.
func (p *runner) line(ctx context.Context, b block, s step) error {
	bare := s.line
	for assignment.MatchString(bare) {
		bare = strings.TrimSpace(assignment.ReplaceAllString(bare, ""))
	}
	if bare == "" {
		return nil
	}
	if m := export.FindStringSubmatch(bare); m != nil { // for the commands that follow
		p.exports = append(p.exports, m[1]+"="+strings.Trim(m[2], `"'`))
		return nil
	}
	bare = strings.Replace(bare, "go run ./cmd/mcpgw", "mcpgw", 1)
	name, _, _ := strings.Cut(bare, " ")
	switch name {
	case "mcpgw", "curl":
	default:
		if !slices.Contains(elsewhere, name) {
			p.fault(b, "%q is neither a command of mcpgw nor on the list of what cannot run here", s.line)
			return nil
		}
		if name == "go" || name == ".ci/run" {
			p.known(b, bare)
			return nil
		}
		p.left++
		p.others[name] = true
		return nil
	}
	if err := p.start(ctx); err != nil {
		return err
	}
	s.line = bare
	p.repeat(ctx, b, s)
	return nil
}

// repeat runs a command until it is as the example shows, or once.
func (p *runner) repeat(ctx context.Context, b block, s step) {
	look := time.NewTicker(300 * time.Millisecond)
	defer look.Stop()
	for until := time.Now().Add(patience); ; {
		fault := p.execute(ctx, s)
		if fault == "" {
			p.ran++
			return
		}
		if s.wait && time.Now().Before(until) {
			select {
			case <-look.C:
				continue
			case <-ctx.Done():
			}
		}
		p.fault(b, "%s", fault)
		return
	}
}

// patience is how long an example may take to become true in a block that says "eventually".
const (
	patience   = 100 * time.Second
	eventually = "console eventually"
)

// known looks whether the package, or the step, that a command names exists; such commands run by themselves in .ci/run.
func (p *runner) known(b block, line string) {
	for word := range strings.FieldsSeq(line) {
		if rest, ok := strings.CutPrefix(word, "./"); ok && !strings.Contains(rest, "...") {
			if _, err := os.Stat(filepath.Join(p.root, rest)); err != nil {
				p.fault(b, "%q: there is no %s", line, word)
				return
			}
		}
	}
	p.left++
	p.others[strings.Fields(line)[0]] = true
}

// placeholders stand for names in the documentation.
var placeholders = strings.NewReplacer("NAME", "host", "http://127.0.0.1:8080", "http://ADDRESS", "http://localhost:8080", "http://ADDRESS", "…", "http://ADDRESS", "/path/to/gateway.yaml", "gateway.yaml")

// forever are commands that end when they are told to.
var forever = regexp.MustCompile(`\bmcpgw (serve|stdio)\b|--watch\b|\s-w\b`)

// execute runs a command of mcpgw, or curl, by the shell, and says what was not as it should be; "" if it ended well and its output is that
// of the example.
func (p *runner) execute(ctx context.Context, s step) string {
	shell := strings.ReplaceAll(placeholders.Replace(s.line), "ADDRESS", p.gateway.Addr)
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", "set -o pipefail; "+shell)
	cmd.Dir = p.dir
	if strings.Contains(s.line, "mcpgw init") { // it begins in an empty folder
		var err error
		if cmd.Dir, err = os.MkdirTemp(p.dir, "new-"); err != nil {
			return err.Error()
		}
	}
	cmd.Env = p.env(p.file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	if forever.MatchString(s.line) {
		return p.runAWhile(s, cmd)
	}
	out, err := cmd.CombinedOutput()
	if line := missing(s.want, string(out)); line != "" {
		return fmt.Sprintf("%s: the output has no such line (any more): %s\nIt is:\n%s", s.line, line, tail(out))
	}
	var exit *exec.ExitError
	// An example that shows its output may show a failure. 3 says that a server cannot be used: true of some examples.
	if err != nil && !(errors.As(err, &exit) && (len(s.want) > 0 || exit.ExitCode() == 3 && strings.HasPrefix(s.line, "mcpgw "))) {
		return fmt.Sprintf("%s: %v\n%s", s.line, err, tail(out))
	}
	return ""
}

// runAWhile starts a command that goes on, and ends it.
func (p *runner) runAWhile(s step, cmd *exec.Cmd) string {
	if strings.Contains(s.line, "mcpgw serve") { // beside the page's own gateway
		cmd.Args[2] = strings.Replace(cmd.Args[2], "mcpgw serve", "mcpgw serve --listen 127.0.0.1:0", 1)
	}
	in, err := cmd.StdinPipe() // stdio ends with its input
	if err != nil {
		return err.Error()
	}
	out := &output{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return fmt.Sprintf("%s: %v", s.line, err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for since := time.Now(); time.Since(since) < 1500*time.Millisecond || missing(s.want, out.String()) != "" && time.Since(since) < 15*time.Second; {
		select {
		case err := <-done:
			return fmt.Sprintf("%s ended by itself: %v\n%s", s.line, err, tail([]byte(out.String())))
		case <-look.C:
		}
	}
	_ = in.Close()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) // it may have ended with its input
	select {
	case err := <-done:
		var exit *exec.ExitError
		if err != nil && !(errors.As(err, &exit) && exit.ProcessState.Sys().(syscall.WaitStatus).Signaled()) {
			return fmt.Sprintf("%s did not end well: %v\n%s", s.line, err, tail([]byte(out.String())))
		}
	case <-time.After(20 * time.Second):
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		return s.line + " did not end when it was told to"
	}
	if line := missing(s.want, out.String()); line != "" {
		return fmt.Sprintf("%s: the output has no such line (any more): %s\nIt is:\n%s", s.line, line, tail([]byte(out.String())))
	}
	return ""
}

// output is what a program that still runs has printed.
type output struct {
	mu sync.Mutex
	b  strings.Builder // guarded by mu
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func tail(b []byte) string {
	const most = 1200
	if len(b) > most {
		b = append([]byte("…"), b[len(b)-most:]...)
	}
	return string(b)
}
