//go:build race

package integration

// buildFlags builds the gateway with the race detector when the tests run under it.
var buildFlags = []string{"-race"}

// environment spares each program the second that the race detector waits before it lets it end.
var environment = []string{"GORACE=atexit_sleep_ms=0"}
