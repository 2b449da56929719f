package main

import (
	"io/fs"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

// tuneMemory trades memory that the gateway does not use for time. Its live heap is small, so that by default the collector would
// run every few calls: at 400 % a 1 KB call was measured to cost half the CPU. The heap may then be five times what is in use, so
// the limit of the container or service, if there is one, is given to the collector too: it works harder near the limit instead of
// the process being killed. Without such a limit none is set, since one that is too low makes a program collect all the time.
// GOGC and GOMEMLIMIT, which Go's runtime has read already, win.
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		if limit := cgroupLimit(os.DirFS("/")); limit > 0 {
			debug.SetMemoryLimit(limit / 10 * 9) // the rest is for stacks that grow, and for what Go does not count
		}
	}
}

// cgroupLimit returns the least memory limit, in bytes, of the control groups (version 2, or version 1 in a container) that this
// process is in; 0 if there is none. root is the root of the file system.
func cgroupLimit(root fs.FS) int64 {
	limit := int64(math.MaxInt64)
	read := func(name ...string) {
		data, err := fs.ReadFile(root, path.Join(name...))
		if err != nil {
			return
		}
		// "max" is no number, and version 1 writes a huge one for no limit.
		if n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil && n > 0 && n < 1<<50 {
			limit = min(limit, n)
		}
	}
	self, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0 // not Linux
	}
	for line := range strings.Lines(string(self)) {
		group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
			continue
		}
		for dir := path.Join("/", group); ; dir = path.Dir(dir) {
			read("sys/fs/cgroup", dir, "memory.max")
			if dir == "/" {
				break
			}
		}
	}
	read("sys/fs/cgroup/memory/memory.limit_in_bytes")
	if limit == math.MaxInt64 {
		return 0
	}
	return limit
}
