package config

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// changing is a server that becomes another one without telling: its tool wants an argument in a header, or it speaks an older revision.
type changing struct {
	mu      sync.Mutex
	marked  bool // the tool wants its argument in a header
	older   bool // only 2025-11-25 is spoken
	calls   int  // that were executed
	lists   int
	refused int
}

func (s *changing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	m, err := wire.Parse(body, 100)
	if r.Method != http.MethodPost || err != nil {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	say := func(status int, format string, args ...any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,`+format+`}`, append([]any{m.ID}, args...)...)
	}
	modern := r.Header.Get("Mcp-Protocol-Version") == "2026-07-28"
	switch {
	case !m.IsRequest():
		w.WriteHeader(http.StatusAccepted)
	case s.older && modern:
		s.refused++
		say(400, `"error":{"code":-32022,"message":"unsupported","data":{"supported":["2025-11-25"],"requested":"2026-07-28"}}`)
	case m.Method == "server/discover":
		say(200, `"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"private"}`)
	case m.Method == "initialize":
		say(200, `"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"x","version":"1"}}`)
	case m.Method == "tools/list":
		s.lists++
		mark := ""
		if s.marked {
			mark = `,"x-mcp-header":"Region"`
		}
		say(200, `"result":{"resultType":"complete","ttlMs":0,"cacheScope":"private","tools":[{"name":"order","inputSchema":{"type":"object","properties":{"region":{"type":"string"%s}}}}]}`, mark)
	case m.Method == "tools/call" && s.marked && modern && r.Header.Get("Mcp-Param-Region") != "north":
		s.refused++
		say(400, `"error":{"code":-32020,"message":"Header mismatch: Mcp-Param-Region is missing"}`)
	case m.Method == "tools/call":
		s.calls++
		say(200, `"result":{"resultType":"complete","content":[{"type":"text","text":"done"}]}`)
	default:
		say(404, `"error":{"code":-32601,"message":"not known"}`)
	}
}

// TestWhatIsOutdatedIsRenewed: a server that refuses the headers of a call, or the revision of the session, did not act. What the gateway
// knows of it is read again, and the call is made once more, writes included.
func TestWhatIsOutdatedIsRenewed(t *testing.T) {
	for name, change := range map[string]func(*changing){
		"headers":  func(s *changing) { s.marked = true },
		"revision": func(s *changing) { s.older = true },
	} {
		t.Run(name, func(t *testing.T) {
			s := &changing{}
			srv := httptest.NewServer(s)
			t.Cleanup(srv.Close)
			g := run(t, `downstreams: { a: { url: "${A}/mcp", restart: { healthy_after: 1ms } } }`, "A", srv.URL)
			if r := g.tool(t, "a__order", `{"region":"north"}`); r.text() != "done" {
				t.Fatalf("before: %+v", r)
			}
			s.mu.Lock()
			change(s)
			s.mu.Unlock()
			r := g.tool(t, "a__order", `{"region":"north"}`)
			s.mu.Lock()
			defer s.mu.Unlock()
			if r.text() != "done" || s.calls != 2 || s.refused == 0 {
				t.Errorf("after: %+v %+v; executed %d times, refused %d times", r, r.Error, s.calls, s.refused)
			}
		})
	}
}

// TestRefusalsThatStayAreTold: a server that refuses the call again is not asked a third time, and its answer reaches the client.
func TestRefusalsThatStayAreTold(t *testing.T) {
	s := &changing{}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	g := run(t, `downstreams: { a: { url: "${A}/mcp" } }`, "A", srv.URL)
	s.mu.Lock()
	s.marked = true
	s.mu.Unlock()
	for range 3 {
		if r := g.tool(t, "a__order", `{"region":"south"}`); r.Error == nil || r.Error.Code != -32020 {
			t.Fatalf("%+v", r)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused > 2*3 || s.lists != 2 || s.calls != 0 {
		t.Errorf("refused %d times, listed %d times", s.refused, s.lists)
	}
}

// TestLogLevelsAreToldSideBySide: a server that hangs does not keep the others from hearing of a log level.
func TestLogLevelsAreToldSideBySide(t *testing.T) {
	hang := make(chan struct{})
	told := make(chan string, 4)
	older := func(name string, wait <-chan struct{}) string {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			m, _ := wire.Parse(body, 100)
			switch {
			case r.Method != http.MethodPost:
				w.WriteHeader(http.StatusMethodNotAllowed)
				return
			case !m.IsRequest():
				w.WriteHeader(http.StatusAccepted)
				return
			case m.Method == "server/discover":
				w.WriteHeader(http.StatusNotFound)
				return
			}
			result := `{"tools":[]}`
			switch m.Method {
			case "initialize":
				result = `{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"logging":{}},"serverInfo":{"name":"x","version":"1"}}`
			case "logging/setLevel":
				told <- name
				select {
				case <-wait:
				case <-r.Context().Done():
				}
				result = `{}`
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result)
		}))
		t.Cleanup(srv.Close)
		return srv.URL
	}
	a, b := older("a", hang), older("b", hang)
	g := run(t, `downstreams: { a: { url: "${A}/mcp", session: shared }, b: { url: "${B}/mcp", session: shared } }`, "A", a, "B", b)
	c := g.older(t)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		c.post(t, "logging/setLevel", `{"level":"error"}`)
	}()
	for range 2 { // both have been told although neither has answered
		select {
		case <-told:
		case <-time.After(5 * time.Second):
			t.Fatal("one of the servers was not told while the other hung")
		}
	}
	close(hang)
	<-answered
}
