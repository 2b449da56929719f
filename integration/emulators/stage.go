package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// stage is where one emulator is tried.
type stage struct {
	dir            string // of its own, removed at the end
	program        string // the gateway
	out            io.Writer
	passed, failed int
}

// newStage makes a folder below dir. The gateway is built once, into program.
func newStage(ctx context.Context, dir string, program *string) (*stage, error) {
	if *program == "" {
		built, err := harness.Build(ctx, dir, harness.Gateway)
		if err != nil {
			return nil, err
		}
		*program = built
	}
	own, err := os.MkdirTemp(dir, "")
	return &stage{dir: own, program: *program, out: os.Stdout}, err
}

// gateway starts the gateway with a file in which LISTEN stands for its address.
func (s *stage) gateway(ctx context.Context, yaml string) (*running, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	server, err := harness.StartGateway(context.WithoutCancel(ctx), s.program, s.dir, yaml)
	if err != nil {
		return nil, err
	}
	if err := server.Until(ctx, "ready", func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+server.Addr+"/readyz", http.NoBody)
		if err != nil {
			return err
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close() //nolint:errcheck // only the status is looked at
		if res.StatusCode != http.StatusOK {
			return errors.New(res.Status)
		}
		return nil
	}); err != nil {
		server.Kill()
		return nil, err
	}
	g := &running{server, &harness.Client{URL: "http://" + server.Addr + "/mcp"}}
	if _, err := g.client.Connect(ctx); err != nil {
		g.close()
		return nil, err
	}
	// Ready is the gateway, not each server behind it.
	servers := strings.Count(yaml, "preset:")
	if err := server.Until(ctx, "every server lists its tools", func() error {
		res, err := g.client.Request(ctx, "tools/list", "", "{}")
		if err != nil {
			return err
		}
		var list struct{ Tools []struct{ Name string } }
		if err := json.Unmarshal(res, &list); err != nil {
			return err
		}
		names := map[string]bool{}
		for _, t := range list.Tools {
			if prefix, _, ok := strings.Cut(t.Name, "__"); ok {
				names[prefix] = true
			}
		}
		if len(names) < servers {
			return fmt.Errorf("%d of %d do", len(names), servers)
		}
		return nil
	}); err != nil {
		g.close()
		return nil, fmt.Errorf("%w\n%s", err, server.Log())
	}
	return g, nil
}

// running is a gateway with a client.
type running struct {
	server *harness.Server
	client *harness.Client
}

func (g *running) close() { g.server.Kill() }

// call returns what a tool answers, or the error, as JSON.
func (g *running) call(ctx context.Context, tool, args string) string {
	res, err := g.client.Request(ctx, "tools/call", tool, `{"name":"`+tool+`","arguments":`+args+`,"_meta":{"progressToken":"p"}}`)
	if err != nil {
		return err.Error()
	}
	var r struct {
		StructuredContent json.RawMessage
		Content           []struct{ Text string }
		IsError           bool
	}
	if err := json.Unmarshal(res, &r); err != nil {
		return err.Error()
	}
	if r.StructuredContent != nil && !r.IsError {
		return string(r.StructuredContent)
	}
	var texts []string
	for _, c := range r.Content {
		texts = append(texts, c.Text)
	}
	return strings.Join(texts, "\n")
}

// expect notes whether got holds one of wanted.
func (s *stage) expect(what, got string, wanted ...string) {
	for _, w := range wanted {
		if strings.Contains(got, w) {
			s.passed++
			fmt.Fprintf(s.out, "  ok    %s\n", what)
			return
		}
	}
	s.failed++
	fmt.Fprintf(s.out, "  FAIL  %s: expected %q in %.600s\n", what, wanted, got)
}
