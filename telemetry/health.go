package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// health knows whether telemetry reaches whom it is meant for.
type health struct {
	log           *slog.Logger
	spans, points atomic.Bool // the last export of them failed

	mu      sync.Mutex // guards what follows
	last    time.Time
	skipped int
}

// away reports whether a collector could not be reached the last time.
func (h *health) away() bool { return h.spans.Load() || h.points.Load() }

// quietFor is how long one line in the log about a collector that is away has to do.
const quietFor = 10 * time.Minute

// report logs an error of the SDK, seldom.
func (h *health) report(err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	h.mu.Lock()
	if !h.last.IsZero() && time.Since(h.last) < quietFor {
		h.skipped++
		h.mu.Unlock()
		return
	}
	skipped := h.skipped
	h.last, h.skipped = time.Now(), 0
	h.mu.Unlock()
	h.log.Warn("telemetry cannot be sent, calls are not affected", "err", err, "skipped", skipped)
}

// exported notes how an export ended and tells when that changes for the better.
func (h *health) exported(which *atomic.Bool, err error) {
	if was := which.Swap(err != nil); was && err == nil {
		h.mu.Lock()
		h.last = time.Time{}
		h.mu.Unlock()
		h.log.Info("telemetry is sent again")
	}
}

// sdkLogger takes what the SDK logs besides errors.
func (h *health) sdkLogger() logr.Logger {
	return logr.FromSlogHandler(sdkHandler{h})
}

// sdkHandler lets only warnings and errors of the SDK pass, as seldom as report does. Everything below is for those who work on the
// SDK.
type sdkHandler struct{ h *health }

func (s sdkHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

func (s sdkHandler) Handle(_ context.Context, r slog.Record) error {
	msg := r.Message
	r.Attrs(func(a slog.Attr) bool {
		msg += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		return true
	})
	s.h.report(errors.New(msg))
	return nil
}

func (s sdkHandler) WithAttrs([]slog.Attr) slog.Handler { return s }
func (s sdkHandler) WithGroup(string) slog.Handler      { return s }

// watchedSpans notes how exports end.
type watchedSpans struct {
	sdktrace.SpanExporter
	h *health
}

// ExportSpans implements sdktrace.SpanExporter.
func (w watchedSpans) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := w.SpanExporter.ExportSpans(ctx, spans)
	w.h.exported(&w.h.spans, err)
	return err
}

// watchedMetrics notes how exports end.
type watchedMetrics struct {
	sdkmetric.Exporter
	h *health
}

// Export implements sdkmetric.Exporter.
func (w watchedMetrics) Export(ctx context.Context, data *metricdata.ResourceMetrics) error {
	err := w.Exporter.Export(ctx, data)
	w.h.exported(&w.h.points, err)
	return err
}

// scrapeLog is the log of the handler of /metrics.
type scrapeLog struct{ log *slog.Logger }

// Println implements promhttp.Logger.
func (s scrapeLog) Println(v ...any) {
	s.log.Warn("answering /metrics failed", "err", fmt.Sprint(v...))
}
