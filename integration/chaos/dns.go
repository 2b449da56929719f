package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// What the name server says. The codes are those of RFC 1035.
const (
	dnsOK       = 0
	dnsFails    = 2
	dnsNXDomain = 3
)

// nameServer answers every question for an IPv4 address with 127.0.0.1, or with an error.
type nameServer struct {
	conn net.PacketConn
	wg   sync.WaitGroup
	code atomic.Int32
	n    atomic.Int32 // questions
}

func startNameServer(ctx context.Context, addr string) (*nameServer, error) {
	var lc net.ListenConfig
	conn, err := lc.ListenPacket(ctx, "udp4", addr)
	if err != nil {
		return nil, err
	}
	s := &nameServer{conn: conn}
	s.wg.Go(s.serve)
	return s, nil
}

func (s *nameServer) close() {
	_ = s.conn.Close()
	s.wg.Wait()
}

func (s *nameServer) serve() {
	buf := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if a := s.answer(buf[:n]); a != nil {
			s.n.Add(1)
			_, _ = s.conn.WriteTo(a, from)
		}
	}
}

// answer makes the answer to a question; nil if it is none.
func (s *nameServer) answer(q []byte) []byte {
	const header = 12
	end := header
	for end < len(q) && q[end] != 0 {
		end += int(q[end]) + 1
	}
	end += 5 // the root label, type and class
	if len(q) < header || end > len(q) {
		return nil
	}
	code := byte(s.code.Load())
	a := append([]byte(nil), q[:end]...)
	a[2], a[3] = 0x81, 0x80|code // an answer, recursion available
	copy(a[4:], []byte{0, 1, 0, 0, 0, 0, 0, 0})
	if kind := binary.BigEndian.Uint16(q[end-4:]); code == dnsOK && kind == 1 {
		a[7] = 1
		a = append(a, 0xc0, header, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1)
	}
	return a
}

// mountNames is a command that runs another with a resolv.conf of its own.
const mountNames = `mount --bind "$1" /etc/resolv.conf && shift && exec "$@"`

// reconnect breaks the connections to a server, so that the next call makes a new one.
func (r *rig) reconnect(ctx context.Context, name string) error {
	p := r.servers[name].proxy
	p.down()
	if err := p.up(); err != nil {
		return err
	}
	_, err := r.works(ctx, name, 5*time.Second)
	return err
}

func dnsScenario(ctx context.Context, r *rig) error {
	const addr = "127.0.0.97"
	ns, err := startNameServer(ctx, addr+":53")
	if err != nil {
		return fmt.Errorf("cannot run here: a name server needs port 53: %w", err)
	}
	defer ns.close()
	conf := filepath.Join(r.dir, "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver "+addr+"\noptions timeout:1 attempts:1\n"), 0o600); err != nil {
		return err
	}
	r.wrap = []string{"unshare", "--mount", "sh", "-c", mountNames, "sh", conf}
	if out, err := exec.CommandContext(ctx, r.wrap[0], append(r.wrap[1:], "true")...).CombinedOutput(); err != nil {
		return fmt.Errorf("cannot run here: a resolv.conf of the gateway's own needs a mount namespace: %w: %s", err, out)
	}
	r.env = []string{"GODEBUG=netdns=go"}
	if err := r.start(ctx, serverSpec{name: "h", host: "victim.chaos.test", more: "restart: { max_delay: 2s, healthy_after: 50ms }\n    connection: { dns_cache_ttl: 100ms, keep_alive: 2s }", policy: "retry: { max_attempts: 2, initial_delay: 10ms }"},
		serverSpec{name: "k", host: "kept.chaos.test", more: "restart: { healthy_after: 50ms }"}); err != nil {
		return err
	}
	p := r.servers["h"].proxy
	for _, code := range []int32{dnsFails, dnsNXDomain} {
		before, err := measure(r.gw.PID())
		if err != nil {
			return err
		}
		ns.code.Store(code)
		p.down()
		if err := p.up(); err != nil { // what was connected must ask for the name again
			return err
		}
		// The addresses of the other one are still known (connection.dns_cache_ttl: 5m).
		if err := r.reconnect(ctx, "k"); err != nil {
			return err
		}
		kept := r.load(ctx, 20, mixed("k"))
		all := r.loadFor(ctx, 50, r.span(time.Second, 3*time.Second, 30*time.Second), mixed("h"))
		known := kept.end()
		after, err := measure(r.gw.PID())
		if err != nil {
			return err
		}
		ns.code.Store(dnsOK)
		back, err := r.works(ctx, "h", 10*time.Second)
		if err != nil {
			return err
		}
		pause(ctx, 200*time.Millisecond) // the new session becomes a healthy one
		name := map[int32]string{dnsFails: "server failure", dnsNXDomain: "no such name"}[code]
		failed := pick(all, not(answered))
		dns := pick(failed, func(t *told) bool {
			return t.Executed == "no" && strings.Contains(t.Class+t.text, "dns") || t.rejected()
		})
		r.check(name+": told", len(dns) == len(failed) && len(failed) > 0, "class dns or circuit_open, executed no", "%d of %d", len(dns), len(failed))
		r.note(pick(failed, func(t *told) bool { return t.Executed != "no" }))
		r.every(name+": answered with the addresses known", len(pick(known, answered)), len(known))
		r.note(pick(known, not(answered)))
		r.check(name+": threads, files", after.threads <= before.threads+10 && after.files <= before.files+20, "no growth", "%+d, %+d", after.threads-before.threads, after.files-before.files)
		r.within(name+": works again", back, 5*time.Second)
	}
	r.healed()
	if ns.n.Load() == 0 {
		return errors.New("the name server was never asked: this proves nothing")
	}
	return nil
}
