package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// usage is what a process holds.
type usage struct {
	files    int
	threads  int
	children int
	rss      int64 // bytes
}

// measure reads what a process and the processes below it hold.
func measure(pid int) (usage, error) {
	var u usage
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return u, err
	}
	u.files = len(files)
	st, err := statusOf(pid)
	if err != nil {
		return u, err
	}
	u.threads = int(st["Threads"])
	u.rss = st["VmRSS"] << 10
	below, err := descendants(pid)
	u.children = len(below)
	return u, err
}

// statusOf reads the numbers of /proc/PID/status.
func statusOf(pid int) (map[string]int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil, err
	}
	out := map[string]int64{}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		if f := strings.Fields(value); len(f) > 0 {
			if n, err := strconv.ParseInt(f[0], 10, 64); err == nil {
				out[key] = n
			}
		}
	}
	return out, nil
}

// descendants returns the processes that a process started, and those that they did. Zombies are not among them.
func descendants(pid int) ([]int, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	below := map[int][]int{}
	for _, dir := range dirs {
		b, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue // it ended while we looked
		}
		_, rest, ok := strings.Cut(string(b), ") ")
		f := strings.Fields(rest)
		if !ok || len(f) < 2 || f[0] == "Z" {
			continue
		}
		parent, err := strconv.Atoi(f[1])
		child, err2 := strconv.Atoi(filepath.Base(dir))
		if errors.Join(err, err2) == nil {
			below[parent] = append(below[parent], child)
		}
	}
	var out []int
	for todo := []int{pid}; len(todo) > 0; todo = todo[1:] {
		out = append(out, below[todo[0]]...)
		todo = append(todo, below[todo[0]]...)
	}
	return out, nil
}

// cpuTime returns the processor time that a process has used, in user and kernel mode, in steps of 10 ms.
func cpuTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0, fmt.Errorf("process %d: unreadable stat", pid)
	}
	user, err := strconv.ParseInt(f[11], 10, 64)
	kernel, err2 := strconv.ParseInt(f[12], 10, 64)
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux
	return time.Duration(user+kernel) * tick, errors.Join(err, err2)
}
