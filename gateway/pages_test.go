package gateway

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
)

func entriesOf(names ...string) []entry {
	var out []entry
	for _, n := range names {
		out = append(out, entry{n, json.RawMessage(`{"name":"` + n + `"}`)})
	}
	return out
}

// read drains a list page by page; change is called between two pages and may replace the list.
func read(t *testing.T, p *pages, change func(page int) *pages) []string {
	t.Helper()
	var got []string
	var cursor json.RawMessage
	for page := range 100 {
		b, err := p.page(downstream.Tools, cursor)
		if err != nil {
			t.Fatal(err)
		}
		res := append(append([]byte{'{'}, b...), '}')
		if err := wire.Valid(res, 10); err != nil {
			t.Fatalf("%s: %v", res, err)
		}
		wire.Elements(wire.Get(res, "tools"), func(v json.RawMessage) bool {
			name, _ := wire.GetString(v, "name")
			got = append(got, name)
			return true
		})
		cursor = wire.Get(res, "nextCursor")
		if cursor == nil {
			return got
		}
		if change != nil {
			p = change(page)
		}
	}
	t.Fatal("the list does not end")
	return nil
}

func TestPagesCoverTheList(t *testing.T) {
	for _, size := range []int{1, 2, 3, 7, 100} {
		mk := &tableMaker{pageSize: size, key: []byte("k")}
		var names []string
		for i := range 7 {
			names = append(names, fmt.Sprintf("t%d", i))
		}
		p := mk.pages(downstream.Tools, entriesOf(names...), time.Time{}, "private")
		if got := read(t, p, nil); !slices.Equal(got, names) {
			t.Errorf("pages of %d: got %v", size, got)
		}
	}
}

func TestChangeBetweenPagesLosesNothing(t *testing.T) {
	mk := &tableMaker{pageSize: 2, key: []byte("k")}
	before := mk.pages(downstream.Tools, entriesOf("b", "d", "f", "h"), time.Time{}, "private")
	// "d", the last of the first page, is gone; "a" and "e" are new.
	after := mk.pages(downstream.Tools, entriesOf("a", "b", "e", "f", "h"), time.Time{}, "private")
	got := read(t, before, func(int) *pages { return after })
	if want := []string{"b", "d", "e", "f", "h"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestForeignCursorsAreRefused(t *testing.T) {
	mk := &tableMaker{pageSize: 1, key: []byte("k")}
	p := mk.pages(downstream.Tools, entriesOf("a", "b"), time.Time{}, "private")
	other := (&tableMaker{pageSize: 1, key: []byte("other")}).pages(downstream.Tools, entriesOf("a", "b"), time.Time{}, "private")
	prompts := mk.pages(downstream.Prompts, entriesOf("a", "b"), time.Time{}, "private")
	good := p.cursor("a")
	for name, cursor := range map[string]string{
		"empty": "", "garbage": "!!", "short": "abc", "of another gateway": other.cursor("a"), "of another list": prompts.cursor("a"),
		"changed": "A" + good[1:] + "A",
	} {
		if _, err := p.page(downstream.Tools, wire.Quote(cursor)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := p.page(downstream.Tools, wire.Quote(good)); err != nil {
		t.Error(err)
	}
	if _, err := p.page(downstream.Tools, json.RawMessage("7")); err == nil {
		t.Error("a number was accepted as a cursor")
	}
}

func BenchmarkListOfAThousandTools(b *testing.B) {
	var all []entry
	for i := range 1000 {
		name := fmt.Sprintf("s__tool_%04d", i)
		all = append(all, entry{name, json.RawMessage(`{"name":"` + name + `","description":"x","inputSchema":{"type":"object"}}`)})
	}
	mk := &tableMaker{pageSize: 2000, key: []byte("k"), info: json.RawMessage(`{}`)}
	p := mk.pages(downstream.Tools, all, time.Time{}, "private")
	g := &Gateway{}
	r := &request{modern: true, table: &table{pages: [4]*pages{downstream.Tools: p}, info: mk.info}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := g.list(r, downstream.Tools); err != nil {
			b.Fatal(err)
		}
	}
}
