package idrac

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// object is a Redfish resource or a part of one.
type object map[string]any

func (o object) text(key string) string {
	switch v := o[key].(type) {
	case nil:
		return ""
	case string:
		return strings.TrimSpace(v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	default:
		return fmt.Sprint(v)
	}
}

// number also reads numbers that a controller writes as text.
func (o object) number(key string) (float64, bool) {
	switch v := o[key].(type) {
	case float64:
		return v, true
	case string:
		f, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
		return f, err == nil && !math.IsInf(f, 0) && !math.IsNaN(f)
	}
	return 0, false
}

func (o object) truth(key string) bool { v, _ := o[key].(bool); return v }

func (o object) object(key string) object {
	m, _ := o[key].(map[string]any)
	return m
}

func (o object) objects(key string) []object {
	list, _ := o[key].([]any)
	out := make([]object, 0, len(list))
	for _, e := range list {
		if m, ok := e.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

func (o object) texts(key string) []string {
	list, _ := o[key].([]any)
	var out []string
	for _, e := range list {
		if s, ok := e.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// link returns where a member leads to.
func (o object) link(member string) string { return o.object(member).text("@odata.id") }

// onlyLink reports whether a member of a collection is not there itself.
func (o object) onlyLink() bool {
	return o.text("@odata.id") != "" && o["Id"] == nil && o["Name"] == nil && o["@odata.type"] == nil && o["MemberId"] == nil
}

// put copies members of o into an item under other names; what is not there stays away.
func (o object) put(it map[string]any, names ...string) {
	for i := 0; i+1 < len(names); i += 2 {
		v := o[names[i]]
		if s, ok := v.(string); ok {
			v = strings.TrimSpace(s)
		}
		if v != nil && v != "" {
			it[names[i+1]] = v
		}
	}
}

// status puts health and state of a resource into an item.
func (o object) status(it map[string]any) {
	s := o.object("Status")
	s.put(it, "HealthRollup", "health", "Health", "health")
	if state := s.text("State"); state != "" && state != "Enabled" {
		it["state"] = state
	}
	if o["unreadable"] != nil {
		it["state"] = o["unreadable"]
	}
}

func (o object) absent() bool { return o.object("Status").text("State") == "Absent" }
