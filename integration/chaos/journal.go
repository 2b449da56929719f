package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// journal is what a server wrote about itself.
type journal struct {
	executed map[string]int // times by nonce
	ended    map[string]int // calls whose client no longer waited
	starts   []int          // pids of its processes
}

func readJournal(dir, name string) (journal, error) {
	j := journal{executed: map[string]int{}, ended: map[string]int{}}
	b, err := os.ReadFile(journalFile(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil // it never began
	}
	if err != nil {
		return j, err
	}
	for line := range strings.Lines(string(b)) {
		what := strings.TrimSuffix(line, "\n")
		if len(what) < 3 || what == line {
			return j, fmt.Errorf("the journal of %s has the line %q", name, line)
		}
		switch what[0] {
		case lineStart:
			pid, err := strconv.Atoi(what[2:])
			if err != nil {
				return j, err
			}
			j.starts = append(j.starts, pid)
		case lineExecuted:
			j.executed[what[2:]]++
		case lineEnded:
			j.ended[what[2:]]++
		default:
			return j, fmt.Errorf("the journal of %s has the line %q", name, line)
		}
	}
	return j, nil
}

// truth is the comparison of what servers executed with what clients were told.
type truth struct {
	calls, answered, failed, gaveUp int
	longest                         int // bytes of the text of a failure

	twice    []string // writes that were executed more than once
	lost     []string // calls without an answer
	doubled  []string // calls with more than one answer
	wrong    []string // answers that belong to another call, or say nothing
	lied     []string // "executed: no", but it was
	phantom  []string // answered, but not executed
	mute     []string // failures that do not say whether the call was executed
	stranger []string // executed, but nobody asked for it
}

// compare finds what must never be. The journals are those of all servers, by name.
func compare(all []*told, journals map[string]journal) truth {
	var t truth
	asked := map[string]bool{}
	for _, c := range all {
		t.calls++
		asked[c.nonce] = true
		n := journals[c.server].executed[c.nonce]
		say := func(list *[]string, more string) { *list = append(*list, c.String()+more) }
		t.longest = max(t.longest, len(c.text))
		if c.tool == "write" && n > 1 {
			say(&t.twice, fmt.Sprintf(": executed %d times", n))
		}
		if c.answers > 1 {
			say(&t.doubled, fmt.Sprintf(": %d answers", c.answers))
		}
		if c.wrong != "" {
			say(&t.wrong, "")
		}
		switch {
		case c.gaveUp:
			t.gaveUp++
		case c.lost != "":
			say(&t.lost, "")
		case c.answered:
			t.answered++
			if n == 0 && !c.needs {
				say(&t.phantom, "")
			}
		case c.Executed == "no":
			t.failed++
			if n > 0 {
				say(&t.lied, "")
			}
		default:
			t.failed++
			if c.Executed != "unknown" && c.wrong == "" {
				say(&t.mute, "")
			}
		}
	}
	for name, j := range journals {
		for nonce := range j.executed {
			if !asked[nonce] {
				t.stranger = append(t.stranger, name+" executed "+nonce)
			}
		}
	}
	return t
}
