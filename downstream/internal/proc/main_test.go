//go:build unix

package proc

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain makes the test program its own reaper and its own child: PROC_TEST names what to be.
func TestMain(m *testing.M) {
	MaybeReaper()
	if role := os.Getenv("PROC_TEST"); role != "" {
		be(role)
		return
	}
	os.Exit(m.Run())
}

// be plays a child's role. Roles write "ready …" to stdout when all is set up.
func be(role string) {
	switch role {
	case "cat":
		_, _ = io.Copy(os.Stdout, os.Stdin)
	case "env":
		for _, e := range os.Environ() {
			fmt.Println(e)
		}
	case "exit":
		fmt.Fprintln(os.Stderr, "first\x1b[31m\nthe reason\r")
		os.Exit(7)
	case "files":
		entries, _ := os.ReadDir("/proc/self/fd")
		for _, e := range entries {
			target, _ := os.Readlink("/proc/self/fd/" + e.Name())
			fmt.Println(e.Name(), target)
		}
	case "stubborn": // ends neither at the end of its input nor when asked
		signal.Ignore(syscall.SIGTERM, syscall.SIGHUP)
		fmt.Println("ready", os.Getpid())
		forever()
	case "flood":
		for n := range 100_000 {
			fmt.Fprintf(os.Stderr, "line %d %s\n", n, strings.Repeat("x", 100))
		}
		fmt.Fprint(os.Stderr, strings.Repeat("y", 100<<10), "\n\x1b[2J\u202eend")
	case "family": // a child with one grandchild in its group and one in a session of its own, both stubborn
		fmt.Println("ready", os.Getpid(), spawnStubborn(false), spawnStubborn(true))
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "clan": // a family whose head is stubborn too
		signal.Ignore(syscall.SIGTERM, syscall.SIGHUP)
		fmt.Println("ready", os.Getpid(), spawnStubborn(false), spawnStubborn(true))
		forever()
	case "leaver": // ends at once and leaves its family
		fmt.Println("ready", os.Getpid(), spawnStubborn(false), spawnStubborn(true))
	case "gateway": // starts a family through this package, as the gateway does
		p, err := Start(Config{Path: os.Args[0], Env: append(Environ(nil), "PROC_TEST="+os.Getenv("PROC_ROLE")), Close: time.Minute})
		if err != nil {
			fmt.Println("failed", err)
			return
		}
		line, _ := bufio.NewReader(p.Stdout).ReadString('\n')
		fmt.Print(line)
		if os.Getenv("PROC_ROLE") == "clan" {
			p.Close(context.Background())
		}
		forever()
	}
}

// forever waits for a signal that nobody sends.
func forever() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR2)
	<-c
}

// spawnStubborn starts a stubborn process that holds on to stdout and returns its id once it is set up.
func spawnStubborn(session bool) int {
	c := exec.Command(os.Args[0])
	c.Env = []string{"PROC_TEST=stubborn"}
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: session}
	out, err := c.StdoutPipe()
	if err == nil {
		// It inherits our stdout too, as a careless program would let it.
		c.ExtraFiles = []*os.File{os.Stdout}
		err = c.Start()
	}
	if err != nil {
		fmt.Println("failed", err)
		os.Exit(1)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		fmt.Println("failed", err)
		os.Exit(1)
	}
	return c.Process.Pid
}

// role returns the configuration of a child that plays role.
func role(t testing.TB, name string) Config {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Config{Path: self, Env: append(Environ(nil), "PROC_TEST="+name), Close: 300 * time.Millisecond, Stderr: 4 << 10}
}

// begin starts a role and ends it with the test.
func begin(t testing.TB, cfg Config) *Process {
	t.Helper()
	p, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Close(context.Background())
		if p.Err() == nil {
			t.Error("a process was still there after Close")
		}
	})
	return p
}

// pids reads the line "ready 1 2 3".
func pids(t testing.TB, r io.Reader) []int {
	t.Helper()
	line, err := bufio.NewReader(r).ReadString('\n')
	words := strings.Fields(line)
	if err != nil || len(words) == 0 || words[0] != "ready" {
		t.Fatalf("the child said %q, %v", line, err)
	}
	var all []int
	for _, w := range words[1:] {
		n, err := strconv.Atoi(w)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, n)
	}
	return all
}

// alive reports whether a process is there and not just waiting to be collected.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return !os.IsNotExist(err)
	}
	s := string(b)
	return !strings.HasPrefix(s[strings.LastIndexByte(s, ')')+1:], " Z")
}

// gone waits until none of the processes is left.
func gone(t testing.TB, all []int) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(10 * time.Second)
	for _, pid := range all {
		for alive(pid) {
			select {
			case <-tick.C:
			case <-limit:
				t.Errorf("process %d of %v is still there", pid, all)
				_ = syscall.Kill(pid, syscall.SIGKILL)
				return
			}
		}
	}
}
