package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// cpuTime returns the processor time that a process has used, from the scheduler's nanosecond counters of its threads. The
// ticks of /proc/PID/stat would be too coarse for a slice of half a second; threads that ended are not counted, and Go ends none.
func cpuTime(pid int) (time.Duration, error) {
	files, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/schedstat")
	if err != nil || len(files) == 0 {
		return 0, errors.Join(errors.New("this kernel has no schedstat for process "+strconv.Itoa(pid)), err)
	}
	var sum time.Duration
	for _, f := range files {
		b, err := os.ReadFile(filepath.Clean(f))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		ns, _, _ := strings.Cut(string(b), " ")
		n, err := strconv.ParseInt(ns, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", f, err)
		}
		sum += time.Duration(n)
	}
	return sum, nil
}

// rss returns the resident memory of a process in bytes.
func rss(pid int) (int64, error) {
	b, err := os.ReadFile(filepath.Clean("/proc/" + strconv.Itoa(pid) + "/status"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "kB")), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("process %d has no VmRSS", pid)
}

// allocs asks a process of this program how much it has allocated. Others answer something else and count as 0.
func allocs(ctx context.Context, addr string) (mallocs, size uint64) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/-/allocs", http.NoBody)
	if err != nil {
		return 0, 0
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, 0
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1000))
	if err != nil || resp.StatusCode != http.StatusOK {
		return 0, 0
	}
	if _, err := fmt.Sscan(string(b), &mallocs, &size); err != nil {
		return 0, 0
	}
	return mallocs, size
}
