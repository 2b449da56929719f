package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// comparison sets one run beside the direct one.
type comparison struct {
	revision string
	label    string // "direct", "http" or "stdio"
	rows     []row
	faults   []string        // empty: nothing is worse than directly
	worse    map[string]bool // the scenarios that the faults are about
	notes    []string        // differences that are no faults
}

// row is one scenario.
type row struct {
	scenario        string
	directPassed    int
	directFailed    int
	passed          int
	failed          int
	expectedFailure bool
	present         bool // it has results in this run
}

// expected says why a scenario may fail directly. A scenario that passes directly must pass through the gateway, whatever stands here.
func expected(scenario string) string {
	if strings.HasPrefix(scenario, "tasks-") {
		return "the fixture does not have the tasks extension"
	}
	return ""
}

// understood says why a check may come out otherwise through the gateway although nothing is worse for a client. None of these fails.
func understood(scenario, check string) string {
	switch {
	case scenario == "server-sse-multiple-streams" && check == "server-sse-streams-functional":
		return "the gateway answers a list as JSON, as it may, so there is no stream to look at"
	case strings.HasPrefix(check, "sep-2575-server-sends-") && strings.HasSuffix(check, "-list-changed-on-subscription"):
		return "the fixture announces once more what it added before; the gateway tells of changes only (TestListChanged shows that it does)"
	case scenario == "server-sse-polling":
		return "not scored (pending): the gateway offers no event ids to resume from, as it may"
	}
	return ""
}

func count(scenario map[string]checks) (passed, failed int) {
	for _, c := range scenario {
		passed += c["SUCCESS"]
		failed += c["FAILURE"]
	}
	return passed, failed
}

// compare finds what is worse in run than in direct. A check that failed directly has nothing to lose; one that succeeded must
// succeed as often and must not fail.
func compare(revision, label string, direct, run results) comparison {
	c := comparison{revision: revision, label: label, worse: map[string]bool{}}
	for _, name := range slices.Sorted(maps.Keys(direct)) {
		r := row{scenario: name, expectedFailure: expected(name) != ""}
		r.directPassed, r.directFailed = count(direct[name])
		var got map[string]checks
		got, r.present = run[name]
		r.passed, r.failed = count(got)
		c.rows = append(c.rows, r)
		if r.directFailed > 0 && !r.expectedFailure {
			c.fault(name, "fails directly, and nothing says why it may")
		}
		if !r.present {
			c.fault(name, "has no results")
			continue
		}
		for _, id := range slices.Sorted(maps.Keys(direct[name])) {
			want, have := direct[name][id], got[id]
			if why := understood(name, id); why != "" && have["FAILURE"] == 0 {
				if !maps.Equal(want, have) {
					c.note(name + ": " + why)
				}
				continue
			}
			if want["FAILURE"] == 0 && (have["FAILURE"] > 0 || have["WARNING"] > want["WARNING"] || have["SUCCESS"] < want["SUCCESS"]) {
				c.fault(name, fmt.Sprintf("check %s: directly %s, here %s", id, want, have))
			} else if !maps.Equal(want, have) {
				c.note(fmt.Sprintf("%s, check %s: directly %s, here %s", name, id, want, have))
			}
		}
		for _, id := range slices.Sorted(maps.Keys(got)) {
			if direct[name][id] == nil && got[id]["FAILURE"] > 0 && r.directFailed == 0 {
				c.fault(name, fmt.Sprintf("check %s: directly not made, here %s", id, got[id]))
			} else if direct[name][id] == nil {
				if why := understood(name, id); why != "" {
					c.note(name + ": " + why)
				} else {
					c.note(fmt.Sprintf("%s, check %s: directly not made, here %s", name, id, got[id]))
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(run)) {
		if direct[name] == nil {
			c.note(name + " was not run directly")
		}
	}
	return c
}

func (c *comparison) fault(scenario, text string) {
	c.faults = append(c.faults, scenario+": "+text)
	c.worse[scenario] = true
}

// note adds a difference that is no fault, once.
func (c *comparison) note(text string) {
	if !slices.Contains(c.notes, text) {
		c.notes = append(c.notes, text)
	}
}

func (c checks) String() string {
	if len(c) == 0 {
		return "none"
	}
	var parts []string
	for _, status := range slices.Sorted(maps.Keys(c)) {
		parts = append(parts, fmt.Sprintf("%d %s", c[status], strings.ToLower(status)))
	}
	return strings.Join(parts, ", ")
}

// totals returns the scenarios that passed and failed, and the checks.
func (c comparison) totals() (ok, notOK, passed, failed int) {
	for _, r := range c.rows {
		passed += r.passed
		failed += r.failed
		if r.present && r.failed == 0 {
			ok++
		} else {
			notOK++
		}
	}
	return ok, notOK, passed, failed
}

func writeText(w io.Writer, all []comparison) {
	for _, c := range all {
		ok, notOK, passed, failed := c.totals()
		fmt.Fprintf(w, "%s %-7s %3d scenarios passed, %2d failed (%3d checks passed, %2d failed)\n", c.revision, c.label, ok, notOK, passed, failed)
	}
	writeFindings(w, all, "  ")
}

func writeFindings(w io.Writer, all []comparison, bullet string) {
	for _, c := range all {
		for _, f := range c.faults {
			fmt.Fprintf(w, "%sWORSE %s %s: %s\n", bullet, c.revision, c.label, f)
		}
		for _, n := range c.notes {
			fmt.Fprintf(w, "%sno fault: %s %s: %s\n", bullet, c.revision, c.label, n)
		}
	}
}

// writeMarkdown writes one table for each revision: a line for each scenario, a column for each run, "checks passed/failed".
func writeMarkdown(w io.Writer, all []comparison) {
	for _, rev := range revisions {
		var runs []comparison
		for _, c := range all {
			if c.revision == rev.name {
				runs = append(runs, c)
			}
		}
		if len(runs) == 0 {
			continue
		}
		fmt.Fprintf(w, "### %s\n\n| scenario |", rev.name)
		for _, c := range runs {
			fmt.Fprintf(w, " %s |", c.label)
		}
		fmt.Fprintf(w, "\n|---|%s\n", strings.Repeat("---|", len(runs)))
		for i, r := range runs[0].rows {
			fmt.Fprintf(w, "| %s |", r.scenario)
			for _, c := range runs {
				fmt.Fprintf(w, " %d/%d |", c.rows[i].passed, c.rows[i].failed)
			}
			fmt.Fprintln(w)
		}
		fmt.Fprint(w, "| **scenarios** |")
		for _, c := range runs {
			ok, notOK, _, _ := c.totals()
			fmt.Fprintf(w, " **%d/%d** |", ok, notOK)
		}
		fmt.Fprint(w, "\n| **checks** |")
		for _, c := range runs {
			_, _, passed, failed := c.totals()
			fmt.Fprintf(w, " **%d/%d** |", passed, failed)
		}
		fmt.Fprint(w, "\n\n")
	}
	writeFindings(w, all, "- ")
}
