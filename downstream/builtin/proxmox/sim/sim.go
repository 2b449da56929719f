// Package sim simulates a Proxmox VE cluster: its JSON API, with guests that start and stop, tasks that take their time, locks, and errors
// in the reason phrase of the status line.
package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/downstream/builtin/lab"
)

// Options make a cluster that is larger or faster. The zero value is a homelab of three nodes and a dozen guests.
type Options struct {
	Guests int     // further guests
	Tasks  int     // further finished tasks
	Pace   float64 // how fast tasks run; 0 is 1, in which most take seconds
	Token  string  // that is accepted; "" is lab.Credential
	// Deny has every request whose path contains it refused with 403, as of a token that lacks a privilege; "" denies nothing.
	Deny string
}

// New returns a simulator.
func New() http.Handler { return NewWith(Options{}) }

// NewWith returns a simulator with options.
func NewWith(o Options) http.Handler {
	if o.Pace <= 0 {
		o.Pace = 1
	}
	if o.Token == "" {
		o.Token = lab.Credential
	}
	c := &cluster{Options: o, born: time.Now()}
	c.furnish()
	c.routes()
	return c
}

// cluster is the whole estate. What tasks do happens when somebody looks: see settle.
type cluster struct {
	Options

	born time.Time
	mux  http.ServeMux

	mu      sync.Mutex // guards all that follows
	guests  map[int]*guest
	backups []*backup
	tasks   []*task // oldest first
	pids    int
}

type object = map[string]any

// refusal is an error as Proxmox reports it.
type refusal struct {
	status int
	reason string
	params map[string]string
}

func (r *refusal) Error() string { return r.reason }

func refuse(status int, format string, args ...any) error {
	return &refusal{status: status, reason: fmt.Sprintf(format, args...)}
}

func badParameter(name, format string, args ...any) error {
	return &refusal{http.StatusBadRequest, "Parameter verification failed.", map[string]string{name: fmt.Sprintf(format, args...)}}
}

// ServeHTTP implements http.Handler.
func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "PVEAPIToken=")
	switch {
	case !ok:
		fail(w, &refusal{status: http.StatusUnauthorized, reason: "No ticket"})
	case token != c.Token:
		fail(w, &refusal{status: http.StatusUnauthorized, reason: "invalid token value!"})
	case c.Deny != "" && strings.Contains(r.URL.Path, c.Deny):
		fail(w, &refusal{status: http.StatusForbidden, reason: "Permission check failed (/vms/100, VM.PowerMgmt)"})
	default:
		c.mux.ServeHTTP(w, r)
	}
}

// Fault implements lab.Faulter: errors come in Proxmox's own form.
func (c *cluster) Fault(w http.ResponseWriter, _ *http.Request, fault string) bool {
	switch fault {
	case lab.Fault595:
		fail(w, &refusal{status: 595, reason: "No route to host"})
	case lab.Fault500:
		fail(w, &refusal{status: http.StatusInternalServerError, reason: "unable to open file '/var/lib/pve-cluster/simulated': Input/output error"})
	case lab.Fault503:
		fail(w, &refusal{status: http.StatusServiceUnavailable, reason: "Service Unavailable"})
	case lab.FaultUnauthorized:
		fail(w, &refusal{status: http.StatusUnauthorized, reason: "invalid token value!"})
	default:
		return false
	}
	return true
}

// handle serves a pattern below /api2/json. f runs with the lock held, after what was due has happened.
func (c *cluster) handle(pattern string, f func(*http.Request) (any, error)) {
	method, path, _ := strings.Cut(pattern, " ")
	c.mux.HandleFunc(method+" /api2/json"+path, func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			fail(w, &refusal{status: http.StatusBadRequest, reason: "unable to parse parameters"})
			return
		}
		c.mu.Lock()
		c.settle(time.Now())
		data, err := f(r)
		var body []byte
		if err == nil {
			body, err = json.Marshal(object{"data": data}) // under the lock: data is the state itself
		}
		c.mu.Unlock()
		if err != nil {
			fail(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json;charset=UTF-8")
		_, _ = w.Write(body)
	})
}

// fail answers with the message in the status line, which net/http does not offer.
func fail(w http.ResponseWriter, err error) {
	r, ok := errors.AsType[*refusal](err)
	if !ok {
		r = &refusal{status: http.StatusInternalServerError, reason: err.Error()}
	}
	answer := object{"data": nil}
	if r.params != nil {
		answer["errors"] = r.params
	}
	body, _ := json.Marshal(answer) // strings only
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, r.reason, r.status)
		return
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = fmt.Fprintf(rw, "HTTP/1.1 %d %s\r\nContent-Type: application/json;charset=UTF-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		r.status, strings.NewReplacer("\r", " ", "\n", " ").Replace(r.reason), len(body), body)
	_ = rw.Flush()
}

func (c *cluster) routes() {
	c.reads()
	c.writes()
	c.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, refuse(http.StatusNotImplemented, "Method '%s %s' not implemented", r.Method, strings.TrimPrefix(r.URL.Path, "/api2/json")))
	})
}
