package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
	"github.com/mcpgw/mcpgw/integration/internal/rawserver"
)

// rawServerEnv makes the test binary a server over stdio: "legacy" or "modern".
const rawServerEnv = "MCPGW_TEST_RAW_SERVER"

// rawRecordEnv names the file in which that server leaves the params of the last call.
const rawRecordEnv = "MCPGW_TEST_RAW_RECORD"

var binDir string

func TestMain(m *testing.M) {
	if era := os.Getenv(rawServerEnv); era != "" {
		if err := serveRaw(era == "modern", os.Getenv(rawRecordEnv)); err != nil {
			fmt.Fprintln(os.Stderr, "raw server:", err)
			os.Exit(1)
		}
		return
	}
	if journal := os.Getenv(pairServerEnv); journal != "" {
		if err := pairServer(journal).Run(context.Background(), &mcp.StdioTransport{}); err != nil {
			fmt.Fprintln(os.Stderr, "pair server:", err)
			os.Exit(1)
		}
		return
	}
	dir, err := os.MkdirTemp("", "mcpgw-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		os.Exit(1)
	}
	binDir = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// serveRaw is the raw server as a process. What it was asked goes to a file, which is whole before the call is answered.
func serveRaw(modern bool, record string) error {
	s := corpusServer(modern)
	s.Seen = func(params []byte) {
		tmp := record + ".tmp"
		if err := errors.Join(os.WriteFile(tmp, params, 0o600), os.Rename(tmp, record)); err != nil {
			fmt.Fprintln(os.Stderr, "raw server:", err)
		}
	}
	return s.ServeStdio(context.Background(), os.Stdin, os.Stdout)
}

// program builds a package once for all tests and returns the path of the program.
var program = func() func(t *testing.T, pkg string) string {
	var mu sync.Mutex // guards built
	built := map[string]func() (string, error){}
	return func(t *testing.T, pkg string) string {
		t.Helper()
		mu.Lock()
		once, ok := built[pkg]
		if !ok {
			once = sync.OnceValues(func() (string, error) { return harness.Build(context.Background(), binDir, pkg, buildFlags...) })
			built[pkg] = once
		}
		mu.Unlock()
		bin, err := once()
		if err != nil {
			t.Fatal(err)
		}
		return bin
	}
}()

// startGateway starts the gateway with a configuration whose LISTEN stands for its address. When the test ends it must end by itself and
// must not have met a data race or a panic.
func startGateway(t *testing.T, yaml string) *harness.Server {
	t.Helper()
	return startGatewayIn(t, t.TempDir(), yaml)
}

// startGatewayIn does the same with the configuration in dir, as gateway.yaml.
func startGatewayIn(t *testing.T, dir, yaml string) *harness.Server {
	t.Helper()
	gw, err := harness.StartGateway(context.WithoutCancel(t.Context()), program(t, harness.Gateway), dir, yaml, environment...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		select {
		case <-gw.Done(): // the test ended it
		default:
			start := time.Now()
			if err := gw.Stop(30 * time.Second); err != nil {
				t.Errorf("the gateway did not end well: %v\n%s", err, gw.Log())
			}
			if took := time.Since(start); took > time.Second {
				t.Logf("the gateway took %s to end:\n%s", took, gw.Log())
			}
		}
		for _, bad := range []string{"DATA RACE", "panic:", "fatal error:"} {
			if strings.Contains(gw.Log(), bad) {
				t.Errorf("the gateway's log has %q:\n%s", bad, gw.Log())
			}
		}
		if t.Failed() {
			t.Logf("the gateway's log:\n%s", gw.Log())
		}
	})
	return gw
}

// command returns a command with an environment that has nothing of the user's.
func command(t *testing.T, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, environment...)
	return cmd
}

// deadline returns a context for one step that must not hang.
func deadline(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until f returns nil.
func eventually(t *testing.T, limit time.Duration, what string, f func() error) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(limit)
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s: not within %s: %v", what, limit, err)
		}
	}
}

// corpus returns the lines of a file in testdata/corpus without its comment lines.
func corpus(name string) []string {
	b, err := os.ReadFile(filepath.Join("testdata", "corpus", name))
	if err != nil {
		// The raw server runs in the folder of the gateway and is told where the corpus is.
		b, err = os.ReadFile(filepath.Join(os.Getenv("MCPGW_TEST_CORPUS"), name))
	}
	if err != nil {
		panic(err)
	}
	var lines []string
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSuffix(line, "\n"); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines
}

// table returns a corpus file of two columns.
func table(name string) map[string]string {
	m := map[string]string{}
	for _, line := range corpus(name) {
		key, value, ok := strings.Cut(line, "\t")
		if !ok {
			panic(name + ": no tab in " + line)
		}
		m[key] = value
	}
	return m
}

// corpusServer is the raw server with the whole corpus in it, and with results that are too large to be written down. The tool r_X
// answers result X, e_X answers error X, and echo takes the params.
func corpusServer(modern bool) *rawserver.Server {
	s := &rawserver.Server{
		Modern: modern, Tools: corpus("tools.txt"), Results: map[string]string{}, Errors: map[string]string{},
		Progress: []string{`"progress":0.10,"total":1e2,"message":"caf\u00e9","vendor":{"b":9007199254740993}`, `"progress":1.0,"message":""`},
	}
	add := func(name string) { s.Tools = append(s.Tools, `{"name":"`+name+`","inputSchema":{"type":"object"}}`) }
	for _, name := range []string{"echo", "hang", "together", "endless"} {
		add(name)
	}
	s.Handle = handlers()
	results := table("results.txt")
	results["one_megabyte"] = `{"content":[{"type":"text","text":"` + strings.Repeat(`caf\u00e9 \"q\" \\ `, 1<<20/18) + `"}]}`
	results["deep"] = `{"content":[],"structuredContent":{"d":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}}`
	for name, result := range results {
		s.Results["r_"+name] = result
		add("r_" + name)
	}
	for name, e := range table("errors.txt") {
		s.Errors["e_"+name] = e
		add("e_" + name)
	}
	return s
}
