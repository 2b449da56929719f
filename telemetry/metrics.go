package telemetry

import (
	"errors"
	"fmt"
	"slices"

	"go.opentelemetry.io/otel/metric"
)

// Metrics holds the instruments of [Table]. What has a callback is observed when somebody collects, everything else is recorded when it
// happens. The instruments may be used by any goroutine.
type Metrics struct {
	Meter metric.Meter // for callbacks

	ServerOperation, ClientOperation, CallDuration, CallOverhead *Durations // what every call records in

	ServerSession, ClientSession                    metric.Float64Histogram
	CallActive                                      metric.Int64ObservableUpDownCounter
	Attempts                                        metric.Int64ObservableCounter
	Abandoned                                       metric.Int64ObservableUpDownCounter
	Late                                            metric.Int64Counter
	RetryScheduled, RetryExhausted, RetrySuppressed metric.Int64Counter
	RetrySuccess                                    metric.Int64ObservableCounter
	RetryDelay                                      metric.Float64Histogram
	RetryPerCall                                    metric.Int64Histogram
	BudgetTokens                                    metric.Float64ObservableGauge
	CircuitState                                    metric.Int64ObservableUpDownCounter
	CircuitCalls                                    metric.Int64ObservableCounter
	CircuitRejected, CircuitTransitions             metric.Int64Counter
	FailureRate, SlowCallRate                       metric.Float64ObservableGauge
	ConsecutiveFailures                             metric.Int64ObservableGauge
	Outage                                          metric.Float64Histogram
	HalfOpenInFlight                                metric.Int64ObservableGauge
	CircuitRetryAfter                               metric.Float64ObservableGauge
	BulkheadLimit, BulkheadInFlight, BulkheadQueued metric.Int64ObservableGauge
	BulkheadRejected                                metric.Int64Counter
	BulkheadWait                                    metric.Float64Histogram
	RateLimitRejected                               metric.Int64Counter
	RateLimitWait                                   metric.Float64Histogram
	Timeouts, Fallbacks                             metric.Int64Counter
	HedgesStarted, HedgesWon                        metric.Int64ObservableCounter
	Errors                                          metric.Int64Counter
	Panics                                          metric.Int64ObservableCounter
	DownstreamUp                                    metric.Int64ObservableGauge
	Reconnects, Restarts                            metric.Int64Counter
	Probe, Pushback                                 metric.Float64Histogram
	Degraded                                        metric.Int64ObservableGauge
	AdmissionRejected                               metric.Int64Counter
	goroutines, memory                              metric.Int64ObservableUpDownCounter
	cpu                                             metric.Float64ObservableCounter
}

// newMetrics makes the instruments. An error is a mistake in this program.
func newMetrics(meter metric.Meter, limit int, p *producer) (*Metrics, error) {
	b := &builder{meter: meter, left: slices.Clone(table), limit: limit}
	m := &Metrics{
		Meter:           meter,
		ServerOperation: b.durations("mcp.server.operation.duration"), ClientOperation: b.durations("mcp.client.operation.duration"),
		ServerSession: b.histogram("mcp.server.session.duration"), ClientSession: b.histogram("mcp.client.session.duration"),
		CallDuration: b.durations("mcpgw.call.duration"), CallOverhead: b.durations("mcpgw.call.overhead"),
		CallActive: b.observedUpDown("mcpgw.call.active"), Attempts: b.observedCounter("mcpgw.attempts"),
		Abandoned: b.observedUpDown("mcpgw.attempt.abandoned"), Late: b.counter("mcpgw.attempt.late"),
		RetryScheduled: b.counter("mcpgw.retry.scheduled"), RetrySuccess: b.observedCounter("mcpgw.retry.success"),
		RetryExhausted: b.counter("mcpgw.retry.exhausted"), RetrySuppressed: b.counter("mcpgw.retry.suppressed"),
		RetryDelay: b.histogram("mcpgw.retry.delay"), RetryPerCall: b.intHistogram("mcpgw.retry.per_call"),
		BudgetTokens: b.floatGauge("mcpgw.retry_budget.tokens"),
		CircuitState: b.observedUpDown("mcpgw.circuit_breaker.state"), CircuitCalls: b.observedCounter("mcpgw.circuit_breaker.calls"),
		CircuitRejected: b.counter("mcpgw.circuit_breaker.rejected"), CircuitTransitions: b.counter("mcpgw.circuit_breaker.transitions"),
		FailureRate: b.floatGauge("mcpgw.circuit_breaker.failure_rate"), SlowCallRate: b.floatGauge("mcpgw.circuit_breaker.slow_call_rate"),
		ConsecutiveFailures: b.gauge("mcpgw.circuit_breaker.consecutive_failures"), Outage: b.histogram("mcpgw.circuit_breaker.outage.duration"),
		HalfOpenInFlight: b.gauge("mcpgw.circuit_breaker.half_open.in_flight"), CircuitRetryAfter: b.floatGauge("mcpgw.circuit_breaker.retry_after"),
		BulkheadLimit: b.gauge("mcpgw.bulkhead.limit"), BulkheadInFlight: b.gauge("mcpgw.bulkhead.in_flight"), BulkheadQueued: b.gauge("mcpgw.bulkhead.queued"),
		BulkheadRejected: b.counter("mcpgw.bulkhead.rejected"), BulkheadWait: b.histogram("mcpgw.bulkhead.wait"),
		RateLimitRejected: b.counter("mcpgw.rate_limit.rejected"), RateLimitWait: b.histogram("mcpgw.rate_limit.wait"),
		Timeouts: b.counter("mcpgw.timeout.exceeded"), Fallbacks: b.counter("mcpgw.fallback.executed"),
		HedgesStarted: b.observedCounter("mcpgw.hedge.started"), HedgesWon: b.observedCounter("mcpgw.hedge.won"),
		Errors: b.counter("mcpgw.errors"), Panics: b.observedCounter("mcpgw.panics"),
		DownstreamUp: b.gauge("mcpgw.downstream.up"), Reconnects: b.counter("mcpgw.downstream.reconnects"), Restarts: b.counter("mcpgw.downstream.restarts"),
		Probe: b.histogram("mcpgw.downstream.probe.duration"), Pushback: b.histogram("mcpgw.downstream.pushback"),
		Degraded: b.gauge("mcpgw.degraded"), AdmissionRejected: b.counter("mcpgw.admission.rejected"),
		goroutines: b.observedUpDown("go.goroutine.count"), memory: b.observedUpDown("go.memory.used"), cpu: b.observedFloatCounter("process.cpu.time"),
	}
	for _, d := range b.left {
		b.errs = append(b.errs, fmt.Errorf("metric %s has no instrument", d.Name))
	}
	p.all = []*Durations{m.ServerOperation, m.ClientOperation, m.CallDuration, m.CallOverhead}
	return m, errors.Join(b.errs...)
}

// builder makes instruments by their names in the table.
type builder struct {
	meter metric.Meter
	limit int   // series of one metric
	left  []Def // not made yet
	errs  []error
}

// take finds a metric that has not been made yet.
func (b *builder) take(name string, kind Kind) Def {
	for i, d := range b.left {
		if d.Name == name && d.Kind == kind {
			b.left = slices.Delete(b.left, i, i+1)
			return d
		}
	}
	b.errs = append(b.errs, fmt.Errorf("no %s %s is in the table", kind, name))
	return Def{Name: name}
}

func must[I any](b *builder) func(I, error) I {
	return func(i I, err error) I {
		if err != nil {
			b.errs = append(b.errs, err)
		}
		return i
	}
}

func (b *builder) durations(name string) *Durations {
	return newDurations(b.take(name, Histogram), b.limit)
}

func (b *builder) histogram(name string) metric.Float64Histogram {
	d := b.take(name, Histogram)
	return must[metric.Float64Histogram](b)(b.meter.Float64Histogram(name, metric.WithUnit(d.Unit), metric.WithDescription(d.Help), metric.WithExplicitBucketBoundaries(d.Buckets...)))
}

func (b *builder) intHistogram(name string) metric.Int64Histogram {
	d := b.take(name, Histogram)
	return must[metric.Int64Histogram](b)(b.meter.Int64Histogram(name, metric.WithUnit(d.Unit), metric.WithDescription(d.Help), metric.WithExplicitBucketBoundaries(d.Buckets...)))
}

func (b *builder) counter(name string) metric.Int64Counter {
	d := b.take(name, Counter)
	return must[metric.Int64Counter](b)(b.meter.Int64Counter(name, metric.WithUnit(d.Unit), metric.WithDescription(d.Help)))
}

func (b *builder) observedCounter(name string) metric.Int64ObservableCounter {
	d := b.take(name, Counter)
	return must[metric.Int64ObservableCounter](b)(b.meter.Int64ObservableCounter(name, metric.WithUnit(d.Unit), metric.WithDescription(d.Help)))
}

func (b *builder) observedFloatCounter(name string) metric.Float64ObservableCounter {
	d := b.take(name, Counter)
	return must[metric.Float64ObservableCounter](b)(b.meter.Float64ObservableCounter(name, metric.WithUnit(d.Unit), metric.WithDescription(d.Help)))
}

func (b *builder) observedUpDown(name string) metric.Int64ObservableUpDownCounter {
	d := b.take(name, UpDownCounter)
	return must[metric.Int64ObservableUpDownCounter](b)(b.meter.Int64ObservableUpDownCounter(name, metric.WithUnit(d.Unit), metric.WithDescription(d.Help)))
}

func (b *builder) gauge(name string) metric.Int64ObservableGauge {
	d := b.take(name, Gauge)
	return must[metric.Int64ObservableGauge](b)(b.meter.Int64ObservableGauge(name, metric.WithUnit(d.Unit), metric.WithDescription(d.Help)))
}

func (b *builder) floatGauge(name string) metric.Float64ObservableGauge {
	d := b.take(name, Gauge)
	return must[metric.Float64ObservableGauge](b)(b.meter.Float64ObservableGauge(name, metric.WithUnit(d.Unit), metric.WithDescription(d.Help)))
}
