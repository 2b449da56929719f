//go:build unix

package mcptest

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

const (
	asGrandchild   = "mcptest-grandchild"
	grandchildLife = 2 * time.Minute // so that a failed test leaves nothing behind for long
)

// startGrandchild starts a process that inherits stdout and is not waited for, and returns its pid once it ignores signals.
func startGrandchild(setsid bool) (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("finding the program: %w", err)
	}
	args := []string{asGrandchild}
	if len(os.Args) > 1 && os.Args[1] == asServer {
		args = []string{asServer, asGrandchild}
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("making a pipe: %w", err)
	}
	defer func() { _ = r.Close() }()
	cmd := exec.Command(self, args...) //nolint:gosec,noctx // this program, and it is to outlive everything
	cmd.Stdout, cmd.ExtraFiles = os.Stdout, []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: setsid}
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		return 0, fmt.Errorf("starting the grandchild: %w", err)
	}
	if _, err := r.Read(make([]byte, 1)); err != nil {
		return 0, fmt.Errorf("waiting for the grandchild: %w", err)
	}
	return cmd.Process.Pid, nil
}

func runGrandchild() int {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	ready := os.NewFile(3, "ready")
	_, _ = ready.Write([]byte{1})
	_ = ready.Close()
	<-time.After(grandchildLife)
	return 0
}
