package gateway

import (
	"cmp"
	"encoding/json"
	"slices"

	"github.com/mcpgw/mcpgw/downstream"
)

// Tool is a tool of a downstream, as clients of /mcp see it.
type Tool struct {
	Name       string          // as clients see it
	Downstream string          // the server that has it
	Own        string          // its name there
	Raw        json.RawMessage // its entry in the server's list, under its own name
}

// Tools lists the tools of all downstreams, sorted by name, without those of the gateway itself.
func (g *Gateway) Tools() []Tool {
	var tools []Tool
	raw := map[*target]map[string]json.RawMessage{}
	for name, r := range g.view.Load().all.tools {
		own, ok := raw[r.target]
		if !ok {
			own = map[string]json.RawMessage{}
			for _, it := range r.target.server.Catalog().Lists[downstream.Tools].Items {
				own[it.Key] = it.Raw
			}
			raw[r.target] = own
		}
		tools = append(tools, Tool{name, r.target.name, r.own, own[r.own]})
	}
	slices.SortFunc(tools, func(a, b Tool) int { return cmp.Compare(a.Name, b.Name) })
	return tools
}
