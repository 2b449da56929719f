package integration

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
	"github.com/mcpgw/mcpgw/internal/mcptest"
)

// memoryBound is what the gateway may hold while a server sends it the worst, which is several messages of 16 MiB at the same time. The
// race detector needs about five times what the program itself needs.
const memoryBound = 200 << 20

// answers says how calls to the tools of a hostile server must come out.
var answers = map[string]string{
	"good": "result", "wrong_id": "result", "twice": "result", "surrogate": "result", "spam": "result", "ask": "result",
	"line": "error", "utf8": "error", "duplicate": "error", "case": "error", "deep": "error", "both": "error",
	// Whether lines that are no messages come before the answer or instead of it differs by transport, and whether a result that is no
	// object is one may be judged either way. One clear outcome is wanted.
	"junk": "either", "number": "either",
	"flood": "silence", "never": "silence",
}

// TestHostileServer puts a server that says the worst beside a good one. Each bad answer must become one clear error, the good server must
// not notice, and memory must stay bounded. Bar 11 of issue 2.
func TestHostileServer(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"http", "stdio"} {
		for _, list := range []string{"", "schemas", "line", "utf8", "duplicate", "cursor", "clash", "never"} {
			t.Run(transport+", list "+list, func(t *testing.T) {
				t.Parallel()
				good := httptest.NewServer(corpusServer(true))
				t.Cleanup(good.Close)
				mark := fmt.Sprintf("%s-%d", t.Name(), os.Getpid())
				var bad string
				if transport == "http" {
					bad = "url: '" + mcptest.Hostile(list).HTTP(t).URL + "'"
				} else {
					bad = fmt.Sprintf("command: '%s', args: [-mode, hostile, -list, '%s'], env: { %s: '%s' }", program(t, harness.TestServer), list, markEnv, mark)
				}
				gw := startGateway(t, fmt.Sprintf("gateway: { listen: LISTEN }\ndownstreams:\n  good: { url: '%s/mcp' }\n  bad: { %s }\n", good.URL, bad))
				c := connect(t, gw, "/mcp", true, "good__echo")
				switch list {
				case "", "schemas", "clash":
					// One bad item costs that item, not the others. Of two tools of one name neither may be guessed.
					eventually(t, 10*time.Second, "the server's good tools", func() error { return has(t.Context(), c, "bad__never") })
				case "line", "utf8", "duplicate", "cursor", "never":
					// These lists cannot be read to their end, so they say nothing that can be relied on.
				}
				if list == "" {
					testHostileTools(t, gw, c)
				}
				if err := callText(deadline(t, 2*time.Second), c, "good__echo"); err != nil {
					t.Errorf("the good server: %v", err)
				}
				status, err := c.Request(deadline(t, time.Second), "tools/call", "circuit_status", c.Params(`"name":"circuit_status","arguments":{}`, ""))
				if err != nil {
					t.Fatal(err)
				}
				if parse(status).IsError {
					t.Errorf("circuit_status: %s", status)
				}
				checkMemory(t, gw)
			})
		}
	}
}

func checkMemory(t *testing.T, gw *harness.Server) {
	t.Helper()
	n, bound := rss(t, gw.PID()), int64(memoryBound)
	if len(buildFlags) > 0 {
		bound *= 5
	}
	t.Logf("the gateway holds %d MB", n>>20)
	if n > bound {
		t.Errorf("the gateway holds %d MB, want at most %d MB", n>>20, bound>>20)
	}
}

func testHostileTools(t *testing.T, gw *harness.Server, c *harness.Client) {
	t.Helper()
	for _, tool := range mcptest.HostileNames {
		want, ok := answers[tool]
		if !ok {
			t.Errorf("the tool %s is new: say in this test how it must come out", tool)
			continue
		}
		limit := 10 * time.Second
		if want == "silence" {
			limit = time.Second
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		name := "bad__" + tool
		var last harness.Message
		progress := 0
		err := c.Stream(ctx, `{"jsonrpc":"2.0","id":"x","method":"tools/call","params":`+c.Params(`"name":"`+name+`","arguments":{}`, `"progressToken":7`)+`}`,
			"tools/call", name, func(m harness.Message) {
				if m.Method != "" {
					progress++
					return
				}
				last = m
			})
		cancel()
		switch {
		case want == "silence":
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: got an answer, want none until the client gives up: %v %s %s", tool, err, last.Result, last.Error)
			}
			t.Logf("%s: %d notifications until the client gave up", tool, progress)
		case err != nil:
			t.Errorf("%s: %v", tool, err)
		case string(last.ID) != `"x"`:
			t.Errorf("%s: the answer has the id %s", tool, last.ID)
		case want == "result" && (last.Error != nil || isError(last.Result)):
			t.Errorf("%s: got an error, want the result: %.300s%s", tool, last.Result, last.Error)
		case want == "error" && last.Error == nil && !isError(last.Result):
			t.Errorf("%s: got a result, want an error: %.300s", tool, last.Result)
		default:
			t.Logf("%s: %.220s%.200s", tool, text0(last), last.Error)
		}
		// Whatever it was, it is over: the same server works again at once.
		eventually(t, 2*time.Second, "the hostile server's good tool after "+tool, func() error { return callText(deadline(t, 2*time.Second), c, "bad__good") })
		if err := callText(deadline(t, time.Second), c, "good__echo"); err != nil {
			t.Errorf("after %s, the other server: %v", tool, err)
		}
		checkMemory(t, gw)
	}
}

func text0(m harness.Message) string {
	if r := parse(m.Result); len(r.Content) > 0 {
		return r.Content[0].Text
	}
	return string(m.Result)
}

// TestEndlessProgress lets eight calls report progress without end, of which nobody reads more than the beginning. The gateway must not keep
// what is not read, and others must not wait.
func TestEndlessProgress(t *testing.T) {
	t.Parallel()
	up := httptest.NewServer(corpusServer(true))
	t.Cleanup(up.Close)
	mark := fmt.Sprintf("%s-%d", t.Name(), os.Getpid())
	gw := startGateway(t, fmt.Sprintf("gateway: { listen: LISTEN }\ndownstreams:\n  http: { url: '%s/mcp' }\n  stdio: %s\n  other: { url: '%s/mcp' }\n",
		up.URL, stdioServer(t, 0, mark), up.URL))
	c := connect(t, gw, "/mcp", true, "http__endless", "stdio__endless", "other__echo")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	entered := make(chan struct{})
	tools := slices.Repeat([]string{"http__endless", "stdio__endless"}, 4)
	for _, tool := range tools {
		go func() {
			first := true
			ended <- c.Stream(ctx, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":`+c.Params(`"name":"`+tool+`","arguments":{}`, `"progressToken":1`)+`}`,
				"tools/call", tool, func(harness.Message) {
					if first {
						entered <- struct{}{}
						<-ctx.Done() // reads no more
					}
					first = false
				})
		}()
	}
	for range tools {
		select {
		case <-entered:
		case err := <-ended:
			t.Fatalf("a call ended at once: %v", err)
		}
	}
	for range 100 { // meanwhile the servers go on
		start := time.Now()
		if err := callText(deadline(t, 5*time.Second), c, "other__echo"); err != nil {
			t.Fatalf("another server: %v", err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("another server was held up for %s", took)
		}
	}
	checkMemory(t, gw)
	cancel()
	for range tools {
		<-ended
	}
}
