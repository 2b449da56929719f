package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/mcptest"
)

// TestAbandonedCallsLeaveNothing parks 10,000 calls at a real server whose clients never come back, many of them at a time, and looks for
// what is left in the whole process, which holds clients, gateway and server.
func TestAbandonedCallsLeaveNothing(t *testing.T) {
	calls, waves := 10_000, 10
	if testing.Short() {
		calls = 1000
	}
	var running atomic.Int64
	// Not one of mcptest's: those remember every request.
	cfg := asksFor(t, func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		running.Add(1)
		defer running.Add(-1)
		_, err := r.Session.Elicit(ctx, &mcp.ElicitParams{Message: "m", RequestedSchema: json.RawMessage(`{"type":"object","properties":{}}`)})
		return nil, err
	})
	cfg.Limits.InFlight = calls
	g, url := start(t, map[string]downstream.Config{"one": cfg})
	s := Settings{Gateway: DefaultConfig(), Downstreams: map[string]downstream.Config{"one": cfg}}
	s.Gateway.Limits.Parked, s.Gateway.Limits.ParkedPerClient, s.Gateway.Timeouts.Input = calls, calls, time.Hour
	s.Admission = DefaultAdmission()
	s.Admission.MaxInFlight = calls
	p := DefaultPolicies()
	p.Bulkhead.MaxConcurrent = calls
	s.Policies = map[string]Policies{"one": p}
	apply := func() {
		t.Helper()
		if _, err := g.Apply(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	apply()
	c := rawCall{url: url + "/mcp"}
	abandon := func(n int) {
		t.Helper()
		var wg sync.WaitGroup
		var failed atomic.Int64
		slots := make(chan struct{}, 32)
		for range n {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				res, no, err := c.post(t.Context(), "tools/call", "one__ask", map[string]any{"name": "one__ask", "arguments": map[string]any{}})
				if err != nil || !asking(res) {
					if failed.Add(1) == 1 {
						t.Errorf("got %s, error %s, %v", res, no, err)
					}
				}
			})
		}
		wg.Wait()
		if got := g.lot.len(); got != n-int(failed.Load()) {
			t.Errorf("%d calls are parked, want %d", got, n)
		}
		for _, p := range all(&g.lot) {
			p.abandon(errAway) // what its timer does
		}
		idle(t, g)
		for deadline := time.Now().Add(10 * time.Second); running.Load() > 0; <-time.After(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d calls run at the server still", running.Load())
			}
		}
	}
	abandon(calls / waves) // what is kept for reuse is there from now on
	before, goroutines := settled()
	for range waves {
		abandon(calls / waves)
	}
	after, left := settled()
	t.Logf("%d calls: heap %d KiB before, %d KiB after; goroutines %d before, %d after", calls, before>>10, after>>10, goroutines, left)
	// Connections that are kept for reuse come and go by a few; a call that leaves something would leave it 10,000 times.
	if left > goroutines+calls/20 {
		t.Errorf("%d goroutines before, %d after", goroutines, left)
	}
	if limit := before + before/10 + 1<<20; after > limit {
		t.Errorf("the heap had %d bytes before and has %d after", before, after)
	}
}

func all(l *lot) []*parked {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*parked
	for _, p := range l.byID {
		out = append(out, p)
	}
	return out
}

// settled returns the heap in use and the goroutines once their number does not fall any more.
func settled() (heap uint64, goroutines int) {
	var m runtime.MemStats
	for range 50 {
		http.DefaultClient.CloseIdleConnections()
		runtime.GC()
		runtime.ReadMemStats(&m)
		n := runtime.NumGoroutine()
		if n == goroutines {
			break
		}
		goroutines = n
		<-time.After(100 * time.Millisecond)
	}
	return m.HeapAlloc, goroutines
}

// TestTimeAbandonsParkedCalls lets the timer do it, also where the call has ended meanwhile.
func TestTimeAbandonsParkedCalls(t *testing.T) {
	ended := make(chan struct{})
	cfg := asksFor(t, func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		asking, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		defer close(ended)
		_, err := r.Session.Elicit(asking, &mcp.ElicitParams{Message: "m", RequestedSchema: json.RawMessage(`{"type":"object","properties":{}}`)})
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprint("gave up: ", err != nil)}}}, nil
	})
	g, url := startSet(t, map[string]downstream.Config{"one": cfg}, func(s *Settings) { s.Gateway.Timeouts.Input = time.Second })
	c := rawCall{url: url + "/mcp"}
	res, _ := c.tool(t, "one__ask", map[string]any{}, nil)
	<-ended // the server did not wait for the client
	if res, no := c.tool(t, "one__ask", map[string]any{}, back(t, res, accepted)); !bytes.Contains(res, []byte("gave up: true")) {
		t.Errorf("who comes back later than the server waits got %s, error %s", res, no)
	}
	idle(t, g)
}

// TestNoAnswerToTheWrongClient has 50 clients of both eras, who share one session with an older server, be asked at the same time, 10,000
// times in all. Each answer must come to the call it was given for.
func TestNoAnswerToTheWrongClient(t *testing.T) {
	clients, rounds := 50, 200
	if testing.Short() {
		rounds = 20
	}
	var mu sync.Mutex
	sessions := map[string]bool{}
	cfg := asksFor(t, func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		mu.Lock()
		sessions[r.Session.ID()] = true
		mu.Unlock()
		a, err := r.Session.Elicit(ctx, &mcp.ElicitParams{Message: string(r.Params.Arguments), RequestedSchema: json.RawMessage(`{"type":"object","properties":{"me":{"type":"string"}}}`)})
		if err != nil {
			return nil, err
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprint(a.Content["me"])}}}, nil
	})
	cfg.Session = "shared"
	_, url := start(t, map[string]downstream.Config{"one": cfg})
	var wrong, done atomic.Int64
	var wg sync.WaitGroup
	for i := range clients {
		me := fmt.Sprint("client", i)
		s := connect(t, url+"/mcp", i%2 == 0, &mcp.ClientOptions{
			Capabilities: &mcp.ClientCapabilities{},
			ElicitationHandler: func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
				if want := fmt.Sprintf(`[one] {"me":%q}`, me); r.Params.Message != want {
					wrong.Add(1)
					t.Errorf("%s was asked %s", me, r.Params.Message)
				}
				return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"me": me}}, nil
			},
		})
		wg.Go(func() {
			for range rounds {
				res, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "one__ask", Arguments: map[string]any{"me": me}})
				if err != nil {
					t.Errorf("%s: %v", me, err)
					return
				}
				if got := mcptest.Text(res); got != me {
					wrong.Add(1)
					t.Errorf("%s got the answer of %s", me, got)
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	if wrong.Load() != 0 || done.Load() != int64(clients*rounds) {
		t.Errorf("%d rounds, %d wrong", done.Load(), wrong.Load())
	}
	if len(sessions) != 1 {
		t.Errorf("the clients shared %d sessions", len(sessions))
	}
	t.Logf("%d rounds, %d sessions, %d wrong", done.Load(), len(sessions), wrong.Load())
}
