package harness

import (
	"fmt"
	"os"
	"strings"
)

// The marks between which a page keeps what a program measured.
const (
	resultsBegin = "<!-- results: written by the command above -->\n"
	resultsEnd   = "<!-- end of results -->\n"
)

// WriteResults replaces what stands between the marks of a page.
func WriteResults(page, text string) error {
	b, err := os.ReadFile(page)
	if err != nil {
		return fmt.Errorf("reading the page: %w", err)
	}
	before, rest, ok := strings.Cut(string(b), resultsBegin)
	_, after, ok2 := strings.Cut(rest, resultsEnd)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no marks to write between: %q and %q", page, resultsBegin, resultsEnd)
	}
	return os.WriteFile(page, []byte(before+resultsBegin+"\n"+strings.TrimSpace(text)+"\n\n"+resultsEnd+after), 0o644)
}
