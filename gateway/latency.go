package gateway

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// latencies counts how long answers took, in classes that double: the status page needs no more, and counting costs one atomic addition.
// Its methods may be called at the same time.
type latencies struct{ classes [latencyClasses]atomic.Uint64 }

// The first class holds answers below 128 µs, the last those above 4.5 minutes.
const (
	latencyClasses = 23
	latencyFirst   = 7 // bits of microseconds
)

func (l *latencies) add(d time.Duration) {
	n := bits.Len64(uint64(max(d.Microseconds(), 0))) - latencyFirst
	l.classes[min(max(n, 0), latencyClasses-1)].Add(1)
}

// counts is a copy of latencies at one moment.
type counts [latencyClasses]uint64

func (l *latencies) load() (c counts) {
	for i := range l.classes {
		c[i] = l.classes[i].Load()
	}
	return c
}

func (c counts) minus(was counts) counts {
	for i := range c {
		c[i] -= was[i]
	}
	return c
}

func (c counts) plus(other counts) counts {
	for i := range c {
		c[i] += other[i]
	}
	return c
}

// quantile returns an upper bound of the q-quantile, interpolated within its class; 0 if nothing was counted.
func (c counts) quantile(q float64) time.Duration {
	total := uint64(0)
	for _, n := range c {
		total += n
	}
	if total == 0 {
		return 0
	}
	rank := q * float64(total)
	seen := 0.0
	for i, n := range c {
		if n == 0 || seen+float64(n) < rank {
			seen += float64(n)
			continue
		}
		low, high := 0.0, float64(uint64(1)<<(latencyFirst+i))
		if i > 0 {
			low = high / 2
		}
		return time.Duration((low + (high-low)*(rank-seen)/float64(n)) * float64(time.Microsecond))
	}
	return 0
}
