package config

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/internal/mcptest"
)

// eventually waits until ok says so.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	end := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("not in time: ", what)
		}
	}
}

var tryingAgain = regexp.MustCompile(`trying again in (\w+)`)

// pauses returns how long the gateway waits between the attempts of a call, as it tells the client.
func pauses(t *testing.T, g *running) []string {
	t.Helper()
	raw := g.raw(t, "tools/call", "a__echo", `{"name":"a__echo","arguments":{}}`, `,"progressToken":"p"`)
	var all []string
	for _, m := range tryingAgain.FindAllStringSubmatch(string(raw), -1) {
		all = append(all, m[1])
	}
	return all
}

// TestPausesAreTurned: they begin with initial_delay, grow by multiplier up to max_delay, and are varied by jitter.
func TestPausesAreTurned(t *testing.T) {
	const budget = "budget: { ratio: 1, burst: 1000 }"
	for _, c := range []struct {
		retry string
		want  []string
	}{
		{"max_attempts: 4, initial_delay: 2ms, max_delay: 1s, multiplier: 3, jitter: false", []string{"2ms", "6ms", "18ms"}},
		{"max_attempts: 4, initial_delay: 5ms, max_delay: 1s, multiplier: 1, jitter: false", []string{"5ms", "5ms", "5ms"}},
		{"max_attempts: 4, initial_delay: 3ms, max_delay: 7ms, multiplier: 2, jitter: false", []string{"3ms", "6ms", "7ms"}},
	} {
		g, a := turned(t, `{ circuit_breaker: { enabled: false }, retry: { `+c.retry+`, `+budget+` } }`)
		a.disturb(mcptest.Status(http.StatusInternalServerError, ""))
		if got := pauses(t, g); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.retry, got, c.want)
		}
	}
	g, a := turned(t, `{ circuit_breaker: { enabled: false }, retry: { max_attempts: 20, initial_delay: 20ms, max_delay: 30ms, multiplier: 1, jitter: 0.5, `+budget+` } }`)
	a.disturb(mcptest.Status(http.StatusInternalServerError, ""))
	seen := map[string]bool{}
	for _, p := range pauses(t, g) {
		d, err := time.ParseDuration(p)
		if err != nil || d < 10*time.Millisecond || d > 30*time.Millisecond {
			t.Errorf("a pause of %s with 20ms ± 50 %%", p)
		}
		seen[p] = true
	}
	if len(seen) < 3 {
		t.Errorf("nineteen pauses were %v", seen)
	}
}

// talkative answers a call with progress every few milliseconds and nothing else.
func talkative(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for n := 1; ; n++ {
		_, err := fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":\"p\",\"progress\":%d}}\n\n", n)
		if err != nil || http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

// TestLimitsOfProgressAreTurned: without progress a call ends at idle; with it the attempt goes on, but not beyond progress_max.
func TestLimitsOfProgressAreTurned(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for _, c := range []struct {
		timeouts string
		server   http.HandlerFunc
		want     string // in the log
	}{
		{"attempt: 20s, overall: 30s, idle: 40ms, progress_max: 0s", hang, "idle 40ms (scope=idle)"},
		{"attempt: 20s, overall: 30s, idle: 0s, progress_max: 0s", nil, ""},
		{"attempt: 300ms, overall: 30s, idle: 0s, progress_max: 0s", talkative, "attempt 300ms (scope=attempt)"},
		{"attempt: 300ms, overall: 30s, idle: 0s, progress_max: 700ms", talkative, "attempt 700ms (scope=attempt)"},
		{"attempt: 400ms, overall: 30s, idle: 300ms, progress_max: 0s", talkative, "attempt 400ms (scope=attempt)"},
	} {
		g, a := turned(t, `{ retry: { enabled: false }, timeouts: { `+c.timeouts+` } }`)
		a.disturb(c.server)
		g.raw(t, "tools/call", "a__echo", `{"name":"a__echo","arguments":{}}`, `,"progressToken":"p"`)
		var got []string
		for _, r := range g.log.lines("Timeout exceeded") {
			got = append(got, r.Message)
		}
		if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)) {
			t.Errorf("%s: %q, want %q", c.timeouts, got, c.want)
		}
	}
}

// TestOpenTimeIsTurned: a circuit that opens again stays open longer by backoff, up to max_timeout, varied by jitter.
func TestOpenTimeIsTurned(t *testing.T) {
	openTimes := func(breaker string, n int) []int64 {
		g, a := turned(t, `{ retry: { enabled: false }, circuit_breaker: { failure_threshold: 1, half_open_max_calls: 1, success_threshold: 1, `+breaker+` } }`)
		a.disturb(mcptest.Status(http.StatusInternalServerError, ""))
		eventually(t, fmt.Sprintf("%d openings", n), func() bool {
			g.tool(t, "a__echo", `{}`)
			return len(g.log.lines("opened after")) >= n
		})
		return numbers(g.log.lines("opened after"), "delay_ms")[:n]
	}
	if got, want := openTimes("timeout: 10ms, max_timeout: 50ms, backoff: 3, jitter: 0", 4), []int64{10, 30, 50, 50}; !slices.Equal(got, want) {
		t.Errorf("open for %v ms, want %v", got, want)
	}
	if got, want := openTimes("timeout: 10ms, max_timeout: 50ms, backoff: 1, jitter: 0", 3), []int64{10, 10, 10}; !slices.Equal(got, want) {
		t.Errorf("without backoff: open for %v ms, want %v", got, want)
	}
	varied := openTimes("timeout: 40ms, max_timeout: 80ms, backoff: 1, jitter: 0.5", 8)
	slices.Sort(varied)
	if varied[0] < 20 || varied[7] > 60 || len(slices.Compact(slices.Clone(varied))) < 3 {
		t.Errorf("with jitter 0.5: open for %v ms", varied)
	}
}

// TestHalfOpenTimeoutIsTurned: a trial that does not come back opens the circuit again, long before its own time is over.
func TestHalfOpenTimeoutIsTurned(t *testing.T) {
	g, a := turned(t, `{ timeouts: { attempt: 60s, overall: 60s }, circuit_breaker: { half_open_max_calls: 1, half_open_timeout: 30ms } }`)
	for _, action := range []string{"open", "probe"} {
		if _, err := g.Control("a", action, "test"); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.tool(t, "a__slow", `{}`)
	}()
	a.AwaitRunning(t, "slow", 1)
	eventually(t, "open again", func() bool { return state(g).State == "open" })
	a.Release()
	<-done
}

// TestWindowIsTurned: what is older than the window does not count any more.
func TestWindowIsTurned(t *testing.T) {
	for window, forgets := range map[string]bool{"1s": true, "60s": false} {
		g, a := turned(t, `{ retry: { enabled: false }, circuit_breaker: { failure_threshold: 0, failure_rate_threshold: 0.9, minimum_calls: 100, window: `+window+` } }`)
		a.disturb(mcptest.Status(http.StatusInternalServerError, ""))
		for range 3 {
			g.tool(t, "a__echo", `{}`)
		}
		failed := time.Now()
		eventually(t, "the end of the shorter window", func() bool {
			return time.Since(failed) > 1500*time.Millisecond || forgets && state(g).Failures == 0
		})
		if got := state(g).Failures; forgets != (got == 0) {
			t.Errorf("window: %s: %d failures in it", window, got)
		}
	}
}
