package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"
)

// finish checks what must hold in every scenario, ends everything and reports what could not be ended.
func (r *rig) finish(ctx context.Context) error {
	defer r.closeRest()
	if r.gw == nil {
		return nil
	}
	if r.ended.IsZero() {
		r.healed()
	}
	if r.watch != nil {
		bad := r.watch.end()
		r.neighbour(bad)
	}
	var err error
	if !r.stopped {
		r.leftovers(ctx)
		err = r.stopGateway()
	}
	r.truth()
	for _, line := range r.log.unexpected() {
		r.check("log", false, "no panic, no data race", "%s", line)
	}
	return err
}

// neighbour checks the healthy neighbour (I5) and circuit_status (I7).
func (r *rig) neighbour(bad []string) {
	r.exactly("neighbour and status errors", len(bad), 0)
	if len(bad) > 0 {
		r.notes = append(r.notes, bad[:min(3, len(bad))]...)
	}
	w := r.watch
	base, during := between(w.calm, time.Time{}, r.began), between(w.calm, r.began, r.ended)
	dBase, dDuring := between(w.direct, time.Time{}, r.began), between(w.direct, r.began, r.ended)
	if r.noLatency || len(during) < 10 {
		return
	}
	// What calls without the gateway met in the same time is the machine's doing. Twenty milliseconds are the margin of a rig that shares
	// its processors with its load; scenario 26 measures the ratio itself. Of a few hundred calls the p99 is one or two: then p95 it is.
	name, q := "neighbour p99", 0.99
	if len(during) < 1000 {
		name, q = "neighbour p95", 0.95
	}
	machine := max(quantile(dBase, q), quantile(dDuring, q))
	most := quantile(base, q)*110/100 + 20*time.Millisecond + 2*machine
	r.timed(name, quantile(during, q) <= most, "≤ 1.1 × "+short(quantile(base, q)).String()+" + 20ms + 2 × machine "+short(machine).String(), "%s", short(quantile(during, q)))
	st := between(w.status, r.began, r.ended)
	if len(st) < 100 { // or its p95 would be a few calls
		r.timed("circuit_status p50", quantile(st, 0.5) <= 5*time.Millisecond, "≤ 5ms", "%s", short(quantile(st, 0.5)))
		return
	}
	r.timed("circuit_status p50 / p95", quantile(st, 0.5) <= 5*time.Millisecond && quantile(st, 0.95) <= 10*time.Millisecond+2*machine+r.crowd,
		"≤ 5ms / "+short(10*time.Millisecond+r.crowd).String()+" + 2 × machine", "%s / %s", short(quantile(st, 0.5)), short(quantile(st, 0.95)))
}

// leftovers checks that the gateway holds no more files and processes than before the faults (I4).
func (r *rig) leftovers(ctx context.Context) {
	r.client.close() // its connections to the gateway are files there
	most := r.before.files + 5
	var u usage
	err := until(ctx, 30*time.Second, "files and processes back", func() error {
		var err error
		if u, err = measure(r.gw.PID()); err != nil {
			return err
		}
		if u.files > most || !r.restart && u.children != r.before.children {
			return fmt.Errorf("%d files, %d processes", u.files, u.children)
		}
		return nil
	})
	r.check("files, processes afterwards", err == nil, fmt.Sprintf("≤ %d, %d", most, r.before.children), "%d, %d", u.files, u.children)
}

// stopGateway ends the gateway as an operator does. What it started must end with it.
func (r *rig) stopGateway() error {
	below, err := descendants(r.gw.PID())
	if err != nil {
		return err
	}
	start := time.Now()
	stop := r.gw.Stop(20 * time.Second)
	r.stopped = true
	r.check("gateway ends", stop == nil, "exit 0 after SIGTERM", "%v after %s", errText(stop), short(time.Since(start)))
	return until(context.Background(), 3*time.Second, "processes of the gateway gone", func() error {
		for _, pid := range below {
			if syscall.Kill(pid, 0) == nil {
				if st, err := statusOf(pid); err == nil && st["VmRSS"] > 0 { // no zombie that nobody has collected yet
					return fmt.Errorf("process %d is left", pid)
				}
			}
		}
		return nil
	})
}

func errText(err error) string {
	if err == nil {
		return "exit 0"
	}
	return strings.SplitN(err.Error(), "\n", 2)[0]
}

// truth checks what clients were told against what servers did (I1, I2, I3).
func (r *rig) truth() {
	journals := map[string]journal{}
	for name := range r.servers {
		j, err := r.journal(name)
		if err != nil {
			r.check("journal of "+name, false, "readable", "%v", err)
			return
		}
		journals[name] = j
	}
	t := compare(r.ledger.calls(), journals)
	r.total.add(t)
	r.check("longest failure text", t.longest <= 1000, "≤ 1000 bytes", "%d", t.longest)
	r.summary = fmt.Sprintf("%d calls: %d answered, %d failed, %d cancelled", t.calls, t.answered, t.failed, t.gaveUp)
	for _, x := range []struct {
		name string
		list []string
	}{
		{"executed twice", t.twice},
		{"lost answers", t.lost},
		{"second answers", t.doubled},
		{"wrong caller or answer", t.wrong},
		{"executed: no, but executed", t.lied},
		{"answered, but not executed", t.phantom},
		{"executed not stated", t.mute},
		{"executed, but not asked", t.stranger},
	} {
		r.exactly(x.name, len(x.list), 0)
		r.notes = append(r.notes, x.list[:min(3, len(x.list))]...)
	}
}

// closeRest ends what a scenario left behind, however it ended.
func (r *rig) closeRest() {
	if r.watch != nil {
		r.watch.end()
	}
	if r.gw != nil {
		r.gw.Kill()
		r.client.close()
		r.direct.close()
	}
	for _, s := range r.servers {
		if s.proxy != nil {
			s.proxy.close()
		}
		if j, err := r.journal(s.name); err == nil && s.stdio {
			for _, pid := range j.starts {
				r.end(pid)
			}
		}
	}
	for _, p := range r.procs {
		p.Kill()
	}
}

// end kills a server that outlived its gateway, if the process is still one of ours.
func (r *rig) end(pid int) {
	if cmd := cmdline(pid); strings.HasPrefix(cmd, r.self+"\x00") {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			r.notes = append(r.notes, fmt.Sprintf("process %d is left: %v", pid, err))
		}
	}
}
