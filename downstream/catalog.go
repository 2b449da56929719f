package downstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// Item is one thing that a server offers, exactly as the server described it.
type Item struct {
	Key string          // what it is asked for by: the name of a tool or prompt, the URI of a resource, the URI template
	Raw json.RawMessage // the whole item
}

// List is what a server offers of one kind.
type List struct {
	Items []Item        // in the server's order, each Key once
	TTL   time.Duration // ttlMs of the server's answer; 0 from a legacy server
	Scope string        // cacheScope of the server's answer; "private" from a legacy server
	At    time.Time     // when it was listed; zero if the server has never answered
}

// The kinds of lists.
const (
	Tools = iota
	Prompts
	Resources
	Templates
	kinds
)

// kind says how a list is asked for and what an item of it must have.
type kind struct {
	method     string
	member     string   // of the result
	capability string   // of the server
	key        string   // of an item
	strings    []string // further members that must be strings where they occur
	required   []string // members without which typed clients refuse the whole list
}

var lists = [kinds]kind{
	Tools:     {"tools/list", "tools", "tools", "name", []string{"title", "description"}, []string{"inputSchema"}},
	Prompts:   {"prompts/list", "prompts", "prompts", "name", []string{"title", "description"}, nil},
	Resources: {"resources/list", "resources", "resources", "uri", []string{"name", "title", "description", "mimeType"}, []string{"name"}},
	Templates: {"resources/templates/list", "resourceTemplates", "resources", "uriTemplate", []string{"name", "title", "description", "mimeType"}, []string{"name"}},
}

// ListMethod returns the method that lists a kind, and the member of its result that holds the items.
func ListMethod(k int) (method, member string) { return lists[k].method, lists[k].member }

// Catalog is everything that a server offers at one moment. It is never changed after it is made.
type Catalog struct {
	Lists        [kinds]List
	Revision     string          // protocol revision that was negotiated; "" if there never was a session
	Capabilities json.RawMessage // as the server declared them; nil if there never was a session
	Info         json.RawMessage // serverInfo; may be nil
	Instructions string
	Problems     []string // what was left out, and why
}

// Modern reports whether the server speaks a modern revision.
func (c *Catalog) Modern() bool { return c.Revision >= Modern }

// equal reports whether clients would see no difference between c and d.
func (c *Catalog) equal(d *Catalog) bool {
	same := c.Revision == d.Revision && c.Instructions == d.Instructions && bytes.Equal(c.Capabilities, d.Capabilities) &&
		bytes.Equal(c.Info, d.Info) && slices.Equal(c.Problems, d.Problems)
	for k := range c.Lists {
		a, b := &c.Lists[k], &d.Lists[k]
		same = same && a.TTL == b.TTL && a.Scope == b.Scope && slices.EqualFunc(a.Items, b.Items, func(x, y Item) bool {
			return x.Key == y.Key && bytes.Equal(x.Raw, y.Raw)
		})
	}
	return same
}

// fresher reports whether clients may keep a list of c for longer than the same one of d.
func (c *Catalog) fresher(d *Catalog) bool {
	for k := range c.Lists {
		if c.Lists[k].TTL > 0 && c.Lists[k].At.After(d.Lists[k].At) {
			return true
		}
	}
	return false
}

// list asks the server for everything it offers. A list that fails keeps the items of last; its error is part of the joined error.
func list(ctx context.Context, l link, cfg *Config, last *Catalog) (*Catalog, error) {
	p := l.peer()
	c := &Catalog{Revision: p.Revision, Capabilities: p.Capabilities, Info: p.Info, Instructions: p.Instructions}
	var errs []error
	for k := range lists {
		if wire.Get(p.Capabilities, lists[k].capability) == nil {
			continue
		}
		got, problems, err := listKind(ctx, l, cfg, &lists[k])
		var rpc *wire.Error
		switch {
		case err == nil:
			c.Lists[k] = got
		case errors.As(err, &rpc) && rpc.Code == wire.CodeMethodNotFound:
			// Many servers declare resources and have no templates, or the reverse.
			c.Lists[k] = List{At: time.Now(), Scope: scopePrivate}
		default:
			errs = append(errs, fmt.Errorf("%s: %w", lists[k].method, err))
			c.Lists[k] = last.Lists[k]
			problems = append(problems, fmt.Sprintf("%s failed, the last known list is kept: %v", lists[k].method, err))
		}
		c.Problems = append(c.Problems, problems...)
	}
	return c, errors.Join(errs...)
}

const scopePrivate = "private"

// listKind drains all pages of one list within the limits of cfg.
func listKind(ctx context.Context, l link, cfg *Config, k *kind) (List, []string, error) {
	out := List{Scope: "public"}
	var problems []string
	seen := map[string]bool{}
	cursors := map[string]bool{}
	var params json.RawMessage
	for page := 0; ; page++ {
		if page == cfg.Limits.Pages {
			return out, problems, fmt.Errorf("more than %d pages (limits.pages)", cfg.Limits.Pages)
		}
		res, err := listPage(ctx, l, cfg, k.method, params)
		if err != nil {
			return out, problems, err
		}
		ttl, scope := freshness(res)
		if page == 0 || ttl < out.TTL {
			out.TTL = ttl
		}
		if scope != "public" {
			out.Scope = scopePrivate
		}
		items := wire.Get(res, k.member)
		if !wire.IsArray(items) {
			return out, problems, fmt.Errorf("the result has no array %q", k.member)
		}
		index := 0
		wire.Elements(items, func(raw json.RawMessage) bool {
			index++
			item, err := k.item(raw, cfg.Limits.ItemBytes)
			switch {
			case err != nil:
				problems = append(problems, fmt.Sprintf("%s: item %d%s left out: %v", k.method, index, named(item.Key), err))
			case seen[item.Key]:
				problems = append(problems, fmt.Sprintf("%s: item %d%s left out: the server lists it twice", k.method, index, named(item.Key)))
			case len(out.Items) == cfg.Limits.Items:
				problems = append(problems, fmt.Sprintf("%s: more than %d items (limits.items), the rest is left out", k.method, cfg.Limits.Items))
				return false
			default:
				seen[item.Key] = true
				out.Items = append(out.Items, item)
			}
			return true
		})
		cursor := wire.Get(res, "nextCursor")
		if cursor == nil || string(cursor) == "null" || len(out.Items) == cfg.Limits.Items {
			out.At = time.Now()
			return out, problems, nil
		}
		if cursors[string(cursor)] {
			return out, problems, errors.New("the server's cursors go round in a circle")
		}
		cursors[string(cursor)] = true
		params = wire.Set(nil, "cursor", cursor)
	}
}

func listPage(ctx context.Context, l link, cfg *Config, method string, params json.RawMessage) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.Timeouts.List, fmt.Errorf("no answer within %s (timeouts.list): %w", cfg.Timeouts.List, context.DeadlineExceeded))
	defer cancel()
	return l.call(ctx, &Call{Method: method, Params: params})
}

// freshness reads the caching hints of a result (specification 2026-07-28, server/utilities/caching). Without them a result is
// stale at once and private.
func freshness(res json.RawMessage) (ttl time.Duration, scope string) {
	if n, err := strconv.ParseInt(string(wire.Get(res, "ttlMs")), 10, 64); err == nil && n > 0 {
		ttl = time.Duration(min(n, int64(365*24*time.Hour/time.Millisecond))) * time.Millisecond
	}
	scope, _ = wire.GetString(res, "cacheScope")
	return ttl, scope
}

func named(key string) string {
	if key == "" {
		return ""
	}
	if len(key) > 80 {
		key = key[:80] + "…"
	}
	return fmt.Sprintf(" (%q)", key)
}

// item checks one item of a list. What a typed client would refuse is refused here, so that it costs one item and not the whole list.
// The item's Key is set as soon as it is known, also with an error.
func (k *kind) item(raw json.RawMessage, limit int) (Item, error) {
	if !wire.IsObject(raw) {
		return Item{}, errors.New("not an object")
	}
	key, ok := wire.GetString(raw, k.key)
	it := Item{Key: key, Raw: raw}
	switch {
	case !ok || key == "":
		return it, fmt.Errorf("%s must be a string that is not empty", k.key)
	case len(key) > maxKeyBytes:
		return it, fmt.Errorf("%s has %d bytes, more than %d", k.key, len(key), maxKeyBytes)
	case len(raw) > limit:
		return it, fmt.Errorf("has %d bytes, more than %d (limits.item_bytes)", len(raw), limit)
	}
	if err := wire.CheckKeys(raw, k.key); err != nil {
		return it, err
	}
	for _, name := range k.strings {
		if v := wire.Get(raw, name); v != nil && v[0] != '"' && string(v) != "null" {
			return it, fmt.Errorf("%s must be a string", name)
		}
	}
	for _, name := range k.required {
		if wire.Get(raw, name) == nil {
			return it, fmt.Errorf("%s is missing", name)
		}
	}
	if k.member == "tools" {
		return it, checkTool(raw)
	}
	return it, nil
}

const maxKeyBytes = 8 << 10

// checkTool checks what the specification's schema fixes about a tool.
func checkTool(raw json.RawMessage) error {
	if typ, _ := wire.GetString(wire.Get(raw, "inputSchema"), "type"); typ != "object" {
		return errors.New(`inputSchema must be an object whose type is "object"`)
	}
	for _, name := range []string{"outputSchema", "annotations", "_meta"} {
		if v := wire.Get(raw, name); v != nil && !wire.IsObject(v) && string(v) != "null" {
			return fmt.Errorf("%s must be an object", name)
		}
	}
	return nil
}
