package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

const (
	listServers = 10
	listTools   = 100       // of each server
	listAnswer  = 787 << 10 // bytes of the answer, about
)

// list measures tools/list of 1,000 tools that come from ten servers: naive, mcpgw, and mcpgw with three dead servers beside them.
// Direct is one server that has them all.
func (b *bench) list(ctx context.Context, modern bool) error {
	st := b.stage()
	defer st.close()
	one, err := st.role(ctx, role{name: "sdk", modern: modern, tools: listServers * listTools})
	if err != nil {
		return err
	}
	urls := map[string]string{}
	var targets []string
	for i := range listServers {
		p, err := st.role(ctx, role{name: "sdk", modern: modern, tools: listTools, prefix: fmt.Sprintf("s%d_", i)})
		if err != nil {
			return err
		}
		urls[fmt.Sprintf("s%d", i)] = "http://" + p.Addr + "/"
		targets = append(targets, "http://"+p.Addr+"/")
	}
	naive, err := st.role(ctx, role{name: "naive", modern: modern, targets: targets})
	if err != nil {
		return err
	}
	floor, err := st.role(ctx, role{name: "static", tools: listAnswer >> 10})
	if err != nil {
		return err
	}
	vs := []*variant{
		{name: "as many bytes, from memory", hop: floor, endpoint: "http://" + floor.Addr + "/"},
		{name: "direct, one server", hop: one, endpoint: "http://" + one.Addr + "/"},
		{name: "naive", hop: naive, endpoint: "http://" + naive.Addr + "/"},
	}
	healthy := slices.Sorted(maps.Keys(urls))
	gw, err := st.mcpgw(ctx, urls, healthy, modern)
	if err != nil && !errors.Is(err, errNoGateway) {
		return err
	}
	if err == nil {
		bad, closeBad, err := badServers(ctx)
		if err != nil {
			return err
		}
		defer closeBad()
		maps.Copy(bad, urls)
		sick, err := st.mcpgw(ctx, bad, healthy, modern)
		if err != nil {
			return err
		}
		vs = append(vs, &variant{name: "mcpgw", hop: gw, endpoint: "http://" + gw.Addr + "/mcp"},
			&variant{name: "mcpgw, three more that are dead", hop: sick, endpoint: "http://" + sick.Addr + "/mcp"})
	}
	for _, v := range vs {
		defer v.closeConns()
		if err := v.open(ctx, 1, modern, func(c *conn) []byte { return c.request("tools/list", "", params(modern, "")) }); err != nil {
			return err
		}
	}
	// The naive gateway has one tool echo for all its servers, so it lists fewer.
	if err := rounds(ctx, vs, b.rounds, b.slice, func(v *variant, c *conn) error { return c.call(v.requests[c], 500<<10) }); err != nil {
		return err
	}
	b.report.heading("tools/list of 1,000 tools, %s, 1 caller, GOGC %s", eraName(modern), b.gogcName())
	b.report.head("", "p50 ms", "p99 ms", "calls/s", "hop CPU µs/call", "answer KB")
	for _, v := range vs {
		f := v.figures()
		b.report.row(v.name, ms(f.p50), ms(f.p99), fmt.Sprintf("%.0f", f.perSecond), us(f.cpu), strconv.Itoa(len(v.conns[0].buf)>>10))
	}
	if len(vs) == 5 {
		what := fmt.Sprintf("%s, GOGC %s", eraName(modern), b.gogcName())
		p50, floor := vs[3].figures().p50, vs[0].figures().p50
		b.report.check("5: tools/list, "+what, "p50 ≤ 0.3 ms", fmt.Sprintf("%s ms (moving the bytes alone: %s ms)", ms(p50), ms(floor)), p50 <= 300*time.Microsecond)
		r := compare(vs[4], vs[3])
		b.report.check("5: with dead servers, "+what, "no growth (≤ 1.1)", r.String(), r.median <= 1.1)
	}
	return nil
}
