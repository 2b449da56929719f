package downstream

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/downstream/internal/proc"
)

// Events are functions that a Server calls when something happens, for metrics. Any of them may be nil. They must not block, and may be
// called at the same time.
type Events struct {
	// SessionEnded tells of a session that was open for took. class says why: "" if the gateway ended it, "process_exit" or
	// "connection_lost" if not.
	SessionEnded func(took time.Duration, class string)
	// Reconnected tells that the main session was opened again. reason says what had happened: "session_ended", or "connect_failed" if
	// further attempts had failed since.
	Reconnected func(reason string)
	// Restarted tells that the process of the main session ended and is started again; code is -1 if a signal ended it.
	Restarted func(code int)
	// Late tells of an answer that nobody waited for any more.
	Late func(failed bool)
}

func (e *Events) sessionEnded(opened time.Time, err error, ours bool) {
	if e.SessionEnded == nil {
		return
	}
	class := "connection_lost"
	if _, exited := errors.AsType[*proc.ExitError](err); exited {
		class = "process_exit"
	}
	if ours {
		class = ""
	}
	e.SessionEnded(time.Since(opened), class)
}

func (e *Events) reconnected(reason string) {
	if e.Reconnected != nil && reason != "" {
		e.Reconnected(reason)
	}
}

func (e *Events) restarted(err error) {
	exit, ok := errors.AsType[*proc.ExitError](err)
	if !ok || e.Restarted == nil {
		return
	}
	code := -1
	if text, exited := strings.CutPrefix(exit.Status, "exit status "); exited {
		if n, err := strconv.Atoi(text); err == nil {
			code = n
		}
	}
	e.Restarted(code)
}
