package lab

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

func echo() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("fine " + r.URL.Path)) })
}

func startOne(t *testing.T, kind string) (*Lab, *System) {
	t.Helper()
	l := New()
	t.Cleanup(l.Close)
	s, err := l.Start("box", kind, echo)
	if err != nil {
		t.Fatal(err)
	}
	return l, s
}

// ask makes one request on a connection of its own.
func ask(ctx context.Context, s *System) (int, string, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL()+"/x", nil)
	if err != nil {
		return 0, "", nil, err
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", nil, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, string(body), res.Header, err
}

func breakWith(t *testing.T, s *System, name string, delay time.Duration) {
	t.Helper()
	f, err := ParseFault(name, delay)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Break(f); err != nil {
		t.Fatal(err)
	}
}

func TestFaultsAndTheirEnd(t *testing.T) {
	_, s := startOne(t, "proxmox")
	works := func() {
		t.Helper()
		if code, body, _, err := ask(t.Context(), s); err != nil || code != 200 || body != "fine /x" {
			t.Fatalf("a mended system answers %d %q, %v", code, body, err)
		}
	}
	works()
	for name, want := range map[string]int{Fault500: 500, Fault503: 503, Fault595: 595, Fault429: 429, FaultUnauthorized: 401, FaultGarbage: 200} {
		breakWith(t, s, name, 0)
		code, body, header, err := ask(t.Context(), s)
		if err != nil || code != want || strings.HasPrefix(body, "fine") {
			t.Errorf("%s: %d %q, %v", name, code, body, err)
		}
		if got := header.Get("Retry-After"); (got != "") != (name == Fault429) {
			t.Errorf("%s: Retry-After %q", name, got)
		}
		if got := s.Status().Fault; got != name {
			t.Errorf("status says %q for %s", got, name)
		}
		if err := s.Mend(); err != nil {
			t.Fatal(err)
		}
		works()
	}
	breakWith(t, s, FaultRefuse, 0)
	if _, _, _, err := ask(t.Context(), s); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("refuse: %v", err)
	}
	if err := s.Mend(); err != nil {
		t.Fatal(err)
	}
	works() // at the same address
	breakWith(t, s, FaultSlow, 30*time.Millisecond)
	begin := time.Now()
	works()
	if took := time.Since(begin); took < 30*time.Millisecond {
		t.Errorf("slow: %s", took)
	}
}

// TestHangEndsWithTheFault shows that nothing is answered during the fault, and that nobody hangs on after it.
func TestHangEndsWithTheFault(t *testing.T) {
	_, s := startOne(t, "llm")
	breakWith(t, s, FaultHang, 0)
	ended := make(chan error, 1)
	go func() { _, _, _, err := ask(t.Context(), s); ended <- err }()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, _, _, err := ask(ctx, s); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("during the fault: %v", err)
	}
	select {
	case err := <-ended:
		t.Errorf("answered during the fault: %v", err)
	default:
	}
	if err := s.Mend(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("what hung was answered as if nothing had been")
	}
}

func TestFlapGoesDownAndUp(t *testing.T) {
	_, s := startOne(t, "llm")
	breakWith(t, s, FaultFlap, 20*time.Millisecond)
	seen := map[bool]bool{}
	for end := time.Now().Add(10 * time.Second); len(seen) < 2 && time.Now().Before(end); {
		conn, err := net.DialTimeout("tcp", s.addr, time.Second)
		if seen[err == nil] = true; err == nil {
			_ = conn.Close()
		}
	}
	if len(seen) < 2 {
		t.Errorf("only seen up: %v", seen)
	}
	if err := s.Mend(); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := ask(t.Context(), s); err != nil {
		t.Errorf("after the end of flapping: %v", err)
	}
}

func TestNamesAndKinds(t *testing.T) {
	l, s := startOne(t, "proxmox")
	if got, err := l.System("proxmox"); err != nil || got != s {
		t.Errorf("by its kind: %v", err)
	}
	if again, err := l.Start("box", "proxmox", func() http.Handler { t.Error("made twice"); return echo() }); err != nil || again != s {
		t.Errorf("a second start: %v", err)
	}
	if _, err := l.Start("other", "proxmox", echo); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"proxmox": "several simulators", "nas": `no simulator "nas" (there is: box, other)`} {
		if _, err := l.System(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseFault("fire", 0); err == nil || !strings.Contains(err.Error(), "no fault") {
		t.Errorf("an unknown fault: %v", err)
	}
	f, err := ParseFault(FaultSessionExhausted, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Break(f); err == nil || !strings.Contains(err.Error(), "cannot have") {
		t.Errorf("another system's fault: %v", err)
	}
	l.Close()
	if _, err := l.Start("late", "llm", echo); err == nil {
		t.Error("a closed lab starts simulators")
	}
}
