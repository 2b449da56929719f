package telemetry

import (
	"cmp"
	"context"
	"fmt"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/exporters/stdout/stdoutmetric"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// chosen says which exporter the file and the environment ask for together. signal is TRACES or METRICS.
func chosen(exporter, signal string) (string, error) {
	if exporter != "auto" {
		return cmp.Or(exporter, "none"), nil
	}
	key := "OTEL_" + signal + "_EXPORTER"
	switch v := os.Getenv(key); v {
	case "":
		if os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") == "" {
			return "none", nil
		}
		return "otlp", nil
	case "otlp", "console", "none":
		return v, nil
	case "prometheus": // /metrics is there anyway
		return "none", nil
	default:
		return "", fmt.Errorf("%s: expected one of otlp, console, none, found %q", key, v)
	}
}

// overGRPC says which of the two forms of OTLP the environment asks for.
func overGRPC(signal string) (bool, error) {
	key := "OTEL_EXPORTER_OTLP_" + signal + "_PROTOCOL"
	if os.Getenv(key) == "" {
		key = "OTEL_EXPORTER_OTLP_PROTOCOL"
	}
	switch v := os.Getenv(key); v {
	case "grpc":
		return true, nil
	case "", "http/protobuf":
		return false, nil
	default:
		return false, fmt.Errorf("%s: expected grpc or http/protobuf, found %q", key, v)
	}
}

// spanExporter returns what sends spans; nil for nothing.
func spanExporter(ctx context.Context, c *TracesConfig, o *Options) (sdktrace.SpanExporter, error) {
	kind, err := chosen(c.Exporter, "TRACES")
	switch {
	case err != nil || kind == "none":
		return nil, err
	case kind == "console":
		return stdouttrace.New(stdouttrace.WithWriter(o.Console))
	}
	grpc, err := overGRPC("TRACES")
	switch {
	case err != nil:
		return nil, err
	case grpc:
		return otlptracegrpc.New(ctx)
	}
	return otlptracehttp.New(ctx)
}

// readers returns what collects metrics.
func (t *Telemetry) readers(ctx context.Context, c *MetricsConfig, o *Options, p sdkmetric.Producer) ([]sdkmetric.Reader, error) {
	var readers []sdkmetric.Reader
	if c.Prometheus && o.Scraped {
		r, err := t.prometheus(o, p)
		if err != nil {
			return nil, err
		}
		readers = append(readers, r)
	}
	kind, err := chosen(c.Exporter, "METRICS")
	if err != nil || kind == "none" {
		return readers, err
	}
	var exporter sdkmetric.Exporter
	switch grpc, wrong := overGRPC("METRICS"); {
	case kind == "console":
		exporter, err = stdoutmetric.New(stdoutmetric.WithWriter(o.Console))
	case wrong != nil:
		err = wrong
	case grpc:
		exporter, err = otlpmetricgrpc.New(ctx)
	default:
		exporter, err = otlpmetrichttp.New(ctx)
	}
	if err != nil {
		return nil, err
	}
	return append(readers, sdkmetric.NewPeriodicReader(watchedMetrics{exporter, t.health}, sdkmetric.WithProducer(p))), nil
}

// prometheus returns a reader that the handler of /metrics collects from.
func (t *Telemetry) prometheus(o *Options, p sdkmetric.Producer) (sdkmetric.Reader, error) {
	registry := prometheus.NewRegistry()
	exporter, err := otelprom.New(otelprom.WithRegisterer(registry), otelprom.WithoutScopeInfo(), otelprom.WithProducer(p), otelprom.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithSuffixes))
	if err != nil {
		return nil, fmt.Errorf("setting up /metrics: %w", err)
	}
	// No compression: the answer is small, and a compressor for each scraper is not.
	t.Scrape = promhttp.HandlerFor(usual{registry}, promhttp.HandlerOpts{
		ErrorLog: scrapeLog{o.Logger}, ErrorHandling: promhttp.ContinueOnError, EnableOpenMetrics: true, DisableCompression: true, MaxRequestsInFlight: 4,
	})
	return exporter, nil
}

// usual gives the number of goroutines the name that Prometheus users know: in Prometheus the suffix _count belongs to histograms.
type usual struct{ prometheus.Gatherer }

// Gather implements prometheus.Gatherer.
func (u usual) Gather() ([]*dto.MetricFamily, error) {
	families, err := u.Gatherer.Gather()
	for _, f := range families {
		if f.GetName() == "go_goroutine_count" {
			f.Name = new("go_goroutines")
		}
	}
	return families, err
}
