package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/mcpgw/mcpgw/telemetry"
)

// telemetry sets up metrics, spans and records of requests. scraped says that there is an address for /metrics.
func (a *app) telemetry(ctx context.Context, c telemetry.Config, log *slog.Logger, scraped bool) (*telemetry.Telemetry, error) {
	// What is printed for trying goes where the log goes: standard output may belong to a client that speaks MCP.
	t, err := telemetry.Start(ctx, c, telemetry.Options{Logger: log, Version: thisBuild().Version, Console: a.stderr, Scraped: scraped})
	if err != nil {
		return nil, &exitError{exitConfig, err}
	}
	return t, nil
}

// flushPatience is how long the end of the program waits for a collector.
const flushPatience = 5 * time.Second

// flush sends what telemetry has not sent yet.
func flush(ctx context.Context, t *telemetry.Telemetry, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, flushPatience)
	defer cancel()
	if err := t.Shutdown(ctx); err != nil {
		log.WarnContext(ctx, "the last of telemetry could not be sent", "err", err)
	}
}
