package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/internal/wire"
	"github.com/mcpgw/mcpgw/resilience"
)

// The gateway's own tools. They answer from memory, whatever else hangs, and pass no policy.
const (
	circuitStatus  = "circuit_status"
	circuitMetrics = "circuit_metrics"
	circuitControl = "circuit_control"
)

// ownTools are what the gateway offers beside the tools of the downstreams.
func ownTools(cfg *Config) []gatewayTool {
	tools := []gatewayTool{{circuitStatus, circuitStatusTool}, {circuitMetrics, circuitMetricsTool}}
	if cfg.AdminTools {
		tools = append(tools, gatewayTool{circuitControl, circuitControlTool})
	}
	return tools
}

// ownTool returns what answers a tool of the gateway itself; nil if it has none of the name.
func (g *Gateway) ownTool(name string) func(*request) (answer, error) {
	switch {
	case name == circuitStatus:
		return func(r *request) (answer, error) { return g.reportCircuits(r, false) }
	case name == circuitMetrics:
		return func(r *request) (answer, error) { return g.reportCircuits(r, true) }
	case name == circuitControl && g.settings.Load().Gateway.AdminTools:
		return g.controlCircuit
	}
	return nil
}

// reportCircuits answers circuit_status and circuit_metrics. Text and structured content say the same: some clients show a model only one
// of them.
func (g *Gateway) reportCircuits(r *request, metrics bool) (answer, error) {
	args := r.params.Get("arguments")
	if args != nil && !wire.IsObject(args) && string(args) != "null" {
		return answer{}, errInvalid("%s: arguments must be an object", circuitStatus)
	}
	name, byName := wire.GetString(args, "name")
	state, byState := wire.GetString(args, "state")
	st := g.Status()
	known := st.keep(name, byName, "", false)
	if byName && !known {
		text := fmt.Sprintf("There is no server or circuit %q. Call circuit_status without name to see all of them.", name)
		return g.ownResult(r, wire.Edit(nil, wire.Member{Key: "content", Value: textContent(text)}, wire.Member{Key: "isError", Value: json.RawMessage("true")})), nil
	}
	st.keep("", false, state, byState)
	st.summarize()
	if metrics || string(wire.Get(args, "verbose")) == "true" {
		st.Errors = g.errorStatus(&st)
	}
	facts, err := json.Marshal(&st)
	if err != nil {
		return answer{}, fmt.Errorf("encoding the status: %w", err)
	}
	return g.ownResult(r, wire.Edit(nil, wire.Member{Key: "content", Value: textContent(st.Text())}, wire.Member{Key: "structuredContent", Value: facts})), nil
}

// keep leaves in st what is named so or is in a state: a downstream or one of its circuits. It reports whether anything is left.
func (st *Status) keep(name string, byName bool, state string, byState bool) bool {
	here := map[string]bool{}  // downstreams that stay, because of themselves or of a circuit
	whole := map[string]bool{} // those all of whose circuits stay
	for _, d := range st.Downstreams {
		if (!byName || d.Name == name) && (!byState || d.State == state) {
			here[d.Name], whole[d.Name] = true, true
		}
	}
	st.Circuits = slices.DeleteFunc(st.Circuits, func(c resilience.CircuitStatus) bool {
		stays := whole[c.Dependency] || (!byName || c.Name == name) && (!byState || c.State == state)
		here[c.Dependency] = here[c.Dependency] || stays
		return !stays
	})
	st.Downstreams = slices.DeleteFunc(st.Downstreams, func(d DownstreamStatus) bool { return !here[d.Name] })
	return len(st.Downstreams) > 0
}

// latestErrors is how many errors of each downstream a report shows.
const latestErrors = 10

// errorStatus returns what is remembered of failed attempts at the downstreams of st.
func (g *Gateway) errorStatus(st *Status) *ErrorStatus {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := &ErrorStatus{By: map[string]uint64{}, ByName: map[string]resilience.Errors{}}
	for _, d := range st.Downstreams {
		tg := g.targets[d.Name]
		if tg == nil {
			continue
		}
		e := tg.policy.guard.Errors()
		e.Recent = append([]resilience.ErrorRecord{}, e.Recent[max(0, len(e.Recent)-latestErrors):]...)
		all.Total += e.Total
		for k, n := range e.By {
			all.By[k] += n
		}
		all.ByName[d.Name] = e
	}
	return all
}

func (e *ErrorStatus) text(b *strings.Builder) {
	fmt.Fprintf(b, "%d failed attempts", e.Total)
	for _, k := range slices.Sorted(maps.Keys(e.By)) {
		fmt.Fprintf(b, ", %s: %d", k, e.By[k])
	}
	for _, name := range slices.Sorted(maps.Keys(e.ByName)) {
		for _, r := range e.ByName[name].Recent {
			fmt.Fprintf(b, "\n  %s %s", r.Time.Format(time.RFC3339), name)
			if r.Key != "" {
				fmt.Fprintf(b, " %s", r.Key)
			}
			fmt.Fprintf(b, " %s: %s", r.Class, r.Message)
		}
	}
	b.WriteByte('\n')
}

// circuitText says one circuit in words.
func circuitText(b *strings.Builder, c *resilience.CircuitStatus) {
	fmt.Fprintf(b, "circuit '%s'", c.Name)
	if c.Key != nil {
		fmt.Fprintf(b, " of tool %s", *c.Key)
	}
	fmt.Fprintf(b, ": %s since %s", c.State, c.StateSince.Format(time.RFC3339))
	if c.Mode != "enforce" {
		fmt.Fprintf(b, " (mode %s: it refuses nothing)", c.Mode)
	}
	if c.RetryAfterMS > 0 {
		fmt.Fprintf(b, ", retry after %s", (time.Duration(c.RetryAfterMS) * time.Millisecond).Round(time.Second/10))
	}
	if h := c.HalfOpen; h != nil {
		fmt.Fprintf(b, ", trials: %d of %d successes, %d of %d in flight", h.Successes, h.Required, h.InFlight, h.MaxCalls)
	}
	fmt.Fprintf(b, ", %d failures and %d successes in the window, %d failures in a row", c.Failures, c.Successes, c.ConsecutiveFailures)
	if c.LastFailure != nil && c.LastFailureType != nil {
		fmt.Fprintf(b, ", last failure %s (%s", c.LastFailure.Format(time.RFC3339), *c.LastFailureType)
		if c.LastFailureMessage != nil && *c.LastFailureMessage != "" {
			fmt.Fprintf(b, ": %s", *c.LastFailureMessage)
		}
		b.WriteByte(')')
	}
	if n := c.Counters; n != nil && n.Fallbacks > 0 {
		fmt.Fprintf(b, ", %d fallbacks tried, which answered %d calls", n.Fallbacks, n.Rescued)
	}
	if c.Rejected > 0 {
		fmt.Fprintf(b, ", %d calls refused", c.Rejected)
	}
	if u := c.Bulkhead; u != nil && (u.InFlight > 0 || u.Queued > 0) {
		fmt.Fprintf(b, ", %d of %d calls in flight, %d of %d queued", u.InFlight, u.MaxConcurrent, u.Queued, u.MaxQueued)
	}
}

// CircuitStatus is one circuit at one moment.
type CircuitStatus = resilience.CircuitStatus

// ErrNoCircuit is returned by Control for a circuit that does not exist.
var ErrNoCircuit = resilience.ErrNoCircuit

// errUnknownAction is returned by Control for an action that does not exist.
var errUnknownAction = errors.New("unknown action")

// actions are what can be done to a circuit by hand.
var actions = []resilience.Action{
	resilience.ActionOpen, resilience.ActionClose, resilience.ActionReset, resilience.ActionIsolate, resilience.ActionDisable, resilience.ActionProbe,
}

// Control does something by hand to the circuit of a name, which is that of the circuit or of its downstream, and returns what has become of
// it. who is for the log.
func (g *Gateway) Control(name, action, who string) (resilience.CircuitStatus, error) {
	var none resilience.CircuitStatus
	do := resilience.Action(action)
	if !slices.Contains(actions, do) {
		return none, fmt.Errorf("action: expected one of open, close, reset, isolate, disable, probe, found %q: %w", action, errUnknownAction)
	}
	g.mu.Lock()
	targets := g.sortedTargets()
	g.mu.Unlock()
	for _, tg := range targets {
		for i, c := range tg.policy.guard.Snapshot() {
			if c.Name != name && !(i == 0 && tg.name == name) {
				continue
			}
			key := ""
			if c.Key != nil {
				key = *c.Key
			}
			if err := tg.policy.guard.Control(key, do); err != nil {
				return none, err
			}
			tg.policy.nudge()
			g.log.Warn("circuit changed by hand", "downstream", tg.name, "circuit", c.Name, "action", action, "by", who)
			g.obs.controlled(context.Background(), who, tg.name, c.Name, action)
			for _, now := range tg.policy.guard.Snapshot() {
				if now.Name == c.Name {
					return now, nil
				}
			}
			return none, fmt.Errorf("circuit %q: %w", name, ErrNoCircuit) // its tool has just gone
		}
	}
	return none, fmt.Errorf("circuit %q: %w", name, ErrNoCircuit)
}

// controlCircuit answers circuit_control.
func (g *Gateway) controlCircuit(r *request) (answer, error) {
	args := r.params.Get("arguments")
	name, _ := wire.GetString(args, "name")
	action, _ := wire.GetString(args, "action")
	c, err := g.Control(name, action, r.principal)
	if err != nil {
		text := fmt.Sprintf("Nothing was changed: %v. circuit_status lists the circuits.", err)
		return g.ownResult(r, wire.Edit(nil, wire.Member{Key: "content", Value: textContent(text)}, wire.Member{Key: "isError", Value: json.RawMessage("true")})), nil
	}
	facts, err := json.Marshal(map[string]any{"action": action, "circuit": &c})
	if err != nil {
		return answer{}, fmt.Errorf("encoding the status: %w", err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Done: %s.\n", action)
	circuitText(&b, &c)
	return g.ownResult(r, wire.Edit(nil, wire.Member{Key: "content", Value: textContent(b.String())}, wire.Member{Key: "structuredContent", Value: facts})), nil
}
