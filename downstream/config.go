package downstream

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/telemetry"
)

// Config describes one server as written in gateway.yaml. Exactly one of Command, URL and Preset says what it is; some presets
// want a URL too. It is a plain value: compared, copied, never changed after Validate.
type Config struct {
	Command string                      `yaml:"command" doc:"Program of a stdio server. It is started without a shell."`
	Args    []string                    `yaml:"args" doc:"Arguments of command."`
	Env     map[string]telemetry.Secret `yaml:"env" doc:"Environment of command. Besides it the program gets PATH, HOME, LANG, TMPDIR and nothing else."`
	Dir     string                      `yaml:"dir" doc:"Working directory of command. Default: the gateway's own."`

	URL       string                      `yaml:"url" doc:"Endpoint of a remote server, or the address of the system that a preset talks to."`
	URLs      []string                    `yaml:"urls" doc:"Endpoints of a remote server that runs several times, instead of url. Calls go to the one that waits for the fewest; one that fails gets none for a time (replicas)."`
	Transport string                      `yaml:"transport" default:"auto" enum:"auto|streamable|sse" doc:"HTTP transport of url. auto tries streamable HTTP, then the legacy HTTP+SSE."`
	Headers   map[string]telemetry.Secret `yaml:"headers" doc:"HTTP headers sent with every request to url."`

	Preset string `yaml:"preset" enum:"host|http|idrac|llm|openapi|pfsense|prometheus|proxmox|truenas" doc:"Built-in server."`
	System `yaml:",inline"`
	Own    `yaml:",inline"`

	Protocol string `yaml:"protocol" default:"auto" enum:"auto|2024-11-05|2025-03-26|2025-06-18|2025-11-25|2026-07-28" doc:"Protocol revision to speak to the server. auto finds it by server/discover."`
	Session  string `yaml:"session" default:"auto" enum:"auto|shared|per_client" doc:"Who shares a session with the server. auto: a legacy HTTP server gets a session for each client session, a stdio process is shared. shared: over HTTP, clients that can be asked for the same (roots, sampling, elicitation) share one."`
	Disabled bool   `yaml:"disabled" doc:"Keep the entry but do not use it."`

	Forbid Forbid `yaml:"forbid" doc:"What the server may not ask clients for. It is not told that they can, and is refused if it asks all the same."`

	Timeouts Timeouts      `yaml:"timeouts" doc:"How long to wait for the server."`
	Limits   Limits        `yaml:"limits" doc:"How much to take from the server."`
	Restart  RestartConfig `yaml:"restart" doc:"When to come back to a server that went away."`

	Connection Connection `yaml:"connection" doc:"Connections over HTTP, to the server or to the system of a preset."`

	Replicas ReplicasConfig `yaml:"replicas" doc:"How calls are spread over urls."`
}

// Forbid says what a server may not ask clients for.
type Forbid struct {
	Sampling    bool `yaml:"sampling" default:"false" doc:"Completions by the client's model (sampling/createMessage)."`
	Elicitation bool `yaml:"elicitation" default:"false" doc:"Input of the user (elicitation/create)."`
	Roots       bool `yaml:"roots" default:"false" doc:"Folders that the client works in (roots/list)."`
}

// Timeouts bounds how long a server is waited for. Zero values are replaced by the defaults of [DefaultConfig].
type Timeouts struct {
	Connect    time.Duration `yaml:"connect" default:"5s" doc:"Opening a connection."`
	Initialize time.Duration `yaml:"initialize" default:"30s" doc:"The handshake: start of the process or first request until the server is ready to be used."`
	Discover   time.Duration `yaml:"discover" default:"5s" doc:"Waiting for an answer to server/discover before the older handshake is tried."`
	Call       time.Duration `yaml:"call" default:"5m" doc:"One request that shows no progress, where no policy sets a shorter limit (resilience.timeouts)."`
	MaxCall    time.Duration `yaml:"max_call" default:"30m" doc:"One request, whatever progress it shows, where no policy sets a limit (resilience.timeouts.progress_max)."`
	List       time.Duration `yaml:"list" default:"30s" doc:"One page of a list for the catalogue."`
	Ready      time.Duration `yaml:"ready" default:"2s" doc:"How long a call waits for a server that is just (re)starting."`
	Close      time.Duration `yaml:"close" default:"5s" doc:"Each step of ending a process: after closing its input, after SIGTERM."`
	Idle       time.Duration `yaml:"idle" default:"30m" doc:"A session that belongs to one client ends after this long without use."`
}

// Limits bounds what a server can make the gateway hold. Zero values are replaced by the defaults of [DefaultConfig].
type Limits struct {
	MessageBytes int64 `yaml:"message_bytes" default:"16MiB" unit:"bytes" doc:"One message (line, event or body)."`
	Depth        int   `yaml:"depth" default:"1000" doc:"Nesting of one message."`
	Items        int   `yaml:"items" default:"2000" doc:"Items of each list (tools, prompts, resources, templates)."`
	ItemBytes    int   `yaml:"item_bytes" default:"512KiB" unit:"bytes" doc:"One item of a list."`
	Pages        int   `yaml:"pages" default:"100" doc:"Pages of one list."`
	InFlight     int   `yaml:"in_flight" default:"512" doc:"Requests that wait for an answer at the same time."`
	Sessions     int   `yaml:"sessions" default:"1000" doc:"Sessions (for stdio: processes) that belong to one client each."`
	Stderr       int   `yaml:"stderr_bytes" default:"64KiB" unit:"bytes" doc:"Last output on the error stream that is kept for error messages."`
	Connections  int   `yaml:"connections" default:"256" doc:"Idle HTTP connections kept for reuse."`
}

// RestartConfig says when a server that went away is tried again. Zero values are replaced by the defaults of [DefaultConfig].
type RestartConfig struct {
	InitialDelay time.Duration `yaml:"initial_delay" default:"250ms" doc:"Before the second attempt; the first is immediate."`
	MaxDelay     time.Duration `yaml:"max_delay" default:"30s" doc:"The delay doubles up to this."`
	HealthyAfter time.Duration `yaml:"healthy_after" default:"10s" doc:"A session that lasted this long makes the next attempt immediate again."`
	WedgedAfter  time.Duration `yaml:"wedged_after" default:"30s" doc:"A process is ended and started again if, after a call to it timed out, it is asked for a sign of life and writes nothing at all for this long. Calls that are still within their own time are waited for."`
	Refresh      time.Duration `yaml:"refresh" default:"5m" doc:"How often the catalogue is listed again without being told of a change."`
}

// DefaultConfig returns a Config that names no server and has every default filled in.
func DefaultConfig() Config {
	return Config{
		System:    DefaultSystem(),
		Transport: "auto",
		Protocol:  "auto",
		Session:   "auto",
		Timeouts: Timeouts{
			Connect: 5 * time.Second, Initialize: 30 * time.Second, Discover: 5 * time.Second, Call: 5 * time.Minute,
			MaxCall: 30 * time.Minute, List: 30 * time.Second, Ready: 2 * time.Second, Close: 5 * time.Second, Idle: 30 * time.Minute,
		},
		Limits: Limits{
			MessageBytes: 16 << 20, Depth: 1000, Items: 2000, ItemBytes: 512 << 10, Pages: 100, InFlight: 512, Sessions: 1000,
			Stderr: 64 << 10, Connections: 256,
		},
		Restart: RestartConfig{
			InitialDelay: 250 * time.Millisecond, MaxDelay: 30 * time.Second, HealthyAfter: 10 * time.Second, WedgedAfter: 30 * time.Second,
			Refresh: 5 * time.Minute,
		},
		Connection: DefaultConnection(),
		Replicas:   ReplicasConfig{EjectAfter: 3, EjectFor: 30 * time.Second, EjectMax: 5 * time.Minute, PanicThreshold: 0.5},
	}
}

// Kind says how the server is reached: "stdio", "http" or "builtin".
func (c *Config) Kind() string {
	switch {
	case c.Preset != "":
		return "builtin"
	case c.Command != "":
		return "stdio"
	}
	return "http"
}

// FieldError says which key of a configuration is wrong and why.
type FieldError struct {
	Path string // relative to the value that was validated, dots between keys: "timeouts.call"
	Msg  string // what was expected and what was found
}

func (e *FieldError) Error() string { return e.Path + ": " + e.Msg }

func fieldErrorf(path, format string, args ...any) error {
	return &FieldError{Path: path, Msg: fmt.Sprintf(format, args...)}
}

// Validate reports every fault of c, joined, each a *[FieldError].
func (c *Config) Validate() error {
	var errs []error
	named := 0
	for _, set := range []bool{c.Command != "", c.URL != "" && c.Preset == "", len(c.URLs) > 0, c.Preset != ""} {
		if set {
			named++
		}
	}
	switch {
	case named == 0:
		errs = append(errs, fieldErrorf("", "expected one of command, url, urls or preset"))
	case named > 1:
		errs = append(errs, fieldErrorf("", "expected only one of command, url, urls or preset"))
	}
	if c.Command == "" {
		for key, set := range map[string]bool{"args": len(c.Args) > 0, "env": len(c.Env) > 0, "dir": c.Dir != ""} {
			if set {
				errs = append(errs, fieldErrorf(key, "only a server with a command has it"))
			}
		}
	}
	if c.URL != "" && c.Preset == "" {
		errs = append(errs, validateURL(c.URL))
	}
	errs = append(errs, c.validateReplicas()...)
	errs = append(errs, c.validateConnection()...)
	for name := range c.Headers {
		if !validHeaderName(name) {
			errs = append(errs, fieldErrorf("headers."+name, "not the name of an HTTP header"))
		}
	}
	for name := range c.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			errs = append(errs, fieldErrorf("env."+name, "not the name of an environment variable"))
		}
	}
	errs = append(errs, oneOf("transport", c.Transport, "auto", "streamable", "sse"))
	errs = append(errs, oneOf("session", c.Session, "auto", "shared", "per_client"))
	errs = append(errs, oneOf("protocol", c.Protocol, append([]string{"auto"}, Revisions...)...))
	if c.Preset != "" {
		errs = append(errs, oneOf("preset", c.Preset, Presets()...))
	}
	errs = append(errs, c.validateSystem()...)
	errs = append(errs, c.validateBounds()...)
	return errors.Join(errs...)
}

func (c *Config) validateBounds() []error {
	var errs []error
	for key, d := range map[string]time.Duration{
		"timeouts.connect": c.Timeouts.Connect, "timeouts.initialize": c.Timeouts.Initialize, "timeouts.discover": c.Timeouts.Discover,
		"timeouts.call": c.Timeouts.Call, "timeouts.max_call": c.Timeouts.MaxCall, "timeouts.list": c.Timeouts.List,
		"timeouts.ready": c.Timeouts.Ready, "timeouts.close": c.Timeouts.Close, "timeouts.idle": c.Timeouts.Idle,
		"restart.initial_delay": c.Restart.InitialDelay, "restart.max_delay": c.Restart.MaxDelay,
		"restart.healthy_after": c.Restart.HealthyAfter, "restart.wedged_after": c.Restart.WedgedAfter, "restart.refresh": c.Restart.Refresh,
	} {
		if d <= 0 {
			errs = append(errs, fieldErrorf(key, "must be more than 0, found %s", d))
		}
	}
	for key, n := range map[string]int64{
		"limits.message_bytes": c.Limits.MessageBytes, "limits.depth": int64(c.Limits.Depth), "limits.items": int64(c.Limits.Items),
		"limits.item_bytes": int64(c.Limits.ItemBytes), "limits.pages": int64(c.Limits.Pages), "limits.in_flight": int64(c.Limits.InFlight),
		"limits.sessions": int64(c.Limits.Sessions), "limits.stderr_bytes": int64(c.Limits.Stderr), "limits.connections": int64(c.Limits.Connections),
	} {
		if n <= 0 {
			errs = append(errs, fieldErrorf(key, "must be more than 0, found %d", n))
		}
	}
	if c.Timeouts.MaxCall > 0 && c.Timeouts.Call > c.Timeouts.MaxCall {
		errs = append(errs, fieldErrorf("timeouts.call", "must not be longer than timeouts.max_call (%s), found %s", c.Timeouts.MaxCall, c.Timeouts.Call))
	}
	if c.Restart.MaxDelay > 0 && c.Restart.InitialDelay > c.Restart.MaxDelay {
		errs = append(errs, fieldErrorf("restart.initial_delay", "must not be longer than restart.max_delay (%s), found %s", c.Restart.MaxDelay, c.Restart.InitialDelay))
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errs
}

func oneOf(path, got string, allowed ...string) error {
	if slices.Contains(allowed, got) {
		return nil
	}
	return fieldErrorf(path, "expected one of %s, found %q", strings.Join(allowed, ", "), got)
}

func (c *Config) validateReplicas() []error {
	var errs []error
	seen := map[string]bool{}
	for i, u := range c.URLs {
		at := fmt.Sprintf("urls[%d]", i)
		var fault *FieldError
		switch err := validateURL(u); {
		case errors.As(err, &fault):
			errs = append(errs, &FieldError{Path: at, Msg: fault.Msg})
		case seen[u]:
			errs = append(errs, fieldErrorf(at, "this endpoint is in the list already"))
		}
		seen[u] = true
	}
	r := &c.Replicas
	if r.EjectAfter < 1 {
		errs = append(errs, fieldErrorf("replicas.eject_after", "must be at least 1, found %d", r.EjectAfter))
	}
	if r.EjectFor <= 0 || r.EjectFor > r.EjectMax {
		errs = append(errs, fieldErrorf("replicas.eject_for", "must be more than 0 and not longer than replicas.eject_max (%s), found %s", r.EjectMax, r.EjectFor))
	}
	if !(r.PanicThreshold >= 0 && r.PanicThreshold <= 1) {
		errs = append(errs, fieldErrorf("replicas.panic_threshold", "must be from 0 to 1, found %g", r.PanicThreshold))
	}
	return errs
}

func validateURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return fieldErrorf("url", "not a URL (check for spaces and stray characters)") // err would repeat a password
	case u.Scheme != "http" && u.Scheme != "https":
		return fieldErrorf("url", "expected http:// or https://, found scheme %q", u.Scheme)
	case u.Host == "":
		return fieldErrorf("url", "has no host")
	case u.User != nil:
		return fieldErrorf("url", "must not hold a user name or password: send it in headers.Authorization")
	case u.Fragment != "":
		return fieldErrorf("url", "must not have a fragment (#%s)", u.Fragment)
	}
	return nil
}

func validHeaderName(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"(),/:;<=>?@[\\]{}", c) >= 0 {
			return false
		}
	}
	return true
}
