package downstream

import (
	"context"
	"log/slog"
	"os"
	"runtime"
	"testing"
)

// TestClosedSessionsLeaveNothing: no goroutine, no file, no process.
func TestClosedSessionsLeaveNothing(t *testing.T) {
	files := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			return 0 // no such thing on this system
		}
		return len(entries)
	}
	stdio := func(role string) opener {
		o, err := newStdioOpener("test", stdioConfig(t, role), slog.New(slog.DiscardHandler), "v1")
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	cfg := DefaultConfig()
	for _, test := range []struct {
		name   string
		opener opener
		fails  bool
	}{
		{"stdio, modern", stdio("sdk"), false},
		{"stdio, legacy", stdio("raw,grandchild"), false},
		{"stdio that cannot start", stdio("exits"), true},
		{"in process", newServerOpener(realServer(), &cfg, slog.New(slog.DiscardHandler), "v1"), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			once := func() {
				l, err := test.opener.open(t.Context(), opening{upcalls: newRecorder(t), listen: true})
				if (err != nil) != test.fails {
					t.Fatalf("open: %v", err)
				}
				if err == nil {
					l.close(context.Background())
				}
			}
			once() // what is made once for the whole program
			goroutines, open := runtime.NumGoroutine(), files()
			for range 3 {
				once()
			}
			eventually(t, "as many goroutines and files as before", func() bool {
				return runtime.NumGoroutine() <= goroutines && files() <= open
			})
		})
	}
}
