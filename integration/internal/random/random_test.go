package random

import (
	"os"
	"testing"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

func TestMain(m *testing.M) {
	ServePeer()
	os.Exit(m.Run())
}

// TestRandomMessages compares a few; go run ./integration/random compares many.
func TestRandomMessages(t *testing.T) {
	program, err := harness.Build(t.Context(), t.TempDir(), harness.Gateway)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := Run(t.Context(), Options{Program: program, Count: 2000, Seed: 1, PerRig: 1000, Most: 3})
	if err != nil {
		t.Fatal(err)
	}
	if len(rep.Differences) > 0 || rep.Count() < 2000 {
		rep.Write(t.Output())
		t.Errorf("%d differences in %d messages", len(rep.Differences), rep.Count())
	}
}
