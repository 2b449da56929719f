// The random comparison sends messages made at random from the types of the specification to servers directly and through the gateway,
// and prints what differs: go run ./integration/random -n 100000 -seed 1.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
	"github.com/mcpgw/mcpgw/integration/internal/random"
)

func main() {
	random.ServePeer()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "random:", err)
		os.Exit(1)
	}
}

func run() error {
	n := flag.Int("n", 100000, "how many messages")
	seed := flag.Uint64("seed", 1, "the same seed makes the same messages")
	workers := flag.Int("workers", 2, "how many gateways run at the same time")
	most := flag.Int("most", 10, "stop after so many differences")
	program := flag.String("program", "", "the gateway; empty builds it")
	schema := flag.String("schema", "", "a folder with the specification's 2025-11-25.json and 2026-07-28.json: check every message against them, too")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *program == "" {
		dir, err := os.MkdirTemp("", "mcpgw-random-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir) //nolint:errcheck // a folder that stays harms nobody
		if *program, err = harness.Build(ctx, dir, harness.Gateway); err != nil {
			return err
		}
	}
	var schemas *random.Schemas
	if *schema != "" {
		var err error
		if schemas, err = random.LoadSchemas(*schema); err != nil {
			return err
		}
	}
	begun := time.Now()
	rep, err := random.Run(ctx, random.Options{Program: *program, Count: *n, Seed: *seed, Workers: *workers, Most: *most, Schemas: schemas})
	if err != nil {
		return err
	}
	rep.Write(os.Stdout)
	fmt.Fprintf(os.Stdout, "seed %d, %s\n", *seed, time.Since(begun).Round(time.Second/10))
	if len(rep.Differences) > 0 {
		return fmt.Errorf("%d differences", len(rep.Differences))
	}
	return nil
}
