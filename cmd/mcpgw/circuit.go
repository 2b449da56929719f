package main

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/mcpgw/mcpgw/gateway"
)

func (a *app) circuitCommand() *cobra.Command {
	var address string
	cmd := &cobra.Command{
		Use:   "circuit open|close|reset|isolate|disable|probe NAME",
		Short: "Change a circuit of a running gateway by hand",
		Long: `Change a circuit of a running gateway by hand. NAME is the circuit's, or that of its server; mcpgw status lists them.

  open     refuse calls for the configured time, then let trials through
  close    let calls pass
  reset    close, and forget the history
  isolate  refuse calls until close or reset
  disable  let calls pass and only measure, until close or reset
  probe    let trials begin at once

The gateway must have gateway.admin_tools: true. It is found as by mcpgw status.

` + exitCodes,
		Args: cobra.ExactArgs(2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			switch len(args) {
			case 0:
				return []string{"open", "close", "reset", "isolate", "disable", "probe"}, cobra.ShellCompDirectiveNoFileComp
			case 1:
				return a.runningNames(cmd.Context(), address), cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
	}
	cmd.Flags().StringVar(&address, "url", "", "`address` of the gateway, instead of what the configuration says")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := a.remote(address)
		if err != nil {
			return err
		}
		var c gateway.CircuitStatus
		if err := r.do(cmd.Context(), http.MethodPost, "/-/circuit", map[string]string{"action": args[0], "name": args[1]}, &c); err != nil {
			return err
		}
		if *out == "json" {
			return a.printJSON(&c)
		}
		_, err = fmt.Fprintf(a.stdout, "circuit '%s' of %s is %s\n", c.Name, c.Dependency, c.State)
		return err
	}
	return cmd
}
