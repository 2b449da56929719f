package random

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// lane is one way from a client through the gateway to a server.
type lane struct {
	name        string
	newClient   bool
	stdioClient bool
	stdioServer bool
	all         bool // on /mcp, where servers' names stand before their tools' names
	peer        *peer
	through     sender
	direct      sender
	schemas     *Schemas
	names       [4]map[string]string // of the lists' items, as the client sees them, by the server's names
}

// exposed is what the client calls what a message is about.
func (l *lane) exposed(m *message) string {
	if !l.all || m.rename == "" {
		return m.own
	}
	if name, ok := l.names[m.kind][m.own]; ok {
		return name
	}
	return "mcpgw://" + l.peer.name + "/" + m.own
}

// rig is a gateway with four servers, old and new, over HTTP and stdio, and clients of both revisions over both transports.
type rig struct {
	*maker

	dir     string
	gateway *harness.Server
	peers   []*peer
	lanes   []*lane
	senders []sender
}

// newRig starts everything. The servers' lists are made at random.
func newRig(ctx context.Context, r *maker, program, dir string) (g *rig, err error) {
	g = &rig{maker: r, dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.stop())
		}
	}()
	self, err := os.Executable()
	if err != nil {
		return g, err
	}
	var yaml strings.Builder
	yaml.WriteString("gateway: { listen: LISTEN }\nresilience: { enabled: false }\ndownstreams:\n")
	for i := range 4 {
		p := &peer{modern: i&1 != 0, name: fmt.Sprintf("%s_%s", map[bool]string{false: "old", true: "new"}[i&1 != 0], map[bool]string{false: "http", true: "stdio"}[i&2 != 0])}
		r.fill(p)
		if err := p.start(); err != nil {
			return g, err
		}
		g.peers = append(g.peers, p)
		revision := map[bool]string{false: harness.Legacy, true: harness.Modern}[p.modern]
		if i&2 == 0 {
			fmt.Fprintf(&yaml, "  %s: { url: '%s', protocol: '%s' }\n", p.name, p.http.URL, revision)
		} else {
			fmt.Fprintf(&yaml, "  %s: { command: '%s', protocol: '%s', env: { %s: '%s' } }\n", p.name, self, revision, peerEnv, p.pipe.Addr())
		}
	}
	if g.gateway, err = harness.StartGateway(context.WithoutCancel(ctx), program, dir, yaml.String()); err != nil {
		return g, err
	}
	return g, g.connect(ctx, program)
}

// fill gives a server lists, capabilities and instructions.
func (r *maker) fill(p *peer) {
	r.modern = p.modern
	number := func(item string, n int) string {
		return strings.Replace(item, "{", fmt.Sprintf(`{"vendor.example/n":%d,`, n), 1)
	}
	for i, n := range []int{40, 20, 20, 10} {
		for j := range n {
			name := fmt.Sprintf("%s %d", pick(r, "tool", "Tööl", "a.b", "x-y_z", "ALL"), j)
			if r.chance(50) {
				name = strings.ReplaceAll(name, " ", "_")
			}
			var item string
			switch i {
			case tools:
				item = r.tool(quoted(name))
			case prompts:
				item = r.prompt(quoted(name))
			case resources:
				name = "res://" + p.name + "/" + strings.ReplaceAll(name, " ", "%20")
				item = r.resource(quoted(name))
			case templates:
				name = fmt.Sprintf("tpl://%s/%d/{%s}", p.name, j, pick(r, "a", "b", "+c", "d*"))
				item = r.template(quoted(name))
			}
			p.items[i] = append(p.items[i], number(item, j))
			p.keys[i] = append(p.keys[i], name)
		}
	}
	caps := []field{
		must("tools", text("{}")), must("prompts", text("{}")), must("resources", text(`{"subscribe":false}`)), must("completions", (*maker).loose), must("logging", text("{}")),
		may("experimental", func(r *maker) string { return r.mapOf((*maker).loose) }),
	}
	if !p.modern {
		caps = append(caps, must("tasks", text(`{"list":{},"cancel":{},"requests":{"tools":{"call":{}}}}`)))
	}
	p.capabilities, p.instructions, p.info = r.obj(caps...), r.str(), r.implementation()
}

// connect opens a client of each kind, and waits until each sees all that the servers list.
func (g *rig) connect(ctx context.Context, program string) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	file := filepath.Join(g.dir, "gateway.yaml")
	base := "http://" + g.gateway.Addr
	keep := func(s sender) sender { g.senders = append(g.senders, s); return s }
	direct := map[*peer]sender{}
	for _, p := range g.peers {
		d, err := newHTTP(ctx, p.http.URL, p.modern)
		if err != nil {
			return fmt.Errorf("%s directly: %w", p.name, err)
		}
		direct[p] = keep(d)
	}
	for _, modern := range []bool{false, true} {
		all, err := newHTTP(ctx, base+"/mcp", modern)
		if err != nil {
			return err
		}
		keep(all)
		pipe, err := newStdio(ctx, program, file, modern)
		if err != nil {
			return err
		}
		keep(pipe)
		for i, p := range g.peers {
			own, err := newHTTP(ctx, base+"/servers/"+p.name+"/mcp", modern)
			if err != nil {
				return err
			}
			keep(own)
			for _, l := range []*lane{{through: own}, {through: all, all: true}, {through: pipe, all: true, stdioClient: true}} {
				l.newClient, l.stdioServer, l.peer, l.direct = modern, i&2 != 0, p, direct[p]
				l.name = fmt.Sprintf("client %s over %s, server %s, %s", map[bool]string{false: "old", true: "new"}[modern], map[bool]string{false: "http", true: "stdio"}[l.stdioClient],
					p.name, map[bool]string{false: "/servers/" + p.name + "/mcp", true: "/mcp"}[l.all])
				if err := g.gateway.Until(ctx, "the lists of "+l.name, func() error { return l.learn(ctx) }); err != nil {
					return err
				}
				g.lanes = append(g.lanes, l)
			}
		}
	}
	return nil
}

func (g *rig) stop() error {
	var errs []error
	for _, s := range g.senders {
		errs = append(errs, s.close())
	}
	if g.gateway != nil {
		if err := g.gateway.Stop(20 * time.Second); err != nil {
			errs = append(errs, fmt.Errorf("%w\n%s", err, g.gateway.Log()))
		}
		if log := g.gateway.Log(); strings.Contains(log, "panic") || strings.Contains(log, "DATA RACE") {
			errs = append(errs, errors.New(log))
		}
	}
	for _, p := range g.peers {
		p.stop()
	}
	return errors.Join(errs...)
}

// listed returns all items of a list, by their numbers, as the client sees them: those of the lane's server.
func (l *lane) listed(ctx context.Context, kind int, more func() *message) (map[int]string, error) {
	items := map[int]string{}
	for cursor := ""; ; {
		m := more()
		m.method = listMethods[kind]
		if cursor != "" {
			m.members = append(m.members, pair{"cursor", cursor})
		}
		all, err := l.through.send(ctx, m.id, m.method, "", m.params(l.newClient, ""), nil)
		if err != nil {
			return nil, err
		}
		last := all[len(all)-1]
		if last.Error != nil {
			return nil, fmt.Errorf("%s: %s", m.method, last.Error)
		}
		var page map[string]json.RawMessage
		if err := json.Unmarshal(last.Result, &page); err != nil {
			return nil, err
		}
		var raw []json.RawMessage
		if err := json.Unmarshal(page[listMembers[kind]], &raw); err != nil {
			return nil, err
		}
		for _, item := range raw {
			t, err := parse(string(item))
			if err != nil {
				return nil, err
			}
			n := -1
			if v := t.get("vendor.example/n"); v != nil {
				_, _ = fmt.Sscan(v.raw, &n) // what has no number is the gateway's own
			}
			if n >= 0 && l.mine(kind, t) {
				items[n] = string(item)
			}
		}
		if page["nextCursor"] == nil {
			return items, nil
		}
		cursor = string(page["nextCursor"])
	}
}

// mine reports whether a listed item is of the lane's server.
func (l *lane) mine(kind int, item *tree) bool {
	key := item.get([4]string{"name", "name", "uri", "uriTemplate"}[kind])
	s, _ := key.decoded()
	switch {
	case !l.all:
		return true
	case kind <= prompts:
		return strings.HasPrefix(s, l.peer.name+"__")
	}
	return strings.HasPrefix(s, "res://"+l.peer.name+"/") || strings.HasPrefix(s, "tpl://"+l.peer.name+"/")
}

// learn finds out what the client calls the server's items. It is an error if any is missing.
func (l *lane) learn(ctx context.Context) error {
	for kind := range listMethods {
		items, err := l.listed(ctx, kind, func() *message { return &message{id: "1", caps: "{}"} })
		if err != nil {
			return err
		}
		if len(items) != len(l.peer.items[kind]) {
			return fmt.Errorf("%s has %d items, want %d", listMethods[kind], len(items), len(l.peer.items[kind]))
		}
		l.names[kind] = map[string]string{}
		for n, item := range items {
			t, err := parse(item)
			if err != nil {
				return err
			}
			l.names[kind][l.peer.keys[kind][n]], _ = t.get([4]string{"name", "name", "uri", "uriTemplate"}[kind]).decoded()
		}
	}
	return nil
}

// sameList compares the items of a list with those that the server has.
func (l *lane) sameList(ctx context.Context, kind int, more func() *message) error {
	items, err := l.listed(ctx, kind, more)
	if err != nil {
		return err
	}
	if len(items) != len(l.peer.items[kind]) {
		return fmt.Errorf("%s: %d items, want %d", listMethods[kind], len(items), len(l.peer.items[kind]))
	}
	for n, want := range l.peer.items[kind] {
		got := items[n]
		if !l.all || kind > prompts {
			if a, b := oneLine(want), oneLine(got); a != b {
				return differ("item", a, b)
			}
			continue
		}
		w, err := parse(want)
		if err != nil {
			return err
		}
		w.set("name", quoted(l.names[kind][l.peer.keys[kind][n]]))
		g, err := parse(got)
		if err != nil {
			return err
		}
		if a, b := w.String(), g.String(); a != b {
			return differ("item", a, b)
		}
	}
	return nil
}
