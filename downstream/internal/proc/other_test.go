//go:build unix && !linux

package proc

func reaperOf(*Process) int { return 0 }

func withoutReaper() func() { return func() {} }
