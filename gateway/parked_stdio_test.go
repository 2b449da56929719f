package gateway

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/mcptest"
	"github.com/mcpgw/mcpgw/internal/wire"
)

// TestParkedOverStdio has a client that started the gateway as its command go away from a call and come back to it.
func TestParkedOverStdio(t *testing.T) {
	srv := mcptest.NewServer(t, mcptest.Options{Name: "one"})
	cfg := downstream.DefaultConfig()
	cfg.URL = srv.HTTP(t).URL
	g, _ := start(t, map[string]downstream.Config{"one": cfg})
	in, toGateway := io.Pipe()
	fromGateway, out := io.Pipe()
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- g.ServeStdio(ctx, in, out) }()
	t.Cleanup(func() {
		cancel()
		_ = fromGateway.Close()
		<-ended
	})
	lines := bufio.NewScanner(fromGateway)
	call := func(id int, more string) []byte {
		t.Helper()
		_, err := fmt.Fprintf(toGateway, `{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"one__elicit","arguments":{"rounds":1}%s,"_meta":{"%s":"2026-07-28","%s":{"elicitation":{}}}}}`+"\n",
			id, more, downstream.MetaProtocolVersion, downstream.MetaClientCapabilities)
		if err != nil || !lines.Scan() {
			t.Fatal(err, lines.Err())
		}
		return bytes.Clone(wire.Get(lines.Bytes(), "result"))
	}
	res := call(1, "")
	back(t, res, accepted)
	res = call(2, `,"inputResponses":{"q1":`+accepted+`},"requestState":`+string(wire.Get(res, "requestState")))
	if !bytes.Contains(res, []byte("Ada")) || srv.Calls("elicit") != 1 {
		t.Errorf("after %d calls: %s", srv.Calls("elicit"), res)
	}
	idle(t, g)
}
