package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/mcpgw/mcpgw/gateway"
	"github.com/mcpgw/mcpgw/resilience"
)

// killSwitch is the variable that switches all policies off, whatever the file says. It is read with the file, so a reload is enough.
const killSwitch = "FF_ENABLE_RESILIENCE_PATTERNS"

// resilienceSection is the section "resilience" at the top.
type resilienceSection struct {
	Enabled       bool                           `yaml:"enabled" default:"true" doc:"Apply the policies. false, here or as FF_ENABLE_RESILIENCE_PATTERNS=false in the environment, sends every call straight to its server (kill switch)."`
	Mode          string                         `yaml:"mode" default:"enforce" enum:"enforce|shadow" doc:"shadow measures what the policies would do, but never rejects, delays, repeats or ends a call."`
	Rollout       resilience.RolloutConfig       `yaml:"rollout" doc:"Which share of the sessions the policies apply to."`
	Admission     gateway.Admission              `yaml:"admission" doc:"How many calls to all servers together."`
	ErrorTracking resilience.ErrorTrackingConfig `yaml:"error_tracking" doc:"What is remembered of failed calls, for each server."`
	Defaults      defaultPolicies                `yaml:"defaults" doc:"The policies of every server, unless its profile or its entry says otherwise."`
	Profiles      map[string]policies            `yaml:"profiles" doc:"Policies by name, for servers that name the profile. The built-in profiles standard, high_latency, critical and development can be changed here."`
}

// policies is what guards the calls to one server.
type policies struct {
	Safety         string                          `yaml:"safety" default:"auto" enum:"auto|read_only|idempotent|unsafe" doc:"Whether calls may be repeated after they were sent. auto: by the method, and by the hints of a tool if they are trusted; other tools are unsafe."`
	Timeouts       resilience.TimeoutsConfig       `yaml:"timeouts" doc:"How long a call may take."`
	Retry          resilience.RetryConfig          `yaml:"retry" doc:"When a failed call is repeated."`
	CircuitBreaker resilience.CircuitBreakerConfig `yaml:"circuit_breaker" doc:"When calls are refused because the server is known to be down."`
	Bulkhead       resilience.BulkheadConfig       `yaml:"bulkhead" doc:"How many calls run at the same time."`
	RateLimit      resilience.RateLimitConfig      `yaml:"rate_limit" doc:"How many calls start in a given time."`
	Hedge          resilience.HedgeConfig          `yaml:"hedge" doc:"Asking a second time when the first answer is late. Read-only calls only."`
	Fallback       []gateway.Fallback              `yaml:"fallback" doc:"What answers when the server does not, in order. See resilience.md."`
	Classification gateway.Classification          `yaml:"classification" doc:"What the answers of the server mean."`
}

// defaultPolicies is the section "resilience.defaults".
type defaultPolicies struct {
	Profile  string `yaml:"profile" default:"standard" doc:"Profile of the servers that name none."`
	policies `yaml:",inline"`
}

// serverPolicies is the section "resilience" of a downstream.
type serverPolicies struct {
	Enabled  bool   `yaml:"enabled" default:"true" doc:"Apply the policies to this server. It cannot switch on what resilience.enabled switches off."`
	Mode     string `yaml:"mode" enum:"enforce|shadow" doc:"As resilience.mode, for this server. Default: what that says."`
	Profile  string `yaml:"profile" doc:"Profile to start from. Default: resilience.defaults.profile."`
	policies `yaml:",inline"`
	Tools    map[string]toolPolicies `yaml:"tools" doc:"What is different for some tools, by the server's own name of the tool. A star stands for any letters; an exact name wins, then the longest pattern."`
}

// toolPolicies is what one tool can have of its own. Bulkhead, rate limit, retry budget and prober belong to the whole server.
type toolPolicies struct {
	Safety         string                          `yaml:"safety" default:"auto" enum:"auto|read_only|idempotent|unsafe" doc:"Whether calls may be repeated after they were sent."`
	Timeouts       resilience.TimeoutsConfig       `yaml:"timeouts" doc:"How long a call may take."`
	Retry          resilience.RetryConfig          `yaml:"retry" doc:"When a failed call is repeated."`
	CircuitBreaker resilience.CircuitBreakerConfig `yaml:"circuit_breaker" doc:"With scope: tool, when calls of the tool are refused."`
	Hedge          resilience.HedgeConfig          `yaml:"hedge" doc:"Asking a second time when the first answer is late."`
}

func newPolicies() policies {
	c := resilience.DefaultConfig()
	return policies{
		Safety: c.Safety, Timeouts: c.Timeouts, Retry: c.Retry, CircuitBreaker: c.CircuitBreaker, Bulkhead: c.Bulkhead, RateLimit: c.RateLimit,
		Hedge: c.Hedge, Classification: gateway.DefaultClassification(),
	}
}

func newToolPolicies() toolPolicies {
	p := newPolicies()
	return toolPolicies{Safety: p.Safety, Timeouts: p.Timeouts, Retry: p.Retry, CircuitBreaker: p.CircuitBreaker, Hedge: p.Hedge}
}

func newServerPolicies() serverPolicies {
	return serverPolicies{Enabled: true, policies: newPolicies()}
}

func newResilienceSection() resilienceSection {
	c := resilience.DefaultConfig()
	return resilienceSection{
		Enabled: true, Mode: c.Mode, Rollout: c.Rollout, Admission: gateway.DefaultAdmission(), ErrorTracking: c.ErrorTracking,
		Defaults: defaultPolicies{Profile: "standard", policies: newPolicies()},
	}
}

// over puts over p what a built-in profile is about.
func (p *policies) builtin(profile string) bool {
	c := p.config()
	if !resilience.ApplyProfile(profile, &c) {
		return false
	}
	p.Timeouts, p.Retry, p.CircuitBreaker, p.Bulkhead, p.RateLimit, p.Hedge = c.Timeouts, c.Retry, c.CircuitBreaker, c.Bulkhead, c.RateLimit, c.Hedge
	return true
}

// preset puts over p what is known of the system behind a preset.
func (p *policies) preset(name string) {
	g := gateway.Policies{Config: p.config(), Classification: p.Classification}
	if !gateway.ApplyPreset(name, &g) {
		return
	}
	p.Timeouts, p.Retry, p.CircuitBreaker, p.Bulkhead, p.RateLimit, p.Hedge = g.Timeouts, g.Retry, g.CircuitBreaker, g.Bulkhead, g.RateLimit, g.Hedge
	p.Safety, p.Classification = g.Safety, g.Classification
}

func (p *policies) config() resilience.Config {
	c := resilience.DefaultConfig()
	c.Safety, c.Timeouts, c.Retry, c.CircuitBreaker = p.Safety, p.Timeouts, p.Retry, p.CircuitBreaker
	c.Bulkhead, c.RateLimit, c.Hedge = p.Bulkhead, p.RateLimit, p.Hedge
	return c
}

// merger puts the layers of policies over one another: built-in, defaults, profile, downstream, tool. Only what is written in a layer
// counts, which the decoder knows.
type merger struct {
	d   *decoder
	top *resilienceSection
	off bool // by the kill switch
}

// overlay sets in to what is written in from, whose section is at path. Keys that to does not have are left out.
func (m *merger) overlay(to, from reflect.Value, path string) {
	target := map[string]field{}
	for _, f := range fieldsOf(to.Type()) {
		target[f.key] = f
	}
	for _, f := range fieldsOf(from.Type()) {
		t, ok := target[f.key]
		if !ok {
			continue
		}
		here := join(path, f.key)
		if f.typ.Kind() == reflect.Struct && f.typ == t.typ {
			m.overlay(to.FieldByIndex(t.index), from.FieldByIndex(f.index), here)
			continue
		}
		if _, written := m.d.places[here]; written && f.typ == t.typ {
			to.FieldByIndex(t.index).Set(from.FieldByIndex(f.index))
		}
	}
}

func (m *merger) over(to *policies, from any, path string) {
	m.overlay(reflect.ValueOf(to).Elem(), reflect.Indirect(reflect.ValueOf(from)), path)
}

const (
	atDefaults = "resilience.defaults"
	atProfiles = "resilience.profiles"
)

// base returns the policies under a profile, and the layers that they are made of, the first of which is the most specific. at is where the
// profile is named.
func (m *merger) base(profile, at string) (policies, []string) {
	p := newPolicies()
	m.over(&p, &m.top.Defaults.policies, atDefaults)
	layers := []string{atDefaults, "resilience"}
	known := p.builtin(profile)
	if own, ok := m.top.Profiles[profile]; ok {
		path := join(atProfiles, profile)
		m.over(&p, &own, path)
		return p, append([]string{path}, layers...)
	}
	if !known {
		place := m.d.nearest(at)
		all := append(resilience.Profiles(), slices.Sorted(maps.Keys(m.top.Profiles))...)
		m.d.add(place.line, place.col, at, "there is no profile of this name (known: %s)", strings.Join(slices.Compact(all), ", "))
	}
	return p, layers
}

// finish makes what package gateway takes of merged policies.
func (m *merger) finish(p *policies, enabled bool, mode string) gateway.Policies {
	c := p.config()
	c.Enabled = enabled && m.top.Enabled && !m.off
	c.Mode, c.Rollout, c.ErrorTracking = m.top.Mode, m.top.Rollout, m.top.ErrorTracking
	if mode != "" {
		c.Mode = mode
	}
	return gateway.Policies{Config: c, Classification: p.Classification, Fallback: p.Fallback}
}

// server merges the policies of one downstream.
func (m *merger) server(name, preset string, s *serverPolicies) gateway.Policies {
	path := "downstreams." + name + ".resilience"
	profile, at := s.Profile, path+".profile"
	if profile == "" {
		profile, at = m.top.Defaults.Profile, atDefaults+".profile"
	}
	p, layers := m.base(profile, at)
	if s.Profile == "" {
		p.preset(preset)
	}
	m.over(&p, &s.policies, path)
	layers = append([]string{path}, layers...)
	m.d.layers[path] = layers
	out := m.finish(&p, s.Enabled, s.Mode)
	for _, pattern := range slices.Sorted(maps.Keys(s.Tools)) {
		tool, here := s.Tools[pattern], path+".tools."+pattern
		own := p
		m.over(&own, &tool, here)
		m.d.layers[here] = append([]string{here}, layers...)
		for _, shared := range []string{"retry.budget", "circuit_breaker.probe"} {
			if at, ok := m.d.places[join(here, shared)]; ok {
				m.d.add(at.line, at.col, join(here, shared), "belongs to the whole server, not to one tool: write it at %s.%s", path, shared)
			}
		}
		if out.Tools == nil {
			out.Tools = map[string]resilience.Config{}
		}
		out.Tools[pattern] = m.finish(&own, s.Enabled, s.Mode).Config
	}
	return out
}

// unused returns what is wrong with defaults and profiles that no downstream may use, by their paths.
func (m *merger) unused() map[string]error {
	faults := map[string]error{}
	check := func(profile, path string) {
		p, layers := m.base(profile, path)
		m.d.layers[path] = layers
		out := m.finish(&p, true, "")
		faults[path] = out.Validate()
	}
	check("standard", atDefaults)
	for name := range m.top.Profiles {
		check(name, join(atProfiles, name))
	}
	return faults
}

// written returns the path at which what stands for path is written: policies come from several layers.
func (d *decoder) written(path string) string {
	section := ""
	for s := range d.layers {
		if len(s) > len(section) && within(path, s) {
			section = s
		}
	}
	if section == "" {
		return path
	}
	rest := strings.TrimPrefix(strings.TrimPrefix(path, section), ".")
	for key := rest; key != ""; key = key[:max(strings.LastIndexAny(key, ".["), 0)] {
		for _, layer := range d.layers[section] {
			if _, ok := d.places[join(layer, key)]; ok {
				return join(layer, rest)
			}
		}
	}
	return path
}

// killed reports whether the environment switches the policies off.
func (d *decoder) killed() bool {
	v, ok := d.lookup(killSwitch)
	if !ok || v == "" {
		return false
	}
	switch strings.ToLower(v) {
	case "true", "1":
		return false
	case "false", "0":
		return true
	}
	d.add(1, 1, "", "the environment variable %s must be true or false", killSwitch)
	return false
}

// warnings returns what is valid and still worth knowing.
func (d *decoder) warnings(f *File, off bool) []*Fault {
	w := &faults{file: d.file}
	for _, one := range f.Settings.Warnings() {
		path := d.written(one.Path)
		at := d.nearest(path)
		w.add(at.line, at.col, path, "%s", d.hide(path, one.Msg))
	}
	if off {
		w.add(1, 1, "", "the environment variable %s switches all policies off", killSwitch)
	}
	if e, ok := w.err().(*Error); ok { //nolint:errorlint // just made
		return e.Faults
	}
	return nil
}

// alias is another name for a key, as other programs spell it.
type alias struct {
	path string
	unit string // of a plain number; "" where the key takes none
}

// aliases are the spellings that are accepted in every section of policies.
var aliases = map[string]alias{
	"retry_max_attempts":       {"retry.max_attempts", ""},
	"retry_min_wait":           {"retry.initial_delay", "s"},
	"retry_max_wait":           {"retry.max_delay", "s"},
	"circuit_breaker_enabled":  {"circuit_breaker.enabled", ""},
	"circuit_breaker_fail_max": {"circuit_breaker.failure_threshold", ""},
	"circuit_breaker_timeout":  {"circuit_breaker.timeout", "s"},
	"timeout_ms":               {"timeouts.attempt", "ms"},
}

// serverAliases are the spellings that are accepted in the entry of a server.
var serverAliases = map[string]alias{
	"connector_limit":          {"connection.max_total", ""},
	"connector_limit_per_host": {"connection.max_per_host", ""},
}

// aliasesOf returns the aliases in a section of type t.
func aliasesOf(t reflect.Type) map[string]alias {
	switch t {
	case reflect.TypeFor[server]():
		return serverAliases
	case reflect.TypeFor[policies](), reflect.TypeFor[defaultPolicies](), reflect.TypeFor[serverPolicies](), reflect.TypeFor[toolPolicies]():
		return aliases
	}
	return nil
}

// fieldAt finds the field that a path of keys leads to from a section of type t.
func fieldAt(t reflect.Type, path string) field {
	var index []int
	key, rest, deeper := strings.Cut(path, ".")
	for {
		i := slices.IndexFunc(fieldsOf(t), func(f field) bool { return f.key == key })
		if i < 0 {
			panic(fmt.Sprintf("config: no key %q in %s", key, t))
		}
		f := fieldsOf(t)[i]
		f.index = append(slices.Clone(index), f.index...)
		if !deeper {
			return f
		}
		index, t = f.index, f.typ
		key, rest, deeper = strings.Cut(rest, ".")
	}
}

// aliased decodes a key of a section that is another name for one deeper in it.
func (d *decoder) aliased(p pair, a alias, v reflect.Value, section string) {
	f := fieldAt(v.Type(), a.path)
	s := spot{join(section, a.path), p.node, f}
	if _, twice := d.places[s.path]; twice {
		d.fault(spot{path: join(section, p.key), node: p.node}, "another name for %s, which is here too", s.path)
		return
	}
	if a.unit != "" && numberForm.MatchString(p.value.Value) {
		value := *p.value
		value.Value += a.unit
		p.value = &value
	}
	d.entry(p, v.FieldByIndex(f.index), s)
}
