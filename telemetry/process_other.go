//go:build !unix

package telemetry

import "time"

// cpuTime is not known here.
func cpuTime() (user, system time.Duration, ok bool) { return 0, 0, false }
