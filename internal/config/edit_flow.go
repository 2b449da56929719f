package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// offset returns where n begins in the joined lines.
func (t *page) offset(n *yaml.Node) int {
	sum := 0
	for _, l := range t.lines[:n.Line-1] {
		sum += len(l)
	}
	return sum + t.column(n)
}

var commentForm = regexp.MustCompile(`(?m)(^|\s)#.*$`)

// insertFlow puts a member before the brace that closes n.
func (t *page) insertFlow(n *yaml.Node, member string) ([]byte, error) {
	all := strings.Join(t.lines, "")
	from := t.offset(n)
	end := flowEnd(all, from+1)
	if all[from] != '{' || end >= len(all) {
		return nil, fmt.Errorf("%w: the section on line %d cannot be followed to its end", ErrByHand, n.Line)
	}
	comma := from
	for all[end] != '}' {
		comma = end
		if end = flowEnd(all, end+1); end >= len(all) {
			return nil, fmt.Errorf("%w: the section on line %d cannot be followed to its end", ErrByHand, n.Line)
		}
	}
	if rest := strings.TrimSpace(commentForm.ReplaceAllString(all[comma+1:end], "")); rest != "" {
		member = ", " + member
	} else if len(n.Content) > 0 { // a comma that nothing follows
		member = " " + member
	}
	at := len(strings.TrimRight(all[:end], " \t\r\n"))
	if strings.LastIndexByte(all[:at], '#') > strings.LastIndexByte(all[:at], '\n') {
		at, member = end, strings.TrimPrefix(member, " ") // behind a comment there is no room on the line
	}
	return t.join([]string{all[:at], member, all[at:]}), nil
}

// removeFlow takes a member out of a section in braces.
func (t *page) removeFlow(name string) ([]byte, error) {
	all := strings.Join(t.lines, "")
	from := t.offset(t.entry(name))
	end := flowEnd(all, from)
	if end >= len(all) {
		return nil, fmt.Errorf("%w: the entry %q cannot be followed to its end", ErrByHand, name)
	}
	if all[end] == ',' {
		end++
		for end < len(all) && (all[end] == ' ' || all[end] == '\t') {
			end++
		}
	} else if before := strings.TrimRight(all[:from], " \t\r\n"); strings.HasSuffix(before, ",") {
		from = len(before) - 1
		end = len(strings.TrimRight(all[:end], " \t\r\n"))
	}
	return t.join([]string{all[:from], all[end:]}), nil
}

// flowEnd returns where the member that begins at from ends: at the next comma or closing bracket that is not inside another bracket, a
// text in quotes, or a comment. It is len(s) if there is none.
func flowEnd(s string, from int) int {
	var open []byte
	for i := from; i < len(s); i++ {
		before := byte(' ')
		if i > 0 {
			before = s[i-1]
		}
		starts := strings.IndexByte(" \t\r\n,[{:", before) >= 0
		switch c := s[i]; {
		case c == '#' && strings.IndexByte(" \t\r\n", before) >= 0:
			for i+1 < len(s) && s[i+1] != '\n' {
				i++
			}
		case c == '"' && starts:
			for i++; i < len(s) && s[i] != '"'; i++ {
				if s[i] == '\\' {
					i++
				}
			}
		case c == '\'' && starts:
			for i++; i < len(s); i++ {
				if s[i] != '\'' {
					continue
				}
				if i+1 == len(s) || s[i+1] != '\'' {
					break
				}
				i++
			}
		case c == '{' || c == '[':
			open = append(open, c)
		case c == '}' || c == ']':
			if len(open) == 0 {
				return i
			}
			open = slices.Delete(open, len(open)-1, len(open))
		case c == ',' && len(open) == 0:
			return i
		}
	}
	return len(s)
}
