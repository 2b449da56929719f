package proc

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// reaperName is the argv[0] by which a program knows that it was started as a reaper.
const reaperName = "mcpgw-reaper"

// The reaper's files after its standard ones.
const (
	orderFD  = 3 // the gateway's orders; its end means that the gateway is gone
	reportFD = 4 // the reaper's reports
)

// Orders, one byte each.
const (
	orderTerminate = 't' // SIGTERM to the child's process group
	orderKill      = 'k' // end everything and leave
)

// order is the first thing that a reaper reads, as one line of JSON. It has bytes where a string would have to be UTF-8.
type order struct {
	Path []byte   `json:"path"`
	Argv [][]byte `json:"argv"`
	Env  [][]byte `json:"env"`
	Dir  []byte   `json:"dir"`
}

func toBytes(list []string) [][]byte {
	out := make([][]byte, len(list))
	for n, s := range list {
		out[n] = []byte(s)
	}
	return out
}

func toStrings(list [][]byte) []string {
	out := make([]string, len(list))
	for n, b := range list {
		out[n] = string(b)
	}
	return out
}

// report is a line of JSON that a reaper writes: one when it has tried to start the child, one when the child has ended.
type report struct {
	Pid   int    `json:"pid,omitempty"`
	Error string `json:"error,omitempty"`
	Ended string `json:"ended,omitempty"`
}

// reaperReady says that this program can be started again as a reaper.
var reaperReady atomic.Bool

// MaybeReaper turns this process into a reaper if it was started as one, and does not return then. Otherwise it makes [Start] use
// reapers. A program calls it first of all in main; without that call Start falls back to process groups, because the program
// cannot be told to be its own reaper.
func MaybeReaper() {
	if len(os.Args) > 0 && os.Args[0] == reaperName {
		syscall.Exit(reap())
	}
	if _, err := os.Stat("/proc/self/exe"); err == nil {
		reaperReady.Store(true)
	}
}

// reap is the whole life of a reaper. It returns the exit code, which nobody reads.
func reap() int {
	// The child's death signal is tied to this thread.
	runtime.LockOSThread()
	debug.SetGCPercent(-1) // it lives on a few kilobytes
	// The child gets its three files and nothing else, neither these two nor what the gateway may have inherited.
	if unix.CloseRange(orderFD, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC) != nil { // before Linux 5.11
		for fd := orderFD; fd < 1024; fd++ {
			syscall.CloseOnExec(fd)
		}
	}
	orders := bufio.NewReader(os.NewFile(orderFD, "orders"))
	reports := os.NewFile(reportFD, "reports")

	// Who stops a service may signal all of its processes at once; the reaper still has to see the child out. Handled signals,
	// unlike ignored ones, are not inherited by the child, and what the gateway was told to ignore (nohup) stays ignored in both.
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2} {
		if !signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)

	r := reaper{ended: ended}
	if err := r.start(orders); err != nil {
		send(reports, report{Error: err.Error()})
		return 1
	}
	send(reports, report{Pid: r.child})
	letGoOfStandardFiles()

	next := read(orders)
	for r.status == nil {
		select {
		case <-ended:
			r.collect()
		case b, ok := <-next:
			if ok && b == orderTerminate {
				_ = syscall.Kill(-r.child, syscall.SIGTERM)
				continue
			}
			if !ok {
				next = nil
			}
			// Not collected yet, so its number is still its own.
			_ = syscall.Kill(-r.child, syscall.SIGKILL)
			r.sweep()
		}
	}
	send(reports, report{Ended: describe(*r.status)})
	r.sweep()
	return 0
}

// read returns the orders as they come. The channel is closed at their end.
func read(orders *bufio.Reader) <-chan byte {
	next := make(chan byte)
	go func() {
		defer close(next)
		for {
			b, err := orders.ReadByte()
			if err != nil {
				return
			}
			next <- b
		}
	}()
	return next
}

func send(w io.Writer, r report) {
	b, err := json.Marshal(r)
	if err == nil {
		_, _ = w.Write(append(b, '\n')) // nobody is left to tell if the gateway is gone
	}
}

// reaper is the state of a reaper process.
type reaper struct {
	child  int
	status *syscall.WaitStatus // nil until the child has been collected
	ended  <-chan os.Signal
}

// start reads the first order and starts the child.
func (r *reaper) start(orders *bufio.Reader) error {
	line, err := orders.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("the reaper got no order: %w", err)
	}
	var o order
	if err := json.Unmarshal(line, &o); err != nil {
		return fmt.Errorf("the reaper got a bad order: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl(PR_SET_CHILD_SUBREAPER): %w", err)
	}
	r.child, err = syscall.ForkExec(string(o.Path), toStrings(o.Argv), &syscall.ProcAttr{
		Dir: string(o.Dir), Env: toStrings(o.Env), Files: []uintptr{0, 1, 2}, Sys: groupAttr(),
	})
	return err
}

// letGoOfStandardFiles replaces what the reaper inherited for the child, so that the gateway sees the end of a stream when the
// child closes it.
func letGoOfStandardFiles() {
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	for fd := range 3 {
		if err == nil {
			_ = syscall.Dup3(null, fd, 0)
		} else {
			_ = syscall.Close(fd)
		}
	}
}

// collect takes note of every child that has ended, orphans that were left to the reaper among them. It reports whether there
// are any more children.
func (r *reaper) collect() bool {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return false
		case pid == 0:
			return true
		case pid == r.child:
			r.status = &status
		}
	}
}

// sweep kills what is left and returns when nothing is. The children of a process that dies become the reaper's own, so killing
// only its own children, which no one else can collect and whose numbers are therefore not used again, reaches all of them.
func (r *reaper) sweep() {
	wait := time.Millisecond
	for r.collect() {
		killed := false
		for _, pid := range children() {
			killed = syscall.Kill(pid, syscall.SIGKILL) == nil || killed
		}
		if !killed {
			return // what changed its user is not ours to kill
		}
		select {
		case <-r.ended:
		case <-time.After(wait):
			wait = min(2*wait, 100*time.Millisecond)
		}
	}
}

// children returns the processes whose parent is this one.
func children() []int {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil
	}
	self := strconv.Itoa(os.Getpid())
	var all []int
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended meanwhile
		}
		// "pid (name) state ppid …"; the name may hold anything.
		s := string(b)
		fields := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
		if len(fields) < 2 || fields[1] != self {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(path, "/")[2]); err == nil {
			all = append(all, pid)
		}
	}
	return all
}

// describe says how a process ended, as package os does.
func describe(s syscall.WaitStatus) string {
	if s.Signaled() {
		text := "signal: " + s.Signal().String()
		if s.CoreDump() {
			text += " (core dumped)"
		}
		return text
	}
	return "exit status " + strconv.Itoa(s.ExitStatus())
}
