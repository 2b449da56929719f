package telemetry

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/trace"
)

// A Durations is a histogram of durations that every call records in. The SDK's histograms look up and normalise the attributes for each
// record, which costs more than all the rest of telemetry together; here the attributes are looked up once, and recording is two additions.
// It reaches the exporters as the SDK's do, always cumulative.
type Durations struct {
	def    Def
	bounds []time.Duration
	limit  int
	since  time.Time

	mu       sync.RWMutex // guards points
	points   map[attribute.Distinct]*Point
	overflow *Point
}

// Point is one series of a Durations. It may be recorded in by any goroutine.
type Point struct {
	attrs     attribute.Set
	bounds    []time.Duration
	counts    []atomic.Uint64 // one more than bounds
	sum       atomic.Int64    // ns
	exemplars []atomic.Pointer[metricdata.Exemplar[float64]]
}

func newDurations(d Def, limit int) *Durations {
	h := &Durations{def: d, limit: limit, since: time.Now(), points: map[attribute.Distinct]*Point{}}
	for _, b := range d.Buckets {
		h.bounds = append(h.bounds, time.Duration(b*float64(time.Second)))
	}
	return h
}

// Point returns the series with these attributes. Beyond the limit all further ones share a series.
func (h *Durations) Point(kv ...attribute.KeyValue) *Point {
	set := attribute.NewSet(kv...)
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.points[set.Equivalent()]; p != nil {
		return p
	}
	if h.limit > 0 && len(h.points) >= h.limit-1 {
		if h.overflow == nil {
			h.overflow = h.newPoint(attribute.NewSet(attribute.Bool("otel.metric.overflow", true)))
		}
		return h.overflow
	}
	p := h.newPoint(set)
	h.points[set.Equivalent()] = p
	return p
}

func (h *Durations) newPoint(set attribute.Set) *Point {
	n := len(h.bounds) + 1
	return &Point{attrs: set, bounds: h.bounds, counts: make([]atomic.Uint64, n), exemplars: make([]atomic.Pointer[metricdata.Exemplar[float64]], n)}
}

// Record counts d. If span is being sampled it becomes the example of its bucket; nil is no span.
func (p *Point) Record(d time.Duration, span trace.Span) {
	i := 0
	for i < len(p.bounds) && d > p.bounds[i] {
		i++
	}
	p.counts[i].Add(1)
	p.sum.Add(int64(d))
	if span != nil && span.SpanContext().IsSampled() {
		sc := span.SpanContext()
		id, traceID := sc.SpanID(), sc.TraceID()
		p.exemplars[i].Store(&metricdata.Exemplar[float64]{Time: time.Now(), Value: d.Seconds(), SpanID: id[:], TraceID: traceID[:]})
	}
}

// collect returns what has been recorded; ok is false if nothing has.
func (h *Durations) collect(now time.Time) (m metricdata.Metrics, ok bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	var data []metricdata.HistogramDataPoint[float64]
	for _, p := range h.points {
		data = p.collect(data, h, now)
	}
	if h.overflow != nil {
		data = h.overflow.collect(data, h, now)
	}
	return metricdata.Metrics{
		Name: h.def.Name, Description: h.def.Help, Unit: h.def.Unit,
		Data: metricdata.Histogram[float64]{DataPoints: data, Temporality: metricdata.CumulativeTemporality},
	}, len(data) > 0
}

func (p *Point) collect(data []metricdata.HistogramDataPoint[float64], h *Durations, now time.Time) []metricdata.HistogramDataPoint[float64] {
	d := metricdata.HistogramDataPoint[float64]{
		Attributes: p.attrs, StartTime: h.since, Time: now, Bounds: h.def.Buckets, BucketCounts: make([]uint64, len(p.counts)),
		Sum: time.Duration(p.sum.Load()).Seconds(),
	}
	for i := range p.counts {
		d.BucketCounts[i] = p.counts[i].Load()
		d.Count += d.BucketCounts[i]
		if e := p.exemplars[i].Load(); e != nil {
			d.Exemplars = append(d.Exemplars, *e)
		}
	}
	if d.Count == 0 {
		return data
	}
	return append(data, d)
}

// producer brings histograms to the exporters. It implements sdkmetric.Producer.
type producer struct{ all []*Durations }

// Produce implements sdkmetric.Producer.
func (p *producer) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	now := time.Now()
	var metrics []metricdata.Metrics
	for _, h := range p.all {
		if m, ok := h.collect(now); ok {
			metrics = append(metrics, m)
		}
	}
	if metrics == nil {
		return nil, nil
	}
	return []metricdata.ScopeMetrics{{Scope: instrumentation.Scope{Name: ScopeName}, Metrics: metrics}}, nil
}
