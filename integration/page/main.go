// The program page looks at the status page of a real gateway in a headless Chromium: states, changes within a second, keyboard, small
// screens, light and dark, no scripts, accessibility (axe). It installs what it needs from npm into the cache.
//
//	go run ./integration/page                 screenshots go to a temporary folder
//	go run ./integration/page -shots FOLDER
//	go run ./integration/page -picture docs/img/status.png     the picture of the README and nothing else
package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

//go:embed node/package.json
var manifest []byte

//go:embed node/package-lock.json
var lock []byte

//go:embed page.mjs
var script []byte

// servers is how many quiet servers stand beside the one that is broken.
const servers = 50

func main() {
	shots := flag.String("shots", "", "`folder` for the screenshots")
	file := flag.String("picture", "", "`file` for the picture of the README; nothing else is done")
	yaml := flag.String("config", "gateway.yaml", "`file` of the gateway of the picture")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *shots, *file, *yaml)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "page:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, shots, file, yaml string) error {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "mcpgw-page-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	if shots == "" && file == "" {
		if shots, err = os.MkdirTemp("", "mcpgw-shots-"); err != nil {
			return err
		}
	}
	if shots, err = filepath.Abs(shots); err != nil {
		return err
	}
	node, err := harness.InstallNode(ctx)
	if err != nil {
		return err
	}
	modules, err := harness.InstallFiles(ctx, "page", manifest, lock)
	if err != nil {
		return err
	}
	bin, err := harness.Build(ctx, dir, "./cmd/mcpgw")
	if err != nil {
		return err
	}
	if file != "" {
		if file, err = filepath.Abs(file); err != nil {
			return err
		}
		return picture(ctx, node, modules, dir, bin, yaml, file)
	}
	stage, err := newStage(ctx, dir, bin)
	if err != nil {
		return err
	}
	defer stage.close()
	program := filepath.Join(dir, "page.mjs")
	if err := os.WriteFile(program, script, 0o600); err != nil {
		return err
	}
	cmd := node.Command(ctx, dir, []string{
		"MODULES=" + modules, "GATEWAY=http://" + stage.gateway.Addr, "CONTROL=" + stage.control, "SHOTS=" + shots, "TMPDIR=" + dir,
	}, node.Program(), program)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err = cmd.Run()
	fmt.Fprintln(os.Stdout, "screenshots: "+filepath.Base(shots)+" ("+strings.Join(names(shots), ", ")+")")
	if err != nil {
		return fmt.Errorf("the page is not as it should be: %w\n%s", err, stage.gateway.Log())
	}
	return nil
}

func names(dir string) []string {
	entries, _ := os.ReadDir(dir) // an empty list says it too
	list := make([]string, 0, len(entries))
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// stage is a gateway with many servers, one of which goes away when it is told to.
type stage struct {
	ctx     context.Context //nolint:containedctx // of the whole run
	gateway *harness.Server
	control string
	server  *http.Server

	bin, addr string
	flaky     *harness.Server
}

func newStage(ctx context.Context, dir, bin string) (*stage, error) {
	s := &stage{ctx: ctx, bin: bin}
	var err error
	if s.addr, err = harness.FreeAddr(); err != nil {
		return nil, err
	}
	// What is broken is a gateway too, a real MCP server over HTTP.
	if err := os.WriteFile(filepath.Join(dir, "flaky.yaml"), []byte("gateway: { listen: "+s.addr+" }\ndownstreams: { host: { preset: host } }\n"), 0o600); err != nil {
		return nil, err
	}
	if err := s.start(dir); err != nil {
		return nil, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "gateway: { listen: LISTEN, admin_tools: true }\ntelemetry: { log_level: error }\nresilience: { defaults: { circuit_breaker: { timeout: 1s, probe: { interval: 200ms } } } }\ndownstreams:\n")
	fmt.Fprintf(&b, "  flaky: { url: http://%s/servers/host/mcp, restart: { max_delay: 500ms } }\n", s.addr)
	for i := range servers {
		fmt.Fprintf(&b, "  box-%02d: { preset: host }\n", i)
	}
	if s.gateway, err = harness.StartGateway(ctx, bin, dir, b.String()); err != nil {
		s.flaky.Kill()
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		s.close()
		return nil, err
	}
	s.control = "http://" + l.Addr().String()
	s.server = &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.order(r.URL.Path, dir); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})}
	go func() { _ = s.server.Serve(l) }() // ends with close
	return s, nil
}

func (s *stage) start(dir string) error {
	var err error
	s.flaky, err = harness.StartHTTP(s.ctx, harness.Spec{
		Name: "flaky", Path: s.bin, Args: []string{"serve", "--config", filepath.Join(dir, "flaky.yaml")},
		Env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir},
	}, s.addr)
	return err
}

// order does what the script asks for and returns when the gateway knows of it.
func (s *stage) order(what, dir string) error {
	switch what {
	case "/call":
		_, err := s.call()
		return err
	case "/break":
		s.flaky.Kill()
		for range 200 {
			answer, err := s.call()
			if err != nil {
				return err
			}
			if strings.Contains(answer, `"circuit_open"`) {
				return nil
			}
		}
		return errors.New("the circuit did not open")
	case "/mend":
		if err := s.start(dir); err != nil {
			return err
		}
		return s.gateway.Until(s.ctx, "the circuit to close", func() error {
			answer, err := s.call()
			if err == nil && strings.Contains(answer, `"isError":true`) {
				err = errors.New(answer)
			}
			return err
		})
	}
	return fmt.Errorf("no order %s", what)
}

// call makes one call to the flaky server, as a modern client.
func (s *stage) call() (string, error) {
	const body = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"flaky__memory","arguments":{},"_meta":{` +
		`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"page","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`
	req, err := http.NewRequestWithContext(s.ctx, http.MethodPost, "http://"+s.gateway.Addr+"/mcp", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	for k, v := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2026-07-28",
		"Mcp-Method": "tools/call", "Mcp-Name": "flaky__memory",
	} {
		req.Header.Set(k, v)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close() //nolint:errcheck // read to its end
	var b bytes.Buffer
	_, err = b.ReadFrom(res.Body)
	return b.String(), err
}

func (s *stage) close() {
	if s.server != nil {
		_ = s.server.Close()
	}
	if s.gateway != nil {
		s.gateway.Kill()
	}
	s.flaky.Kill()
}
