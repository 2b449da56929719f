//go:build unix

package telemetry

import (
	"syscall"
	"time"
)

// cpuTime returns the time that the process has spent in itself and in the kernel.
func cpuTime() (user, system time.Duration, ok bool) {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0, 0, false
	}
	return seconds(int64(u.Utime.Sec), int64(u.Utime.Usec)), seconds(int64(u.Stime.Sec), int64(u.Stime.Usec)), true //nolint:unconvert // int32 on some systems
}
