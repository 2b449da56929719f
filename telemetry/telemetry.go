package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Options is what Start is given besides the Config.
type Options struct {
	Logger  *slog.Logger // of the program; nil discards
	Version string       // of the program
	Console io.Writer    // where exporter: console prints; nil discards
	// Scraped says that there is an address at which /metrics can be served. Without one Prometheus is left out, whatever the
	// Config says.
	Scraped bool
	// SpanProcessors get spans besides the exporter of the Config. They are for tests.
	SpanProcessors []sdktrace.SpanProcessor
}

// Telemetry is what the gateway tells about itself, set up once by [Start] and ended by [Telemetry.Shutdown]. Its fields are never
// changed. A nil Telemetry is one that tells nothing.
type Telemetry struct {
	Metrics *Metrics     // nil: nobody wants metrics
	Tracer  trace.Tracer // nil: nobody wants spans
	Scrape  http.Handler // of /metrics; nil: not served
	Access  *Access      // nil: no access log
	Audit   *Audit       // nil: no audit log
	// Share is the part of the calls that are traced where their clients have not decided it; below 0 the Tracer decides.
	Share float64
	Tools int // names of tools of one server that metrics tell apart

	health *health
	ending []func(context.Context) error
}

// Start sets up what c and the standard OTEL_* variables ask for. It reaches for nobody: a collector that is away is found out later
// and harms nothing.
func Start(ctx context.Context, c Config, o Options) (*Telemetry, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Console == nil {
		o.Console = io.Discard
	}
	t := &Telemetry{Tools: c.Metrics.Tools, health: &health{log: o.Logger}}
	var err error
	if t.Audit, err = newAudit(&c.AuditLog, o.Logger); err != nil {
		return nil, err
	}
	if t.Audit != nil {
		t.ending = append(t.ending, func(context.Context) error { return t.Audit.close() })
	}
	t.Access = newAccess(&c.AccessLog, o.Logger)
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return t, nil
	}
	if err := t.start(ctx, &c, &o); err != nil {
		return nil, errors.Join(err, t.Shutdown(ctx))
	}
	return t, nil
}

func (t *Telemetry) start(ctx context.Context, c *Config, o *Options) error {
	res, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithAttributes(attribute.String("service.name", "mcpgw"), attribute.String("service.version", o.Version)), resource.WithFromEnv())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	t.listen()
	spans, err := spanExporter(ctx, &c.Traces, o)
	if err != nil {
		return err
	}
	if spans != nil || len(o.SpanProcessors) > 0 {
		t.trace(c, o, res, spans)
	}
	hot := &producer{}
	readers, err := t.readers(ctx, &c.Metrics, o, hot)
	if err != nil || len(readers) == 0 {
		return err
	}
	opts := []sdkmetric.Option{
		sdkmetric.WithResource(res), sdkmetric.WithCardinalityLimit(c.Metrics.Series),
		// Only the histograms that we make ourselves have exemplars.
		sdkmetric.WithExemplarFilter(exemplar.AlwaysOffFilter),
	}
	for _, r := range readers {
		opts = append(opts, sdkmetric.WithReader(r))
	}
	provider := sdkmetric.NewMeterProvider(opts...)
	t.ending = append(t.ending, provider.Shutdown)
	if t.Metrics, err = newMetrics(provider.Meter(ScopeName), c.Metrics.Series, hot); err != nil {
		return err
	}
	return t.Metrics.observeProcess(t.health)
}

// trace sets up spans.
func (t *Telemetry) trace(c *Config, o *Options, res *resource.Resource, spans sdktrace.SpanExporter) {
	opts := []sdktrace.TracerProviderOption{sdktrace.WithResource(res)}
	t.Share = -1
	if os.Getenv("OTEL_TRACES_SAMPLER") == "" {
		// A call that is not traced is not to cost a span: who makes spans looks at Share first.
		t.Share = c.Traces.Sample
		opts = append(opts, sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.AlwaysSample())))
	}
	if spans != nil {
		opts = append(opts, sdktrace.WithBatcher(watchedSpans{spans, t.health}))
	}
	for _, p := range o.SpanProcessors {
		opts = append(opts, sdktrace.WithSpanProcessor(p))
	}
	provider := sdktrace.NewTracerProvider(opts...)
	t.ending = append(t.ending, provider.Shutdown)
	t.Tracer = provider.Tracer(ScopeName)
}

// Shutdown sends what has not been sent yet, until ctx is done, and ends everything.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	if t == nil {
		return nil
	}
	var errs []error
	for _, end := range t.ending {
		errs = append(errs, end(ctx))
	}
	t.ending = nil
	return errors.Join(errs...)
}

// Silent returns instruments that record nothing, for what wants to record without asking whether anybody listens.
func Silent() *Metrics {
	m, _ := newMetrics(noop.NewMeterProvider().Meter(ScopeName), 1, &producer{}) // the table is checked by a test
	return m
}

// listen makes what the SDK has to say about itself come out in the log, in moderation. The SDK has one such place for the whole
// process.
func (t *Telemetry) listen() {
	otel.SetErrorHandler(otel.ErrorHandlerFunc(t.health.report))
	otel.SetLogger(t.health.sdkLogger())
}
