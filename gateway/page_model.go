package gateway

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/resilience"
)

// pageModel is what the status page shows at one moment. It holds no secrets: all texts come from what circuit_status says.
type pageModel struct {
	Time     time.Time
	Version  string
	Summary  Summary
	Cards    []pageCard
	Errors   []pageError
	Sessions []pageFact
	Admin    bool // circuits may be changed by hand
}

// pageFact is a number with a name.
type pageFact struct{ Name, Value string }

// pageError is one failed attempt.
type pageError struct {
	Time                       time.Time
	Name, Tool, Class, Message string
}

// pageCard is one downstream.
type pageCard struct {
	Name, Transport, Protocol string
	Is                        condition
	Word                      string // of Is, for people
	Since                     time.Time
	Mode                      string // "" for enforce
	RetryAt                   *time.Time
	LastError                 string
	LastErrorAt               *time.Time
	Facts                     []pageFact
	Problems                  []string
	Tools                     []pageCircuit
	Timeline                  []pageSegment
	Spark                     string // points of the latency line; "" without calls
	SparkText                 string
	Policy                    []pageFact
	Circuit                   string // name, for the buttons
	Closed                    bool
}

// pageCircuit is the circuit of one tool.
type pageCircuit struct{ Tool, State string }

// pageSegment is a time in one condition, in thousandths of the timeline.
type pageSegment struct {
	X, Width float64
	Is       condition
	Text     string
}

var conditionWords = map[condition]string{
	conditionOK: "works", conditionStarting: "starting", conditionTrial: "on trial", conditionOpen: "circuit open", conditionIsolated: "isolated",
	conditionAway: "away", conditionStopped: "stopped",
}

const pageErrors = 20

// page collects what the status page shows.
func (g *Gateway) page() *pageModel {
	st := g.Status()
	g.mu.Lock()
	targets := map[string]*target{}
	for _, tg := range g.targets {
		targets[tg.name] = tg
	}
	g.mu.Unlock()
	settings := g.settings.Load()
	m := &pageModel{Time: st.Time, Version: g.opts.Version, Summary: st.Summary, Admin: settings.Gateway.AdminTools}
	circuits := map[string][]*resilience.CircuitStatus{}
	for i := range st.Circuits {
		circuits[st.Circuits[i].Dependency] = append(circuits[st.Circuits[i].Dependency], &st.Circuits[i])
	}
	for i := range st.Downstreams {
		d := &st.Downstreams[i]
		tg := targets[d.Name]
		own := circuits[d.Name]
		if tg == nil || len(own) == 0 {
			continue
		}
		m.Cards = append(m.Cards, g.card(st.Time, d, tg, own, settings.policiesOf(d.Name)))
		for _, e := range tg.policy.guard.Errors().Recent {
			m.Errors = append(m.Errors, pageError{Time: e.Time, Name: d.Name, Tool: e.Key, Class: e.Class, Message: e.Message})
		}
	}
	// What needs a look stands first; the rest is sorted by name.
	slices.SortStableFunc(m.Cards, func(a, b pageCard) int { return cmp.Compare(rankOf(b.Is), rankOf(a.Is)) })
	slices.SortStableFunc(m.Errors, func(a, b pageError) int { return b.Time.Compare(a.Time) })
	m.Errors = m.Errors[:min(len(m.Errors), pageErrors)]
	m.Sessions = []pageFact{
		{"HTTP sessions", strconv.Itoa(g.sessions.len())},
		{"stdio sessions", strconv.Itoa(g.stdio.len())},
		{"open streams", strconv.FormatInt(g.streams.Load(), 10)},
		{"requests in flight", strconv.Itoa(g.work.Len())},
	}
	return m
}

// card describes one downstream; circuits are its own and then those of its tools.
func (g *Gateway) card(now time.Time, d *DownstreamStatus, tg *target, circuits []*resilience.CircuitStatus, p Policies) pageCard {
	own := circuits[0]
	c := pageCard{
		Name: d.Name, Transport: d.Transport, Is: conditionOf(tg.server.Status().State, own), Since: d.Since, Circuit: own.Name,
		Problems: d.Problems, Policy: policyFacts(&p), Closed: own.State == "closed",
	}
	if preset := tg.server.Config().Preset; preset != "" {
		c.Transport += " " + preset
	}
	if d.Protocol != nil {
		c.Protocol = *d.Protocol
	}
	c.Word = conditionWords[c.Is]
	if own.Mode != "enforce" {
		c.Mode = own.Mode
	}
	switch c.Is {
	case conditionOpen, conditionTrial, conditionIsolated:
		c.Since, c.RetryAt = own.StateSince, own.NextAttemptAt
	default:
		c.RetryAt = d.NextAttemptAt
	}
	if d.LastError != nil {
		c.LastError, c.LastErrorAt = *d.LastError, d.LastErrorAt
	}
	if own.LastFailure != nil && (c.LastErrorAt == nil || own.LastFailure.After(*c.LastErrorAt)) {
		c.LastErrorAt = own.LastFailure
		c.LastError = strings.Trim(deref(own.LastFailureType)+": "+deref(own.LastFailureMessage), ": ")
	}
	changes, samples := g.history.past(d.Name)
	c.Timeline = timeline(now, changes)
	c.Spark, c.SparkText = sparkline(samples)
	c.Facts = cardFacts(now, d, own, samples)
	for _, k := range circuits[1:] {
		if k.State != "closed" && k.Key != nil {
			c.Tools = append(c.Tools, pageCircuit{*k.Key, k.State})
		}
	}
	return c
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// cardFacts are the numbers of a card.
func cardFacts(now time.Time, d *DownstreamStatus, own *resilience.CircuitStatus, samples []sample) []pageFact {
	var calls, failures uint64
	var took counts
	for _, s := range samples {
		if now.Sub(s.at) < time.Minute {
			calls, failures, took = calls+s.calls, failures+s.failures, took.plus(s.took)
		}
	}
	facts := []pageFact{{"calls / min", strconv.FormatUint(calls, 10)}, {"failed / min", strconv.FormatUint(failures, 10)}}
	if p95 := took.quantile(0.95); p95 > 0 {
		facts = append(facts, pageFact{"p50", shortTime(took.quantile(0.5))}, pageFact{"p95", shortTime(p95)})
	}
	if b := own.Bulkhead; b != nil {
		facts = append(facts, pageFact{"in flight", fmt.Sprintf("%d of %d", b.InFlight, b.MaxConcurrent)}, pageFact{"queued", fmt.Sprintf("%d of %d", b.Queued, b.MaxQueued)})
	} else {
		facts = append(facts, pageFact{"in flight", strconv.Itoa(d.InFlight)})
	}
	if own.Rejected > 0 {
		facts = append(facts, pageFact{"refused", strconv.FormatUint(own.Rejected, 10)})
	}
	facts = append(facts, pageFact{"tools", strconv.Itoa(d.Tools)})
	if d.CatalogAgeMS != nil {
		age := shortTime((time.Duration(*d.CatalogAgeMS) * time.Millisecond).Truncate(10 * time.Second))
		if age += " ago"; d.CatalogStale {
			age += ", stale"
		}
		facts = append(facts, pageFact{"listed", age})
	}
	return facts
}

func shortTime(d time.Duration) string {
	switch {
	case d >= time.Hour:
		return fmt.Sprintf("%.0f h", d.Hours())
	case d >= time.Minute:
		return fmt.Sprintf("%.0f min", d.Minutes())
	case d >= 10*time.Second || d == 0:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d >= time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d >= 10*time.Millisecond:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}

// timeline cuts the last hours into segments.
func timeline(now time.Time, changes []change) []pageSegment {
	const width = 1000.0
	begin := now.Add(-historySpan)
	at := func(t time.Time) float64 {
		return min(max(float64(t.Sub(begin))/float64(historySpan)*width, 0), width)
	}
	var list []pageSegment
	for i, c := range changes {
		end := now
		if i+1 < len(changes) {
			end = changes[i+1].at
		}
		if end.Before(begin) {
			continue
		}
		x := at(c.at)
		// A short outage must be seen too.
		s := pageSegment{X: x, Width: max(at(end)-x, 2), Is: c.is, Text: fmt.Sprintf("%s from %s for %s", conditionWords[c.is],
			c.at.UTC().Format("15:04:05 UTC"), shortTime(end.Sub(c.at)))}
		list = append(list, s)
	}
	// Bad times are drawn last, so that no good one hides them.
	slices.SortStableFunc(list, func(a, b pageSegment) int { return cmp.Compare(badness(a.Is), badness(b.Is)) })
	return list
}

// rankOf is 0 for a card that needs no look.
func rankOf(c condition) int { return max(badness(c)-badness(conditionStarting), 0) }

func badness(c condition) int {
	return slices.Index([]condition{conditionStopped, conditionOK, conditionStarting, conditionTrial, conditionIsolated, conditionAway, conditionOpen}, c)
}

// sparkline draws the p95 latency of the last hour into a box of 240 × 40, and says it in words.
func sparkline(samples []sample) (points, text string) {
	const width, height = 240.0, 40.0
	highest, last := time.Duration(0), time.Duration(0)
	for _, s := range samples {
		highest = max(highest, s.took.quantile(0.95))
	}
	if highest == 0 {
		return "", ""
	}
	var b strings.Builder
	first := historySamples - len(samples)
	for i, s := range samples {
		p95 := s.took.quantile(0.95)
		if p95 == 0 {
			continue
		}
		last = p95
		fmt.Fprintf(&b, "%.1f,%.1f ", float64(first+i)/historySamples*width, height-2-float64(p95)/float64(highest)*(height-4))
	}
	return strings.TrimSpace(b.String()), fmt.Sprintf("p95 latency of the last hour: now %s, at most %s", shortTime(last), shortTime(highest))
}
