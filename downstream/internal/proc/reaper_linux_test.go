package proc

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// reaperOf returns the process id of p's reaper.
func reaperOf(p *Process) int { return p.child.(*reaped).reaper.Pid }

// withoutReaper makes Start use process groups until the returned function is called.
func withoutReaper() func() {
	was := reaperReady.Swap(false)
	return func() { reaperReady.Store(was) }
}

// TestReaperIgnoresSignals: who stops a service may signal every process of it.
func TestReaperIgnoresSignals(t *testing.T) {
	p := begin(t, role(t, "stubborn"))
	all := pids(t, p.Stdout)
	reaper := p.child.(*reaped).reaper
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		if err := reaper.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-p.Done():
		t.Fatal("the reaper ended")
	case <-time.After(200 * time.Millisecond):
	}
	if !alive(all[0]) {
		t.Error("the child ended")
	}
}

// TestChildDiesWithItsReaper: even then nothing of its process group is left.
func TestChildDiesWithItsReaper(t *testing.T) {
	p := begin(t, role(t, "family"))
	all := pids(t, p.Stdout)
	defer syscall.Kill(all[2], syscall.SIGKILL) // beyond reach without its reaper
	if err := p.child.(*reaped).reaper.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	gone(t, all[:2])
}

// TestStuckReaper: a reaper that does not follow its orders is killed.
func TestStuckReaper(t *testing.T) {
	p := begin(t, role(t, "stubborn"))
	all := pids(t, p.Stdout)
	if err := p.child.(*reaped).reaper.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.Close(t.Context())
	gone(t, all)
}

// TestChildSeesNoReaper: its command line, directory, group and ignored signals are as without one.
func TestChildSeesNoReaper(t *testing.T) {
	look := func() string {
		cfg := Config{Path: "sh", Dir: "/", Env: []string{"PATH=" + os.Getenv("PATH")}, Close: time.Second, Args: []string{
			"-c",
			`tr '\0' ' ' </proc/self/cmdline; pwd; umask; ulimit -n; grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status; [ "$(ps -o pgid= -p $$ 2>/dev/null || awk '{print $5}' /proc/$$/stat)" -eq $$ ] && echo leader`,
		}}
		p := begin(t, cfg)
		out := make([]byte, 4096)
		n := 0
		for {
			m, err := p.Stdout.Read(out[n:])
			n += m
			if err != nil {
				return string(out[:n])
			}
		}
	}
	with := look()
	restore := withoutReaper()
	without := look()
	restore()
	if with != without || len(with) < 40 {
		t.Errorf("with a reaper:\n%s\nwithout:\n%s", with, without)
	}
}

// TestNoOtherFilesAreInherited: neither those of the gateway nor those that it inherited itself.
func TestNoOtherFilesAreInherited(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFD, 0); err != nil { // as if it had come from our own parent
		t.Fatal(err)
	}
	p := begin(t, role(t, "files"))
	out, err := io.ReadAll(p.Stdout)
	if err != nil || len(out) == 0 {
		t.Fatalf("%q, %v", out, err)
	}
	for line := range strings.Lines(string(out)) {
		fd, target, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case fd == "0" || fd == "1" || fd == "2":
			if !strings.HasPrefix(target, "pipe:") {
				t.Errorf("file %s is %s, want a pipe of its own", fd, target)
			}
		case strings.HasPrefix(target, "pipe:"), target == os.DevNull:
			t.Errorf("file %s (%s) was inherited", fd, target)
		}
	}
}

// BenchmarkStart measures a start until the first answer, with and without the reaper.
func BenchmarkStart(b *testing.B) {
	run := func(b *testing.B) {
		for b.Loop() {
			p, err := Start(Config{Path: "true", Env: Environ(nil), Close: time.Second})
			if err != nil {
				b.Fatal(err)
			}
			<-p.Done()
			_ = p.Stdout.Close()
		}
	}
	b.Run("reaper", run)
	b.Run("group", func(b *testing.B) {
		defer withoutReaper()()
		run(b)
	})
	b.Run("exec", func(b *testing.B) {
		for b.Loop() {
			if err := exec.CommandContext(b.Context(), "true").Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
