// Package telemetry sets up logging once and holds what keeps secrets out of it.
package telemetry
