package gateway

import (
	"fmt"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/downstream"
)

// EndpointStatus is the state of one endpoint of a downstream that has several. What is not known is null.
type EndpointStatus struct {
	URL          string     `json:"url"`
	State        string     `json:"state"` // ok, failing or ejected
	EjectedUntil *time.Time `json:"ejected_until"`
	RetryAfterMS *int64     `json:"retry_after_ms"`
	InFlight     int        `json:"in_flight"`
	Sessions     int        `json:"sessions"`
	Calls        uint64     `json:"calls"`
	Failures     uint64     `json:"failures"`
	InARow       int        `json:"consecutive_failures"`
	LastError    *string    `json:"last_error"`
}

func endpointsOf(s *downstream.Status, now time.Time) []EndpointStatus {
	var list []EndpointStatus
	for _, e := range s.Endpoints {
		one := EndpointStatus{URL: e.URL, State: "ok", InFlight: e.Pending, Sessions: e.Sessions, Calls: e.Calls, Failures: e.Failures, InARow: e.InARow}
		if e.LastError != "" {
			one.LastError = &e.LastError
		}
		switch {
		case e.Ejected:
			one.State, one.EjectedUntil = "ejected", utc(e.EjectedUntil)
			one.RetryAfterMS = new(max(e.EjectedUntil.Sub(now).Milliseconds(), 0))
		case e.InARow > 0:
			one.State = "failing"
		}
		list = append(list, one)
	}
	return list
}

// text says one endpoint in words.
func (e *EndpointStatus) text(b *strings.Builder) {
	fmt.Fprintf(b, "\n  endpoint %s: %s", e.URL, e.State)
	if e.RetryAfterMS != nil {
		fmt.Fprintf(b, " for %s", (time.Duration(*e.RetryAfterMS) * time.Millisecond).Round(100*time.Millisecond))
	}
	fmt.Fprintf(b, ", %d calls, %d failures, %d in flight, %d sessions", e.Calls, e.Failures, e.InFlight, e.Sessions)
	if e.LastError != nil && e.InARow > 0 {
		fmt.Fprintf(b, ", last error: %s", *e.LastError)
	}
}
