package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/mcptest"
	"github.com/mcpgw/mcpgw/internal/wire"
	"github.com/mcpgw/mcpgw/resilience"
)

// BenchmarkCall is one call of a server over loopback that costs next to nothing, on its way through the policies, against the same way
// with the policies switched off.
func BenchmarkCall(b *testing.B) {
	for _, bb := range []struct {
		name string
		set  func(*Policies)
	}{
		{"default", func(*Policies) {}},
		{"off", func(p *Policies) { p.Enabled = false }},
		{"shadow", func(p *Policies) { p.Mode = "shadow" }},
		{"own", func(p *Policies) { p.Tools = map[string]resilience.Config{"*": p.Config} }},
	} {
		b.Run(bb.name, func(b *testing.B) {
			g, r, to := benchCall(b, bb.set)
			params := wire.Index(json.RawMessage(`{"name":"memory","arguments":{}}`))
			b.ReportAllocs()
			for b.Loop() {
				c := &downstream.Call{Method: "tools/call", Target: "memory", Params: params.Raw, Body: &params, Stream: r.stream, Modern: true}
				if _, err := g.call(b.Context(), r, &to, c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRefused is a call that an open circuit refuses, and the answer about it that a client reads.
func BenchmarkRefused(b *testing.B) {
	g, r, to := benchCall(b, func(p *Policies) { p.CircuitBreaker.Probe.Enabled = false })
	if _, err := g.Control("host", "open", "bench"); err != nil {
		b.Fatal(err)
	}
	params := wire.Index(json.RawMessage(`{"name":"memory","arguments":{}}`))
	refuse := func(b *testing.B) error {
		_, err := g.call(b.Context(), r, &to, &downstream.Call{Method: "tools/call", Target: "memory", Params: params.Raw, Body: &params, Stream: r.stream, Modern: true})
		if !errors.Is(err, resilience.ErrOpen) {
			b.Fatal(err)
		}
		return err
	}
	b.Run("policies", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = refuse(b)
		}
	})
	b.Run("answer", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if toolFailure(explain("host", refuse(b))) == nil {
				b.Fatal("no answer")
			}
		}
	})
}

// BenchmarkStatus is what circuit_status reads.
func BenchmarkStatus(b *testing.B) {
	g, _, _ := benchCall(b, func(*Policies) {})
	b.ReportAllocs()
	for b.Loop() {
		if st := g.Status(); len(st.Circuits) != 1 {
			b.Fatal(st)
		}
	}
}

func benchCall(b *testing.B, set func(*Policies)) (*Gateway, *request, route) {
	b.Helper()
	return benchCallWith(b, Options{}, set)
}

func benchCallWith(b testing.TB, opts Options, set func(*Policies)) (*Gateway, *request, route) {
	b.Helper()
	cfg := downstream.DefaultConfig()
	cfg.URL = mcptest.Script{
		"server/discover":   mcptest.Discover,
		"tools/list":        mcptest.Result(`{"resultType":"complete","ttlMs":60000,"cacheScope":"public","tools":[{"name":"memory","inputSchema":{"type":"object"}}]}`),
		"tools/call memory": mcptest.Result(`{"resultType":"complete","content":[{"type":"text","text":"much"}]}`),
	}.JSON(b).URL
	p := DefaultPolicies()
	set(&p)
	g := New(opts)
	b.Cleanup(func() {
		if err := g.Close(context.WithoutCancel(b.Context())); err != nil {
			b.Error(err)
		}
	})
	if _, err := g.Apply(b.Context(), Settings{Gateway: DefaultConfig(), Downstreams: map[string]downstream.Config{"host": cfg}, Policies: map[string]Policies{"host": p}}); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.Context(), 10*time.Second)
	defer cancel()
	if err := g.Settled(ctx); err != nil {
		b.Fatal(err)
	}
	t := g.tableFor("")
	for _, to := range t.tools {
		if to.own == "memory" {
			return g, &request{method: "tools/call", modern: true, table: t, principal: anonymous, stream: discard{}}, to
		}
	}
	b.Fatalf("no tool memory among %v", t.tools)
	return nil, nil, route{}
}

// discard is a client that hears nothing.
type discard struct{}

func (discard) Notify(string, json.RawMessage) {}
func (discard) Request(context.Context, string, json.RawMessage) (json.RawMessage, error) {
	return nil, wire.Errorf(wire.CodeMethodNotFound, "nobody to ask")
}
