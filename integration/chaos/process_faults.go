package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"
)

// quickRestart makes restarts of a server independent of the ones before, so that many can be measured in a row.
const quickRestart = "restart: { healthy_after: 50ms }"

// inside waits until the journal of a server has n executions more than before.
func (r *rig) inside(ctx context.Context, name string, n int) error {
	return until(ctx, 10*time.Second, fmt.Sprintf("%d calls are inside %s", n, name), func() error {
		j, err := r.journal(name)
		if err == nil && len(j.executed) < n {
			err = fmt.Errorf("%d are", len(j.executed))
		}
		return err
	})
}

func killOne(ctx context.Context, r *rig) error {
	// The budget is not what this is about: five repetitions for ten calls are more than it allows for long.
	err := r.start(ctx, serverSpec{name: "s", stdio: true, more: quickRestart, policy: "retry: { initial_delay: 20ms, max_delay: 200ms, budget: { ratio: 1, burst: 100 } }"})
	if err != nil {
		return err
	}
	runs := r.times(5, 50, 50)
	var first []time.Duration
	var reads, writesDone []*told
	before, err := r.circuit(ctx, "s")
	if err != nil {
		return err
	}
	for range runs {
		j, err := r.journal("s")
		if err != nil {
			return err
		}
		if err := r.tell("s", "hang"); err != nil {
			return err
		}
		l := r.begin(ctx, 10, func(i int) call { return call{server: "s", tool: []string{"read", "write"}[i%2]} })
		if err := r.inside(ctx, "s", len(j.executed)+10); err != nil {
			return err
		}
		// The new child must find the control file as it shall be; the old one has 5 ms until it looks again.
		pid, err := r.pid("s")
		if err != nil {
			return err
		}
		if err := errors.Join(syscall.Kill(pid, syscall.SIGKILL), r.tell("s", "")); err != nil {
			return err
		}
		killed := time.Now()
		all := l.end()
		ok := time.Duration(0)
		for _, t := range pick(all, answered) {
			if d := t.end().Sub(killed); ok == 0 || d < ok {
				ok = d
			}
		}
		first = append(first, ok)
		reads = append(reads, pick(all, safe)...)
		writesDone = append(writesDone, pick(all, writes)...)
		pause(ctx, 100*time.Millisecond) // the new session becomes a healthy one
	}
	r.healed()
	after, err := r.circuit(ctx, "s")
	if err != nil {
		return err
	}
	slices.Sort(first)
	unknown := pick(writesDone, func(t *told) bool { return !t.answered && t.Executed == "unknown" })
	r.every("reads recovered", len(pick(reads, answered)), len(reads))
	r.every("writes told unknown", len(unknown), len(writesDone))
	r.exactly(fmt.Sprintf("breaker failures in %d kills", runs), after.Totals.Failures-before.Totals.Failures, runs)
	r.exactly("openings", after.Totals.Opens, 0)
	r.within("first success p95", quantile(first, 0.95), 2*time.Second)
	r.note(pick(reads, not(answered)))
	return nil
}

// note keeps examples of calls that came out wrong.
func (r *rig) note(calls []*told) {
	for _, t := range calls[:min(3, len(calls))] {
		r.notes = append(r.notes, t.String())
	}
}

func crashLoop(ctx context.Context, r *rig) error {
	err := r.start(ctx, serverSpec{name: "s", stdio: true, more: "restart: { max_delay: 2s }"})
	if err != nil {
		return err
	}
	r.restart = true
	pid := r.gw.PID()
	idle, err := cpuTime(pid)
	if err != nil {
		return err
	}
	r.loadFor(ctx, 20, 2*time.Second, mixed("s")) // the same load as below
	idle2, err := cpuTime(pid)
	if err != nil {
		return err
	}
	perSecond := (idle2 - idle) / 2
	j, err := r.journal("s")
	if err != nil {
		return err
	}
	if err := errors.Join(r.tell("s", "crash"), r.kill("s")); err != nil {
		return err
	}
	d := r.span(4*time.Second, 10*time.Second, time.Minute)
	cpu, err := cpuTime(pid)
	if err != nil {
		return err
	}
	l := r.load(ctx, 20, mixed("s"))
	if err := r.state(ctx, "s", "open", 5*time.Second); err != nil {
		return err
	}
	c, err := r.circuit(ctx, "s")
	if err != nil {
		return err
	}
	pause(ctx, d)
	cpu2, err := cpuTime(pid)
	if err != nil {
		return err
	}
	all := l.end()
	j2, err := r.journal("s")
	if err != nil {
		return err
	}
	r.healed()
	if err := r.tell("s", ""); err != nil {
		return err
	}
	back, err := r.works(ctx, "s", 20*time.Second)
	if err != nil {
		return err
	}
	r.atMost("failures until it opened", c.Totals.Failures, 5)
	// Attempts at once, after 0.25, 0.5, 1 and then each 2 s; each tries both eras, as the process that knew its own is gone.
	r.atMost("starts", len(j2.starts)-len(j.starts), 2*(5+int(d.Seconds()/1.6)))
	rej := pick(all, rejected)
	r.check("rejected", len(rej) > 0, "> 0", "%d of %d", len(rej), len(all))
	r.within("rejects p99", quantile(took(rej), 0.99), 5*time.Millisecond+2*r.machine(0.99))
	load := share(int(cpu2-cpu)-int(float64(perSecond)*d.Seconds()), int(d))
	r.timed("CPU", load < 5, "< 5 % of a core", "%.1f %%", load)
	r.within("recovery", back, 4*time.Second+5*time.Second)
	return nil
}

func noisy(ctx context.Context, r *rig) error {
	if err := r.start(ctx, serverSpec{name: "s", stdio: true}); err != nil {
		return err
	}
	all := r.loadFor(ctx, 100, r.span(time.Second, 3*time.Second, 10*time.Second), func(i int) call {
		c := mixed("s")(i)
		if i%10 == 5 {
			c.do = "noise"
		}
		return c
	})
	r.healed()
	j, err := r.journal("s")
	if err != nil {
		return err
	}
	c, err := r.circuit(ctx, "s")
	if err != nil {
		return err
	}
	reads := pick(all, safe)
	r.atMost("restarts", len(j.starts)-1, 1)
	r.every("reads answered", len(pick(reads, answered)), len(reads))
	r.atMost("breaker failures", c.Totals.Failures, 1)
	return nil
}

// held checks that the calls came back at the attempt timeout, give or take; calls that waited for others are left out.
func (r *rig) held(all []*told, limit, late time.Duration) {
	sorted := took(pick(all, func(t *told) bool { return !t.answered && t.Attempts > 0 && t.Class == "timeout" }))
	most := limit + late + r.machine(0.99)
	r.timed("callers held", len(sorted) > 0 && quantile(sorted, 0) >= limit-10*time.Millisecond && quantile(sorted, 1) <= most,
		fmt.Sprintf("%s to %s", limit, short(most)), "%s to %s (%d)", short(quantile(sorted, 0)), short(quantile(sorted, 1)), len(sorted))
}

const shortAttempts = "timeouts: { attempt: 300ms, overall: 5s }, retry: { max_attempts: 1 }"

func hungChild(ctx context.Context, r *rig) error {
	err := r.start(ctx, serverSpec{name: "s", stdio: true, more: "restart: { initial_delay: 50ms, healthy_after: 1s, wedged_after: 1s }\n    timeouts: { close: 300ms }", policy: shortAttempts + ", bulkhead: { max_concurrent: 5, max_queued: 0 }"})
	if err != nil {
		return err
	}
	old, err := r.pid("s")
	if err != nil {
		return err
	}
	// The process hangs, not only its calls: neither a ping nor a list is answered. It goes on reading only as far as a pipe is long.
	if err := syscall.Kill(old, syscall.SIGSTOP); err != nil {
		return err
	}
	l := r.load(ctx, 20, mixed("s"))
	if err := r.state(ctx, "s", "open", 5*time.Second); err != nil {
		return errors.Join(err, l.wait())
	}
	c, err := r.circuit(ctx, "s")
	if err != nil {
		return err
	}
	r.atMost("failures until it opened", c.Totals.Failures, 5+5) // those in flight may come in with the fifth
	r.atMost("abandoned", c.Abandoned, 5)
	began := time.Now()
	replaced := until(ctx, r.span(5*time.Second, 15*time.Second, 30*time.Second), "another child", func() error {
		if pid, err := r.pid("s"); err != nil || pid == old {
			return errors.Join(err, errors.New("the child still hangs"))
		}
		return nil
	})
	r.check("child replaced", replaced == nil, "yes", "%v", yes(replaced, time.Since(began)))
	all := l.end()
	r.healed()
	if replaced != nil {
		if err := syscall.Kill(old, syscall.SIGCONT); err != nil {
			return err
		}
	}
	r.held(all, 300*time.Millisecond, 50*time.Millisecond)
	rej := pick(all, rejected)
	r.check("rejected", len(rej) > 0, "> 0", "%d of %d", len(rej), len(all))
	back, err := r.works(ctx, "s", 20*time.Second)
	r.within("works again", back, 6*time.Second)
	return err
}

func yes(err error, d time.Duration) string {
	if err != nil {
		return "no: " + err.Error()
	}
	return "after " + short(d).String()
}

// wait ends a load whose scenario has failed.
func (l *loading) wait() error {
	l.end()
	return nil
}

func deafChild(ctx context.Context, r *rig) error {
	err := r.start(ctx, serverSpec{name: "s", stdio: true, more: "restart: { initial_delay: 50ms }", policy: shortAttempts + ", bulkhead: { max_concurrent: 10 }, circuit_breaker: { enabled: false }"})
	if err != nil {
		return err
	}
	old, err := r.pid("s")
	if err != nil {
		return err
	}
	if err := syscall.Kill(old, syscall.SIGSTOP); err != nil {
		return err
	}
	all := r.together(ctx, 10, func(i int) call {
		c := mixed("s")(i)
		if i < 5 {
			c.pad = 1 << 20
		}
		return c
	})
	small := r.together(ctx, 5, mixed("s"))
	_ = syscall.Kill(old, syscall.SIGKILL) // the gateway may have done it
	back, err := r.works(ctx, "s", 10*time.Second)
	r.healed()
	most := took(append(all, small...))
	limit := 350*time.Millisecond + r.machine(0.99)
	// Calls that the gateway ended with the process may wait for the next one (timeouts.ready) before they are refused.
	r.within("longest call", quantile(most, 1), limit)
	r.note(pick(append(all, small...), func(t *told) bool { return t.took > limit }))
	r.within("works again", back, 2*time.Second)
	return err
}

func floods(ctx context.Context, r *rig) error {
	err := r.start(ctx, serverSpec{name: "s", stdio: true, more: quickRestart}, serverSpec{name: "e", stdio: true})
	if err != nil {
		return err
	}
	before, err := statusOf(r.gw.PID())
	if err != nil {
		return err
	}
	out := r.client.do(ctx, call{server: "s", tool: "write", do: "flood-stdout=100"})
	middle, err := statusOf(r.gw.PID())
	if err != nil {
		return err
	}
	errs := r.client.do(ctx, call{server: "e", tool: "write", do: "flood-stderr=100"})
	after, err := statusOf(r.gw.PID())
	if err != nil {
		return err
	}
	back, err := r.works(ctx, "s", 10*time.Second)
	r.healed()
	r.check("100 MB on stdout", !out.answered && out.Executed == "unknown", "an error, executed unknown", "%s", out.brief())
	r.check("its reason", strings.Contains(out.text, "more than the limit of 16777216"), "names the limit", "%.120s", out.text)
	r.check("100 MB on stderr", errs.answered, "answered", "%s", errs.brief())
	r.timed("most memory", (after["VmHWM"]-before["VmHWM"])>>10 < 32, "< +32 MiB", "+%d MiB, of them +%d MiB for stdout", (after["VmHWM"]-before["VmHWM"])>>10, (middle["VmHWM"]-before["VmHWM"])>>10)
	r.within("works again", back, 2*time.Second)
	return err
}

// brief says in a word what came of a call.
func (t *told) brief() string {
	if t.answered {
		return "answered"
	}
	return strings.TrimSpace(t.Error + " " + t.Class + " " + t.Executed + t.lost)
}

func lateAnswers(ctx context.Context, r *rig) error {
	policy := shortAttempts + ", circuit_breaker: { enabled: false }"
	if err := r.start(ctx, serverSpec{name: "s", stdio: true, policy: policy}, serverSpec{name: "h", policy: policy}); err != nil {
		return err
	}
	n := 10
	var late, next []*told
	for _, name := range []string{"s", "h"} {
		late = append(late, r.together(ctx, n, only(call{server: name, tool: "write", do: "late=600ms"}))...)
	}
	// While the late answers come, and after.
	for range 50 {
		for _, name := range []string{"s", "h"} {
			next = append(next, r.client.do(ctx, call{server: name, tool: "read"}))
		}
		pause(ctx, 10*time.Millisecond)
	}
	r.healed()
	r.held(late, 300*time.Millisecond, 50*time.Millisecond)
	r.exactly("timeouts told unknown", len(pick(late, func(t *told) bool { return t.Executed == "unknown" && t.Class == "timeout" })), 2*n)
	r.every("next calls answered", len(pick(next, answered)), len(next))
	c, err := r.circuit(ctx, "s")
	if err != nil {
		return err
	}
	if c.Counters == nil {
		return errors.New("circuit_metrics has no counters")
	}
	r.exactly("late answers counted (stdio)", c.Counters.Late, n)
	return nil
}
