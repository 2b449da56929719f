package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/telemetry"
)

// serverDir makes this test binary a server over stdio, and names the folder that it leaves its marks in.
const serverDir = "MCPGW_MATRIX_SERVER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(serverDir); dir != "" {
		if err := matrixServer(dir).Run(context.Background(), &mcp.StdioTransport{}); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// matrixServer is a real server that does one thing of each kind, in the way of the revision that it is spoken to.
func matrixServer(dir string) *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "matrix", Version: "1"}, &mcp.ServerOptions{
		SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
	})
	tool := func(name string, f func(context.Context, *mcp.CallToolRequest) (string, mcp.InputRequest, error)) {
		s.AddTool(&mcp.Tool{Name: name, InputSchema: json.RawMessage(`{"type":"object"}`)}, func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			said, question, err := f(ctx, r)
			if question != nil {
				return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"q": question}, RequestState: "mine"}, err
			}
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: said}}}, err
		})
	}
	// ask asks once: by a request to an older client, else in the result.
	ask := func(r *mcp.CallToolRequest, question mcp.InputRequest, direct func() (any, error)) (string, mcp.InputRequest, error) {
		if p := r.Session.InitializeParams(); p != nil && p.ProtocolVersion < downstream.Modern {
			a, err := direct()
			b, _ := json.Marshal(a)
			return string(b), nil, err
		}
		if r.Params.RequestState == "" {
			return "", question, nil
		}
		b, err := json.Marshal(r.Params.InputResponses["q"])
		return string(b), nil, err
	}
	form := &mcp.ElicitParams{Message: "name?", RequestedSchema: json.RawMessage(`{"type":"object","properties":{"name":{"type":"string"}}}`)}
	page := &mcp.ElicitParams{Mode: "url", Message: "log in", URL: "https://example.net/login", ElicitationID: "e"}
	model := &mcp.CreateMessageParams{MaxTokens: 9, Messages: []*mcp.SamplingMessage{{Role: "user", Content: &mcp.TextContent{Text: "say"}}}}
	tool("form", func(ctx context.Context, r *mcp.CallToolRequest) (string, mcp.InputRequest, error) {
		return ask(r, form, func() (any, error) { return r.Session.Elicit(ctx, form) })
	})
	tool("url", func(ctx context.Context, r *mcp.CallToolRequest) (string, mcp.InputRequest, error) {
		return ask(r, page, func() (any, error) { return r.Session.Elicit(ctx, page) })
	})
	tool("sampling", func(ctx context.Context, r *mcp.CallToolRequest) (string, mcp.InputRequest, error) {
		return ask(r, model, func() (any, error) { return r.Session.CreateMessage(ctx, model) })
	})
	tool("roots", func(ctx context.Context, r *mcp.CallToolRequest) (string, mcp.InputRequest, error) {
		return ask(r, &mcp.ListRootsParams{}, func() (any, error) { return r.Session.ListRoots(ctx, nil) })
	})
	tool("progress", func(ctx context.Context, r *mcp.CallToolRequest) (string, mcp.InputRequest, error) {
		return "", nil, r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(), Progress: 1, Message: "half"})
	})
	tool("logging", func(ctx context.Context, r *mcp.CallToolRequest) (string, mcp.InputRequest, error) {
		for _, level := range []mcp.LoggingLevel{"debug", "error"} {
			if err := r.Session.Log(ctx, &mcp.LoggingMessageParams{Level: level, Data: string(level)}); err != nil {
				return "", nil, err
			}
		}
		return "", nil, nil
	})
	tool("hang", func(ctx context.Context, _ *mcp.CallToolRequest) (string, mcp.InputRequest, error) {
		err := os.WriteFile(filepath.Join(dir, "begun"), nil, 0o600)
		<-ctx.Done()
		return "", nil, errors.Join(err, os.WriteFile(filepath.Join(dir, "cancelled"), nil, 0o600))
	})
	tool("touch", func(ctx context.Context, _ *mcp.CallToolRequest) (string, mcp.InputRequest, error) {
		return "", nil, s.ResourceUpdated(ctx, &mcp.ResourceUpdatedNotificationParams{URI: "matrix://r"})
	})
	tool("change", func(context.Context, *mcp.CallToolRequest) (string, mcp.InputRequest, error) {
		tool(fmt.Sprint("new", time.Now().UnixNano()), nil)
		return "", nil, nil
	})
	s.AddResource(&mcp.Resource{URI: "matrix://r", Name: "r"}, func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: "matrix://r", Text: "r"}}}, nil
	})
	return s
}

// TestEveryPairing is the table of docs/transparency.md: clients and servers of both eras, over both transports, with each thing that can
// happen between them besides an answer.
func TestEveryPairing(t *testing.T) {
	for _, transport := range []string{"http", "stdio"} {
		for _, server := range []string{downstream.Legacy, downstream.Modern} {
			dir := t.TempDir()
			downs := map[string]downstream.Config{"one": matrixDownstream(t, transport, server, dir, "auto"), "own": matrixDownstream(t, transport, server, dir, "per_client")}
			_, url := start(t, downs)
			for _, client := range []string{downstream.Legacy, downstream.Modern} {
				t.Run(fmt.Sprintf("client %s, server %s over %s", client, server, transport), func(t *testing.T) {
					pairing(t, url, client == downstream.Modern, dir)
				})
			}
		}
	}
}

func matrixDownstream(t *testing.T, transport, revision, dir, session string) downstream.Config {
	t.Helper()
	cfg := downstream.DefaultConfig()
	cfg.Session, cfg.Protocol = session, revision
	if transport == "stdio" {
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cfg.Command, cfg.Env = exe, map[string]telemetry.Secret{serverDir: telemetry.Secret(dir)}
		return cfg
	}
	s := matrixServer(dir)
	modern := revision == downstream.Modern
	srv := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{Stateless: modern, PropagateRequestCancellation: modern}))
	t.Cleanup(srv.Close)
	cfg.URL = srv.URL
	return cfg
}

func pairing(t *testing.T, url string, modern bool, dir string) {
	heard := make(chan string, 100)
	c := mcp.NewClient(&mcp.Implementation{Name: "client", Version: "1"}, &mcp.ClientOptions{
		Capabilities: &mcp.ClientCapabilities{RootsV2: &mcp.RootCapabilities{}, Sampling: &mcp.SamplingCapabilities{}, Elicitation: &mcp.ElicitationCapabilities{Form: &mcp.FormElicitationCapabilities{}, URL: &mcp.URLElicitationCapabilities{}}},
		ElicitationHandler: func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			heard <- "asked " + r.Params.Message
			if r.Params.Mode == "url" {
				return &mcp.ElicitResult{Action: "accept"}, nil
			}
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "Ada"}}, nil
		},
		CreateMessageHandler: func(context.Context, *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
			return &mcp.CreateMessageResult{Model: "m", Role: "assistant", Content: &mcp.TextContent{Text: "said"}}, nil
		},
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
			heard <- fmt.Sprint("progress ", r.Params.ProgressToken, r.Params.Message)
		},
		LoggingMessageHandler:  func(_ context.Context, r *mcp.LoggingMessageRequest) { heard <- "log " + string(r.Params.Level) },
		ResourceUpdatedHandler: func(_ context.Context, r *mcp.ResourceUpdatedNotificationRequest) { heard <- "updated " + r.Params.URI },
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { heard <- "tools changed" },
	})
	c.AddRoots(&mcp.Root{URI: "file:///work", Name: "work"})
	so := &mcp.ClientSessionOptions{}
	if !modern {
		so.ProtocolVersion = downstream.Legacy
	}
	s, err := c.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: url + "/mcp", MaxRetries: -1}, so)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	// hears waits until the client has heard something that is not left out.
	hears := func(t *testing.T, want string, not ...string) {
		t.Helper()
		late := time.After(10 * time.Second)
		for {
			select {
			case got := <-heard:
				for _, no := range not {
					if strings.Contains(got, no) {
						t.Errorf("heard %q", got)
					}
				}
				if strings.Contains(got, want) {
					return
				}
			case <-late:
				t.Fatalf("waited in vain for %q", want)
			}
		}
	}
	call := func(t *testing.T, name string, meta mcp.Meta) string {
		t.Helper()
		res, err := s.CallTool(t.Context(), &mcp.CallToolParams{Meta: meta, Name: name})
		if err != nil {
			t.Fatal(err)
		}
		if res.IsError {
			t.Fatal(text(t, res, nil))
		}
		return text(t, res, nil)
	}
	for tool, want := range map[string]string{"form": "Ada", "url": "accept", "sampling": "said", "roots": "file:///work"} {
		t.Run(tool, func(t *testing.T) {
			if got := call(t, "own__"+tool, nil); !strings.Contains(got, want) {
				t.Errorf("the server learnt %s", got)
			}
			if tool == "form" {
				hears(t, "asked [own] name?")
			}
		})
	}
	t.Run("progress", func(t *testing.T) {
		call(t, "one__progress", mcp.Meta{"progressToken": "mine "})
		hears(t, "progress mine half")
	})
	t.Run("logging", func(t *testing.T) {
		meta := mcp.Meta{mcp.MetaKeyLogLevel: "warning"}
		if !modern {
			meta = nil
			if err := s.SetLoggingLevel(t.Context(), &mcp.SetLoggingLevelParams{Level: "warning"}); err != nil {
				t.Fatal(err)
			}
		}
		call(t, "one__logging", meta)
		hears(t, "log error", "log debug")
	})
	t.Run("cancel", func(t *testing.T) {
		for _, mark := range []string{"begun", "cancelled"} {
			_ = os.Remove(filepath.Join(dir, mark))
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = s.CallTool(ctx, &mcp.CallToolParams{Name: "one__hang"}) // is cancelled
		}()
		appears(t, filepath.Join(dir, "begun"))
		cancel()
		<-ended
		appears(t, filepath.Join(dir, "cancelled"))
	})
	t.Run("subscription", func(t *testing.T) {
		uri := "mcpgw://one/matrix://r"
		if err := s.Subscribe(t.Context(), &mcp.SubscribeParams{URI: uri}); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(10 * time.Second)
		for { // a modern client is acknowledged before the server is
			call(t, "one__touch", nil)
			select {
			case got := <-heard:
				if got == "updated "+uri {
					return
				}
			case <-time.After(100 * time.Millisecond):
			}
			if time.Now().After(deadline) {
				t.Fatal("no update")
			}
		}
	})
	t.Run("list_changed", func(t *testing.T) {
		call(t, "one__change", nil)
		hears(t, "tools changed")
	})
}

// appears waits until a file is there.
func appears(t *testing.T, path string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; <-time.After(5 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", filepath.Base(path))
		}
	}
}
