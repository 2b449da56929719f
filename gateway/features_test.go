package gateway

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/mcptest"
)

// served runs one server of mcptest under a name, in one era.
func served(t *testing.T, name string, modern bool) downstream.Config {
	t.Helper()
	s := mcptest.NewServer(t, mcptest.Options{Name: name})
	cfg := downstream.DefaultConfig()
	if modern {
		cfg.URL = s.Modern(t).URL
	} else {
		cfg.URL = s.HTTP(t).URL
	}
	return cfg
}

// TestCompletion asks for completions of a prompt's and of a template's argument, by the names that the gateway gave them.
func TestCompletion(t *testing.T) {
	eras(t, func(t *testing.T, modern bool) {
		_, url := start(t, map[string]downstream.Config{"one": served(t, "one", modern), "two": served(t, "two", modern)})
		for path, c := range map[string]struct{ prompt, template string }{
			"/mcp":             {"one__" + mcptest.Prompt, "mcpgw://one/" + mcptest.ItemTemplate},
			"/servers/one/mcp": {mcptest.Prompt, mcptest.ItemTemplate},
		} {
			s := connect(t, url+path, modern, nil)
			for _, p := range []*mcp.CompleteParams{
				{Ref: &mcp.CompleteReference{Type: "ref/prompt", Name: c.prompt}, Argument: mcp.CompleteParamsArgument{Name: "style", Value: "f"}},
				{Ref: &mcp.CompleteReference{Type: "ref/resource", URI: c.template}, Argument: mcp.CompleteParamsArgument{Name: "id", Value: "t"}},
			} {
				res, err := s.Complete(t.Context(), p)
				if err != nil || len(res.Completion.Values) == 0 {
					t.Errorf("%s: %+v: got %+v, %v", path, p.Ref, res, err)
				}
			}
			if path != "/mcp" {
				continue // the server itself says what it does not have
			}
			if _, err := s.Complete(t.Context(), &mcp.CompleteParams{Ref: &mcp.CompleteReference{Type: "ref/prompt", Name: "nobody"}, Argument: mcp.CompleteParamsArgument{Name: "x"}}); err == nil {
				t.Errorf("%s: a prompt that does not exist was completed", path)
			}
		}
	})
}

// TestTemplatesAndMissingResources reads by a template that two servers have, and what is not there.
func TestTemplatesAndMissingResources(t *testing.T) {
	eras(t, func(t *testing.T, modern bool) {
		_, url := start(t, map[string]downstream.Config{"one": served(t, "one", modern), "two": served(t, "two", modern)})
		s := connect(t, url+"/mcp", modern, nil)
		templates, err := s.ListResourceTemplates(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range templates.ResourceTemplates {
			got = append(got, r.URITemplate)
		}
		if want := []string{"mcpgw://one/" + mcptest.ItemTemplate, "mcpgw://two/" + mcptest.ItemTemplate}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		res, err := s.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "mcpgw://two/mcptest://item/7"})
		if err != nil || res.Contents[0].Text != "item 7" {
			t.Errorf("got %+v, %v", res, err)
		}
		for _, uri := range []string{"mcpgw://two/mcptest://item/missing", "nowhere://x", "mcpgw://three/x", "mcptest://item/7"} {
			if _, err := s.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: uri}); err == nil {
				t.Errorf("%s was read", uri)
			}
		}
	})
}

// TestLogMessagesKeepToTheLevel sets a level and expects only messages at or above it.
func TestLogMessagesKeepToTheLevel(t *testing.T) {
	_, url := start(t, map[string]downstream.Config{"one": served(t, "one", false)})
	var mu sync.Mutex
	var levels []string
	logged := make(chan struct{}, 10)
	s := connect(t, url+"/mcp", false, &mcp.ClientOptions{LoggingMessageHandler: func(_ context.Context, r *mcp.LoggingMessageRequest) {
		mu.Lock()
		levels = append(levels, string(r.Params.Level))
		mu.Unlock()
		logged <- struct{}{}
	}})
	if err := s.SetLoggingLevel(t.Context(), &mcp.SetLoggingLevelParams{Level: "warning"}); err != nil {
		t.Fatal(err)
	}
	for _, level := range []string{"debug", "info", "error"} {
		if _, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "one__log", Arguments: map[string]any{"n": 1, "level": level}}); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-logged:
	case <-time.After(10 * time.Second):
		t.Fatal("no log message")
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(levels, []string{"error"}) {
		t.Errorf("got %v, want only the error", levels)
	}
	if err := s.SetLoggingLevel(t.Context(), &mcp.SetLoggingLevelParams{Level: "loud"}); err == nil {
		t.Error("a level that does not exist was taken")
	}
}

// TestSamplingAndRoots has a server ask for both, and a client that can answer only one.
func TestSamplingAndRoots(t *testing.T) {
	_, url := start(t, map[string]downstream.Config{"one": served(t, "one", false)})
	c := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, &mcp.ClientOptions{
		Capabilities: &mcp.ClientCapabilities{Sampling: &mcp.SamplingCapabilities{}},
		CreateMessageHandler: func(context.Context, *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
			return &mcp.CreateMessageResult{Model: "m", Role: "assistant", Content: &mcp.TextContent{Text: "sampled"}}, nil
		},
	})
	s, err := c.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: url + "/mcp", MaxRetries: -1}, &mcp.ClientSessionOptions{ProtocolVersion: downstream.Legacy})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	res, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "one__sample", Arguments: map[string]any{"message": "hi"}})
	if b, _ := json.Marshal(res); err != nil || !strings.Contains(string(b), "sampled") {
		t.Errorf("sampling: %s, %v", b, err)
	}
	res, err = s.CallTool(t.Context(), &mcp.CallToolParams{Name: "one__roots"})
	if err == nil && !res.IsError {
		t.Errorf("a client without roots answered: %+v", res)
	}
}

// TestLinksInResultsLeadBack follows the links of a tool's result, which name resources that two servers have.
func TestLinksInResultsLeadBack(t *testing.T) {
	_, url := start(t, map[string]downstream.Config{"one": served(t, "one", true), "two": served(t, "two", true)})
	s := connect(t, url+"/mcp", true, nil)
	res, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "two__contents"})
	if err != nil {
		t.Fatal(err)
	}
	links := 0
	for _, c := range res.Content {
		var uri string
		switch c := c.(type) {
		case *mcp.ResourceLink:
			uri = c.URI
		case *mcp.EmbeddedResource:
			uri = c.Resource.URI
		default:
			continue
		}
		links++
		if !strings.HasPrefix(uri, "mcpgw://two/") {
			t.Errorf("the link %s could lead to the other server", uri)
		}
	}
	if links == 0 {
		t.Error("the result has no links")
	}
}
