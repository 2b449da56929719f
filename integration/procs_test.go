package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// markEnv names a process and, since children inherit it, all that it starts.
const markEnv = "MCPGW_TEST_MARK"

// marked returns the processes whose environment has the mark, by their ids. Zombies have no environment any more.
func marked(t *testing.T, mark string) []int {
	t.Helper()
	want := []byte(markEnv + "=" + mark + "\x00")
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, dir := range dirs {
		b, err := os.ReadFile(filepath.Join(dir, "environ"))
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ESRCH), errors.Is(err, fs.ErrPermission):
			continue
		case err != nil:
			t.Fatal(err)
		}
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil && bytes.Contains(append(b, 0), want) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// comm returns the name of a process as the kernel knows it: what it was started as, at most 15 characters.
func comm(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// named returns those of the marked processes that run the program.
func named(t *testing.T, mark, program string) (pids []int) {
	t.Helper()
	for _, pid := range marked(t, mark) {
		if comm(pid) == program {
			pids = append(pids, pid)
		}
	}
	return pids
}

// parent returns the id of the process that started pid, 0 if pid has ended.
func parent(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "PPid:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(v))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	return 0
}

// rss returns the resident memory of a process in bytes.
func rss(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "kB")), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kb << 10
		}
	}
	t.Fatalf("process %d has no VmRSS", pid)
	return 0
}
