package gateway

import (
	"bytes"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/mcptest"
	"github.com/mcpgw/mcpgw/internal/wire"
)

// TestCachingHints merges what servers say about how long their lists hold, and for whom: the shortest time, and for all only if all say
// so. When the time is over the list is asked for again, and holds again.
func TestCachingHints(t *testing.T) {
	list := func(ttl, scope string, asked *atomic.Int64) downstream.Config {
		cfg := downstream.DefaultConfig()
		cfg.URL = mcptest.Script{
			"server/discover": mcptest.Discover,
			"tools/list": func(x *mcptest.Exchange) {
				asked.Add(1)
				x.Result(`{"resultType":"complete","ttlMs":` + ttl + `,"cacheScope":"` + scope + `","tools":[{"name":"a","inputSchema":{"type":"object"}}]}`)
			},
		}.JSON(t).URL
		return cfg
	}
	var long, short, private atomic.Int64
	_, url := start(t, map[string]downstream.Config{"long": list("3600000", "public", &long), "short": list("1200", "public", &short), "private": list("3600000", "private", &private)})
	hints := func(path string) (int, string) {
		res, no, err := rawCall{url: url + path}.post(t.Context(), "tools/list", "", map[string]any{})
		if err != nil || no != nil {
			t.Fatal(string(no), err)
		}
		ttl, _ := strconv.Atoi(string(wire.Get(res, "ttlMs")))
		scope, _ := wire.GetString(res, "cacheScope")
		return ttl, scope
	}
	for path, want := range map[string]struct {
		most  int
		scope string
	}{"/servers/long/mcp": {3600000, "public"}, "/servers/private/mcp": {3600000, "private"}, "/servers/short/mcp": {1200, "public"}, "/mcp": {1200, "private"}} {
		if ttl, scope := hints(path); ttl > want.most || ttl == 0 && want.most > 1200 || scope != want.scope {
			t.Errorf("%s: got %d ms, %s, want at most %d ms, %s", path, ttl, scope, want.most, want.scope)
		}
	}
	before := short.Load()
	<-time.After(1300 * time.Millisecond)
	if ttl, _ := hints("/servers/short/mcp"); ttl != 0 {
		t.Errorf("a list whose time is over holds for %d ms", ttl)
	}
	for deadline := time.Now().Add(10 * time.Second); ; <-time.After(10 * time.Millisecond) {
		if ttl, _ := hints("/servers/short/mcp"); ttl > 0 && short.Load() > before {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the list was asked for %d times more and does not hold", short.Load()-before)
		}
	}
	if long.Load() != 1 || private.Load() != 1 {
		t.Errorf("lists that hold were asked for again: %d, %d", long.Load(), private.Load())
	}
}

// TestMissingCapabilities has a newer server refuse for want of a capability: a client that can declare it is told so as it is.
func TestMissingCapabilities(t *testing.T) {
	cfg := downstream.DefaultConfig()
	cfg.URL = mcptest.Script{
		"server/discover": mcptest.Discover,
		"tools/list":      mcptest.Result(`{"resultType":"complete","ttlMs":0,"cacheScope":"public","tools":[{"name":"a","inputSchema":{"type":"object"}}]}`),
		"tools/call a": func(x *mcptest.Exchange) {
			x.Error(`{"code":-32021,"message":"missing","data":{"requiredCapabilities":{"sampling":{}}}}`)
		},
	}.JSON(t).URL
	forbids := cfg
	forbids.Forbid.Sampling = true
	_, url := start(t, map[string]downstream.Config{"one": cfg, "mute": forbids})
	for _, c := range []struct{ tool, caps, code string }{
		{"one__a", `{}`, "-32021"},
		{"mute__a", `{}`, "-32021"},
		{"mute__a", `{"sampling":{}}`, "-32600"}, // it was withheld
	} {
		res, no := rawCall{url: url + "/mcp", caps: c.caps}.tool(t, c.tool, map[string]any{}, nil)
		if got := string(wire.Get(no, "code")); got != c.code || !bytes.Contains(no, []byte("requiredCapabilities")) {
			t.Errorf("%+v: got %s, error %s", c, res, no)
		}
	}
	old := legacyClient{t: t, url: url + "/mcp"}
	old.open(`{}`)
	if res := old.do("tools/call", `{"name":"one__a","arguments":{}}`); bytes.Contains(res, []byte("-32021")) || !bytes.Contains(res, []byte("missing")) {
		t.Errorf("an older client got %s", res)
	}
}

// TestLevelsAcrossTheEras sets the level in the way of the client's revision and looks at what the server is told.
func TestLevelsAcrossTheEras(t *testing.T) {
	var told atomic.Pointer[string]
	level := func(x *mcptest.Exchange) { s := string(x.Params); told.Store(&s); x.Result(`{}`) }
	old, recent := downstream.DefaultConfig(), downstream.DefaultConfig()
	old.URL = mcptest.Script{
		"initialize":       mcptest.Result(`{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"logging":{}},"serverInfo":{"name":"s","version":"1"}}`),
		"tools/list":       mcptest.Result(`{"tools":[{"name":"a","inputSchema":{"type":"object"}}]}`),
		"tools/call a":     mcptest.Result(`{"content":[]}`),
		"logging/setLevel": level,
	}.JSON(t).URL
	recent.URL = mcptest.Script{
		"server/discover": mcptest.Discover,
		"tools/list":      mcptest.Result(`{"resultType":"complete","ttlMs":0,"cacheScope":"public","tools":[{"name":"a","inputSchema":{"type":"object"}}]}`),
		"tools/call a": func(x *mcptest.Exchange) {
			s := string(wire.Get(wire.Get(x.Params, "_meta"), metaLogLevel))
			told.Store(&s)
			x.Result(`{"resultType":"complete","content":[]}`)
		},
	}.JSON(t).URL
	_, url := start(t, map[string]downstream.Config{"old": old, "new": recent})
	is := func(want string) {
		t.Helper()
		if got := told.Swap(nil); got == nil && want != "" || got != nil && !strings.Contains(*got, want) {
			t.Errorf("the server was told %v, want %q", got, want)
		}
	}
	c := rawCall{url: url + "/mcp"}
	for _, level := range []struct{ set, told string }{{"warning", "warning"}, {"error", ""}, {"debug", "debug"}, {"info", ""}} {
		c.tool(t, "old__a", map[string]any{}, map[string]any{"_meta": map[string]any{metaLogLevel: level.set}})
		is(level.told) // the session is shared: the most talkative counts, and the rest is filtered for each request
	}
	l := legacyClient{t: t, url: url + "/mcp"}
	l.open(`{}`)
	l.do("tools/call", `{"name":"new__a","arguments":{}}`)
	is(`"info"`)
	l.do("logging/setLevel", `{"level":"error"}`)
	l.do("tools/call", `{"name":"new__a","arguments":{}}`)
	is(`"error"`)
}

// TestThinkingTakesNoTime lets a person think for longer than the server may take.
func TestThinkingTakesNoTime(t *testing.T) {
	p := DefaultPolicies()
	p.Timeouts.Overall, p.Timeouts.Attempt = 600*time.Millisecond, 500*time.Millisecond
	downs := map[string]downstream.Config{"one": served(t, "one", false)}
	_, url := startSet(t, downs, func(s *Settings) { s.Policies = map[string]Policies{"one": p} })
	c := rawCall{url: url + "/mcp"}
	res, _ := c.tool(t, "one__elicit", map[string]any{"rounds": 1}, nil)
	more := back(t, res, accepted)
	<-time.After(time.Second)
	if res, no := c.tool(t, "one__elicit", map[string]any{"rounds": 1}, more); !bytes.Contains(res, []byte("Ada")) {
		t.Errorf("got %s, error %s", res, no)
	}
}
