package proc

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
)

// startPatience bounds the start of a reaper, which takes some 20 ms.
const startPatience = 20 * time.Second

// reaped is a child below a reaper.
type reaped struct {
	reaper  *os.Process
	childID int
	reports *bufio.Reader
	report  *os.File

	mu     sync.Mutex // guards what follows
	orders *os.File
	asked  bool // to kill everything
}

// spawnReaped starts a reaper, which starts the program.
func spawnReaped(path string, argv, env []string, dir string, files []*os.File) (child, error) {
	orderR, orderW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer orderR.Close() //nolint:errcheck // the reaper's end
	reportR, reportW, err := os.Pipe()
	if err != nil {
		_ = orderW.Close()
		return nil, err
	}
	defer reportW.Close() //nolint:errcheck // the reaper's end
	c := &reaped{orders: orderW, report: reportR, reports: bufio.NewReader(reportR)}
	// Its own process group keeps the terminal's Ctrl-C from it. It gets none of the child's environment: it does not need it.
	c.reaper, err = os.StartProcess("/proc/self/exe", []string{reaperName, argv[0]}, &os.ProcAttr{
		Env: []string{"GOMAXPROCS=1"}, Files: append(files[:3:3], orderR, reportW), Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		c.closePipes()
		return nil, fmt.Errorf("starting its reaper: %w", plain(err))
	}
	// Closed here, lest the end of the reaper go unnoticed.
	_ = reportW.Close()
	_ = orderR.Close()
	if err := c.begin(order{Path: []byte(path), Argv: toBytes(argv), Env: toBytes(env), Dir: []byte(dir)}); err != nil {
		_ = c.reaper.Kill()
		_, _ = c.reaper.Wait()
		c.closePipes()
		return nil, err
	}
	return c, nil
}

func (c *reaped) closePipes() {
	_ = c.orders.Close()
	_ = c.report.Close()
}

// begin sends the first order and waits until the child runs.
func (c *reaped) begin(o order) error {
	line, err := json.Marshal(o)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(startPatience)
	_ = c.orders.SetWriteDeadline(deadline)
	if _, err := c.orders.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("its reaper does not listen: %w", err)
	}
	_ = c.orders.SetWriteDeadline(time.Time{})
	_ = c.report.SetReadDeadline(deadline)
	r, err := c.next()
	switch {
	case err != nil:
		return fmt.Errorf("its reaper does not answer: %w", err)
	case r.Error != "":
		return errors.New(r.Error)
	}
	_ = c.report.SetReadDeadline(time.Time{})
	c.childID = r.Pid
	return nil
}

func (c *reaped) next() (report, error) {
	var r report
	line, err := c.reports.ReadBytes('\n')
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(line, &r)
}

func (c *reaped) pid() int { return c.childID }

func (c *reaped) wait(ended func()) error {
	r, err := c.next()
	ended()
	state, waitErr := c.reaper.Wait()
	c.mu.Lock()
	c.closePipes()
	c.mu.Unlock()
	switch {
	case err == nil && r.Ended == errExited.Error():
		return errExited
	case err == nil:
		return errors.New(r.Ended)
	case waitErr != nil:
		return fmt.Errorf("its reaper was lost: %w", waitErr)
	}
	// The reaper was killed, and the child with it (PR_SET_PDEATHSIG). What is left of its group has no one else.
	_ = syscall.Kill(-c.childID, syscall.SIGKILL)
	if c.killed() {
		return errors.New("killed with its reaper, which did not end in time")
	}
	return fmt.Errorf("its reaper was ended from outside (%s), and it with it", state)
}

func (c *reaped) killed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

func (c *reaped) terminate() { c.send(orderTerminate) }

// kill has the reaper end everything; the second time the reaper itself is killed.
func (c *reaped) kill() {
	if c.killed() {
		_ = c.reaper.Kill()
		return
	}
	c.send(orderKill)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = true
}

func (c *reaped) send(b byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.orders.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = c.orders.Write([]byte{b}) // it has ended if this fails
}
