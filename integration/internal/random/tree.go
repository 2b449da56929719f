package random

import (
	"encoding/json"
	"fmt"
	"strings"
)

// tree is a JSON value in which every key and every scalar is as it was spelled; only the spaces between tokens are gone.
type tree struct {
	kind byte     // '{', '[', or 0 for a scalar
	raw  string   // of a scalar
	keys []string // of an object, between the quotes
	kids []*tree
}

// parse reads a value that may be anything.
func parse(s string) (*tree, error) {
	if !json.Valid([]byte(s)) {
		return nil, fmt.Errorf("not JSON: %.300q", s)
	}
	p := parser{s: s}
	return p.value(), nil
}

// parser reads JSON that is known to be valid.
type parser struct {
	s string
	i int
}

func (p *parser) skip() {
	for p.i < len(p.s) && strings.IndexByte(" \t\r\n,:", p.s[p.i]) >= 0 {
		p.i++
	}
}

func (p *parser) value() *tree {
	p.skip()
	switch c := p.s[p.i]; c {
	case '{', '[':
		t := &tree{kind: c}
		for p.i++; ; {
			p.skip()
			if p.s[p.i] == '}' || p.s[p.i] == ']' {
				p.i++
				return t
			}
			if c == '{' {
				key := p.token()
				t.keys = append(t.keys, key[1:len(key)-1])
			}
			t.kids = append(t.kids, p.value())
		}
	default:
		return &tree{raw: p.token()}
	}
}

func (p *parser) token() string {
	from := p.i
	if p.s[p.i] == '"' {
		for p.i++; p.s[p.i] != '"'; p.i++ {
			if p.s[p.i] == '\\' {
				p.i++
			}
		}
		p.i++
		return p.s[from:p.i]
	}
	for p.i < len(p.s) && strings.IndexByte(" \t\r\n,:]}", p.s[p.i]) < 0 {
		p.i++
	}
	return p.s[from:p.i]
}

// String spells the value without spaces.
func (t *tree) String() string {
	var b strings.Builder
	t.write(&b)
	return b.String()
}

func (t *tree) write(b *strings.Builder) {
	if t.kind == 0 {
		b.WriteString(t.raw)
		return
	}
	b.WriteByte(t.kind)
	for i, k := range t.kids {
		if i > 0 {
			b.WriteByte(',')
		}
		if t.kind == '{' {
			b.WriteString(`"` + t.keys[i] + `":`)
		}
		k.write(b)
	}
	b.WriteByte(t.kind + 2)
}

// get returns the member of a key; nil if there is none.
func (t *tree) get(key string) *tree {
	if t == nil || t.kind != '{' {
		return nil
	}
	for i, k := range t.keys {
		if k == key {
			return t.kids[i]
		}
	}
	return nil
}

// drop removes a member.
func (t *tree) drop(key string) {
	for i, k := range t.keys {
		if k == key {
			t.keys = append(t.keys[:i:i], t.keys[i+1:]...)
			t.kids = append(t.kids[:i:i], t.kids[i+1:]...)
			return
		}
	}
}

// set replaces a member or puts it at the end.
func (t *tree) set(key, raw string) {
	if v := t.get(key); v != nil {
		*v = tree{raw: raw}
		return
	}
	t.keys, t.kids = append(t.keys, key), append(t.kids, &tree{raw: raw})
}

// decoded returns the string that a scalar spells.
func (t *tree) decoded() (string, bool) {
	if t == nil || t.kind != 0 || t.raw == "" || t.raw[0] != '"' {
		return "", false
	}
	var s string
	err := json.Unmarshal([]byte(t.raw), &s)
	return s, err == nil
}
