package sim

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// special answers for the endpoints that are no plain objects.
func (f *Firewall) special(w http.ResponseWriter, r *http.Request, path string, body object) bool {
	switch path {
	case "/firewall/apply", "/routing/apply", "/interface/apply", "/services/dns_resolver/apply", "/services/dhcp_server/apply":
		f.apply(w, r, path)
	case "/status/service":
		f.control(w, r, body)
	case "/diagnostics/reboot":
		if r.Method != http.MethodPost {
			return false
		}
		f.singles["/status/system"]["uptime"] = "0 Days 00 Hours 00 Minutes 05 Seconds"
		reply(w, http.StatusOK, "SUCCESS", "", object{"dry_run": false})
	case "/diagnostics/command_prompt":
		f.command(w, r, body)
	default:
		return false
	}
	return true
}

func (f *Firewall) apply(w http.ResponseWriter, r *http.Request, path string) {
	if until, ok := f.applying[path]; ok && !time.Now().Before(until) {
		delete(f.applying, path)
		delete(f.dirty, path)
	}
	if r.Method == http.MethodPost {
		if _, ok := f.applying[path]; !ok && len(f.dirty[path]) > 0 {
			f.applying[path] = time.Now().Add(f.opts.Apply)
		}
	}
	pending := f.dirty[path]
	if pending == nil {
		pending = []string{}
	}
	out := object{"applied": len(pending) == 0}
	if path == "/firewall/apply" {
		out["pending_subsystems"] = pending
	}
	reply(w, http.StatusOK, "SUCCESS", "", out)
}

func (f *Firewall) control(w http.ResponseWriter, r *http.Request, body object) {
	if r.Method != http.MethodPost {
		reply(w, http.StatusMethodNotAllowed, "ENDPOINT_METHOD_NOT_ALLOWED", "Method not allowed.", nil)
		return
	}
	for i, s := range f.lists["/status/services"] {
		if at, ok := body["id"].(float64); !ok || int(at) != i || s["name"] != body["name"] {
			continue
		}
		switch body["action"] {
		case "start", "restart":
			s["status"] = true
		case "stop":
			s["status"] = false
		default:
			reply(w, http.StatusBadRequest, "FIELD_INVALID_CHOICE", "Field `action` must be one of [start, stop, restart].", nil)
			return
		}
		reply(w, http.StatusOK, "SUCCESS", "", numbered(s, i))
		return
	}
	reply(w, http.StatusNotFound, "MODEL_OBJECT_NOT_FOUND", fmt.Sprintf("Object with name `%v` does not exist.", body["name"]), nil)
}

// command knows the two commands by which a configuration is kept and brought back, and no shell.
func (f *Firewall) command(w http.ResponseWriter, r *http.Request, body object) {
	command, _ := body["command"].(string)
	if r.Method != http.MethodPost {
		reply(w, http.StatusMethodNotAllowed, "ENDPOINT_METHOD_NOT_ALLOWED", "Method not allowed.", nil)
		return
	}
	out := object{"command": command, "output": "", "result_code": 127}
	switch {
	case strings.Contains(command, "write_config("):
		f.revision("backup")
		out["output"], out["result_code"] = "kept", 0
	case strings.Contains(command, "config_restore("):
		_, rest, _ := strings.Cut(command, "config-")
		stamp, _, _ := strings.Cut(rest, ".xml")
		known := slices.ContainsFunc(f.lists["/diagnostics/config_history/revisions"], func(o object) bool { return fmt.Sprint(o["time"]) == stamp })
		if out["output"], out["result_code"] = "no such revision", 1; known {
			f.revision("restored revision " + stamp)
			out["output"], out["result_code"] = "restored", 0
		}
	}
	reply(w, http.StatusOK, "SUCCESS", "", out)
}
