package integration

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// TestReload changes the file under a gateway that has clients: a server that did not change keeps its process, clients keep their
// sessions, a call in flight ends as if nothing had happened, and a file with faults changes nothing and says where they are.
func TestReload(t *testing.T) {
	t.Parallel()
	up := httptest.NewServer(corpusServer(true))
	t.Cleanup(up.Close)
	mark := fmt.Sprintf("%s-%d", t.Name(), os.Getpid())
	kept := "  kept: " + stdioServer(t, 0, mark) + "\n"
	dir := t.TempDir()
	gw := startGatewayIn(t, dir, "gateway: { listen: LISTEN }\ndownstreams:\n"+kept)
	file := filepath.Join(dir, "gateway.yaml")
	legacy := connect(t, gw, "/mcp", false, "kept__echo")
	modern := connect(t, gw, "/mcp", true, "kept__echo")
	before := named(t, mark, comm(os.Getpid()))
	if len(before) != 1 {
		t.Fatalf("%d processes of the server, want 1", len(before))
	}

	write := func(yaml string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(yaml, "LISTEN", gw.Addr)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	reload := func(wantStatus int) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+gw.Addr+"/-/reload", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != wantStatus {
			t.Fatalf("POST /-/reload: HTTP %d, want %d: %s", resp.StatusCode, wantStatus, b)
		}
		return string(b)
	}
	unchanged := func(when string) {
		t.Helper()
		for _, c := range []*harness.Client{legacy, modern} {
			if err := callText(t.Context(), c, "kept__echo"); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
		if after := named(t, mark, comm(os.Getpid())); len(after) != 1 || after[0] != before[0] {
			t.Errorf("%s: the server's processes are %v, want %v", when, after, before)
		}
	}

	// A call is in flight during the first reload.
	flight := make(chan error, 1)
	tool := "kept__together"
	other := connect(t, gw, "/mcp", false, tool)
	go func() { flight <- together(t, other, tool, "client-a", "reload", 2, 3) }()

	write("gateway: { listen: LISTEN }\ndownstreams:\n" + kept + "  added: { url: '" + up.URL + "/mcp' }\n")
	reload(http.StatusOK)
	eventually(t, 5*time.Second, "the added server's tools in the old session", func() error { return has(t.Context(), legacy, "added__echo", "kept__echo") })
	unchanged("after a server was added")
	if err := together(t, connect(t, gw, "/mcp", true, tool), tool, "client-b", "reload", 2, 3); err != nil {
		t.Errorf("a call after the reload: %v", err)
	}
	if err := <-flight; err != nil {
		t.Errorf("the call that was in flight: %v", err)
	}

	write("gateway: { listen: LISTEN }\ndownstreams:\n" + kept + "  added: { url: 'ftp://nowhere', no_such_key: 1 }\n")
	said := reload(http.StatusUnprocessableEntity)
	for _, want := range []string{"no_such_key", "4"} { // the key and its line
		if !strings.Contains(said, want) {
			t.Errorf("the answer to a bad file does not name %q: %s", want, said)
		}
	}
	unchanged("after a bad file")
	if err := has(t.Context(), legacy, "added__echo"); err != nil {
		t.Errorf("after a bad file: %v", err)
	}

	write("gateway: { listen: LISTEN }\ndownstreams:\n" + kept)
	if err := gw.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "the removed server's tools gone after SIGHUP", func() error {
		if has(t.Context(), legacy, "added__echo") == nil {
			return errors.New("added__echo is still listed")
		}
		return nil
	})
	unchanged("after a server was removed")

	write("gateway: { listen: LISTEN }\ndownstreams:\n" + kept + "  again: { url: '" + up.URL + "/mcp' }\n")
	eventually(t, 15*time.Second, "the change of the file noticed by itself", func() error { return has(t.Context(), legacy, "again__echo") })
	unchanged("after the file had changed by itself")
}
