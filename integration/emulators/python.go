package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// venv returns the Python of a virtual environment in the cache that holds the packages, each NAME==VERSION. It is made once.
func venv(ctx context.Context, name string, packages ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	cache, err := harness.Cache(ctx)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, name)
	python, mark := filepath.Join(dir, "bin", "python"), filepath.Join(dir, "complete")
	if _, err := os.Stat(mark); err == nil {
		return python, nil
	}
	system, err := exec.LookPath("python3")
	if err != nil {
		return "", errors.New("python3 is not in PATH")
	}
	for _, args := range [][]string{{system, "-m", "venv", dir}, append([]string{python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"}, packages...)} {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		if out, err := cmd.CombinedOutput(); err != nil {
			// pip's messages name the index, which is nobody's business but the machine's.
			return "", fmt.Errorf("%s %s failed (%d lines of output; delete %s to begin anew): %w", filepath.Base(args[0]), args[2], bytes.Count(out, []byte("\n")), dir, err)
		}
	}
	return python, os.WriteFile(mark, nil, 0o600)
}
