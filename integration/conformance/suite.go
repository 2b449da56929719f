package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// suite runs the official suite with one set of requirements.
type suite struct {
	node         *harness.Node
	dir          string
	requirements string
}

// checks counts the outcomes of one check of a scenario. A check may be made several times.
type checks map[string]int // by status: SUCCESS, FAILURE, WARNING, INFO, SKIPPED

// results holds the checks of each scenario, by their ids.
type results map[string]map[string]checks

// folderName is what the suite calls the folder of one scenario: "server-", the scenario, "-", the time.
var folderName = regexp.MustCompile(`^server-(.+)-\d{4}-\d\d-\d\dT[\d-]+Z$`)

// run runs all scenarios against url. That some fail is no error, that there are no results is.
func (s suite) run(ctx context.Context, label, url string) (results, error) {
	out := filepath.Join(s.dir, s.requirements+"-"+label)
	if err := os.RemoveAll(out); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(out, 0o750); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
	defer cancel()
	cmd := s.node.Command(ctx, s.dir, nil, "conformance", "server", "--url", url, "--requirements", s.requirements, "-o", out)
	text, err := cmd.CombinedOutput()
	if writeErr := os.WriteFile(filepath.Join(out, "output.txt"), text, 0o600); writeErr != nil {
		return nil, writeErr
	}
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		return nil, fmt.Errorf("running the conformance suite: %w", errors.Join(err, context.Cause(ctx)))
	}
	if !bytes.Contains(text, []byte("=== SUMMARY ===")) {
		return nil, fmt.Errorf("the conformance suite did not come to its summary (%w):\n%s", err, last(text, 2000))
	}
	r, err := read(out)
	if err == nil && len(r) < 25 {
		err = fmt.Errorf("only %d scenarios have results: the suite changed, or did not run", len(r))
	}
	return r, err
}

func last(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

// read collects what the suite left in dir.
func read(dir string) (results, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	all := results{}
	for _, e := range entries {
		m := folderName.FindStringSubmatch(e.Name())
		if m == nil {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name(), "checks.json"))
		if err != nil {
			return nil, fmt.Errorf("scenario %s: %w", m[1], err)
		}
		var list []struct {
			ID     string `json:"id"`
			Status string `json:"status"`
		}
		if err := json.Unmarshal(b, &list); err != nil {
			return nil, fmt.Errorf("scenario %s: %w", m[1], err)
		}
		scenario := map[string]checks{}
		for _, c := range list {
			if scenario[c.ID] == nil {
				scenario[c.ID] = checks{}
			}
			scenario[c.ID][c.Status]++
		}
		all[m[1]] = scenario
	}
	return all, nil
}
