package kit

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
)

// Page is embedded in the arguments of tools that list things.
type Page struct {
	Limit  int      `json:"limit,omitempty" jsonschema:"most items, 50 unless given"`
	Offset int      `json:"offset,omitempty" jsonschema:"items to skip"`
	Fields []string `json:"fields,omitempty" jsonschema:"only these members"`
	Search string   `json:"search,omitempty" jsonschema:"only items that hold this text"`
}

// DefaultLimit is how many items a list returns when the call does not say.
const DefaultLimit = 50

// PageLimits is the Adjust of a [Tool] whose arguments embed a [Page].
func PageLimits(s *jsonschema.Schema) {
	Range(s, "limit", 1, 500)
	Range(s, "offset", 0, 1e9)
}

// Listing is the structured content of a tool that lists things: items of one kind, and what was left out. Items are the system's own
// values reduced to what a reader needs.
type Listing struct {
	Items      []Item `json:"items"`
	Total      int    `json:"total"`                 // items that match, those not shown included
	NextOffset int    `json:"next_offset,omitempty"` // offset of the next page
	Note       string `json:"note,omitempty"`        // what was left out and how to get it

	offset  int
	columns []string // in the order of the text's table
	about   string   // what Note says besides what was left out
}

// Item is one object of a listing.
type Item map[string]any

// List makes the listing of items that page asks for. columns are the members in the order in which the text shows them, and those that are
// returned if the page names no fields; without columns all are.
func List(items []Item, page Page, columns ...string) *Listing {
	if page.Search != "" {
		items = slices.DeleteFunc(slices.Clone(items), func(it Item) bool { return !it.contains(page.Search) })
	}
	l := &Listing{Items: []Item{}, Total: len(items), offset: max(page.Offset, 0), columns: columns}
	if len(page.Fields) > 0 {
		l.columns = page.Fields
	}
	limit := page.Limit
	if limit <= 0 {
		limit = DefaultLimit
	}
	for _, it := range items[min(l.offset, len(items)):min(l.offset+limit, len(items))] {
		l.Items = append(l.Items, it.pick(l.columns))
	}
	if len(page.Fields) > 0 && len(l.Items) > 0 {
		if unknown := unknownFields(items, page.Fields); len(unknown) > 0 {
			l.about = fmt.Sprintf("no item has %s (there is: %s)", strings.Join(unknown, ", "), strings.Join(keysOf(items), ", "))
		}
	}
	l.remark()
	return l
}

// Say adds a sentence to the note, such as what could not be read.
func (l *Listing) Say(text string) {
	l.about = strings.TrimPrefix(l.about+"; "+text, "; ")
	l.remark()
}

// remark says what was left out.
func (l *Listing) remark() {
	l.NextOffset, l.Note = 0, l.about
	if shown := l.offset + len(l.Items); shown < l.Total {
		l.NextOffset = shown
		l.Note = fmt.Sprintf("%d of %d shown; offset=%d shows more, search= finds single ones", len(l.Items), l.Total, shown)
		if l.about != "" {
			l.Note = l.about + "; " + l.Note
		}
	}
}

// Shrink implements Shrinker.
func (l *Listing) Shrink() bool {
	if len(l.Items) <= 1 {
		return false
	}
	l.Items = l.Items[:len(l.Items)*3/4]
	l.remark()
	return true
}

// Text implements Texter: a table.
func (l *Listing) Text() string {
	var b strings.Builder
	if len(l.Items) == 0 {
		b.WriteString("nothing found")
		if l.Total > 0 {
			fmt.Fprintf(&b, " at offset %d (there are %d)", l.offset, l.Total)
		}
		b.WriteByte('\n')
	} else {
		columns := l.columns
		if len(columns) == 0 {
			columns = keysOf(l.Items)
		}
		table(&b, columns, l.Items)
	}
	if l.Note != "" {
		b.WriteString("(" + l.Note + ")\n")
	}
	return b.String()
}

func (it Item) pick(columns []string) Item {
	if len(columns) == 0 {
		return it
	}
	out := make(Item, len(columns))
	for _, c := range columns {
		if v, ok := it[c]; ok && v != nil {
			out[c] = v
		}
	}
	return out
}

func (it Item) contains(text string) bool {
	text = strings.ToLower(text)
	for _, v := range it {
		if strings.Contains(strings.ToLower(cell(v)), text) {
			return true
		}
	}
	return false
}

func keysOf(items []Item) []string {
	seen := map[string]bool{}
	for _, it := range items {
		for k := range it {
			seen[k] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

func unknownFields(items []Item, fields []string) []string {
	return slices.DeleteFunc(slices.Clone(fields), func(f string) bool {
		return slices.ContainsFunc(items, func(it Item) bool { _, ok := it[f]; return ok })
	})
}
