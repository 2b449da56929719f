package resilience_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/resilience"
)

func TestAttemptKnowsItsNumber(t *testing.T) {
	cfg := resilience.DefaultConfig()
	cfg.Retry.InitialDelay, cfg.Retry.MaxDelay = time.Millisecond, time.Millisecond
	var why []resilience.Reason
	g, err := resilience.NewGuard("x", cfg, resilience.Options{Events: resilience.Events{NotRepeated: func(_ context.Context, _ resilience.Call, r resilience.Reason) { why = append(why, r) }}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	fail := func(ctx context.Context) (int, error) {
		n, kind := resilience.AttemptOf(ctx)
		got = append(got, fmt.Sprintf("%d %s", n, kind))
		return 0, io.ErrUnexpectedEOF
	}
	if _, err := resilience.Do(t.Context(), g, resilience.Call{Safety: resilience.ReadOnly}, fail); err == nil {
		t.Error("it succeeded")
	}
	if d := cmp.Diff([]string{"1 first", "2 retry", "3 retry"}, got); d != "" {
		t.Error(d)
	}
	if n, kind := resilience.AttemptOf(t.Context()); n != 1 || kind != "first" {
		t.Errorf("outside of any attempt: %d %s", n, kind)
	}
	if _, err := resilience.Do(t.Context(), g, resilience.Call{}, fail); err == nil {
		t.Error("it succeeded")
	}
	if d := cmp.Diff([]resilience.Reason{resilience.RetriesExhausted, resilience.NotIdempotent}, why); d != "" {
		t.Error(d)
	}
}
