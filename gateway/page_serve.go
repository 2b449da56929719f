package gateway

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	markup "html/template"
	"net/http"
	"strings"
	"time"
)

// The status page is one document that needs nothing else: style and script stand in it.
//
//go:embed page/page.html
var pageHTML string

//go:embed page/page.css
var pageCSS string

//go:embed page/page.js
var pageJS string

var pageTemplate = markup.Must(markup.New("page").Funcs(markup.FuncMap{
	"css":   func() markup.CSS { return markup.CSS(pageCSS) }, //nolint:gosec // ours
	"js":    func() markup.JS { return markup.JS(pageJS) },    //nolint:gosec // ours
	"stamp": func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"clock": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
	"card":  func(c pageCard, admin bool) map[string]any { return map[string]any{"Card": c, "Admin": admin} },
}).Parse(pageHTML))

// pageParts are the templates that are sent again when they have changed, besides the cards.
var pageParts = []string{"summary", "errors", "sessions"}

// pageRate is how often changes are looked for while somebody watches.
const pageRate = 500 * time.Millisecond

// wantsPage reports whether a browser asks.
func wantsPage(req *http.Request) bool {
	return strings.Contains(req.Header.Get("Accept"), "text/html")
}

// servePage answers GET /status for people.
func (g *Gateway) servePage(w http.ResponseWriter) {
	var b bytes.Buffer
	if err := pageTemplate.ExecuteTemplate(&b, "page", g.page()); err != nil {
		g.log.Error("status page", "err", err)
		http.Error(w, "the status page could not be made; the gateway's log says why", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	_, _ = w.Write(b.Bytes()) // a client that is gone needs no answer
}

// pagePart is one piece of the page that has changed. The same templates make the page and the pieces, so that the page without scripts
// and the live one cannot differ.
type pagePart struct {
	ID   string `json:"id"`
	HTML string `json:"html"`
}

// servePageEvents sends what changes on the status page (GET /status/events) as server-sent events until the client or the gateway goes
// away.
func (g *Gateway) servePageEvents(w http.ResponseWriter, req *http.Request) {
	cfg := &g.settings.Load().Gateway
	if g.streams.Add(1) > int64(cfg.Limits.Streams) {
		g.streams.Add(-1)
		http.Error(w, "too many open streams (gateway.limits.streams)", http.StatusServiceUnavailable)
		return
	}
	defer g.streams.Add(-1)
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	rc := http.NewResponseController(w)
	known := map[string]string{}
	tick := time.NewTicker(pageRate)
	defer tick.Stop()
	silent := time.Duration(0)
	for {
		parts, err := g.pageChanges(known)
		if err != nil {
			g.log.ErrorContext(req.Context(), "status page", "err", err)
			return
		}
		if silent += pageRate; len(parts) > 0 || silent >= cfg.Timeouts.Heartbeat {
			silent = 0
			data, _ := json.Marshal(parts) // strings only
			_ = rc.SetWriteDeadline(time.Now().Add(cfg.Timeouts.Write))
			if _, err := fmt.Fprintf(w, "data: %s\n\n", data); err != nil {
				return
			}
			if err := rc.Flush(); err != nil {
				return
			}
		}
		select {
		case <-req.Context().Done():
			return
		case <-g.draining:
			return
		case <-tick.C:
		}
	}
}

// pageChanges returns the pieces that are not as known says, and takes them down there.
func (g *Gateway) pageChanges(known map[string]string) ([]pagePart, error) {
	m := g.page()
	parts := []pagePart{}
	order := make([]string, 0, len(m.Cards))
	add := func(id, name string, data any) error {
		var b bytes.Buffer
		if err := pageTemplate.ExecuteTemplate(&b, name, data); err != nil {
			return err
		}
		if html := b.String(); known[id] != html {
			known[id] = html
			parts = append(parts, pagePart{id, html})
		}
		return nil
	}
	for _, name := range pageParts {
		if err := add(name, name, m); err != nil {
			return nil, err
		}
	}
	for _, c := range m.Cards {
		order = append(order, "card-"+c.Name)
		if err := add("card-"+c.Name, "card", map[string]any{"Card": c, "Admin": m.Admin}); err != nil {
			return nil, err
		}
	}
	// The list of cards itself: downstreams come and go with the configuration.
	if list := strings.Join(order, " "); known["cards"] != list {
		known["cards"] = list
		parts = append(parts, pagePart{"cards", list})
	}
	return parts, nil
}
