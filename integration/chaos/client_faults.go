package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

func unauthorized(ctx context.Context, r *rig) error {
	if err := r.start(ctx, serverSpec{name: "o", legacy: true}); err != nil {
		return err
	}
	p := r.servers["o"].proxy
	// Each client of an older revision has a session of its own with the server.
	var clients []*client
	defer func() {
		for _, c := range clients {
			c.close()
		}
	}()
	begin := time.Now()
	for range 10 {
		c := newClient("http://"+r.gw.Addr+"/mcp", r.ledger)
		c.mcp.Modern = false
		clients = append(clients, c)
		if _, err := c.mcp.Connect(ctx); err != nil {
			return err
		}
		if t := c.do(ctx, call{server: "o", tool: "read"}); !t.answered {
			return errors.New(t.String())
		}
	}
	sessions := map[string]bool{}
	victim := ""
	for _, s := range p.requests(begin, "tools/call") {
		sessions[s.session] = true
		victim = s.session // that of the last client
	}
	r.exactly("sessions of ten clients", len(sessions), 10)
	p.set(func(x *exchange) bool { return x.session == victim && status(http.StatusUnauthorized)(x) })
	fault := time.Now()
	var mu sync.Mutex
	var nine, one []*told
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			for n := range r.times(10, 30, 100) {
				t := c.do(ctx, mixed("o")(n))
				mu.Lock()
				if i == len(clients)-1 {
					one = append(one, t)
				} else {
					nine = append(nine, t)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	p.set(nil)
	r.healed()
	r.every("the other nine answered", len(pick(nine, answered)), len(nine))
	r.note(pick(nine, not(answered)))
	r.exactly("the one refused", len(pick(one, func(t *told) bool { return !t.answered && t.Class == "401" && t.Executed == "no" })), len(one))
	r.note(pick(one, func(t *told) bool { return t.answered || t.Class != "401" }))
	r.exactly("new sessions", len(p.requests(fault, "initialize")), 0)
	r.exactly("openings", r.log.opened("o"), 0)
	for _, c := range clients {
		if err := c.mcp.Close(ctx); err != nil {
			return err
		}
	}
	return nil
}

func cancellations(ctx context.Context, r *rig) error {
	policy := "bulkhead: { max_concurrent: 200, max_queued: 1000 }, retry: { max_attempts: 1 }, circuit_breaker: { timeout: 300ms, jitter: 0, probe: { enabled: false } }"
	if err := r.start(ctx, serverSpec{name: "h", policy: policy}, serverSpec{name: "o", legacy: true, policy: policy}, serverSpec{name: "s", stdio: true, policy: policy}); err != nil {
		return err
	}
	names := []string{"h", "o", "s"}
	// A client that cancels closes its connection, so nearly every call here is a new one for the gateway, and circuit_status too.
	r.crowd = 50 * time.Millisecond
	rnd := rand.New(rand.NewPCG(r.seed, 22))
	n := r.times(300, 1000, 5000)
	limits := make([]time.Duration, n)
	for i := range limits {
		limits[i] = time.Duration(1+rnd.IntN(60)) * time.Millisecond
	}
	l := &loading{stop: func() {}}
	for i, limit := range limits {
		if !pause(ctx, 3*time.Millisecond) {
			break
		}
		l.wg.Go(func() {
			l.add(r.client.do(ctx, call{server: names[i%3], tool: []string{"read", "write"}[i%2], do: "delay=300ms", limit: limit}))
		})
	}
	all := l.end()
	cancelled := pick(all, func(t *told) bool { return t.gaveUp })
	r.check("cancelled", len(cancelled) > n*9/10, "nearly all", "%d of %d", len(cancelled), n)
	for _, name := range names {
		reached, heard := 0, 0
		err := until(ctx, 2*time.Second, name+" is told", func() error {
			j, err := r.journal(name)
			if err != nil {
				return err
			}
			reached, heard = 0, 0
			for _, t := range cancelled {
				if t.server == name && j.executed[t.nonce] > 0 {
					reached++
					heard += min(j.ended[t.nonce], 1)
				}
			}
			if heard < reached {
				return fmt.Errorf("%d of %d", heard, reached)
			}
			return nil
		})
		_ = err // the figure says it
		r.check(name+": server told", reached > 0 && share(heard, reached) >= 99, "≥ 99 %", "%d of %d", heard, reached)
		c, err := r.circuit(ctx, name)
		if err != nil {
			return err
		}
		r.exactly(name+": breaker failures", c.Totals.Failures, 0)
		if c.Bulkhead != nil {
			r.exactly(name+": slots taken", c.Bulkhead.InFlight, 0)
		}
	}
	// Trials that their callers cancel give their permits back.
	if err := r.openCircuit(ctx, "h"); err != nil {
		return err
	}
	r.servers["h"].proxy.set(nil)
	pause(ctx, 350*time.Millisecond)
	for range 5 {
		r.together(ctx, 3, only(call{server: "h", tool: "read", do: "delay=300ms", limit: 30 * time.Millisecond}))
	}
	back, err := r.works(ctx, "h", 3*time.Second)
	r.healed()
	r.within("trials after cancelled ones", back, 200*time.Millisecond+r.machine(0.99))
	return err
}

func manyStreams(ctx context.Context, r *rig) error {
	if err := r.start(ctx, serverSpec{name: "o", legacy: true}); err != nil {
		return err
	}
	lap := func(d time.Duration) []*told { return r.loadFor(ctx, 200, d, only(call{server: "o", tool: "read"})) }
	d := r.span(time.Second, 3*time.Second, 10*time.Second)
	before := lap(d)
	var clients []*client
	ctx2, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	opened := make(chan error, 30)
	for range 30 {
		c := newClient("http://"+r.gw.Addr+"/mcp", r.ledger)
		c.mcp.Modern = false
		clients = append(clients, c)
		if _, err := c.mcp.Connect(ctx); err != nil {
			return err
		}
		if t := c.do(ctx, call{server: "o", tool: "read"}); !t.answered { // opens a session with the server, and its stream
			return errors.New(t.String())
		}
		req, err := http.NewRequestWithContext(ctx2, http.MethodGet, "http://"+r.gw.Addr+"/mcp", http.NoBody)
		if err != nil {
			return err
		}
		req.Header.Set("Accept", "text/event-stream")
		req.Header.Set("Mcp-Session-Id", c.mcp.Session())
		req.Header.Set("Mcp-Protocol-Version", harness.Legacy)
		wg.Go(func() {
			resp, err := c.mcp.HTTP.Do(req)
			if err == nil && resp.StatusCode != http.StatusOK {
				err = fmt.Errorf("GET: HTTP %d", resp.StatusCode)
			}
			opened <- err
			if err == nil {
				_ = harness.Events(resp.Body, func([]byte) error { return nil })
				_ = resp.Body.Close()
			}
		})
	}
	for range clients {
		if err := <-opened; err != nil {
			return err
		}
	}
	during := lap(d)
	r.healed()
	cancel()
	wg.Wait()
	for _, c := range clients {
		if err := c.mcp.Close(ctx); err != nil {
			return err
		}
		c.close()
	}
	streams := 0
	for _, s := range r.servers["o"].proxy.requests(r.began, "") {
		if s.http == http.MethodGet {
			streams++
		}
	}
	r.check("streams at the server", streams >= 30, "≥ 30", "%d", streams)
	a, b := took(before), took(during)
	r.timed("calls p50", quantile(b, 0.5) <= quantile(a, 0.5)*120/100+500*time.Microsecond, "≤ 1.2 × "+short(quantile(a, 0.5)).String()+" + 0.5ms", "%s", short(quantile(b, 0.5)))
	r.every("answered", len(pick(during, answered)), len(during))
	return nil
}

func slowReaders(ctx context.Context, r *rig) error {
	if err := r.start(ctx, serverSpec{name: "h", policy: "timeouts: { attempt: 30s, overall: 40s }"}, serverSpec{name: "s", stdio: true, policy: "timeouts: { attempt: 30s, overall: 40s }"}); err != nil {
		return err
	}
	before, err := measure(r.gw.PID())
	if err != nil {
		return err
	}
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for i := range 8 {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.gw.Addr)
		if err != nil {
			return err
		}
		conns = append(conns, c)
		if err := c.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
			return err
		}
		server := []string{"h", "s"}[i%2]
		nonce := r.ledger.nonce()
		m := harness.Client{Modern: true}
		body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":` + m.Params(`"name":"`+server+`__read","arguments":{"nonce":"`+nonce+`","do":"progress=100us"}`, `"progressToken":1`) + `}`
		r.ledger.add(&told{nonce: nonce, server: server, tool: "read", gaveUp: true})
		_, err = fmt.Fprintf(c, "POST /mcp HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nMcp-Protocol-Version: %s\r\nMcp-Method: tools/call\r\nMcp-Name: %s__read\r\nContent-Length: %d\r\n\r\n%s",
			r.gw.Addr, harness.Modern, server, len(body), body)
		if err != nil {
			return err
		}
	}
	if err := errors.Join(r.inside(ctx, "h", 4), r.inside(ctx, "s", 4)); err != nil {
		return err
	}
	all := r.loadFor(ctx, 50, r.span(2*time.Second, 5*time.Second, 20*time.Second), func(i int) call { return mixed([]string{"h", "s"}[i%2])(i / 2) })
	after, err := measure(r.gw.PID())
	if err != nil {
		return err
	}
	for _, c := range conns {
		_ = c.Close()
	}
	r.healed()
	r.every("other calls answered", len(pick(all, answered)), len(all))
	r.note(pick(all, not(answered)))
	r.within("other calls p99", quantile(took(all), 0.99), 50*time.Millisecond+r.machine(0.99))
	mb := (after.rss - before.rss) >> 20
	r.check("memory", mb < 64, "< +64 MiB", "+%d MiB", mb)
	return nil
}

func drain(ctx context.Context, r *rig) error {
	if err := r.start(ctx, serverSpec{name: "h"}, serverSpec{name: "o", legacy: true}, serverSpec{name: "s", stdio: true}); err != nil {
		return err
	}
	names := []string{"h", "o", "s"}
	before := 0
	for _, name := range names {
		j, err := r.journal(name)
		if err != nil {
			return err
		}
		before += len(j.executed)
	}
	l := r.begin(ctx, 21, func(i int) call { c := mixed(names[i%3])(i / 3); c.do = "delay=700ms"; return c })
	err := until(ctx, 5*time.Second, "all calls are at their servers", func() error {
		n := -before
		for _, name := range names {
			j, err := r.journal(name)
			if err != nil {
				return err
			}
			n += len(j.executed)
		}
		if n < 21 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.noLatency = true
	bad := r.watch.end() // or its calls would be refused
	r.exactly("neighbour errors before", len(bad), 0)
	r.watch = nil
	r.healed()
	done := make(chan error, 1)
	go func() { done <- r.gw.Stop(20 * time.Second) }()
	all := l.end()
	stop := <-done
	r.stopped = true
	r.every("answered", len(pick(all, answered)), len(all))
	r.note(pick(all, not(answered)))
	r.check("gateway ends", stop == nil, "exit 0", "%s", errText(stop))
	return nil
}

func frozen(ctx context.Context, r *rig) error {
	if err := r.start(ctx, serverSpec{name: "h"}, serverSpec{name: "s", stdio: true}); err != nil {
		return err
	}
	r.noLatency = true // the neighbour's calls wait as long as the gateway is stopped
	l := r.load(ctx, 50, func(i int) call {
		c := mixed([]string{"h", "s"}[i%2])(i / 2)
		c.do = "delay=50ms"
		return c
	})
	pause(ctx, 500*time.Millisecond)
	stopAt := time.Now()
	if err := r.gw.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	pause(ctx, r.span(3*time.Second, 5*time.Second, 20*time.Second))
	if err := r.gw.Signal(syscall.SIGCONT); err != nil {
		return err
	}
	contAt := time.Now()
	worst := time.Duration(0)
	for _, name := range []string{"h", "s"} {
		if _, err := r.works(ctx, name, 10*time.Second); err != nil {
			return err
		}
		worst = max(worst, time.Since(contAt))
	}
	pause(ctx, time.Second)
	all := l.end()
	r.healed()
	inFlight := len(pick(all, func(t *told) bool { return t.at.Before(stopAt) && t.end().After(stopAt) }))
	failures := 0
	for _, name := range []string{"h", "s"} {
		c, err := r.circuit(ctx, name)
		if err != nil {
			return err
		}
		failures += c.Totals.Failures
		r.atMost(name+": openings", c.Totals.Opens, 1)
	}
	r.atMost(fmt.Sprintf("failures with %d in flight", inFlight), failures, inFlight)
	r.within("recovered", worst, 5*time.Second)
	late := pick(all, func(t *told) bool { return t.at.After(contAt) })
	r.every("answered afterwards", len(pick(late, answered)), len(late))
	r.note(pick(late, not(answered)))
	return nil
}

func allHang(ctx context.Context, r *rig) error {
	policy := "timeouts: { attempt: 5s, overall: 6s }, bulkhead: { max_concurrent: 20 }"
	if err := r.start(ctx, serverSpec{name: "h", policy: policy}, serverSpec{name: "o", legacy: true, policy: policy}, serverSpec{name: "s", stdio: true, policy: policy}); err != nil {
		return err
	}
	names := []string{"h", "o", "s"}
	for _, name := range names {
		if err := r.tell(name, "hang"); err != nil {
			return err
		}
	}
	l := r.begin(ctx, 60, func(i int) call { return mixed(names[i%3])(i / 3) })
	pause(ctx, 200*time.Millisecond)
	var st []time.Duration
	for range r.times(200, 500, 1000) {
		start := time.Now()
		s, err := r.client.status(ctx, "circuit_status")
		if err != nil {
			return err
		}
		st = append(st, time.Since(start))
		if wrong := s.sum(); wrong != "" {
			return errors.New(wrong)
		}
	}
	for _, name := range names {
		if err := r.tell(name, ""); err != nil {
			return err
		}
	}
	all := l.end()
	r.healed()
	t := make([]*told, 0, len(st))
	for _, d := range st {
		t = append(t, &told{took: d})
	}
	sorted := took(t)
	r.within("circuit_status p50", quantile(sorted, 0.5), 5*time.Millisecond)
	r.within("circuit_status p99", quantile(sorted, 0.99), 5*time.Millisecond+r.machine(0.99))
	r.every("answered in the end", len(pick(all, answered)), len(all))
	r.note(pick(all, not(answered)))
	return nil
}
