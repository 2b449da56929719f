package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sameBytes compares slices at once: cmp would look at each byte.
var sameBytes = cmp.Comparer(func(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) })

// readSSE returns the events of r, the errors of those that were skipped, and the error at the end.
func readSSE(t testing.TB, r io.Reader, limit int64) (all []SSEEvent, skipped []*SSETooLargeError, end error) {
	t.Helper()
	s := NewSSEReader(r, limit)
	defer s.Release()
	for {
		e, err := s.Next()
		if tooLarge := (*SSETooLargeError)(nil); errors.As(err, &tooLarge) {
			skipped = append(skipped, tooLarge)
			continue
		}
		if err != nil {
			if _, again := s.Next(); !errors.Is(again, err) {
				t.Errorf("second error %v, want again %v", again, err)
			}
			return all, skipped, err
		}
		all = append(all, e)
	}
}

func TestSSEReader(t *testing.T) {
	message := func(data string) SSEEvent { return SSEEvent{Name: "message", Data: []byte(data)} }
	tests := []struct {
		name, in string
		want     []SSEEvent
	}{
		{"nothing", "", nil},
		{"one event", "event: message\ndata: {\"a\":1}\n\n", []SSEEvent{message(`{"a":1}`)}},
		{"no name", "data: x\n\n", []SSEEvent{{Data: []byte("x")}}},
		{"CR", "event: message\rdata: x\r\rdata: y\r\r", []SSEEvent{message("x"), {Data: []byte("y")}}},
		{"CRLF", "event: message\r\ndata: x\r\n\r\ndata: y\r\n\r\n", []SSEEvent{message("x"), {Data: []byte("y")}}},
		{"line ends mixed", "data: a\rdata: b\ndata: c\r\n\n", []SSEEvent{{Data: []byte("a\nb\nc")}}},
		{"byte order mark", "\ufeffdata: x\n\n", []SSEEvent{{Data: []byte("x")}}},
		{"a second byte order mark is a field name", "\ufeff\ufeffdata: x\n\n", nil},
		{"comments", ": hello\n\n:\n:\ndata: x\n: in between\ndata: y\n\n", []SSEEvent{{Data: []byte("x\ny")}}},
		{"only one space is taken away", "data:  x \ndata:y\n\n", []SSEEvent{{Data: []byte(" x \ny")}}},
		{"field without a colon", "data\n\ndata\ndata\n\n", []SSEEvent{{Data: []byte{}}, {Data: []byte("\n")}}},
		{"unknown fields", "foo: bar\nDATA: x\n data: x\ndata: y\n\n", []SSEEvent{{Data: []byte("y")}}},
		{"event without data says nothing", "event: ping\n\ndata: x\n\n", []SSEEvent{{Data: []byte("x")}}},
		{"id alone", "id: 7\n\nid: 8\ndata:\n\n", []SSEEvent{{ID: "7"}, {ID: "8", Data: []byte{}}}},
		{"id with NUL is none", "id: 7\x008\ndata: x\n\n", []SSEEvent{{Data: []byte("x")}}},
		{"retry", "retry: 1500\n\nretry: -1\nretry: 1s\ndata: x\n\n", []SSEEvent{{Retry: 1500 * time.Millisecond}, {Data: []byte("x")}}},
		{"the last name counts", "event: a\nevent: endpoint\ndata: /x\n\n", []SSEEvent{{Name: "endpoint", Data: []byte("/x")}}},
		{"blank line missing at the end", "data: x\n\ndata: y\n", []SSEEvent{{Data: []byte("x")}, {Data: []byte("y"), Cut: true}}},
		{"line end missing at the end", "data: x\n\ndata: y", []SSEEvent{{Data: []byte("x")}, {Data: []byte("y"), Cut: true}}},
		{"CR at the end", "data: x\r\n\r", []SSEEvent{{Data: []byte("x")}}},
		{"large", "data: " + strings.Repeat("x", 100_000) + "\n\ndata: y\n\n", []SSEEvent{{Data: bytes.Repeat([]byte("x"), 100_000)}, {Data: []byte("y")}}},
		{"larger than what is copied", "data: " + strings.Repeat("x", 3<<19) + "\ndata: y\n\ndata: z\n\n", []SSEEvent{{Data: append(bytes.Repeat([]byte("x"), 3<<19), "\ny"...)}, {Data: []byte("z")}}},
	}
	readers := []struct {
		name string
		of   func(io.Reader) io.Reader
	}{
		{"whole", func(r io.Reader) io.Reader { return r }},
		{"byte by byte", iotest.OneByteReader},
		{"halves", iotest.HalfReader},
		{"end with the last bytes", iotest.DataErrReader},
	}
	for _, tt := range tests {
		for _, r := range readers {
			t.Run(tt.name+"/"+r.name, func(t *testing.T) {
				got, _, err := readSSE(t, r.of(strings.NewReader(tt.in)), 4<<20)
				if !errors.Is(err, io.EOF) {
					t.Errorf("error %v, want io.EOF", err)
				}
				if d := cmp.Diff(tt.want, got, sameBytes); d != "" {
					t.Errorf("events (-want +got):\n%s", d)
				}
			})
		}
	}
}

func TestSSEReaderLastID(t *testing.T) {
	s := NewSSEReader(strings.NewReader("id: 1\ndata: x\n\ndata: y\n\nid\ndata: z\n\n"), 100)
	var got []string
	for {
		if _, err := s.Next(); err != nil {
			break
		}
		got = append(got, s.LastID())
	}
	if d := cmp.Diff([]string{"1", "1", ""}, got); d != "" {
		t.Errorf("ids (-want +got):\n%s", d)
	}
}

func TestSSEReaderKeepsItsLimit(t *testing.T) {
	for _, tt := range []struct {
		name, in      string
		want, skipped string
	}{
		{"just fits", "data: " + strings.Repeat("x", 1000) + "\n\n", strings.Repeat("x", 1000), ""},
		{"one byte more", "data: a\n\ndata: " + strings.Repeat("x", 1001) + "\n\ndata: b\n\n", "a b", "xxxx"},
		{"in many lines", strings.Repeat("data: 0123456789\n", 100) + "\ndata: b\n\n", "b", "0123"},
		{"of empty lines", strings.Repeat("data\n", 2000) + "\ndata: b\n\n", "b", "\n\n\n\n"},
		{"much too large", "data: abcd" + strings.Repeat("x", 100_000) + "\ndata: y\n\ndata: b\n\n", "b", "abcd"},
		{"two of them", strings.Repeat("data: abcd"+strings.Repeat("x", 10_000)+"\n\n", 2) + "data: b\n\n", "b", "abcd abcd"},
		{"line that does not end", "data: abcd" + strings.Repeat("x", 2000), "", "abcd"},
		{"comment that does not end", ":abcd" + strings.Repeat("x", 2000), "", ":abc"},
		{"comments that end", strings.Repeat(":"+strings.Repeat("x", 500)+"\n", 100) + "data: b\n\n", "b", ""},
	} {
		for _, of := range []func(io.Reader) io.Reader{iotest.DataErrReader, iotest.OneByteReader} {
			t.Run(tt.name, func(t *testing.T) {
				events, errs, err := readSSE(t, of(strings.NewReader(tt.in)), 1000)
				if !errors.Is(err, io.EOF) {
					t.Errorf("error %v, want io.EOF", err)
				}
				var got, skipped []string
				for _, e := range events {
					got = append(got, string(e.Data))
				}
				for _, e := range errs {
					skipped = append(skipped, string(e.Head[:4]))
				}
				if g := strings.Join(got, " "); g != tt.want {
					t.Errorf("events %.40q, want %.40q", g, tt.want)
				}
				if g := strings.Join(skipped, " "); g != tt.skipped {
					t.Errorf("skipped %q, want %q", g, tt.skipped)
				}
			})
		}
	}
}

// endlessEvent is a line that never ends; it counts what was read of it.
type endlessEvent struct{ n int64 }

func (e *endlessEvent) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	if e.n == 0 {
		copy(p, "data: ")
	}
	e.n += int64(len(p))
	return len(p), nil
}

func TestSSEReaderStopsReadingWhatIsTooLong(t *testing.T) {
	const limit = 1 << 20
	var r endlessEvent
	s := NewSSEReader(&r, limit)
	_, err := s.Next()
	if e := (*SSETooLargeError)(nil); !errors.As(err, &e) || e.Limit != limit {
		t.Fatalf("error %v, want too large", err)
	}
	if r.n > limit+largeSSEBuffer {
		t.Errorf("read %d bytes for a limit of %d", r.n, limit)
	}
}

func TestSSEReaderReturnsTheReadersError(t *testing.T) {
	broken := errors.New("broken")
	for _, in := range []string{"", "data: x", "data: x\n"} {
		got, _, err := readSSE(t, io.MultiReader(strings.NewReader(in), iotest.ErrReader(broken)), 100)
		if !errors.Is(err, broken) || got != nil {
			t.Errorf("%q: %d events and %v, want none and %v", in, len(got), err, broken)
		}
	}
	if _, _, err := readSSE(t, iotest.ErrReader(nil), 100); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a reader that reads nothing: %v, want %v", err, io.ErrNoProgress)
	}
}

func TestSSEReaderHandsOutItsOwnMemory(t *testing.T) {
	s := NewSSEReader(strings.NewReader("data: first\n\ndata: other\n\n"), 100)
	first, _ := s.Next()
	second, _ := s.Next()
	second.Data[0] = 'X'
	s.Release()
	if string(first.Data) != "first" {
		t.Errorf("the first event became %q", first.Data)
	}
}

func TestSSEReaderAllocatesOncePerEvent(t *testing.T) {
	const events = 1000
	in := []byte(strings.Repeat("event: message\ndata: {\"jsonrpc\":\"2.0\"}\n\n", events))
	r := bytes.NewReader(nil)
	n := testing.AllocsPerRun(20, func() {
		r.Reset(in)
		s := NewSSEReader(r, 1<<20)
		for {
			if _, err := s.Next(); err != nil {
				break
			}
		}
		s.Release()
	})
	if n > events+10 {
		t.Errorf("%.0f allocations for %d events", n, events)
	}
}

// splitSSE is what SSEReader does, written as the specification puts it and without any limit.
func splitSSE(in string) []SSEEvent {
	in = strings.TrimPrefix(in, "\ufeff")
	in = strings.ReplaceAll(strings.ReplaceAll(in, "\r\n", "\n"), "\r", "\n")
	var all []SSEEvent
	var e SSEEvent
	end := func() {
		if e.Data != nil || e.ID != "" || e.Retry != 0 {
			all = append(all, e)
		}
		e = SSEEvent{}
	}
	lines := strings.Split(in, "\n")
	for i, line := range lines {
		if line == "" && i < len(lines)-1 {
			end()
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "data":
			if e.Data == nil {
				e.Data = []byte(value)
			} else {
				e.Data = fmt.Appendf(e.Data, "\n%s", value)
			}
		case "event":
			e.Name = value
		case "id":
			if !strings.Contains(value, "\x00") {
				e.ID = value
			}
		case "retry":
			if n, err := strconv.ParseUint(value, 10, 31); err == nil {
				e.Retry = time.Duration(n) * time.Millisecond
			}
		}
	}
	e.Cut = true
	end()
	return all
}

// chunks reads in in pieces whose sizes the bytes of sizes say.
type chunks struct {
	in    []byte
	sizes []byte
	n     int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.in) == 0 {
		return 0, io.EOF
	}
	size := len(c.in)
	if len(c.sizes) > 0 {
		size = int(c.sizes[c.n%len(c.sizes)])%32 + 1
		c.n++
	}
	n := copy(p[:min(len(p), size)], c.in)
	c.in = c.in[n:]
	return n, nil
}

func FuzzSSEReader(f *testing.F) {
	for _, in := range []string{
		"event: message\ndata: {}\n\n", "data: a\r\rdata: b\r\n\r\n", "\ufeffid: 1\nretry: 5\n\n: c\n\ndata\ndata:  x", "\xef\xbb", "\r\n\r\n\n\r", "data: x\n\r\n",
	} {
		f.Add([]byte(in), []byte{1, 2, 3})
	}
	f.Fuzz(func(t *testing.T, in, sizes []byte) {
		if len(in) > 1<<16 {
			return
		}
		want := splitSSE(string(in))
		got, skipped, err := readSSE(t, &chunks{in: in, sizes: sizes}, int64(len(in)))
		if !errors.Is(err, io.EOF) || skipped != nil {
			t.Fatalf("error %v and %d skipped, want io.EOF and none", err, len(skipped))
		}
		if d := cmp.Diff(want, got, sameBytes); d != "" {
			t.Fatalf("events (-want +got):\n%s", d)
		}
		// A smaller limit takes events away, and each one is told of; the others stay as they are.
		got, skipped, err = readSSE(t, &chunks{in: in, sizes: sizes}, int64(len(in)/4))
		if !errors.Is(err, io.EOF) {
			t.Fatalf("error %v, want io.EOF", err)
		}
		if len(got) < len(want) && skipped == nil {
			t.Fatalf("%d events of %d, and none is said to be skipped", len(got), len(want))
		}
		for _, e := range want {
			if len(got) > 0 && cmp.Equal(e, got[0], sameBytes) {
				got = got[1:]
			}
		}
		if len(got) > 0 {
			t.Fatalf("events that are not there without a limit: %v", got)
		}
	})
}

func BenchmarkSSEReader(b *testing.B) {
	for _, size := range []int{1 << 10, 100 << 10} {
		b.Run(strconv.Itoa(size>>10)+"KB", func(b *testing.B) {
			in := []byte("event: message\ndata: " + strings.Repeat("x", size) + "\n\n")
			r := bytes.NewReader(nil)
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				r.Reset(in)
				s := NewSSEReader(r, 1<<24)
				if _, err := s.Next(); err != nil {
					b.Fatal(err)
				}
				s.Release()
			}
		})
	}
}
