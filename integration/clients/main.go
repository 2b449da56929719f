// Command clients uses the built gateway with programs of others: the MCP Inspector as a client in both eras, the reference servers
// everything, filesystem and memory behind it (stdio, streamable HTTP and the older HTTP+SSE), and with -claude also Claude Code.
//
//	go run ./integration/clients
//	go run ./integration/clients -claude
//
// It installs what it needs (npm, fixed versions) into the cache folder; -claude adds a gigabyte. Nothing leaves the machine: every
// program runs with a home folder of its own, and the model that Claude Code talks to is a script in this process.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

func main() {
	claude := flag.Bool("claude", false, "also install and run Claude Code "+claudeVersion)
	verbose := flag.Bool("v", false, "show what the programs print")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	r := &runner{out: os.Stdout, verbose: *verbose}
	err := r.run(ctx, *claude)
	stop()
	fmt.Fprintf(os.Stdout, "%d passed, %d failed\n", r.passed, r.failed)
	if err != nil {
		fmt.Fprintln(os.Stderr, "clients:", err)
	}
	if err != nil || r.failed > 0 {
		os.Exit(1)
	}
}

// runner does one check after the other and counts them.
type runner struct {
	out            io.Writer
	verbose        bool
	passed, failed int
	node           *harness.Node
	gateway        string // the program
	dir            string
}

// check runs one check for at most a minute.
func (r *runner) check(ctx context.Context, name string, f func(ctx context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	start := time.Now()
	if err := f(ctx); err != nil {
		r.failed++
		fmt.Fprintf(r.out, "FAILED %s: %v\n", name, err)
		return
	}
	r.passed++
	fmt.Fprintf(r.out, "passed %s (%s)\n", name, time.Since(start).Round(time.Millisecond))
}

func (r *runner) run(ctx context.Context, withClaude bool) error {
	var err error
	if r.dir, err = os.MkdirTemp("", "mcpgw-clients-"); err != nil {
		return err
	}
	defer os.RemoveAll(r.dir) //nolint:errcheck // in the system's temporary folder
	if r.node, err = harness.InstallNode(ctx); err != nil {
		return err
	}
	if r.gateway, err = harness.Build(ctx, r.dir, harness.Gateway); err != nil {
		return err
	}
	return errors.Join(r.asReadme(ctx, withClaude), r.realServers(ctx))
}

// asReadme starts the gateway in the repository with its own gateway.yaml, as the README says, but for the port.
func (r *runner) asReadme(ctx context.Context, withClaude bool) error {
	root, err := harness.Root(ctx)
	if err != nil {
		return err
	}
	addr, err := harness.FreeAddr()
	if err != nil {
		return err
	}
	start := time.Now()
	gw, err := harness.StartHTTP(ctx, harness.Spec{
		Name: "mcpgw", Path: r.gateway, Args: []string{"serve", "--listen", addr}, Dir: root,
		Env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir},
	}, addr)
	if err != nil {
		return err
	}
	defer gw.Kill()
	fmt.Fprintf(r.out, "mcpgw serve, default gateway.yaml: listening after %s\n", time.Since(start).Round(time.Millisecond))
	url := "http://" + addr + "/mcp"
	for _, era := range []string{"legacy", "modern", "auto"} {
		r.check(ctx, "Inspector, "+era+": lists circuit_status and the host's tools", func(ctx context.Context) error {
			tools, err := r.inspect(ctx, url, era, "--method", "tools/list")
			if err != nil {
				return err
			}
			return contains(tools, `"circuit_status"`, `"host__`)
		})
		r.check(ctx, "Inspector, "+era+": calls circuit_status", func(ctx context.Context) error {
			result, err := r.inspect(ctx, url, era, "--method", "tools/call", "--tool-name", "circuit_status")
			if err != nil {
				return err
			}
			return contains(result, `"host"`, "structuredContent")
		})
	}
	if withClaude {
		if err := r.claude(ctx, url); err != nil {
			return err
		}
	}
	r.check(ctx, "mcpgw serve ends well", func(context.Context) error { return gw.Stop(20 * time.Second) })
	return nil
}

// inspect runs the Inspector's command line against a URL and returns what it prints.
func (r *runner) inspect(ctx context.Context, url, era string, args ...string) (string, error) {
	return r.output(ctx, append([]string{"mcp-inspector", "--cli", url, "--transport", "http", "--protocol-era", era}, args...)...)
}

// output runs an installed program and returns what it prints to standard output.
func (r *runner) output(ctx context.Context, args ...string) (string, error) {
	home, err := os.MkdirTemp(r.dir, "home-")
	if err != nil {
		return "", err
	}
	cmd := r.node.Command(ctx, home, nil, args[0], args[1:]...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	cmd.WaitDelay = 2 * time.Second
	out, err := cmd.Output()
	if r.verbose {
		fmt.Fprintf(r.out, "$ %s\n%s%s", strings.Join(args, " "), out, stderr.String())
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%.2000s%.2000s", strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out), nil
}

func contains(s string, wanted ...string) error {
	for _, w := range wanted {
		if !strings.Contains(s, w) {
			return fmt.Errorf("the output has no %s:\n%.3000s", w, s)
		}
	}
	return nil
}

func script(dir, name, text string) (string, error) {
	path := filepath.Join(dir, name)
	return path, os.WriteFile(path, []byte(text), 0o600)
}
