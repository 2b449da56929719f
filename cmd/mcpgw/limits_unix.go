//go:build unix

package main

import "syscall"

// fewFiles is less than a gateway with a hundred clients and a dozen servers may need.
const fewFiles = 1024

// limits looks at how many files may be open: each connection is one, and each process has three.
func (x *examination) limits() {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		x.add("warning", "open files", "", "the limit cannot be read: %v", err)
		return
	}
	if l.Cur < fewFiles {
		x.add("warning", "open files", "ulimit -n 65536, or LimitNOFILE=65536 in the service", "at most %d", l.Cur)
		return
	}
	x.add("ok", "open files", "", "at most %d", l.Cur)
}
