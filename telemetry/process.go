package telemetry

import (
	"context"
	"runtime/metrics"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

const (
	sampleGoroutines = "/sched/goroutines:goroutines"
	sampleStacks     = "/memory/classes/heap/stacks:bytes"
	sampleTotal      = "/memory/classes/total:bytes"
	sampleReleased   = "/memory/classes/heap/released:bytes"
)

// observeProcess reports what the process as a whole uses, and whether telemetry gets through.
func (m *Metrics) observeProcess(h *health) error {
	var (
		stack  = metric.WithAttributeSet(attribute.NewSet(attribute.String(AttrMemoryType, "stack")))
		other  = metric.WithAttributeSet(attribute.NewSet(attribute.String(AttrMemoryType, "other")))
		user   = metric.WithAttributeSet(attribute.NewSet(attribute.String(AttrCPUMode, "user")))
		system = metric.WithAttributeSet(attribute.NewSet(attribute.String(AttrCPUMode, "system")))
		otlp   = metric.WithAttributeSet(attribute.NewSet(attribute.String(AttrDependency, "telemetry"), attribute.String(AttrMode, "dropping")))
	)
	_, err := m.Meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		s := []metrics.Sample{{Name: sampleGoroutines}, {Name: sampleStacks}, {Name: sampleTotal}, {Name: sampleReleased}}
		metrics.Read(s)
		n := func(i int) int64 {
			if s[i].Value.Kind() != metrics.KindUint64 {
				return 0
			}
			return int64(s[i].Value.Uint64()) //nolint:gosec // far below the limit
		}
		o.ObserveInt64(m.goroutines, n(0))
		o.ObserveInt64(m.memory, n(1), stack)
		o.ObserveInt64(m.memory, n(2)-n(3)-n(1), other)
		if u, sys, ok := cpuTime(); ok {
			o.ObserveFloat64(m.cpu, u.Seconds(), user)
			o.ObserveFloat64(m.cpu, sys.Seconds(), system)
		}
		away := int64(0)
		if h.away() {
			away = 1
		}
		o.ObserveInt64(m.Degraded, away, otlp)
		return nil
	}, m.goroutines, m.memory, m.cpu, m.Degraded)
	return err
}

// seconds is a duration made of whole seconds and a rest in microseconds.
func seconds(s, us int64) time.Duration {
	return time.Duration(s)*time.Second + time.Duration(us)*time.Microsecond
}
