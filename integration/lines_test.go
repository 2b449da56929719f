package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// TestLineBreaksEndNoMessage: a client over HTTP may break lines between tokens. A server over stdio must get one message for one: what
// stands on a line of its own must not become a message that nobody checked.
func TestLineBreaksEndNoMessage(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := filepath.Abs(filepath.Join("testdata", "corpus"))
	if err != nil {
		t.Fatal(err)
	}
	for _, modern := range []bool{false, true} {
		record := filepath.Join(t.TempDir(), "params")
		gw := startGateway(t, fmt.Sprintf(`
gateway: { listen: LISTEN }
downstreams:
  stdio: { command: '%s', env: { %s: %s, %s: '%s', MCPGW_TEST_CORPUS: '%s' } }
`, self, rawServerEnv, map[bool]string{false: "legacy", true: "modern"}[modern], rawRecordEnv, record, data))
		c := &harness.Client{URL: "http://" + gw.Addr + "/servers/stdio/mcp", Modern: modern}
		if _, err := c.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		within := strings.NewReplacer("N", "\n", "R", "\r").Replace(`{"deep":N{"jsonrpc":"2.0","id":99,"method":"tools/call","params":{"name":"e_plain"}}NR,R"t":"a\nb"}`)
		if _, err := c.Request(deadline(t, 10*time.Second), "tools/call", "echo", c.Params(`"name":"echo",`+"\r\n\n"+`"arguments":`+within, "")); err != nil {
			t.Fatalf("%s: %v", era(modern), err)
		}
		seen, err := os.ReadFile(record)
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.NewReplacer("\n", " ", "\r", " ").Replace(within); !strings.Contains(string(seen), `"arguments":`+want) {
			t.Errorf("%s: the server got %s", era(modern), seen)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
