package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mcpgw/mcpgw/gateway"
	"github.com/mcpgw/mcpgw/internal/config"
	"github.com/mcpgw/mcpgw/telemetry"
)

// report is what check found, as --output json prints it.
type report struct {
	Config      string          `json:"config,omitempty"` // path of the file
	Valid       bool            `json:"valid"`
	Faults      []*config.Fault `json:"faults,omitempty"`
	Error       string          `json:"error,omitempty"`    // why the file could not be read
	Warnings    []*config.Fault `json:"warnings,omitempty"` // what is valid and still worth knowing
	Notes       []string        `json:"notes,omitempty"`
	Connected   bool            `json:"connected"` // the downstreams were started
	Ready       bool            `json:"ready"`     // all of them are ready that are not disabled
	Downstreams []checked       `json:"downstreams,omitempty"`
	Clashes     []string        `json:"clashes,omitempty"`
	Advice      []string        `json:"advice,omitempty"` // what works and could be better
	Total       size            `json:"total"`
}

// checked is what check found about one downstream.
type checked struct {
	Name      string   `json:"name"`
	State     string   `json:"state"` // disabled, starting, ready, reconnecting, stopped; "" if it was not started
	Transport string   `json:"transport"`
	Protocol  string   `json:"protocol,omitempty"`
	LastError string   `json:"last_error,omitempty"`
	Problems  []string `json:"problems,omitempty"`

	Unannotated []string         `json:"unannotated,omitempty"` // tools that do not say whether they change something
	Policies    []config.Setting `json:"policies,omitempty"`    // with --verbose: what guards it, after all layers
	size
}

// size is what a client's model has to read before it can do anything.
type size struct {
	Tools  int `json:"tools"`
	Bytes  int `json:"list_bytes"`
	Tokens int `json:"estimated_tokens"` // Bytes / 4, which is what most tokenizers make of JSON, about
}

func (s *size) add(tools, bytes int) {
	s.Tools += tools
	s.Bytes += bytes
	s.Tokens = s.Bytes / 4
}

func (a *app) checkCommand() *cobra.Command {
	var (
		connect, verbose bool
		timeout          time.Duration
	)
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say whether the configuration is valid and the downstreams work",
		Long: `Say whether the configuration is valid. Then start every downstream, wait until each has been tried, and list what they offer: how
many tools, how many bytes and (about) tokens their descriptions cost an agent, what was wrong with them, which names clash, which tools do not
say whether they change something, and which certificates expire. With --verbose it shows the policies of each downstream as they hold
after all layers. No address is opened; a gateway that is running is not disturbed, but commands are started a second time.

What is only advice does not change the exit code.

` + exitCodes,
		Args: cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&connect, "connect", true, "start the downstreams; --connect=false only reads the file")
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait for the downstreams")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "show the policies of each downstream; * marks what is not built in")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if timeout <= 0 {
			a.begun = false
			return fmt.Errorf("--timeout: must be more than 0, found %s", timeout)
		}
		return a.check(cmd.Context(), connect, verbose, timeout, *out)
	}
	return cmd
}

func (a *app) check(ctx context.Context, connect, verbose bool, timeout time.Duration, out output) error {
	path, _, file, err := a.load()
	r := &report{Config: path, Valid: err == nil}
	if err != nil {
		if out != "json" {
			return err
		}
		if e, ok := errors.AsType[*config.Error](err); ok {
			r.Faults = e.Faults
		} else {
			r.Error = err.Error()
		}
		return errors.Join(a.printJSON(r), &exitError{code: exitConfig})
	}
	r.Warnings = file.Warnings
	if err := exposed(ctx, &file.Settings, false); err != nil {
		r.Notes = append(r.Notes, "serve will refuse it: "+err.Error())
	}
	if connect {
		if err := a.connect(ctx, file, timeout, r); err != nil {
			return err
		}
	} else {
		r.list(file)
	}
	if verbose {
		for i := range r.Downstreams {
			d := &r.Downstreams[i]
			d.Policies = config.Effective(file.Settings.Policies[d.Name])
		}
	}
	if out == "json" {
		err = a.printJSON(r)
	} else {
		err = r.print(a.stdout)
	}
	if err != nil {
		return err
	}
	if connect && !r.Ready {
		return &exitError{code: exitNotReady}
	}
	return nil
}

// connect starts the downstreams and puts into r what they offer.
func (a *app) connect(ctx context.Context, file *config.File, timeout time.Duration, r *report) error {
	// What is wrong is in the report; the log would say it again, and more often.
	quiet := telemetry.Config{LogLevel: "error", LogFormat: file.Telemetry.LogFormat}
	log, err := a.logger(quiet)
	if err != nil {
		return err
	}
	said := &kept{}
	gw := gateway.New(gateway.Options{Logger: slog.New(remarks{log.Handler(), said}), Version: thisBuild().Version})
	defer closeGateway(context.WithoutCancel(ctx), gw, file.Settings.Gateway.Timeouts.Shutdown, log)
	if _, err := gw.Apply(ctx, file.Settings); err != nil {
		return err
	}
	waiting, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("not every downstream answered within %s", timeout))
	defer cancel()
	p := a.working("waiting for " + count(len(file.Settings.Downstreams), "downstream"))
	defer p.done()
	certificates := make(chan []string, 1)
	go func() { certificates <- expiring(waiting, file) }()
	if err := gw.Settled(waiting); err != nil {
		if ctx.Err() != nil {
			return err
		}
		r.Notes = append(r.Notes, err.Error())
	}
	r.Connected, r.Ready = true, true
	for _, d := range gw.Status().Downstreams {
		c := checked{Name: d.Name, State: d.State, Transport: d.Transport, Problems: d.Problems}
		if d.Protocol != nil {
			c.Protocol = *d.Protocol
		}
		if d.LastError != nil {
			c.LastError = *d.LastError
		}
		c.add(d.Tools, d.ListBytes)
		r.Total.add(d.Tools, d.ListBytes)
		if file.Settings.Downstreams[d.Name].Disabled {
			c.State = "disabled"
		} else if d.State != "ready" {
			r.Ready = false
		}
		r.Downstreams = append(r.Downstreams, c)
	}
	r.Clashes = gw.Clashes()
	r.advise(gw.Tools())
	r.Advice = append(append(r.Advice, <-certificates...), said.all()...)
	return nil
}

// list puts into r what the file alone tells.
func (r *report) list(file *config.File) {
	for name, cfg := range file.Settings.Downstreams {
		c := checked{Name: name, Transport: cfg.Kind()}
		if cfg.Disabled {
			c.State = "disabled"
		}
		r.Downstreams = append(r.Downstreams, c)
	}
	slices.SortFunc(r.Downstreams, func(a, b checked) int { return strings.Compare(a.Name, b.Name) })
}

// print writes r for people.
func (r *report) print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s is valid, %s\n", r.Config, count(len(r.Downstreams), "downstream"))
	if len(r.Downstreams) > 0 {
		b.WriteByte('\n')
		r.table(&b)
	}
	for _, d := range r.Downstreams {
		if d.LastError != "" && d.State != "ready" {
			fmt.Fprintf(&b, "\n%s: %s\n", d.Name, d.LastError)
		}
		for _, p := range d.Problems {
			fmt.Fprintf(&b, "\n%s: %s\n", d.Name, p)
		}
	}
	for _, c := range r.Clashes {
		fmt.Fprintf(&b, "\nname clash: %s\n", c)
	}
	for _, s := range r.Advice {
		fmt.Fprintf(&b, "\nadvice: %s\n", s)
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(&b, "\nwarning: %s\n", w)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "\nnote: %s\n", n)
	}
	for _, d := range r.Downstreams {
		d.policies(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *report) table(b *strings.Builder) {
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	if !r.Connected {
		fmt.Fprintln(t, "NAME\tTRANSPORT\tSTATE")
		for _, d := range r.Downstreams {
			fmt.Fprintf(t, "%s\t%s\t%s\n", d.Name, d.Transport, cmp.Or(d.State, "not started"))
		}
	} else {
		fmt.Fprintln(t, "NAME\tSTATE\tTRANSPORT\tPROTOCOL\tTOOLS\tBYTES\tTOKENS (ABOUT)")
		for _, d := range r.Downstreams {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%d\n", d.Name, d.State, d.Transport, cmp.Or(d.Protocol, "-"), d.Tools, d.Bytes, d.Tokens)
		}
		if len(r.Downstreams) > 1 {
			fmt.Fprintf(t, "together\t\t\t\t%d\t%d\t%d\n", r.Total.Tools, r.Total.Bytes, r.Total.Tokens)
		}
	}
	_ = t.Flush() // a strings.Builder takes everything
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
