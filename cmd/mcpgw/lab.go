package main

import (
	"errors"
	"fmt"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mcpgw/mcpgw/gateway"
)

func (a *app) labCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "Show, break and mend the simulated systems of a running gateway",
		Long: `Show, break and mend the simulated systems of a running gateway: the downstreams with "url: lab". NAME is the downstream's, or its preset if there
is only one of it. The gateway is found as by mcpgw status.

` + exitCodes,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.labListCommand(), a.labBreakCommand(), a.labMendCommand())
	return cmd
}

// lab sends an order, or asks only if order is nil, and prints how the simulators are.
func (a *app) lab(cmd *cobra.Command, address string, out output, order *gateway.LabOrder) error {
	r, err := a.remote(address)
	if err != nil {
		return err
	}
	method, body := http.MethodGet, any(nil)
	if order != nil {
		method, body = http.MethodPost, order
	}
	var answer gateway.LabReport
	if err := r.do(cmd.Context(), method, "/-/lab", body, &answer); err != nil {
		return err
	}
	if out == "json" {
		return a.printJSON(&answer)
	}
	if len(answer.Systems) == 0 {
		return errors.New(`nothing is simulated: no downstream of this gateway has "url: lab"`)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "NAME\tPRESET\tSTATE\tSINCE\tADDRESS") // Flush reports what failed
	for _, s := range answer.Systems {
		state := "works"
		if s.Fault != "" {
			state = "broken: " + s.Fault
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", s.Name, s.Kind, state, time.Since(s.Since).Round(time.Second), s.URL)
	}
	return w.Flush()
}

func (a *app) labListCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the simulated systems and what is wrong with them", Args: cobra.NoArgs}
	address, out := labFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return a.lab(cmd, *address, *out, nil) }
	return cmd
}

func (a *app) labBreakCommand() *cobra.Command {
	var (
		fault string
		delay time.Duration
	)
	cmd := &cobra.Command{
		Use:   "break NAME --fault FAULT",
		Short: "Give a simulated system a fault",
		Long: `Give a simulated system a fault, in the place of the one that it has.

  refuse             nobody listens at its address
  hang               requests are taken and never answered
  slow               each answer takes --delay (3s)
  500, 503           an error to every request
  529                LLM APIs: overloaded
  595                Proxmox: the node behind the cluster's proxy is away
  429                asked too often, with Retry-After
  garbage            answers that are not what the system speaks
  session-exhausted  iDRAC: all sessions are in use
  unauthorized       the credentials are refused
  flap               down and up, every --delay (5s)`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&fault, "fault", "", "what is wrong with it (see above)")
	cmd.Flags().DurationVar(&delay, "delay", 0, "of slow and flap")
	_ = cmd.MarkFlagRequired("fault") // fails only for a flag that is not there
	_ = cmd.RegisterFlagCompletionFunc("fault", cobra.FixedCompletions(gateway.LabFaults(), cobra.ShellCompDirectiveNoFileComp))
	address, out := labFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.lab(cmd, *address, *out, &gateway.LabOrder{Name: args[0], Fault: fault, DelayMS: delay.Milliseconds()})
	}
	return cmd
}

func (a *app) labMendCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "mend NAME", Short: "End the fault of a simulated system", Args: cobra.ExactArgs(1)}
	address, out := labFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.lab(cmd, *address, *out, &gateway.LabOrder{Name: args[0]})
	}
	return cmd
}

func labFlags(cmd *cobra.Command) (*string, *output) {
	address := cmd.Flags().String("url", "", "`address` of the gateway, instead of what the configuration says")
	return address, outputFlag(cmd)
}
