// Package prometheus is a built-in server that looks into a Prometheus, or what speaks as it does (VictoriaMetrics, Mimir, Thanos). It
// changes nothing.
package prometheus

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

type server struct{ client *kit.Client }

const instructions = `Metrics of a Prometheus. "metrics" finds names and "label_values" what a label can be; "query" tells what is now, ` +
	`"query_range" how it was. Aggregate in PromQL (sum by, topk) rather than reading many series.`

// New returns the server.
func New(cfg kit.Config) (*kit.Server, error) {
	client, err := kit.NewClient(&cfg, kit.ClientOptions{
		System: "Prometheus", Explain: explain,
		Authorize: func(r *http.Request) error {
			switch {
			case cfg.Token != "":
				r.Header.Set("Authorization", "Bearer "+cfg.Token.Reveal())
			case cfg.Username != "":
				r.SetBasicAuth(cfg.Username, cfg.Password.Reveal())
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	s := &server{client}
	k := kit.NewServer(cfg, "prometheus", "Prometheus", instructions)
	kit.Add(k, kit.Tool{
		Name: "query", Title: "Query", Adjust: kit.PageLimits,
		Description: "Values of a PromQL expression at one moment (default: now), one row for each series.",
	}, s.query)
	kit.Add(k, kit.Tool{
		Name: "query_range", Title: "Query over time", Adjust: rangeLimits,
		Description: "How a PromQL expression went over time, as a table with one column for each series, thinned to few rows.",
	}, s.queryRange)
	kit.Add(k, kit.Tool{
		Name: "alerts", Title: "Alerts", Adjust: alertLimits,
		Description: "Alerts that are firing or pending, with their labels, since when and what they say.",
	}, s.alerts)
	kit.Add(k, kit.Tool{
		Name: "targets", Title: "Targets", Adjust: targetLimits,
		Description: "What is scraped and whether it can be reached, those with trouble first, with the last error.",
	}, s.targets)
	kit.Add(k, kit.Tool{
		Name: "metrics", Title: "Metrics", Adjust: kit.PageLimits,
		Description: "Names of metrics with type and meaning. Pass a part of the name or of its help as search.",
	}, s.metrics)
	kit.Add(k, kit.Tool{
		Name: "label_values", Title: "Label values", Adjust: kit.PageLimits,
		Description: "Values that a label has, such as all instances or jobs; match limits it to some series.",
	}, s.labelValues)
	k.OnPing(func(ctx context.Context) error {
		_, err := s.ask(ctx, "query", url.Values{"query": {"1"}}, &queryData{})
		return err
	})
	k.OnClose(client.Close)
	return k, nil
}

// envelope is around all answers.
type envelope struct {
	Status    string          `json:"status"`
	Data      json.RawMessage `json:"data"`
	ErrorType string          `json:"errorType"`
	Error     string          `json:"error"`
	Warnings  []string        `json:"warnings"`
}

// explain reads the answers by which Prometheus refuses: they come with 400, 404, 422 and 503 alike.
func explain(status int, _ string, header http.Header, body []byte) error {
	var e envelope
	if json.Unmarshal(body, &e) != nil || e.Status != "error" {
		return nil //nolint:nilerr // not in Prometheus' own form: the status says it all
	}
	switch e.ErrorType {
	case "unavailable", "internal":
		return &kit.Failure{Class: kit.ClassStatus, Status: status, Executed: true, RetryAfter: kit.RetryAfter(header), Message: "Prometheus failed: " + e.Error}
	case "timeout", "canceled": // the query was too much; the same one will be again
		return &kit.Refusal{Status: status, Message: "Prometheus gave the query up: " + e.Error + ". Ask for a shorter time, a larger step or fewer series"}
	}
	return &kit.Refusal{Status: status, Message: "Prometheus refuses: " + e.Error}
}

// ask asks for data of the API and returns the warnings that came with it.
func (s *server) ask(ctx context.Context, path string, q url.Values, data any) (string, error) {
	var e envelope
	if err := s.client.Get(ctx, "/api/v1/"+path, q, &e); err != nil {
		return "", err
	}
	if e.Status != "success" {
		return "", &kit.Failure{Class: kit.ClassMalformed, Executed: true, Message: "what answers at the address is no Prometheus: its answer has no status (the url is that of the server, without /api/v1)"}
	}
	if err := json.Unmarshal(e.Data, data); err != nil {
		return "", &kit.Failure{Class: kit.ClassMalformed, Executed: true, Message: fmt.Sprintf("Prometheus answered something that is not what its API says: %v", err)}
	}
	return strings.Join(e.Warnings, "; "), nil
}

// labels shows the labels of a series as PromQL writes them.
func labels(m map[string]string) string {
	keys := make([]string, 0, len(m))
	for k := range m {
		if k != "__name__" {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	var b strings.Builder
	b.WriteString(m["__name__"])
	if len(keys) > 0 {
		b.WriteByte('{')
		for i, k := range keys {
			if i > 0 {
				b.WriteString(", ")
			}
			fmt.Fprintf(&b, "%s=%q", k, m[k])
		}
		b.WriteByte('}')
	}
	if b.Len() == 0 {
		return "value"
	}
	return b.String()
}
