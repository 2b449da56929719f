package kit

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// listening returns the port of a listener on 127.0.0.1 that takes connections until the test ends.
func listening(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var conns []net.Conn
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
		for _, c := range conns {
			_ = c.Close()
		}
	})
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// named makes a Dialer that finds host at the addresses that find returns.
func named(limits Connection, find func() ([]netip.Addr, error)) *Dialer {
	d := NewDialer(limits)
	d.lookup = func(context.Context, string) ([]netip.Addr, error) { return find() }
	return d
}

func TestMaxTotalIsTurned(t *testing.T) {
	port := listening(t)
	d := NewDialer(Connection{MaxTotal: 2, DialTimeout: 50 * time.Millisecond})
	var open []net.Conn
	for range 2 {
		c, err := d.DialContext(t.Context(), "tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	if _, err := d.DialContext(t.Context(), "tcp", "127.0.0.1:"+port); err == nil || !strings.Contains(err.Error(), "connection.max_total") {
		t.Errorf("a third connection: %v", err)
	}
	_, _ = open[0].Close(), open[0].Close() // the place is given back once
	c, err := d.DialContext(t.Context(), "tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.DialContext(t.Context(), "tcp", "127.0.0.1:"+port); err == nil {
		t.Error("closing one connection made room for two")
	}
	_, _ = c.Close(), open[1].Close()
}

// TestDNSCacheIsTurned: an address is used for as long as configured, and not if nobody answers there any more.
func TestDNSCacheIsTurned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		find := func() ([]netip.Addr, error) {
			asked++
			return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
		}
		for ttl, want := range map[time.Duration]int{300 * time.Second: 2, 30 * time.Second: 11, -1: 11} {
			asked = 0
			d := named(Connection{DNSCacheTTL: ttl}, find)
			for range 11 {
				if _, _, err := d.addresses(t.Context(), "nas"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(31 * time.Second)
			}
			if asked != want {
				t.Errorf("with %s the name server was asked %d times in 341 s, want %d", ttl, asked, want)
			}
		}
	})
	asked := 0
	d := named(DefaultConnection(), func() ([]netip.Addr, error) {
		asked++
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	})
	for range 2 {
		if c, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort("nas", "1")); err == nil { // nobody listens there
			_ = c.Close()
			t.Fatal("connected to port 1")
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	if c, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort("nas", listening(t))); err != nil {
		t.Error(err)
	} else {
		_ = c.Close()
	}
	if asked != 2 {
		t.Errorf("the address that failed was still used: asked %d times", asked)
	}
}

// TestTheAddressThatAnswers: one that refuses, or does not answer, costs little, and the next time nothing.
func TestTheAddressThatAnswers(t *testing.T) {
	port := listening(t)
	good := netip.MustParseAddr("127.0.0.1")
	d := named(DefaultConnection(), func() ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("::1"), netip.MustParseAddr("192.0.2.1"), good}, nil
	})
	c, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort("nas", port))
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if list, cached, err := d.addresses(t.Context(), "nas"); !cached || err != nil || list[0] != good || len(list) != 3 {
		t.Errorf("%v, %v, %v", list, cached, err)
	}
	none := named(DefaultConnection(), func() ([]netip.Addr, error) { return nil, nil })
	if _, err := none.DialContext(t.Context(), "tcp", "nas:1"); err == nil {
		t.Error("a name without an address was connected to")
	} else if _, ok := errors.AsType[*net.DNSError](err); !ok {
		t.Error(err)
	}
}
