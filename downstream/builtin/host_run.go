package builtin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	probeTime   = 2 * time.Second // for one probe
	maxProbes   = 16              // of one kind that run, or hang, at the same time
	maxNotes    = 16
	maxNoteText = 200
)

// runner runs probes so that none can harm the caller: a panic becomes an error, and the caller stops waiting when its context
// or the probe's time ends. Such a probe goes on in the background, because a system call on a dead network mount cannot be
// interrupted; the number of probes of one name is bounded, so that they cannot pile up. The zero value is ready.
type runner struct {
	mu    sync.Mutex
	gates map[string]*gate // guarded by mu; only those in use
}

type gate struct {
	slots chan struct{}
	users int // guarded by runner.mu: probes that run or wait to
}

// run returns what probe returns, or why it was not waited for. At most width probes of one name run at the same time, others
// wait for their turn.
func run[T any](ctx context.Context, r *runner, name string, width int, limit time.Duration, probe func(context.Context) (T, error)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %v", limit))
	defer cancel()
	g := r.enter(name, width)
	select {
	case g.slots <- struct{}{}:
	case <-ctx.Done():
		r.leave(name, g)
		var zero T
		return zero, context.Cause(ctx)
	}
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		defer func() {
			if p := recover(); p != nil {
				o.err = fmt.Errorf("the probe panicked: %v", p)
			}
			<-g.slots
			r.leave(name, g)
			done <- o
		}()
		o.value, o.err = probe(ctx)
	}()
	select {
	case o := <-done:
		if o.err != nil && ctx.Err() != nil {
			o.err = context.Cause(ctx)
		}
		return o.value, o.err
	case <-ctx.Done():
		var zero T
		return zero, context.Cause(ctx)
	}
}

func (r *runner) enter(name string, width int) *gate {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.gates[name]
	if g == nil {
		if r.gates == nil {
			r.gates = make(map[string]*gate)
		}
		g = &gate{slots: make(chan struct{}, width)}
		r.gates[name] = g
	}
	g.users++
	return g
}

func (r *runner) leave(name string, g *gate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g.users--; g.users == 0 {
		delete(r.gates, name)
	}
}

// notes collects what a report could not say, in a bounded list. Its methods may be called at the same time.
type notes struct {
	mu   sync.Mutex
	list []string // guarded by mu
	more int      // guarded by mu
}

func (n *notes) addf(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.list) == maxNotes {
		n.more++
		return
	}
	n.list = append(n.list, clean(fmt.Sprintf(format, args...), maxNoteText))
}

// all returns the notes, sorted because probes run in any order, and last how many did not fit.
func (n *notes) all() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := slices.Sorted(slices.Values(n.list))
	if n.more > 0 {
		list = append(list, fmt.Sprintf("%d more notes left out", n.more))
	}
	return list
}

// read runs a probe of the machine under its name. A failure becomes a note and reports false.
func read[T any](ctx context.Context, h *hostServer, n *notes, name string, probe func(context.Context) (T, error)) (T, bool) {
	v, err := run(ctx, &h.runner, name, maxProbes, probeTime, probe)
	if err != nil {
		n.addf("%s: %v", name, err)
		return v, false
	}
	return v, true
}

// together runs all of fs at the same time and waits for them. A panic, as when a probe returns neither a value nor an error,
// becomes a note.
func together(n *notes, fs ...func()) {
	var wg sync.WaitGroup
	for _, f := range fs {
		wg.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					n.addf("internal error: %v", p)
				}
			}()
			f()
		})
	}
	wg.Wait()
}

// nothing is the error of a tool none of whose probes gave anything.
func nothing(ctx context.Context, n *notes) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err := errors.New("nothing could be read on this machine")
	for _, note := range n.all() {
		err = fmt.Errorf("%w; %s", err, note)
	}
	return err
}
