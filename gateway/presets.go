package gateway

import (
	"time"
)

// presetPolicies is what differs from the defaults for the system behind a preset (docs/presets.md). They stand between the profile that
// resilience.defaults names and what the downstream itself says; a profile that the downstream names takes their place.
var presetPolicies = map[string]func(*Policies){
	"host": func(*Policies) {},
	// What is behind these is not known: they have the defaults.
	"http":    func(*Policies) {},
	"openapi": func(*Policies) {},
	// A controller takes seconds for each answer and works on few things at a time. RAC0218 (no free session) counts for nothing. Clients
	// give up after a minute; what takes longer reports progress, which lifts the limits.
	"idrac": func(p *Policies) {
		p.patience(55*time.Second, 55*time.Second)
		p.CircuitBreaker.HalfOpenTimeout = 55 * time.Second
		p.Bulkhead.MaxConcurrent = 2
		p.Bulkhead.Timeout = 30 * time.Second
	},
	// The server reports progress while a provider thinks, which lifts these limits, and ends a completion after llm.idle_timeout of silence.
	// They are for clients that want no progress: those give up after a minute.
	"llm": func(p *Policies) {
		p.patience(50*time.Second, 50*time.Second)
		p.CircuitBreaker.HalfOpenTimeout = 50 * time.Second
		p.Bulkhead.MaxConcurrent = 4
	},
	// What runs as a job, or is applied, reports progress, and is given longer for it. 500 is how it refuses what it stumbles over, and no
	// status that policies see. Writes are one at a time in the server itself.
	"pfsense": func(p *Policies) {
		p.patience(30*time.Second, 50*time.Second)
		p.Bulkhead.MaxConcurrent = 4
	},
	// A query may run for 2 minutes where nothing else is set (query.timeout); whoever needs one that long sets this higher.
	"prometheus": func(p *Policies) {
		p.patience(30*time.Second, 50*time.Second)
		p.Bulkhead.MaxConcurrent = 8
	},
	// 595 to 599 are of its proxy to another node; 595 means that the node was never asked, so that it is safe to ask again. 500 is how it
	// refuses, and no status that policies see.
	"proxmox": func(p *Policies) {
		p.patience(30*time.Second, 50*time.Second)
		p.Bulkhead.MaxConcurrent = 8
		p.Classification.FailureStatuses = []string{"596-599"}
	},
	// Its connection takes 10 calls at once without delay. What it refuses is a result; too many calls (-32000) are pushback.
	"truenas": func(p *Policies) {
		p.patience(30*time.Second, 50*time.Second)
		p.Bulkhead.MaxConcurrent = 8
	},
}

// ApplyPreset puts over p what the preset is about. It reports false if there is no such preset.
func ApplyPreset(preset string, p *Policies) bool {
	apply, ok := presetPolicies[preset]
	if !ok {
		return false
	}
	p.Classification.TrustAnnotations = true // they are ours
	apply(p)
	return true
}

// patience sets how long one attempt and the whole call may take, for systems that are slower or faster than most.
func (p *Policies) patience(attempt, overall time.Duration) {
	p.Timeouts.Attempt, p.Timeouts.Overall = attempt, overall
}
