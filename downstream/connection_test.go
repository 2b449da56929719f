package downstream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

// doors is a server whose answers wait until they are let out, and that counts its connections.
type doors struct {
	*httptest.Server
	inside atomic.Int32
	open   chan struct{} // one element lets one answer out

	mu    sync.Mutex
	conns map[net.Conn]bool
	most  int
}

func newDoors(t *testing.T, secure bool) *doors {
	t.Helper()
	d := &doors{open: make(chan struct{}, 100), conns: map[net.Conn]bool{}}
	d.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		d.inside.Add(1)
		select {
		case <-d.open:
		case <-r.Context().Done():
		}
		d.inside.Add(-1)
		_, _ = io.WriteString(w, "ok")
	}))
	d.Config.ConnState = func(c net.Conn, s http.ConnState) {
		d.mu.Lock()
		defer d.mu.Unlock()
		switch s {
		case http.StateNew:
			d.conns[c] = true
		case http.StateClosed, http.StateHijacked:
			delete(d.conns, c)
		}
		d.most = max(d.most, len(d.conns))
	}
	if secure {
		d.StartTLS()
	} else {
		d.Start()
	}
	t.Cleanup(d.Close)
	return d
}

// TestConnectionLimitsAreTurned: no more connections than configured, the calls beyond wait for one, and streams that listen take none.
func TestConnectionLimitsAreTurned(t *testing.T) {
	for name, c := range map[string]struct {
		secure bool
		limits Connection
		most   int
	}{
		"per host":           {false, Connection{MaxPerHost: 2}, 2},
		"in all":             {false, Connection{MaxTotal: 3, MaxPerHost: 5}, 3},
		"over TLS":           {true, Connection{MaxPerHost: 2}, 2},
		"no limit":           {false, Connection{}, 6},
		"no limit, over TLS": {true, Connection{}, 6},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDoors(t, c.secure)
			cfg := DefaultConfig()
			cfg.URL = d.URL + "/mcp"
			cfg.Connection.MaxTotal, cfg.Connection.MaxPerHost = c.limits.MaxTotal, c.limits.MaxPerHost
			h, err := newHTTPClient(&cfg, "test")
			if err != nil {
				t.Fatal(err)
			}
			defer h.close()
			for _, one := range []*httpClient{h, h.listening()} {
				one.transport.TLSClientConfig, one.transport.Proxy = &tls.Config{InsecureSkipVerify: true}, nil
				one.transport.ForceAttemptHTTP2 = false
			}
			var wg sync.WaitGroup
			for range 6 {
				wg.Go(func() {
					if got, err := ask(t.Context(), h); err != nil || got != "200 ok" {
						t.Error(got, err)
					}
				})
			}
			eventually(t, "as many calls at the server as may be", func() bool { return int(d.inside.Load()) == c.most })
			if c.most < 6 {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
				_, err := ask(ctx, h)
				cancel()
				if away, ok := errors.AsType[*UnavailableError](err); !ok || away.Class != "overloaded" || !strings.Contains(err.Error(), "connection.max_per_host") {
					t.Errorf("a call that found no place in time: %v", err)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			wg.Go(func() {
				if resp, err := h.listening().do(ctx, http.MethodGet, http.Header{}, nil); err == nil {
					_ = resp.Body.Close()
				}
			})
			eventually(t, "the stream at the server too", func() bool { return int(d.inside.Load()) == c.most+1 })
			d.mu.Lock()
			most := d.most
			d.mu.Unlock()
			if most != c.most+1 {
				t.Errorf("%d connections, of which one is a stream's; want %d", most, c.most+1)
			}
			cancel()
			for range 7 { // the stream may take one
				d.open <- struct{}{}
			}
			wg.Wait()
		})
	}
}

// TestKeepAliveIsTurned: what is not used is closed when its time is over.
func TestKeepAliveIsTurned(t *testing.T) {
	for _, secure := range []bool{false, true} {
		d := newDoors(t, secure)
		cfg := DefaultConfig()
		cfg.URL, cfg.Connection.KeepAlive = d.URL, 50*time.Millisecond
		h, err := newHTTPClient(&cfg, "test")
		if err != nil {
			t.Fatal(err)
		}
		h.transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
		d.open <- struct{}{}
		if _, err := ask(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the connection closed", func() bool {
			d.mu.Lock()
			defer d.mu.Unlock()
			return len(d.conns) == 0
		})
		h.close()
	}
}

func TestConnectionReachesTheSystem(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Preset, cfg.Connection = "host", Connection{MaxTotal: 7, MaxPerHost: 3, DNSCacheTTL: time.Minute, KeepAlive: time.Second}
	got, err := cfg.builtinConfig()
	want := kit.Connection{MaxTotal: 7, MaxPerHost: 3, DNSCacheTTL: time.Minute, DialTimeout: cfg.Timeouts.Connect, IdleTimeout: time.Second}
	if err != nil || got.Connection != want {
		t.Errorf("%+v, %v", got.Connection, err)
	}
	cfg.Connection = DefaultConnection()
	if got, err = cfg.builtinConfig(); err != nil || got.Connection.WithDefaults().MaxPerHost != 30 || got.Connection.WithDefaults().MaxTotal != 100 {
		t.Errorf("%+v, %v", got.Connection.WithDefaults(), err)
	}
	for fault, change := range map[string]func(*Connection){
		"connection.max_total: must not be negative":     func(c *Connection) { c.MaxTotal = -1 },
		"connection.max_per_host: must not be negative":  func(c *Connection) { c.MaxPerHost = -1 },
		"connection.dns_cache_ttl: must not be negative": func(c *Connection) { c.DNSCacheTTL = -1 },
		"connection.keep_alive: must be more than 0":     func(c *Connection) { c.KeepAlive = 0 },
	} {
		cfg := cfg
		change(&cfg.Connection)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("%v, want %q", err, fault)
		}
	}
	stdio := DefaultConfig()
	stdio.Command, stdio.Connection.MaxTotal = "x", 3
	if err := stdio.Validate(); err == nil || !strings.Contains(err.Error(), "connection: only a server with a url") {
		t.Error(err)
	}
	shares := DefaultConfig()
	shares.URLs, shares.Connection.MaxTotal = []string{"http://a", "http://b", "http://c"}, 10
	if n := shares.perHost(); n != 3 {
		t.Errorf("each of three endpoints gets %d of 10 connections", n)
	}
}
