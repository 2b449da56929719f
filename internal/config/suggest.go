package config

import (
	"reflect"
	"slices"
	"strings"
)

// spoken are the words that other programs' files use for our keys.
var spoken = map[string]string{
	"mcpservers": "downstreams", "servers": "downstreams", "upstreams": "downstreams", "backends": "downstreams",
	"cmd": "command", "environment": "env", "cwd": "dir", "serverurl": "url", "endpoint": "url", "type": "transport",
	"port": "listen", "address": "listen", "logging": "telemetry",
}

// suggest returns the one of known that was probably meant by got, or "".
func suggest(got string, known []string) string {
	plain := fold(got)
	for _, k := range known {
		if fold(k) == plain {
			return k
		}
	}
	if k := spoken[plain]; slices.Contains(known, k) {
		return k
	}
	best, most := "", 1+len(got)/4
	for _, k := range known {
		// One that shares hardly anything with a short word is no suggestion.
		if n := distance(strings.ToLower(got), k); n <= most && n < len(k) {
			best, most = k, n-1
		}
	}
	return best
}

// fold makes maxCall, max-call and max_call equal.
func fold(s string) string {
	return strings.NewReplacer("_", "", "-", "", " ", "").Replace(strings.ToLower(s))
}

// distance counts the letters to insert, remove, replace or swap with their neighbour to make b of a. Above 64 letters it only
// says that there are many.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := func() []int { return make([]int, len(b)+1) }
	two, one, now := row(), row(), row()
	for j := range one {
		one[j] = j
	}
	for i := range len(a) {
		now[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			now[j+1] = min(one[j+1]+1, now[j]+1, one[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				now[j+1] = min(now[j+1], two[j-1]+1)
			}
		}
		two, one, now = one, now, two
	}
	return one[len(b)]
}

// elsewhere returns the path of the section in which key is known, if there is exactly one: keys are often put one level too high.
// Sections inside lists and maps have no fixed path and are not looked at.
func elsewhere(key string) string {
	var found []string
	var walk func(t reflect.Type, path string)
	walk = func(t reflect.Type, path string) {
		for _, f := range fieldsOf(t) {
			if f.key == key {
				found = append(found, path)
			}
			if f.typ.Kind() == reflect.Struct {
				walk(f.typ, join(path, f.key))
			}
		}
	}
	walk(reflect.TypeFor[document](), "")
	if len(found) != 1 {
		return ""
	}
	return found[0]
}
