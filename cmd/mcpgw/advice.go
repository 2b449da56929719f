package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/mcpgw/mcpgw/gateway"
	"github.com/mcpgw/mcpgw/internal/config"
)

// Where clients have limits, or agents begin to choose badly.
const (
	manyTools       = 40     // Cursor
	tooManyTools    = 128    // GitHub Copilot, and requests to several model APIs
	manyTokens      = 20_000 // a tenth of a usual context, before anything was said
	manyServerToken = 10_000
)

// advise puts into r what works and could be better.
func (r *report) advise(tools []gateway.Tool) {
	say := func(format string, args ...any) { r.Advice = append(r.Advice, fmt.Sprintf(format, args...)) }
	switch n := r.Total.Tools; {
	case n > tooManyTools:
		say("%d tools together: more than the %d that GitHub Copilot and some model APIs take. Point such clients at /servers/NAME/mcp", n, tooManyTools)
	case n > manyTools:
		say("%d tools together: Cursor uses about %d. Point such clients at /servers/NAME/mcp", n, manyTools)
	}
	if r.Total.Tokens > manyTokens {
		say("about %d tokens of descriptions together, which clients without a search for tools send with every request", r.Total.Tokens)
	}
	var changed []string
	for i := range r.Downstreams {
		d := &r.Downstreams[i]
		if d.Tokens > manyServerToken {
			say("%s: about %d tokens of descriptions for %s", d.Name, d.Tokens, count(d.Tools, "tool"))
		}
		for _, t := range tools {
			if t.Downstream != d.Name {
				continue
			}
			if !annotated(t.Raw) {
				d.Unannotated = append(d.Unannotated, t.Own)
			}
			if t.Name != t.Downstream+"__"+t.Own {
				changed = append(changed, fmt.Sprintf("%s (%s of %s)", t.Name, t.Own, t.Downstream))
			}
		}
		if n := len(d.Unannotated); n > 0 {
			say("%s: %d of %s do not say whether they change something (%s): clients ask before each call, Codex may refuse them, and the gateway repeats none of them. Say it in downstreams.%s.resilience.tools.NAME.safety",
				d.Name, n, count(d.Tools, "tool"), few(d.Unannotated), d.Name)
		}
	}
	if len(changed) > 0 {
		say("names that are not as the server has them, to fit every client: %s", few(changed))
	}
}

// annotated says whether a tool has a hint about changes.
func annotated(raw json.RawMessage) bool {
	var t struct {
		Annotations *annotations `json:"annotations"`
	}
	return json.Unmarshal(raw, &t) == nil && t.Annotations.words() != "-"
}

// few lists the first names of many.
func few(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
}

// expiring looks at the certificates of all https downstreams, at the same time.
func expiring(ctx context.Context, file *config.File) []string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex
		all []string
	)
	for name, cfg := range file.Settings.Downstreams {
		u, err := url.Parse(cfg.URL)
		if err != nil || u.Scheme != "https" && u.Scheme != "wss" || cfg.Disabled {
			continue
		}
		wg.Go(func() {
			port := u.Port()
			if port == "" {
				port = "443"
			}
			c := inspect(ctx, net.JoinHostPort(u.Hostname(), port), u.Hostname())
			if text := c.expiry(time.Now()); text != "" {
				mu.Lock()
				defer mu.Unlock()
				all = append(all, name+": "+text)
			}
		})
	}
	wg.Wait()
	slices.Sort(all)
	return all
}

// policies writes what guards a downstream.
func (d *checked) policies(b *strings.Builder) {
	if len(d.Policies) == 0 {
		return
	}
	fmt.Fprintf(b, "\npolicies of %s (* not built in)\n", d.Name)
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, s := range d.Policies {
		mark := " "
		if s.Changed {
			mark = "*"
		}
		fmt.Fprintf(t, "  %s %s\t%s\n", mark, s.Key, s.Value)
	}
	_ = t.Flush() // a strings.Builder takes everything
}
