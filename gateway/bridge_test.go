package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/mcptest"
)

// TestOlderClientsAnswerNewerServers has servers that ask in their results, several times in a call, and clients that expect to be asked
// in the middle of it, each with an answer of its own.
func TestOlderClientsAnswerNewerServers(t *testing.T) {
	srv := mcptest.NewServer(t, mcptest.Options{Name: "one"})
	cfg := downstream.DefaultConfig()
	cfg.URL = srv.Modern(t).URL
	_, url := start(t, map[string]downstream.Config{"one": cfg})
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Go(func() {
			asked := 0
			me := fmt.Sprint("client", i)
			s := connect(t, url+"/mcp", false, &mcp.ClientOptions{ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
				asked++
				return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": me}}, nil
			}})
			res, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "one__elicit", Arguments: map[string]any{"message": "who?", "rounds": 3}})
			if err != nil {
				t.Error(err)
				return
			}
			b, _ := json.Marshal(res)
			if res.IsError || asked != 3 {
				t.Errorf("%s was asked %d times, want 3; the result is %s", me, asked, b)
			}
		})
	}
	wg.Wait()

	mute := connect(t, url+"/mcp", false, nil)
	res, err := mute.CallTool(t.Context(), &mcp.CallToolParams{Name: "one__elicit", Arguments: map[string]any{"message": "who?"}})
	if err == nil && !res.IsError {
		t.Errorf("a client that cannot be asked got %+v", res)
	}
}
