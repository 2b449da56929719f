package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"
)

// SSEEvent is one server-sent event (WHATWG HTML, section 9.2).
type SSEEvent struct {
	Name  string        // the event field; "" when absent, which means the same as "message"
	ID    string        // the id field of this event; "" when absent
	Data  []byte        // the data fields joined by newlines, owned by the caller; nil when absent
	Retry time.Duration // the retry field; 0 when absent
	Cut   bool          // the stream ended before the blank line that ends an event: it may be incomplete
}

// SSETooLargeError reports an event that was skipped because it has more than Limit bytes. Reading goes on with the next event.
type SSETooLargeError struct {
	Limit int64
	Head  []byte // the beginning of its data
}

func (e *SSETooLargeError) Error() string {
	return fmt.Sprintf("a server-sent event of more than %d bytes", e.Limit)
}

// SSEReader reads server-sent events from a stream. Lines may end in CR, LF or CRLF; a byte order mark at the start, comments and
// unknown fields are skipped. Events that carry no data, id or retry are skipped too, but a field without data is not an error:
// servers send an id alone so that a stream can be resumed. It is used by one goroutine at a time.
type SSEReader struct {
	r     io.Reader
	limit int64
	err   error // of r, returned once all that was read before it is used up
	ended error // what Next returns from now on

	// buf[from:to] is read and not yet used. It holds no CR before seen and no LF before lf.
	buf      []byte
	from, to int
	seen, lf int
	begun    bool // the byte order mark has been looked for
	skipLF   bool // the last line ended in CR: an LF that follows belongs to it
	skipping bool // the event is too large: it is skipped to its end
	cutLine  bool // of the line that comes, the beginning is skipped already
	lastID   string
	pending  SSEEvent
}

// NewSSEReader returns a reader of the events in r, each of at most limit bytes of data. Release gives its buffer back.
func NewSSEReader(r io.Reader, limit int64) *SSEReader {
	return &SSEReader{r: r, limit: limit}
}

// LastID returns the id that resumes the stream after the events that Next has returned; "" if the server sent none.
func (s *SSEReader) LastID() string { return s.lastID }

// Next returns the next event. The error is a *[SSETooLargeError], after which Next can be called again; io.EOF where the stream
// ends; or that of the underlying reader as it is.
func (s *SSEReader) Next() (SSEEvent, error) {
	for s.ended == nil {
		line, err := s.line()
		if err != nil {
			if _, ok := errors.AsType[*SSETooLargeError](err); ok {
				return SSEEvent{}, err
			}
			return s.last(err)
		}
		switch {
		case len(line) > 0 && !s.skipping:
			if err := s.field(line); err != nil {
				return SSEEvent{}, err
			}
		case len(line) == 0:
			s.skipping = false
			if e, ok := s.take(); ok {
				return e, nil
			}
		}
	}
	return SSEEvent{}, s.ended
}

// tooLarge begins to skip the event, of whose data more came than fits.
func (s *SSEReader) tooLarge(more []byte) error {
	head := s.pending.Data
	if head == nil {
		head = more
	}
	s.skipping, s.pending = true, SSEEvent{}
	return &SSETooLargeError{Limit: s.limit, Head: bytes.Clone(head[:min(len(head), lineHead)])}
}

// Release gives the buffer of s back, after which there are no more events.
func (s *SSEReader) Release() {
	putSSEBuffer(s.buf)
	s.buf = nil
	if s.ended == nil {
		s.ended = io.ErrClosedPipe
	}
}

// take returns the pending event, if it says anything, and starts a new one.
func (s *SSEReader) take() (SSEEvent, bool) {
	e := s.pending
	s.pending = SSEEvent{}
	s.shrink()
	return e, e.Data != nil || e.ID != "" || e.Retry != 0
}

// last ends the stream with err. What a clean end cut off is still handed out: some servers forget the last blank line.
func (s *SSEReader) last(err error) (SSEEvent, error) {
	if errors.Is(err, io.EOF) && !s.skipping {
		if s.to > s.from {
			rest := s.buf[s.from:s.to]
			s.from = s.to
			if err := s.field(rest); err != nil {
				return SSEEvent{}, err
			}
		}
		if e, ok := s.take(); ok {
			e.Cut = true
			return e, nil
		}
	}
	s.ended = err
	return SSEEvent{}, err
}

// field takes one line that is not blank.
func (s *SSEReader) field(line []byte) error {
	name, value, _ := bytes.Cut(line, []byte{':'})
	if len(value) > 0 && value[0] == ' ' {
		value = value[1:]
	}
	switch string(name) {
	case "data":
		return s.data(value)
	case "event":
		if string(value) == "message" { // by far the most frequent one
			s.pending.Name = "message"
		} else {
			s.pending.Name = string(value)
		}
	case "id":
		if bytes.IndexByte(value, 0) < 0 {
			s.pending.ID = string(value)
			s.lastID = s.pending.ID
		}
	case "retry":
		if ms, err := strconv.ParseUint(string(value), 10, 31); err == nil {
			s.pending.Retry = time.Duration(ms) * time.Millisecond
		}
	}
	return nil
}

// largeLine is the length from which a line is not copied out of the buffer: the event gets the buffer.
const largeLine = 1 << 20

func (s *SSEReader) data(value []byte) error {
	have := s.pending.Data
	switch {
	case int64(len(have))+int64(len(value)) > s.limit:
		return s.tooLarge(value)
	case have != nil:
		s.pending.Data = append(append(have, '\n'), value...)
	case len(value) >= largeLine:
		s.pending.Data = slices.Clip(value)
		rest := s.buf[s.from:s.to]
		buf := getSSEBuffer(len(rest) + 1)
		s.rebase(buf, copy(buf, rest))
	default:
		s.pending.Data = append(make([]byte, 0, len(value)), value...)
	}
	return nil
}

// line returns the next line without its end, valid until the next call.
func (s *SSEReader) line() ([]byte, error) {
	for {
		if !s.begun && !s.begin() || s.skipLF && s.from == s.to {
			if err := s.fill(); err != nil {
				return nil, err
			}
			continue
		}
		if s.skipLF {
			s.skipLF = false
			if s.buf[s.from] == '\n' {
				s.from++
				s.seen, s.lf = max(s.seen, s.from), max(s.lf, s.from)
			}
		}
		if s.lf == s.to || s.buf[s.lf] != '\n' {
			if i := bytes.IndexByte(s.buf[s.lf:s.to], '\n'); i >= 0 {
				s.lf += i
			} else {
				s.lf = s.to
			}
		}
		end := s.lf
		if s.seen < end {
			if i := bytes.IndexByte(s.buf[s.seen:end], '\r'); i >= 0 {
				end = s.seen + i
			}
		}
		s.seen = end
		if end < s.to {
			line := s.buf[s.from:end]
			s.skipLF = s.buf[end] == '\r'
			s.from, s.seen = end+1, end+1
			s.lf = max(s.lf, s.from)
			if s.cutLine {
				s.cutLine = false
				return skippedLine, nil
			}
			return line, nil
		}
		if s.cutLine || int64(s.to-s.from) > s.limit+lineOverhead {
			begun := bytes.TrimPrefix(s.buf[s.from:s.to], []byte("data: "))
			s.from, s.cutLine = s.to, true
			if !s.skipping {
				return nil, s.tooLarge(begun)
			}
		}
		if err := s.fill(); err != nil {
			return nil, err
		}
	}
}

// skippedLine stands for a line of an event that is skipped. It is not blank, which would end the event.
var skippedLine = []byte{':'}

// lineOverhead is what a data line has besides its data, generously.
const lineOverhead = 64

// begin skips a byte order mark. It reports false while there are too few bytes to know.
func (s *SSEReader) begin() bool {
	const mark = "\ufeff"
	n := min(s.to-s.from, len(mark))
	if string(s.buf[s.from:s.from+n]) == mark[:n] {
		if n < len(mark) {
			return s.err != nil
		}
		s.from += n
		s.seen, s.lf = s.from, s.from
	}
	s.begun = true
	return true
}

// fill reads more into the buffer.
func (s *SSEReader) fill() error {
	if s.err != nil {
		return s.err
	}
	switch {
	case s.buf == nil:
		s.buf = getSSEBuffer(smallSSEBuffer)
	case s.from == s.to:
		s.from, s.to, s.seen, s.lf = 0, 0, 0, 0
	case s.to == len(s.buf) && s.from > 0:
		s.rebase(s.buf, copy(s.buf, s.buf[s.from:s.to]))
	case s.to == len(s.buf):
		// One byte more than the largest line, so that a longer one shows.
		bigger := getSSEBuffer(int(min(int64(2*len(s.buf)), s.limit+lineOverhead+1)))
		old := s.buf
		s.rebase(bigger, copy(bigger, old[s.from:s.to]))
		putSSEBuffer(old)
	}
	for range 100 {
		n, err := s.r.Read(s.buf[s.to:])
		s.to += n
		s.err = err
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	s.err = io.ErrNoProgress
	return s.err
}

// rebase goes on with buf, whose first n bytes are the unused ones.
func (s *SSEReader) rebase(buf []byte, n int) {
	s.seen, s.lf = max(s.seen-s.from, 0), max(s.lf-s.from, 0)
	s.buf, s.from, s.to = buf, 0, n
}

// shrink gives a grown buffer back between events: a stream may be idle for hours now.
func (s *SSEReader) shrink() {
	if s.from == s.to && len(s.buf) > smallSSEBuffer {
		putSSEBuffer(s.buf)
		s.buf, s.from, s.to, s.seen, s.lf = nil, 0, 0, 0, 0
	}
}

// Most events fit the small buffers. Of the large ones, those that a pool would keep for too long are left to the garbage collector.
const (
	smallSSEBuffer = 4 << 10
	largeSSEBuffer = 64 << 10
	mostSSEBuffer  = 1 << 20
)

var smallSSEBuffers, largeSSEBuffers sync.Pool

func getSSEBuffer(size int) []byte {
	if size <= smallSSEBuffer {
		if b, ok := smallSSEBuffers.Get().(*[smallSSEBuffer]byte); ok {
			return b[:]
		}
		return make([]byte, smallSSEBuffer)
	}
	if size <= mostSSEBuffer {
		if b, ok := largeSSEBuffers.Get().(*[]byte); ok && len(*b) >= size {
			return *b
		}
	}
	return make([]byte, max(size, largeSSEBuffer))
}

func putSSEBuffer(b []byte) {
	switch {
	case len(b) == smallSSEBuffer:
		smallSSEBuffers.Put((*[smallSSEBuffer]byte)(b))
	case len(b) >= largeSSEBuffer && len(b) <= mostSSEBuffer:
		largeSSEBuffers.Put(&b)
	}
}
