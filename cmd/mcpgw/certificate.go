package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"
)

// soon is when a certificate that ends should be renewed.
const soon = 21 * 24 * time.Hour

// certificate is what a TLS server shows.
type certificate struct {
	host     string
	notAfter time.Time // the earliest of its chain; zero if there was none to see
	err      error     // why it is not trusted, or could not be seen
}

// inspect looks at the certificate of a server. Whether this machine trusts it is one answer, when it ends another.
func inspect(ctx context.Context, address, host string) certificate {
	c := certificate{host: host}
	// Nothing is sent over the connection; what is shown is verified below.
	d := tls.Dialer{Config: &tls.Config{ServerName: host, InsecureSkipVerify: true}} //nolint:gosec // see above
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		c.err = err
		return c
	}
	defer func() { _ = conn.Close() }()
	t, ok := conn.(*tls.Conn)
	if !ok || len(t.ConnectionState().PeerCertificates) == 0 {
		c.err = errors.New("no certificate")
		return c
	}
	chain := t.ConnectionState().PeerCertificates
	between := x509.NewCertPool()
	for i, one := range chain {
		if c.notAfter.IsZero() || one.NotAfter.Before(c.notAfter) {
			c.notAfter = one.NotAfter
		}
		if i > 0 {
			between.AddCert(one)
		}
	}
	name := host
	if net.ParseIP(host) != nil {
		name = "[" + host + "]"
	}
	_, c.err = chain[0].Verify(x509.VerifyOptions{DNSName: name, Intermediates: between})
	return c
}

// expiry says when the certificate ends, if that is soon or over.
func (c *certificate) expiry(now time.Time) string {
	left := c.notAfter.Sub(now)
	switch {
	case c.notAfter.IsZero() || left >= soon:
		return ""
	case left <= 0:
		return fmt.Sprintf("the certificate of %s has expired on %s", c.host, c.notAfter.Format(time.DateOnly))
	}
	return fmt.Sprintf("the certificate of %s expires on %s, in %s", c.host, c.notAfter.Format(time.DateOnly), count(int(left.Hours()/24), "day"))
}
