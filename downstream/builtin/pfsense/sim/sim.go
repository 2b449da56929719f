// Package sim simulates a pfSense firewall with the REST API package v2: its paths, its envelope, ids that are positions, changes that are
// staged until they are applied. Nothing outside its memory is touched.
package sim

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/downstream/builtin/lab"
)

// Options say how large the simulated estate is. The zero value is a small homelab.
type Options struct {
	Rules int           // firewall rules besides the usual ones
	Apply time.Duration // how long applying takes; 0 means a second
	Key   string        // the API key that is accepted; "" means lab.Credential
}

// New returns a simulator of a small homelab's firewall.
func New() http.Handler { return NewWith(Options{}) }

// Firewall is a simulated pfSense.
type Firewall struct {
	opts Options

	mu       sync.Mutex
	lists    map[string][]object  // by plural path; guarded by mu
	singles  map[string]object    // by path; guarded by mu
	dirty    map[string][]string  // subsystems with staged changes, by apply path; guarded by mu
	applying map[string]time.Time // when an apply will be done; guarded by mu
	tracker  int64                // the last one given; guarded by mu
	asked    map[string]int       // requests by method and path; guarded by mu
}

type object = map[string]any

// NewWith returns a simulator of the size that opts say.
func NewWith(opts Options) *Firewall {
	if opts.Apply <= 0 {
		opts.Apply = time.Second
	}
	if opts.Key == "" {
		opts.Key = lab.Credential
	}
	f := &Firewall{opts: opts, dirty: map[string][]string{}, applying: map[string]time.Time{}, asked: map[string]int{}}
	f.lists, f.singles = estate(opts)
	f.tracker = 1_700_000_000 + int64(opts.Rules)
	return f
}

// Asked returns how often a request was made, such as "DELETE /api/v2/firewall/rule".
func (f *Firewall) Asked(what string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked[what]
}

// envelope is how the API answers everything.
type envelope struct {
	Code       int    `json:"code"`
	Status     string `json:"status"`
	ResponseID string `json:"response_id"`
	Message    string `json:"message"`
	Data       any    `json:"data"`
}

func reply(w http.ResponseWriter, code int, id, message string, data any) {
	if data == nil {
		data = []any{}
	}
	status := strings.ToLower(http.StatusText(code))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(envelope{code, status, id, message, data})
}

// Fault shows a fault in the API's own envelope.
func (f *Firewall) Fault(w http.ResponseWriter, _ *http.Request, fault string) bool {
	switch fault {
	case lab.FaultUnauthorized:
		unauthorized(w)
	case lab.Fault500:
		reply(w, http.StatusInternalServerError, "SERVER_ERROR", "The API encountered an unexpected error.", nil)
	case lab.Fault503:
		reply(w, http.StatusServiceUnavailable, "SERVICE_UNAVAILABLE", "The REST API is not available while the system is updated.", nil)
	case lab.FaultGarbage:
		// PHP writes its warnings in front of the answer.
		w.Header().Set("Content-Type", "text/html; charset=UTF-8")
		_, _ = w.Write([]byte("<br />\n<b>Warning</b>:  Undefined array key in <b>/etc/inc/config.inc</b> on line <b>114</b><br />\n{\"code\":200,"))
	default:
		return false
	}
	return true
}

func unauthorized(w http.ResponseWriter) {
	reply(w, http.StatusUnauthorized, "AUTH_AUTHENTICATION_FAILED", "Authentication failed. Ensure the credentials are valid and the authentication method is enabled.", nil)
}

// ServeHTTP implements http.Handler.
func (f *Firewall) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, password, basic := r.BasicAuth()
	if r.Header.Get("X-Api-Key") != f.opts.Key && !(basic && user == lab.Credential && password == f.opts.Key) {
		unauthorized(w)
		return
	}
	body := object{}
	if r.Method != http.MethodGet && r.Method != http.MethodDelete && r.ContentLength != 0 {
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&body); err != nil {
			reply(w, http.StatusBadRequest, "ENDPOINT_REQUEST_DATA_INVALID", "The request body is not valid JSON.", nil)
			return
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked[r.Method+" "+r.URL.Path]++
	path, ok := strings.CutPrefix(r.URL.Path, "/api/v2")
	if !ok {
		http.NotFound(w, r)
		return
	}
	if f.special(w, r, path, body) {
		return
	}
	if list, ok := f.lists[path]; ok {
		f.many(w, r, list)
		return
	}
	for _, m := range models {
		if path == m.single {
			f.one(w, r, &m, body)
			return
		}
	}
	if s, ok := f.singles[path]; ok && r.Method == http.MethodGet {
		reply(w, http.StatusOK, "SUCCESS", "", s)
		return
	}
	reply(w, http.StatusNotFound, "ENDPOINT_NOT_FOUND", "No endpoint exists at "+r.URL.Path+".", nil)
}
