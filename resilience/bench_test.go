package resilience_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/resilience"
)

// everything is a Config with every policy on except hedging, which needs goroutines.
func everything() resilience.Config {
	cfg := resilience.DefaultConfig()
	cfg.CircuitBreaker.SlowCallDuration, cfg.CircuitBreaker.SlowCallRateThreshold = 5*time.Second, 0.8
	cfg.RateLimit = resilience.RateLimitConfig{Enabled: true, Requests: 1 << 30, Per: time.Second, Burst: 1 << 30, MaxWait: time.Second}
	cfg.Timeouts.Idle = 20 * time.Second
	return cfg
}

type answer struct{ text string }

func BenchmarkDo(b *testing.B) {
	yes := &answer{"yes"}
	fn := func(context.Context) (*answer, error) { return yes, nil }
	for _, bm := range []struct {
		name string
		cfg  func(*resilience.Config)
		opts resilience.Options
		call resilience.Call
	}{
		{name: "off", cfg: func(c *resilience.Config) { *c = resilience.Config{} }},
		{name: "pipeline"},
		{name: "pipeline/default", cfg: func(c *resilience.Config) { *c = resilience.DefaultConfig() }},
		{name: "pipeline/both circuits", cfg: func(c *resilience.Config) { c.CircuitBreaker.Scope = "both" }, call: resilience.Call{Key: "tool"}},
		{name: "pipeline/one attempt", cfg: func(c *resilience.Config) { c.Retry.MaxAttempts = 1 }},
		{name: "pipeline/shadow", cfg: func(c *resilience.Config) { c.Mode = "shadow" }},
		{name: "pipeline/detached", opts: resilience.Options{Detach: true}},
		{name: "pipeline/hedged", cfg: func(c *resilience.Config) {
			c.Hedge = resilience.HedgeConfig{Enabled: true, Delay: "1h", Max: 1}
		}, call: resilience.Call{Safety: resilience.ReadOnly}},
	} {
		b.Run(bm.name, func(b *testing.B) {
			cfg := everything()
			if bm.cfg != nil {
				bm.cfg(&cfg)
			}
			g, err := resilience.NewGuard("bench", cfg, bm.opts)
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := resilience.Do(ctx, g, bm.call, fn); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDoWithFallback(b *testing.B) {
	g, err := resilience.NewGuard("bench", everything(), resilience.Options{})
	if err != nil {
		b.Fatal(err)
	}
	never := resilience.Fallback[int]{Name: "never", Func: func(context.Context, error) (int, error) { return 0, io.EOF }}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := resilience.Do(b.Context(), g, resilience.Call{}, func(context.Context) (int, error) { return 1, nil }, never); err != nil {
			b.Fatal(err)
		}
	}
}

// The way of a call to a dependency whose circuit is open, at once and through the whole pipeline.
func BenchmarkOpen(b *testing.B) {
	for _, bm := range []struct {
		name string
		cfg  func(*resilience.Config)
	}{
		{"downstream", func(*resilience.Config) {}},
		{"tool", func(c *resilience.Config) { c.CircuitBreaker.Scope = "tool" }},
	} {
		b.Run(bm.name, func(b *testing.B) {
			cfg := everything()
			bm.cfg(&cfg)
			cfg.CircuitBreaker.Timeout, cfg.CircuitBreaker.MaxTimeout = time.Hour, time.Hour
			g, err := resilience.NewGuard("bench", cfg, resilience.Options{})
			if err != nil {
				b.Fatal(err)
			}
			c := resilience.Call{Key: "tool"}
			sub, err := g.Sub("tool", cfg)
			if err != nil {
				b.Fatal(err)
			}
			sub.Open()
			fn := func(context.Context) (int, error) { return 0, errors.New("must not run") }
			b.ReportAllocs()
			for b.Loop() {
				if _, err := resilience.Do(b.Context(), g, c, fn); !errors.Is(err, resilience.ErrOpen) {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSnapshot(b *testing.B) {
	g, err := resilience.NewGuard("bench", everything(), resilience.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if len(g.Snapshot()) != 1 {
			b.Fatal("no circuit")
		}
	}
}

func BenchmarkProgress(b *testing.B) {
	g, err := resilience.NewGuard("bench", everything(), resilience.Options{})
	if err != nil {
		b.Fatal(err)
	}
	_, _ = resilience.Do(b.Context(), g, resilience.Call{}, func(ctx context.Context) (int, error) {
		b.ReportAllocs()
		for b.Loop() {
			resilience.Progress(ctx)
		}
		return 0, nil
	})
}

// Many callers of one dependency share one mutex.
func BenchmarkDoParallel(b *testing.B) {
	cfg := everything()
	cfg.Bulkhead.MaxConcurrent = 1000
	g, err := resilience.NewGuard("bench", cfg, resilience.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := resilience.Do(b.Context(), g, resilience.Call{}, func(context.Context) (int, error) { return 1, nil }); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
