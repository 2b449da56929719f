package sim

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// settle lets changes of power happen that are due. The caller holds mu.
func (c *controller) settle(now time.Time) {
	for len(c.changes) > 0 && !c.changes[0].at.After(now) {
		c.off = c.changes[0].off
		c.changes = c.changes[1:]
		if !c.off {
			c.boot = "" // it was for one start
		}
		c.note("OK", "The system is turned "+map[bool]string{true: "off.", false: "on."}[c.off], "SYS")
	}
}

func (c *controller) takes(d time.Duration) time.Duration {
	return time.Duration(float64(d) / c.Pace)
}

func (c *controller) write(w http.ResponseWriter, r *http.Request, at string) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	in := map[string]json.RawMessage{}
	if len(body) > 0 && json.Unmarshal(body, &in) != nil {
		fail(w, http.StatusBadRequest, "Base.1.12.MalformedJSON", "The request body submitted was malformed JSON and could not be parsed by the receiving service.", "")
		return
	}
	switch {
	case r.Method == http.MethodPost && at == c.systemPath()+"/Actions/ComputerSystem.Reset":
		c.reset(w, in)
	case r.Method == http.MethodPost && at == c.managerPath()+"/LogServices/Sel/Actions/LogService.ClearLog":
		c.sel = []entry{{time.Now(), "OK", "Log cleared.", "LOG"}}
		c.done(w, "Clear log", time.Second)
	case r.Method == http.MethodPatch && at == c.systemPath():
		if tag := r.Header.Get("If-Match"); tag != "" && tag != c.systemResource()["@odata.etag"] {
			fail(w, http.StatusPreconditionFailed, "Base.1.12.PreconditionFailed", "The ETag supplied did not match the ETag required to change this resource.", "")
			return
		}
		c.patch(w, in)
	case r.Method == http.MethodDelete && strings.HasPrefix(at, sessionsPath+"/"):
		for token, s := range c.sessions {
			if sessionsPath+"/"+s.id == at {
				delete(c.sessions, token)
				w.WriteHeader(http.StatusNoContent)
				return
			}
		}
		fail(w, http.StatusNotFound, "Base.1.12.ResourceMissingAtURI", "The resource at the URI "+at+" was not found.", "")
	default:
		fail(w, http.StatusMethodNotAllowed, "Base.1.12.OperationNotAllowed", "The HTTP method is not allowed on this resource.", "")
	}
}

func (c *controller) reset(w http.ResponseWriter, in map[string]json.RawMessage) {
	kind := ""
	_ = json.Unmarshal(in["ResetType"], &kind) // "" is refused below
	if !slices.Contains(resetTypes, kind) {
		fail(w, http.StatusBadRequest, "Base.1.12.ActionParameterValueNotInList", fmt.Sprintf("The value '%s' for the parameter ResetType is not in the list of acceptable values.", kind), "")
		return
	}
	if (kind == "On") != c.off {
		fail(w, http.StatusConflict, "IDRAC.2.8.PSU501", "Unable to perform the operation because the server is already in the requested power state.", "")
		return
	}
	now := time.Now()
	after := func(d time.Duration, off bool) { c.changes = append(c.changes, change{now.Add(c.takes(d)), off}) }
	c.changes = nil
	last := 2 * time.Second
	switch kind {
	case "On":
		after(2*time.Second, false)
	case "ForceOff":
		after(time.Second, true)
	case "GracefulShutdown":
		last = 6 * time.Second
		after(last, true)
	case "GracefulRestart":
		last = 8 * time.Second
		after(5*time.Second, true)
		after(last, false)
	default:
		last = 3 * time.Second
		after(time.Second, true)
		after(last, false)
	}
	c.done(w, "Reset "+kind, last)
}

// done answers a change: other vendors make a task of it.
func (c *controller) done(w http.ResponseWriter, name string, d time.Duration) {
	if !c.Vendor {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	c.made++
	id := fmt.Sprintf("JID_%09d", c.made)
	c.tasks[id] = &task{name, time.Now(), time.Now().Add(c.takes(d))}
	w.Header().Set("Location", "/redfish/v1/TaskService/Tasks/"+id)
	answer(w, http.StatusAccepted, c.task(id))
}

func (c *controller) task(id string) object {
	t, state, percent := c.tasks[id], "Completed", 100
	if left := time.Until(t.end); left > 0 {
		state, percent = "Running", int(100-100*left/t.end.Sub(t.start))
	}
	return object{
		"@odata.id": "/redfish/v1/TaskService/Tasks/" + id, "Id": id, "Name": t.name, "TaskState": state, "TaskStatus": "OK", "PercentComplete": percent,
		"Messages": []object{{"Message": fmt.Sprintf("%s: %d %% done.", t.name, percent)}},
	}
}

func (c *controller) patch(w http.ResponseWriter, in map[string]json.RawMessage) {
	for name, v := range in {
		switch name {
		case "LocationIndicatorActive":
			if json.Unmarshal(v, &c.indicator) != nil || c.Vendor {
				fail(w, http.StatusBadRequest, "Base.1.12.PropertyUnknown", "The property LocationIndicatorActive is not in the list of valid properties for the resource.", "")
				return
			}
		case "IndicatorLED":
			c.indicator = string(v) != `"Off"`
		case "Boot":
			var boot struct {
				BootSourceOverrideTarget, BootSourceOverrideEnabled string
			}
			_ = json.Unmarshal(v, &boot)
			c.boot = boot.BootSourceOverrideTarget
			if boot.BootSourceOverrideEnabled == "Disabled" {
				c.boot = ""
			}
		default:
			fail(w, http.StatusBadRequest, "Base.1.12.PropertyUnknown", "The property "+name+" is not in the list of valid properties for the resource.", "")
			return
		}
	}
	c.version++
	w.WriteHeader(http.StatusNoContent)
}
