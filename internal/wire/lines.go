package wire

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// LineReader reads messages that are separated by newlines, as the stdio transport sends them. It takes what real servers write:
// "\r\n", blank lines, a last line without a newline. A line that is too long costs itself only. It is not safe for concurrent
// use.
type LineReader struct {
	r    *bufio.Reader
	max  int
	long []byte // where a line is put together that does not fit into r's buffer
}

// How much of a line that is too long is kept to recognise it by.
const (
	lineHead = 1024
	lineTail = 256
)

// keepLong is the size up to which the space for long lines is kept for the next one.
const keepLong = 256 << 10

// LineTooLongError reports a line that was skipped because it exceeded the limit. Reading goes on with the next line.
type LineTooLongError struct {
	Limit  int
	Length int64  // of the line, without its end
	Head   []byte // its beginning
	Tail   []byte // its end; may overlap Head
}

func (e *LineTooLongError) Error() string {
	return fmt.Sprintf("a line of %d bytes, which is more than the limit of %d", e.Length, e.Limit)
}

// NewLineReader returns a LineReader for lines of at most maxLen bytes. It holds little more than one line.
func NewLineReader(r io.Reader, maxLen int) *LineReader {
	return &LineReader{r: bufio.NewReaderSize(r, 32<<10), max: maxLen}
}

// Next returns the next line that is not blank, without its end. The caller owns it. The error is a *[LineTooLongError], after
// which Next can be called again; io.EOF after the last line; or the reader's own, which loses a line that had only begun.
func (l *LineReader) Next() ([]byte, error) {
	for {
		line, err := l.read()
		if err != nil {
			return nil, err
		}
		if skipSpace(line, 0) < len(line) {
			return line, nil
		}
	}
}

// read returns one line, blank or not.
func (l *LineReader) read() ([]byte, error) {
	line := l.long[:0]
	for {
		chunk, err := l.r.ReadSlice('\n')
		more := errors.Is(err, bufio.ErrBufferFull)
		if err != nil && !more && (!errors.Is(err, io.EOF) || len(line)+len(chunk) == 0) {
			return nil, err
		}
		if len(line)+len(chunk) > l.max {
			// The two bytes that may end the line do not count.
			if n := len(line) + len(trimEnd(chunk)); more && n > l.max+1 || !more && n > l.max && !l.endsIn(line, chunk) {
				return nil, l.skip(line, chunk, more)
			}
		}
		if !more && len(line) == 0 {
			return bytes.Clone(trimEnd(chunk)), nil
		}
		line = append(l.room(line, len(chunk)), chunk...)
		if !more {
			if cap(line) > keepLong {
				l.long = nil
				if cap(line) > 2*len(line) {
					line = bytes.Clone(line)
				}
				return trimEnd(line), nil
			}
			l.long = line
			return bytes.Clone(trimEnd(line)), nil
		}
	}
}

// room returns line with space for n more bytes. It grows in few large steps: what append throws away on its way to the limit is several
// times the limit, all of it garbage while a server floods its output.
func (l *LineReader) room(line []byte, n int) []byte {
	if len(line)+n <= cap(line) {
		return line
	}
	const step = 4
	return append(make([]byte, 0, max(min(step*cap(line), l.max+2), len(line)+n)), line...)
}

// endsIn reports whether line and chunk together are a line of the greatest length whose end lies in both.
func (l *LineReader) endsIn(line, chunk []byte) bool {
	return len(line) == l.max+1 && line[l.max] == '\r' && (len(chunk) == 0 || string(chunk) == "\n")
}

// trimEnd removes a line's end.
func trimEnd(line []byte) []byte {
	if n := len(line) - 1; n >= 0 && line[n] == '\n' {
		line = line[:n]
	}
	if n := len(line) - 1; n >= 0 && line[n] == '\r' {
		line = line[:n]
	}
	return line
}

// skip reads on to the end of a line of which line and chunk are the beginning, keeping only its edges.
func (l *LineReader) skip(line, chunk []byte, more bool) error {
	e := &LineTooLongError{Limit: l.max}
	take := func(b []byte) {
		e.Length += int64(len(b))
		if n := lineHead - len(e.Head); n > 0 {
			e.Head = append(e.Head, b[:min(n, len(b))]...)
		}
		e.Tail = append(e.Tail, b[max(0, len(b)-lineTail):]...)
		if n := len(e.Tail) - lineTail; n > 0 {
			e.Tail = append(e.Tail[:0], e.Tail[n:]...)
		}
	}
	take(line)
	take(chunk)
	for more {
		var err error
		chunk, err = l.r.ReadSlice('\n')
		more = errors.Is(err, bufio.ErrBufferFull)
		if err != nil && !more && !errors.Is(err, io.EOF) {
			return err
		}
		take(chunk)
	}
	end := len(e.Tail) - len(trimEnd(e.Tail))
	e.Tail = e.Tail[:len(e.Tail)-end]
	e.Length -= int64(end)
	e.Head = e.Head[:min(int64(len(e.Head)), e.Length)]
	return e
}
