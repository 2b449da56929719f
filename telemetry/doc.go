// Package telemetry sets up OpenTelemetry and logging once, and holds what keeps secrets out of them. It is the only package that knows the
// SDK and its exporters; the others record with the instruments of [Metrics] and the Tracer that [Start] returns. Both are nil where nobody
// listens, so that what is off costs nothing.
package telemetry
