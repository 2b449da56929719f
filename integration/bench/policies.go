package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// quietTelemetry keeps what telemetry costs out of what the policies cost.
const quietTelemetry = "telemetry: { metrics: { prometheus: false, exporter: none }, traces: { exporter: none } }\n"

// policies measures what the policies cost a call, and what bad neighbours cost a healthy server. It checks bars 3 and 5 of issue 3.
func (b *bench) policies(ctx context.Context, modern bool) error {
	if err := b.policyCost(ctx, modern); err != nil {
		return err
	}
	return b.neighbours(ctx, modern)
}

// perSecond is how many calls the callers make together.
const perSecond = 1000

// policyCost compares the gateway's processor time for each call with all policies on and with none, at a steady rate.
func (b *bench) policyCost(ctx context.Context, modern bool) error {
	st := b.stage()
	defer st.close()
	up, err := st.role(ctx, role{name: "raw", modern: modern})
	if err != nil {
		return err
	}
	var vs []*variant
	for _, v := range []struct{ name, yaml string }{
		{"off", "resilience: { enabled: false }\n"},
		{"off again", "resilience: { enabled: false }\n"}, // how far two that are alike differ
		{"defaults", ""},
		{"all on", "resilience: { defaults: { timeouts: { idle: 20s }, rate_limit: { enabled: true, requests: 1000000, per: 1s, burst: 1000000 }, " +
			"circuit_breaker: { scope: both, slow_call_duration: 20s, slow_call_rate_threshold: 0.8 } } }\n"},
	} {
		st.yaml = quietTelemetry + v.yaml
		gw, err := st.mcpgw(ctx, map[string]string{"s": "http://" + up.Addr + "/"}, []string{"s"}, modern)
		if err != nil {
			return err
		}
		vs = append(vs, &variant{name: v.name, hop: gw, endpoint: "http://" + gw.Addr + "/mcp", tool: "s__echo"})
	}
	const size, callers = 1 << 10, 16
	text := payload(size)
	next := map[*conn]*time.Time{}
	for _, v := range vs {
		defer v.closeConns()
		err := v.open(ctx, callers, modern, func(c *conn) []byte {
			next[c] = new(time.Time)
			return c.request("tools/call", v.tool, params(modern, `"name":"`+v.tool+`","arguments":{"text":`+text+`}`))
		})
		if err != nil {
			return err
		}
	}
	err = rounds(ctx, vs, 2*b.rounds, 4*b.slice, func(v *variant, c *conn) error {
		pace(next[c], callers*time.Second/perSecond)
		return c.call(v.requests[c], size)
	})
	if err != nil {
		return err
	}
	b.report.heading("policies, tools/call, %s, %s, %d calls/s, GOGC %s", eraName(modern), sizeName(size), perSecond, b.gogcName())
	b.report.head("policies", "gateway CPU µs/call", "CPU / off (least–most)")
	for _, v := range vs {
		r := compareCPU(v, vs[0])
		b.report.row(v.name, us(v.figures().cpu), r.String())
		if v.name == "all on" {
			b.report.check("issue 3, 5: all policies on, "+eraName(modern), "gateway CPU ≤ 1.03 × off", r.String(), r.median <= 1.03)
		}
	}
	return nil
}

// pace waits until the next call of a steady rate is due.
func pace(next *time.Time, every time.Duration) {
	now := time.Now()
	if next.IsZero() || now.Sub(*next) > time.Second {
		*next = now // it begins, or begins again after a pause
	}
	if wait := next.Sub(now); wait > 0 {
		<-time.After(wait)
	}
	*next = next.Add(every)
}

// neighbour is a server whose calls hang, fail or work.
func neighbour(do string) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		m, err := wire.Parse(body, 100)
		var result string
		switch {
		case err != nil || r.Method != http.MethodPost:
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		case !m.IsRequest():
			w.WriteHeader(http.StatusAccepted)
			return
		case m.Method == "server/discover":
			result = `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"private"}`
		case m.Method == "tools/list":
			result = `{"resultType":"complete","ttlMs":0,"cacheScope":"private","tools":[{"name":"echo","inputSchema":{"type":"object"}}]}`
		case m.Method == "tools/call" && do == "hang":
			<-r.Context().Done()
			return
		case m.Method == "tools/call" && do == "fail":
			w.WriteHeader(http.StatusInternalServerError)
			return
		default:
			result = `{"resultType":"complete","content":[{"type":"text","text":"hello"}]}`
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result)
	}))
}

// neighbours measures the p99 of a healthy server alone, beside twenty callers of a server that works, and beside as many of one that
// hangs and one that fails, in turns.
func (b *bench) neighbours(ctx context.Context, modern bool) error {
	st := b.stage()
	defer st.close()
	up, err := st.role(ctx, role{name: "raw", modern: modern})
	if err != nil {
		return err
	}
	urls := map[string]string{"s": "http://" + up.Addr + "/"}
	for _, name := range []string{"hang", "fail", "fine"} {
		srv := neighbour(name)
		defer srv.Close()
		defer srv.CloseClientConnections()
		urls[name] = srv.URL + "/mcp"
	}
	st.yaml = quietTelemetry + "resilience: { defaults: { timeouts: { attempt: 1s, overall: 2s } } }\n"
	gw, err := st.mcpgw(ctx, urls, []string{"s", "hang", "fail", "fine"}, modern)
	if err != nil {
		return err
	}
	endpoint := "http://" + gw.Addr + "/mcp"
	healthy := &variant{name: "healthy", hop: gw, endpoint: endpoint}
	call := func(server string) func(*conn) []byte {
		name := server + "__echo"
		return func(c *conn) []byte {
			return c.request("tools/call", name, params(modern, `"name":"`+name+`","arguments":{"text":"hello"}`))
		}
	}
	defer healthy.closeConns()
	if err := healthy.open(ctx, 2, modern, call("s")); err != nil {
		return err
	}
	const hammers = 20
	beside := map[string][]string{"alone": nil, "beside one that works": {"fine"}, "beside one that hangs and one that fails": {"hang", "fail"}}
	order := []string{"alone", "beside one that works", "beside one that hangs and one that fails"}
	p99 := map[string][]time.Duration{}
	for range 2 * b.rounds {
		for _, name := range order {
			stop, err := b.hammer(ctx, endpoint, modern, beside[name], hammers, call)
			if err != nil {
				return err
			}
			<-time.After(b.slice) // circuits open
			s, err := drive(healthy.conns, 4*b.slice, func(c *conn) error { return c.call(healthy.requests[c], 1) })
			stop()
			if err != nil {
				return err
			}
			p99[name] = append(p99[name], s.quantile(0.99))
		}
	}
	b.report.heading("healthy server, p99 of its calls, %s, 2 callers, %d callers of the neighbours at 20 calls/s each", eraName(modern), hammers)
	b.report.head("", "p99 ms", "ratio to alone (least–most)")
	for _, name := range order {
		all := make([]float64, len(p99[name]))
		for i, d := range p99[name] {
			all[i] = float64(d) / float64(p99["alone"][i])
		}
		r := ratio{median(all), slices.Min(all), slices.Max(all)}
		b.report.row(name, ms(median(p99[name])), r.String())
		if strings.Contains(name, "hangs") {
			b.report.check("issue 3, 3: healthy p99 beside a hung and a failing server, "+eraName(modern), "≤ 1.10 × alone", r.String(), r.median <= 1.10)
		}
	}
	return nil
}

// hammer has callers call servers until the function that it returns is called. What they are answered does not matter.
func (b *bench) hammer(ctx context.Context, endpoint string, modern bool, servers []string, callers int, call func(string) func(*conn) []byte) (func(), error) {
	if len(servers) == 0 {
		return func() {}, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for i := range callers {
		c, err := dial(ctx, endpoint, modern)
		if err != nil {
			cancel()
			wg.Wait()
			return nil, err
		}
		req := call(servers[i%len(servers)])(c)
		wg.Go(func() {
			defer c.close()
			defer context.AfterFunc(ctx, c.close)()
			var next time.Time
			for ctx.Err() == nil {
				pace(&next, 50*time.Millisecond)
				if c.call(req, 1) != nil {
					return
				}
			}
		})
	}
	return func() { cancel(); wg.Wait() }, nil
}
