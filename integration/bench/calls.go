package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// payload returns a JSON string of about n bytes with quotes and backslashes in it, which are what makes scanning slow.
func payload(n int) string {
	const part = `abcdefgh "quoted" \ line `
	b, err := json.Marshal(strings.Repeat(part, n/len(part)+1)[:n])
	if err != nil {
		panic(err) // a string
	}
	return string(b)
}

// calls measures tools/call: direct, through the plain reverse proxy, the naive gateway and mcpgw, each in front of a server made with
// the SDK and one that does next to nothing.
func (b *bench) calls(ctx context.Context, modern bool) error {
	st := b.stage()
	defer st.close()
	var vs []*variant
	for _, server := range []string{"sdk", "raw"} {
		more, err := b.callVariants(ctx, st, server, modern)
		if err != nil {
			return err
		}
		vs = append(vs, more...)
	}
	for _, size := range b.sizes {
		for _, callers := range b.callers {
			if err := b.callTable(ctx, vs, modern, size, callers); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) callVariants(ctx context.Context, st *stage, server string, modern bool) ([]*variant, error) {
	up, err := st.role(ctx, role{name: server, modern: modern})
	if err != nil {
		return nil, err
	}
	target := "http://" + up.Addr + "/"
	vs := []*variant{{name: server + ": direct", hop: up, endpoint: target, tool: "echo"}}
	for _, hop := range []string{"proxy", "naive"} {
		p, err := st.role(ctx, role{name: hop, modern: modern, targets: []string{target}})
		if err != nil {
			return nil, err
		}
		vs = append(vs, &variant{name: server + ": " + hop, hop: p, endpoint: "http://" + p.Addr + "/", tool: "echo"})
	}
	gw, err := st.mcpgw(ctx, map[string]string{"s": target}, []string{"s"}, modern)
	if errors.Is(err, errNoGateway) {
		return vs, nil
	}
	if err != nil {
		return nil, err
	}
	return append(vs, &variant{name: server + ": mcpgw", hop: gw, endpoint: "http://" + gw.Addr + "/mcp", tool: "s__echo"}), nil
}

func (b *bench) callTable(ctx context.Context, vs []*variant, modern bool, size, callers int) error {
	text := payload(size)
	for _, v := range vs {
		defer v.closeConns()
		err := v.open(ctx, callers, modern, func(c *conn) []byte {
			return c.request("tools/call", v.tool, params(modern, `"name":"`+v.tool+`","arguments":{"text":`+text+`}`))
		})
		if err != nil {
			return err
		}
	}
	if err := rounds(ctx, vs, b.rounds, b.slice, func(v *variant, c *conn) error { return c.call(v.requests[c], size) }); err != nil {
		return err
	}
	b.report.heading("tools/call, %s, %s, %d callers, GOGC %s", eraName(modern), sizeName(size), callers, b.gogcName())
	b.report.head("server: hop", "p50 ms", "p99 ms", "calls/s", "p50 / proxy (least–most)", "hop CPU µs/call", "allocs/call", "KB/call")
	by := map[string]*variant{}
	for _, v := range vs {
		by[v.name] = v
		f := v.figures()
		server, _, _ := strings.Cut(v.name, ":")
		vs, alloc, kb := "", "", ""
		if p := by[server+": proxy"]; p != nil && p != v {
			vs = compare(v, p).String()
		}
		if f.mallocs > 0 {
			alloc, kb = fmt.Sprintf("%.0f", f.mallocs), fmt.Sprintf("%.1f", f.kbytes)
		}
		b.report.row(v.name, ms(f.p50), ms(f.p99), fmt.Sprintf("%.0f", f.perSecond), vs, us(f.cpu), alloc, kb)
	}
	for _, server := range []string{"sdk", "raw"} {
		if gw := by[server+": mcpgw"]; gw != nil {
			what := fmt.Sprintf("%s, %s, %d callers, %s server, GOGC %s", eraName(modern), sizeName(size), callers, server, b.gogcName())
			b.callBars(what, size, callers, gw, by[server+": proxy"], by[server+": naive"])
		}
	}
	return nil
}

// callBars checks bars 3 and 4 of issue 2. Latency is compared with one caller. Processor time is compared with one and with several: a
// lone caller makes every hop go to sleep and wake up several times for each call, which costs more than the call itself and the same
// for all of them.
func (b *bench) callBars(what string, size, callers int, gw, proxy, naive *variant) {
	if callers == 1 {
		r := compare(gw, proxy)
		b.report.check("3: "+what, "p50 ≤ 1.15 × reverse proxy", r.String(), r.median <= 1.15)
	}
	g, p, n := gw.figures().cpu.Seconds(), proxy.figures().cpu.Seconds(), naive.figures().cpu.Seconds()
	got := fmt.Sprintf("%.2f × proxy, 1/%.1f of naive", g/p, n/g)
	if p > n/3 && size <= 1024 {
		got += fmt.Sprintf(" (the proxy itself is 1/%.1f)", n/p)
	}
	if size <= 1024 {
		b.report.check("4: "+what, "CPU ≤ 1.2 × reverse proxy, ≤ 1/3 of naive", got, g <= 1.2*p && g <= n/3)
	} else {
		b.report.check("4: "+what, "CPU ≤ 1/6 of naive", got, g <= n/6)
	}
}
