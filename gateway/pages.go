package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
)

// entry is one item of a list as clients see it. Lists are paged by key.
type entry struct {
	key string
	raw json.RawMessage
}

// pages is one list, encoded once when it changes and then only copied.
type pages struct {
	method  string
	entries []entry
	size    int
	first   []byte    // `"tools":[…]` and nextCursor of the first page, up to but without the closing brace
	fresh   time.Time // until when clients may keep it
	scope   string
	key     []byte // seals cursors, so that only this gateway's are taken
}

func (mk *tableMaker) pages(kind int, entries []entry, fresh time.Time, scope string) *pages {
	method, _ := downstream.ListMethod(kind)
	p := &pages{method: method, entries: entries, size: mk.pageSize, fresh: fresh, scope: scope, key: mk.key}
	p.first = p.encode(kind, 0)
	return p
}

// encode writes the page that begins at entry from.
func (p *pages) encode(kind, from int) []byte {
	_, member := downstream.ListMethod(kind)
	to := min(from+p.size, len(p.entries))
	n := len(member) + 128
	for _, e := range p.entries[from:to] {
		n += len(e.raw) + 1
	}
	b := wire.AppendString(make([]byte, 0, n), member)
	b = append(b, ':', '[')
	for i, e := range p.entries[from:to] {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, e.raw...)
	}
	b = append(b, ']')
	if to < len(p.entries) {
		b = append(b, `,"nextCursor":`...)
		b = wire.AppendString(b, p.cursor(p.entries[to-1].key))
	}
	return b
}

// page returns the page that a request's cursor asks for. The cursor names the last item that the client has, so that a change of the
// list between two pages neither repeats nor skips an item that was there all the time.
func (p *pages) page(kind int, cursor json.RawMessage) ([]byte, error) {
	if cursor == nil || string(cursor) == "null" {
		return p.first, nil
	}
	text, ok := wire.String(cursor)
	if !ok {
		return nil, wire.Errorf(wire.CodeInvalidParams, "cursor must be a string that a list of this gateway returned")
	}
	after, ok := p.openCursor(text)
	if !ok {
		return nil, wire.Errorf(wire.CodeInvalidParams, "unknown cursor: use nextCursor of the page before, or start again without a cursor")
	}
	from := slices.IndexFunc(p.entries, func(e entry) bool { return e.key == after }) + 1
	if from == 0 && slices.IsSortedFunc(p.entries, func(a, b entry) int { return strings.Compare(a.key, b.key) }) {
		from, _ = slices.BinarySearchFunc(p.entries, after, func(e entry, key string) int { return strings.Compare(e.key, key) })
	}
	return p.encode(kind, from), nil
}

// head returns the beginning of a result for modern clients, with caching hints (specification 2026-07-28,
// server/utilities/caching).
func (p *pages) head(info json.RawMessage) []byte {
	return appendModern(make([]byte, 0, 128+len(info)), time.Until(p.fresh), p.scope, info)
}

// appendModern appends the opening brace of a modern, complete, cacheable result and the members that every one of them has.
func appendModern(b []byte, ttl time.Duration, scope string, info json.RawMessage) []byte {
	b = append(b, `{"resultType":"complete","ttlMs":`...)
	b = strconv.AppendInt(b, max(ttl.Milliseconds(), 0), 10)
	b = append(b, `,"cacheScope":"`...)
	b = append(b, scope...)
	b = append(b, `","_meta":{"`+downstream.MetaServerInfo+`":`...)
	b = append(b, info...)
	return append(b, '}', ',')
}

func (p *pages) cursor(last string) string {
	return base64.RawURLEncoding.EncodeToString(append(p.mac(last), last...))
}

const macLen = 12

func (p *pages) mac(last string) []byte {
	h := hmac.New(sha256.New, p.key)
	h.Write([]byte(p.method))
	h.Write([]byte{0})
	h.Write([]byte(last))
	return h.Sum(nil)[:macLen:macLen]
}

func (p *pages) openCursor(cursor string) (last string, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(b) < macLen {
		return "", false
	}
	last = string(b[macLen:])
	return last, hmac.Equal(b[:macLen], p.mac(last))
}
