package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpgw/mcpgw/gateway"
	"github.com/mcpgw/mcpgw/internal/config"
)

// bench is a reloader over a real file, under a clock that the test moves.
type bench struct {
	*reloader
	log    *logLines
	mu     sync.Mutex
	taken  []string // the names of the downstreams of each file that was put into force
	refuse error
}

// newBench starts a reloader for path, which holds hostOnly. It must be called in a synctest bubble.
func newBench(t *testing.T, path string) *bench {
	t.Helper()
	b := &bench{log: newLogLines()}
	b.reloader = newReloader(path, []byte(hostOnly), slog.New(slog.NewJSONHandler(b.log, nil)),
		func(_ context.Context, f *config.File) (gateway.Change, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.refuse != nil {
				return gateway.Change{}, b.refuse
			}
			var names []string
			for name := range f.Settings.Downstreams {
				names = append(names, name)
			}
			slices.Sort(names)
			b.taken = append(b.taken, strings.Join(names, " "))
			return gateway.Change{Added: names, Restart: []string{"gateway.listen"}}, nil
		})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { b.run(ctx, nil) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return b
}

// want says what has been put into force since the start, after d.
func (b *bench) want(t *testing.T, d time.Duration, want ...string) {
	t.Helper()
	time.Sleep(d) // of the bubble's clock
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(b.taken, want) {
		t.Errorf("got %q, want %q\n%s", b.taken, want, b.log.text())
	}
}

func (b *bench) logged(msg string) int { return strings.Count(b.log.text(), `"msg":"`+msg+`"`) }

const (
	reloaded    = "configuration reloaded"
	notReloaded = "configuration not reloaded, the previous one stays in force"
	two         = "downstreams: {host: {preset: host}, other: {preset: host}}\n"
	faulty      = "downstreams: {host: {preset: hots}, x: {}}\n"
)

func TestFileChange(t *testing.T) {
	path := write(t, hostOnly)
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, path)
		b.want(t, time.Minute)

		put(t, path, two)
		b.want(t, 3*time.Second, "host other")
		put(t, path, two+"\n") // written again with nothing that counts
		b.want(t, 3*time.Second, "host other", "host other")
		b.want(t, time.Hour, "host other", "host other")

		// A file that is written again as it was is no change.
		put(t, path, two+"\n")
		b.want(t, time.Minute, "host other", "host other")
		if b.logged("a changed setting takes effect only at the next start") != 2 {
			t.Errorf("expected a warning for each setting that needs a restart:\n%s", b.log.text())
		}
	})
}

func TestFileChangeIsNotTakenHalfWritten(t *testing.T) {
	path := write(t, hostOnly)
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, path)
		// Seen at 2 s; half of a file can be valid, so it must stay the same until 2.25 s.
		time.Sleep(1900 * time.Millisecond)
		put(t, path, "downstreams: {}\n")
		time.Sleep(200 * time.Millisecond)
		put(t, path, two)
		b.want(t, 5*time.Second, "host other")

		// Faulty at the first two looks, mended within the second after.
		put(t, path, "downstreams: {host: {pre")
		time.Sleep(2 * time.Second)
		put(t, path, hostOnly)
		b.want(t, 5*time.Second, "host other", "host")
		if n := b.logged(notReloaded); n != 0 {
			t.Errorf("a half written file was reported:\n%s", b.log.text())
		}
	})
}

func TestBadFileChangesNothing(t *testing.T) {
	path := write(t, hostOnly)
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, path)
		put(t, path, faulty)
		b.want(t, time.Hour)
		if b.logged(notReloaded) != 1 || b.logged("the configuration has a fault") != 2 || !strings.Contains(b.log.text(), path+`:1:22: downstreams.host.preset: expected one of host`) {
			t.Errorf("expected each fault once:\n%s", b.log.text())
		}
		put(t, path, hostOnly) // back to what is in force
		b.want(t, time.Minute)
		put(t, path, faulty) // the same fault is told again after that
		b.want(t, time.Minute)
		if b.logged(notReloaded) != 2 {
			t.Errorf("expected the second mistake to be told:\n%s", b.log.text())
		}
		put(t, path, two)
		b.want(t, time.Minute, "host other")
	})
}

func TestFileGoesAndComesBack(t *testing.T) {
	path := write(t, hostOnly)
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, path)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		b.want(t, time.Hour)
		if b.logged(notReloaded) != 1 {
			t.Errorf("expected it to be told once:\n%s", b.log.text())
		}
		put(t, path, hostOnly)
		b.want(t, time.Minute)
		put(t, path, two)
		b.want(t, time.Minute, "host other")
	})
}

// TestConfigMap changes the file as Kubernetes does: gateway.yaml → ..data/gateway.yaml, ..data → a folder, and only ..data is exchanged.
func TestConfigMap(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"..1": hostOnly, "..2": two} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(dir, name, "gateway.yaml"), text)
	}
	link := func(target, name string) {
		t.Helper()
		tmp := filepath.Join(dir, "..tmp")
		if err := os.Symlink(target, tmp); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("..1", "..data")
	path := filepath.Join(dir, "gateway.yaml")
	link(filepath.Join("..data", "gateway.yaml"), "gateway.yaml")
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, path)
		b.want(t, time.Minute)
		link("..2", "..data")
		b.want(t, 3*time.Second, "host other")
		link("..1", "..data")
		b.want(t, 3*time.Second, "host other", "host")
	})
}

func TestRequest(t *testing.T) {
	path := write(t, hostOnly)
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, path)
		if err := b.request(t.Context()); err != nil || b.logged("configuration unchanged") != 1 {
			t.Errorf("got %v\n%s", err, b.log.text())
		}
		put(t, path, two)
		if err := b.request(t.Context()); err != nil {
			t.Error(err)
		}
		b.want(t, 0, "host other") // at once
		put(t, path, faulty)
		err := b.request(t.Context())
		e, ok := errors.AsType[*config.Error](err)
		if !ok || len(e.Faults) != 2 {
			t.Errorf("expected every fault, got %v", err)
		}
		// What a request has dealt with is not reported by the next look.
		b.want(t, time.Hour, "host other")
		if b.logged(notReloaded) != 1 {
			t.Errorf("expected one report:\n%s", b.log.text())
		}
		b.refuse = errors.New("no")
		put(t, path, hostOnly)
		if err := b.request(t.Context()); !errors.Is(err, b.refuse) {
			t.Errorf("got %v, want %v", err, b.refuse)
		}
		b.refuse = nil
		if err := b.request(t.Context()); err != nil { // it was not taken, so it is still a change
			t.Error(err)
		}
		b.want(t, time.Minute, "host other", "host")
	})
}

func TestRequestAfterTheEnd(t *testing.T) {
	r := newReloader("x", nil, slog.New(slog.DiscardHandler), nil)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.request(canceled); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that the caller gave up", err)
	}
	r.run(canceled, nil)
	if err := r.request(t.Context()); err == nil || err.Error() != "the gateway is shutting down" {
		t.Errorf("got %v", err)
	}
}
