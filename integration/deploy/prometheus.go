package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// prometheusModule is what is built where neither PATH nor the Debian archive has Prometheus.
const prometheusModule = "github.com/prometheus/prometheus/cmd/"

// prometheusVersion is the version that is built.
const prometheusVersion = "v0.316.0"

// tools are the programs of Prometheus.
type tools struct{ server, promtool string }

// findPrometheus returns the programs from PATH, from the cache, from the package of a Debian system (unpacked, not installed), or built
// from source, which takes some minutes once.
func findPrometheus(ctx context.Context) (*tools, error) {
	if t := toolsOfPath(); t != nil {
		return t, nil
	}
	cache, err := harness.Cache(ctx)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cache, "prometheus")
	t := &tools{filepath.Join(dir, "bin", "prometheus"), filepath.Join(dir, "bin", "promtool")}
	if t.there() {
		return t, nil
	}
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o750); err != nil {
		return nil, err
	}
	if err := unpackDebian(ctx, dir); err == nil && t.there() {
		return t, nil
	}
	for _, program := range []string{"promtool", "prometheus"} {
		cmd := exec.CommandContext(ctx, "go", "install", "-tags", "remove_all_sd,builtinassets", prometheusModule+program+"@"+prometheusVersion)
		cmd.Env = append(os.Environ(), "GOBIN="+filepath.Join(dir, "bin"), "GOFLAGS=")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("neither PATH nor the package archive has %s, and building it failed (%d bytes of output): %w", program, len(out), err)
		}
	}
	return t, nil
}

func toolsOfPath() *tools {
	server, err := exec.LookPath("prometheus")
	if err != nil {
		return nil
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		return nil
	}
	return &tools{server, promtool}
}

func (t *tools) there() bool {
	_, err := os.Stat(t.server)
	_, err2 := os.Stat(t.promtool)
	return err == nil && err2 == nil
}

// unpackDebian fetches the package without installing it, which needs no rights.
func unpackDebian(ctx context.Context, dir string) error {
	for _, need := range []string{"apt-get", "dpkg"} {
		if _, err := exec.LookPath(need); err != nil {
			return err
		}
	}
	fetch := exec.CommandContext(ctx, "apt-get", "download", "prometheus")
	fetch.Dir = dir
	if err := fetch.Run(); err != nil {
		return fmt.Errorf("apt-get download prometheus: %w", err)
	}
	packages, _ := filepath.Glob(filepath.Join(dir, "prometheus_*.deb"))
	if len(packages) == 0 {
		return errors.New("apt-get download left no package")
	}
	whole := filepath.Join(dir, "package")
	if err := exec.CommandContext(ctx, "dpkg", "-x", packages[0], whole).Run(); err != nil {
		return fmt.Errorf("dpkg -x: %w", err)
	}
	for _, name := range []string{"prometheus", "promtool"} {
		if err := os.Rename(filepath.Join(whole, "usr", "bin", name), filepath.Join(dir, "bin", name)); err != nil {
			return err
		}
	}
	return os.RemoveAll(whole)
}
