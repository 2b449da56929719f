package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

const claudeVersion = "2.1.329"

// claude lets Claude Code connect to the gateway, list its tools and call circuit_status, with a scripted model.
func (r *runner) claude(ctx context.Context, url string) error {
	// Its installation script puts the program for this machine in place.
	program, err := r.node.Install(ctx, "@anthropic-ai/claude-code@"+claudeVersion, "claude", true)
	if err != nil {
		return err
	}
	home, err := os.MkdirTemp(r.dir, "claude-")
	if err != nil {
		return err
	}
	model, err := startModel(ctx)
	if err != nil {
		return err
	}
	defer model.close()
	env := []string{
		"DISABLE_TELEMETRY=1", "DISABLE_AUTOUPDATER=1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1",
		"ANTHROPIC_BASE_URL=" + model.url, "ANTHROPIC_API_KEY=none",
	}
	run := func(ctx context.Context, args ...string) (string, error) {
		cmd := r.node.Command(ctx, home, env, program, args...)
		cmd.WaitDelay = 2 * time.Second
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if r.verbose {
			fmt.Fprintf(r.out, "$ claude %s\n%s%s", strings.Join(args, " "), out, stderr.String())
		}
		if _, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%w\n%.2000s", err, stderr.String())
		}
		return string(out), err
	}
	r.check(ctx, "Claude Code "+claudeVersion+": mcp add, mcp list", func(ctx context.Context) error {
		if _, err := run(ctx, "mcp", "add", "--transport", "http", "gw", url); err != nil {
			return err
		}
		out, err := run(ctx, "mcp", "list")
		if err != nil {
			return err
		}
		return contains(out, "gw", "Connected")
	})
	config, err := json.Marshal(map[string]any{"mcpServers": map[string]any{"gw": map[string]any{"type": "http", "url": url}}})
	if err != nil {
		return err
	}
	file := filepath.Join(home, "mcp.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return err
	}
	var transcript string
	r.check(ctx, "Claude Code "+claudeVersion+": a whole conversation", func(ctx context.Context) error {
		transcript, err = run(ctx, "-p", "gateway status please", "--output-format", "stream-json", "--verbose", "--allowedTools", "mcp__gw__circuit_status",
			"--mcp-config", file, "--strict-mcp-config", "--model", "claude-sonnet-4-5")
		return err
	})
	r.check(ctx, "Claude Code "+claudeVersion+": its tools include circuit_status and the host's", func(context.Context) error {
		return contains(firstLine(transcript, `"subtype":"init"`), `"mcp__gw__circuit_status"`, `"mcp__gw__host__`, `"status":"connected"`)
	})
	r.check(ctx, "Claude Code "+claudeVersion+": the model gets the answer of circuit_status", func(context.Context) error {
		if !model.answered.Load() {
			return fmt.Errorf("no result of the tool reached the model:\n%.3000s", transcript)
		}
		return contains(transcript, "FINAL")
	})
	return nil
}

func firstLine(s, with string) string {
	for line := range strings.Lines(s) {
		if strings.Contains(line, with) {
			return line
		}
	}
	return ""
}

// model is a model that asks for circuit_status and then says FINAL.
type model struct {
	url      string
	answered atomic.Bool // a result of circuit_status came
	server   *http.Server
}

func startModel(ctx context.Context) (*model, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	m := &model{url: "http://" + l.Addr().String()}
	m.server = &http.Server{Handler: http.HandlerFunc(m.serve), ReadHeaderTimeout: time.Minute}
	go func() { _ = m.server.Serve(l) }() // ends with close
	return m, nil
}

func (m *model) close() { _ = m.server.Close() }

func (m *model) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || !strings.HasSuffix(r.URL.Path, "/messages") {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{}`)
		return
	}
	s := string(body)
	block, stop := `{"type":"text","text":""}`, "end_turn"
	delta := `{"type":"text_delta","text":"FINAL"}`
	switch {
	case strings.Contains(s, `"tool_result"`) && strings.Contains(s, "host"):
		m.answered.Store(true)
	case strings.Contains(s, "mcp__gw__circuit_status"):
		block, stop = `{"type":"tool_use","id":"toolu_1","name":"mcp__gw__circuit_status","input":{}}`, "tool_use"
		delta = `{"type":"input_json_delta","partial_json":"{}"}`
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for _, e := range []struct{ name, data string }{
		{"message_start", `{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}}`},
		{"content_block_start", `{"type":"content_block_start","index":0,"content_block":` + block + `}`},
		{"content_block_delta", `{"type":"content_block_delta","index":0,"delta":` + delta + `}`},
		{"content_block_stop", `{"type":"content_block_stop","index":0}`},
		{"message_delta", `{"type":"message_delta","delta":{"stop_reason":"` + stop + `","stop_sequence":null},"usage":{"output_tokens":1}}`},
		{"message_stop", `{"type":"message_stop"}`},
	} {
		fmt.Fprintf(w, "event: %s\ndata: %s\n\n", e.name, e.data)
	}
}
