package proc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/windows"
)

// MaybeReaper does nothing: a job object does the work of the reaper.
func MaybeReaper() {}

// jobbed is a child in a job object, which the system ends with everything in it when its last handle is closed, as it is when
// the gateway ends.
type jobbed struct {
	process *os.Process

	mu  sync.Mutex     // guards job
	job windows.Handle // 0 once closed
}

func spawn(path string, argv, env []string, dir string, files []*os.File) (child, error) {
	if ext := strings.ToLower(filepath.Ext(path)); ext == ".bat" || ext == ".cmd" {
		// cmd.exe takes arguments apart by rules of its own (CVE-2024-24576).
		return nil, errors.New("batch files cannot be started safely: name the program that they start")
	}
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return nil, fmt.Errorf("CreateJobObject: %w", err)
	}
	limits := windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{
		BasicLimitInformation: windows.JOBOBJECT_BASIC_LIMIT_INFORMATION{LimitFlags: windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE},
	}
	if _, err := windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits))); err != nil {
		_ = windows.CloseHandle(job)
		return nil, fmt.Errorf("SetInformationJobObject: %w", err)
	}
	process, err := os.StartProcess(path, argv, &os.ProcAttr{Dir: dir, Env: env, Files: files})
	if err != nil {
		_ = windows.CloseHandle(job)
		return nil, err
	}
	j := &jobbed{process: process, job: job}
	assigned := errors.New("no handle")
	if err := process.WithHandle(func(h uintptr) { assigned = windows.AssignProcessToJobObject(job, windows.Handle(h)) }); err != nil {
		assigned = err
	}
	if assigned != nil {
		_ = process.Kill()
		_, _ = process.Wait()
		_ = windows.CloseHandle(job)
		return nil, fmt.Errorf("AssignProcessToJobObject: %w", assigned)
	}
	return j, nil
}

func (j *jobbed) pid() int { return j.process.Pid }

func (j *jobbed) wait(ended func()) error {
	state, err := j.process.Wait()
	ended()
	j.kill()
	j.mu.Lock()
	_ = windows.CloseHandle(j.job)
	j.job = 0
	j.mu.Unlock()
	switch {
	case err != nil:
		return err
	case state.Success():
		return errExited
	}
	return errors.New(state.String())
}

// terminate does nothing: Windows has no such request for a program without a window.
func (j *jobbed) terminate() {}

func (j *jobbed) kill() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.job != 0 {
		_ = windows.TerminateJobObject(j.job, 1)
	}
}

// TryWrite writes nothing: Windows has no such write for a pipe, and its pipes know no deadlines either.
func (p *Process) TryWrite([]byte) (int, error) { return 0, nil }
