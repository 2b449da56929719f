package downstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

// Connection says how the connections to a server over HTTP, or to the system of a preset, are kept.
type Connection struct {
	MaxTotal    int           `yaml:"max_total" default:"0" doc:"Connections to all hosts of this server together. Several urls get equal shares. 0: as many as there are calls (bulkhead, limits.in_flight); 100 to the system of a preset."`
	MaxPerHost  int           `yaml:"max_per_host" default:"0" doc:"Connections to one host; further calls wait for a free one. Streams that only listen have connections of their own. 0: as many as there are calls; 30 to the system of a preset."`
	DNSCacheTTL time.Duration `yaml:"dns_cache_ttl" default:"5m" doc:"How long the addresses of a host name are used without asking again, unless none of them answers. 0s: not at all."`
	KeepAlive   time.Duration `yaml:"keep_alive" default:"90s" doc:"How long a connection that is not used is kept for the next call."`
}

// DefaultConnection returns a Connection with every default filled in.
func DefaultConnection() Connection {
	return Connection{DNSCacheTTL: 5 * time.Minute, KeepAlive: 90 * time.Second}
}

func (c *Config) validateConnection() []error {
	var errs []error
	if c.Command != "" && c.Connection != DefaultConnection() {
		errs = append(errs, fieldErrorf("connection", "only a server with a url, or with a preset, has connections"))
	}
	for key, n := range map[string]int{"connection.max_total": c.Connection.MaxTotal, "connection.max_per_host": c.Connection.MaxPerHost} {
		if n < 0 {
			errs = append(errs, fieldErrorf(key, "must not be negative, found %d", n))
		}
	}
	if n := len(c.URLs); c.Connection.MaxTotal > 0 && c.Connection.MaxTotal < n {
		errs = append(errs, fieldErrorf("connection.max_total", "must be at least 1 for each of urls (%d), found %d", n, c.Connection.MaxTotal))
	}
	if c.Connection.DNSCacheTTL < 0 {
		errs = append(errs, fieldErrorf("connection.dns_cache_ttl", "must not be negative, found %s", c.Connection.DNSCacheTTL))
	}
	if c.Connection.KeepAlive <= 0 {
		errs = append(errs, fieldErrorf("connection.keep_alive", "must be more than 0, found %s", c.Connection.KeepAlive))
	}
	return errs
}

// perHost is how many connections for calls there may be to one endpoint of a server over HTTP; 0 for any number.
func (c *Config) perHost() int {
	n := c.Connection.MaxPerHost
	if share := c.Connection.MaxTotal / max(1, len(c.URLs)); share > 0 && (n == 0 || share < n) {
		n = share
	}
	return n
}

// ofSystem is c in the terms of the built-in servers.
func (c *Connection) ofSystem(connect time.Duration) kit.Connection {
	out := kit.Connection{MaxTotal: c.MaxTotal, MaxPerHost: c.MaxPerHost, DNSCacheTTL: c.DNSCacheTTL, DialTimeout: connect, IdleTimeout: c.KeepAlive}
	if c.DNSCacheTTL == 0 {
		out.DNSCacheTTL = -1
	}
	return out
}

// newDialer returns what opens the connections to a server over HTTP.
func newDialer(cfg *Config) *kit.Dialer {
	d := kit.NewDialer(kit.Connection{DNSCacheTTL: cfg.Connection.DNSCacheTTL, DialTimeout: cfg.Timeouts.Connect})
	d.Net.KeepAliveConfig = net.KeepAliveConfig{
		// A connection whose other end is gone without a word ends after a minute, so that a stream that only listens notices.
		Enable: true, Idle: 20 * time.Second, Interval: 10 * time.Second, Count: 4,
	}
	return d
}

// errNoPlace reports that a call waited in vain for one of the connections that are allowed. It says nothing against the server.
var errNoPlace = errors.New("all connections that it may have are in use (connection.max_per_host)")

// noPlace is the error of a request for which there was no connection until ctx ended.
func noPlace(ctx context.Context) error {
	return fmt.Errorf("%w: %w", errNoPlace, context.Cause(ctx))
}

// waiting tells whether a request through net/http's Transport, which may have but so many connections, ever got as far as one.
type waiting struct{ over atomic.Bool }

func (w *waiting) watch(ctx context.Context) context.Context {
	over := func() { w.over.Store(true) }
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { over() }, ConnectStart: func(string, string) { over() }, DNSStart: func(httptrace.DNSStartInfo) { over() },
	})
}

// listening returns the client for streams that only listen, which must not take the places of calls.
func (h *httpClient) listening() *httpClient {
	if h.streams == nil {
		return h
	}
	return h.streams
}

// transports makes what carries requests for cfg, at most limit at the same time (0: any number).
func (h *httpClient) transports(cfg *Config, dialer *kit.Dialer, limit int) {
	h.transport = newTransport(cfg, dialer, limit)
	if proxy, err := http.ProxyFromEnvironment(&http.Request{URL: h.url}); h.url.Scheme == "http" && proxy == nil && err == nil {
		addr := h.url.Host
		if h.url.Port() == "" {
			addr = net.JoinHostPort(h.url.Hostname(), "80")
		}
		t := h.transport
		h.plain = &plainTransport{addr: addr, maxIdle: cfg.Limits.Connections, keep: cfg.Connection.KeepAlive, dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return t.DialContext(ctx, network, addr)
		}}
		if limit > 0 {
			h.plain.places = make(chan struct{}, limit)
		}
	}
}
