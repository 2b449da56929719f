package gateway

import (
	"fmt"
	"strconv"
	"strings"
)

// statusMeaning is what the configuration says of an HTTP status.
type statusMeaning int

const (
	statusFailure  statusMeaning = iota + 1 // the server does not work
	statusPushback                          // it did not act and wants to be asked later
	statusIgnored                           // neither
)

// statuses reads the lists of statuses. A status may be in one of them only.
func (c *Classification) statuses() (map[int]statusMeaning, error) {
	out := map[int]statusMeaning{}
	where := map[int]string{}
	for _, l := range []struct {
		key     string
		list    []string
		meaning statusMeaning
	}{
		{"failure_statuses", c.FailureStatuses, statusFailure},
		{"pushback_statuses", c.PushbackStatuses, statusPushback},
		{"ignored_statuses", c.IgnoredStatuses, statusIgnored},
	} {
		for i, text := range l.list {
			path := fmt.Sprintf("classification.%s[%d]", l.key, i)
			from, to, err := statusRange(text)
			if err != nil {
				return nil, fieldError(path, "%v", err)
			}
			for n := from; n <= to; n++ {
				if other, twice := where[n]; twice && other != l.key {
					return nil, fieldError(path, "%d is in %s too", n, other)
				}
				where[n], out[n] = l.key, l.meaning
			}
		}
	}
	return out, nil
}

// statusRange reads "503" and "595-599".
func statusRange(s string) (from, to int, err error) {
	low, high, ranged := strings.Cut(strings.TrimSpace(s), "-")
	if !ranged {
		high = low
	}
	from, err1 := strconv.Atoi(low)
	to, err2 := strconv.Atoi(high)
	if err1 != nil || err2 != nil || from < 300 || to > 599 || from > to {
		return 0, 0, fmt.Errorf("expected an HTTP status or a range of them from 300 to 599, such as 503 or 595-599, found %q", s)
	}
	return from, to, nil
}
