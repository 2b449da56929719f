//go:build unix && !linux

package proc

import (
	"os"
	"syscall"
)

// MaybeReaper does nothing: only Linux has a reaper.
func MaybeReaper() {}

func spawn(path string, argv, env []string, dir string, files []*os.File) (child, error) {
	return spawnGroup(path, argv, env, dir, files)
}

func groupAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
