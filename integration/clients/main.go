// Command clients uses the built gateway with programs of others: the MCP Inspector as a client in both eras, the reference servers
// everything, filesystem and memory behind it (stdio, streamable HTTP and the older HTTP+SSE), and with -all also Claude Code, Codex, Gemini
// CLI, OpenCode and mcp-remote.
//
//	go run ./integration/clients
//	go run ./integration/clients -all [-write docs/clients.md]
//	go run ./integration/clients -flows [-only codex]     # the clients without the reference servers
//
// It installs what it needs (npm, fixed versions) into the cache folder; -all adds 1.3 GB. Nothing leaves the machine: every program
// runs with an environment and a home folder of its own, and the models that the agents talk to are scripts in this process. A client that
// cannot be installed is a failure.
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
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

func main() {
	all := flag.Bool("all", false, "also install and run the agents and mcp-remote")
	justFlows := flag.Bool("flows", false, "install and run them, and nothing else")
	r := &runner{out: os.Stdout}
	flag.StringVar(&r.only, "only", "", "of the clients only those whose name contains this")
	flag.StringVar(&r.gateway, "gateway", "", "a built mcpgw to use; default: build it")
	flag.DurationVar(&r.long, "long", 100*time.Second, "how long the long calls take")
	flag.BoolVar(&r.verbose, "v", false, "show what the programs print")
	page := flag.String("write", "", "also write what the clients saw into this page, docs/clients.md")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := r.run(ctx, *all || *justFlows, !*justFlows, *page)
	stop()
	fmt.Fprintf(os.Stdout, "%d passed, %d failed\n", r.passed, r.failed)
	if err != nil {
		fmt.Fprintln(os.Stderr, "clients:", err)
	}
	if err != nil || r.failed > 0 {
		os.Exit(1)
	}
}

// runner does checks and counts them. Its methods may be called at the same time.
type runner struct {
	out     io.Writer
	verbose bool
	only    string
	long    time.Duration
	node    *harness.Node
	gateway string // the program
	dir     string
	report  report

	mu             sync.Mutex // guards out and what follows
	passed, failed int
}

// check runs one check for at most a minute.
func (r *runner) check(ctx context.Context, name string, f func(ctx context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	start := time.Now()
	r.count(name, start, f(ctx))
}

// count counts one check that was begun at start.
func (r *runner) count(name string, start time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.failed++
		fmt.Fprintf(r.out, "FAILED %s: %v\n", name, err)
		return
	}
	r.passed++
	fmt.Fprintf(r.out, "passed %s (%s)\n", name, time.Since(start).Round(time.Millisecond))
}

func (r *runner) print(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.out, format, args...)
}

func (r *runner) run(ctx context.Context, clients, servers bool, page string) error {
	var err error
	if r.dir, err = os.MkdirTemp("", "mcpgw-clients-"); err != nil {
		return err
	}
	defer os.RemoveAll(r.dir) //nolint:errcheck // in the system's temporary folder
	if r.node, err = harness.InstallNode(ctx); err != nil {
		return err
	}
	if r.gateway == "" {
		if r.gateway, err = harness.Build(ctx, r.dir, harness.Gateway); err != nil {
			return err
		}
	}
	if r.gateway, err = filepath.Abs(r.gateway); err != nil {
		return err
	}
	if servers {
		err = errors.Join(r.asReadme(ctx), r.realServers(ctx))
	}
	if clients {
		err = errors.Join(err, r.realClients(ctx))
	}
	if err == nil && page != "" && r.only == "" { // half a report is none
		err = harness.WriteResults(page, r.report.markdown())
	}
	return err
}

// asReadme starts the gateway in the repository with its own gateway.yaml, as the README says, but for the port.
func (r *runner) asReadme(ctx context.Context) error {
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
