package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"github.com/mcpgw/mcpgw/gateway"
)

// exposedError says why an address that others can reach is refused.
type exposedError struct{ key, address string }

func (e *exposedError) Error() string {
	return fmt.Sprintf("%s: %s can be reached by others, who could then use every tool: set gateway.tokens, so that clients must send one of them, or pass --insecure if something else keeps strangers out",
		e.key, e.address)
}

// exposed returns an error if s would let others in without a token.
func exposed(ctx context.Context, s *gateway.Settings, insecure bool) error {
	if insecure || len(s.Gateway.Tokens) > 0 {
		return nil
	}
	for _, a := range []struct{ key, address string }{{"gateway.listen", s.Gateway.Listen}, {"gateway.admin.listen", s.Gateway.Admin.Listen}} {
		if a.address == "" {
			continue
		}
		local, err := loopback(ctx, a.address)
		if err != nil {
			return fmt.Errorf("%s: %w", a.key, err)
		}
		if !local {
			return &exposedError{a.key, a.address}
		}
	}
	return nil
}

// loopback says whether only this machine can reach address. A name must stand for loopback addresses alone.
func loopback(ctx context.Context, address string) (bool, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false, err
	}
	if host == "" {
		return false, nil // every address of the machine
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return false, fmt.Errorf("finding the address of %q: %w", host, err)
	}
	for _, ip := range ips {
		if !ip.Unmap().IsLoopback() {
			return false, nil
		}
	}
	return len(ips) > 0, nil
}

// listen opens a listener, or says how to mend that it cannot be opened. key is where the address comes from.
func listen(ctx context.Context, key, address string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err == nil {
		return l, nil
	}
	hint := ""
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		_, port, _ := net.SplitHostPort(address)
		hint = fmt.Sprintf(": another program has this port. End it (lsof -i :%s names it), or choose another port with %s", port, flagFor(key))
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = ": this machine does not have the address. Choose another one with " + flagFor(key)
	case errors.Is(err, fs.ErrPermission):
		hint = ": ports below 1024 need a privilege. Choose another one with " + flagFor(key)
	}
	return nil, fmt.Errorf("listening on %s: %w%s", address, err, hint)
}

func flagFor(key string) string {
	if key == "gateway.listen" {
		return "--listen or " + key
	}
	return key
}

// endpoint returns the URL that clients use. A wildcard address is no URL; localhost reaches it.
func endpoint(addr net.Addr) string {
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return "http://" + addr.String() + "/mcp"
	}
	if ap.Addr().IsUnspecified() {
		return fmt.Sprintf("http://localhost:%d/mcp", ap.Port())
	}
	return "http://" + strings.ToLower(ap.String()) + "/mcp"
}
