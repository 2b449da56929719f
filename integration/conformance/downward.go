package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// The suite's scenarios for clients look at the gateway's downward side: a server of the suite is the only downstream, and the go-sdk's
// client for these scenarios does through the gateway what each wants a client to do. What the server then says of its client is said of
// the gateway. Authorization is listed apart: those scenarios want a client that walks through OAuth with a user.

const everythingClient = "github.com/modelcontextprotocol/go-sdk/conformance/everything-client"

const legacyEra, modernEra = "legacy", "modern"

// side is one scenario: with the go-sdk's client alone, and with the gateway between, once for a client of each era.
type side struct {
	scenario        string
	direct          map[string]checks
	through, across map[string]checks // the client speaks to the gateway what the suite's server speaks; the other era
}

// downward compares the two and reports whether every scenario that does not need authorization passes through the gateway.
func downward(ctx context.Context, out io.Writer, page, keep string) error {
	dir, remove, err := folder(keep)
	if err != nil {
		return err
	}
	defer remove()
	node, err := harness.InstallNode(ctx)
	if err != nil {
		return err
	}
	client, err := harness.Build(ctx, dir, everythingClient)
	if err != nil {
		return err
	}
	gateway, err := harness.Build(ctx, dir, harness.Gateway)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("looking for this program: %w", err)
	}
	var text strings.Builder
	bad := 0
	for _, rev := range revisions {
		s := suite{node: node, dir: dir, requirements: rev.name}
		direct, err := s.runClient(ctx, "client-direct", client)
		if err != nil {
			return err
		}
		same, other := modernEra, legacyEra
		if rev.name != harness.Modern {
			same, other = other, same
		}
		var runs [2]results
		for i, era := range []string{same, other} {
			if runs[i], err = s.runClient(ctx, "client-gateway-"+era, strings.Join([]string{self, driveCommand, gateway, client, era}, " ")); err != nil {
				return err
			}
		}
		bad += writeSides(&text, rev.name, other, sides(direct, runs[0], runs[1]))
	}
	if _, err := io.WriteString(out, text.String()); err != nil {
		return err
	}
	if page != "" {
		if err := harness.WriteResults(page, text.String()); err != nil {
			return err
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d client scenarios fail through the gateway", bad)
	}
	return nil
}

func folder(keep string) (dir string, remove func(), err error) {
	if keep != "" {
		dir, err = filepath.Abs(keep)
		return dir, func() {}, err
	}
	dir, err = os.MkdirTemp("", "mcpgw-conformance-")
	if err != nil {
		return "", nil, fmt.Errorf("making a folder: %w", err)
	}
	return dir, func() { _ = os.RemoveAll(dir) }, nil
}

// runClient runs all client scenarios with a command to which the suite adds the URL of its server.
func (s suite) runClient(ctx context.Context, label, command string) (results, error) {
	out := filepath.Join(s.dir, s.requirements+"-"+label)
	if err := os.RemoveAll(out); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(out, 0o750); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
	defer cancel()
	// All scenarios run at the same time, each with a gateway of its own.
	cmd := s.node.Command(ctx, s.dir, nil, "conformance", "client", "--command", command, "--requirements", s.requirements, "--timeout", "120000", "-o", out)
	text, err := cmd.CombinedOutput()
	if writeErr := os.WriteFile(filepath.Join(out, "output.txt"), text, 0o600); writeErr != nil {
		return nil, writeErr
	}
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		return nil, fmt.Errorf("running the conformance suite: %w", errors.Join(err, context.Cause(ctx)))
	}
	if !bytes.Contains(text, []byte("=== SUITE SUMMARY ===")) {
		return nil, fmt.Errorf("the conformance suite did not come to its summary (%w):\n%s", err, last(text, 2000))
	}
	r, err := readClient(out)
	if err == nil && len(r) < 20 {
		err = fmt.Errorf("only %d scenarios have results: the suite changed, or did not run", len(r))
	}
	return r, err
}

// clientFolder is the scenario, "-", the time; scenarios of authorization are in a folder "auth".
var clientFolder = regexp.MustCompile(`^(.+)-\d{4}-\d\d-\d\dT[\d-]+Z/checks\.json$`)

func readClient(dir string) (results, error) {
	all := results{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		m := clientFolder.FindStringSubmatch(filepath.ToSlash(rel))
		if m == nil {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var list []struct{ ID, Status string }
		if err := json.Unmarshal(b, &list); err != nil {
			return fmt.Errorf("scenario %s: %w", m[1], err)
		}
		scenario := map[string]checks{}
		for _, c := range list {
			if scenario[c.ID] == nil {
				scenario[c.ID] = checks{}
			}
			scenario[c.ID][c.Status]++
		}
		all[m[1]] = scenario
		return nil
	})
	return all, err
}

func sides(direct, through, across results) []side {
	var all []side
	for _, name := range slices.Sorted(maps.Keys(direct)) {
		all = append(all, side{name, direct[name], through[name], across[name]})
	}
	return all
}

func (s side) authorization() bool { return strings.HasPrefix(s.scenario, "auth/") }

// passed reports whether run has no failure and at least as many successes as the client alone.
func (s side) passed(run map[string]checks) bool {
	have, failed := count(run)
	want, _ := count(s.direct)
	return failed == 0 && have > 0 && have >= want
}

// crossing says why a scenario may come out otherwise for a client of the other era.
func crossing(scenario, era string) string {
	if scenario == "elicitation-sep1034-client-defaults" && era == modernEra {
		return "the server asks on its own stream, which names no call; requests there \"SHOULD be unrelated to any concurrently-running JSON-RPC request\" " +
			"(2025-11-25, Listening for Messages from the Server). A client without a session can only be asked in the answer to a call, so the gateway " +
			"refuses the question at once and says why"
	}
	return ""
}

// writeSides writes the tables of one revision and returns how many scenarios without authorization are worse through the gateway and not
// explained. Other is the era of the last column.
func writeSides(w io.Writer, revision, other string, all []side) (bad int) {
	for _, auth := range []bool{false, true} {
		title, judge := revision, func(s side, run map[string]checks) string {
			if s.passed(run) {
				return ""
			}
			return " **worse**"
		}
		if auth {
			title, judge = title+": authorization", func(side, map[string]checks) string { return "" }
		}
		fmt.Fprintf(w, "### %s\n\n| scenario | client alone | gateway, client of the same era | gateway, %s client |\n|---|---|---|---|\n", title, other)
		total := 0
		var ok [3]int
		var notes []string
		for _, s := range all {
			if s.authorization() != auth {
				continue
			}
			total++
			fmt.Fprintf(w, "| %s |", s.scenario)
			for i, run := range []map[string]checks{s.direct, s.through, s.across} {
				p, f := count(run)
				mark := judge(s, run)
				if why := crossing(s.scenario, other); i == 2 && mark != "" && why != "" {
					mark = ""
					notes = append(notes, s.scenario+", "+other+" client: "+why)
				}
				fmt.Fprintf(w, " %d/%d%s |", p, f, mark)
				if s.passed(run) {
					ok[i]++
				} else if mark != "" {
					bad++
					notes = append(notes, differences(s, run)...)
				}
			}
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "| **scenarios passed, of %d** | **%d** | **%d** | **%d** |\n\n", total, ok[0], ok[1], ok[2])
		for _, n := range notes {
			fmt.Fprintf(w, "- %s\n", n)
		}
		if len(notes) > 0 {
			fmt.Fprintln(w)
		}
	}
	return bad
}

// differences lists the checks that failed, or were not made.
func differences(s side, run map[string]checks) []string {
	var all []string
	for _, id := range slices.Sorted(maps.Keys(run)) {
		if run[id]["FAILURE"] > 0 {
			all = append(all, fmt.Sprintf("%s, check %s: alone %s, through the gateway %s", s.scenario, id, s.direct[id], run[id]))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.direct)) {
		if s.direct[id]["SUCCESS"] > run[id]["SUCCESS"] && run[id]["FAILURE"] == 0 {
			all = append(all, fmt.Sprintf("%s, check %s: alone %s, through the gateway %s", s.scenario, id, s.direct[id], run[id]))
		}
	}
	return all
}
