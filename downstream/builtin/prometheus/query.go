package prometheus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

type queryArgs struct {
	Query  string `json:"query" jsonschema:"PromQL"`
	Time   string `json:"time,omitempty" jsonschema:"RFC 3339, or an age such as 2h"`
	Limit  int    `json:"limit,omitempty"`
	Offset int    `json:"offset,omitempty"`
}

// queryData is what an expression came to.
type queryData struct {
	ResultType string          `json:"resultType"`
	Result     json.RawMessage `json:"result"`
}

type series struct {
	Metric    map[string]string
	Value     *sample
	Values    []sample
	Histogram json.RawMessage
}

// sample is a pair of seconds and a number in a text.
type sample struct {
	at    float64
	value string
}

func (s *sample) UnmarshalJSON(raw []byte) error {
	var pair [2]json.RawMessage
	if err := json.Unmarshal(raw, &pair); err != nil {
		return err
	}
	return errors.Join(json.Unmarshal(pair[0], &s.at), json.Unmarshal(pair[1], &s.value))
}

func (s *server) query(ctx context.Context, _ *kit.Call, in queryArgs) (*kit.Listing, error) {
	q := url.Values{"query": {in.Query}}
	if in.Time != "" {
		at, err := moment("time", in.Time)
		if err != nil {
			return nil, err
		}
		q.Set("time", seconds(at))
	}
	var data queryData
	warnings, err := s.ask(ctx, "query", q, &data)
	if err != nil {
		return nil, err
	}
	items := []kit.Item{}
	if data.ResultType == "scalar" || data.ResultType == "string" {
		var one sample
		if err := json.Unmarshal(data.Result, &one); err != nil {
			return nil, malformed(err)
		}
		items = append(items, kit.Item{"series": data.ResultType, "value": one.value})
	} else {
		var list []series
		if err := json.Unmarshal(data.Result, &list); err != nil {
			return nil, malformed(err)
		}
		for _, one := range list {
			it := kit.Item{"series": labels(one.Metric)}
			switch {
			case one.Value != nil:
				it["value"] = one.Value.value
			case len(one.Histogram) > 0:
				it["value"] = "a histogram: use histogram_quantile() or histogram_avg()"
			case len(one.Values) > 0:
				it["value"] = fmt.Sprintf("%d samples, the last is %s: use query_range", len(one.Values), one.Values[len(one.Values)-1].value)
			}
			items = append(items, it)
		}
	}
	l := kit.List(items, kit.Page{Limit: in.Limit, Offset: in.Offset}, "series", "value")
	if warnings != "" {
		l.Say(warnings)
	}
	return l, nil
}

func malformed(err error) error {
	return &kit.Failure{Class: kit.ClassMalformed, Executed: true, Message: fmt.Sprintf("Prometheus answered something that is not what its API says: %v", err)}
}

type rangeArgs struct {
	Query  string `json:"query" jsonschema:"PromQL"`
	Start  string `json:"start,omitempty" jsonschema:"RFC 3339, or an age such as 2h"`
	End    string `json:"end,omitempty"`
	Points int    `json:"points,omitempty" jsonschema:"rows"`
}

const (
	points    = 30 // rows where the call does not say
	maxPoints = 200
	maxSeries = 12
)

func rangeLimits(s *jsonschema.Schema) {
	kit.Range(s, "points", 2, maxPoints)
	s.Properties["start"].Default = json.RawMessage(`"1h"`)
	s.Properties["points"].Default = json.RawMessage(strconv.Itoa(points))
}

// table is the structured content of query_range.
type table struct {
	Series []string `json:"series" jsonschema:"one for each column"`
	Times  []string `json:"times" jsonschema:"one for each row, UTC"`
	Rows   [][]any  `json:"rows" jsonschema:"values, null where there is none"`
	Step   string   `json:"step"`
	Note   string   `json:"note,omitempty"`
}

// Text implements kit.Texter.
func (t *table) Text() string {
	var b strings.Builder
	for i, name := range t.Series {
		fmt.Fprintf(&b, "[%d] %s\n", i+1, name)
	}
	for i, at := range t.Times {
		b.WriteString(at)
		for _, v := range t.Rows[i] {
			b.WriteString("  ")
			if f, ok := v.(float64); ok {
				b.WriteString(strconv.FormatFloat(f, 'g', 6, 64))
			} else {
				b.WriteByte('-')
			}
		}
		b.WriteByte('\n')
	}
	if len(t.Series) == 0 {
		b.WriteString("no series in this time\n")
	}
	if t.Note != "" {
		b.WriteString("(" + t.Note + ")\n")
	}
	return b.String()
}

// Shrink implements kit.Shrinker: it leaves out series.
func (t *table) Shrink() bool {
	n := len(t.Series) - 1
	if n < 1 {
		return false
	}
	t.Series = t.Series[:n]
	for i := range t.Rows {
		t.Rows[i] = t.Rows[i][:n]
	}
	t.Note = fmt.Sprintf("only the first %d series are shown: aggregate with sum by() or topk()", n)
	return true
}

func (s *server) queryRange(ctx context.Context, _ *kit.Call, in rangeArgs) (*table, error) {
	start, err := moment("start", in.Start)
	if err != nil {
		return nil, err
	}
	end := time.Now()
	if in.End != "" {
		if end, err = moment("end", in.End); err != nil {
			return nil, err
		}
	}
	if !start.Before(end) {
		return nil, fmt.Errorf("start: must be before end, found %s and %s", stamp(start), stamp(end))
	}
	step := max(time.Duration(math.Ceil(end.Sub(start).Seconds()/float64(max(in.Points, 2)-1)))*time.Second, time.Second)
	start = end.Add(-end.Sub(start) / step * step) // so that the last row is the end, which matters most
	var data queryData
	warnings, err := s.ask(ctx, "query_range", url.Values{
		"query": {in.Query}, "start": {seconds(start)}, "end": {seconds(end)}, "step": {strconv.Itoa(int(step.Seconds()))},
	}, &data)
	if err != nil {
		return nil, err
	}
	var list []series
	if err := json.Unmarshal(data.Result, &list); err != nil {
		return nil, malformed(err)
	}
	t := tabulate(list, step)
	t.Note = strings.Trim(t.Note+"; "+warnings, "; ")
	return t, nil
}

// tabulate puts series beside each other.
func tabulate(list []series, step time.Duration) *table {
	t := &table{Series: []string{}, Times: []string{}, Rows: [][]any{}, Step: step.String()}
	if n := len(list); n > maxSeries {
		t.Note = fmt.Sprintf("%d of %d series shown: aggregate with sum by() or topk()", maxSeries, n)
		list = list[:maxSeries]
	}
	at := map[float64]int{}
	var times []float64
	for _, one := range list {
		for _, v := range one.Values {
			if _, ok := at[v.at]; !ok {
				at[v.at] = 0
				times = append(times, v.at)
			}
		}
	}
	slices.Sort(times)
	layout := "01-02 15:04"
	if step < time.Minute {
		layout += ":05"
	}
	for i, v := range times {
		at[v] = i
		t.Times = append(t.Times, time.UnixMilli(int64(v*1000)).UTC().Format(layout))
		t.Rows = append(t.Rows, make([]any, len(list)))
	}
	for column, one := range list {
		t.Series = append(t.Series, labels(one.Metric))
		for _, v := range one.Values {
			// What JSON has no number for, NaN and infinities, is left out.
			if f, err := strconv.ParseFloat(v.value, 64); err == nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
				t.Rows[at[v.at]][column] = f
			}
		}
	}
	return t
}

// moment reads a time: an instant, seconds since 1970, or how long ago it was.
func moment(name, s string) (time.Time, error) {
	if s == "now" {
		return time.Now(), nil
	}
	if at, err := time.Parse(time.RFC3339, s); err == nil {
		return at, nil
	}
	if sec, err := strconv.ParseFloat(s, 64); err == nil && sec > 1e8 && sec < 1e11 {
		return time.UnixMilli(int64(sec * 1000)), nil
	}
	age := strings.TrimPrefix(strings.TrimSuffix(strings.TrimSpace(s), " ago"), "-")
	if days, ok := strings.CutSuffix(age, "d"); ok {
		if n, err := strconv.ParseFloat(days, 64); err == nil && n >= 0 && n < 36500 {
			return time.Now().Add(-time.Duration(n * 24 * float64(time.Hour))), nil
		}
	}
	if d, err := time.ParseDuration(age); err == nil && d >= 0 {
		return time.Now().Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("%s: expected a time such as 2026-01-31T12:00:00Z, or an age such as 30m, 2h or 7d, found %q", name, s)
}

func seconds(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64) }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
