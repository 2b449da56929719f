// Package sim simulates the management controller of a server: its Redfish service, with power that takes its time to change, sessions
// that run out, logs that grow, and tasks.
package sim

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/downstream/builtin/lab"
)

// Options make a controller that is larger, faster or of another vendor. The zero value is an iDRAC of a rack server.
type Options struct {
	Entries  int     // further entries of the lifecycle log
	Parts    int     // further drives, memory modules, sensors and firmware components each
	Pace     float64 // how fast things happen; 0 is 1
	User     string  // "" is lab.Credential
	Password string  // "" is lab.Credential
	Sessions int     // sessions that other programs have open
	Vendor   bool    // another vendor: other ids, no $expand, tasks (202) for all actions, no list of what a reset may be
	Newer    bool    // PowerSubsystem and ThermalSubsystem instead of Power and Thermal
}

// maxSessions of an iDRAC.
const maxSessions = 8

// New returns a simulator.
func New() http.Handler { return NewWith(Options{}) }

// NewWith returns a simulator with options.
func NewWith(o Options) http.Handler {
	if o.Pace <= 0 {
		o.Pace = 1
	}
	if o.User == "" {
		o.User = lab.Credential
	}
	if o.Password == "" {
		o.Password = lab.Credential
	}
	c := &controller{Options: o, born: time.Now(), ids: ids{"System.Embedded.1", "iDRAC.Embedded.1"}, sessions: map[string]*session{}, tasks: map[string]*task{}}
	if o.Vendor {
		c.ids = ids{"1", "bmc"}
	}
	for i := range o.Sessions {
		c.sessions[fmt.Sprintf("other-%d", i)] = &session{id: strconv.Itoa(100 + i), user: "monitoring", seen: time.Now()}
	}
	c.furnish()
	return c
}

type ids struct{ system, manager string }

type controller struct {
	Options
	ids

	born time.Time

	mu        sync.Mutex // guards all that follows
	off       bool
	changes   []change
	indicator bool
	boot      string // target of the next start; "" for none
	version   int    // of the system resource
	sel, lc   []entry
	sessions  map[string]*session // by token
	made      int                 // sessions and tasks so far
	tasks     map[string]*task    // by id
}

// change of power that is on its way.
type change struct {
	at  time.Time
	off bool
}

type session struct {
	id, user string
	seen     time.Time
}

type task struct {
	name       string
	start, end time.Time
}

type object = map[string]any

// ServeHTTP implements http.Handler.
func (c *controller) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.settle(now)
	at := strings.TrimRight(r.URL.Path, "/")
	w.Header().Set("OData-Version", "4.0")
	switch {
	case at == "/redfish" && r.Method == http.MethodGet:
		answer(w, http.StatusOK, object{"v1": "/redfish/v1/"})
		return
	case at == "/redfish/v1" && r.Method == http.MethodGet: // needs no login
		answer(w, http.StatusOK, c.root())
		return
	case at == sessionsPath && r.Method == http.MethodPost:
		c.logIn(w, r)
		return
	}
	token := r.Header.Get("X-Auth-Token")
	if token != "" {
		s := c.sessions[token]
		if s == nil || now.Sub(s.seen) > 30*time.Minute {
			delete(c.sessions, token)
			fail(w, http.StatusUnauthorized, "IDRAC.2.8.SWC0242", "A required authorization is missing.", "Log in and try again.")
			return
		}
		s.seen = now
	} else if user, password, ok := r.BasicAuth(); !ok || user != c.User || password != c.Password {
		fail(w, http.StatusUnauthorized, "Base.1.12.AccessDenied", "The authentication credentials included with this request are missing or invalid.", "")
		return
	} else if len(c.sessions) >= maxSessions { // each such request is a session of its own
		exhausted(w)
		return
	}
	switch r.Method {
	case http.MethodGet:
		c.get(w, r, at)
	case http.MethodPost, http.MethodPatch, http.MethodDelete:
		c.write(w, r, at)
	default:
		fail(w, http.StatusMethodNotAllowed, "Base.1.12.OperationNotAllowed", "The HTTP method is not allowed on this resource.", "")
	}
}

// Fault implements lab.Faulter: errors come in Redfish's form.
func (c *controller) Fault(w http.ResponseWriter, r *http.Request, fault string) bool {
	switch fault {
	case lab.Fault500:
		fail(w, http.StatusInternalServerError, "Base.1.12.InternalError", "The request failed due to an internal service error. The service is still operational.", "Resubmit the request.")
	case lab.Fault503:
		w.Header().Set("Retry-After", "30")
		fail(w, http.StatusServiceUnavailable, "Base.1.12.ServiceTemporarilyUnavailable", "The service is temporarily unavailable. Retry in 30 seconds.", "")
	case lab.FaultUnauthorized:
		fail(w, http.StatusUnauthorized, "Base.1.12.AccessDenied", "The authentication credentials included with this request are missing or invalid.", "")
	case lab.FaultSessionExhausted:
		// Whoever is logged in stays so, and the service root asks for no login.
		c.mu.Lock()
		known := c.sessions[r.Header.Get("X-Auth-Token")] != nil
		c.mu.Unlock()
		if known || strings.TrimRight(r.URL.Path, "/") == "/redfish/v1" {
			c.ServeHTTP(w, r)
			return true
		}
		exhausted(w)
	default:
		return false
	}
	return true
}

func exhausted(w http.ResponseWriter) {
	fail(w, http.StatusServiceUnavailable, "IDRAC.2.8.RAC0218", "The maximum number of user sessions is reached.",
		"Close a session, or wait until one has timed out, and try again.")
}

const sessionsPath = "/redfish/v1/SessionService/Sessions"

func (c *controller) logIn(w http.ResponseWriter, r *http.Request) {
	var in struct{ UserName, Password string }
	_ = json.NewDecoder(r.Body).Decode(&in) // nothing is wrong credentials
	switch {
	case in.UserName != c.User || in.Password != c.Password:
		fail(w, http.StatusUnauthorized, "Base.1.12.AccessDenied", "The authentication credentials included with this request are missing or invalid.", "")
		return
	case len(c.sessions) >= maxSessions:
		exhausted(w)
		return
	}
	c.made++
	s, token := &session{id: strconv.Itoa(c.made), user: in.UserName, seen: time.Now()}, rand.Text()
	c.sessions[token] = s
	w.Header().Set("X-Auth-Token", token)
	w.Header().Set("Location", sessionsPath+"/"+s.id)
	answer(w, http.StatusCreated, describe(s))
}

func describe(s *session) object {
	return object{
		"@odata.id": sessionsPath + "/" + s.id, "@odata.type": "#Session.v1_6_0.Session", "Id": s.id, "Name": "User Session",
		"UserName": s.user, "Password": nil, "SessionType": "Redfish",
	}
}

func (c *controller) get(w http.ResponseWriter, r *http.Request, at string) {
	if list, ok := c.collection(at); ok {
		c.answerCollection(w, r, at, list)
		return
	}
	o := c.resource(at)
	if o == nil {
		fail(w, http.StatusNotFound, "Base.1.12.ResourceMissingAtURI", "The resource at the URI "+at+" was not found.", "")
		return
	}
	if o["@odata.id"] == nil {
		o["@odata.id"] = at
	}
	status := http.StatusOK
	if state, ok := o["TaskState"]; ok && state != "Completed" {
		status = http.StatusAccepted
	}
	answer(w, status, o)
}

// pageSize of logs.
const pageSize = 50

func (c *controller) answerCollection(w http.ResponseWriter, r *http.Request, at string, list []object) {
	expand := r.URL.Query().Get("$expand") != ""
	if expand && c.Vendor {
		fail(w, http.StatusNotImplemented, "Base.1.12.QueryNotSupported", "Querying is not supported by the implementation.", "")
		return
	}
	out := object{"@odata.id": at, "@odata.type": "#Collection", "Name": path.Base(at) + " Collection", "Members@odata.count": len(list)}
	skip, _ := strconv.Atoi(r.URL.Query().Get("$skip"))
	list = list[min(max(skip, 0), len(list)):]
	entries := strings.HasSuffix(at, "/Entries")
	if entries && len(list) > pageSize {
		list = list[:pageSize]
		out["Members@odata.nextLink"] = fmt.Sprintf("%s?$skip=%d", at, skip+pageSize)
	}
	members := make([]object, len(list))
	for i, o := range list {
		if o["@odata.id"] == nil {
			o["@odata.id"] = fmt.Sprintf("%s/%v", at, o["Id"])
		}
		members[i] = object{"@odata.id": o["@odata.id"]}
		if expand || entries {
			members[i] = o
		}
	}
	out["Members"] = members
	answer(w, http.StatusOK, out)
}

func answer(w http.ResponseWriter, status int, o object) {
	w.Header().Set("Content-Type", "application/json;odata.metadata=minimal;charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(o)
}

func fail(w http.ResponseWriter, status int, id, message, resolution string) {
	answer(w, status, object{"error": object{
		"code": "Base.1.12.GeneralError", "message": "A general error has occurred. See ExtendedInfo for more information.",
		"@Message.ExtendedInfo": []object{{
			"MessageId": id, "Message": message, "Resolution": resolution, "Severity": "Critical", "MessageArgs": []string{}, "RelatedProperties": []string{},
		}},
	}})
}
