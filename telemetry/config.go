package telemetry

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
)

// Config is the section "telemetry" of gateway.yaml. It is a plain value, never changed after Validate.
type Config struct {
	LogLevel  string          `yaml:"log_level" default:"info" enum:"debug|info|warn|error" doc:"Least level that is logged."`
	LogFormat string          `yaml:"log_format" default:"text" enum:"text|json" doc:"Form of the log, which goes to the error stream."`
	Metrics   MetricsConfig   `yaml:"metrics" doc:"Numbers about calls, circuits and servers (docs/telemetry.md)."`
	Traces    TracesConfig    `yaml:"traces" doc:"What happened to single calls, across client, gateway and servers."`
	AccessLog AccessLogConfig `yaml:"access_log" doc:"One line in the log for each request of a client."`
	AuditLog  AuditLogConfig  `yaml:"audit_log" doc:"Who called which tool that may change something, with what outcome."`
}

// MetricsConfig is the section "telemetry.metrics".
type MetricsConfig struct {
	Prometheus bool   `yaml:"prometheus" default:"true" doc:"Serve /metrics, beside /healthz. Who needs a token for /mcp needs it there too."`
	Exporter   string `yaml:"exporter" default:"auto" enum:"auto|otlp|console|none" doc:"Where else to send metrics. auto: over OTLP if OTEL_EXPORTER_OTLP_ENDPOINT (or OTEL_METRICS_EXPORTER) says so; console: print them, for trying."`
	Series     int    `yaml:"series" default:"5000" doc:"Combinations of attributes that one metric may have; what is beyond counts together as otel_metric_overflow."`
	Tools      int    `yaml:"tools" default:"500" doc:"Names of tools of one server that are told apart; further ones count together as _OTHER."`
}

// TracesConfig is the section "telemetry.traces".
type TracesConfig struct {
	Exporter string  `yaml:"exporter" default:"auto" enum:"auto|otlp|console|none" doc:"Where to send spans. auto: over OTLP if OTEL_EXPORTER_OTLP_ENDPOINT (or OTEL_TRACES_EXPORTER) says so; console: print them, for trying."`
	Sample   float64 `yaml:"sample" default:"0.1" doc:"Share of calls that are traced, 0 to 1, where the client has not decided it in its trace context. OTEL_TRACES_SAMPLER takes precedence."`
}

// AccessLogConfig is the section "telemetry.access_log".
type AccessLogConfig struct {
	Enabled bool    `yaml:"enabled" default:"false" doc:"Write it."`
	Sample  float64 `yaml:"sample" default:"1" doc:"Share of the requests that went well, 0 to 1. Those that failed are always written."`
}

// AuditLogConfig is the section "telemetry.audit_log".
type AuditLogConfig struct {
	Enabled   bool     `yaml:"enabled" default:"false" doc:"Write it."`
	Path      string   `yaml:"path" doc:"File that JSON lines are appended to, readable by its owner only. Empty: the log."`
	Arguments bool     `yaml:"arguments" default:"true" doc:"With the arguments of the call, redacted: members whose names look like secrets, or match redact, are left out, long texts are cut."`
	Redact    []string `yaml:"redact" doc:"Further names of arguments whose values are left out (RE2; upper and lower case are alike)."`
}

// DefaultConfig returns a Config with every default filled in.
func DefaultConfig() Config {
	return Config{
		LogLevel: "info", LogFormat: "text",
		Metrics:   MetricsConfig{Prometheus: true, Exporter: "auto", Series: 5000, Tools: 500},
		Traces:    TracesConfig{Exporter: "auto", Sample: 0.1},
		AccessLog: AccessLogConfig{Sample: 1},
		AuditLog:  AuditLogConfig{Arguments: true},
	}
}

var exporters = []string{"", "auto", "otlp", "console", "none"} // "": the zero Config is that of commands which tell nothing

// Validate reports every fault of c, joined, each with its path in front.
func (c *Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	var l slog.Level
	if err := l.UnmarshalText([]byte(c.LogLevel)); err != nil {
		fault("log_level: expected one of debug, info, warn, error, found %q", c.LogLevel)
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		fault("log_format: expected one of text, json, found %q", c.LogFormat)
	}
	for path, exporter := range map[string]string{"metrics.exporter": c.Metrics.Exporter, "traces.exporter": c.Traces.Exporter} {
		if !slices.Contains(exporters, exporter) {
			fault("%s: expected one of auto, otlp, console, none, found %q", path, exporter)
		}
	}
	for path, share := range map[string]float64{"traces.sample": c.Traces.Sample, "access_log.sample": c.AccessLog.Sample} {
		if !(share >= 0 && share <= 1) {
			fault("%s: expected a number from 0 to 1, found %v", path, share)
		}
	}
	for path, n := range map[string]int{"metrics.series": c.Metrics.Series, "metrics.tools": c.Metrics.Tools} {
		if n < 0 {
			fault("%s: must not be negative, found %d", path, n)
		}
	}
	for i, re := range c.AuditLog.Redact {
		if _, err := regexp.Compile(re); err != nil || re == "" {
			fault("audit_log.redact[%d]: not a regular expression that can be used: %q", i, re)
		}
	}
	return errors.Join(errs...)
}
