package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// The neighbour of the downstreams that suffer: a healthy server that is called all the time, through the gateway and directly, the
// latter to tell what the gateway does to it from what the machine does.
const calm = "calm"

// sample is one measurement of a monitor.
type sample struct {
	at   time.Time
	took time.Duration
}

// monitor watches the gateway while a scenario runs: a healthy neighbour, and circuit_status.
type monitor struct {
	wg   sync.WaitGroup
	stop context.CancelFunc

	mu     sync.Mutex // guards what follows
	calm   []sample
	direct []sample
	status []sample
	bad    []string // what went wrong
}

// startMonitor begins to watch. The neighbour's calls enter the ledger like any others.
func startMonitor(ctx context.Context, gw, direct *client, every time.Duration, sums bool) *monitor {
	ctx, stop := context.WithCancel(ctx)
	m := &monitor{stop: stop}
	loop := func(every time.Duration, into *[]sample, f func() error) {
		m.wg.Go(func() {
			tick := time.NewTicker(every)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
				start := time.Now()
				err := f()
				m.mu.Lock()
				*into = append(*into, sample{start, time.Since(start)})
				if err != nil && ctx.Err() == nil {
					m.bad = append(m.bad, err.Error())
				}
				m.mu.Unlock()
			}
		})
	}
	// A call is finished even when the watch ends, or it would look as if it had been lost.
	steady := context.WithoutCancel(ctx)
	one := func(c *client) func() error {
		return func() error {
			if t := c.do(steady, call{server: calm, tool: "read"}); !t.answered || t.wrong != "" {
				return fmt.Errorf("the healthy neighbour: %s", t)
			}
			return nil
		}
	}
	loop(every, &m.calm, one(gw))
	loop(every, &m.direct, one(direct))
	loop(5*every, &m.status, func() error {
		s, err := gw.status(steady, "circuit_status")
		if err != nil {
			return fmt.Errorf("circuit_status: %w", err)
		}
		if wrong := s.sum(); sums && wrong != "" {
			return fmt.Errorf("circuit_status does not sum up: %s", wrong)
		}
		return nil
	})
	return m
}

// end ends the watch and returns what went wrong.
func (m *monitor) end() []string {
	m.stop()
	m.wg.Wait()
	return m.bad
}

// between returns the samples taken in a span of time, shortest first.
func between(all []sample, from, to time.Time) []time.Duration {
	var out []time.Duration
	for _, s := range all {
		if !s.at.Before(from) && s.at.Before(to) {
			out = append(out, s.took)
		}
	}
	slices.Sort(out)
	return out
}

// quantile returns the q-quantile of sorted durations; 0 if there are none.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// took returns how long calls took, shortest first.
func took(calls []*told) []time.Duration {
	out := make([]time.Duration, 0, len(calls))
	for _, c := range calls {
		out = append(out, c.took)
	}
	slices.Sort(out)
	return out
}
