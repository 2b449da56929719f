package config

import (
	"errors"
	"fmt"
	"strings"
)

// errDollar and the like say what is wrong with a text without repeating it: it may be a secret.
var (
	errDollar   = errors.New(`a "$" before a name: write ${NAME} for the value of an environment variable, $$ for a dollar sign`)
	errUnclosed = errors.New(`"${" without "}": write ${NAME} or ${NAME:-default} for the value of an environment variable, $$ for a dollar sign`)
	errForm     = errors.New(`expected ${NAME} or ${NAME:-default}, where NAME has letters, digits and "_"`)
	errNested   = errors.New(`the default in ${NAME:-default} must not hold another "${"`)
)

// reference is a variable that a text got a value from.
type reference struct{ name, value string }

// expand replaces ${NAME} and ${NAME:-default} in s by what lookup says, and $$ by a dollar sign. The default stands in for a
// variable that is not set or empty, as in a shell. It reports every variable that is missing, and stops at a malformed "${".
func expand(s string, lookup func(string) (string, bool)) (string, []reference, error) {
	if !strings.Contains(s, "$") {
		return s, nil, nil
	}
	var (
		out  strings.Builder
		refs []reference
		errs []error
	)
	for {
		before, rest, found := strings.Cut(s, "$")
		out.WriteString(before)
		switch {
		case !found:
			return out.String(), refs, errors.Join(errs...)
		case strings.HasPrefix(rest, "$"):
			out.WriteByte('$')
			s = rest[1:]
		case strings.HasPrefix(rest, "{"):
			body, after, closed := strings.Cut(rest[1:], "}")
			if !closed {
				return "", refs, errUnclosed
			}
			value, ref, err := resolve(body, lookup)
			if ref != nil {
				refs = append(refs, *ref)
			}
			if _, unset := errors.AsType[*unsetError](err); unset {
				errs = append(errs, err)
			} else if err != nil {
				return "", refs, err
			}
			out.WriteString(value)
			s = after
		case rest != "" && nameStart(rest[0]):
			// $HOME is what somebody writes who is used to a shell. Taken as it stands it would reach a program that has no shell.
			return "", refs, errDollar
		default:
			out.WriteByte('$')
			s = rest
		}
	}
}

// unsetError names a variable that is needed and not there.
type unsetError struct{ name string }

func (e *unsetError) Error() string {
	return fmt.Sprintf("the environment variable %s is not set (set it, or write ${%s:-default})", e.name, e.name)
}

// resolve answers what stands between "${" and "}".
func resolve(body string, lookup func(string) (string, bool)) (string, *reference, error) {
	name, def, hasDefault := strings.Cut(body, ":-")
	if !validVariable(name) {
		return "", nil, errForm
	}
	if strings.Contains(def, "${") {
		return "", nil, errNested
	}
	value, ok := lookup(name)
	if hasDefault && value == "" {
		return def, nil, nil
	}
	if !ok {
		return "", nil, &unsetError{name}
	}
	return value, &reference{name, value}, nil
}

func nameStart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
}

func validVariable(s string) bool {
	for i := range len(s) {
		if !nameStart(s[i]) && (i == 0 || s[i] < '0' || s[i] > '9') {
			return false
		}
	}
	return s != ""
}
