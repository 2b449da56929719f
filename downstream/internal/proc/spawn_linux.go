package proc

import (
	"os"
	"syscall"
)

// spawn starts a program below a reaper, or without one in a program that cannot be its own reaper.
func spawn(path string, argv, env []string, dir string, files []*os.File) (child, error) {
	if reaperReady.Load() {
		return spawnReaped(path, argv, env, dir, files)
	}
	return spawnGroup(path, argv, env, dir, files)
}

// groupAttr starts a process group whose leader dies with the thread that started it.
func groupAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
