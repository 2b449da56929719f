package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
)

// telemetry measures what metrics and traces cost the gateway: processor time for each call against a gateway that tells nothing, all of
// them in front of the same server. It checks bar 3 of issue 6.
func (b *bench) telemetry(ctx context.Context, modern bool) error {
	st := b.stage()
	defer st.close()
	up, err := st.role(ctx, role{name: "raw", modern: modern})
	if err != nil {
		return err
	}
	sink := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })) // a collector that takes everything
	defer sink.Close()
	const off = "telemetry: { metrics: { prometheus: false, exporter: none }, traces: { exporter: none } }\n"
	var vs []*variant
	for _, v := range []struct{ name, yaml string }{
		{"off", off},
		{"off again", off}, // how far two that are alike differ
		{"metrics", "telemetry: { metrics: { prometheus: true, exporter: none }, traces: { exporter: none } }\n"},
		{"metrics and traces at 10 %", "telemetry: { metrics: { prometheus: true, exporter: none }, traces: { exporter: otlp, sample: 0.1 } }\n"},
	} {
		st.yaml, st.vars = v.yaml, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + sink.URL}
		gw, err := st.mcpgw(ctx, map[string]string{"s": "http://" + up.Addr + "/"}, []string{"s"}, modern)
		if err != nil {
			return err
		}
		vs = append(vs, &variant{name: v.name, hop: gw, endpoint: "http://" + gw.Addr + "/mcp", tool: "s__echo"})
	}
	for _, callers := range b.callers {
		if err := b.telemetryTable(ctx, vs, modern, callers); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) telemetryTable(ctx context.Context, vs []*variant, modern bool, callers int) error {
	const size = 1 << 10
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
	b.report.heading("telemetry, tools/call, %s, %s, %d callers, GOGC %s", eraName(modern), sizeName(size), callers, b.gogcName())
	b.report.head("telemetry", "gateway CPU µs/call", "CPU / off (least–most)")
	bars := map[string]float64{"metrics": 1.03, "metrics and traces at 10 %": 1.05}
	for _, v := range vs {
		r := compareCPU(v, vs[0])
		b.report.row(v.name, us(v.figures().cpu), r.String())
		if most, ok := bars[v.name]; ok {
			what := fmt.Sprintf("telemetry: %s, %s, %d callers", v.name, eraName(modern), callers)
			b.report.check(what, fmt.Sprintf("gateway CPU ≤ %.2f × off", most), strings.TrimSpace(r.String()), r.median <= most)
		}
	}
	return nil
}
