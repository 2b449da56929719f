package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Fault is one thing that is wrong with a file.
type Fault struct {
	File string `json:"file"`
	Line int    `json:"line"` // from 1
	Col  int    `json:"column"`
	Path string `json:"path,omitempty"` // of the key, dots between keys; "" for the file as a whole
	Msg  string `json:"message"`        // what was expected, what was found, how to mend it
}

// String returns "file:line:column: path: message", which terminals and editors make a link of.
func (f *Fault) String() string {
	where := fmt.Sprintf("%s:%d:%d: ", f.File, f.Line, f.Col)
	if f.Path == "" {
		return where + f.Msg
	}
	return where + f.Path + ": " + f.Msg
}

// Error is everything that is wrong with a file, sorted by line.
type Error struct {
	Faults []*Fault // at least one
	More   int      // faults left out because there were too many
}

// Error returns one line for each fault.
func (e *Error) Error() string {
	lines := make([]string, 0, len(e.Faults)+1)
	for _, f := range e.Faults {
		lines = append(lines, f.String())
	}
	if e.More > 0 {
		lines = append(lines, fmt.Sprintf("%s: and %d more", e.Faults[0].File, e.More))
	}
	return strings.Join(lines, "\n")
}

// maxFaults is more than anybody mends in one go: a file with more of them is another kind of file.
const maxFaults = 100

// faults collects what is wrong.
type faults struct {
	file string
	list []*Fault
	more int
}

func (fs *faults) add(line, col int, path, format string, args ...any) {
	if len(fs.list) == maxFaults {
		fs.more++
		return
	}
	fs.list = append(fs.list, &Fault{
		File: fs.file, Line: max(line, 1), Col: max(col, 1), Path: showPath(path), Msg: fmt.Sprintf(format, args...),
	})
}

// err returns the faults, sorted, or nil.
func (fs *faults) err() error {
	if len(fs.list) == 0 {
		return nil
	}
	slices.SortStableFunc(fs.list, func(a, b *Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Msg, b.Msg))
	})
	fs.list = slices.CompactFunc(fs.list, func(a, b *Fault) bool { return *a == *b })
	return &Error{Faults: fs.list, More: fs.more}
}

// showPath makes a path fit to be shown: keys come from the file and may hold anything.
func showPath(path string) string {
	const most = 200
	odd := len(path) > most || strings.ContainsFunc(path, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar })
	if !odd {
		return path
	}
	return strconv.Quote(shorten(path, most))
}

// shorten returns the beginning of s, marked as such if something was left out.
func shorten(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
