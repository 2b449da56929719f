package downstream

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/wire"
	"github.com/mcpgw/mcpgw/telemetry"
)

// serveTest plays a stdio server. "sdk" is a real one of both eras. Anything else is a legacy server with the faults named, joined
// by commas:
//
//	discover-exits, discover-silent, discover-unsupported: what it does when asked server/discover
//	banner: writes things that are no messages first
//	exits: ends at once with a reason on stderr
//	mute: answers nothing at all
//	stubborn: ends neither at the end of its input nor when asked
//	grandchild: starts a process that holds its stdout
//	modern-late: answers server/discover late and knows no initialize
//	dual-late: answers both late, server/discover as a modern server does
func serveTest(role string) {
	if role == "sdk" {
		if err := realServer().Run(context.Background(), &mcp.StdioTransport{}); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		return
	}
	faults := strings.Split(role, ",")
	has := func(name string) bool { return slices.Contains(faults, name) }
	if has("stubborn") {
		signal.Ignore(syscall.SIGTERM)
	}
	if has("grandchild") {
		c := exec.Command("sleep", "60")
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := c.Start(); err == nil {
			fmt.Fprintln(os.Stderr, "grandchild", c.Process.Pid)
		}
	}
	if has("exits") {
		fmt.Fprintln(os.Stderr, "cannot open \x1b[31mthe database\x1b[0m: file is locked")
		os.Exit(4)
	}
	if has("banner") {
		fmt.Println("Server starting on stdio...")
		fmt.Print("\r\n\n\xff\xfe{ not json\n[1,2,3]\n{\"a\":1}\n")
	}
	faulty{has}.serve()
	if has("stubborn") {
		forever()
	}
}

func forever() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR2)
	<-c
}

// faulty is a legacy server whose tools misbehave.
type faulty struct{ has func(string) bool }

func (f faulty) serve() {
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	var discover json.RawMessage
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		m, err := wire.Parse(line, 1000)
		if err != nil || f.has("mute") {
			continue
		}
		switch m.Method {
		case "server/discover":
			switch {
			case f.has("discover-exits"):
				os.Exit(5)
			case f.has("modern-late"), f.has("dual-late"):
				discover = m.ID
			case f.has("discover-unsupported"):
				say(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32022,"message":"no","data":{"supported":["2025-06-18","2025-03-26"]}}}`, m.ID)
			case !f.has("discover-silent"):
				say(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"unknown method"}}`, m.ID)
			}
		case "initialize":
			if discover != nil {
				say(`{"jsonrpc":"2.0","id":%s,"result":{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}}`, discover)
			}
			if f.has("modern-late") {
				say(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"unknown method"}}`, m.ID)
				continue
			}
			revision, _ := wire.GetString(m.Params, "protocolVersion")
			say(`{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":%s,"capabilities":{"tools":{}},"serverInfo":{"name":"faulty","version":"1"},"instructions":"be kind"}}`, m.ID, wire.Quote(revision))
		case "ping":
			if f.has("pings") {
				say(`{"jsonrpc":"2.0","id":%s,"result":{}}`, m.ID)
			}
		case "tools/call":
			f.tool(m)
		}
	}
}

func (f faulty) tool(m wire.Message) {
	const ok = `{"jsonrpc":"2.0","id":%s,"result":{"content":[],"n":18446744073709551615}}`
	name, _ := wire.GetString(m.Params, "name")
	switch name {
	case "ok":
		say(ok, m.ID)
	case "garbage":
		fmt.Print("DEBUG: hello\n\n{\"jsonrpc\":\"2.0\"\n" + strings.Repeat("z", 100<<10) + "\n")
		say(ok, m.ID)
	case "spaces":
		fmt.Printf("  "+ok+" \t\r\n", m.ID)
	case "utf8":
		say(`{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"`+"\xc3("+`"}]}}`, m.ID)
	case "duplicate":
		say(`{"jsonrpc":"2.0","id":%s,"result":{"content":[]},"result":{"content":[1]}}`, m.ID)
	case "nan":
		say(`{"result":{"content":[],"structuredContent":{"a":NaN}},"jsonrpc":"2.0","id":%s}`, m.ID)
	case "both":
		say(`{"jsonrpc":"2.0","id":%s,"result":{},"error":{"code":1,"message":"x"}}`, m.ID)
	case "neither":
		say(`{"jsonrpc":"2.0","id":%s}`, m.ID)
	case "null":
		say(`{"jsonrpc":"2.0","id":%s,"result":null}`, m.ID)
	case "bad error":
		say(`{"jsonrpc":"2.0","id":%s,"error":{"code":"x","message":1}}`, m.ID)
	case "error":
		say(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32602,"message":"no such thing","data":{"n":18446744073709551615},"extra":1}}`, m.ID)
	case "deep":
		say(`{"jsonrpc":"2.0","id":%s,"result":{"content":`+strings.Repeat("[", 5000)+strings.Repeat("]", 5000)+`}}`, m.ID)
	case "big": // over the limit, the id first
		say(`{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"%s"}]}}`, m.ID, strings.Repeat("x", 17<<20))
	case "big-last": // over the limit, the id last
		say(`{"result":{"content":[{"type":"text","text":"%s"}]},"jsonrpc":"2.0","id":%s}`, strings.Repeat("x", 17<<20), m.ID)
	case "exit":
		fmt.Fprintln(os.Stderr, "out of cheese")
		os.Exit(3)
	case "close":
		_ = os.Stdout.Close()
		forever()
	case "environment":
		names := []string{}
		for _, e := range os.Environ() {
			name, _, _ := strings.Cut(e, "=")
			names = append(names, name)
		}
		slices.Sort(names)
		b, _ := json.Marshal(names)
		say(`{"jsonrpc":"2.0","id":%s,"result":{"names":%s}}`, m.ID, b)
	case "close-input":
		_ = os.Stdin.Close()
		say(ok, m.ID)
		forever()
	case "deaf":
		forever()
	case "pid":
		say(`{"jsonrpc":"2.0","id":%s,"result":{"pid":%d}}`, m.ID, os.Getpid())
	case "silent":
	}
}

var stdout sync.Mutex

func say(format string, args ...any) {
	stdout.Lock()
	defer stdout.Unlock()
	fmt.Printf(format+"\n", args...)
}

// realServer is a real server with a tool for everything that a session carries.
func realServer() *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "sdk", Version: "1"}, &mcp.ServerOptions{
		Instructions:       "be kind",
		SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
	})
	tool := func(name string, f func(ctx context.Context, r *mcp.CallToolRequest) (string, error)) {
		s.AddTool(&mcp.Tool{Name: name, InputSchema: json.RawMessage(`{"type":"object"}`)},
			func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				text, err := f(ctx, r)
				if err != nil {
					return nil, err
				}
				return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}, nil
			})
	}
	cancelled := make(chan string, 16)
	tool("echo", func(_ context.Context, r *mcp.CallToolRequest) (string, error) {
		return string(r.Params.Arguments), nil
	})
	tool("meta", func(_ context.Context, r *mcp.CallToolRequest) (string, error) {
		b, err := json.Marshal(r.Params.Meta)
		return string(b), err
	})
	tool("progress", func(ctx context.Context, r *mcp.CallToolRequest) (string, error) {
		for n := range 20 {
			if err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
				ProgressToken: r.Params.GetProgressToken(), Progress: float64(n), Message: string(r.Params.Arguments),
			}); err != nil {
				return "", err
			}
		}
		return string(r.Params.Arguments), nil
	})
	tool("wait", func(ctx context.Context, _ *mcp.CallToolRequest) (string, error) {
		<-ctx.Done()
		cancelled <- context.Cause(ctx).Error()
		return "", ctx.Err()
	})
	tool("cancelled", func(context.Context, *mcp.CallToolRequest) (string, error) { return <-cancelled, nil })
	tool("grow", func(context.Context, *mcp.CallToolRequest) (string, error) {
		tool("new", func(context.Context, *mcp.CallToolRequest) (string, error) { return "", nil })
		return "", nil
	})
	tool("touch", func(ctx context.Context, r *mcp.CallToolRequest) (string, error) {
		var args struct{ URI string }
		if err := json.Unmarshal(r.Params.Arguments, &args); err != nil {
			return "", err
		}
		return "", s.ResourceUpdated(ctx, &mcp.ResourceUpdatedNotificationParams{URI: args.URI})
	})
	tool("ask", func(ctx context.Context, r *mcp.CallToolRequest) (string, error) {
		res, err := r.Session.Elicit(ctx, &mcp.ElicitParams{Mode: "form", Message: "name?", RequestedSchema: json.RawMessage(`{"type":"object","properties":{"name":{"type":"string"}}}`)})
		if err != nil {
			return "", err
		}
		return fmt.Sprint(res.Action, " ", res.Content["name"]), nil
	})
	tool("panic", func(context.Context, *mcp.CallToolRequest) (string, error) { panic("on purpose") })
	s.AddResource(&mcp.Resource{URI: "test://a", Name: "a"}, func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: "test://a", Text: "a"}}}, nil
	})
	return s
}

// stdioConfig returns the configuration of a stdio server that plays role.
func stdioConfig(t testing.TB, role string) *Config {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Command = self
	cfg.Env = map[string]telemetry.Secret{"MCPGW_TEST_SERVER": telemetry.Secret(role)}
	cfg.Timeouts.Close = 300 * time.Millisecond
	return &cfg
}

// textOf returns the text of a tool result.
func textOf(t testing.TB, raw json.RawMessage) string {
	t.Helper()
	var r struct {
		Content []struct{ Text string }
		IsError bool
	}
	if err := json.Unmarshal(raw, &r); err != nil || len(r.Content) != 1 {
		t.Fatalf("not a text result: %s (%v)", raw, err)
	}
	return r.Content[0].Text
}
