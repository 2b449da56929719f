package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/mcpgw/mcpgw/gateway"
)

func (a *app) statusCommand() *cobra.Command {
	var (
		address  string
		watch    bool
		alive    bool
		interval time.Duration
	)
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say how the servers behind a running gateway are",
		Long: `Say how the servers behind a running gateway are, and their circuits: what the tool circuit_status tells agents. The gateway is
found by gateway.listen (or gateway.admin.listen) and gateway.tokens of the configuration, or by --url.

With --watch a terminal shows a view that keeps itself up to date: states, circuits, calls in flight and in queues, rates, the last error, and
when a server is tried again. Elsewhere it prints a line for each server when something changed. The variable NO_COLOR takes the colours away.

` + exitCodes,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&address, "url", "", "`address` of the gateway, such as http://127.0.0.1:8080, instead of what the configuration says")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on until interrupted; with --output json one line for each look")
	cmd.Flags().BoolVar(&alive, "alive", false, "only find out whether the gateway answers, whatever its servers do: for health checks of containers")
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
		if alive {
			_, err := r.status(cmd.Context())
			return err
		}
		if watch {
			return a.watchStatus(cmd.Context(), r, interval, *out)
		}
		st, err := a.showStatus(cmd.Context(), r, *out)
		if err == nil && st.Summary.Health != "healthy" {
			return &exitError{code: exitNotReady}
		}
		return err
	}
	return cmd
}

func (r *remote) status(ctx context.Context) (*gateway.Status, error) {
	var st gateway.Status
	return &st, r.do(ctx, http.MethodGet, "/status", nil, &st)
}

// showStatus prints the status once.
func (a *app) showStatus(ctx context.Context, r *remote, out output) (*gateway.Status, error) {
	st, err := r.status(ctx)
	if err != nil {
		return nil, err
	}
	if out == "json" {
		return st, a.printJSON(st)
	}
	_, err = fmt.Fprintln(a.stdout, st.Text())
	return st, err
}

// watchStatus shows the status again and again until ctx is done or a signal ends it. A gateway that does not answer is told of and waited for.
func (a *app) watchStatus(ctx context.Context, r *remote, interval time.Duration, out output) error {
	ctx, stop := untilSignal(ctx)
	defer stop()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	show := a.plainWatch(r.base)
	switch {
	case out == "json":
		show = func(st *gateway.Status, err error) error {
			if err != nil {
				a.complain(err)
				return nil
			}
			return json.NewEncoder(a.stdout).Encode(st)
		}
	case terminal(a.stdout):
		var end func()
		show, end = a.fullScreen(r.base, interval)
		defer end()
	}
	for {
		st, err := r.status(ctx)
		if ctx.Err() == nil {
			if err := show(st, err); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
