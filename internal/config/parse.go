package config

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxBytes is far above what people write. It keeps a wrong file (a log, a disk image) from being parsed.
const maxBytes = 1 << 20

// parse returns the root of the only document in data, or nil after having reported why there is none.
func (d *decoder) parse(data []byte) *yaml.Node {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if len(data) > maxBytes {
		d.add(1, 1, "", "expected at most %d bytes, found %d: is this the right file?", maxBytes, len(data))
		return nil
	}
	if i := invalidUTF8(data); i >= 0 {
		line := 1 + bytes.Count(data[:i], []byte("\n"))
		d.add(line, i-bytes.LastIndexByte(data[:i], '\n'), "", "expected text in UTF-8, found the byte 0x%02x: save the file as UTF-8", data[i])
		return nil
	}
	var doc, second yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF) || err == nil && isNull(doc.Content[0]):
		d.add(1, 1, "", "the file is empty; %s", smallest)
		return nil
	case err != nil:
		d.syntax(data, err)
		return nil
	}
	switch err := dec.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		d.syntax(data, err)
		return nil
	default:
		d.add(second.Line, second.Column, "", `expected one document, found a second one after "---"`)
	}
	return doc.Content[0]
}

// invalidUTF8 returns where data stops being UTF-8, or -1.
func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

var libraryPrefix = regexp.MustCompile(`^yaml: (line \d+: )?`)

// syntax reports what keeps data from being YAML. The library says it in the words of its grammar, and often with the line where
// the surrounding construct began; both are replaced by what helps.
func (d *decoder) syntax(data []byte, err error) {
	line := d.locate(data)
	var text string
	if lines := strings.Split(string(data), "\n"); line <= len(lines) {
		text = lines[line-1]
	}
	rest := strings.TrimLeft(text, " \t")
	indent := text[:len(text)-len(rest)]
	msg := reason(err)
	has := func(part string) bool { return strings.Contains(msg, part) }
	switch {
	case has("tab character") || has("cannot start any token") && strings.Contains(indent, "\t"):
		msg = "a tab in the indentation: YAML indents with spaces"
	case has("cannot start any token"):
		msg = "a value must not start with @, ` or %, nor hold a tab before it: put it in quotes"
	case has("mapping values are not allowed"):
		msg = `a ":" where no key can be: the indentation does not match the line above, a space is missing after the ":" above, or a text with ": " in it needs quotes`
	case has("did not find expected key"):
		msg = "expected a key: the indentation does not match the lines above, or a text needs quotes"
	case has("did not find expected '-'"):
		msg = `expected a list item ("- ") as in the lines above`
	case has("did not find expected ',' or") && strings.Contains(text, "${"):
		msg = `inside { } and [ ] a text with ${...} needs quotes: "${NAME}"`
	case has("did not find expected ',' or"):
		msg = "a { or [ is not closed, or a text inside it needs quotes"
	case has("unexpected end of stream"):
		msg = "a quote is not closed"
	case has("unknown anchor"):
		// The name is left out: it may be a password that starts with a star.
		msg = `a text that starts with "*" refers to an anchor (&NAME), and there is none of this name above: put the text in quotes`
	case has("control characters"):
		msg = "a control character: only text is allowed"
	}
	d.add(line, len(indent)+1, "", "not valid YAML: %s", msg)
}

// locate returns the line that keeps data from being YAML. It starts from the line up to which the parser has read when it gives
// up, and goes back while the file would be as wrong without that line: a parser that waits for a quote reads to the end, and
// after a "}" it looks at the next line.
func (d *decoder) locate(data []byte) int {
	r := &byteReader{data: data}
	first := parses(r)
	if first == nil {
		return 1
	}
	// A line of which only the break before it has been read is not the one.
	line := 1 + bytes.Count(data[:max(r.n-1, 0)], []byte("\n"))
	lines := bytes.SplitAfter(data, []byte("\n"))
	const steps = 200 // each costs as much as parsing the file
	for j := min(line, len(lines)); j > max(1, line-steps); j-- {
		err := parses(bytes.NewReader(bytes.Join(lines[:j-1], nil)))
		if err == nil {
			return j
		}
		// An open { or [ is missed at any line below it: the first place where something else stands is the telling one.
		if same := reason(err) == reason(first) && !strings.Contains(reason(err), "',' or"); r.n < len(data) && !same {
			return j
		}
	}
	return max(1, line-steps)
}

// reason is what the library says without the line at which it says so.
func reason(err error) string { return libraryPrefix.ReplaceAllString(err.Error(), "") }

func parses(r io.Reader) error {
	dec := yaml.NewDecoder(r)
	for {
		var n yaml.Node
		if err := dec.Decode(&n); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// byteReader gives away one byte at a time and so knows how far its reader has come.
type byteReader struct {
	data []byte
	n    int
}

func (r *byteReader) Read(p []byte) (int, error) {
	if r.n == len(r.data) {
		return 0, io.EOF
	}
	p[0] = r.data[r.n]
	r.n++
	return 1, nil
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }
