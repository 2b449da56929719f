package config

import (
	"errors"
	"regexp"
	"strconv"
	"strings"

	"github.com/mcpgw/mcpgw/downstream"
)

// leadingPath is how an error names a key when it is not a [downstream.FieldError].
var leadingPath = regexp.MustCompile(`^([a-z][a-z0-9_]*(?:\.[A-Za-z0-9_*-]+|\[\d+\])*): `)

// judge reports what Validate found wrong, at the line of its key or of the section where the key would be. prefix is the path of
// what was validated. Faults that follow from one already reported are left out.
func (d *decoder) judge(prefix string, err error) {
	if err == nil {
		return
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			d.judge(prefix, e)
		}
		return
	}
	path, msg := prefix, err.Error()
	if f, ok := errors.AsType[*downstream.FieldError](err); ok {
		path, msg = join(prefix, f.Path), f.Msg
	} else if m := leadingPath.FindStringSubmatch(msg); m != nil {
		path, msg = join(prefix, m[1]), msg[len(m[0]):]
	}
	path = d.written(strings.TrimSuffix(path, "."))
	for _, bad := range d.bad {
		if within(bad, path) || within(path, bad) {
			return
		}
	}
	at := d.nearest(path)
	d.add(at.line, at.col, path, "%s", d.hide(path, msg))
}

// within says whether path is section, or a key somewhere in it.
func within(path, section string) bool {
	rest, ok := strings.CutPrefix(path, section)
	return ok && (section == "" || rest == "" || rest[0] == '.' || rest[0] == '[')
}

// nearest returns the place of path, or of the innermost section around it that is written in the file.
func (d *decoder) nearest(path string) place {
	for path != "" {
		if at, ok := d.places[path]; ok {
			return at
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return place{line: 1, col: 1}
}

// hide makes what Validate says about path fit to be shown: what was found is told as it is written in the file, and the values of
// environment variables are taken out, even if only a part of one is there.
func (d *decoder) hide(path, msg string) string {
	at := d.places[path]
	said, _, found := strings.Cut(msg, ", found ")
	if found && at.text != "" {
		msg = said
	}
	section := path[:max(strings.LastIndexAny(path, ".["), 0)]
	for p, at := range d.places {
		for _, r := range at.refs {
			switch {
			case within(p, path) && shares(msg, r.value):
				msg = "the value is not valid"
			case within(p, section) && len(r.value) >= 4:
				msg = strings.ReplaceAll(msg, r.value, "${"+r.name+"}")
			}
		}
	}
	if found && at.text != "" && !at.secret {
		msg += ", found " + strconv.Quote(shorten(at.text, 60))
	}
	return msg
}

// shares says whether a part of value long enough to give something away stands in msg.
func shares(msg, value string) bool {
	const telling = 6
	for i := 0; i+telling <= len(value); i++ {
		if strings.Contains(msg, value[i:i+telling]) {
			return true
		}
	}
	return false
}
