package proc

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// How much of an error stream is let through.
const (
	stderrLine  = 8 << 10   // bytes of one line
	stderrBurst = 256 << 10 // bytes logged at once
	stderrRate  = 8 << 10   // bytes per second after that: a day of flood is 700 MB
	tailLines   = 8         // lines in an error message
	tailBytes   = 2 << 10   // bytes in an error message
)

// stderrLog takes the error stream of a process apart into log lines and keeps its end. A flood is thinned out: it must not fill
// the disk.
type stderrLog struct {
	log *slog.Logger

	budget  float64 // bytes that may be logged now
	at      time.Time
	dropped int64 // lines since the last one that was logged

	mu   sync.Mutex // guards what follows
	ring []byte     // the last bytes, in order
	size int
}

func newStderrLog(size int, log *slog.Logger) *stderrLog {
	return &stderrLog{log: log, size: size, budget: stderrBurst, at: time.Now()}
}

// read takes r until it ends.
func (l *stderrLog) read(r io.Reader) {
	br := bufio.NewReaderSize(r, stderrLine)
	skipping := int64(0) // bytes of a line of which the beginning has been logged
	for {
		chunk, err := br.ReadSlice('\n')
		l.keep(chunk)
		long := errors.Is(err, bufio.ErrBufferFull)
		switch {
		case skipping > 0:
			skipping += int64(len(chunk))
			if !long {
				l.log.Warn("server stderr line was cut", "bytes", skipping)
				skipping = 0
			}
		case len(bytes.TrimSpace(chunk)) > 0:
			l.line(chunk)
			if long {
				skipping = int64(len(chunk))
			}
		}
		if err != nil && !long {
			if l.dropped > 0 {
				l.log.Warn("server stderr lines dropped", "lines", l.dropped)
			}
			return
		}
	}
}

// line logs one line if the budget allows.
func (l *stderrLog) line(b []byte) {
	now := time.Now()
	l.budget = min(stderrBurst, l.budget+now.Sub(l.at).Seconds()*stderrRate)
	l.at = now
	if l.budget < float64(len(b)) {
		l.dropped++
		return
	}
	l.budget -= float64(len(b))
	if l.dropped > 0 {
		l.log.Warn("server stderr lines dropped", "lines", l.dropped)
		l.dropped = 0
	}
	l.log.Info("server stderr", "line", Clean(strings.TrimRight(string(b), "\r\n"), stderrLine))
}

// keep remembers the end of the stream.
func (l *stderrLog) keep(b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b = b[max(0, len(b)-l.size):]
	if over := len(l.ring) + len(b) - 2*l.size; over > 0 {
		l.ring = append(l.ring[:0], l.ring[max(0, len(l.ring)-l.size):]...)
	}
	l.ring = append(l.ring, b...)
}

// Tail returns the last lines of the stream on one line, cleaned.
func (l *stderrLog) Tail() string {
	l.mu.Lock()
	b := l.ring[max(0, len(l.ring)-min(l.size, tailBytes)):]
	text := string(b)
	l.mu.Unlock()
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
	lines = lines[max(0, len(lines)-tailLines):]
	return Clean(strings.TrimSpace(strings.Join(lines, " | ")), 2*tailBytes)
}
