package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The faults that a simulator can have.
const (
	FaultRefuse           = "refuse"            // nobody listens
	FaultHang             = "hang"              // requests are taken and never answered
	FaultSlow             = "slow"              // each answer takes Fault.Delay
	Fault500              = "500"               // an internal error to every request
	Fault503              = "503"               // out of service
	Fault529              = "529"               // Anthropic: overloaded
	Fault595              = "595"               // Proxmox: the node behind the cluster's proxy is away
	Fault429              = "429"               // asked too often, with Retry-After
	FaultGarbage          = "garbage"           // answers that are not what the system speaks
	FaultSessionExhausted = "session-exhausted" // iDRAC: all sessions are in use (RAC0218)
	FaultUnauthorized     = "unauthorized"      // the credentials are refused
	FaultFlap             = "flap"              // down and up, every Fault.Delay
)

// Fault is what is wrong with a simulator. The zero value is a system that works.
type Fault struct {
	Name  string
	Delay time.Duration // of slow and flap
}

var common = []string{FaultRefuse, FaultHang, FaultSlow, Fault500, Fault503, Fault429, FaultGarbage, FaultUnauthorized, FaultFlap}

// own are the faults that only one kind of system has.
var own = map[string][]string{"proxmox": {Fault595}, "idrac": {FaultSessionExhausted}, "llm": {Fault529}}

// Faults returns the names of the faults that a simulator of the kind can have.
func Faults(kind string) []string { return append(slices.Clone(common), own[kind]...) }

// AllFaults returns the names of all faults, sorted.
func AllFaults() []string {
	known := slices.Clone(common)
	for _, list := range own {
		known = append(known, list...)
	}
	slices.Sort(known)
	return known
}

// ParseFault returns the fault of a name. delay is for slow (default 3 s) and flap (default 5 s); 0 is the default.
func ParseFault(name string, delay time.Duration) (Fault, error) {
	f := Fault{Name: name, Delay: delay}
	known := AllFaults()
	switch {
	case !slices.Contains(known, name):
		return f, fmt.Errorf("no fault %q (there is: %s)", name, strings.Join(known, ", "))
	case delay < 0:
		return f, fmt.Errorf("delay: must not be negative, found %s", delay)
	case delay == 0 && name == FaultSlow:
		f.Delay = 3 * time.Second
	case delay == 0 && name == FaultFlap:
		f.Delay = 5 * time.Second
	}
	return f, nil
}

func (f Fault) validate(kind string) error {
	if !slices.Contains(Faults(kind), f.Name) {
		return fmt.Errorf("a %s cannot have the fault %q (it can have: %s)", kind, f.Name, strings.Join(Faults(kind), ", "))
	}
	if f.Name == FaultFlap && f.Delay <= 0 {
		return errors.New("flap needs a delay")
	}
	return nil
}

// Faulter is a simulator that shows some faults in the way of the system itself. It reports false to leave the fault to the lab.
type Faulter interface {
	Fault(w http.ResponseWriter, r *http.Request, fault string) bool
}

// answer is the handler of all requests to the simulator.
func (s *System) answer(w http.ResponseWriter, r *http.Request) {
	r = r.WithContext(context.WithValue(r.Context(), systemKey{}, s))
	f, mended := s.current()
	switch f.Name {
	case "", FaultFlap:
	case FaultSlow:
		wait(r.Context(), f.Delay, mended)
	case FaultHang:
		select {
		case <-mended:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler) // the connection ends without an answer
	default:
		if own, ok := s.handler.(Faulter); ok && own.Fault(w, r, f.Name) {
			return
		}
		broken(w, f.Name)
		return
	}
	s.handler.ServeHTTP(w, r)
}

type systemKey struct{}

// Current returns the fault of the simulator that answers a request, and a channel that is closed when the fault changes. It is for
// simulators whose connections outlive a request, such as WebSockets: the lab itself handles requests. ctx is that of the request.
func Current(ctx context.Context) (Fault, <-chan struct{}) {
	s, ok := ctx.Value(systemKey{}).(*System)
	if !ok {
		return Fault{}, nil
	}
	return s.current()
}

// broken answers as any HTTP API would.
func broken(w http.ResponseWriter, fault string) {
	switch fault {
	case FaultGarbage:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte("{\"data\": [1, 2,\x00\xff <html>"))
		return
	case FaultUnauthorized:
		http.Error(w, "authentication failure", http.StatusUnauthorized)
		return
	case Fault429:
		w.Header().Set("Retry-After", "2")
	}
	status, err := strconv.Atoi(fault)
	if err != nil {
		status = http.StatusServiceUnavailable
	}
	http.Error(w, "simulated fault "+fault, status)
}
