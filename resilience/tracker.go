package resilience

import (
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// ErrorRecord is one failed attempt.
type ErrorRecord struct {
	Time    time.Time `json:"time"`
	Key     string    `json:"tool,omitempty"`
	Class   string    `json:"class"`
	Message string    `json:"message"`
	TraceID string    `json:"trace_id,omitempty"`
}

// Errors is what a Guard remembers of failed attempts.
type Errors struct {
	Total  uint64            `json:"total"`
	By     map[string]uint64 `json:"by"`     // counts by class or by key, as [ErrorTrackingConfig] says
	Recent []ErrorRecord     `json:"recent"` // the latest, oldest first
}

// tracker keeps the latest errors in a ring and counts all of them. It wants the Guard's mutex held.
type tracker struct {
	cfg   ErrorTrackingConfig
	ring  []ErrorRecord
	next  int // where the next record goes once the ring is full
	total uint64
	by    map[string]uint64
}

// maxCounted bounds the different things that errors are counted by; what comes after goes to "other".
const maxCounted = 1000

func (t *tracker) reconfigure(cfg ErrorTrackingConfig) {
	if cfg.MaxErrors != t.cfg.MaxErrors {
		recent := t.recent()
		if drop := len(recent) - cfg.MaxErrors; drop > 0 {
			recent = recent[drop:]
		}
		t.ring, t.next = recent, 0
	}
	if cfg.ClassifyBy != t.cfg.ClassifyBy {
		t.by = nil
		for i := range t.ring {
			t.countBy(cfg, &t.ring[i])
		}
	}
	t.cfg = cfg
}

func (t *tracker) countBy(cfg ErrorTrackingConfig, r *ErrorRecord) {
	by := r.Class
	if cfg.ClassifyBy == "tool" {
		by = r.Key
	}
	if t.by == nil {
		t.by = map[string]uint64{}
	}
	if _, ok := t.by[by]; !ok && len(t.by) >= maxCounted {
		by = ClassOther
	}
	t.by[by]++
}

func (t *tracker) add(r ErrorRecord) {
	t.total++
	t.countBy(t.cfg, &r)
	if len(t.ring) < t.cfg.MaxErrors {
		t.ring = append(t.ring, r)
		return
	}
	t.ring[t.next] = r
	t.next = (t.next + 1) % len(t.ring)
}

func (t *tracker) recent() []ErrorRecord {
	return slices.Concat(t.ring[t.next:], t.ring[:t.next])
}

// latencies are the times of the latest successful attempts.
type latencies struct {
	ring   [128]time.Duration
	n      int // all that were ever added
	cached time.Duration
	of     float64 // the quantile that is cached
	at     int     // n when it was taken
}

// A quantile of fewer than latenciesLeast times means nothing; it is taken anew after latenciesStale more.
const latenciesLeast, latenciesStale = 50, 16

func (l *latencies) add(d time.Duration) {
	l.ring[l.n%len(l.ring)] = d
	l.n++
}

// quantile returns the q-quantile, or -1 where too little is known.
func (l *latencies) quantile(q float64) time.Duration {
	if l.n < latenciesLeast {
		return -1
	}
	if l.of != q || l.n-l.at >= latenciesStale {
		s := slices.Clone(l.ring[:min(l.n, len(l.ring))])
		slices.Sort(s)
		l.cached, l.of, l.at = s[min(len(s)-1, int(q*float64(len(s))))], q, l.n
	}
	return l.cached
}

const maxMessage = 200

// message is the text of err as it may be kept and shown: redacted, on one line, short.
func (c *core) message(err error) string {
	if err == nil {
		return ""
	}
	s := err.Error()
	if len(s) > 16*maxMessage {
		s = s[:16*maxMessage] // what a peer sent can be large
	}
	if c.opts.Redact != nil {
		s = c.opts.Redact(s)
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > maxMessage {
		cut := maxMessage
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut]
	}
	return s
}
