package gateway

import (
	"encoding/json"
	"testing"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
)

// BenchmarkServe is a plain call of a modern client to a modern server, from the parsed request to the answer: what is done for those who
// ask or are asked must cost the others nothing.
func BenchmarkServe(b *testing.B) {
	g, r, _ := benchCall(b, func(*Policies) {})
	var name string
	for exposed, to := range r.table.tools {
		if to.own == "memory" {
			name = exposed
		}
	}
	params := wire.Index(json.RawMessage(`{"name":"` + name + `","arguments":{},"_meta":{"` + downstream.MetaProtocolVersion + `":"2026-07-28","` +
		downstream.MetaClientCapabilities + `":{"elicitation":{"form":{},"url":{}},"sampling":{},"roots":{}}}}`))
	b.ReportAllocs()
	for b.Loop() {
		one := &request{method: "tools/call", id: json.RawMessage("1"), modern: true, table: r.table, principal: anonymous, stream: r.stream, params: params}
		if _, err := g.serve(b.Context(), one); err != nil {
			b.Fatal(err)
		}
	}
}
