package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// pair is one pairing of a client and a server: how old each is, and what each speaks over. Old is revision 2025-11-25, new 2026-07-28.
type pair struct {
	newClient, newServer     bool
	stdioClient, stdioServer bool
}

// pairs returns all of them, in the order of the table in docs/transparency.md.
func pairs() (all []pair) {
	for i := range 16 {
		all = append(all, pair{i&8 != 0, i&4 != 0, i&2 != 0, i&1 != 0})
	}
	return all
}

// String is the name of a row of the table and of a subtest.
func (p pair) String() string {
	return age(p.newClient) + "_" + age(p.newServer) + "_" + over(p.stdioClient) + "_" + over(p.stdioServer)
}

func age(modern bool) string {
	if modern {
		return "new"
	}
	return "old"
}

func over(stdio bool) string {
	if stdio {
		return "stdio"
	}
	return "http"
}

// cell is a pairing at work: a client of the SDK, the gateway, a server of the SDK.
type cell struct {
	pair

	client  *mcp.Client
	session *mcp.ClientSession
	heard   chan string // what the client was told or asked, except
	changed chan string // which lists have changed; that happens at any time
	journal string      // the server's
}

// everyCell runs f in every pairing, each a subtest by its name.
func everyCell(t *testing.T, f func(t *testing.T, c *cell)) {
	t.Helper()
	t.Parallel()
	journal := filepath.Join(t.TempDir(), "journal")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var downs strings.Builder
	for _, modern := range []bool{false, true} {
		s := pairServer(journal)
		up := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s },
			&mcp.StreamableHTTPOptions{Stateless: modern, PropagateRequestCancellation: modern}))
		t.Cleanup(up.Close)
		fmt.Fprintf(&downs, "  %s_http: { url: '%s', protocol: '%s' }\n", age(modern), up.URL, era(modern))
		for name, session := range map[string]string{"stdio": "auto", "own": "per_client"} {
			fmt.Fprintf(&downs, "  %s_%s: { command: '%s', protocol: '%s', session: %s, env: { %s: '%s' } }\n", age(modern), name, self, era(modern), session, pairServerEnv, journal)
		}
	}
	dir := t.TempDir()
	gw := startGatewayIn(t, dir, "gateway: { listen: LISTEN }\ndownstreams:\n"+downs.String())
	for _, p := range pairs() {
		t.Run(p.String(), func(t *testing.T) {
			c := &cell{pair: p, heard: make(chan string, 1000), changed: make(chan string, 1000), journal: journal}
			c.connect(t, gw.Addr, dir)
			f(t, c)
		})
	}
}

// connect connects a client that can be asked everything, and waits until it has the server's tools.
func (c *cell) connect(t *testing.T, addr, dir string) {
	t.Helper()
	c.client = mcp.NewClient(&mcp.Implementation{Name: "pair", Version: "1"}, c.options())
	c.client.AddRoots(&mcp.Root{URI: "file:///work", Name: "work"})
	var transport mcp.Transport = &mcp.StreamableClientTransport{Endpoint: "http://" + addr + "/mcp", MaxRetries: -1}
	if c.stdioClient {
		transport = &mcp.CommandTransport{Command: command(t, program(t, harness.Gateway), "stdio", "--config", filepath.Join(dir, "gateway.yaml"))}
	}
	session, err := c.client.Connect(t.Context(), transport, &mcp.ClientSessionOptions{ProtocolVersion: era(c.newClient)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() }) // a command that is ended is no fault
	if got := session.InitializeResult().ProtocolVersion; got != era(c.newClient) {
		t.Fatalf("the client speaks %s, want %s", got, era(c.newClient))
	}
	c.session = session
	eventually(t, 20*time.Second, "the server's tools", func() error {
		var have []string
		for tool, err := range session.Tools(t.Context(), nil) {
			if err != nil {
				return err
			}
			have = append(have, tool.Name)
		}
		for _, name := range []string{c.own(), c.shared()} {
			if all := " " + strings.Join(have, " ") + " "; !strings.Contains(all, " "+name+"__form ") {
				return fmt.Errorf("no %s__form among %d tools", name, len(have))
			}
		}
		return nil
	})
}

func (c *cell) options() *mcp.ClientOptions {
	return &mcp.ClientOptions{
		Capabilities: &mcp.ClientCapabilities{
			RootsV2:     &mcp.RootCapabilities{ListChanged: !c.newClient},
			Sampling:    &mcp.SamplingCapabilities{Tools: &mcp.SamplingToolsCapabilities{}},
			Elicitation: &mcp.ElicitationCapabilities{Form: &mcp.FormElicitationCapabilities{}, URL: &mcp.URLElicitationCapabilities{}},
		},
		ElicitationHandler: func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			switch {
			case r.Params.Mode == "url":
				c.heard <- fmt.Sprintf("page %s id=%t %s", r.Params.URL, r.Params.ElicitationID != "", r.Params.Message)
				return &mcp.ElicitResult{Action: "accept"}, nil
			case strings.Contains(r.Params.Message, "secret"):
				c.heard <- "form " + r.Params.Message
				return &mcp.ElicitResult{Action: "decline"}, nil
			}
			c.heard <- "form " + r.Params.Message
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "Ada"}}, nil
		},
		ElicitationCompleteHandler: func(_ context.Context, r *mcp.ElicitationCompleteNotificationRequest) {
			c.heard <- "complete " + r.Params.ElicitationID
		},
		CreateMessageWithToolsHandler: func(_ context.Context, r *mcp.CreateMessageWithToolsRequest) (*mcp.CreateMessageWithToolsResult, error) {
			b, err := json.Marshal(r.Params)
			c.heard <- "sample " + string(b)
			return &mcp.CreateMessageWithToolsResult{
				Model: "m", Role: "assistant", StopReason: "toolUse",
				Content: []mcp.Content{&mcp.TextContent{Text: "let me look"}, &mcp.ToolUseContent{ID: "u1", Name: "weather", Input: map[string]any{"at": "home"}}},
			}, err
		},
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
			c.heard <- fmt.Sprintf("progress %v %v/%v", r.Params.ProgressToken, r.Params.Progress, r.Params.Total)
		},
		LoggingMessageHandler: func(_ context.Context, r *mcp.LoggingMessageRequest) {
			c.heard <- fmt.Sprintf("log %s %s %v", r.Params.Level, r.Params.Logger, r.Params.Data)
		},
		ResourceUpdatedHandler: func(_ context.Context, r *mcp.ResourceUpdatedNotificationRequest) {
			c.heard <- "updated " + r.Params.URI
		},
		ToolListChangedHandler:     func(context.Context, *mcp.ToolListChangedRequest) { c.changed <- "tools" },
		PromptListChangedHandler:   func(context.Context, *mcp.PromptListChangedRequest) { c.changed <- "prompts" },
		ResourceListChangedHandler: func(context.Context, *mcp.ResourceListChangedRequest) { c.changed <- "resources" },
	}
}

// shared is the name of the server as it is configured by default. Clients share its process if it has one.
func (c *cell) shared() string { return age(c.newServer) + "_" + over(c.stdioServer) }

// own is the name of the server as one that may ask: its process, if it has one, is the client's own.
func (c *cell) own() string {
	if c.stdioServer {
		return age(c.newServer) + "_own"
	}
	return c.shared()
}

// call calls a tool and returns what it said.
func (c *cell) call(t *testing.T, server, tool string, args map[string]any, meta mcp.Meta) string {
	t.Helper()
	said, err := c.try(deadline(t, 20*time.Second), server, tool, args, meta)
	if err != nil {
		t.Fatalf("%s: %v", tool, err)
	}
	return said
}

func (c *cell) try(ctx context.Context, server, tool string, args map[string]any, meta mcp.Meta) (string, error) {
	if args == nil {
		args = map[string]any{}
	}
	res, err := c.session.CallTool(ctx, &mcp.CallToolParams{Meta: meta, Name: server + "__" + tool, Arguments: args})
	if err != nil {
		return "", err
	}
	said := ""
	for _, b := range res.Content {
		if text, ok := b.(*mcp.TextContent); ok {
			said += text.Text
		}
	}
	if res.IsError {
		return "", fmt.Errorf("isError: %s", said)
	}
	return said, nil
}

// hears waits until the client has heard want, and returns what it heard before.
func (c *cell) hears(t *testing.T, want string) (before []string) {
	t.Helper()
	late := time.After(10 * time.Second)
	for {
		select {
		case got := <-c.heard:
			if got == want {
				return before
			}
			before = append(before, got)
		case <-late:
			t.Fatalf("waited in vain for %q, heard %q", want, before)
		}
	}
}

// experienced waits until the server has noted a line.
func (c *cell) experienced(t *testing.T, line string) {
	t.Helper()
	eventually(t, 10*time.Second, "the server's note of "+line, func() error {
		if !c.noted(t, line) {
			return fmt.Errorf("not noted")
		}
		return nil
	})
}

func (c *cell) noted(t *testing.T, line string) bool { t.Helper(); return c.count(t, line) > 0 }

// count returns how often the server has noted a line.
func (c *cell) count(t *testing.T, line string) (n int) {
	t.Helper()
	b, err := os.ReadFile(c.journal)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(b)) {
		if l == line+"\n" {
			n++
		}
	}
	return n
}
