package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/resilience"
)

// Policies is what guards the calls to one downstream. It is a plain value, never changed after Validate.
type Policies struct {
	resilience.Config
	Classification Classification
	// Fallback is what answers when the downstream does not, in order.
	Fallback []Fallback
	// Tools holds what is different for some tools, by the downstream's own name of the tool or a pattern of names. What a downstream
	// has only once (bulkhead, rate limit, retry budget, prober, error tracking) is that of Config all the same.
	Tools map[string]resilience.Config
}

// DefaultPolicies returns the policies of a downstream for which nothing is configured.
func DefaultPolicies() Policies {
	return Policies{Config: resilience.DefaultConfig(), Classification: DefaultClassification()}
}

// Classification says what the answers of a downstream mean, where the protocol leaves it open.
type Classification struct {
	TrustAnnotations  bool     `yaml:"trust_annotations" default:"false" doc:"Believe the hints of this server's tools (readOnlyHint, idempotentHint), so that such calls may be repeated after they were sent."`
	ToolErrorPatterns Patterns `yaml:"tool_error_patterns" enum:"off|pforge" doc:"Results with isError whose text means that the server, or what is behind it, does not work: a list of patterns, or pforge for those of the pforge guide (timeouts, refused connections, rate limits, unavailable services), or off. The result reaches the client unchanged."`
	RPCFailureCodes   []int    `yaml:"rpc_failure_codes" doc:"JSON-RPC error codes that mean that the server does not work, such as -32000."`
	FailureStatuses   []string `yaml:"failure_statuses" doc:"HTTP statuses, or ranges such as 595-599, that mean that the server does not work, besides 408 and 500, 502 to 504."`
	PushbackStatuses  []string `yaml:"pushback_statuses" doc:"HTTP statuses by which the server says that it did not act and wants to be asked later, besides 429."`
	IgnoredStatuses   []string `yaml:"ignored_statuses" doc:"HTTP statuses that mean nothing for the circuit and are not worth another attempt."`
}

// DefaultClassification returns a Classification with every default filled in.
func DefaultClassification() Classification { return Classification{} }

// Pattern recognises a kind of failure in the text of a result with isError.
type Pattern struct {
	Match string `yaml:"match" doc:"Regular expression (RE2); upper and lower case are alike."`
	Class string `yaml:"class" default:"tool_error" doc:"Name of the kind of failure in logs and metrics."`
	// Breaker and Retry are texts rather than numbers so that the value is what the file says.
	Breaker string `yaml:"breaker" default:"failure" enum:"failure|ignored" doc:"What it means for the circuit of the tool."`
	Retry   string `yaml:"retry" default:"idempotent" enum:"idempotent|never" doc:"Whether the call may be repeated: idempotent repeats read-only and idempotent tools."`
}

// Patterns is a list of patterns, or a preset of them.
type Patterns []Pattern

// UnmarshalText implements encoding.TextUnmarshaler: it takes the name of a preset.
func (p *Patterns) UnmarshalText(text []byte) error {
	switch string(text) {
	case "off", "false":
		*p = nil
	case "pforge":
		*p = PforgePatterns()
	default:
		return fmt.Errorf("expected off, pforge or a list of patterns, found %q", text)
	}
	return nil
}

// PforgePatterns are the texts by which the pforge guide tells kinds of failures apart.
func PforgePatterns() Patterns {
	p := func(class, match, breaker string) Pattern {
		return Pattern{Match: match, Class: class, Breaker: breaker, Retry: "idempotent"}
	}
	return Patterns{
		p("rate_limit", `rate.?limit|too many requests|\b429\b`, "ignored"),
		p("timeout", `time(d)?.?out|deadline exceeded`, "failure"),
		p("service_unavailable", `service (temporarily )?unavailable|\b503\b`, "failure"),
		p("connection", `connection (refused|reset|closed|error|failed)|cannot connect`, "failure"),
	}
}

// DefaultPattern returns a Pattern with every default filled in.
func DefaultPattern() Pattern {
	return Pattern{Class: "tool_error", Breaker: "failure", Retry: "idempotent"}
}

// Admission bounds the calls that are on their way to all downstreams together.
type Admission struct {
	MaxInFlight  int           `yaml:"max_in_flight" default:"2048" doc:"Calls to all servers together, waiting in the queues of their servers included."`
	MaxQueued    int           `yaml:"max_queued" default:"1024" doc:"Further calls that wait for their turn, first come, first served. 0: none waits."`
	QueueTimeout time.Duration `yaml:"queue_timeout" default:"1s" doc:"Longest wait for the turn."`
}

// DefaultAdmission returns an Admission with every default filled in. It is far above what one downstream may hold (bulkhead and queue), so
// that several that hang do not fill it.
func DefaultAdmission() Admission {
	return Admission{MaxInFlight: 2048, MaxQueued: 1024, QueueTimeout: time.Second}
}

// probeMethods are what a prober can send.
var probeMethods = []string{"auto", "server/discover", "ping", "tools/list"}

// Validate reports every fault of p, joined, each a *[downstream.FieldError].
func (p *Policies) Validate() error {
	errs := []error{fieldErrors("", p.Config.Validate())}
	if m := p.CircuitBreaker.Probe.Method; m != "" && !slices.Contains(probeMethods, m) {
		errs = append(errs, fieldError("circuit_breaker.probe.method", "expected one of %s, found %q", strings.Join(probeMethods, ", "), m))
	}
	if _, err := compilePatterns(p.Classification.ToolErrorPatterns); err != nil {
		errs = append(errs, err)
	}
	if _, err := p.Classification.statuses(); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, validateFallbacks(p.Fallback))
	for _, pattern := range slices.Sorted(maps.Keys(p.Tools)) {
		cfg := p.Tools[pattern]
		if pattern == "" {
			errs = append(errs, fieldError("tools", "the name of a tool, or a pattern such as get_*, must not be empty"))
		}
		errs = append(errs, fieldErrors("tools."+pattern, cfg.Validate()))
	}
	return errors.Join(errs...)
}

// Warnings reports what is allowed but unusual. Call it on Policies that are valid. remote says that the downstream is another machine.
func (p *Policies) Warnings(remote bool) []*downstream.FieldError {
	warnings := asFields("", p.Config.Warnings())
	warn := func(path, format string, args ...any) {
		warnings = append(warnings, &downstream.FieldError{Path: path, Msg: fmt.Sprintf(format, args...)})
	}
	if p.Classification.TrustAnnotations && remote {
		warn("classification.trust_annotations", "a remote server decides by its hints which calls are made twice")
	}
	for i := range p.Fallback {
		if p.Fallback[i].Cache != nil && !p.knowsReadOnly() {
			warn(fmt.Sprintf("fallback[%d].cache", i), "keeps no results of tools: none of them is known to be read-only (safety, or classification.trust_annotations)")
		}
	}
	known := map[string]bool{}
	for _, w := range warnings {
		known[w.Path+w.Msg] = true
	}
	for _, pattern := range slices.Sorted(maps.Keys(p.Tools)) {
		cfg := p.Tools[pattern]
		for _, w := range asFields("", cfg.Warnings()) {
			if !known[w.Path+w.Msg] { // what the tool has from its downstream has been said
				warn("tools."+pattern+"."+w.Path, "%s", w.Msg)
			}
		}
		if cfg.CircuitBreaker.Scope == "downstream" && !reflect.DeepEqual(thresholds(&cfg), thresholds(&p.Config)) {
			warn("tools."+pattern+".circuit_breaker", "has no effect: with scope: downstream the thresholds are those of the whole server (scope: tool gives the tool a circuit of its own)")
		}
	}
	return warnings
}

// Warnings reports what is allowed but unusual, each with a path that starts at the top of gateway.yaml. Call it on Settings that are valid.
func (s *Settings) Warnings() []*downstream.FieldError {
	var all []*downstream.FieldError
	for _, name := range slices.Sorted(maps.Keys(s.Downstreams)) {
		cfg, p := s.Downstreams[name], s.policiesOf(name)
		path := "downstreams." + name + ".resilience."
		for _, w := range p.Warnings(cfg.Kind() == "http") {
			all = append(all, &downstream.FieldError{Path: path + w.Path, Msg: w.Msg})
		}
		if p.Enabled && p.Timeouts.Attempt > cfg.Timeouts.Call {
			all = append(all, &downstream.FieldError{
				Path: "downstreams." + name + ".timeouts.call", Msg: fmt.Sprintf("%s ends calls before resilience.timeouts.attempt (%s) does", cfg.Timeouts.Call, p.Timeouts.Attempt),
			})
		}
	}
	return all
}

// knowsReadOnly reports whether any tool can be known to change nothing.
func (p *Policies) knowsReadOnly() bool {
	if p.Classification.TrustAnnotations || p.Safety == "read_only" {
		return true
	}
	for _, cfg := range p.Tools {
		if cfg.Safety == "read_only" {
			return true
		}
	}
	return false
}

// thresholds is what a circuit of its own would have of its own.
func thresholds(c *resilience.Config) resilience.CircuitBreakerConfig {
	b := c.CircuitBreaker
	b.Enabled, b.Scope = true, "" // these two are looked at for each call
	return b
}

func asFields(prefix string, faults []*resilience.FieldError) []*downstream.FieldError {
	out := make([]*downstream.FieldError, 0, len(faults))
	for _, f := range faults {
		out = append(out, &downstream.FieldError{Path: prefix + f.Path, Msg: f.Msg})
	}
	return out
}

func fieldError(path, format string, args ...any) error {
	return &downstream.FieldError{Path: path, Msg: fmt.Sprintf(format, args...)}
}

// fieldErrors turns the faults that package resilience found into those of this package, with prefix before their paths.
func fieldErrors(prefix string, err error) error {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var errs []error
		for _, e := range many.Unwrap() {
			errs = append(errs, fieldErrors(prefix, e))
		}
		return errors.Join(errs...)
	}
	f, ok := errors.AsType[*resilience.FieldError](err)
	if !ok {
		return err
	}
	path := f.Path
	if prefix != "" {
		path = prefix + "." + path
	}
	return &downstream.FieldError{Path: path, Msg: f.Msg}
}

// Validate reports every fault of a, joined, each a *[downstream.FieldError].
func (a *Admission) Validate() error {
	var errs []error
	if a.MaxInFlight < 1 {
		errs = append(errs, fieldError("max_in_flight", "must be at least 1, found %d", a.MaxInFlight))
	}
	if a.MaxQueued < 0 {
		errs = append(errs, fieldError("max_queued", "must not be negative, found %d", a.MaxQueued))
	}
	if a.QueueTimeout < 0 || a.QueueTimeout == 0 && a.MaxQueued > 0 {
		errs = append(errs, fieldError("queue_timeout", "must be more than 0, found %s", a.QueueTimeout))
	}
	return errors.Join(errs...)
}

// forTool returns what is different for a tool: its own entry, or that of the longest pattern that matches, or of two as long ones the
// first in the alphabet. The star stands for any letters.
func (p *Policies) forTool(name string) (cfg resilience.Config, ok bool) {
	if cfg, ok = p.Tools[name]; ok {
		return cfg, true
	}
	best := ""
	for pattern := range p.Tools {
		if strings.Contains(pattern, "*") && matches(pattern, name) {
			if best == "" || cmp.Or(cmp.Compare(len(pattern), len(best)), cmp.Compare(best, pattern)) > 0 {
				best = pattern
			}
		}
	}
	if best == "" {
		return resilience.Config{}, false
	}
	return p.Tools[best], true
}

// matches reports whether name is pattern with each star replaced by some text.
func matches(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	rest, ok := strings.CutPrefix(name, parts[0])
	if !ok {
		return false
	}
	last := parts[len(parts)-1]
	for _, part := range parts[1 : len(parts)-1] {
		_, after, found := strings.Cut(rest, part)
		if !found {
			return false
		}
		rest = after
	}
	return strings.HasSuffix(rest, last)
}

// pattern is a Pattern made ready to use.
type pattern struct {
	match *regexp.Regexp
	out   resilience.Outcome
}

func compilePatterns(list []Pattern) ([]pattern, error) {
	var (
		out  []pattern
		errs []error
	)
	for i, p := range list {
		at := fmt.Sprintf("classification.tool_error_patterns[%d].", i)
		re, err := regexp.Compile("(?i)" + p.Match)
		switch {
		case p.Match == "":
			errs = append(errs, fieldError(at+"match", "must not be empty: it would match every error"))
		case err != nil:
			errs = append(errs, fieldError(at+"match", "not a regular expression: %v", err))
		}
		o := resilience.Outcome{Breaker: resilience.Failure, Retry: resilience.RetryIdempotent, Class: "tool_error", Sent: resilience.Answered, KeyOnly: true}
		if p.Class != "tool_error" {
			o.Class = "tool_error_" + p.Class
		}
		if p.Breaker == "ignored" {
			o.Breaker = resilience.Ignored
		}
		if p.Retry == "never" {
			o.Retry = resilience.RetryNever
		}
		out = append(out, pattern{re, o})
	}
	return out, errors.Join(errs...)
}

// policy is what guards the calls to one downstream. It outlives the Server where that is replaced by one for the same server, so that
// what is known of its health is not lost.
type policy struct {
	guard *resilience.Guard
	rules rulesPointer
	spare atomic.Pointer[spare] // the fallbacks; nil for none
	wake  chan struct{}         // something happened that the prober wants to know
	last  lastClass             // what the last failure was

	// Guarded by the gateway's mutex:
	applied Policies
	subs    map[string]*resilience.Guard // of the tools that have policies of their own
}

// newPolicy makes the policies of a downstream. p must be valid.
func (g *Gateway) newPolicy(name string, p Policies, cfg *downstream.Config) (*policy, error) {
	pol := &policy{wake: make(chan struct{}, 1), applied: p, subs: map[string]*resilience.Guard{}}
	if err := pol.setRules(&p, cfg); err != nil {
		return nil, err
	}
	pol.setSpare(&p)
	var err error
	pol.guard, err = resilience.NewGuard(name, p.Config, resilience.Options{
		Logger: g.log, Classifier: pol.classify, Redact: pol.redact,
		Events: g.obs.watch(name, resilience.Events{
			StateChange: func(c resilience.StateChange) {
				if c.Key == "" {
					pol.nudge()
				}
			},
			Retry: retrying,
			Timeout: func(context.Context, resilience.Call, *resilience.TimeoutError) {
				pol.last.set(resilience.ClassTimeout)
			},
		}),
	})
	return pol, err
}

// downstreamEvents is what a Server tells of itself, for metrics and for its policies.
func (g *Gateway) downstreamEvents(name string, pol *policy) downstream.Events {
	ev := g.obs.downstream(name)
	count := ev.Late
	var late atomic.Int64
	ev.Late = func(failed bool) {
		pol.guard.Late()
		if n := late.Add(1); n <= 10 || n%100 == 0 { // a server can send them as fast as it likes
			g.log.Info("answer after its caller was gone: it was executed, which the caller does not know", "downstream", name, "failed", failed, "so_far", n)
		}
		if count != nil {
			count(failed)
		}
	}
	return ev
}

// nudge makes the prober look.
func (pol *policy) nudge() {
	select {
	case pol.wake <- struct{}{}:
	default:
	}
}

// reconfigure puts p, which is valid, in the place of what was applied, and reports whether that is different. States stay. The caller
// holds the gateway's mutex.
func (pol *policy) reconfigure(p Policies, cfg *downstream.Config) (changed bool, err error) {
	if err := pol.setRules(&p, cfg); err != nil { // also for the secrets of cfg
		return false, err
	}
	if reflect.DeepEqual(pol.applied, p) {
		return false, nil
	}
	if err := pol.guard.Reconfigure(p.Config); err != nil {
		return false, err
	}
	pol.applied = p
	pol.setSpare(&p)
	for name := range pol.subs {
		own, ok := p.forTool(name)
		if !ok {
			own = p.Config // its calls go through the downstream's guard from now on; its circuit, if it has one, is judged by the same
			delete(pol.subs, name)
		}
		if _, err := pol.guard.Sub(name, own); err != nil {
			return true, err
		}
	}
	pol.nudge()
	return true, nil
}

// forTool returns the guard of a tool. The caller holds the gateway's mutex.
func (pol *policy) forTool(name string) *resilience.Guard {
	if len(pol.applied.Tools) == 0 {
		return pol.guard
	}
	if sub := pol.subs[name]; sub != nil {
		return sub
	}
	own, ok := pol.applied.forTool(name)
	if !ok {
		return pol.guard
	}
	sub, err := pol.guard.Sub(name, own)
	if err != nil { // what is applied has been validated
		return pol.guard
	}
	pol.subs[name] = sub
	return sub
}

// forget drops what is known of tools that are gone. The caller holds the gateway's mutex.
func (pol *policy) forget(cat *downstream.Catalog) {
	if cat.Revision == "" {
		return // nothing is known of them yet
	}
	here := make(map[string]bool, len(cat.Lists[downstream.Tools].Items))
	for _, it := range cat.Lists[downstream.Tools].Items {
		here[it.Key] = true
	}
	for name := range pol.subs {
		if !here[name] {
			delete(pol.subs, name)
		}
	}
	pol.guard.Forget(func(key string) bool { return here[key] })
}
