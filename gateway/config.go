package gateway

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/telemetry"
)

// Settings is everything that [Gateway.Apply] can change while clients are connected.
type Settings struct {
	Gateway     Config
	Downstreams map[string]downstream.Config // by name
	Policies    map[string]Policies          // by the name of the downstream; where there are none, DefaultPolicies
	Admission   Admission                    // the zero value means DefaultAdmission
}

// policiesOf returns the policies of a downstream.
func (s *Settings) policiesOf(name string) Policies {
	if p, ok := s.Policies[name]; ok {
		return p
	}
	return DefaultPolicies()
}

// Config is the section "gateway" of gateway.yaml. It is a plain value, never changed after Validate.
type Config struct {
	Listen                string             `yaml:"listen" default:"127.0.0.1:8080" doc:"Address of the endpoint, which is http://ADDRESS/mcp. Changing it needs a restart."`
	Tokens                []telemetry.Secret `yaml:"tokens" doc:"Bearer tokens, one of which a client must send. Needed to listen on more than loopback."`
	AllowedHosts          []string           `yaml:"allowed_hosts" doc:"Names (Host header) by which clients may reach the gateway, besides loopback and the listen address itself. Needed behind a proxy or a DNS name."`
	AllowedOrigins        []string           `yaml:"allowed_origins" doc:"Web origins (https://app.example.net) whose pages may use the gateway. Requests without Origin are no pages."`
	Admin                 AdminConfig        `yaml:"admin" doc:"What is not /mcp: /healthz, /readyz, /status, /-/reload, /-/circuit."`
	AdminTools            bool               `yaml:"admin_tools" default:"false" doc:"Offer the tool circuit_control, and POST /-/circuit, which open and close circuits by hand."`
	SealingKeys           []telemetry.Secret `yaml:"sealing_keys" doc:"Secrets that seal what clients are given to give back (requestState, task ids, cursors), 32 characters or more: the first seals, all open. Empty: one of the process's own. Several gateways behind one address need the same."`
	PassthroughExtensions []string           `yaml:"passthrough_extensions" doc:"Protocol extensions, besides tasks, and apps on /servers/NAME/mcp, that clients and servers may tell each other of. The gateway does not know what they carry, and renames nothing in it."`
	PageSize              int                `yaml:"page_size" default:"2000" doc:"Items in one page of a list. Some clients read only the first page."`
	Instructions          string             `yaml:"instructions" doc:"What the gateway tells agents about itself, before what the servers say."`
	Limits                Limits             `yaml:"limits" doc:"How much to take from clients."`
	Timeouts              Timeouts           `yaml:"timeouts" doc:"How long to wait for clients."`
}

// AdminConfig is the section "gateway.admin".
type AdminConfig struct {
	Listen string `yaml:"listen" doc:"Another address for everything that is not /mcp. Empty: the same address. Changing it needs a restart."`
}

// Limits bounds what clients can make the gateway hold.
type Limits struct {
	RequestBytes    int64 `yaml:"request_bytes" default:"4MiB" unit:"bytes" doc:"One request body or line."`
	Depth           int   `yaml:"depth" default:"128" doc:"Nesting of one message."`
	Sessions        int   `yaml:"sessions" default:"10000" doc:"Sessions of clients that speak revisions up to 2025-11-25."`
	InFlight        int   `yaml:"in_flight" default:"4096" doc:"Requests that are being answered at the same time."`
	Streams         int   `yaml:"streams" default:"10000" doc:"Open notification streams (GET and subscriptions/listen)."`
	Subscriptions   int   `yaml:"subscriptions" default:"256" doc:"Resources that one session or stream is subscribed to."`
	InputRounds     int   `yaml:"input_rounds" default:"10" doc:"How often a server may ask for input in one call."`
	Parked          int   `yaml:"parked" default:"512" doc:"Calls to older servers that wait for their clients of revision 2026-07-28 to come back with answers."`
	ParkedPerClient int   `yaml:"parked_per_client" default:"64" doc:"The same for one client (one bearer token)."`
}

// Timeouts bounds how long clients are waited for.
type Timeouts struct {
	Header      time.Duration `yaml:"header" default:"10s" doc:"Reading the header of a request."`
	Body        time.Duration `yaml:"body" default:"60s" doc:"Reading the body of a request."`
	Write       time.Duration `yaml:"write" default:"30s" doc:"Each write to a stream; a client that reads slower loses the stream."`
	Idle        time.Duration `yaml:"idle" default:"5m" doc:"A kept-alive connection without a request."`
	Heartbeat   time.Duration `yaml:"heartbeat" default:"15s" doc:"Between signs of life on a stream that has nothing to say."`
	EarlyAnswer time.Duration `yaml:"early_answer" default:"1s" doc:"A call that takes longer gets its answer headers, and the first sign of life, after this time."`
	SessionIdle time.Duration `yaml:"session_idle" default:"30m" doc:"A session without request or open stream ends after this time."`
	Input       time.Duration `yaml:"input" default:"10m" doc:"How long a client of revision 2026-07-28 may take to come back with answers to what a server asks in a call."`
	SessionMax  time.Duration `yaml:"session_max" default:"24h" doc:"Longest life of a session."`
	Shutdown    time.Duration `yaml:"shutdown" default:"15s" doc:"How long calls in flight may still take when the gateway ends."`
}

// DefaultConfig returns a Config with every default filled in.
func DefaultConfig() Config {
	return Config{
		Listen:   "127.0.0.1:8080",
		PageSize: 2000,
		Limits: Limits{
			RequestBytes: 4 << 20, Depth: 128, Sessions: 10000, InFlight: 4096, Streams: 10000, Subscriptions: 256,
			InputRounds: 10, Parked: 512, ParkedPerClient: 64,
		},
		Timeouts: Timeouts{
			Header: 10 * time.Second, Body: time.Minute, Write: 30 * time.Second, Idle: 5 * time.Minute, Heartbeat: 15 * time.Second,
			EarlyAnswer: time.Second, SessionIdle: 30 * time.Minute, SessionMax: 24 * time.Hour, Input: 10 * time.Minute, Shutdown: 15 * time.Second,
		},
	}
}

// Validate reports every fault of s, joined, each a *[downstream.FieldError] whose path starts at the top of gateway.yaml.
func (s *Settings) Validate() error {
	errs := []error{under("gateway", s.Gateway.Validate())}
	folded := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(s.Downstreams)) {
		path := "downstreams." + name
		if err := validName(name); err != nil {
			errs = append(errs, &downstream.FieldError{Path: path, Msg: err.Error()})
		}
		if other, clash := folded[fold(name)]; clash {
			errs = append(errs, &downstream.FieldError{Path: path, Msg: fmt.Sprintf("some clients cannot tell it from %q (they fold case, '-' and '_'): choose another name", other)})
		}
		folded[fold(name)] = name
		cfg := s.Downstreams[name]
		errs = append(errs, under(path, cfg.Validate()))
		p := s.policiesOf(name)
		errs = append(errs, under(path+".resilience", p.Validate()))
	}
	errs = append(errs, s.validateTargets())
	if s.Admission != (Admission{}) {
		errs = append(errs, under("resilience.admission", s.Admission.Validate()))
	}
	return errors.Join(errs...)
}

// under puts prefix before the path of each fault in err.
func under(prefix string, err error) error {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var errs []error
		for _, e := range many.Unwrap() {
			errs = append(errs, under(prefix, e))
		}
		return errors.Join(errs...)
	}
	var f *downstream.FieldError
	if !errors.As(err, &f) {
		return fmt.Errorf("%s: %w", prefix, err)
	}
	path := prefix
	if f.Path != "" {
		path += "." + f.Path
	}
	return &downstream.FieldError{Path: path, Msg: f.Msg}
}

const maxNameLen = 30

// validName says what is wrong with the name of a downstream: it becomes part of tool names and of URLs.
func validName(name string) error {
	switch {
	case name == "":
		return errors.New("the name must not be empty")
	case len(name) > maxNameLen:
		return fmt.Errorf("the name must have at most %d characters, found %d", maxNameLen, len(name))
	}
	for _, c := range name {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return fmt.Errorf("the name may hold letters, digits, '-' and '_', found %q", c)
		}
	}
	if strings.Contains(name, "__") || strings.HasSuffix(name, "_") {
		return errors.New("the name must not hold \"__\" nor end in '_': two underscores separate it from the names of tools")
	}
	return nil
}

// Validate reports every fault of c, joined, each a *[downstream.FieldError].
func (c *Config) Validate() error {
	var errs []error
	fault := func(path, format string, args ...any) {
		errs = append(errs, &downstream.FieldError{Path: path, Msg: fmt.Sprintf(format, args...)})
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		fault("listen", "expected HOST:PORT such as 127.0.0.1:8080, found %q", c.Listen)
	}
	if c.Admin.Listen != "" {
		if _, _, err := net.SplitHostPort(c.Admin.Listen); err != nil {
			fault("admin.listen", "expected HOST:PORT such as 127.0.0.1:9090, found %q", c.Admin.Listen)
		}
	}
	for i, t := range c.Tokens {
		if len(t.Reveal()) < 16 {
			fault(fmt.Sprintf("tokens[%d]", i), "must have at least 16 characters (openssl rand -hex 32 makes a good one)")
		}
	}
	for i, k := range c.SealingKeys {
		if len(k.Reveal()) < 32 {
			fault(fmt.Sprintf("sealing_keys[%d]", i), "must have at least 32 characters (openssl rand -hex 32 makes a good one)")
		}
	}
	for i, h := range c.AllowedHosts {
		if h == "" || strings.ContainsAny(h, "/ ") {
			fault(fmt.Sprintf("allowed_hosts[%d]", i), "expected a host name with or without port, found %q", h)
		}
	}
	for i, o := range c.AllowedOrigins {
		if !strings.Contains(o, "://") || strings.HasSuffix(o, "/") {
			fault(fmt.Sprintf("allowed_origins[%d]", i), "expected scheme://host[:port], found %q", o)
		}
	}
	for key, n := range map[string]int64{
		"page_size": int64(c.PageSize), "limits.request_bytes": c.Limits.RequestBytes, "limits.depth": int64(c.Limits.Depth),
		"limits.sessions": int64(c.Limits.Sessions), "limits.in_flight": int64(c.Limits.InFlight),
		"limits.input_rounds": int64(c.Limits.InputRounds), "limits.parked": int64(c.Limits.Parked), "limits.parked_per_client": int64(c.Limits.ParkedPerClient),
		"timeouts.input": int64(c.Timeouts.Input), "limits.streams": int64(c.Limits.Streams), "limits.subscriptions": int64(c.Limits.Subscriptions),
		"timeouts.header": int64(c.Timeouts.Header), "timeouts.body": int64(c.Timeouts.Body), "timeouts.write": int64(c.Timeouts.Write),
		"timeouts.idle": int64(c.Timeouts.Idle), "timeouts.heartbeat": int64(c.Timeouts.Heartbeat),
		"timeouts.early_answer": int64(c.Timeouts.EarlyAnswer), "timeouts.session_idle": int64(c.Timeouts.SessionIdle),
		"timeouts.session_max": int64(c.Timeouts.SessionMax), "timeouts.shutdown": int64(c.Timeouts.Shutdown),
	} {
		if n <= 0 {
			fault(key, "must be more than 0, found %d", n)
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}
