// Package lab runs simulated systems on loopback, each speaking the wire protocol of the real one, and breaks them on request. It is how a
// newcomer tries the gateway without owning the appliances, and how the tests know what the gateway does when one of them fails.
package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// URL is what stands in gateway.yaml instead of an address.
const URL = "lab"

// Credential is what every simulator accepts as token, as user name and as password.
const Credential = "lab"

// Lab holds the simulators of one gateway. They start when they are first asked for and run until Close. The zero value is not usable;
// see [New]. Its methods may be called at the same time.
type Lab struct {
	mu      sync.Mutex
	systems map[string]*System // by the name of the downstream; guarded by mu
	closed  bool               // guarded by mu
}

// New returns a lab without simulators.
func New() *Lab { return &Lab{systems: map[string]*System{}} }

// Start returns the simulator of a downstream; it starts one of the kind if there is none yet. What has been changed in it stays when the
// gateway's configuration is read again.
func (l *Lab) Start(name, kind string, simulate func() http.Handler) (*System, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errors.New("the lab is closed")
	}
	if s := l.systems[name]; s != nil {
		if s.Kind == kind {
			return s, nil
		}
		s.close()
	}
	s, err := start(name, kind, simulate())
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	l.systems[name] = s
	return s, nil
}

// System returns the simulator of a downstream. A kind, such as "proxmox", is as good as a name if there is one of it only.
func (l *Lab) System(name string) (*System, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.systems[name]; s != nil {
		return s, nil
	}
	var found *System
	for _, s := range l.systems {
		if s.Kind == name {
			if found != nil {
				return nil, fmt.Errorf("several simulators are of kind %q: name one of %s", name, strings.Join(l.names(), ", "))
			}
			found = s
		}
	}
	if found == nil {
		if len(l.systems) == 0 {
			return nil, fmt.Errorf("no simulator %q: no downstream has url: lab", name)
		}
		return nil, fmt.Errorf("no simulator %q (there is: %s)", name, strings.Join(l.names(), ", "))
	}
	return found, nil
}

// Systems returns all simulators, sorted by name.
func (l *Lab) Systems() []*System {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]*System, 0, len(l.systems))
	for _, name := range l.names() {
		list = append(list, l.systems[name])
	}
	return list
}

func (l *Lab) names() []string { return slices.Sorted(maps.Keys(l.systems)) }

// Close ends all simulators.
func (l *Lab) Close() {
	l.mu.Lock()
	systems := l.systems
	l.systems, l.closed = map[string]*System{}, true
	l.mu.Unlock()
	for _, s := range systems {
		s.close()
	}
}

// System is one simulated system.
type System struct {
	Name string // of the downstream
	Kind string // preset

	handler http.Handler
	addr    string // host:port, which stays the same while it is broken

	mu       sync.Mutex
	fault    Fault         // guarded by mu
	since    time.Time     // of fault; guarded by mu
	mended   chan struct{} // closed when fault ends; guarded by mu
	listener net.Listener  // nil while refusing; guarded by mu
	server   *http.Server  // guarded by mu
	flapping chan struct{} // ends the goroutine of a flapping system; guarded by mu
	wg       sync.WaitGroup
}

func start(name, kind string, h http.Handler) (*System, error) {
	s := &System{Name: name, Kind: kind, handler: h, mended: make(chan struct{}), since: time.Now()}
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a loopback listener does not wait
	if err != nil {
		return nil, err
	}
	s.addr = l.Addr().String()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serve(l)
	return s, nil
}

// URL returns the address of the simulator.
func (s *System) URL() string { return "http://" + s.addr }

// serve answers on l. The caller holds mu.
func (s *System) serve(l net.Listener) {
	s.listener = l
	s.server = &http.Server{Handler: http.HandlerFunc(s.answer), ReadHeaderTimeout: 10 * time.Second}
	server := s.server
	s.wg.Go(func() { _ = server.Serve(l) })
}

// down closes the door: connections are refused. The caller holds mu.
func (s *System) down() {
	if s.server != nil {
		_ = s.server.Close()
		s.server, s.listener = nil, nil
	}
}

// up opens it again at the same address, if no other program has taken it. The caller holds mu.
func (s *System) up() error {
	if s.listener != nil {
		return nil
	}
	l, err := net.Listen("tcp", s.addr) //nolint:noctx // a loopback listener does not wait
	if err != nil {
		return fmt.Errorf("the simulator cannot listen at its address again: %w", err)
	}
	s.serve(l)
	return nil
}

func (s *System) close() {
	s.mu.Lock()
	s.stopFlapping()
	s.end()
	s.down()
	s.mu.Unlock()
	s.wg.Wait()
	if c, ok := s.handler.(interface{ Close() }); ok {
		c.Close()
	}
}

// end lets go of the requests that hang. The caller holds mu.
func (s *System) end() {
	select {
	case <-s.mended:
	default:
		close(s.mended)
	}
}

func (s *System) stopFlapping() {
	if s.flapping != nil {
		close(s.flapping)
		s.flapping = nil
	}
}

// Status is what an operator sees of a simulator.
type Status struct {
	Name  string    `json:"name"`
	Kind  string    `json:"kind"`
	URL   string    `json:"url"`
	Fault string    `json:"fault,omitempty"` // "" while it works
	Since time.Time `json:"since"`           // of the fault, or of working
}

// Status returns how the simulator is.
func (s *System) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Status{Name: s.Name, Kind: s.Kind, URL: s.URL(), Fault: s.fault.Name, Since: s.since}
}

// Break puts a fault in the place of the one that there is.
func (s *System) Break(f Fault) error {
	if err := f.validate(s.Kind); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopFlapping()
	s.end()
	s.mended, s.fault, s.since = make(chan struct{}), f, time.Now()
	switch f.Name {
	case FaultRefuse:
		s.down()
		return nil
	case FaultFlap:
		s.flapping = make(chan struct{})
		stop := s.flapping
		s.wg.Go(func() { s.flap(stop, f.Delay) })
	}
	return s.up()
}

// Mend ends the fault, if there is one.
func (s *System) Mend() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopFlapping()
	s.end()
	s.mended, s.fault, s.since = make(chan struct{}), Fault{}, time.Now()
	return s.up()
}

// flap goes down and up until stop is closed.
func (s *System) flap(stop <-chan struct{}, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for up := true; ; up = !up {
		s.mu.Lock()
		select {
		case <-stop: // closed under mu: nothing may be changed any more
			s.mu.Unlock()
			return
		default:
		}
		if up {
			s.down()
		} else {
			_ = s.up()
		}
		s.mu.Unlock()
		select {
		case <-stop:
			return
		case <-tick.C:
		}
	}
}

func (s *System) current() (Fault, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fault, s.mended
}

// wait returns when d is over, the fault ends or the client goes away; it reports whether d is over.
func wait(ctx context.Context, d time.Duration, mended <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-mended:
	case <-ctx.Done():
	}
	return false
}
