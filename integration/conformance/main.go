// Command conformance runs the official MCP conformance suite against the go-sdk's fixture, once directly and once through the
// gateway, and compares the two check by check.
//
//	go run ./integration/conformance [-write docs/conformance.md] [-keep DIR] [-only NAME]
//	go run ./integration/conformance -across [-write docs/conformance-across.md] [-keep DIR] [-only NAME]
//	go run ./integration/conformance -clients [-write docs/conformance-clients.md] [-keep DIR]
//
// It builds both programs and installs the suite (npm, Node) into the cache folder. It fails if anything passes directly but not
// through the gateway, or if anything fails directly that is not expected to.
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
	page := flag.String("write", "", "also write every scenario into this page, docs/conformance.md")
	keep := flag.String("keep", "", "keep the suite's results in this folder")
	only := flag.String("only", "", "run only the cases whose name contains this")
	clients := flag.Bool("clients", false, "run the suite's scenarios for clients against the gateway's downward side instead")
	eras := flag.Bool("across", false, "put a server of the other era behind the gateway instead")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	var err error
	switch {
	case flag.NArg() == 5 && flag.Arg(0) == driveCommand: // the suite started this program as its client
		err = drive(ctx, flag.Arg(1), flag.Arg(2), flag.Arg(3), flag.Arg(4))
	case *eras:
		err = across(ctx, os.Stdout, *page, *keep, *only)
	case *clients:
		err = downward(ctx, os.Stdout, *page, *keep)
	default:
		err = run(ctx, os.Stdout, *page, *keep, *only)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// revision is one frozen set of requirements and the form of the fixture that it is meant for.
type revision struct {
	name      string
	stateless string
	http      string // of the downstream in gateway.yaml, besides how it is reached
	stdio     string
}

var revisions = []revision{
	// The legacy fixture keeps state per session and asks its client questions, so over stdio each client needs a process of its own.
	{name: "2025-11-25", stateless: "false", http: "", stdio: `protocol: "2025-11-25", session: per_client`},
	{name: "2026-07-28", stateless: "true", http: "", stdio: "protocol: auto"},
}

func run(ctx context.Context, out io.Writer, page, keep, only string) error {
	dir := keep
	if dir == "" {
		tmp, err := os.MkdirTemp("", "mcpgw-conformance-")
		if err != nil {
			return fmt.Errorf("making a folder: %w", err)
		}
		defer os.RemoveAll(tmp) //nolint:errcheck // in the system's temporary folder
		dir = tmp
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	node, err := harness.InstallNode(ctx)
	if err != nil {
		return err
	}
	fixture, err := harness.Build(ctx, dir, harness.Everything)
	if err != nil {
		return err
	}
	gateway, gatewayErr := harness.Build(ctx, dir, harness.Gateway)
	var all []comparison
	for _, rev := range revisions {
		s := suite{node: node, dir: dir, requirements: rev.name}
		c, err := runRevision(ctx, s, rev, fixture, gateway, only)
		all = append(all, c...)
		if err != nil {
			return errors.Join(err, gatewayErr)
		}
	}
	writeText(out, all)
	if page != "" && gatewayErr == nil && only == "" { // half a comparison is no result
		var b strings.Builder
		writeMarkdown(&b, all)
		if err := harness.WriteResults(page, b.String()); err != nil {
			return err
		}
	}
	passed, failed := 0, 0
	for _, c := range all {
		passed += len(c.rows) - len(c.worse)
		failed += len(c.worse)
		if len(c.faults) > 0 && len(c.worse) == 0 {
			failed++ // a fault of the run as a whole
		}
	}
	fmt.Fprintf(out, "scenarios that come out as they do directly: %d passed, %d failed\n", passed, failed)
	if failed > 0 {
		return errors.New("something is worse through the gateway, or fails directly without being expected to")
	}
	return gatewayErr
}

func runRevision(ctx context.Context, s suite, rev revision, fixture, gateway, only string) ([]comparison, error) {
	direct, err := runDirect(ctx, s, rev, fixture)
	if err != nil {
		return nil, err
	}
	all := []comparison{compare(rev.name, "direct", direct, direct)}
	for _, name := range []string{"http", "stdio"} {
		if gateway == "" {
			break // run reports why
		}
		if only != "" && !strings.Contains(rev.name+" "+name, only) {
			continue
		}
		through, stopErr, err := runThrough(ctx, s, rev, name, fixture, gateway)
		if err != nil {
			return all, fmt.Errorf("%s through the gateway over %s: %w", rev.name, name, err)
		}
		c := compare(rev.name, name, direct, through)
		if stopErr != nil {
			c.faults = append(c.faults, fmt.Sprintf("the gateway did not end well: %v", stopErr))
		}
		all = append(all, c)
	}
	return all, nil
}

// startFixture starts a fixture of its own for each run: a tool that one run added would be no change of the list in the next.
func startFixture(ctx context.Context, rev revision, fixture string) (*harness.Server, error) {
	addr, err := harness.FreeAddr()
	if err != nil {
		return nil, err
	}
	return harness.StartHTTP(ctx, harness.Spec{Name: "fixture", Path: fixture, Args: []string{"-http", addr, "-stateless=" + rev.stateless}}, addr)
}

func runDirect(ctx context.Context, s suite, rev revision, fixture string) (results, error) {
	up, err := startFixture(ctx, rev, fixture)
	if err != nil {
		return nil, err
	}
	defer up.Kill()
	return s.run(ctx, "direct", "http://"+up.Addr+"/")
}

// runThrough runs the suite through a gateway with the fixture behind it, over HTTP or stdio as name says. StopErr is how the gateway
// ended.
func runThrough(ctx context.Context, s suite, rev revision, name, fixture, gateway string) (through results, stopErr, err error) {
	entry := joinFields("command: "+quote(fixture), rev.stdio)
	if name == "http" {
		up, err := startFixture(ctx, rev, fixture)
		if err != nil {
			return nil, nil, err
		}
		defer up.Kill()
		entry = joinFields("url: "+quote("http://"+up.Addr+"/"), rev.http)
	}
	home := filepath.Join(s.dir, "gateway-"+rev.name+"-"+name)
	if err := os.MkdirAll(home, 0o750); err != nil {
		return nil, nil, err
	}
	gw, err := harness.StartGateway(ctx, gateway, home, "gateway: { listen: LISTEN }\ndownstreams:\n  "+name+": { "+entry+" }\n")
	if err != nil {
		return nil, nil, err
	}
	defer gw.Kill()
	url := "http://" + gw.Addr + "/servers/" + name + "/mcp"
	if err := ready(ctx, gw, url, rev.name == harness.Modern); err != nil {
		return nil, nil, err
	}
	through, err = s.run(ctx, name, url)
	stopErr = gw.Stop(30 * time.Second)
	if writeErr := os.WriteFile(filepath.Join(home, "log"), []byte(gw.Log()), 0o600); writeErr != nil {
		return nil, nil, writeErr
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w; the gateway's log:\n%s", err, gw.Log())
	}
	return through, stopErr, nil
}

// ready waits until the downstream lists its tools through the gateway: the suite measures how things are said, not how fast
// a process starts.
func ready(ctx context.Context, gw *harness.Server, url string, modern bool) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return gw.Until(ctx, "tools at "+url, func() error {
		c := harness.Client{URL: url, Modern: modern}
		if _, err := c.Connect(ctx); err != nil {
			return err
		}
		r, err := c.Request(ctx, "tools/list", "", c.Params("", ""))
		if err != nil {
			return err
		}
		if !strings.Contains(string(r), `"test_simple_text"`) {
			return errors.New("the fixture's tools are not listed yet")
		}
		return c.Close(ctx)
	})
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func joinFields(a, b string) string {
	if b == "" {
		return a
	}
	return a + ", " + b
}
