// Package kit is what the built-in servers share: how they are configured, how their tools are made, how large a result may be, and how
// they talk to the system behind them. It knows no system.
package kit

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/telemetry"
)

// Access says what the tools of a built-in server may do. Tools beyond it do not exist.
type Access int

// The levels of access; each includes the ones before it.
const (
	Read    Access = iota // look, change nothing (the default)
	Operate               // changes that can be taken back: start, stop, snapshot, restart of a service
	Full                  // everything that the server can do, deletion included
)

var accessNames = [...]string{"read", "operate", "full"}

func (a Access) String() string {
	if a < Read || a > Full {
		return fmt.Sprintf("Access(%d)", int(a))
	}
	return accessNames[a]
}

// ParseAccess returns the level of a name; "" is Read.
func ParseAccess(s string) (Access, error) {
	if s == "" {
		return Read, nil
	}
	for i, name := range accessNames {
		if s == name {
			return Access(i), nil
		}
	}
	return Read, fmt.Errorf("expected one of %s, found %q", strings.Join(accessNames[:], ", "), s)
}

// Config is what a built-in server is made with.
type Config struct {
	Name    string       // of the downstream in gateway.yaml
	Version string       // of the gateway, reported as the server's own
	Log     *slog.Logger // nil discards
	Access  Access

	URL       string // of the system; never "lab", which has been replaced by the simulator's address
	Simulated bool   // URL is a simulator's: every result says so

	Token    telemetry.Secret // API token or key
	Username string
	Password telemetry.Secret
	Headers  map[string]telemetry.Secret // sent with every HTTP request

	TLS        TLS
	Connection Connection

	// Options are those of the preset's own section in gateway.yaml, such as *llm.Options; nil where it has none.
	Options any
}

// TLS says which certificate of a system is accepted. The zero value verifies against the machine's own authorities.
type TLS struct {
	CAFile             string // PEM file with the authorities to verify against, instead of the machine's
	Pin                string // "sha256:" and the SHA-256 of the certificate in hexadecimal; colons and case do not matter
	InsecureSkipVerify bool   // accept any certificate
}

// Connection bounds the connections to a system. Zero values are replaced by those of [DefaultConnection].
type Connection struct {
	MaxTotal    int           // connections to all hosts of the server together
	MaxPerHost  int           // connections to one host
	DNSCacheTTL time.Duration // how long an address is used without asking again; less than 0: not at all
	DialTimeout time.Duration
	IdleTimeout time.Duration // an unused connection is closed after it
}

// DefaultConnection returns the limits where nothing is configured.
func DefaultConnection() Connection {
	return Connection{MaxTotal: 100, MaxPerHost: 30, DNSCacheTTL: 300 * time.Second, DialTimeout: 5 * time.Second, IdleTimeout: 90 * time.Second}
}

// WithDefaults returns c with every zero value replaced.
func (c Connection) WithDefaults() Connection {
	d := DefaultConnection()
	if c.MaxTotal <= 0 {
		c.MaxTotal = d.MaxTotal
	}
	if c.MaxPerHost <= 0 {
		c.MaxPerHost = d.MaxPerHost
	}
	if c.DNSCacheTTL == 0 {
		c.DNSCacheTTL = d.DNSCacheTTL
	}
	if c.DialTimeout <= 0 {
		c.DialTimeout = d.DialTimeout
	}
	if c.IdleTimeout <= 0 {
		c.IdleTimeout = d.IdleTimeout
	}
	return c
}

func (c *Config) logger() *slog.Logger {
	if c.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Log
}
