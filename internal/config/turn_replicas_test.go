package config

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/gateway"
	"github.com/mcpgw/mcpgw/internal/mcptest"
)

const twice = `
resilience:
  defaults:
    retry: { enabled: false }
    classification: { trust_annotations: true }
downstreams:
  a: { urls: ["${A}", "${B}"], replicas: { eject_after: 2, eject_for: 1h, eject_max: 1h } }
`

func endpoint(t *testing.T, g *gateway.Gateway, url string) gateway.EndpointStatus {
	t.Helper()
	for _, e := range g.Status().Downstreams[0].Endpoints {
		if e.URL == url {
			return e
		}
	}
	t.Fatalf("no endpoint %s in %+v", url, g.Status().Downstreams[0].Endpoints)
	return gateway.EndpointStatus{}
}

// both waits until a modern server's endpoints can both be used.
func both(t *testing.T, g *gateway.Gateway, urls ...string) {
	t.Helper()
	deadline := time.After(mcptest.Patience)
	for _, u := range urls {
		for endpoint(t, g, u).Sessions == 0 {
			select {
			case <-deadline:
				t.Fatalf("%s was not opened: %+v", u, g.Status().Downstreams[0].Endpoints)
			case <-time.After(time.Millisecond):
			}
		}
	}
}

// TestReplicasShareTheCalls: each call goes to the endpoint that waits for the fewest.
func TestReplicasShareTheCalls(t *testing.T) {
	a, b := newMoody(t), newMoody(t)
	g := run(t, twice, "A", a.URL, "B", b.URL)
	both(t, g.Gateway, a.URL, b.URL)
	var wg sync.WaitGroup
	for range 2 { // one of them waits at each
		wg.Go(func() { g.tool(t, "a__slow", `{}`) })
	}
	a.AwaitRunning(t, "slow", 1)
	b.AwaitRunning(t, "slow", 1)
	a.Release()
	deadline := time.After(mcptest.Patience)
	for a.Running("slow") > 0 || endpoint(t, g.Gateway, a.URL).InFlight > 0 {
		select {
		case <-deadline:
			t.Fatal("the call did not end")
		case <-time.After(time.Millisecond):
		}
	}
	for range 6 {
		g.tool(t, "a__echo", `{}`)
	}
	if a.Calls("echo") != 6 || b.Calls("echo") != 0 {
		t.Errorf("a got %d, b %d of 6 calls, while b was busy", a.Calls("echo"), b.Calls("echo"))
	}
	b.Release()
	wg.Wait()
	for range 20 {
		g.tool(t, "a__echo", `{}`)
	}
	if b.Calls("echo") < 5 {
		t.Errorf("b got %d of 20 calls while both were idle", b.Calls("echo"))
	}
}

// TestReplicasFailOver: a call that was not sent, or that does no harm twice, goes to another endpoint; one that may have been executed
// does not. An endpoint that keeps failing is ejected, which the status shows, until too many are.
func TestReplicasFailOver(t *testing.T) {
	a, b := newMoody(t), newMoody(t)
	g := run(t, twice, "A", a.URL, "B", b.URL)
	both(t, g.Gateway, a.URL, b.URL)
	a.disturb(mcptest.Status(http.StatusInternalServerError, "broken"))
	for i := range 8 {
		if r := g.tool(t, "a__echo", `{}`); r.Result.IsError || r.Error != nil {
			t.Fatalf("call %d that reads only: %+v", i, r)
		}
	}
	b.disturb(mcptest.Status(http.StatusInternalServerError, "broken"))
	was := a.calls.Load() + b.calls.Load()
	if r := g.tool(t, "a__write", `{}`); !r.Result.IsError || !strings.Contains(r.text(), "executed=unknown") {
		t.Errorf("got %+v", r)
	}
	if got := a.calls.Load() + b.calls.Load() - was; got != 1 {
		t.Errorf("a call that may change something arrived %d times", got)
	}
	if r := g.tool(t, "a__echo", `{}`); !r.Result.IsError {
		t.Errorf("got %+v", r)
	}
	if got := a.calls.Load() + b.calls.Load() - was; got != 3 {
		t.Errorf("a call that reads only arrived %d times", got-1)
	}
	b.disturb(nil)
	g.tool(t, "a__echo", `{}`)
	a.Stop()
	deadline := time.After(mcptest.Patience)
	for endpoint(t, g.Gateway, a.URL).State != "ejected" {
		select {
		case <-deadline:
			t.Fatalf("not ejected: %+v", endpoint(t, g.Gateway, a.URL))
		case <-time.After(10 * time.Millisecond):
			g.tool(t, "a__write", `{}`)
		}
	}
	e := endpoint(t, g.Gateway, a.URL)
	if e.RetryAfterMS == nil || *e.RetryAfterMS < 3_000_000 || e.LastError == nil {
		t.Errorf("got %+v", e)
	}
	if st := g.Status(); !strings.Contains(st.Text(), "endpoint "+a.URL+": ejected for ") || len(st.Circuits) != 1 || st.Circuits[0].State != "closed" {
		t.Errorf("status: %s", st.Text())
	}
	for range 5 {
		if r := g.tool(t, "a__write", `{}`); r.Result.IsError || r.Error != nil {
			t.Fatalf("a write with one endpoint ejected: %+v %+v", r.Error, r)
		}
	}
	// A reload that changes something else, and one that adds an endpoint, keep what is known.
	c := newMoody(t)
	more := strings.Replace(twice, `"${B}"]`, `"${B}", "${C}"]`, 1)
	if _, err := g.Apply(t.Context(), parse(t, more, "A", a.URL, "B", b.URL, "C", c.URL).Settings); err != nil {
		t.Fatal(err)
	}
	if e := endpoint(t, g.Gateway, a.URL); e.State != "ejected" || g.Status().Circuits[0].Totals.Successes == 0 {
		t.Errorf("after a reload: %+v, circuit %+v", e, g.Status().Circuits[0])
	}
}

// TestReplicaPanicThreshold: when too many endpoints are ejected, all are tried again.
func TestReplicaPanicThreshold(t *testing.T) {
	three := strings.Replace(twice, `"${B}"]`, `"${B}", "${C}"]`, 1)
	for threshold, want := range map[string]int{"0.5": 3, "0.7": 1} {
		servers := []*moody{newMoody(t), newMoody(t), newMoody(t)}
		urls := []string{servers[0].URL, servers[1].URL, servers[2].URL}
		g := run(t, strings.Replace(three, "eject_after: 2", "eject_after: 1, panic_threshold: "+threshold, 1), "A", urls[0], "B", urls[1], "C", urls[2])
		both(t, g.Gateway, urls...)
		for i, s := range servers[:2] { // eject these
			s.disturb(mcptest.Status(http.StatusInternalServerError, ""))
			deadline := time.After(mcptest.Patience)
			for endpoint(t, g.Gateway, urls[i]).State != "ejected" {
				select {
				case <-deadline:
					t.Fatal("not ejected")
				default:
					g.tool(t, "a__echo", `{}`)
				}
			}
		}
		for _, s := range servers {
			s.disturb(nil)
		}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { g.tool(t, "a__slow", `{}`) })
		}
		running := func() (n, used int) {
			for _, s := range servers {
				n += s.Running("slow")
				used += min(s.Running("slow"), 1)
			}
			return n, used
		}
		deadline := time.After(mcptest.Patience)
		for n, _ := running(); n < 3; n, _ = running() {
			select {
			case <-deadline:
				t.Fatalf("%d of 3 calls run", n)
			case <-time.After(time.Millisecond):
			}
		}
		if _, used := running(); used != want {
			t.Errorf("threshold %s: %d endpoints were used, want %d", threshold, used, want)
		}
		for _, s := range servers {
			s.Release()
		}
		wg.Wait()
	}
}

// TestReplicasKeepSessions: a session of an older revision stays with its endpoint while that works, and the next one goes elsewhere.
func TestReplicasKeepSessions(t *testing.T) {
	servers := [2]*mcptest.Server{}
	ends := [2]*mcptest.Endpoint{}
	for i := range servers {
		s := mcptest.NewServer(t, mcptest.Options{Bare: true, Revisions: []string{"2025-06-18"}})
		servers[i] = s
		ends[i] = mcptest.Serve(t, func() http.Handler {
			return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s.Server }, nil)
		})
	}
	g := run(t, strings.Replace(twice, "retry: { enabled: false }", "retry: { initial_delay: 1ms }", 1), "A", ends[0].URL, "B", ends[1].URL)
	client := func() *mcp.ClientSession {
		return mcptest.Connect(t, &mcp.StreamableClientTransport{Endpoint: g.url, MaxRetries: -1}, "2025-06-18", nil)
	}
	one, two := client(), client()
	for range 5 {
		mcptest.Call(t, one, "a__echo", map[string]int{}, nil)
		mcptest.Call(t, two, "a__echo", map[string]int{}, nil)
	}
	at := [2]int{servers[0].Calls("echo"), servers[1].Calls("echo")}
	if at != [2]int{5, 5} {
		t.Fatalf("two sessions of 5 calls each made %v at the endpoints", at)
	}
	ends[0].Stop()
	for range 3 {
		mcptest.Call(t, one, "a__write", map[string]int{}, nil)
		mcptest.Call(t, two, "a__write", map[string]int{}, nil)
	}
	if n := servers[1].Calls("write"); n != 6 {
		t.Errorf("6 calls after one endpoint went away made %d at the other", n)
	}
}

// TestReplicaFaults: what cannot work is refused, at the key and line where it stands.
func TestReplicaFaults(t *testing.T) {
	for text, want := range map[string]string{
		`{ urls: [] }`: `expected one of command, url, urls or preset`,
		`{ url: "http://x", urls: ["http://y"] }`:                              `expected only one of command, url, urls or preset`,
		`{ urls: ["http://x", "http://x"] }`:                                   `downstreams.a.urls[1]: this endpoint is in the list already`,
		`{ urls: ["ftp://x"] }`:                                                `downstreams.a.urls[0]: expected http:// or https://`,
		`{ urls: ["http://x"], replicas: { eject_after: 0 } }`:                 `replicas.eject_after: must be at least 1`,
		`{ urls: ["http://x"], replicas: { panic_threshold: 2 } }`:             `replicas.panic_threshold: must be from 0 to 1`,
		`{ urls: ["http://x"], replicas: { eject_for: 10m } }`:                 `replicas.eject_for: must be more than 0 and not longer than replicas.eject_max (5m0s)`,
		`{ urls: ["http://x"], replicas: { eject_for: 30s, eject_max: 10s } }`: `replicas.eject_for: must be more than 0 and not longer`,
	} {
		_, err := Parse("f", []byte("downstreams:\n  a: "+text+"\n"), env())
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "f:2:") {
			t.Errorf("%s\n\tgot  %v\n\twant %s", text, err, want)
		}
	}
}
