//go:build unix

package downstream

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// giveUp makes a call that the server does not answer, and gives it up.
func giveUp(t *testing.T, l link) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := l.call(ctx, toolCall("silent", `{}`, ""))
	if lost := (*LostError)(nil); !errors.As(err, &lost) || lost.Class != "timeout" {
		t.Fatal(err)
	}
}

func wedgedIn(t *testing.T, role string) *stdioLink {
	t.Helper()
	cfg := stdioConfig(t, role)
	cfg.Restart.WedgedAfter = 100 * time.Millisecond
	l, ok := openStdio(t, cfg, opening{}, nil).(*stdioLink)
	if !ok {
		t.Fatal("not a stdio link")
	}
	return l
}

func TestStdioWedgedProcessIsEnded(t *testing.T) {
	l := wedgedIn(t, "raw")
	giveUp(t, l)
	select {
	case <-l.done():
	case <-time.After(10 * time.Second):
		t.Fatal("it still hangs")
	}
	if err := l.err(); !strings.Contains(err.Error(), "restart.wedged_after") {
		t.Error(err)
	}
}

// TestStdioBusyProcessIsWaitedFor: a call that was sent earlier and is within its own time may be why the process says nothing.
func TestStdioBusyProcessIsWaitedFor(t *testing.T) {
	l := wedgedIn(t, "raw")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	long := make(chan error, 1)
	go func() {
		_, err := l.call(ctx, toolCall("silent", `{}`, ""))
		long <- err
	}()
	eventually(t, "the long call under way", func() bool { return l.waiting(l.lastID()) })
	giveUp(t, l)
	eventually(t, "asked for a sign of life and got none", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.next >= 5 && len(l.calls) == 1 && l.own == 0 // two of the handshake, two calls, the question
	})
	select {
	case <-l.done():
		t.Fatal("ended in the middle of a call: ", l.err())
	default:
	}
	cancel()
	<-long
	eventually(t, "the end of the process", func() bool { return l.err() != nil })
}

// TestStdioLivelyProcessIsKept: a call that timed out says nothing about a process that answers.
func TestStdioLivelyProcessIsKept(t *testing.T) {
	l := wedgedIn(t, "raw,pings")
	giveUp(t, l)
	eventually(t, "an answer to the ping", func() bool { return !l.watching.Load() })
	if err := l.err(); err != nil {
		t.Error(err)
	}
	if _, err := l.call(t.Context(), toolCall("ok", `{}`, "")); err != nil {
		t.Error(err)
	}
}
