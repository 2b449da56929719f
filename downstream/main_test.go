package downstream

import (
	"os"
	"testing"
)

// TestMain makes the test program its own reaper and its own stdio server: MCPGW_TEST_SERVER names which.
func TestMain(m *testing.M) {
	MaybeReaper()
	if role := os.Getenv("MCPGW_TEST_SERVER"); role != "" {
		serveTest(role)
		return
	}
	os.Exit(m.Run())
}
