package gateway

import (
	"encoding/json"
	"math"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
)

// paramHeader says which argument of a tool a header mirrors: the input schema marks it with x-mcp-header (specification 2026-07-28,
// basic/transports/streamable-http).
type paramHeader struct {
	header string   // canonical, "Mcp-Param-Region"
	path   []string // of the argument
}

// paramHeadersOf reads the marks in a tool's input schema. They count only where properties lead to them; what is marked wrongly is
// left alone, as a client that follows the specification does not use such a tool.
func paramHeadersOf(tool json.RawMessage) []paramHeader {
	if !strings.Contains(string(tool), "x-mcp-header") {
		return nil
	}
	return marked(wire.Get(tool, "inputSchema"), nil, nil)
}

func marked(schema json.RawMessage, path []string, found []paramHeader) []paramHeader {
	wire.Members(wire.Get(schema, "properties"), func(key []byte, prop json.RawMessage) bool {
		name, ok := wire.String(slices.Concat([]byte{'"'}, key, []byte{'"'}))
		if !ok {
			return true
		}
		here := append(slices.Clone(path), name)
		if header, ok := wire.GetString(prop, "x-mcp-header"); ok && header != "" {
			found = append(found, paramHeader{textproto.CanonicalMIMEHeaderKey("Mcp-Param-" + header), here})
		}
		found = marked(prop, here, found)
		return true
	})
	return found
}

// argument returns the value that the header mirrors; nil if it is absent or null.
func (p *paramHeader) argument(args json.RawMessage) json.RawMessage {
	for _, name := range p.path {
		args = wire.Get(args, name)
	}
	if string(args) == "null" {
		return nil
	}
	return args
}

// checkParamHeaders checks that the client's headers say what the arguments say.
func checkParamHeaders(marks []paramHeader, args json.RawMessage, h http.Header) *wire.Error {
	for _, p := range marks {
		sent, v := h[p.header], p.argument(args)
		name := strings.Join(p.path, ".")
		switch {
		case len(sent) > 1:
			return wire.Errorf(wire.CodeHeaderMismatch, "the header %s was sent more than once", p.header)
		case v == nil && len(sent) == 1:
			return wire.Errorf(wire.CodeHeaderMismatch, "the header %s was sent, but the argument %q is absent or null", p.header, name)
		case v == nil:
			continue
		case len(sent) == 0:
			return wire.Errorf(wire.CodeHeaderMismatch, "the header %s, which mirrors the argument %q, is missing", p.header, name)
		}
		got, err := decodeHeader(sent[0])
		if err != nil {
			return wire.Errorf(wire.CodeHeaderMismatch, "the header %s is not readable: %v", p.header, err)
		}
		if !mirrorsArgument(got, v) {
			return wire.Errorf(wire.CodeHeaderMismatch, "the header %s does not say what the argument %q says", p.header, name)
		}
	}
	return nil
}

// maxSafeInteger is the largest integer that every JSON reader has exactly (RFC 8259 section 6).
const maxSafeInteger = 1<<53 - 1

// mirrorsArgument compares a header with a value: integers as numbers, all else as text.
func mirrorsArgument(header string, v json.RawMessage) bool {
	if want, ok := wire.String(v); ok {
		return header == want
	}
	if string(v) == "true" || string(v) == "false" {
		return header == string(v)
	}
	want, err := strconv.ParseFloat(string(v), 64)
	got, err2 := strconv.ParseFloat(header, 64)
	return err == nil && err2 == nil && got == want && got == math.Trunc(got) && math.Abs(got) <= maxSafeInteger
}

// mirrorArguments makes the headers that a server expects of a client that sent none, because its revision or transport has none.
func mirrorArguments(marks []paramHeader, args json.RawMessage) http.Header {
	var h http.Header
	for _, p := range marks {
		v := p.argument(args)
		if v == nil || v[0] == '{' || v[0] == '[' {
			continue
		}
		text, ok := wire.String(v)
		if !ok {
			text = string(v)
		}
		if h == nil {
			h = http.Header{}
		}
		h[p.header] = []string{downstream.EncodeHeader(text)}
	}
	return h
}
