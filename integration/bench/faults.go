package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// badServers opens one address that refuses connections, one that accepts and never answers, and one that answers garbage.
func badServers(ctx context.Context) (urls map[string]string, closeAll func(), err error) {
	refusing, err := harness.FreeAddr()
	if err != nil {
		return nil, nil, err
	}
	var lc net.ListenConfig
	silent, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	garbage, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, errors.Join(err, silent.Close())
	}
	var wg sync.WaitGroup
	var mu sync.Mutex // guards open
	var open []net.Conn
	accept := func(l net.Listener, say string) {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			if say != "" {
				_, _ = c.Write([]byte(say))
				_ = c.Close()
			}
		}
	}
	wg.Go(func() { accept(silent, "") })
	wg.Go(func() {
		accept(garbage, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 30\r\n\r\n{\"jsonrpc\":\"2.0\",\xff\xfe garbage }}}")
	})
	urls = map[string]string{
		"refusing": "http://" + refusing + "/mcp",
		"silent":   "http://" + silent.Addr().String() + "/mcp",
		"garbage":  "http://" + garbage.Addr().String() + "/mcp",
	}
	return urls, func() {
		_, _ = silent.Close(), garbage.Close()
		wg.Wait()
		for _, c := range open {
			_ = c.Close()
		}
	}, nil
}

// faults measures what a client sees of seven healthy servers, alone and beside three bad ones.
func (b *bench) faults(ctx context.Context, modern bool) error {
	if b.gateway == "" {
		return nil
	}
	st := b.stage()
	defer st.close()
	urls := map[string]string{}
	for i := range 7 {
		p, err := st.role(ctx, role{name: "sdk", modern: modern, tools: 20, prefix: fmt.Sprintf("s%d_", i)})
		if err != nil {
			return err
		}
		urls[fmt.Sprintf("s%d", i)] = "http://" + p.Addr + "/"
	}
	healthy := slices.Sorted(maps.Keys(urls))
	alone, err := st.mcpgw(ctx, urls, healthy, modern)
	if err != nil {
		return err
	}
	bad, closeBad, err := badServers(ctx)
	if err != nil {
		return err
	}
	defer closeBad()
	maps.Copy(bad, urls)
	beside, err := st.mcpgw(ctx, bad, healthy, modern)
	if err != nil {
		return err
	}
	b.report.heading("Seven healthy servers alone and beside three bad ones (refusing, silent, garbage), %s, 1 caller", eraName(modern))
	b.report.head("", "alone p50 ms", "with bad ones p50 ms", "ratio (least–most)")
	type op struct {
		name string
		req  func(*conn) []byte
		do   func(v *variant, c *conn) error
	}
	plain := func(v *variant, c *conn) error { return c.call(v.requests[c], 1) }
	ops := []op{
		{"tools/list", func(c *conn) []byte { return c.request("tools/list", "", params(modern, "")) }, plain},
		{"tools/call", func(c *conn) []byte {
			return c.request("tools/call", "s0__echo", params(modern, `"name":"s0__echo","arguments":{"text":"hello"}`))
		}, plain},
	}
	if modern {
		ops = append(ops, op{"server/discover", func(c *conn) []byte { return c.request("server/discover", "", params(modern, "")) }, plain})
	} else {
		ops = append(ops, op{"initialize, initialized, DELETE", func(*conn) []byte { return nil }, func(_ *variant, c *conn) error {
			if err := c.initialize(); err != nil {
				return err
			}
			return c.delete()
		}})
	}
	for _, o := range ops {
		vs := []*variant{
			{name: "alone", hop: alone, endpoint: "http://" + alone.Addr + "/mcp"},
			{name: "beside", hop: beside, endpoint: "http://" + beside.Addr + "/mcp"},
		}
		for _, v := range vs {
			defer v.closeConns()
			if err := v.open(ctx, 1, modern, o.req); err != nil {
				return err
			}
		}
		if err := rounds(ctx, vs, b.rounds, b.slice, o.do); err != nil {
			return err
		}
		r := compare(vs[1], vs[0])
		b.report.row(o.name, ms(vs[0].figures().p50), ms(vs[1].figures().p50), r.String())
		b.report.check(fmt.Sprintf("6: %s, %s", o.name, eraName(modern)), "≤ 1.2 × without bad servers", r.String(), r.median <= 1.2)
	}
	return nil
}
