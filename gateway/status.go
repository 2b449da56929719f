package gateway

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
	"github.com/mcpgw/mcpgw/resilience"
)

// Status is what circuit_status reports.
type Status struct {
	Time        time.Time          `json:"time"`
	Downstreams []DownstreamStatus `json:"downstreams"`
	// Circuits are those that guard the downstreams, and those of single tools where these have one.
	Circuits []resilience.CircuitStatus `json:"circuits"`
	Summary  Summary                    `json:"summary"`
	Errors   *ErrorStatus               `json:"errors,omitempty"` // in circuit_metrics only
}

// ErrorStatus is what is remembered of failed attempts.
type ErrorStatus struct {
	Total  uint64                       `json:"total"`
	By     map[string]uint64            `json:"by"` // class or tool, as error_tracking.classify_by says
	ByName map[string]resilience.Errors `json:"downstreams"`
}

// Summary counts what is in a Status.
type Summary struct {
	Total    int    `json:"total"` // downstreams
	Ready    int    `json:"ready"`
	Circuits int    `json:"circuits"`
	Closed   int    `json:"closed"`
	Open     int    `json:"open"`
	HalfOpen int    `json:"half_open"`
	Isolated int    `json:"isolated"`
	Disabled int    `json:"disabled"`
	Rejected uint64 `json:"rejected"` // calls that circuits refused
	// Health is "healthy" when every downstream is ready and no circuit refuses calls, "unhealthy" when no downstream can be used, and
	// "degraded" in between.
	Health string `json:"health"`
}

// DownstreamStatus is the state of one downstream. What is not known is null.
type DownstreamStatus struct {
	Name          string     `json:"name"`
	State         string     `json:"state"` // starting, ready, reconnecting, stopped
	Since         time.Time  `json:"since"` // of State
	Transport     string     `json:"transport"`
	Protocol      *string    `json:"protocol"`
	LastError     *string    `json:"last_error"`
	LastErrorAt   *time.Time `json:"last_error_at"`
	LastOK        *time.Time `json:"last_success"`
	NextAttemptAt *time.Time `json:"next_attempt_at"`
	RetryAfterMS  *int64     `json:"retry_after_ms"`
	Attempts      int        `json:"failed_attempts"`
	Tools         int        `json:"tools"`
	Prompts       int        `json:"prompts"`
	Resources     int        `json:"resources"`
	CatalogAgeMS  *int64     `json:"catalog_age_ms"`
	CatalogStale  bool       `json:"catalog_stale"` // the lists are the last known ones of a server that is away
	ListBytes     int        `json:"list_bytes"`    // of its tools in tools/list
	InFlight      int        `json:"in_flight"`
	Sessions      int        `json:"sessions"` // open sessions that belong to one client each
	Problems      []string   `json:"problems"`

	Endpoints []EndpointStatus `json:"endpoints"` // of a server that has several; null for others
}

// Status reports the state of every downstream, sorted by name. It takes no lock that is held across a call.
func (g *Gateway) Status() Status {
	g.mu.Lock()
	targets := g.sortedTargets()
	g.mu.Unlock()
	st := Status{Time: time.Now().UTC().Round(0), Downstreams: make([]DownstreamStatus, 0, len(targets)), Circuits: []resilience.CircuitStatus{}}
	for _, tg := range targets {
		st.Downstreams = append(st.Downstreams, tg.status(st.Time))
		st.Circuits = append(st.Circuits, tg.policy.guard.Snapshot()...)
	}
	st.summarize()
	return st
}

// Clashes lists the names and URIs that the gateway changed to keep things of different downstreams apart.
func (g *Gateway) Clashes() []string { return g.view.Load().all.clashes }

// summarize sums up the very lists that are shown.
func (st *Status) summarize() {
	c := resilience.Summarize(st.Circuits)
	st.Summary = Summary{
		Total: len(st.Downstreams), Circuits: c.Total, Closed: c.Closed, Open: c.Open, HalfOpen: c.HalfOpen, Isolated: c.Isolated,
		Disabled: c.Disabled, Rejected: c.Rejected, Health: "degraded",
	}
	refusing := map[string]bool{}
	for i := range st.Circuits {
		if k := &st.Circuits[i]; k.Key == nil && k.Mode == "enforce" && (k.State == "open" || k.State == "isolated") {
			refusing[k.Dependency] = true
		}
	}
	usable := 0
	for _, d := range st.Downstreams {
		if d.State != string(downstream.Ready) {
			continue
		}
		st.Summary.Ready++
		if !refusing[d.Name] {
			usable++
		}
	}
	switch {
	case usable == st.Summary.Total && c.Open+c.Isolated+c.HalfOpen == 0:
		st.Summary.Health = "healthy"
	case usable == 0 && st.Summary.Total > 0:
		st.Summary.Health = "unhealthy"
	}
}

func (tg *target) status(now time.Time) DownstreamStatus {
	s, cat, cfg := tg.server.Status(), tg.server.Catalog(), tg.server.Config()
	d := DownstreamStatus{
		Name: tg.name, State: string(s.State), Since: s.Since.UTC(), Transport: cfg.Kind(), Attempts: s.Attempt,
		Tools: len(cat.Lists[downstream.Tools].Items), Prompts: len(cat.Lists[downstream.Prompts].Items),
		Resources: len(cat.Lists[downstream.Resources].Items), InFlight: s.InFlight, Sessions: s.Sessions,
		CatalogStale: cat.Revision != "" && s.State != downstream.Ready, Problems: append([]string{}, cat.Problems...),
	}
	d.Endpoints = endpointsOf(&s, now)
	if cat.Revision != "" {
		d.Protocol = &cat.Revision
	}
	if s.LastError != "" {
		d.LastError, d.LastErrorAt = &s.LastError, utc(s.LastErrAt)
	}
	d.LastOK, d.NextAttemptAt = utc(s.LastOK), utc(s.NextTry)
	if d.NextAttemptAt != nil {
		ms := max(s.NextTry.Sub(now).Milliseconds(), 0)
		d.RetryAfterMS = &ms
	}
	for k := range cat.Lists {
		if at := cat.Lists[k].At; !at.IsZero() {
			age := max(now.Sub(at).Milliseconds(), 0)
			if d.CatalogAgeMS == nil || age > *d.CatalogAgeMS {
				d.CatalogAgeMS = &age
			}
		}
	}
	for _, it := range cat.Lists[downstream.Tools].Items {
		d.ListBytes += len(it.Raw)
	}
	return d
}

func utc(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func textContent(text string) json.RawMessage {
	return append(wire.AppendString([]byte(`[{"type":"text","text":`), text), '}', ']')
}

// ownResult gives a result of the gateway itself what the client's revision wants.
func (g *Gateway) ownResult(r *request, raw json.RawMessage) answer {
	if r.modern {
		raw = wire.Edit(raw, wire.Member{Key: "resultType", Value: json.RawMessage(`"complete"`)},
			wire.Member{Key: "_meta", Value: wire.Set(nil, downstream.MetaServerInfo, g.info)})
	}
	return whole(raw)
}

// Text says the status in words, one line for each downstream.
func (st *Status) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d servers ready (%s)\n", st.Summary.Ready, st.Summary.Total, st.Summary.Health)
	circuits := map[string][]*resilience.CircuitStatus{}
	for i := range st.Circuits {
		c := &st.Circuits[i]
		circuits[c.Dependency] = append(circuits[c.Dependency], c)
	}
	for _, d := range st.Downstreams {
		fmt.Fprintf(&b, "%s: %s since %s", d.Name, d.State, d.Since.Format(time.RFC3339))
		fmt.Fprintf(&b, ", %s", d.Transport)
		if d.Protocol != nil {
			fmt.Fprintf(&b, " %s", *d.Protocol)
		}
		fmt.Fprintf(&b, ", %d tools, %d prompts, %d resources", d.Tools, d.Prompts, d.Resources)
		if d.CatalogAgeMS != nil {
			fmt.Fprintf(&b, ", listed %s ago", (time.Duration(*d.CatalogAgeMS) * time.Millisecond).Round(time.Second))
		}
		if d.CatalogStale {
			b.WriteString(" (stale: the server is away)")
		}
		if d.LastOK != nil {
			fmt.Fprintf(&b, ", last success %s", d.LastOK.Format(time.RFC3339))
		}
		if d.LastError != nil {
			fmt.Fprintf(&b, ", last error %s: %s", d.LastErrorAt.Format(time.RFC3339), *d.LastError)
		}
		if d.RetryAfterMS != nil {
			fmt.Fprintf(&b, ", next attempt in %s", (time.Duration(*d.RetryAfterMS) * time.Millisecond).Round(100*time.Millisecond))
		}
		for i := range d.Endpoints {
			d.Endpoints[i].text(&b)
		}
		for _, p := range d.Problems {
			fmt.Fprintf(&b, "\n  problem: %s", p)
		}
		for _, c := range circuits[d.Name] {
			b.WriteString("\n  ")
			circuitText(&b, c)
		}
		b.WriteByte('\n')
	}
	if st.Errors != nil {
		st.Errors.text(&b)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
