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

	"github.com/spf13/cobra"

	"github.com/mcpgw/mcpgw/gateway"
)

// remote is a gateway that runs, as the configuration says where.
type remote struct {
	base  string
	token string
}

// remotePatience is how long a running gateway may take to answer from memory.
const remotePatience = 10 * time.Second

// remote finds the gateway that was started with the configuration file. address is what --url says.
func (a *app) remote(address string) (*remote, error) {
	_, _, file, err := a.load()
	if err != nil && address == "" {
		return nil, err
	}
	r := &remote{base: strings.TrimSuffix(address, "/")}
	if file != nil {
		cfg := &file.Settings.Gateway
		if r.base == "" {
			listen := cfg.Listen
			if cfg.Admin.Listen != "" {
				listen = cfg.Admin.Listen
			}
			host, port, err := net.SplitHostPort(listen)
			if err != nil {
				return nil, fmt.Errorf("gateway.listen: %w", err)
			}
			if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
				host = "localhost"
			}
			r.base = "http://" + net.JoinHostPort(host, port)
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
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return fmt.Errorf("no gateway answers at %s (is mcpgw serve running, with this configuration?): %w", r.base, err)
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

func (a *app) statusCommand() *cobra.Command {
	var (
		address  string
		watch    bool
		interval time.Duration
	)
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say how the servers behind a running gateway are",
		Long: `Say how the servers behind a running gateway are, and their circuits: what the tool circuit_status tells agents. The gateway is
found by gateway.listen (or gateway.admin.listen) and gateway.tokens of the configuration, or by --url.

` + exitCodes,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&address, "url", "", "`address` of the gateway, such as http://127.0.0.1:8080, instead of what the configuration says")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on until interrupted; with --output json one line for each look")
	cmd.Flags().DurationVar(&interval, "interval", 2*time.Second, "between two looks of --watch")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if interval <= 0 {
			a.begun = false
			return fmt.Errorf("--interval: must be more than 0, found %s", interval)
		}
		r, err := a.remote(address)
		if err != nil {
			return err
		}
		if watch {
			return a.watchStatus(cmd.Context(), r, interval, *out)
		}
		st, err := a.showStatus(cmd.Context(), r, *out, false)
		if err == nil && st.Summary.Health != "healthy" {
			return &exitError{code: exitNotReady}
		}
		return err
	}
	return cmd
}

// showStatus prints the status once.
func (a *app) showStatus(ctx context.Context, r *remote, out output, oneLine bool) (*gateway.Status, error) {
	var st gateway.Status
	if err := r.do(ctx, http.MethodGet, "/status", nil, &st); err != nil {
		return nil, err
	}
	switch {
	case out == "json" && oneLine:
		return &st, json.NewEncoder(a.stdout).Encode(&st)
	case out == "json":
		return &st, a.printJSON(&st)
	}
	_, err := fmt.Fprintln(a.stdout, st.Text())
	return &st, err
}

// watchStatus prints the status again and again until ctx is done. A gateway that does not answer is told of and waited for.
func (a *app) watchStatus(ctx context.Context, r *remote, interval time.Duration, out output) error {
	const clear = "\x1b[H\x1b[2J"
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if out != "json" {
			_, _ = fmt.Fprintf(a.stdout, "%s%s, every %s\n\n", clear, r.base, interval) // a terminal that is gone ends the process
		}
		if _, err := a.showStatus(ctx, r, out, true); err != nil && ctx.Err() == nil {
			a.complain(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (a *app) circuitCommand() *cobra.Command {
	var address string
	cmd := &cobra.Command{
		Use:       "circuit open|close|reset|isolate|disable|probe NAME",
		Short:     "Change a circuit of a running gateway by hand",
		ValidArgs: []string{"open", "close", "reset", "isolate", "disable", "probe"},
		Long: `Change a circuit of a running gateway by hand. NAME is the circuit's, or that of its server; mcpgw status lists them.

  open     refuse calls for the configured time, then let trials through
  close    let calls pass
  reset    close, and forget the history
  isolate  refuse calls until close or reset
  disable  let calls pass and only measure, until close or reset
  probe    let trials begin at once

The gateway must have gateway.admin_tools: true. It is found as by mcpgw status.

` + exitCodes,
		Args: cobra.ExactArgs(2),
	}
	cmd.Flags().StringVar(&address, "url", "", "`address` of the gateway, instead of what the configuration says")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := a.remote(address)
		if err != nil {
			return err
		}
		var c gateway.CircuitStatus
		if err := r.do(cmd.Context(), http.MethodPost, "/-/circuit", map[string]string{"action": args[0], "name": args[1]}, &c); err != nil {
			return err
		}
		if *out == "json" {
			return a.printJSON(&c)
		}
		_, err = fmt.Fprintf(a.stdout, "circuit '%s' of %s is %s\n", c.Name, c.Dependency, c.State)
		return err
	}
	return cmd
}
