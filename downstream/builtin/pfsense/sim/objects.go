package sim

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// model is a kind of object that can be changed.
type model struct {
	single, plural string
	required       []string
	apply          string // path of the endpoint that applies staged changes
	subsystem      string
}

var models = []model{
	{"/firewall/rule", "/firewall/rules", []string{"type", "interface", "ipprotocol", "source", "destination"}, "/firewall/apply", "filter"},
	{"/firewall/alias", "/firewall/aliases", []string{"name", "type"}, "/firewall/apply", "aliases"},
	{"/firewall/nat/port_forward", "/firewall/nat/port_forwards", []string{"interface", "protocol", "source", "destination", "target"}, "/firewall/apply", "natconf"},
	{"/services/dns_resolver/host_override", "/services/dns_resolver/host_overrides", []string{"host", "domain", "ip"}, "/services/dns_resolver/apply", "unbound"},
}

// numbered returns the object with its id, which is its position at the moment.
func numbered(o object, id int) object {
	out := maps.Clone(o)
	out["id"] = id
	return out
}

// many answers for all objects of a kind.
func (f *Firewall) many(w http.ResponseWriter, r *http.Request, list []object) {
	if r.Method != http.MethodGet {
		reply(w, http.StatusMethodNotAllowed, "ENDPOINT_METHOD_NOT_ALLOWED", "The simulator only reads many objects at once.", nil)
		return
	}
	query := r.URL.Query()
	found := []object{}
	for i, o := range list {
		if matches(numbered(o, i), query) {
			found = append(found, numbered(o, i))
		}
	}
	offset := number(query.Get("offset"))
	found = found[min(offset, len(found)):]
	if limit := number(query.Get("limit")); limit > 0 {
		found = found[:min(limit, len(found))]
	}
	reply(w, http.StatusOK, "SUCCESS", "", found)
}

func number(s string) int {
	n, _ := strconv.Atoi(s)
	return max(n, 0)
}

// matches reports whether o is what the query filters ask for: field=value, and field__contains, __startswith, __except.
func matches(o object, query url.Values) bool {
	for key, values := range query {
		if slices.Contains([]string{"limit", "offset", "sort_by", "sort_order", "reverse", "id"}, key) {
			continue
		}
		field, op, _ := strings.Cut(key, "__")
		got := fmt.Sprint(o[field])
		ok := got == values[0]
		switch op {
		case "contains":
			ok = strings.Contains(got, values[0])
		case "startswith":
			ok = strings.HasPrefix(got, values[0])
		case "except":
			ok = got != values[0]
		}
		if !ok {
			return false
		}
	}
	return true
}

// one answers for a single object.
func (f *Firewall) one(w http.ResponseWriter, r *http.Request, m *model, body object) {
	list := f.lists[m.plural]
	id, err := strconv.Atoi(r.URL.Query().Get("id"))
	if given, ok := body["id"].(float64); ok {
		id, err = int(given), nil
	}
	if r.Method != http.MethodPost {
		if err != nil {
			reply(w, http.StatusBadRequest, "MODEL_REQUIRES_ID", "Field `id` is required.", nil)
			return
		}
		if id < 0 || id >= len(list) {
			reply(w, http.StatusNotFound, "MODEL_OBJECT_NOT_FOUND", fmt.Sprintf("Object with ID `%d` does not exist.", id), nil)
			return
		}
	}
	place, placed := -1, false
	if p, ok := body["placement"].(float64); ok {
		place, placed = int(p), true
	}
	applied := body["apply"] == true || r.URL.Query().Get("apply") == "true"
	for _, control := range []string{"id", "placement", "apply", "async"} {
		delete(body, control)
	}
	switch r.Method {
	case http.MethodGet:
		reply(w, http.StatusOK, "SUCCESS", "", numbered(list[id], id))
		return
	case http.MethodPost:
		if f.invalid(w, m, body) {
			return
		}
		o := maps.Clone(body)
		if m.subsystem == "filter" {
			f.tracker++
			o["tracker"], o["created_time"], o["created_by"] = f.tracker, time.Now().Unix(), "lab@192.168.1.20 (API)"
		}
		id = len(list)
		list = append(list, o)
	case http.MethodPatch:
		o := maps.Clone(list[id])
		maps.Copy(o, body)
		if f.invalid(w, m, o) {
			return
		}
		o["updated_time"] = time.Now().Unix()
		list[id] = o
	case http.MethodDelete:
		o := numbered(list[id], id)
		f.lists[m.plural] = slices.Delete(list, id, id+1) // those behind it move up
		f.stage(m, applied)
		f.revision(m.single + ": deleted by the REST API")
		reply(w, http.StatusOK, "SUCCESS", "", o)
		return
	default:
		reply(w, http.StatusMethodNotAllowed, "ENDPOINT_METHOD_NOT_ALLOWED", "Method not allowed.", nil)
		return
	}
	if placed && place < len(list) {
		o := list[id]
		list = slices.Insert(slices.Delete(list, id, id+1), place, o)
		id = place
	}
	f.lists[m.plural] = list
	f.stage(m, applied)
	f.revision(m.single + ": changed by the REST API")
	reply(w, http.StatusOK, "SUCCESS", "", numbered(list[id], id))
}

func (f *Firewall) invalid(w http.ResponseWriter, m *model, o object) bool {
	for _, field := range m.required {
		if v, ok := o[field]; !ok || v == "" {
			reply(w, http.StatusBadRequest, "FIELD_IS_REQUIRED", "Field `"+field+"` is required.", nil)
			return true
		}
	}
	if t, ok := o["type"].(string); ok && m.subsystem == "filter" && !slices.Contains([]string{"pass", "block", "reject"}, t) {
		reply(w, http.StatusBadRequest, "FIELD_INVALID_CHOICE", "Field `type` must be one of [pass, block, reject].", nil)
		return true
	}
	if p, ok := o["destination_port"].(string); ok && p != "" && !strings.ContainsAny(p, "0123456789") && !f.isAlias(p) {
		reply(w, http.StatusUnprocessableEntity, "INVALID_PORT_FIELD_VALUE", "Field `destination_port` must be a port, a range or an existing port alias, received `"+p+"`.", nil)
		return true
	}
	return false
}

func (f *Firewall) isAlias(name string) bool {
	return slices.ContainsFunc(f.lists["/firewall/aliases"], func(o object) bool { return o["name"] == name })
}

// stage notes a change that is not in effect yet.
func (f *Firewall) stage(m *model, apply bool) {
	if !slices.Contains(f.dirty[m.apply], m.subsystem) {
		f.dirty[m.apply] = append(f.dirty[m.apply], m.subsystem)
	}
	delete(f.applying, m.apply)
	if apply {
		f.applying[m.apply] = time.Now().Add(f.opts.Apply)
	}
}

// revision adds an entry to the configuration history, the newest first.
func (f *Firewall) revision(what string) {
	const path = "/diagnostics/config_history/revisions"
	entry := object{"time": time.Now().Unix(), "description": "lab@192.168.1.20 (API): " + what, "version": "24.0", "filesize": 48213}
	f.lists[path] = slices.Insert(f.lists[path], 0, entry)
}
