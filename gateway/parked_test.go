package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/mcptest"
	"github.com/mcpgw/mcpgw/internal/wire"
	"github.com/mcpgw/mcpgw/telemetry"
)

const everything = `{"elicitation":{"form":{},"url":{}},"sampling":{"tools":{}},"roots":{}}`

// rawCall is a client of revision 2026-07-28 that does nothing by itself.
type rawCall struct {
	url, token, caps string
}

// post sends a request and returns the last message of the answer.
func (c rawCall) post(ctx context.Context, method, name string, params map[string]any) (result, rpcErr json.RawMessage, err error) {
	caps := c.caps
	if caps == "" {
		caps = everything
	}
	meta, _ := params["_meta"].(map[string]any)
	if meta == nil {
		meta = map[string]any{}
	}
	meta[downstream.MetaProtocolVersion] = downstream.Modern
	meta[downstream.MetaClientCapabilities] = json.RawMessage(caps)
	params["_meta"] = meta
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return nil, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	for k, v := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Mcp-Protocol-Version": downstream.Modern,
		"Mcp-Method": method, "Mcp-Name": name,
	} {
		req.Header.Set(k, v)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, nil, err
	}
	if i := bytes.LastIndex(b, []byte("data: ")); i >= 0 {
		b = b[i+len("data: "):]
	}
	return wire.Get(b, "result"), wire.Get(b, "error"), nil
}

func (c rawCall) tool(t *testing.T, name string, args any, more map[string]any) (result, rpcErr json.RawMessage) {
	t.Helper()
	params := map[string]any{"name": name, "arguments": args}
	maps.Copy(params, more)
	res, no, err := c.post(t.Context(), "tools/call", name, params)
	if err != nil {
		t.Fatal(err)
	}
	return res, no
}

// back is what a client adds to a request when it comes back with an answer to each question.
func back(t *testing.T, res json.RawMessage, answer string) map[string]any {
	t.Helper()
	if !asking(res) {
		t.Fatalf("expected questions, got %s", res)
	}
	answers := map[string]json.RawMessage{}
	wire.Members(wire.Get(res, "inputRequests"), func(name []byte, _ json.RawMessage) bool {
		answers[string(name)] = json.RawMessage(answer)
		return true
	})
	return map[string]any{"inputResponses": answers, "requestState": wire.Get(res, "requestState")}
}

const accepted = `{"action":"accept","content":{"name":"Ada"}}`

// startWith runs a gateway with settings of its own.
func startSet(t *testing.T, downs map[string]downstream.Config, set func(*Settings)) (*Gateway, string) {
	t.Helper()
	g, url := start(t, downs)
	s := Settings{Gateway: DefaultConfig(), Downstreams: downs}
	set(&s)
	if _, err := g.Apply(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return g, url
}

// idle waits until no call is parked and none is on its way to a server.
func idle(t *testing.T, g *Gateway) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		g.admission.mu.Lock()
		n := g.admission.n
		g.admission.mu.Unlock()
		if n == 0 && g.lot.len() == 0 {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Errorf("calls are left: %d parked", g.lot.len())
}

// TestOlderServersAskNewerClients has servers of every transport that ask in the middle of a call, and clients of the revision in which
// servers cannot: each kind of question, one after the other and with progress around them.
func TestOlderServersAskNewerClients(t *testing.T) {
	for _, path := range []string{"/mcp", "/servers/one/mcp"} {
		for _, session := range []string{"auto", "shared", "per_client"} {
			t.Run(strings.ReplaceAll(path, "/", " ")+" "+session, func(t *testing.T) {
				cfg := served(t, "one", false)
				cfg.Session = session
				g, url := start(t, map[string]downstream.Config{"one": cfg})
				prefix := ""
				if path == "/mcp" {
					prefix = "one__"
				}
				asked := 0
				var messages []string
				s := connect(t, url+path, true, &mcp.ClientOptions{
					ElicitationHandler: func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
						asked++
						messages = append(messages, r.Params.Message)
						return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "Ada"}}, nil
					},
					CreateMessageHandler: func(context.Context, *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
						return &mcp.CreateMessageResult{Model: "m", Role: "assistant", Content: &mcp.TextContent{Text: "said"}}, nil
					},
				})
				res := mcptest.Call(t, s, prefix+"elicit", map[string]any{"message": "who?", "rounds": 3}, nil)
				if res.IsError || asked != 3 || !strings.Contains(mcptest.Text(res), "Ada") {
					t.Errorf("asked %d times, got %s", asked, mcptest.Text(res))
				}
				want := "who? (1 of 3)"
				if path == "/mcp" {
					want = "[one] " + want
				}
				if len(messages) == 0 || messages[0] != want {
					t.Errorf("the client was shown %q, want %q", messages, want)
				}
				if res := mcptest.Call(t, s, prefix+"sample", map[string]any{"message": "say"}, nil); res.IsError || !strings.Contains(mcptest.Text(res), "said") {
					t.Errorf("sampling: %s", mcptest.Text(res))
				}
				if res := mcptest.Call(t, s, prefix+"roots", nil, nil); res.IsError {
					t.Errorf("roots: %s", mcptest.Text(res))
				}
				mute := connect(t, url+path, true, nil)
				if res, err := mute.CallTool(t.Context(), &mcp.CallToolParams{Name: prefix + "elicit"}); err == nil && !res.IsError {
					t.Errorf("a client that cannot be asked got %s", mcptest.Text(res))
				}
				idle(t, g)
			})
		}
	}
}

// TestParkedCallsInDetail looks at what goes over the wire.
func TestParkedCallsInDetail(t *testing.T) {
	srv := mcptest.NewServer(t, mcptest.Options{Name: "one"})
	cfg := downstream.DefaultConfig()
	cfg.URL = srv.HTTP(t).URL
	g, url := startSet(t, map[string]downstream.Config{"one": cfg}, func(s *Settings) { s.Gateway.Limits.InputRounds = 3 })
	c := rawCall{url: url + "/mcp"}
	args := map[string]any{"message": "who?", "rounds": 2}

	t.Run("comes back", func(t *testing.T) {
		first, _ := c.tool(t, "one__elicit", args, nil)
		one := back(t, first, accepted)
		if n := srv.Running("elicit"); n != 1 {
			t.Errorf("%d calls run at the server while the client is away, want 1", n)
		}
		// The same arguments in another order are the same arguments.
		second, no := c.tool(t, "one__elicit", json.RawMessage(`{ "rounds":2, "message":"who?" }`), one)
		two := back(t, second, accepted)
		if no != nil || bytes.Equal(wire.Get(second, "requestState"), wire.Get(first, "requestState")) {
			t.Errorf("second round: %s, error %s", second, no)
		}
		if _, no := c.tool(t, "one__elicit", args, one); wire.Get(no, "code") == nil {
			t.Error("a state was taken twice")
		}
		last, _ := c.tool(t, "one__elicit", args, two)
		if kind, _ := wire.GetString(last, "resultType"); kind != "complete" || !bytes.Contains(last, []byte("Ada")) {
			t.Errorf("got %s", last)
		}
		if n := srv.Calls("elicit"); n != 1 {
			t.Errorf("the server was called %d times", n)
		}
	})
	t.Run("asks again what was not answered", func(t *testing.T) {
		first, _ := c.tool(t, "one__elicit", map[string]any{"rounds": 1}, nil)
		more := back(t, first, accepted)
		more["inputResponses"] = map[string]any{"other": map[string]any{}}
		second, no := c.tool(t, "one__elicit", map[string]any{"rounds": 1}, more)
		if no != nil {
			t.Fatal(string(no))
		}
		if last, _ := c.tool(t, "one__elicit", map[string]any{"rounds": 1}, back(t, second, accepted)); asking(last) {
			t.Errorf("got %s", last)
		}
	})
	t.Run("too many rounds", func(t *testing.T) {
		many := map[string]any{"rounds": 9}
		res, _ := c.tool(t, "one__elicit", many, nil)
		for range 2 {
			res, _ = c.tool(t, "one__elicit", many, back(t, res, accepted))
		}
		if res, no := c.tool(t, "one__elicit", many, back(t, res, accepted)); !bytes.Contains(no, []byte("input_rounds")) {
			t.Errorf("got %s, error %s", res, no)
		}
		srv.AwaitRunning(t, "elicit", 0)
	})
	t.Run("cancelled while the server works", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			_, _, err := c.post(ctx, "tools/call", "one__slow", map[string]any{"name": "one__slow", "arguments": map[string]any{}})
			ended <- err
		}()
		srv.AwaitRunning(t, "slow", 1)
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		srv.AwaitCancelled(t, "slow", 1)
	})
	idle(t, g)
}

// TestRequestStateIsSealed brings states back that were changed, are old, are another user's, or belong to other arguments, from servers
// of both eras: one error, and no call.
func TestRequestStateIsSealed(t *testing.T) {
	eras(t, func(t *testing.T, modern bool) {
		srv := mcptest.NewServer(t, mcptest.Options{Name: "one"})
		other := mcptest.NewServer(t, mcptest.Options{Name: "two"})
		cfg, cfg2 := downstream.DefaultConfig(), downstream.DefaultConfig()
		if modern {
			cfg.URL, cfg2.URL = srv.Modern(t).URL, other.Modern(t).URL
		} else {
			cfg.URL, cfg2.URL = srv.HTTP(t).URL, other.HTTP(t).URL
		}
		tokens := []string{strings.Repeat("a", 20), strings.Repeat("b", 20)}
		g, url := startSet(t, map[string]downstream.Config{"one": cfg, "two": cfg2}, func(s *Settings) {
			for _, k := range tokens {
				s.Gateway.Tokens = append(s.Gateway.Tokens, telemetry.Secret(k))
			}
		})
		c := rawCall{url: url + "/mcp", token: tokens[0]}
		args := map[string]any{"message": "who?", "rounds": 1}
		first, _ := c.tool(t, "one__elicit", args, nil)
		good := back(t, first, accepted)
		state, _ := wire.GetString(first, "requestState")
		if strings.Contains(state, "1") && len(state) < 20 {
			t.Fatalf("the state is not sealed: %s", state)
		}
		calls := srv.Calls("elicit")
		with := func(state any) map[string]any {
			return map[string]any{"inputResponses": good["inputResponses"], "requestState": state}
		}
		flipped := []byte(state)
		flipped[len(flipped)/2] ^= 1
		old := g.sealState(&state0, "requestState")
		for name, try := range map[string]func() (json.RawMessage, json.RawMessage){
			"changed": func() (json.RawMessage, json.RawMessage) {
				return c.tool(t, "one__elicit", args, with(string(flipped)))
			},
			"cut": func() (json.RawMessage, json.RawMessage) {
				return c.tool(t, "one__elicit", args, with(state[:len(state)-3]))
			},
			"the server's": func() (json.RawMessage, json.RawMessage) { return c.tool(t, "one__elicit", args, with("1")) },
			"empty":        func() (json.RawMessage, json.RawMessage) { return c.tool(t, "one__elicit", args, with("")) },
			"no text":      func() (json.RawMessage, json.RawMessage) { return c.tool(t, "one__elicit", args, with(7)) },
			"expired":      func() (json.RawMessage, json.RawMessage) { return c.tool(t, "one__elicit", args, with(old)) },
			"other arguments": func() (json.RawMessage, json.RawMessage) {
				return c.tool(t, "one__elicit", map[string]any{"rounds": 1}, with(state))
			},
			"other tool":   func() (json.RawMessage, json.RawMessage) { return c.tool(t, "one__sample", args, with(state)) },
			"other server": func() (json.RawMessage, json.RawMessage) { return c.tool(t, "two__elicit", args, with(state)) },
			"other user": func() (json.RawMessage, json.RawMessage) {
				return rawCall{url: c.url, token: tokens[1]}.tool(t, "one__elicit", args, with(state))
			},
		} {
			res, no := try()
			if code := string(wire.Get(no, "code")); code != "-32602" || !bytes.Contains(no, []byte("The server was not asked")) {
				t.Errorf("%s: got %s, error %s", name, res, no)
			}
		}
		if n := srv.Calls("elicit") + srv.Calls("sample") + other.Calls("elicit"); n != calls {
			t.Errorf("the servers were called %d times more", n-calls)
		}
		if last, no := c.tool(t, "one__elicit", args, good); !bytes.Contains(last, []byte("Ada")) {
			t.Errorf("the right one: got %s, error %s", last, no)
		}
	})
}

var state0 = state{kind: ofServer, expires: time.Unix(1, 0)}

// TestSealingKeysChange gives out a state with one key, and takes it back when another one seals.
func TestSealingKeysChange(t *testing.T) {
	cfg := served(t, "one", true)
	downs := map[string]downstream.Config{"one": cfg}
	k1, k2 := strings.Repeat("1", 32), strings.Repeat("2", 32)
	keys := func(k ...string) func(*Settings) {
		return func(s *Settings) {
			for _, one := range k {
				s.Gateway.SealingKeys = append(s.Gateway.SealingKeys, telemetry.Secret(one))
			}
		}
	}
	_, url := startSet(t, downs, keys(k1))
	_, replica := startSet(t, downs, keys(k2, k1))
	_, stranger := startSet(t, downs, keys(k2))
	args := map[string]any{"rounds": 1}
	first, _ := rawCall{url: url + "/mcp"}.tool(t, "one__elicit", args, nil)
	if res, no := (rawCall{url: stranger + "/mcp"}).tool(t, "one__elicit", args, back(t, first, accepted)); no == nil {
		t.Errorf("opened without the key: %s", res)
	}
	if res, no := (rawCall{url: replica + "/mcp"}).tool(t, "one__elicit", args, back(t, first, accepted)); no != nil || asking(res) {
		t.Errorf("not opened with the key: %s, %s", res, no)
	}
}

// TestParkingIsBounded parks as many calls as one client may, and as all may.
func TestParkingIsBounded(t *testing.T) {
	srv := mcptest.NewServer(t, mcptest.Options{Name: "one"})
	cfg := downstream.DefaultConfig()
	cfg.URL = srv.HTTP(t).URL
	tokens := []string{strings.Repeat("a", 20), strings.Repeat("b", 20), strings.Repeat("c", 20)}
	g, url := startSet(t, map[string]downstream.Config{"one": cfg}, func(s *Settings) {
		s.Gateway.Limits.Parked, s.Gateway.Limits.ParkedPerClient, s.Gateway.Timeouts.Input = 3, 2, time.Second
		for _, k := range tokens {
			s.Gateway.Tokens = append(s.Gateway.Tokens, telemetry.Secret(k))
		}
	})
	for i, want := range []string{"", "", "parked_per_client", "", "limits.parked)"} {
		c := rawCall{url: url + "/mcp", token: tokens[[]int{0, 0, 0, 1, 2}[i]]}
		res, no := c.tool(t, "one__elicit", map[string]any{"rounds": 1}, nil)
		if want == "" && !asking(res) || want != "" && !strings.Contains(string(res)+string(no), want) {
			t.Errorf("call %d: got %s, error %s, want %q", i, res, no, want)
		}
	}
	srv.AwaitCancelled(t, "elicit", 3) // they do not come back
	idle(t, g)
}

// TestDrainGivesParkedCallsUp ends a gateway while clients are away.
func TestDrainGivesParkedCallsUp(t *testing.T) {
	srv := mcptest.NewServer(t, mcptest.Options{Name: "one"})
	cfg := downstream.DefaultConfig()
	cfg.URL = srv.HTTP(t).URL
	g, url := start(t, map[string]downstream.Config{"one": cfg})
	res, _ := rawCall{url: url + "/mcp"}.tool(t, "one__elicit", map[string]any{"rounds": 1}, nil)
	back(t, res, accepted)
	if err := g.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	srv.AwaitCancelled(t, "elicit", 1)
	idle(t, g)
}

// asksFor serves a server of an older revision whose tool ask does what f says.
func asksFor(t *testing.T, f func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error)) downstream.Config {
	t.Helper()
	s := mcp.NewServer(&mcp.Implementation{Name: "one", Version: "1"}, nil)
	s.AddTool(&mcp.Tool{Name: "ask", InputSchema: json.RawMessage(`{"type":"object"}`)}, f)
	return serveSDK(t, s, false)
}

// TestSeveralQuestionsAtOnce has a server ask three things at the same time.
func TestSeveralQuestionsAtOnce(t *testing.T) {
	cfg := asksFor(t, func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		var wg sync.WaitGroup
		var got atomic.Int32
		for range 3 {
			wg.Go(func() {
				if a, err := r.Session.Elicit(ctx, &mcp.ElicitParams{Message: "m", RequestedSchema: json.RawMessage(`{"type":"object","properties":{}}`)}); err == nil && a.Action == "accept" {
					got.Add(1)
				}
			})
		}
		wg.Wait()
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprint(got.Load(), " answers")}}}, nil
	})
	_, url := start(t, map[string]downstream.Config{"one": cfg})
	c := rawCall{url: url + "/mcp"}
	res, _ := c.tool(t, "one__ask", map[string]any{}, nil)
	rounds := 0
	for ; asking(res) && rounds < 4; rounds++ {
		res, _ = c.tool(t, "one__ask", map[string]any{}, back(t, res, `{"action":"accept","content":{}}`))
	}
	if !bytes.Contains(res, []byte("3 answers")) || rounds > 3 {
		t.Errorf("after %d rounds: %s", rounds, res)
	}
}

// TestProgressAroundQuestions reports progress before and after a question, under the token that the client has then.
func TestProgressAroundQuestions(t *testing.T) {
	cfg := asksFor(t, func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		token := r.Params.GetProgressToken()
		if err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: 1, Message: "before"}); err != nil {
			return nil, err
		}
		if _, err := r.Session.Elicit(ctx, &mcp.ElicitParams{Message: "m", RequestedSchema: json.RawMessage(`{"type":"object","properties":{}}`)}); err != nil {
			return nil, err
		}
		err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: 2, Message: "after"})
		return &mcp.CallToolResult{Content: []mcp.Content{}}, err
	})
	_, url := start(t, map[string]downstream.Config{"one": cfg})
	var mu sync.Mutex
	var seen []string
	s := connect(t, url+"/mcp", true, &mcp.ClientOptions{
		ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{}}, nil
		},
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, fmt.Sprint(r.Params.ProgressToken, r.Params.Message))
		},
	})
	p := &mcp.CallToolParams{Name: "one__ask"}
	p.SetProgressToken("mine ")
	if _, err := s.CallTool(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		mu.Lock()
		got := strings.Join(seen, ",")
		mu.Unlock()
		if got == "mine before,mine after" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %q", got)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// TestPagesToVisit has an older server that wants a page visited: as a question, and as error -32042.
func TestPagesToVisit(t *testing.T) {
	var visited atomic.Bool
	cfg := asksFor(t, func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		if strings.Contains(string(r.Params.Arguments), "error") {
			if !visited.Load() {
				return nil, mcp.URLElicitationRequiredError([]*mcp.ElicitParams{{Mode: "url", Message: "log in", URL: "https://example.net/login", ElicitationID: "e1"}})
			}
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "logged in"}}}, nil
		}
		a, err := r.Session.Elicit(ctx, &mcp.ElicitParams{Mode: "url", Message: "log in", URL: "https://example.net/login", ElicitationID: "e1"})
		if err != nil {
			return nil, err
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: a.Action}}}, nil
	})
	_, url := start(t, map[string]downstream.Config{"one": cfg})
	c := rawCall{url: url + "/mcp"}
	for _, how := range []string{"question", "error"} {
		args := map[string]any{"how": how}
		res, no := c.tool(t, "one__ask", args, nil)
		if !bytes.Contains(res, []byte(`"mode":"url"`)) || !bytes.Contains(res, []byte(`[one] log in`)) || bytes.Contains(res, []byte("elicitationId")) {
			t.Fatalf("%s: got %s, error %s", how, res, no)
		}
		visited.Store(true)
		if res, no := c.tool(t, "one__ask", args, back(t, res, `{"action":"accept"}`)); no != nil || asking(res) {
			t.Errorf("%s: got %s, error %s", how, res, no)
		}
		visited.Store(false)
		if how == "error" {
			res, _ := c.tool(t, "one__ask", args, nil)
			if res, no := c.tool(t, "one__ask", args, back(t, res, `{"action":"decline"}`)); !bytes.Contains(no, []byte("did not agree")) {
				t.Errorf("declined: got %s, error %s", res, no)
			}
		}
		forms := rawCall{url: c.url, caps: `{"elicitation":{}}`}
		if res, no := forms.tool(t, "one__ask", args, nil); asking(res) {
			t.Errorf("%s: a client that only has forms was asked: %s %s", how, res, no)
		}
	}
}

// TestForbidden forbids questions: servers are told why, clients are not asked, and no circuit minds.
func TestForbidden(t *testing.T) {
	eras(t, func(t *testing.T, serverModern bool) {
		cfg := served(t, "one", serverModern)
		cfg.Forbid = downstream.Forbid{Sampling: true, Elicitation: true, Roots: true}
		g, url := start(t, map[string]downstream.Config{"one": cfg})
		for _, clientModern := range []bool{false, true} {
			s := connect(t, url+"/mcp", clientModern, &mcp.ClientOptions{
				ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
					t.Error("the user was asked")
					return &mcp.ElicitResult{Action: "decline"}, nil
				},
				CreateMessageHandler: func(context.Context, *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
					t.Error("the model was asked")
					return nil, errors.New("no")
				},
			})
			for range 12 {
				for _, tool := range []string{"elicit", "sample", "roots"} {
					if res, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "one__" + tool}); err == nil && !res.IsError {
						t.Errorf("%s: got %s", tool, mcptest.Text(res))
					}
				}
			}
			if st := g.Status(); st.Circuits[0].State != "closed" {
				t.Errorf("the circuit is %v", st.Circuits[0].State)
			}
		}
	})
}

// TestNobodyElseIsTold shows what a server is told of clients that can do different things.
func TestNobodyElseIsTold(t *testing.T) {
	for _, session := range []string{"auto", "shared"} {
		cfg := asksFor(t, func(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			told := r.Session.InitializeParams().Capabilities
			b, _ := json.Marshal(map[string]any{"roots": told.RootsV2, "sampling": told.Sampling, "elicitation": told.Elicitation})
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: string(b)}}}, nil
		})
		cfg.Session = session
		_, url := start(t, map[string]downstream.Config{"one": cfg})
		for caps, want := range map[string]string{
			`{}`:                                   `{"elicitation":null,"roots":null,"sampling":null}`,
			`{"elicitation":{}}`:                   `{"elicitation":{"form":{}},"roots":null,"sampling":null}`,
			`{"elicitation":{"url":{}}}`:           `{"elicitation":{"url":{}},"roots":null,"sampling":null}`,
			`{"roots":{},"sampling":{"tools":{}}}`: `{"elicitation":null,"roots":{},"sampling":{"tools":{}}}`,
		} {
			res, no := rawCall{url: url + "/mcp", caps: caps}.tool(t, "one__ask", map[string]any{}, nil)
			var content string
			wire.Elements(wire.Get(res, "content"), func(v json.RawMessage) bool { content, _ = wire.GetString(v, "text"); return true })
			if content != want {
				t.Errorf("%s: of a client with %s the server was told %s, want %s (%s)", session, caps, content, want, no)
			}
		}
	}
}
