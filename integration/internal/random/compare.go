package random

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// The rewrites of docs/transparency.md, and no others.

// sameParams compares the params that the server got directly with those that it got through the gateway.
func (l *lane) sameParams(m *message, direct, through string) error {
	if l.untouched(m) {
		if l.oneLine() {
			direct, through = oneLine(direct), oneLine(through)
		}
		if direct != through {
			return differ("params", direct, through)
		}
		return nil
	}
	d, err := parse(direct)
	if err != nil {
		return err
	}
	t, err := parse(through)
	if err != nil {
		return err
	}
	if dm, tm := d.get("_meta"), t.get("_meta"); l.newClient && l.peer.modern {
		for _, key := range []string{metaCaps, metaLevel} {
			if a, b := fmt.Sprint(dm.get(key)), fmt.Sprint(tm.get(key)); a != b {
				return differ(key, a, b)
			}
		}
	}
	for _, p := range []*tree{d, t} {
		l.normalParams(m, p)
	}
	if a, b := d.String(), t.String(); a != b {
		return differ("params", a, b)
	}
	return nil
}

// untouched reports whether the gateway has no reason to change params: an older client of an older server by its own names.
func (l *lane) untouched(m *message) bool {
	return !l.newClient && !l.peer.modern && !l.all && (!l.stdioServer || !m.token())
}

// shared reports whether several clients share the session with the server, so that their tokens cannot be used there.
func (l *lane) shared() bool { return l.stdioServer || l.newClient && !l.peer.modern }

func (l *lane) oneLine() bool { return l.stdioClient || l.stdioServer }

func (l *lane) normalParams(m *message, p *tree) {
	if meta := p.get("_meta"); meta != nil {
		for _, key := range []string{metaVersion, metaClient, metaCaps, metaLevel} {
			meta.drop(key)
		}
		if l.shared() && meta.get("progressToken") != nil {
			meta.set("progressToken", `"TOKEN"`)
		}
		if len(meta.keys) == 0 && (l.newClient || l.peer.modern) {
			p.drop("_meta")
		}
	}
	if l.all { // the gateway spells the name anew
		named := p.get(m.rename)
		if m.rename == "ref" {
			if named.get("name") != nil {
				named = named.get("name")
			} else {
				named = named.get("uri")
			}
		}
		if s, ok := named.decoded(); ok {
			*named = tree{raw: quoted(s)}
		}
	}
}

// sameResult compares the result that the client got directly with the one that it got through the gateway.
func (l *lane) sameResult(m *message, direct, through string) error {
	if l.newClient == l.peer.modern && !l.all {
		// What travels in a stream of events travels in one line.
		if a, b := oneLine(strings.TrimSpace(direct)), oneLine(strings.TrimSpace(through)); a != b {
			return differ("result", a, b)
		}
		return nil
	}
	d, err := parse(direct)
	if err != nil {
		return err
	}
	t, err := parse(through)
	if err != nil {
		return err
	}
	if l.newClient && !l.peer.modern {
		d.set("resultType", `"complete"`)
		if m.method == "resources/read" {
			d.set("ttlMs", "0")
			d.set("cacheScope", `"private"`)
		}
	}
	if l.all {
		du, tu := addresses(m.method, d), addresses(m.method, t)
		if len(du) != len(tu) {
			return differ("number of addresses", strconv.Itoa(len(du)), strconv.Itoa(len(tu)))
		}
		for i := range du {
			own, _ := du[i].decoded() // the maker's
			got, ok := tu[i].decoded()
			if want := l.exposedURI(m, own); !ok || got != want {
				return differ("address", want, tu[i].String())
			} else if want != own {
				du[i].raw, tu[i].raw = `"ADDRESS"`, `"ADDRESS"`
			}
		}
		if info := d.get("_meta").get("io.modelcontextprotocol/serverInfo"); info != nil {
			got := t.get("_meta").get("io.modelcontextprotocol/serverInfo")
			if name, _ := got.get("name").decoded(); name != "mcpgw" {
				return differ("serverInfo", "the gateway's", fmt.Sprint(got))
			}
			*info, *got = tree{raw: `"INFO"`}, tree{raw: `"INFO"`}
		}
	}
	if a, b := d.String(), t.String(); a != b {
		return differ("result", a, b)
	}
	return nil
}

// addresses returns where a result addresses resources.
func addresses(method string, result *tree) (all []*tree) {
	add := func(block *tree) {
		switch kind, _ := block.get("type").decoded(); kind {
		case "resource_link":
			all = append(all, block.get("uri"))
		case "resource":
			all = append(all, block.get("resource").get("uri"))
		}
	}
	list := func(key string, f func(*tree)) {
		if v := result.get(key); v != nil && v.kind == '[' {
			for _, k := range v.kids {
				f(k)
			}
		}
	}
	switch method {
	case "tools/call":
		list("content", add)
	case "prompts/get":
		list("messages", func(m *tree) { add(m.get("content")) })
	case "resources/read":
		list("contents", func(c *tree) { all = append(all, c.get("uri")) })
	}
	return all
}

// exposedURI is the address by which clients of /mcp reach a server's resource.
func (l *lane) exposedURI(m *message, own string) string {
	qualified := "mcpgw://" + l.peer.name + "/" + own
	if m.method == "resources/read" {
		if own == m.own && l.exposed(m) == qualified {
			return qualified
		}
		return own
	}
	if slices.Contains(l.peer.keys[resources], own) {
		return own
	}
	return qualified
}

// sameError compares errors. A resource that is not there has a code of its own in each era.
func (l *lane) sameError(m *message, direct, through string) error {
	d, err := parse(direct)
	if err != nil {
		return err
	}
	code := fmt.Sprint(d.get("code"))
	switch {
	case m.method == "resources/read" && !l.newClient && l.peer.modern && code == "-32602":
		d.set("code", "-32002")
	case l.newClient && code == "-32002":
		d.set("code", "-32602")
	default:
		if a, b := oneLine(strings.TrimSpace(direct)), oneLine(strings.TrimSpace(through)); a != b {
			return differ("error", a, b)
		}
		return nil
	}
	t, err := parse(through)
	if err != nil {
		return err
	}
	if a, b := d.String(), t.String(); a != b {
		return differ("error", a, b)
	}
	return nil
}

// sameNotes compares what came before the answer.
func (l *lane) sameNotes(m *message, direct, through []harness.Message) error {
	spell := func(all []harness.Message) (s []string) {
		for _, n := range all[:len(all)-1] {
			if n.ID == nil && l.hears(m, n) {
				s = append(s, n.Method+" "+oneLine(string(n.Params)))
			}
		}
		return s
	}
	d, t := spell(direct), spell(through)
	if len(d) != len(t) {
		return differ("number of notifications", strings.Join(d, "\n"), strings.Join(t, "\n"))
	}
	for i := range d {
		a, b := d[i], t[i]
		if a != b && l.shared() && strings.HasPrefix(a, "notifications/progress ") { // the token was another one on the way
			method, x, _ := strings.Cut(a, " ")
			y := strings.TrimPrefix(b, method+" ")
			xt, err := parse(x)
			if err != nil {
				return err
			}
			yt, err := parse(y)
			if err != nil {
				return err
			}
			a, b = xt.String(), yt.String()
		}
		if a != b {
			return differ("notification", a, b)
		}
	}
	return nil
}

// hears reports whether the client's level lets a log message through.
func (l *lane) hears(m *message, n harness.Message) bool {
	if n.Method != "notifications/message" || !l.newClient {
		return true
	}
	levels := []string{"", "debug", "info", "error", "emergency"}
	index := func(level string) int {
		for i, s := range levels {
			if s == strings.Trim(level, `"`) {
				return i
			}
		}
		return 0
	}
	t, err := parse(string(n.Params))
	return err == nil && m.level != "" && index(t.get("level").raw) >= index(m.level)
}

func differ(what, direct, through string) error {
	at := 0
	for at < len(direct) && at < len(through) && direct[at] == through[at] {
		at++
	}
	show := func(s string) string { return s[max(0, min(at-60, len(s))):min(len(s), at+200)] }
	return fmt.Errorf("%s differ at byte %d:\n  direct  …%s\n  through …%s\n  direct whole  %.3000s\n  through whole %.3000s", what, at, show(direct), show(through), direct, through)
}
