package prometheus

import (
	"cmp"
	"context"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

type alertArgs struct {
	State string `json:"state,omitempty"`
	kit.Page
}

func alertLimits(s *jsonschema.Schema) {
	kit.PageLimits(s)
	kit.Enum(s, "state", "firing", "pending")
}

func (s *server) alerts(ctx context.Context, _ *kit.Call, in alertArgs) (*kit.Listing, error) {
	var data struct {
		Alerts []struct {
			Labels, Annotations map[string]string
			State               string
			ActiveAt            string
			Value               string
		}
	}
	if _, err := s.ask(ctx, "alerts", nil, &data); err != nil {
		return nil, err
	}
	items := []kit.Item{}
	for _, a := range data.Alerts {
		if in.State != "" && a.State != in.State {
			continue
		}
		rest := map[string]string{}
		for k, v := range a.Labels {
			if k != "alertname" && k != "severity" {
				rest[k] = v
			}
		}
		it := kit.Item{"alert": a.Labels["alertname"], "state": a.State, "since": a.ActiveAt, "value": a.Value}
		for k, v := range map[string]string{
			"severity": a.Labels["severity"], "says": cmp.Or(a.Annotations["summary"], a.Annotations["description"]), "labels": labels(rest),
		} {
			if v != "" && (k != "labels" || len(rest) > 0) {
				it[k] = v
			}
		}
		items = append(items, it)
	}
	slices.SortStableFunc(items, func(a, b kit.Item) int {
		return cmp.Or(strings.Compare(a["state"].(string), b["state"].(string)), strings.Compare(a["alert"].(string), b["alert"].(string)))
	})
	return kit.List(items, in.Page, "state", "severity", "alert", "since", "says", "labels", "value"), nil
}

type targetArgs struct {
	Health string `json:"health,omitempty"`
	kit.Page
}

func targetLimits(s *jsonschema.Schema) {
	kit.PageLimits(s)
	kit.Enum(s, "health", "up", "down", "unknown")
}

func (s *server) targets(ctx context.Context, _ *kit.Call, in targetArgs) (*kit.Listing, error) {
	var data struct {
		ActiveTargets []struct {
			Labels                map[string]string
			ScrapePool, ScrapeURL string
			Health, LastError     string
			LastScrape            string
			LastScrapeDuration    float64
		}
	}
	if _, err := s.ask(ctx, "targets", url.Values{"state": {"active"}}, &data); err != nil {
		return nil, err
	}
	items := []kit.Item{}
	for _, t := range data.ActiveTargets {
		if in.Health != "" && t.Health != in.Health {
			continue
		}
		it := kit.Item{"job": cmp.Or(t.Labels["job"], t.ScrapePool), "instance": t.Labels["instance"], "health": t.Health, "url": withoutUser(t.ScrapeURL), "last_scrape": t.LastScrape}
		if t.LastError != "" {
			it["error"] = t.LastError
		}
		items = append(items, it)
	}
	slices.SortStableFunc(items, func(a, b kit.Item) int {
		return cmp.Or(trouble(a)-trouble(b), strings.Compare(a["job"].(string), b["job"].(string)))
	})
	return kit.List(items, in.Page, "health", "job", "instance", "error", "url", "last_scrape"), nil
}

func trouble(it kit.Item) int {
	if it["health"] == "up" {
		return 1
	}
	return 0
}

// withoutUser takes a password, or a key among the parameters, out of an address.
func withoutUser(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return ""
	}
	u.User, u.RawQuery = nil, ""
	return u.String()
}

func (s *server) metrics(ctx context.Context, _ *kit.Call, in kit.Page) (*kit.Listing, error) {
	var known map[string][]struct{ Type, Help string }
	if _, err := s.ask(ctx, "metadata", url.Values{"limit_per_metric": {"1"}}, &known); err != nil {
		return nil, err
	}
	var names []string // of recording rules too, of which there is no metadata
	if _, err := s.ask(ctx, "label/__name__/values", nil, &names); err != nil {
		return nil, err
	}
	items := make([]kit.Item, 0, len(names))
	for _, n := range names {
		it := kit.Item{"metric": n}
		about, ok := known[n]
		for _, suffix := range []string{"_bucket", "_sum", "_count", "_total"} {
			if base, cut := strings.CutSuffix(n, suffix); cut && !ok {
				about, ok = known[base]
			}
		}
		if ok && len(about) > 0 {
			it["type"], it["help"] = about[0].Type, about[0].Help
		}
		items = append(items, it)
	}
	return kit.List(items, in, "metric", "type", "help"), nil
}

type labelArgs struct {
	Label string `json:"label" jsonschema:"such as instance or job"`
	Match string `json:"match,omitempty" jsonschema:"series, such as up{job=\"node\"}"`
	kit.Page
}

var labelName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

func (s *server) labelValues(ctx context.Context, _ *kit.Call, in labelArgs) (*kit.Listing, error) {
	if !labelName.MatchString(in.Label) {
		return nil, &kit.Refusal{Message: "label: expected the name of a label, such as instance"}
	}
	q := url.Values{}
	if in.Match != "" {
		q.Set("match[]", in.Match)
	}
	var values []string
	if _, err := s.ask(ctx, "label/"+in.Label+"/values", q, &values); err != nil {
		return nil, err
	}
	items := make([]kit.Item, 0, len(values))
	for _, v := range values {
		items = append(items, kit.Item{"value": v})
	}
	return kit.List(items, in.Page, "value"), nil
}
