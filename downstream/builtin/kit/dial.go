package kit

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
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

// total bounds the connections of all built-in servers together.
var total = make(chan struct{}, 100)

// MaxConnections is how many connections all built-in servers together may have.
const MaxConnections = 100

// NewTransport returns an HTTP transport within the limits of cfg.
func NewTransport(cfg TLS, limits Connection) (*http.Transport, error) {
	limits = limits.WithDefaults()
	conf, err := TLSConfig(cfg)
	if err != nil {
		return nil, err
	}
	d := &Dialer{Limits: limits}
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         d.DialContext,
		TLSClientConfig:     conf,
		TLSHandshakeTimeout: limits.DialTimeout,
		MaxConnsPerHost:     limits.MaxPerHost,
		MaxIdleConnsPerHost: limits.MaxPerHost,
		MaxIdleConns:        MaxConnections,
		IdleConnTimeout:     limits.IdleTimeout,
		DisableCompression:  false,
		ForceAttemptHTTP2:   false, // appliances' HTTP/2 is poorly tested, and one connection for all calls would hang all of them
	}, nil
}

// Dialer opens connections within limits and remembers the addresses of names. Its methods may be called at the same time.
type Dialer struct {
	Limits Connection

	mu    sync.Mutex
	names map[string]addresses // guarded by mu
}

type addresses struct {
	list  []string
	until time.Time
}

// DialContext is as [net.Dialer.DialContext]. It waits for a free place among [MaxConnections].
func (d *Dialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.Limits.DialTimeout)
	defer cancel()
	select {
	case total <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("all %d connections of the built-in servers are in use: %w", MaxConnections, ctx.Err())
	}
	conn, err := d.dial(ctx, network, addr)
	if err != nil {
		<-total
		return nil, err
	}
	return &counted{Conn: conn}, nil
}

func (d *Dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	list, cached, err := d.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	var last error
	plain := &net.Dialer{}
	for _, a := range list {
		conn, err := plain.DialContext(ctx, network, net.JoinHostPort(a, port))
		if err == nil {
			return conn, nil
		}
		last = err
	}
	if cached { // it may have moved
		d.mu.Lock()
		delete(d.names, host)
		d.mu.Unlock()
	}
	return nil, last
}

func (d *Dialer) lookup(ctx context.Context, host string) (list []string, cached bool, err error) {
	if net.ParseIP(host) != nil {
		return []string{host}, false, nil
	}
	d.mu.Lock()
	known, ok := d.names[host]
	d.mu.Unlock()
	if ok && time.Now().Before(known.until) {
		return known.list, true, nil
	}
	list, err = net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return nil, false, err
	}
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.names == nil {
		d.names = map[string]addresses{}
	}
	d.names[host] = addresses{list, time.Now().Add(d.Limits.DNSCacheTTL)}
	return list, false, nil
}

// counted gives its place back when it is closed.
type counted struct {
	net.Conn
	once sync.Once
}

func (c *counted) Close() error {
	defer c.once.Do(func() { <-total })
	return c.Conn.Close()
}
