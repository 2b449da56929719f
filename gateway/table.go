package gateway

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/yosida95/uritemplate/v3"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
	"github.com/mcpgw/mcpgw/resilience"
)

// route says where an exposed name or URI leads.
type route struct {
	target *target
	own    string // the downstream's own name or URI
	safe   safety
	key    string            // the tool, as the policies know it; "" for what is no tool of the catalogue
	guard  *resilience.Guard // nil: the downstream's
	marks  []paramHeader     // arguments of a tool that headers mirror
}

// template is a URI template and the downstream that owns it.
type template struct {
	route
	match *regexp.Regexp // nil if the template cannot be matched
}

// table is everything that clients of one endpoint see, at one moment: the endpoint /mcp shows all downstreams, /servers/NAME/mcp
// one. It is never changed after it is made.
type table struct {
	single       *target // the only downstream, unrenamed; nil for all
	targets      map[string]*target
	unlisted     map[string]*target // of targets: those that have never been reached, so that nobody knows what they offer
	tools        map[string]route
	prompts      map[string]route
	resources    map[string]route
	templates    []template
	pages        [4]*pages // by kind
	instructions string
	info         json.RawMessage // serverInfo
	legacyCaps   json.RawMessage
	modernCaps   json.RawMessage
	ttl          time.Duration // of what server/discover says
	scope        string
	clashes      []string // what was renamed or re-addressed to keep things apart, for mcpgw check
}

// gatewayTool is a tool of the gateway itself, offered beside those of the downstreams.
type gatewayTool struct {
	name string
	raw  json.RawMessage
}

// tableMaker is what tables are made with besides the catalogues.
type tableMaker struct {
	own          []gatewayTool   // offered on /mcp
	info         json.RawMessage // serverInfo of the gateway
	instructions string
	pageSize     int
	through      []string // extensions
	key          []byte   // seals cursors
}

// all builds what clients of /mcp see.
func (mk *tableMaker) all(targets []*target) *table {
	t := &table{targets: map[string]*target{}, unlisted: map[string]*target{}, tools: map[string]route{}, prompts: map[string]route{}, resources: map[string]route{}, info: mk.info}
	cats := make(map[*target]*downstream.Catalog, len(targets))
	for _, tg := range targets {
		t.targets[tg.name] = tg
		cats[tg] = tg.server.Catalog()
		if cats[tg].Revision == "" {
			t.unlisted[tg.name] = tg
		}
	}
	var listed [4][]entry
	for _, g := range mk.own {
		listed[downstream.Tools] = append(listed[downstream.Tools], entry{g.name, g.raw})
	}
	for _, tg := range targets {
		listed[downstream.Tools] = append(listed[downstream.Tools], t.rename(tg, cats[tg], downstream.Tools, t.tools)...)
		listed[downstream.Prompts] = append(listed[downstream.Prompts], t.rename(tg, cats[tg], downstream.Prompts, t.prompts)...)
	}
	listed[downstream.Resources] = t.addressResources(targets, cats)
	listed[downstream.Templates] = t.addressTemplates(targets, cats)
	for k := range listed {
		slices.SortStableFunc(listed[k], func(a, b entry) int { return cmp.Compare(a.key, b.key) })
		ttl, scope := freshness(targets, cats, k)
		t.pages[k] = mk.pages(k, listed[k], ttl, scope)
	}
	t.instructions = joinInstructions(mk.instructions, targets, cats)
	t.legacyCaps = json.RawMessage(`{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"completions":{},"logging":{}` + legacyTasksOf(targets, cats) + `}`)
	t.modernCaps = json.RawMessage(`{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"completions":{}` + extensionsOf(targets, cats, mk.through) + `}`)
	t.scope = "private"
	return t
}

// unknown returns the way to a tool that is in no list because its downstream has never been reached: the downstream will say itself
// whether it has it, or the caller learns that it is away.
func (t *table) unknown(name string) (route, bool) {
	if t.single != nil {
		return route{target: t.single, own: name}, t.single.server.Catalog().Revision == ""
	}
	server, own, _ := strings.Cut(name, "__")
	tg := t.unlisted[server]
	return route{target: tg, own: own}, tg != nil && own != ""
}

// single builds what clients of /servers/NAME/mcp see: the downstream as it is.
func (mk *tableMaker) single(tg *target) *table {
	cat := tg.server.Catalog()
	t := &table{
		single: tg, targets: map[string]*target{tg.name: tg}, tools: map[string]route{}, prompts: map[string]route{},
		resources: map[string]route{}, info: mk.info, instructions: cat.Instructions, scope: "private",
	}
	if cat.Info != nil {
		t.info = cat.Info
	}
	for k := range cat.Lists {
		entries := make([]entry, 0, len(cat.Lists[k].Items))
		for _, it := range cat.Lists[k].Items {
			entries = append(entries, entry{it.Key, it.Raw})
			switch k {
			case downstream.Tools:
				t.tools[it.Key] = toolRoute(tg, it)
			case downstream.Prompts:
				t.prompts[it.Key] = route{target: tg, own: it.Key, safe: readOnly}
			case downstream.Resources:
				t.resources[it.Key] = route{target: tg, own: it.Key, safe: readOnly}
			}
		}
		ttl, scope := freshness([]*target{tg}, map[*target]*downstream.Catalog{tg: cat}, k)
		t.pages[k] = mk.pages(k, entries, ttl, scope)
	}
	t.legacyCaps, t.modernCaps = singleCapabilities(cat, extensionPolicy{mk.through, true})
	return t
}

// singleCapabilities says what one downstream's endpoint can do: towards clients of the downstream's own era what it declared
// itself, towards the other era the members that both have. What is not known yet is assumed, so that a client that connects before
// the downstream is up need not connect again.
func singleCapabilities(cat *downstream.Catalog, extensions extensionPolicy) (legacy, modern json.RawMessage) {
	if cat.Capabilities == nil {
		all := `{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"completions":{}`
		return json.RawMessage(all + `,"logging":{}}`), json.RawMessage(all + `}`)
	}
	var shared []wire.Member
	for _, name := range []string{"tools", "prompts", "resources", "completions"} {
		if v := wire.Get(cat.Capabilities, name); v != nil {
			shared = append(shared, wire.Member{Key: name, Value: v})
		}
	}
	common := wire.Edit(nil, shared...)
	if cat.Modern() {
		return common, extensions.filter(cat.Capabilities)
	}
	return extensions.filter(cat.Capabilities), common
}

// rename gives the items of one kind of a downstream their exposed names and enters them into routes.
func (t *table) rename(tg *target, cat *downstream.Catalog, kind int, routes map[string]route) []entry {
	items := cat.Lists[kind].Items
	own := make([]string, len(items))
	for i, it := range items {
		own[i] = it.Key
	}
	exposed := exposedNames(tg.name, own)
	entries := make([]entry, 0, len(items))
	for _, it := range items {
		plain, ok := withoutApp(it.Raw)
		if !ok {
			continue // an app's own
		}
		it.Raw = plain
		name := exposed[it.Key]
		if plain := tg.name + "__" + it.Key; name != plain {
			t.clashes = append(t.clashes, fmt.Sprintf("%s of %s is offered as %s", it.Key, tg.name, name))
		}
		r := route{target: tg, own: it.Key, safe: readOnly}
		if kind == downstream.Tools {
			r = toolRoute(tg, it)
		}
		routes[name] = r
		entries = append(entries, entry{name, wire.Set(it.Raw, "name", wire.Quote(name))})
	}
	return entries
}

// toolRoute is where a tool leads. The caller holds the gateway's mutex.
func toolRoute(tg *target, it downstream.Item) route {
	r := route{target: tg, own: it.Key, key: it.Key, guard: tg.policy.forTool(it.Key), marks: paramHeadersOf(it.Raw)}
	if tg.policy.rules.Load().trust {
		r.safe = safetyOfTool(it.Raw)
	}
	return r
}

// addressResources enters the resources of all downstreams. A URI that only one of them lists stays as it is; one that several list
// is qualified for each, so that none of them gets the other's reads.
func (t *table) addressResources(targets []*target, cats map[*target]*downstream.Catalog) []entry {
	owners := map[string]int{}
	for _, tg := range targets {
		for _, it := range cats[tg].Lists[downstream.Resources].Items {
			owners[it.Key]++
		}
	}
	var entries []entry
	for _, tg := range targets {
		for _, it := range cats[tg].Lists[downstream.Resources].Items {
			uri, raw := it.Key, it.Raw
			if _, _, taken := splitURI(uri); owners[uri] > 1 || taken {
				uri = qualifiedURI(tg.name, uri)
				raw = wire.Set(raw, "uri", wire.Quote(uri))
				t.clashes = append(t.clashes, fmt.Sprintf("resource %s of %s is offered as %s", it.Key, tg.name, uri))
			}
			t.resources[uri] = route{target: tg, own: it.Key, safe: readOnly}
			entries = append(entries, entry{uri, raw})
		}
	}
	return entries
}

func (t *table) addressTemplates(targets []*target, cats map[*target]*downstream.Catalog) []entry {
	owners := map[string]int{}
	for _, tg := range targets {
		for _, it := range cats[tg].Lists[downstream.Templates].Items {
			owners[it.Key]++
		}
	}
	var entries []entry
	for _, tg := range targets {
		for _, it := range cats[tg].Lists[downstream.Templates].Items {
			uri, raw := it.Key, it.Raw
			if owners[uri] > 1 || strings.HasPrefix(uri, uriScheme) {
				uri = qualifiedURI(tg.name, uri)
				raw = wire.Set(raw, "uriTemplate", wire.Quote(uri))
				t.clashes = append(t.clashes, fmt.Sprintf("resource template %s of %s is offered as %s", it.Key, tg.name, uri))
			}
			t.templates = append(t.templates, template{route{target: tg, own: it.Key, safe: readOnly}, compileTemplate(it.Key)})
			entries = append(entries, entry{uri, raw})
		}
	}
	return entries
}

const maxTemplateLen = 2 << 10

// compileTemplate returns what matches the expansions of a URI template (RFC 6570), or nil if the template is not usable: it stays
// listed, but a read must name its downstream.
func compileTemplate(text string) *regexp.Regexp {
	if len(text) > maxTemplateLen {
		return nil
	}
	tpl, err := uritemplate.New(text)
	if err != nil {
		return nil
	}
	return tpl.Regexp()
}

// resource finds the downstream that owns a URI.
func (t *table) resource(uri string) (route, error) {
	if t.single != nil {
		return route{target: t.single, own: uri, safe: readOnly}, nil
	}
	if r, ok := t.resources[uri]; ok {
		return r, nil
	}
	if name, own, ok := splitURI(uri); ok {
		if tg := t.targets[name]; tg != nil {
			return route{target: tg, own: own, safe: readOnly}, nil
		}
		return route{}, errNotFound("no downstream %q, which %q names", name, uri)
	}
	var found []route
	for _, tpl := range t.templates {
		if tpl.match != nil && tpl.match.MatchString(uri) && !slices.ContainsFunc(found, func(r route) bool { return r.target == tpl.target }) {
			found = append(found, route{target: tpl.target, own: uri, safe: readOnly})
		}
	}
	switch len(found) {
	case 0:
		return route{}, errNotFound("resource not found: %s", uri)
	case 1:
		return found[0], nil
	}
	// Asking each of them would show the URI to servers that it is not meant for.
	names := make([]string, len(found))
	for i, r := range found {
		names[i] = r.target.name
	}
	return route{}, errNotFound("resource %s could be of %s: read %s instead", uri, strings.Join(names, " or "), qualifiedURI(names[0], uri))
}

// templateOf finds the downstream that owns a listed URI template.
func (t *table) templateOf(text string) (route, bool) {
	if t.single != nil {
		return route{target: t.single, own: text, safe: readOnly}, true
	}
	name, own, qualified := splitURI(text)
	for _, tpl := range t.templates {
		if !qualified && tpl.own == text || qualified && tpl.target.name == name && tpl.own == own {
			return tpl.route, true
		}
	}
	return route{}, false
}

// exposeURI returns the URI under which clients of t reach a downstream's resource.
func (t *table) exposeURI(tg *target, own string) string {
	if t.single != nil {
		return own
	}
	if r, err := t.resource(own); err == nil && r.target == tg && r.own == own {
		return own
	}
	return qualifiedURI(tg.name, own)
}

// freshness merges the caching hints of what a list was made from (spec.md §1.6): private if any part is, and as stale as the
// stalest part.
func freshness(targets []*target, cats map[*target]*downstream.Catalog, kind int) (until time.Time, scope string) {
	scope = "public"
	first := true
	for _, tg := range targets {
		l := &cats[tg].Lists[kind]
		if l.At.IsZero() && cats[tg].Revision != "" && len(targets) > 1 {
			continue // it has no such list and will not have one
		}
		if l.Scope != "public" {
			scope = "private"
		}
		if end := l.At.Add(l.TTL); first || end.Before(until) {
			until, first = end, false
		}
	}
	if len(targets) == 0 {
		return time.Time{}, "private"
	}
	return until, scope
}

// renew has servers list again that said for how long their lists hold, where that time is over. Nobody waits for it.
func (t *table) renew(kind int) {
	for _, tg := range t.targets {
		l := &tg.server.Catalog().Lists[kind]
		if l.TTL <= 0 || time.Since(l.At) <= max(l.TTL, time.Second) {
			continue
		}
		// Listing waits until the last wish is a moment old: many clients that wish for it must not put it off for ever.
		now := time.Now().UnixNano()
		if last := tg.renewed.Load(); now-last > int64(time.Second) && tg.renewed.CompareAndSwap(last, now) {
			tg.server.Relist()
		}
	}
}

const (
	maxInstructions    = 8 << 10
	maxOwnInstructions = 2 << 10
)

// joinInstructions puts what the downstreams say about themselves under one another, each under its name and within bounds: all of
// it is read by a model.
func joinInstructions(own string, targets []*target, cats map[*target]*downstream.Catalog) string {
	var b strings.Builder
	if own == "" {
		own = "mcpgw presents several MCP servers as one. Tool names start with the name of their server and two underscores. " +
			"The tool circuit_status says which servers work and why others do not."
	}
	b.WriteString(own)
	for _, tg := range targets {
		text := strings.TrimSpace(cats[tg].Instructions)
		if text == "" {
			continue
		}
		if len(text) > maxOwnInstructions {
			text = strings.ToValidUTF8(text[:maxOwnInstructions], "") + " […]"
		}
		if b.Len()+len(text) > maxInstructions {
			b.WriteString("\n\n[The instructions of further servers are left out.]")
			break
		}
		fmt.Fprintf(&b, "\n\n# %s\n%s", tg.name, text)
	}
	return b.String()
}
