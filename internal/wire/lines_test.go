package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// readLines returns all lines of r, read through a buffer of the given size; one that is too long is "<its last bytes>".
func readLines(t testing.TB, r io.Reader, limit, buffer int) []string {
	t.Helper()
	var all []string
	lr := NewLineReader(r, limit)
	lr.r = bufio.NewReaderSize(r, buffer)
	for {
		line, err := lr.Next()
		var long *LineTooLongError
		switch {
		case errors.As(err, &long):
			if int64(len(long.Head)) > min(long.Length, lineHead) || len(long.Tail) > lineTail || long.Length <= int64(limit) {
				t.Errorf("a line of %d bytes over the limit of %d keeps a head of %d and a tail of %d", long.Length, limit, len(long.Head), len(long.Tail))
			}
			all = append(all, "<"+string(long.Tail[max(0, len(long.Tail)-3):])+">")
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			t.Fatalf("Next: %v", err)
		default:
			all = append(all, string(line))
		}
	}
}

func TestLineReader(t *testing.T) {
	long := strings.Repeat("x", 100<<10)
	for _, test := range []struct {
		name  string
		in    string
		limit int
		want  []string
	}{
		{"nothing", "", 10, nil},
		{"one line", "a\n", 10, []string{"a"}},
		{"the last without an end", "a\nb", 10, []string{"a", "b"}},
		{"carriage returns", "a\r\nb\r\n", 10, []string{"a", "b"}},
		{"a carriage return inside stays", "a\rb\r\r\n", 10, []string{"a\rb\r"}},
		{"blank lines are skipped", "\n\r\n \t\na\n\n", 10, []string{"a"}},
		{"exactly the limit", "0123456789\n0123456789\r\n0123456789", 10, []string{"0123456789", "0123456789", "0123456789"}},
		{"one over the limit", "0123456789a\nb\n", 10, []string{"<89a>", "b"}},
		{"over the limit at the end", "b\n0123456789a", 10, []string{"b", "<89a>"}},
		{"longer than the buffer", long + "\n" + long + "\r\nb\n", 200 << 10, []string{long, long, "b"}},
		{"much over the limit", long + "\r\nb\n" + long, 50, []string{"<xxx>", "b", "<xxx>"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, readLines(t, strings.NewReader(test.in), test.limit, 32<<10)); diff != "" {
				t.Errorf("whole (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.want, readLines(t, iotest.OneByteReader(strings.NewReader(test.in)), test.limit, 16)); diff != "" {
				t.Errorf("byte by byte (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLineReaderReturnsTheReadersError(t *testing.T) {
	broken := errors.New("broken")
	lr := NewLineReader(io.MultiReader(strings.NewReader("a\nbegun"), iotest.ErrReader(broken)), 100)
	if line, err := lr.Next(); string(line) != "a" || err != nil {
		t.Fatalf("Next = %q, %v, want the first line", line, err)
	}
	if line, err := lr.Next(); !errors.Is(err, broken) {
		t.Fatalf("Next = %q, %v, want the reader's error", line, err)
	}
}

// endless never ends its line.
type endless struct{ left int }

func (e *endless) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	n := min(len(p), e.left)
	for i := range p[:n] {
		p[i] = 'x'
	}
	e.left -= n
	return n, nil
}

func TestLineReaderHoldsOnlyTheLimit(t *testing.T) {
	const limit = 1 << 20
	allocated := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			lr := NewLineReader(&endless{left: 256 << 20}, limit)
			var long *LineTooLongError
			if _, err := lr.Next(); !errors.As(err, &long) || long.Length != 256<<20 {
				b.Fatalf("Next: %v, want a line that is too long", err)
			}
		}
	}).AllocedBytesPerOp()
	// Growing by doubling allocates at most four times the last size.
	if allocated > 6*limit {
		t.Errorf("a line of 256 MiB made it allocate %d bytes, the limit is %d", allocated, limit)
	}
}

func FuzzLineReader(f *testing.F) {
	f.Add([]byte("a\nbc\r\n\n \ndefghijk\r\nlast"), uint8(4), uint8(3))
	f.Add([]byte("0123456789\r\n0123456789a\r\n\r"), uint8(10), uint8(1))
	f.Fuzz(func(t *testing.T, in []byte, limit, step uint8) {
		// The plain meaning: split at newlines, trim one carriage return, leave out what is blank, mark what is too long.
		var want []string
		rest := in
		for len(rest) > 0 {
			line, after, _ := bytes.Cut(rest, []byte("\n"))
			rest = after
			line = bytes.TrimSuffix(line, []byte("\r"))
			switch {
			case len(line) > int(limit):
				want = append(want, "<"+string(line[max(0, len(line)-3):])+">")
			case skipSpace(line, 0) < len(line):
				want = append(want, string(line))
			}
		}
		got := readLines(t, &stepReader{in, int(step) + 1}, int(limit), 16) // the smallest that bufio has
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q with limit %d (-want +got):\n%s", in, limit, diff)
		}
	})
}

// stepReader returns at most step bytes at a time.
type stepReader struct {
	b    []byte
	step int
}

func (r *stepReader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.b[:min(r.step, len(r.b))])
	r.b = r.b[n:]
	return n, nil
}
