package resilience

import "time"

const buckets = 10

// window counts outcomes over a sliding time in ten steps. Old steps are left out when they are read, not only when something new is
// counted, so that the numbers of a dependency which nobody calls fade too.
type window struct {
	base time.Time
	step time.Duration
	b    [buckets]bucket
}

type bucket struct {
	slot             int64
	succ, fail, slow uint32
}

func (w *window) reset(now time.Time, size time.Duration) {
	*w = window{base: now, step: size / buckets}
	if w.step <= 0 {
		w.step = time.Minute / buckets
	}
	for i := range w.b {
		w.b[i].slot = -buckets
	}
}

func (w *window) add(now time.Time, failed, slow bool) {
	s := int64(now.Sub(w.base) / w.step)
	k := &w.b[uint64(s)%buckets]
	if k.slot != s {
		*k = bucket{slot: s}
	}
	if failed {
		k.fail++
	} else {
		k.succ++
	}
	if slow {
		k.slow++
	}
}

func (w *window) sums(now time.Time) (succ, fail, slow int) {
	s := int64(now.Sub(w.base) / w.step)
	for i := range w.b {
		if k := &w.b[i]; s-k.slot < buckets {
			succ += int(k.succ)
			fail += int(k.fail)
			slow += int(k.slow)
		}
	}
	return succ, fail, slow
}
