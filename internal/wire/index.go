package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Object is a valid JSON object of which it is known where the members lie, so that they are found, and replaced, without reading it
// again. The zero value has no members, and a nil Raw.
type Object struct {
	Raw json.RawMessage

	n  int // members in at; -1 if there are more than fit: then Raw is read
	at [maxIndexed]keyValue
}

// maxIndexed is how many members an Object remembers. The params and results of MCP have fewer.
const maxIndexed = 8

type keyValue struct {
	key, value []byte
	from       int // of value in Raw
}

// Index reads a valid object. What is not an object becomes an Object without members.
func Index(raw json.RawMessage) Object {
	o := Object{Raw: raw}
	MembersAt(raw, func(key []byte, from, to int) bool {
		o.add(key, raw[from:to:to], from)
		return o.n >= 0
	})
	return o
}

func (o *Object) add(key, value []byte, from int) {
	if o.n < 0 || o.n == maxIndexed {
		o.n = -1
		return
	}
	o.at[o.n] = keyValue{key, value, from}
	o.n++
}

// Members calls f with each member, in order, until f returns false.
func (o *Object) Members(f func(key []byte, value json.RawMessage) bool) {
	if o.n < 0 {
		Members(o.Raw, f)
		return
	}
	for i := range o.n {
		if !f(o.at[i].key, o.at[i].value) {
			return
		}
	}
}

// MembersAt is [Object.Members] with the offsets of each value in Raw, for those who splice.
func (o *Object) MembersAt(f func(key []byte, from, to int) bool) {
	if o.n < 0 {
		MembersAt(o.Raw, f)
		return
	}
	for i := range o.n {
		if m := &o.at[i]; !f(m.key, m.from, m.from+len(m.value)) {
			return
		}
	}
}

// Get returns the value of a member, or nil if there is none.
func (o *Object) Get(key string) json.RawMessage {
	if o.n < 0 {
		return Get(o.Raw, key)
	}
	for i := range o.n {
		if string(o.at[i].key) == key {
			return o.at[i].value
		}
	}
	return nil
}

// GetString returns the decoded string that is a member; ok is false if there is no such member or it is not a string.
func (o *Object) GetString(key string) (s string, ok bool) { return String(o.Get(key)) }

// Edit returns a copy in which each edit replaced the member of its key, or removed it if its value is nil. Members that are not there
// are appended in the order of edits. Every other value is copied as it stands.
func (o *Object) Edit(edits ...Member) Object {
	size := len(o.Raw) + 2
	for _, e := range edits {
		size += len(e.Key) + len(e.Value) + 4
	}
	b := append(make([]byte, 0, size), '{') // is never moved: what is put into it is at most size
	var out Object
	put := func(key []byte, value json.RawMessage) {
		if len(b) > 1 {
			b = append(b, ',')
		}
		from := len(b) + 1
		b = append(append(append(b, '"'), key...), '"', ':')
		to := len(b)
		b = append(b, value...)
		out.add(b[from:from+len(key):from+len(key)], b[to:len(b):len(b)], to)
	}
	var done uint64
	o.Members(func(k []byte, v json.RawMessage) bool {
		for n, e := range edits {
			if string(k) == e.Key {
				done |= 1 << n
				if e.Value == nil {
					return true
				}
				v = e.Value
				break
			}
		}
		put(k, v)
		return true
	})
	for n, e := range edits {
		if done&(1<<n) == 0 && e.Value != nil {
			put([]byte(e.Key), e.Value)
		}
	}
	b = append(b, '}')
	out.Raw = b
	return out
}

// CheckKeys reports a member that occurs twice, or that means one of known to some readers but not to others because it is escaped or
// differs in case (CVE-2026-27896). A gateway that acts on known must refuse such an object.
func (o *Object) CheckKeys(known ...string) error {
	var err error
	var seen [16][]byte
	n := 0
	o.Members(func(k []byte, _ json.RawMessage) bool {
		plain := k
		if bytes.IndexByte(k, '\\') >= 0 {
			if s, ok := String(append(append([]byte{'"'}, k...), '"')); ok {
				plain = []byte(s)
			}
		}
		for _, want := range known {
			if string(k) != want && len(plain) == len(want) && bytes.EqualFold(plain, []byte(want)) {
				err = fmt.Errorf("member %q is ambiguous: write %q exactly", k, want)
				return false
			}
		}
		for _, s := range seen[:n] {
			if bytes.Equal(s, plain) {
				err = fmt.Errorf("member %q occurs twice", plain)
				return false
			}
		}
		if n < len(seen) {
			seen[n] = plain
			n++
		}
		return true
	})
	return err
}
