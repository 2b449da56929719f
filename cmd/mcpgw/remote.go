package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/gateway"
	"github.com/mcpgw/mcpgw/internal/config"
)

// remote is a gateway that runs, as the configuration says where.
type remote struct {
	base  string // of what is not MCP
	mcp   string // the endpoint of clients
	token string
}

// unreachableError says that no gateway answers.
type unreachableError struct {
	base string
	err  error
}

func (e *unreachableError) Error() string {
	return fmt.Sprintf("no gateway answers at %s: %v\nStart it with mcpgw serve, or name another one with --config or --url; mcpgw doctor looks for the cause", e.base, e.err)
}

func (e *unreachableError) Unwrap() error { return e.err }

// remotePatience is how long a running gateway may take to answer from memory.
const remotePatience = 10 * time.Second

// remote finds the gateway that was started with the configuration file. address is what --url says.
func (a *app) remote(address string) (*remote, error) {
	path, err := a.find()
	if err != nil && address == "" {
		return nil, err
	}
	var cfg *gateway.Config
	if err == nil {
		if cfg, err = config.Outline(path); err != nil && address == "" {
			return nil, &exitError{exitConfig, err}
		}
	}
	// People paste the address that they gave to a client.
	r := &remote{base: strings.TrimSuffix(strings.TrimSuffix(address, "/"), "/mcp")}
	r.mcp = r.base + "/mcp"
	if cfg != nil {
		if address == "" {
			base, err := reachable(cfg.Listen)
			if err != nil {
				return nil, fmt.Errorf("gateway.listen: %w", err)
			}
			r.base, r.mcp = base, base+"/mcp"
			if cfg.Admin.Listen != "" {
				if r.base, err = reachable(cfg.Admin.Listen); err != nil {
					return nil, fmt.Errorf("gateway.admin.listen: %w", err)
				}
			}
		}
		if len(cfg.Tokens) > 0 {
			r.token = cfg.Tokens[0].Reveal()
		}
	}
	if u, err := url.Parse(r.base); err != nil || u.Host == "" {
		return nil, fmt.Errorf("--url: expected http://HOST:PORT, found %q", address)
	}
	return r, nil
}

// reachable returns the URL at which this machine reaches what listens on address.
func reachable(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port), nil
}

// do sends one request and decodes the answer into out.
func (r *remote) do(ctx context.Context, method, path string, body, out any) error {
	ctx, cancel := context.WithTimeout(ctx, remotePatience)
	defer cancel()
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, r.base+path, in)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return unreachable(r.base, err)
	}
	defer func() { _ = resp.Body.Close() }()
	const most = 16 << 20
	data, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return fmt.Errorf("reading the answer of %s: %w", r.base, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s%s: %s", r.base, path, strings.TrimSpace(string(data)))
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("%s%s: not the answer of a gateway: %w", r.base, path, err)
	}
	return nil
}

// unreachable makes an error of one that http.Client returned. The caller's own end is none of the gateway's.
func unreachable(base string, err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "dial" {
		err = e.Err // the address is said already
	}
	return &exitError{exitUnreachable, &unreachableError{base, err}}
}
