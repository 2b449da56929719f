//go:build unix

package proc

import (
	"errors"
	"os"
	"runtime"
	"syscall"
)

// group is a child that leads its own process group.
type group struct {
	process *os.Process
	ended   chan error // how it ended
}

// spawnGroup starts a program in a process group of its own.
func spawnGroup(path string, argv, env []string, dir string, files []*os.File) (child, error) {
	g := &group{ended: make(chan error, 1)}
	started := make(chan error)
	go func() {
		// The death signal of Linux is sent when the thread that forked ends, not the process. This thread stays for as long as
		// the child does, blocked in Wait, where it would be in any case.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var err error
		g.process, err = os.StartProcess(path, argv, &os.ProcAttr{Dir: dir, Env: env, Files: files, Sys: groupAttr()})
		started <- err
		if err != nil {
			return
		}
		state, err := g.process.Wait()
		g.kill() // grandchildren in the group; its number is theirs as long as there are any
		switch {
		case err != nil:
			g.ended <- err
		case state.Success():
			g.ended <- errExited
		default:
			g.ended <- errors.New(state.String())
		}
	}()
	if err := <-started; err != nil {
		return nil, plain(err)
	}
	return g, nil
}

// plain takes the name of the system call out of an error of os.StartProcess.
func plain(err error) error {
	if p, ok := errors.AsType[*os.PathError](err); ok {
		return p.Err
	}
	return err
}

func (g *group) pid() int   { return g.process.Pid }
func (g *group) terminate() { _ = syscall.Kill(-g.process.Pid, syscall.SIGTERM) }
func (g *group) kill()      { _ = syscall.Kill(-g.process.Pid, syscall.SIGKILL) }

func (g *group) wait(ended func()) error {
	defer ended()
	return <-g.ended
}

// TryWrite writes to the child as much as its pipe takes at once, without waiting.
func (p *Process) TryWrite(b []byte) (int, error) {
	raw, err := p.Stdin.SyscallConn()
	if err != nil {
		return 0, err
	}
	written := 0
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		for {
			n, err := syscall.Write(int(fd), b)
			switch {
			case errors.Is(err, syscall.EINTR):
				continue
			case err != nil && !errors.Is(err, syscall.EAGAIN):
				failed = err
			case n > 0:
				written = n
			}
			return true
		}
	})
	return written, errors.Join(err, failed)
}
