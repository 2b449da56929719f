package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mcpgw/mcpgw/gateway"
	"github.com/mcpgw/mcpgw/internal/config"
)

// maxHeaderBytes is enough for every header of the protocol, tokens and traces included.
const maxHeaderBytes = 32 << 10

func (a *app) serveCommand() *cobra.Command {
	var d daemon
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve MCP over HTTP",
		Long: `Serve MCP over HTTP, at http://ADDRESS/mcp with everything and at http://ADDRESS/servers/NAME/mcp with one downstream.

The configuration is read again when the file changes, on SIGHUP and on POST /-/reload. Downstreams whose configuration did not
change are not touched; a file with faults changes nothing. SIGINT and SIGTERM end the gateway when the calls in flight are done, at
the latest after gateway.timeouts.shutdown; a second signal ends it at once.

Without gateway.tokens only an address that no other machine can reach is accepted, unless --insecure is given.

` + exitCodes,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.serve(cmd.Context(), &d) },
	}
	cmd.Flags().StringVar(&d.listenFlag, "listen", "", "`address` to listen on, instead of gateway.listen")
	cmd.Flags().BoolVar(&d.insecure, "insecure", false, "listen on an address that others can reach although there are no tokens")
	return cmd
}

// daemon is a gateway with its listeners.
type daemon struct {
	listenFlag string
	insecure   bool

	log     *slog.Logger
	gw      *gateway.Gateway
	started *config.File // what the daemon was started with, after --listen
	servers []*http.Server
	wg      sync.WaitGroup // of servers
	failed  chan error     // what ended a server
}

// serve runs until a signal or ctx ends it, or a listener fails.
func (a *app) serve(ctx context.Context, d *daemon) error {
	path, data, file, err := a.load()
	if err != nil {
		return err
	}
	if d.log, err = a.logger(file.Telemetry); err != nil {
		return err
	}
	logWarnings(ctx, d.log, file)
	tuneMemory()
	// Registered before anything can be noticed from outside: from here on SIGHUP does not kill.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()

	d.override(file)
	d.started = file
	if err := exposed(ctx, &file.Settings, d.insecure); err != nil {
		return &exitError{exitConfig, err}
	}
	listeners, err := open(ctx, &file.Settings.Gateway)
	if err != nil {
		return err
	}
	r := newReloader(path, data, d.log, d.reload)
	tel, err := a.telemetry(ctx, file.Telemetry, d.log, true)
	if err != nil {
		for _, l := range listeners {
			err = errors.Join(err, l.Close())
		}
		return err
	}
	defer flush(context.WithoutCancel(ctx), tel, d.log)
	d.gw = gateway.New(gateway.Options{Logger: d.log, Version: thisBuild().Version, Telemetry: tel, Reload: r.request})
	change, err := d.gw.Apply(ctx, file.Settings)
	if err != nil {
		for _, l := range listeners {
			err = errors.Join(err, l.Close())
		}
		return errors.Join(err, d.gw.Close(ctx))
	}
	d.start(listeners)
	reloading, stopReloading := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { r.run(reloading, hup) })
	d.log.InfoContext(ctx, "serving", "url", endpoint(listeners[0].Addr()), "downstreams", len(change.Added), "config", path, "version", thisBuild().Version)

	select {
	case <-ctx.Done():
		err = nil
	case err = <-d.failed:
	}
	stop() // from now on a signal has its usual effect: the second one ends the process at once
	stopReloading()
	wg.Wait()
	d.shutdown(context.WithoutCancel(ctx))
	return err
}

// override puts what the flags say over what the file says.
func (d *daemon) override(file *config.File) {
	if d.listenFlag != "" {
		file.Settings.Gateway.Listen = d.listenFlag
	}
}

// open opens the listener for clients and, if it has an address of its own, that for everything else.
func open(ctx context.Context, cfg *gateway.Config) ([]net.Listener, error) {
	l, err := listen(ctx, "gateway.listen", cfg.Listen)
	if err != nil {
		return nil, err
	}
	if cfg.Admin.Listen == "" {
		return []net.Listener{l}, nil
	}
	admin, err := listen(ctx, "gateway.admin.listen", cfg.Admin.Listen)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return []net.Listener{l, admin}, nil
}

// start serves on what open returned.
func (d *daemon) start(listeners []net.Listener) {
	t := d.started.Settings.Gateway.Timeouts
	handlers := []http.Handler{d.gw.Handler(), d.gw.AdminHandler()}
	d.failed = make(chan error, len(listeners))
	for i, l := range listeners {
		// No WriteTimeout and no ReadTimeout: they count from the start of the request, and streams last for hours. Writes have a
		// deadline each (package gateway), bodies that of timedBody.
		s := &http.Server{
			Handler: bodyWithin(t.Body, handlers[i]), ReadHeaderTimeout: t.Header, IdleTimeout: t.Idle, MaxHeaderBytes: maxHeaderBytes,
			ErrorLog: slog.NewLogLogger(d.log.Handler(), slog.LevelWarn),
		}
		d.servers = append(d.servers, s)
		d.wg.Go(func() {
			if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				d.failed <- fmt.Errorf("serving on %s: %w", l.Addr(), err)
			}
		})
	}
}

// reload puts a file into force that was read while the daemon runs.
func (d *daemon) reload(ctx context.Context, file *config.File) (gateway.Change, error) {
	d.override(file)
	now := file.Settings
	if err := exposed(ctx, &now, d.insecure); err != nil {
		return gateway.Change{}, err
	}
	// The addresses stay those of the start, so the tokens must not go away while they are open to others.
	now.Gateway.Listen, now.Gateway.Admin.Listen = d.started.Settings.Gateway.Listen, d.started.Settings.Gateway.Admin.Listen
	if err := exposed(ctx, &now, d.insecure); err != nil {
		return gateway.Change{}, err
	}
	change, err := d.gw.Apply(ctx, file.Settings)
	if err != nil {
		return change, err
	}
	for _, key := range needRestart(d.started, file) {
		if !slices.Contains(change.Restart, key) {
			change.Restart = append(change.Restart, key)
		}
	}
	return change, nil
}

// needRestart names the settings that are used only at the start and differ.
func needRestart(was, is *config.File) []string {
	a, b := &was.Settings.Gateway, &is.Settings.Gateway
	var keys []string
	for _, s := range []struct {
		key  string
		same bool
	}{
		{"gateway.listen", a.Listen == b.Listen},
		{"gateway.admin.listen", a.Admin.Listen == b.Admin.Listen},
		{"gateway.timeouts.header", a.Timeouts.Header == b.Timeouts.Header},
		{"gateway.timeouts.body", a.Timeouts.Body == b.Timeouts.Body},
		{"gateway.timeouts.idle", a.Timeouts.Idle == b.Timeouts.Idle},
		{"telemetry", reflect.DeepEqual(was.Telemetry, is.Telemetry)},
	} {
		if !s.same {
			keys = append(keys, s.key)
		}
	}
	return keys
}

// shutdown ends the daemon: requests in flight get gateway.timeouts.shutdown, ending the downstreams gets as long again.
func (d *daemon) shutdown(ctx context.Context) {
	patience := d.started.Settings.Gateway.Timeouts.Shutdown
	d.log.InfoContext(ctx, "shutting down, a second signal ends at once", "patience", patience)
	drain, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := d.gw.Drain(drain); err != nil {
		d.log.WarnContext(ctx, "requests in flight were abandoned", "err", err)
	}
	// Nothing is in flight any more but the last bytes of answers.
	const lastBytes = 2 * time.Second
	flush, cancel := context.WithTimeout(ctx, lastBytes)
	defer cancel()
	for _, s := range d.servers {
		if err := s.Shutdown(flush); err != nil {
			d.log.WarnContext(ctx, "connections were cut", "err", errors.Join(err, s.Close()))
		}
	}
	d.wg.Wait()
	closeGateway(ctx, d.gw, patience, d.log)
	d.log.InfoContext(ctx, "ended")
}

func closeGateway(ctx context.Context, gw *gateway.Gateway, patience time.Duration, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := gw.Close(ctx); err != nil {
		log.WarnContext(ctx, "downstreams did not end in good order", "err", err)
	}
}
