package telemetry

import (
	"fmt"
	"io"
	"log/slog"
)

// Config is the section "telemetry" of gateway.yaml.
type Config struct {
	LogLevel  string `yaml:"log_level" default:"info" enum:"debug|info|warn|error" doc:"Least level that is logged."`
	LogFormat string `yaml:"log_format" default:"text" enum:"text|json" doc:"Form of the log, which goes to the error stream."`
}

// DefaultConfig returns a Config with every default filled in.
func DefaultConfig() Config { return Config{LogLevel: "info", LogFormat: "text"} }

// Validate reports what is wrong with c.
func (c *Config) Validate() error {
	var l slog.Level
	if err := l.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return fmt.Errorf("log_level: expected one of debug, info, warn, error, found %q", c.LogLevel)
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		return fmt.Errorf("log_format: expected one of text, json, found %q", c.LogFormat)
	}
	return nil
}

// NewLogger returns a logger that writes to w as c says.
func NewLogger(w io.Writer, c Config) (*slog.Logger, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return nil, err
	}
	opts := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return slog.New(slog.NewTextHandler(w, opts)), nil
}
