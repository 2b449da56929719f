package integration

import (
	"fmt"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// TestSameIDsAndTokens lets 20 clients use the same ids and the same progress tokens at the same time, on servers that hold all the
// calls until the last has come. Each must get its own progress, in order and before its own answer. Bar 9 of issue 2.
func TestSameIDsAndTokens(t *testing.T) {
	t.Parallel()
	const clients, rounds, steps = 20, 3, 5
	for _, serverModern := range []bool{false, true} {
		up := httptest.NewServer(corpusServer(serverModern))
		t.Cleanup(up.Close)
		mark := fmt.Sprintf("%s-%d-%t", t.Name(), os.Getpid(), serverModern)
		gw := startGateway(t, fmt.Sprintf("gateway: { listen: LISTEN }\n"+
			"downstreams:\n  http: { url: '%s/mcp' }\n  stdio: %s\n", up.URL, stdioServer(t, 0, mark)))
		for _, clientModern := range []bool{false, true} {
			for _, tool := range []string{"http__together", "stdio__together"} {
				if serverModern && tool == "stdio__together" {
					continue // that server is legacy in both
				}
				name := fmt.Sprintf("server %s, client %s, %s", era(serverModern), era(clientModern), tool)
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					var wg sync.WaitGroup
					for n := range clients {
						c := connect(t, gw, "/mcp", clientModern, tool)
						wg.Go(func() {
							for round := range rounds {
								if err := together(t, c, tool, fmt.Sprintf("client-%d", n), fmt.Sprintf("%s-%d", name, round), clients, steps); err != nil {
									t.Errorf("client %d, round %d: %v", n, round, err)
									return
								}
							}
						})
					}
					wg.Wait()
				})
			}
		}
	}
}

// together makes one call with the id 1 and the token "t" and checks that all that comes is its own and in order.
func together(t *testing.T, c *harness.Client, tool, who, round string, of, steps int) error {
	t.Helper()
	params := c.Params(fmt.Sprintf(`"name":%q,"arguments":{"who":%q,"round":%q,"of":%d,"steps":%d}`, tool, who, round, of, steps), `"progressToken":"t"`)
	all, err := c.Send(deadline(t, 30*time.Second), "1", "tools/call", tool, params)
	if err != nil {
		return err
	}
	var got, want []string
	for _, m := range all[:len(all)-1] {
		got = append(got, m.Method+" "+string(m.Params))
	}
	// The gateway may show a sign of life of its own before the server says anything.
	got = slices.DeleteFunc(got, func(s string) bool { return !strings.Contains(s, `"client-`) })
	for n := range steps {
		want = append(want, fmt.Sprintf(`notifications/progress {"progressToken":"t","progress":%d,"message":"%s %d"}`, n+1, who, n+1))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		return fmt.Errorf("progress (-want +got):\n%s", diff)
	}
	last := all[len(all)-1]
	r := parse(last.Result)
	if string(last.ID) != "1" || r.IsError || len(r.Content) != 1 || r.Content[0].Text != who {
		return fmt.Errorf("answer with id %s: %s %s, want the text %q", last.ID, last.Result, last.Error, who)
	}
	return nil
}
