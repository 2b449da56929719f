package main

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// delete ends the legacy session.
func (c *conn) delete() error {
	_, err := c.roundTrip(fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\nMcp-Protocol-Version: 2025-11-25\r\nMcp-Session-Id: %s\r\nContent-Length: 0\r\n\r\n",
		http.MethodDelete, c.url.RequestURI(), c.url.Host, c.session))
	if err != nil {
		return fmt.Errorf("DELETE: %w", err)
	}
	return nil
}

// idleSessions opens legacy sessions on a gateway with one server, leaves them alone and reads its memory.
func (b *bench) idleSessions(ctx context.Context) error {
	if b.gateway == "" {
		return nil
	}
	st := b.stage()
	defer st.close()
	up, err := st.role(ctx, role{name: "sdk"})
	if err != nil {
		return err
	}
	gw, err := st.mcpgw(ctx, map[string]string{"s": "http://" + up.Addr + "/"}, []string{"s"}, false)
	if err != nil {
		return err
	}
	before, err := rss(gw.PID())
	if err != nil {
		return err
	}
	c, err := dial(ctx, "http://"+gw.Addr+"/mcp", false)
	if err != nil {
		return err
	}
	defer c.close()
	ids := map[string]bool{c.session: true}
	for len(ids) < b.sessions {
		if err := c.initialize(); err != nil {
			return fmt.Errorf("session %d: %w", len(ids)+1, err)
		}
		ids[c.session] = true
	}
	var most, now int64
	tick := time.NewTicker(250 * time.Millisecond) // the collector and the scavenger get ten seconds, and the worst moment counts
	defer tick.Stop()
	for range 40 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if now, err = rss(gw.PID()); err != nil {
			return err
		}
		most = max(most, now)
	}
	alive := 0
	for id := range ids {
		c.session = id
		if err := c.call(c.request("tools/list", "", "{}"), 1); err != nil {
			return fmt.Errorf("a session died of idleness: %w", err)
		}
		if alive++; alive == 100 {
			break
		}
	}
	mb := func(n int64) string { return fmt.Sprintf("%.1f", float64(n)/(1<<20)) }
	b.report.heading("%d idle legacy sessions", len(ids))
	b.report.head("RSS MB before", "most", "after 10 s", "KB per session")
	b.report.row(mb(before), mb(most), mb(now), fmt.Sprintf("%.1f", float64(most-before)/1024/float64(len(ids))))
	b.report.check(fmt.Sprintf("8: %d idle sessions", len(ids)), "≤ 60 MB RSS", mb(most)+" MB", most <= 60<<20)
	return nil
}
