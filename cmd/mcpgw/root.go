package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mcpgw/mcpgw/internal/config"
	"github.com/mcpgw/mcpgw/telemetry"
)

// The exit codes, which --help documents.
const (
	exitOK          = 0
	exitFailed      = 1
	exitConfig      = 2
	exitNotReady    = 3
	exitToolError   = 4
	exitUnreachable = 5
	exitUsage       = 64 // EX_USAGE of sysexits.h
)

const exitCodes = `Exit codes:
  0   all is well, or the gateway ended as it was told to
  1   something failed while running
  2   the configuration is missing or not valid
  3   check: a downstream is not ready; status: one cannot be used; doctor: something has to be mended
  4   call: the tool, or the gateway in its place, answered with an error
  5   no gateway answers
  64  the command line is wrong`

// exitError ends the program with a code other than 1.
type exitError struct {
	code int
	err  error // nil: everything has been said
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// app is one run of the program: its streams and the flags that all commands have.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer

	configPath, logLevel, logFormat string
	begun                           bool // the command line was right and the command runs
}

// run runs the command that args name and returns the exit code. It writes to stdout what was asked for, and all else to stderr.
// It returns when ctx is done or the command ends; serve and stdio listen to signals meanwhile.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: &lockedWriter{w: stderr}}
	root := a.root() //nolint:contextcheck // each command gets the context of ExecuteContextC
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	var e *exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &e):
		if e.err != nil {
			a.complain(e.err)
		}
		return e.code
	case !a.begun:
		a.complain(err)
		_, _ = fmt.Fprintf(a.stderr, "\nUsage: %s\nMore:  %s --help\n", cmd.UseLine(), cmd.CommandPath())
		return exitUsage
	}
	a.complain(err)
	return exitFailed
}

// complain says why the program ends. Faults of the configuration stand alone, so that a terminal makes links of their places.
func (a *app) complain(err error) {
	prefix := "mcpgw: "
	if _, ok := errors.AsType[*config.Error](err); ok {
		prefix = ""
	}
	_, _ = fmt.Fprintf(a.stderr, "%s%s\n", prefix, strings.TrimSpace(err.Error())) // there is nowhere else to say it
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "mcpgw",
		Short: "One endpoint in front of many MCP servers",
		Long: `mcpgw is a gateway for the Model Context Protocol: one endpoint in front of many MCP servers.

What it serves is written in gateway.yaml. It is looked for in the current folder, then in the folder mcpgw of the user's
configuration. Everything else can be seen here: no environment variable changes what mcpgw does, except those that gateway.yaml
names as ${NAME}, FF_ENABLE_RESILIENCE_PATTERNS=false, which switches the policies off, OTEL_*, which say where telemetry goes, NO_COLOR,
and Go's own (GOMEMLIMIT, GOGC, GODEBUG).

` + exitCodes,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			c := telemetry.DefaultConfig()
			a.override(&c)
			if err := c.Validate(); err != nil {
				return fmt.Errorf("--%s", strings.Replace(err.Error(), "_", "-", 1))
			}
			a.begun = true
			return nil
		},
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	flags := root.PersistentFlags()
	flags.StringVar(&a.configPath, "config", "", "`file` to read (default ./gateway.yaml, then mcpgw/gateway.yaml in the user's configuration folder)")
	flags.StringVar(&a.logLevel, "log-level", "", "debug, info, warn or error, instead of telemetry.log_level")
	flags.StringVar(&a.logFormat, "log-format", "", "text or json, instead of telemetry.log_format")
	root.AddCommand(a.initCommand(), a.addCommand(), a.removeCommand(), a.importCommand(), a.toolsCommand(), a.callCommand(), a.clientsCommand(), a.doctorCommand())
	root.AddCommand(a.serveCommand(), a.stdioCommand(), a.checkCommand(), a.statusCommand(), a.circuitCommand(), a.labCommand(), a.versionCommand(), a.schemaCommand())
	return root
}

// override puts what the flags say over what the file says.
func (a *app) override(c *telemetry.Config) {
	if a.logLevel != "" {
		c.LogLevel = a.logLevel
	}
	if a.logFormat != "" {
		c.LogFormat = a.logFormat
	}
}

// logger returns the logger of a command. It writes to stderr: stdout may belong to a client that speaks MCP.
func (a *app) logger(c telemetry.Config) (*slog.Logger, error) {
	a.override(&c)
	return telemetry.NewLogger(a.stderr, c)
}

// output is the flag of commands that print data.
type output string

func (o *output) String() string { return string(*o) }
func (o *output) Type() string   { return "form" }

// Set implements the flag.
func (o *output) Set(s string) error {
	if s != "text" && s != "json" {
		return errors.New("expected text or json")
	}
	*o = output(s)
	return nil
}

func outputFlag(cmd *cobra.Command) *output {
	o := output("text")
	cmd.Flags().VarP(&o, "output", "o", "text or json")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that is not there
	return &o
}
