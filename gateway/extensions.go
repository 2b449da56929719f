package gateway

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
)

// The extensions that the gateway knows.
const (
	extTasks = "io.modelcontextprotocol/tasks"
	extApps  = "io.modelcontextprotocol/ui"
)

// extensionPolicy says which extensions client and server of one endpoint learn of each other. One that is not known could carry names
// that the gateway renames, so it is off unless the administrator lets it through. An app may call any tool of the connection that
// it came over: on /mcp that would be the tools of all servers, so there apps are off.
type extensionPolicy struct {
	through []string // gateway.passthrough_extensions
	single  bool     // on /servers/NAME/mcp
}

func (p extensionPolicy) allows(name string) bool {
	return name == extTasks || name == extApps && p.single || slices.Contains(p.through, name)
}

// filter returns capabilities without the extensions that are off. If none is, they are returned as they are.
func (p extensionPolicy) filter(capabilities json.RawMessage) json.RawMessage {
	ext := wire.Get(capabilities, "extensions")
	if ext == nil {
		return capabilities
	}
	var off []wire.Member
	kept := 0
	wire.Members(ext, func(name []byte, _ json.RawMessage) bool {
		if p.allows(string(name)) {
			kept++
		} else {
			off = append(off, wire.Member{Key: string(name)})
		}
		return true
	})
	switch {
	case off == nil:
		return capabilities
	case kept == 0:
		return wire.Set(capabilities, "extensions", nil)
	}
	return wire.Set(capabilities, "extensions", wire.Edit(ext, off...))
}

// declared returns the params with which a modern server gets a modern client's request: without the capabilities that it must not know
// of. Usually that is what the client sent.
func (g *Gateway) declared(r *request, tg *target, params *wire.Object) *wire.Object {
	meta := params.Get("_meta")
	caps := wire.Get(meta, metaClientCapabilities)
	now := extensionPolicy{g.settings.Load().Gateway.PassthroughExtensions, r.table.single != nil}.filter(caps)
	if allowed := tg.allowed(); allowed != askAnything {
		now = wire.Edit(now, tg.forbidden(allowed)...)
	}
	if len(now) == len(caps) && bytes.Equal(now, caps) {
		return params
	}
	less := params.Edit(wire.Member{Key: "_meta", Value: wire.Set(meta, metaClientCapabilities, now)})
	return &less
}

// withheld reports whether a server misses a capability that is not for the client to declare: the client's revision has no such error, or
// the client declared it and the gateway, or its administrator, keeps it from the server.
func (g *Gateway) withheld(r *request, tg *target, e *wire.Error) bool {
	if !r.modern {
		return true
	}
	caps := wire.Get(r.meta(), metaClientCapabilities)
	required := wire.Get(e.Data, "requiredCapabilities")
	held := false
	wire.Members(required, func(name []byte, v json.RawMessage) bool {
		if string(name) == "extensions" {
			wire.Members(v, func(ext []byte, _ json.RawMessage) bool {
				held = held || wire.Get(wire.Get(caps, "extensions"), string(ext)) != nil
				return true
			})
			return true
		}
		held = held || wire.Get(caps, string(name)) != nil && kindsOf(required)&^tg.allowed() != 0
		return true
	})
	return held
}

// forbidden removes from capabilities what the administrator forbids a server to ask for.
func (tg *target) forbidden(allowed questions) []wire.Member {
	var off []wire.Member
	for _, c := range askable3 {
		if allowed&c.kind == 0 {
			off = append(off, wire.Member{Key: c.name})
		}
	}
	return off
}

// extensionsOf returns the extensions member of what clients of /mcp are told that the gateway can do; "" for none.
func extensionsOf(targets []*target, cats map[*target]*downstream.Catalog, through []string) string {
	seen := map[string]json.RawMessage{}
	p := extensionPolicy{through: through}
	for _, tg := range targets {
		if !cats[tg].Modern() {
			continue
		}
		wire.Members(wire.Get(cats[tg].Capabilities, "extensions"), func(name []byte, v json.RawMessage) bool {
			if _, twice := seen[string(name)]; !twice && p.allows(string(name)) {
				seen[string(name)] = v
			}
			return true
		})
	}
	if len(seen) == 0 {
		return ""
	}
	var all []string
	for name, v := range seen {
		if name == extTasks {
			v = json.RawMessage("{}")
		}
		all = append(all, `"`+name+`":`+string(v))
	}
	slices.Sort(all)
	return `,"extensions":{` + strings.Join(all, ",") + `}`
}

// legacyTasksOf is the same for the tasks of revision 2025-11-25.
func legacyTasksOf(targets []*target, cats map[*target]*downstream.Catalog) string {
	for _, tg := range targets {
		if !cats[tg].Modern() && wire.Get(wire.Get(wire.Get(wire.Get(cats[tg].Capabilities, "tasks"), "requests"), "tools"), "call") != nil {
			return `,"tasks":{"cancel":{},"requests":{"tools":{"call":{}}}}`
		}
	}
	return ""
}

var markUI = []byte(`ui`)

// withoutApp returns a tool without what makes it part of an app; ok is false if it is for apps only.
func withoutApp(tool json.RawMessage) (plain json.RawMessage, ok bool) {
	meta := wire.Get(tool, "_meta")
	if meta == nil || !bytes.Contains(meta, markUI) {
		return tool, true
	}
	ui := wire.Get(meta, "ui")
	if ui == nil && wire.Get(meta, "ui/resourceUri") == nil {
		return tool, true
	}
	if v := wire.Get(ui, "visibility"); wire.IsArray(v) && !bytes.Contains(v, []byte(`"model"`)) {
		return nil, false
	}
	meta = wire.Edit(meta, wire.Member{Key: "ui"}, wire.Member{Key: "ui/resourceUri"})
	if len(meta) == len("{}") {
		meta = nil
	}
	return wire.Set(tool, "_meta", meta), true
}
