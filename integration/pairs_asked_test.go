package integration

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// sameJSON fails if two values in JSON differ.
func sameJSON(t *testing.T, what, got, want string) {
	t.Helper()
	var g, w any
	if err := errors.Join(json.Unmarshal([]byte(got), &g), json.Unmarshal([]byte(want), &w)); err != nil {
		t.Fatalf("%s: %v: %s", what, err, got)
	}
	gb, _ := json.Marshal(g) // of what was just read
	wb, _ := json.Marshal(w)
	if string(gb) != string(wb) {
		t.Errorf("%s: got %s, want %s", what, gb, wb)
	}
}

// TestPairForm: a server asks the user for something with a form.
func TestPairForm(t *testing.T) {
	everyCell(t, func(t *testing.T, c *cell) {
		sameJSON(t, "answer", c.call(t, c.own(), "form", map[string]any{"message": "Your name?"}, nil), `{"action":"accept","content":{"name":"Ada"}}`)
		c.hears(t, "form ["+c.own()+"] Your name?")
		sameJSON(t, "refusal", c.call(t, c.own(), "form", map[string]any{"message": "Your secret?"}, nil), `{"action":"decline"}`)
		c.hears(t, "form ["+c.own()+"] Your secret?")
		if c.newServer || !c.stdioServer {
			return
		}
		// What an older server asks over stdio names no client, so a process that clients share is told that there is nobody to ask.
		said, err := c.try(deadline(t, waitLong), c.shared(), "form", nil, nil)
		if err == nil || !strings.Contains(err.Error(), "client does not support elicitation") || len(c.heard) > 0 {
			t.Errorf("a form in a shared process: %q, %v", said, err)
		}
	})
}

// TestPairURL: a server has the user visit a page: in the middle of the call, or, in revision 2025-11-25 only, before it.
func TestPairURL(t *testing.T) {
	everyCell(t, func(t *testing.T, c *cell) {
		id := "page-" + c.String()
		sameJSON(t, "answer", c.call(t, c.own(), "page", map[string]any{"id": id}, nil), `{"action":"accept"}`)
		// Only revision 2025-11-25 has ids of elicitations, and news that one is complete.
		asked := "page https://example.net/login?for=" + id
		switch {
		case c.newClient:
			c.hears(t, asked+" id=false ["+c.own()+"] Log in.")
		default:
			c.hears(t, asked+" id=true ["+c.own()+"] Log in.")
		}
		if !c.newClient && !c.newServer {
			c.hears(t, "complete "+id)
		}
		if c.newServer {
			return // it has no error that wants a page visited first
		}
		said, err := c.try(deadline(t, waitLong), c.own(), "door", map[string]any{"id": id}, nil)
		if !c.newClient {
			rpc, ok := errors.AsType[*jsonrpc.Error](err)
			if !ok || rpc.Code != mcp.CodeURLElicitationRequired {
				t.Fatalf("an older client gets the server's own error: %q, %v", said, err)
			}
			sameJSON(t, "data", string(rpc.Data), `{"elicitations":[{"mode":"url","message":"Log in first.","url":"https://example.net/first","elicitationId":"`+id+`"}]}`)
			said, err = c.try(deadline(t, waitLong), c.own(), "door", map[string]any{"id": id}, nil)
		} else if before := c.hears(t, "page https://example.net/first id=false ["+c.own()+"] Log in first."); len(before) > 0 {
			t.Errorf("heard before: %q", before)
		}
		if said != "in" || err != nil {
			t.Errorf("after the visit: %q, %v", said, err)
		}
	})
}

// TestPairSampling: a server asks the client's model, and lets it use tools.
func TestPairSampling(t *testing.T) {
	everyCell(t, func(t *testing.T, c *cell) {
		said := c.call(t, c.own(), "sample", nil, nil)
		sameJSON(t, "answer", said, `{"model":"m","role":"assistant","stopReason":"toolUse","content":[{"type":"text","text":"let me look"},
			{"type":"tool_use","id":"u1","name":"weather","input":{"at":"home"}}]}`)
		asked, ok := strings.CutPrefix(<-c.heard, "sample ")
		if !ok {
			t.Fatalf("heard %q", asked)
		}
		sameJSON(t, "question", asked, `{"_meta":{"dev.mcpgw/server":"`+c.own()+`"},"maxTokens":9,"messages":[{"role":"user","content":{"type":"text","text":"What is the weather?"}}],
			"tools":[{"name":"weather","inputSchema":{"type":"object"}}],"toolChoice":{"mode":"required"}}`)
	})
}

// TestPairRoots: a server asks where the client works, and an older one learns when that changes.
func TestPairRoots(t *testing.T) {
	everyCell(t, func(t *testing.T, c *cell) {
		sameJSON(t, "roots", c.call(t, c.own(), "roots", nil, nil), `{"roots":[{"uri":"file:///work","name":"work"}]}`)
		before := c.count(t, "roots changed")
		c.client.AddRoots(&mcp.Root{URI: "file:///more"})
		if !c.newClient && !c.newServer {
			eventually(t, waitLong, "the news at the server", func() error {
				if c.count(t, "roots changed") == before {
					return errors.New("not told")
				}
				return nil
			})
		}
		said := c.call(t, c.own(), "roots", nil, nil)
		if !strings.Contains(said, "file:///more") || !strings.Contains(said, "file:///work") {
			t.Errorf("the server learnt %s", said)
		}
		if (c.newClient || c.newServer) && c.count(t, "roots changed") != before {
			t.Errorf("revision %s has no notifications/roots/list_changed, and the server got one", harness.Modern)
		}
	})
}
