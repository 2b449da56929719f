package kit

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// TLSConfig returns the settings for connections to the system. It reads the files that cfg names.
func TLSConfig(cfg TLS) (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: cfg.InsecureSkipVerify} //nolint:gosec // the operator's explicit choice, of which every start warns
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file: %s holds no certificate in PEM form", cfg.CAFile)
		}
	}
	if cfg.Pin != "" {
		pin, err := ParsePin(cfg.Pin)
		if err != nil {
			return nil, err
		}
		// The pin says more than a chain and a name could: it is checked instead of them.
		out.InsecureSkipVerify = true
		out.VerifyConnection = func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return errors.New("the system showed no certificate")
			}
			if sum := sha256.Sum256(s.PeerCertificates[0].Raw); sum != pin {
				return fmt.Errorf("the certificate is not the pinned one: it has sha256:%s", hex.EncodeToString(sum[:]))
			}
			return nil
		}
	}
	return out, nil
}

// ParsePin reads the form of [TLS.Pin].
func ParsePin(s string) ([sha256.Size]byte, error) {
	var pin [sha256.Size]byte
	digits, ok := strings.CutPrefix(strings.ToLower(s), "sha256:")
	raw, err := hex.DecodeString(strings.ReplaceAll(digits, ":", ""))
	if !ok || err != nil || len(raw) != len(pin) {
		return pin, errors.New(`expected "sha256:" and 64 hexadecimal digits (openssl x509 -noout -fingerprint -sha256 shows them)`)
	}
	return [sha256.Size]byte(raw), nil
}

// NewTransport returns an HTTP transport within the limits of cfg.
func NewTransport(cfg TLS, limits Connection) (*http.Transport, error) {
	limits = limits.WithDefaults()
	conf, err := TLSConfig(cfg)
	if err != nil {
		return nil, err
	}
	d := NewDialer(limits)
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         d.DialContext,
		TLSClientConfig:     conf,
		TLSHandshakeTimeout: limits.DialTimeout,
		MaxConnsPerHost:     limits.MaxPerHost,
		MaxIdleConnsPerHost: limits.MaxPerHost,
		MaxIdleConns:        limits.MaxTotal,
		IdleConnTimeout:     limits.IdleTimeout,
		DisableCompression:  false,
		ForceAttemptHTTP2:   false, // appliances' HTTP/2 is poorly tested, and one connection for all calls would hang all of them
	}, nil
}

// Dialer opens connections within limits and remembers the addresses of names. Make one with [NewDialer]. Its methods may be called at
// the same time.
type Dialer struct {
	// Net makes each connection; its Timeout and Resolver are not used.
	Net net.Dialer

	limits Connection
	places chan struct{} // one element for each open connection; nil: no limit
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)

	mu    sync.Mutex
	names map[string]addresses // guarded by mu
}

type addresses struct {
	list  []netip.Addr
	until time.Time
}

// NewDialer returns a Dialer for limits, of which MaxTotal, DNSCacheTTL and DialTimeout count, as they are: a zero is no limit, no cache, no
// timeout.
func NewDialer(limits Connection) *Dialer {
	d := &Dialer{limits: limits, names: map[string]addresses{}, lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
		return net.DefaultResolver.LookupNetIP(ctx, "ip", host) // asks once for those who ask at the same time
	}}
	if limits.MaxTotal > 0 {
		d.places = make(chan struct{}, limits.MaxTotal)
	}
	return d
}

// DialContext is as [net.Dialer.DialContext]. It waits for a free place among Connection.MaxTotal.
func (d *Dialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if d.limits.DialTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.limits.DialTimeout)
		defer cancel()
	}
	if d.places == nil {
		return d.dial(ctx, network, addr)
	}
	select {
	case d.places <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("all %d connections to it are in use (connection.max_total): %w", d.limits.MaxTotal, ctx.Err())
	}
	conn, err := d.dial(ctx, network, addr)
	if err != nil {
		<-d.places
		return nil, err
	}
	return &counted{Conn: conn, places: d.places}, nil
}

func (d *Dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return d.Net.DialContext(ctx, network, addr)
	}
	list, cached, err := d.addresses(ctx, host)
	if err != nil {
		return nil, err
	}
	conn, first, err := d.race(ctx, network, port, list)
	switch {
	case err != nil && cached && ctx.Err() == nil: // it may have moved
		d.forget(host)
	case err == nil && first != list[0]:
		d.prefer(host, first)
	}
	return conn, err
}

// addresses returns those of host, and whether they are from the cache.
func (d *Dialer) addresses(ctx context.Context, host string) (list []netip.Addr, cached bool, err error) {
	d.mu.Lock()
	known, ok := d.names[host]
	d.mu.Unlock()
	if ok && time.Now().Before(known.until) {
		return known.list, true, nil
	}
	if list, err = d.lookup(ctx, host); err != nil {
		return nil, false, err
	}
	if len(list) == 0 {
		return nil, false, &net.DNSError{Err: "no address", Name: host, IsNotFound: true}
	}
	if d.limits.DNSCacheTTL > 0 {
		d.mu.Lock()
		d.names[host] = addresses{list, time.Now().Add(d.limits.DNSCacheTTL)}
		d.mu.Unlock()
	}
	return list, false, nil
}

func (d *Dialer) forget(host string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.names, host)
}

// prefer puts an address that answered before those that did not.
func (d *Dialer) prefer(host string, first netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	known, ok := d.names[host]
	if !ok {
		return
	}
	list := []netip.Addr{first}
	for _, a := range known.list {
		if a != first {
			list = append(list, a)
		}
	}
	d.names[host] = addresses{list, known.until}
}

// headStart is how long an address is tried alone before the next one is tried too (RFC 8305).
const headStart = 300 * time.Millisecond

// race connects to the first address that answers, and returns which that was.
func (d *Dialer) race(ctx context.Context, network, port string, list []netip.Addr) (net.Conn, netip.Addr, error) {
	if len(list) == 1 {
		conn, err := d.Net.DialContext(ctx, network, net.JoinHostPort(list[0].String(), port))
		return conn, list[0], err
	}
	type result struct {
		conn net.Conn
		addr netip.Addr
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result, len(list))
	next := time.NewTimer(0)
	defer next.Stop()
	begun, ended := 0, 0
	var errs error
	for ended < len(list) {
		select {
		case <-next.C:
			if begun < len(list) {
				addr := list[begun]
				begun++
				go func() { // ends with ctx; who wins the race closes what comes too late
					conn, err := d.Net.DialContext(ctx, network, net.JoinHostPort(addr.String(), port))
					results <- result{conn, addr, err}
				}()
				next.Reset(headStart)
			}
		case r := <-results:
			ended++
			if r.err == nil {
				go func() {
					for range begun - ended {
						if late := <-results; late.conn != nil {
							_ = late.conn.Close()
						}
					}
				}()
				return r.conn, r.addr, nil
			}
			if errs == nil {
				errs = r.err // of the address that should have been best
			}
			next.Reset(0)
		}
	}
	return nil, netip.Addr{}, errs
}

// counted gives its place back when it is closed.
type counted struct {
	net.Conn
	places chan struct{}
	once   sync.Once
}

func (c *counted) Close() error {
	defer c.once.Do(func() { <-c.places })
	return c.Conn.Close()
}
