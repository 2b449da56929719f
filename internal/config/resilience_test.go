package config

import (
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/gateway"
	"github.com/mcpgw/mcpgw/resilience"
)

func parse(t *testing.T, text string, pairs ...string) *File {
	t.Helper()
	f, err := Parse("f", []byte(text), env(pairs...))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestPoliciesComeInLayers: built-in < defaults < profile < downstream < tool, each only with what is written in it.
func TestPoliciesComeInLayers(t *testing.T) {
	f := parse(t, `
resilience:
  mode: shadow
  rollout: { percent: 25 }
  error_tracking: { max_errors: 50 }
  admission: { max_in_flight: 7 }
  defaults:
    profile: critical
    retry: { max_attempts: 4, jitter: false }
    timeouts: { overall: 40s }
  profiles:
    critical: { retry: { max_delay: 3s } }
    mine: { retry: { max_attempts: 7 }, bulkhead: { max_concurrent: 3 } }
downstreams:
  a: { preset: host }
  b:
    preset: host
    resilience:
      mode: enforce
      profile: mine
      retry: { initial_delay: 200ms }
      circuit_breaker: { failure_threshold: 3 }
      classification: { trust_annotations: true, rpc_failure_codes: [-32000], tool_error_patterns: [{ match: timed out, class: timeout }] }
      tools:
        get_*: { safety: read_only }
        reboot: { safety: unsafe, retry: { enabled: false }, circuit_breaker: { scope: tool } }
`)
	base := resilience.DefaultConfig()
	base.Mode, base.Rollout.Percent, base.ErrorTracking.MaxErrors = "shadow", 25, 50
	base.Retry.Jitter, base.Timeouts.Overall = 0, 40*time.Second

	a := gateway.Policies{Config: base}
	a.Classification.TrustAnnotations = true                                                        // of the preset, which stands between the profile and what the entry says
	a.Retry.MaxAttempts, a.Retry.MaxDelay, a.CircuitBreaker.FailureThreshold = 5, 3*time.Second, 10 // of the profile critical

	b := gateway.Policies{Config: base, Classification: gateway.Classification{
		TrustAnnotations: true, RPCFailureCodes: []int{-32000},
		ToolErrorPatterns: []gateway.Pattern{{Match: "timed out", Class: "timeout", Breaker: "failure", Retry: "idempotent"}},
	}}
	b.Mode = "enforce"
	b.Retry.MaxAttempts, b.Retry.InitialDelay, b.Bulkhead.MaxConcurrent, b.CircuitBreaker.FailureThreshold = 7, 200*time.Millisecond, 3, 3
	get, reboot := b.Config, b.Config
	get.Safety = "read_only"
	reboot.Safety, reboot.Retry.Enabled, reboot.CircuitBreaker.Scope = "unsafe", false, "tool"
	b.Tools = map[string]resilience.Config{"get_*": get, "reboot": reboot}

	if d := cmp.Diff(map[string]gateway.Policies{"a": a, "b": b}, f.Settings.Policies); d != "" {
		t.Error(d)
	}
	if got := f.Settings.Admission.MaxInFlight; got != 7 {
		t.Errorf("admission.max_in_flight is %d", got)
	}
}

func TestOtherSpellings(t *testing.T) {
	f := parse(t, `downstreams: {a: {preset: host, resilience: {retry_max_attempts: 5, retry_min_wait: 0.5, retry_max_wait: 20, circuit_breaker_enabled: false,
  circuit_breaker_fail_max: 4, circuit_breaker_timeout: 90, timeout_ms: 5000}}}`)
	got, want := f.Settings.Policies["a"], gateway.DefaultPolicies()
	want.Retry.MaxAttempts, want.Retry.InitialDelay, want.Retry.MaxDelay = 5, 500*time.Millisecond, 20*time.Second
	want.CircuitBreaker.Enabled, want.CircuitBreaker.FailureThreshold, want.CircuitBreaker.Timeout = false, 4, 90*time.Second
	want.Timeouts.Attempt = 5 * time.Second
	want.Classification.TrustAnnotations = true
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	f = parse(t, `downstreams: {a: {url: "http://nas/mcp", connector_limit: 100, connector_limit_per_host: 30}}`)
	if c := f.Settings.Downstreams["a"].Connection; c.MaxTotal != 100 || c.MaxPerHost != 30 {
		t.Errorf("connector_limit: %+v", c)
	}
}

func TestKillSwitch(t *testing.T) {
	const text = "downstreams: {a: {preset: host, resilience: {enabled: true, tools: {x: {safety: read_only}}}}}\n"
	for value, enabled := range map[string]bool{"false": false, "0": false, "FALSE": false, "true": true, "": true} {
		f := parse(t, text, killSwitch, value)
		p := f.Settings.Policies["a"]
		if p.Enabled != enabled || p.Tools["x"].Enabled != enabled {
			t.Errorf("%s=%q: enabled is %v", killSwitch, value, p.Enabled)
		}
		if told := len(f.Warnings) == 1; told == enabled {
			t.Errorf("%s=%q: warnings %v", killSwitch, value, f.Warnings)
		}
	}
	if _, err := Parse("f", []byte(text), env(killSwitch, "perhaps")); err == nil {
		t.Error("a kill switch that is neither on nor off was accepted")
	}
	for _, text := range []string{"resilience: {enabled: false}\n" + text, "downstreams: {a: {preset: host, resilience: {enabled: false}}}\n"} {
		if parse(t, text).Settings.Policies["a"].Enabled {
			t.Errorf("enabled although the file says false:\n%s", text)
		}
	}
}

func TestWarnings(t *testing.T) {
	f := parse(t, `
resilience:
  defaults:
    circuit_breaker: { failure_threshold: 30 }
downstreams:
  a: { url: "http://x", resilience: { timeouts: { overall: 2m }, classification: { trust_annotations: true } } }
  b: { preset: host, resilience: { tools: { x: { circuit_breaker: { timeout: 90s } } } } }
`)
	var got []string
	for _, w := range f.Warnings {
		got = append(got, w.String())
	}
	want := []string{
		`f:4:24: resilience.defaults.circuit_breaker.failure_threshold: 30 is outside the usual 3 to 10`,
		`f:6:51: downstreams.a.resilience.timeouts.overall: 2m0s: many clients give up after 60s without a sign of progress`,
		`f:6:84: downstreams.a.resilience.classification.trust_annotations: a remote server decides by its hints which calls are made twice`,
		`f:7:50: downstreams.b.resilience.tools.x.circuit_breaker: has no effect: with scope: downstream the thresholds are those of the whole server (scope: tool gives the tool a circuit of its own)`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

const docsFile = "../../docs/configuration.md"

// TestDocsFile keeps the page that people read equal to the code.
func TestDocsFile(t *testing.T) {
	want := Docs()
	if *update {
		if err := os.WriteFile(docsFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("docs/configuration.md is not what the code says; run go test ./internal/config -update\n%s", d)
	}
}
