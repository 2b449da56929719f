package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

//go:embed picture.mjs
var pictureScript []byte

// lasting is how long the servers are used before the picture is taken.
const lasting = 100 * time.Second

// picture makes the picture of the README: the page of a gateway with a simulated system that is down, while the others are used.
func picture(ctx context.Context, node *harness.Node, modules, dir, bin, yaml, file string) error {
	text, err := os.ReadFile(yaml)
	if err != nil {
		return err
	}
	gateway, err := harness.StartGateway(ctx, bin, dir, strings.ReplaceAll(string(text), "127.0.0.1:8080", "LISTEN"))
	if err != nil {
		return err
	}
	defer gateway.Kill()
	mcpgw := func(args ...string) error {
		cmd := exec.CommandContext(ctx, bin, args...)
		cmd.Dir, cmd.Env = dir, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
		out, err := cmd.CombinedOutput()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == 4 {
			err = nil // the tool's answer is an error, which is the point
		}
		if err != nil {
			return fmt.Errorf("mcpgw %s: %w\n%s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	if err := gateway.Until(ctx, "the servers to be ready", func() error { return mcpgw("call", "proxmox__guests") }); err != nil {
		return err
	}
	used := [][]string{
		{"call", "proxmox__cluster"},
		{"call", "truenas__pools"},
		{"call", "truenas__alerts"},
		{"call", "pfsense__overview"},
		{"call", "pfsense__rules"},
		{"call", "host__memory"},
		{"call", "idrac__systems"},
		{"call", "llm__list_models"},
		{"call", "proxmox__guests"},
	}
	// The page shows minutes: the rates, a line of latencies, a timeline.
	began, broken := time.Now(), false
	for n := 0; time.Since(began) < lasting; n++ {
		if !broken && time.Since(began) > lasting*3/4 {
			broken = true
			if err := mcpgw("lab", "break", "proxmox", "--fault", "refuse"); err != nil {
				return err
			}
		}
		if err := mcpgw(used[n%len(used)]...); err != nil {
			return err
		}
	}
	script := filepath.Join(dir, "picture.mjs")
	if err := os.WriteFile(script, pictureScript, 0o600); err != nil {
		return err
	}
	cmd := node.Command(ctx, dir, []string{"MODULES=" + modules, "GATEWAY=http://" + gateway.Addr, "FILE=" + file, "TMPDIR=" + dir}, node.Program(), script)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.WaitDelay = time.Second
	return cmd.Run()
}
