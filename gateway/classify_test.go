package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
	"github.com/mcpgw/mcpgw/resilience"
	"github.com/mcpgw/mcpgw/telemetry"
)

// newRules returns a policy with these rules, and no guard.
func newRules(t *testing.T, c Classification, cfg downstream.Config) *policy {
	t.Helper()
	pol := &policy{}
	if err := pol.setRules(&Policies{Classification: c}, &cfg); err != nil {
		t.Fatal(err)
	}
	return pol
}

// TestOutcomes holds the table of resilience.md §3.2.
func TestOutcomes(t *testing.T) {
	const (
		F, S, I = resilience.Failure, resilience.Success, resilience.Ignored
		never   = resilience.RetryNever
		unsent  = resilience.RetryUnsent
		idem    = resilience.RetryIdempotent
		rej     = resilience.RetryRejected
		not     = resilience.NotSent
		was     = resilience.WasSent
		back    = resilience.Answered
	)
	broke := errors.New("it broke")
	away := func(class string) error { return &downstream.UnavailableError{Class: class, Err: broke} }
	lost := func(class string) error { return &downstream.LostError{Class: class, Err: broke} }
	status := func(n int) error { return &downstream.StatusError{Status: n} }
	rpc := func(code int64) error { return &wire.Error{Code: code} }
	incident := "the session"
	pol := newRules(t, Classification{RPCFailureCodes: []int{-32011}}, downstream.DefaultConfig())
	for name, tt := range map[string]struct {
		err  error
		want resilience.Outcome
	}{
		"refused":                {away("connect"), resilience.Outcome{Breaker: F, Retry: unsent, Class: "connect", Sent: not}},
		"no such name":           {away("dns"), resilience.Outcome{Breaker: F, Retry: unsent, Class: "dns", Sent: not}},
		"certificate":            {away("tls"), resilience.Outcome{Breaker: F, Retry: never, Class: "tls", Sent: not}},
		"cannot be made":         {away("configuration"), resilience.Outcome{Breaker: F, Retry: never, Class: "configuration", Sent: not}},
		"starting":               {away("starting"), resilience.Outcome{Breaker: F, Retry: unsent, Class: "starting", Sent: not}},
		"stopped":                {away("stopped"), resilience.Outcome{Breaker: I, Retry: never, Class: "stopped", Sent: not}},
		"our own limit":          {away("overloaded"), resilience.Outcome{Breaker: I, Retry: never, Class: "overloaded", Sent: not}},
		"closed before sending":  {away("connection_closed"), resilience.Outcome{Breaker: I, Retry: unsent, Class: "connection_closed", Sent: not, Immediate: true}},
		"away for a moment":      {&downstream.UnavailableError{Class: "connect", Err: broke, RetryAfter: time.Second, Incident: incident}, resilience.Outcome{Breaker: F, Retry: unsent, Class: "connect", Sent: not, RetryAfter: time.Second, Incident: incident}},
		"away for long":          {&downstream.UnavailableError{Class: "connect", Err: broke, RetryAfter: time.Minute}, resilience.Outcome{Breaker: F, Retry: never, Class: "connect", Sent: not, RetryAfter: time.Minute}},
		"login at the handshake": {&downstream.UnavailableError{Class: "connect", Err: fmt.Errorf("x: %w", status(401))}, resilience.Outcome{Breaker: I, Retry: never, Class: "401", Sent: not}},
		"503 at the handshake":   {&downstream.UnavailableError{Class: "connect", Err: status(503)}, resilience.Outcome{Breaker: F, Retry: unsent, Class: "503", Sent: not}},

		"broken connection":      {lost("connection"), resilience.Outcome{Breaker: F, Retry: idem, Class: "connection", Sent: was}},
		"broken session":         {&downstream.LostError{Class: "connection", Err: broke, Incident: incident}, resilience.Outcome{Breaker: F, Retry: idem, Class: "connection", Sent: was, Incident: incident, Immediate: true}},
		"stream without answer":  {lost("stream_aborted"), resilience.Outcome{Breaker: F, Retry: idem, Class: "stream_aborted", Sent: was}},
		"garbage":                {lost("malformed_response"), resilience.Outcome{Breaker: F, Retry: idem, Class: "malformed_response", Sent: was}},
		"no answer in time":      {lost("timeout"), resilience.Outcome{Breaker: F, Retry: idem, Class: "timeout", Sent: was}},
		"cancelled":              {lost("cancelled"), resilience.Outcome{Breaker: I, Retry: never, Class: "cancelled", Sent: was}},
		"cancelled before":       {context.Canceled, resilience.Outcome{Breaker: I, Retry: never, Class: "cancelled", Sent: not}},
		"session gone":           {&downstream.SessionLostError{Err: status(404)}, resilience.Outcome{Breaker: I, Retry: rej, Class: "session_lost", Sent: back, Immediate: true}},
		"something else":         {broke, resilience.Outcome{Breaker: F, Retry: idem, Class: "other"}},
		"400":                    {status(400), resilience.Outcome{Breaker: I, Retry: never, Class: "400", Sent: back}},
		"401":                    {status(401), resilience.Outcome{Breaker: I, Retry: never, Class: "401", Sent: back}},
		"403":                    {status(403), resilience.Outcome{Breaker: I, Retry: never, Class: "403", Sent: back}},
		"404":                    {status(404), resilience.Outcome{Breaker: I, Retry: never, Class: "404", Sent: back}},
		"408":                    {status(408), resilience.Outcome{Breaker: F, Retry: idem, Class: "408", Sent: back}},
		"413":                    {status(413), resilience.Outcome{Breaker: I, Retry: never, Class: "413", Sent: back}},
		"429":                    {&downstream.StatusError{Status: 429, RetryAfter: 3 * time.Second}, resilience.Outcome{Breaker: I, Retry: rej, Class: "429", Sent: back, RetryAfter: 3 * time.Second}},
		"500":                    {status(500), resilience.Outcome{Breaker: F, Retry: idem, Class: "500", Sent: back}},
		"501":                    {status(501), resilience.Outcome{Breaker: I, Retry: never, Class: "501", Sent: back}},
		"502":                    {status(502), resilience.Outcome{Breaker: F, Retry: idem, Class: "502", Sent: back}},
		"503":                    {&downstream.StatusError{Status: 503, RetryAfter: time.Second}, resilience.Outcome{Breaker: F, Retry: idem, Class: "503", Sent: back, RetryAfter: time.Second}},
		"504":                    {status(504), resilience.Outcome{Breaker: F, Retry: idem, Class: "504", Sent: back}},
		"505":                    {status(505), resilience.Outcome{Breaker: I, Retry: never, Class: "505", Sent: back}},
		"cannot read us":         {rpc(-32700), resilience.Outcome{Breaker: F, Retry: never, Class: "rpc_-32700", Sent: back}},
		"invalid request":        {rpc(-32600), resilience.Outcome{Breaker: S, Retry: never, Class: "rpc_-32600", Sent: back}},
		"no such method":         {rpc(-32601), resilience.Outcome{Breaker: S, Retry: never, Class: "rpc_-32601", Sent: back}},
		"invalid params":         {rpc(-32602), resilience.Outcome{Breaker: S, Retry: never, Class: "rpc_-32602", Sent: back}},
		"internal error":         {rpc(-32603), resilience.Outcome{Breaker: F, Retry: idem, Class: "rpc_-32603", Sent: back}},
		"a code of its own":      {rpc(-32010), resilience.Outcome{Breaker: S, Retry: never, Class: "rpc_-32010", Sent: back}},
		"one that means failure": {rpc(-32011), resilience.Outcome{Breaker: F, Retry: idem, Class: "rpc_-32011", Sent: back}},
		"header mismatch":        {rpc(-32020), resilience.Outcome{Breaker: I, Retry: never, Class: "rpc_-32020", Sent: back}},
		"capability missing":     {rpc(-32021), resilience.Outcome{Breaker: S, Retry: never, Class: "rpc_-32021", Sent: back}},
		"URL elicitation":        {rpc(-32042), resilience.Outcome{Breaker: S, Retry: never, Class: "rpc_-32042", Sent: back}},
		"application":            {rpc(17), resilience.Outcome{Breaker: S, Retry: never, Class: "rpc_17", Sent: back}},
	} {
		if d := cmp.Diff(tt.want, pol.classify(t.Context(), nil, tt.err)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestOutcomesOfResults(t *testing.T) {
	c := Classification{ToolErrorPatterns: []Pattern{
		{Match: `rate limit|429`, Class: "rate_limit", Breaker: "ignored", Retry: "idempotent"},
		{Match: `unavailable`, Class: "tool_error", Breaker: "failure", Retry: "never"},
	}}
	pol := newRules(t, c, downstream.DefaultConfig())
	ok := resilience.Outcome{Sent: resilience.Answered}
	shed := resilience.Outcome{Breaker: resilience.Ignored, Retry: resilience.RetryRejected, Class: classLoadShed, Sent: resilience.Answered}
	for _, tt := range []struct {
		raw    string
		modern bool
		want   resilience.Outcome
	}{
		{`{"content":[{"type":"text","text":"rate limit"}]}`, false, ok},
		{`{"content":[{"type":"text","text":"not found"}],"isError":true}`, false, ok},
		{`{"content":[{"type":"text","text":"isError unavailable"}],"isError":false}`, false, ok},
		{
			`{"content":[{"type":"image","data":""},{"type":"text","text":"RATE LIMIT"}],"isError":true}`, false,
			resilience.Outcome{Breaker: resilience.Ignored, Retry: resilience.RetryIdempotent, Class: "tool_error_rate_limit", Sent: resilience.Answered, KeyOnly: true},
		},
		{
			`{"isError":true,"content":[{"type":"text","text":"Service Unavailable"}]}`, false,
			resilience.Outcome{Breaker: resilience.Failure, Retry: resilience.RetryNever, Class: "tool_error", Sent: resilience.Answered, KeyOnly: true},
		},
		{`{"resultType":"input_required","inputRequests":{"a":{}},"requestState":"s"}`, true, ok},
		{`{"resultType":"input_required","requestState":"s"}`, true, shed},
		{`{"resultType":"input_required","inputRequests":{},"requestState":"s"}`, true, shed},
		{`{"resultType":"complete","content":[{"type":"text","text":"\"input_required\""}]}`, true, ok},
		{`{"resultType":"input_required","requestState":"s"}`, false, ok},
	} {
		if d := cmp.Diff(tt.want, pol.classify(t.Context(), downstream.Result{Raw: json.RawMessage(tt.raw), Modern: tt.modern, Asks: tt.modern && strings.Contains(tt.raw, `"resultType":"input_required"`)}, nil)); d != "" {
			t.Errorf("%s: %s", tt.raw, d)
		}
	}
}

func TestSafetyOfRequests(t *testing.T) {
	for _, tt := range []struct {
		safe   safety
		params string
		want   safety
	}{
		{idempotent, `{"name":"x"}`, idempotent},
		{idempotent, `{"name":"x","requestState":"s"}`, unsafe},
		{idempotent, `{"name":"x","inputResponses":{}}`, unsafe},
		{readOnly, `{"name":"x","inputResponses":{},"requestState":"s"}`, readOnly},
		{unsafe, `{"name":"x"}`, unsafe},
	} {
		params := wire.Index(json.RawMessage(tt.params))
		if got := safetyOf(&params, &route{safe: tt.safe}); got != tt.want {
			t.Errorf("%s %s: got %s, want %s", tt.safe, tt.params, got, tt.want)
		}
	}
}

func TestSecretsAreNotKept(t *testing.T) {
	cfg := downstream.DefaultConfig()
	cfg.Headers = map[string]telemetry.Secret{"Authorization": "Bearer hunter2hunter2"}
	cfg.Env = map[string]telemetry.Secret{"LEVEL": "info", "KEY": "swordfish"}
	pol := newRules(t, Classification{}, cfg)
	if got, want := pol.redact("bearer hunter2hunter2: no info about swordfish"), "bearer [redacted]: no info about [redacted]"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPatternsOfToolNames(t *testing.T) {
	p := Policies{Tools: map[string]resilience.Config{}}
	for _, pattern := range []string{"get_one", "get_*", "*_one", "get_*_x", "*", "a*b*c"} {
		p.Tools[pattern] = resilience.Config{Mode: pattern}
	}
	for name, want := range map[string]string{
		"get_one": "get_one", "get_two": "get_*", "set_one": "*_one", "get_big_x": "get_*_x", "other": "*", "axxbxxc": "a*b*c", "ac": "*", "get_": "get_*",
	} {
		if cfg, ok := p.forTool(name); !ok || cfg.Mode != want {
			t.Errorf("%s: got %q, want %q", name, cfg.Mode, want)
		}
	}
	delete(p.Tools, "*")
	if _, ok := p.forTool("other"); ok {
		t.Error("a tool that no pattern matches has policies of its own")
	}
}

func TestTraceID(t *testing.T) {
	for meta, want := range map[string]string{
		`{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}`: "0af7651916cd43dd8448eb211c80319c",
		`{"traceparent":"00-short"}`: "", `{"traceparent":5}`: "", `{}`: "", ``: "",
	} {
		if got := traceID(json.RawMessage(meta)); got != want {
			t.Errorf("%s: got %q", meta, got)
		}
	}
}
