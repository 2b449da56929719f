// Emulators tries the built-in servers, through the built gateway, against emulators of their systems that others wrote, and says what is
// different. It installs what it needs into the cache folder (MCPGW_CACHE, or .cache).
//
//	go run ./integration/emulators [NAME]…
package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
)

// emulator is one of them. Each file adds its own, in init.
type emulator struct {
	name, what string
	run        func(context.Context, *stage) error
}

var emulators []emulator

func main() { os.Exit(run(os.Args[1:])) }

func run(names []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	slices.SortFunc(emulators, func(a, b emulator) int { return cmp.Compare(a.name, b.name) })
	for _, name := range names {
		if !slices.ContainsFunc(emulators, func(e emulator) bool { return e.name == name }) {
			fmt.Fprintf(os.Stderr, "no emulator %q; there is:\n", name)
			for _, e := range emulators {
				fmt.Fprintf(os.Stderr, "  %-12s %s\n", e.name, e.what)
			}
			return 64
		}
	}
	dir, err := os.MkdirTemp("", "emulators-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	code, program := 0, ""
	for _, e := range emulators {
		if len(names) > 0 && !slices.Contains(names, e.name) {
			continue
		}
		fmt.Fprintf(os.Stdout, "%s: %s\n", e.name, e.what)
		s, err := newStage(ctx, dir, &program)
		if err == nil {
			err = e.run(ctx, s)
		}
		if err != nil {
			fmt.Fprintf(os.Stdout, "  FAIL  %v\n", err)
			code = 1
			continue
		}
		fmt.Fprintf(os.Stdout, "  %d ok, %d not\n", s.passed, s.failed)
		if s.failed > 0 {
			code = 1
		}
	}
	return code
}
