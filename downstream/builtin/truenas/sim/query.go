package sim

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// query applies query-filters and query-options, as every method that lists things takes them.
func query(rows []object, params []any) (any, *fail) {
	filters, _ := arg[[]any](params, 0)
	options, _ := arg[map[string]any](params, 1)
	found := []object{}
	for _, row := range rows {
		ok, bad := matches(row, filters)
		if bad != nil {
			return nil, bad
		}
		if ok {
			found = append(found, row)
		}
	}
	if order, ok := options["order_by"].([]any); ok {
		for _, by := range slices.Backward(order) {
			field, down := strings.CutPrefix(fmt.Sprint(by), "-")
			slices.SortStableFunc(found, func(a, b object) int {
				d := compare(a[field], b[field])
				if down {
					return -d
				}
				return d
			})
		}
	}
	if options["count"] == true {
		return len(found), nil
	}
	if at, ok := options["offset"].(float64); ok {
		found = found[min(int(at), len(found)):]
	}
	if most, ok := options["limit"].(float64); ok && most > 0 {
		found = found[:min(int(most), len(found))]
	}
	if list, ok := options["select"].([]any); ok && len(list) > 0 {
		for i, row := range found {
			found[i] = selected(row, list)
		}
	}
	if options["get"] == true {
		if len(found) == 0 {
			return nil, callError(2, "ENOENT", "[ENOENT] MatchNotFound()")
		}
		return found[0], nil
	}
	return found, nil
}

func compare(a, b any) int {
	if x, ok := a.(int); ok {
		y, _ := b.(int)
		return cmp.Compare(x, y)
	}
	return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
}

func matches(row object, filters []any) (bool, *fail) {
	for _, f := range filters {
		parts, ok := f.([]any)
		if !ok || len(parts) != 3 {
			return false, invalid("query-filters", "Invalid filter")
		}
		got, want := fmt.Sprint(lookup(row, fmt.Sprint(parts[0]))), fmt.Sprint(parts[2])
		switch parts[1] {
		case "=":
			ok = got == want
		case "!=":
			ok = got != want
		case "^":
			ok = strings.HasPrefix(got, want)
		case "rin":
			ok = strings.Contains(got, want)
		default:
			return false, invalid("query-filters", fmt.Sprintf("Invalid operation: %v", parts[1]))
		}
		if !ok {
			return false, nil
		}
	}
	return true, nil
}

// lookup follows a path with dots.
func lookup(row object, path string) any {
	var v any = row
	for part := range strings.SplitSeq(path, ".") {
		m, ok := v.(object)
		if !ok {
			return nil
		}
		v = m[part]
	}
	return v
}

// selected returns the members that list names: "a", "a.b", or ["a.b", "name"].
func selected(row object, list []any) object {
	out := object{}
	for _, s := range list {
		path, name := "", ""
		switch s := s.(type) {
		case string:
			path, name = s, s
		case []any:
			path, name = fmt.Sprint(s[0]), fmt.Sprint(s[1])
		}
		if v := lookup(row, path); v != nil {
			out[name] = v
		}
	}
	return out
}

// rows returns what a method that lists things looks at.
func (n *NAS) rows(method string) ([]object, bool) {
	if !n.has(method) {
		return nil, false
	}
	if method == "core.get_jobs" {
		out := make([]object, len(n.jobs))
		for i, j := range n.jobs {
			out[i] = j.row()
		}
		return out, true
	}
	rows, ok := n.tables[strings.Replace(method, "zfs.snapshot.", "pool.snapshot.", 1)]
	return slices.Clone(rows), ok
}

// has reports whether the simulated release has the method.
func (n *NAS) has(method string) bool {
	switch {
	case strings.HasPrefix(method, "zfs.snapshot."), strings.HasPrefix(method, "smart."), slices.Contains([]string{"service.start", "service.stop", "service.restart"}, method):
		return n.opts.Release != "25.10"
	case strings.HasPrefix(method, "pool.snapshot."), method == "service.control":
		return n.opts.Release == "25.10"
	}
	return true
}

// find returns the row whose member has the value.
func (n *NAS) find(table, member string, value any) (object, int) {
	for i, row := range n.tables[table] {
		if fmt.Sprint(row[member]) == fmt.Sprint(value) {
			return row, i
		}
	}
	return nil, -1
}
