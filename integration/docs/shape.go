package main

import (
	"strings"
	"unicode"
)

// shape is a line without what differs from one run to the next: every word with a digit in it (numbers, times, addresses) becomes "#", and
// the spaces between columns count as one.
func shape(line string) string {
	words := strings.Fields(line)
	for i, w := range words {
		if strings.ContainsFunc(w, unicode.IsDigit) {
			words[i] = "#"
		}
	}
	return strings.Join(words, " ")
}

// missing returns the first of the lines that an example shows and that the output does not have in this order; "" if it has them all. The
// output may have more lines. An ellipsis stands for anything.
func missing(want []string, output string) string {
	rest := strings.Split(output, "\n")
	for _, line := range want {
		if s := shape(line); s == "" || s == "…" {
			continue
		}
		for {
			if len(rest) == 0 {
				return line
			}
			found := fits(shape(line), shape(rest[0]))
			rest = rest[1:]
			if found {
				break
			}
		}
	}
	return ""
}

// fits says whether a line is of a shape, in which an ellipsis stands for anything.
func fits(pattern, line string) bool {
	pieces := strings.Split(pattern, "…")
	if len(pieces) == 1 {
		return pattern == line
	}
	last := len(pieces) - 1
	line, ok := strings.CutPrefix(line, strings.TrimSpace(pieces[0]))
	if !ok {
		return false
	}
	for _, piece := range pieces[1:last] {
		if _, line, ok = strings.Cut(line, strings.TrimSpace(piece)); !ok {
			return false
		}
	}
	return strings.HasSuffix(line, strings.TrimSpace(pieces[last]))
}
