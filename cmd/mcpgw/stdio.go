package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mcpgw/mcpgw/gateway"
	"github.com/mcpgw/mcpgw/internal/config"
)

func (a *app) stdioCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "stdio",
		Short: "Serve MCP to the program that started this one",
		Long: `Serve MCP over standard input and output, for clients that start their servers as commands. It ends when the input ends.

The log goes to the error stream. The configuration is read again when the file changes; a file with faults changes nothing. No
address is opened: gateway.listen and gateway.tokens have no meaning here.

` + exitCodes,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.stdio(cmd.Context()) },
	}
}

// stdio serves one client until its input ends, or a signal or ctx ends it.
func (a *app) stdio(ctx context.Context) error {
	path, data, file, err := a.load()
	if err != nil {
		return err
	}
	log, err := a.logger(file.Telemetry)
	if err != nil {
		return err
	}
	logWarnings(ctx, log, file)
	tuneMemory()
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	tel, err := a.telemetry(ctx, file.Telemetry, log, false)
	if err != nil {
		return err
	}
	defer flush(context.WithoutCancel(ctx), tel, log)
	gw := gateway.New(gateway.Options{Logger: log, Version: thisBuild().Version, Telemetry: tel})
	patience := file.Settings.Gateway.Timeouts.Shutdown
	defer func() {
		stop() // the second signal ends the process at once
		closeGateway(context.WithoutCancel(ctx), gw, patience, log)
	}()
	if _, err := gw.Apply(ctx, file.Settings); err != nil {
		return err
	}
	r := newReloader(path, data, log, func(ctx context.Context, file *config.File) (gateway.Change, error) {
		return gw.Apply(ctx, file.Settings)
	})
	reloading, stopReloading := context.WithCancel(ctx)
	var wg sync.WaitGroup
	// SIGHUP keeps its usual meaning: the terminal of the client is gone.
	wg.Go(func() { r.run(reloading, nil) })
	defer wg.Wait()
	defer stopReloading()
	return gw.ServeStdio(ctx, a.stdin, a.stdout)
}
