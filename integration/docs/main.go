// The program docs runs the documentation: every configuration in README.md and docs/ is checked by mcpgw itself, and every command is run
// in a folder with a gateway of its own.
//
//	go run ./integration/docs            all pages
//	go run ./integration/docs README.md  some of them
//
// In a console block the commands stand after "$ ", and what follows is their output: each of its lines must come, in this order, with all
// words that are not numbers or times ("…" stands for anything). "console eventually" repeats a command until its output is so. "yaml
// gateway.yaml" is the file of the page's own gateway, for the commands that follow. npx is one of ours, which starts a test server.
//
// What cannot run here (docker, systemctl, clients of others) must be on the list of such programs, and is counted. A block that is no
// complete example says so: "yaml fragment" or "sh example".
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "docs:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, pages []string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	root, err := harness.Root(ctx)
	if err != nil {
		return err
	}
	if len(pages) == 0 {
		if pages, err = allPages(root); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp("", "mcpgw-docs-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	bin, err := harness.Build(ctx, dir, "./cmd/mcpgw")
	if err != nil {
		return err
	}
	if _, err := harness.Build(ctx, dir, "./integration/testserver"); err != nil {
		return err
	}
	bad := 0
	for _, page := range pages {
		blocks, err := readBlocks(filepath.Join(root, page))
		if err != nil {
			return err
		}
		p := &runner{root: root, bin: bin, page: page}
		if err := p.all(ctx, dir, blocks); err != nil {
			return err
		}
		if len(p.faults) == 0 {
			if p.checked+p.ran+p.left > 0 {
				fmt.Fprintf(os.Stdout, "passed %s: %d configurations, %d commands; %d not for here%s\n", page, p.checked, p.ran, p.left, p.list())
			}
			continue
		}
		bad++
		fmt.Fprintf(os.Stdout, "FAILED %s:\n", page)
		for _, f := range p.faults {
			fmt.Fprintln(os.Stdout, "  "+strings.ReplaceAll(strings.TrimSpace(f), "\n", "\n    "))
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d pages say something that is not so", bad, len(pages))
	}
	return nil
}

// allPages returns README.md and every page below docs, but for the records of decisions, which speak of the past.
func allPages(root string) ([]string, error) {
	pages := []string{"README.md"}
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "decisions":
			return fs.SkipDir
		case strings.HasSuffix(path, ".md"):
			rel, err := filepath.Rel(root, path)
			pages = append(pages, rel)
			return err
		}
		return nil
	})
	slices.Sort(pages[1:])
	return pages, err
}

// block is one fenced block of a page.
type block struct {
	line int // of its first line
	kind string
	text string
}

// readBlocks returns the fenced blocks of a page.
func readBlocks(path string) ([]block, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var blocks []block
	var open *block
	indent := ""
	for i, line := range strings.Split(string(b), "\n") {
		trimmed := strings.TrimLeft(line, " ")
		switch {
		case open == nil && strings.HasPrefix(trimmed, "```"):
			indent = line[:len(line)-len(trimmed)]
			open = &block{line: i + 2, kind: strings.TrimSpace(strings.TrimLeft(trimmed, "`"))}
		case open != nil && strings.HasPrefix(trimmed, "```"):
			blocks = append(blocks, *open)
			open = nil
		case open != nil:
			open.text += strings.TrimPrefix(line, indent) + "\n"
		}
	}
	if open != nil {
		return nil, errors.New(path + ": a block is not closed")
	}
	return blocks, nil
}
