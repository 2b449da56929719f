package main

import (
	"github.com/spf13/cobra"

	"github.com/mcpgw/mcpgw/internal/config"
)

func (a *app) removeCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "remove NAME...",
		Aliases: []string{"rm"},
		Short:   "Remove servers from gateway.yaml",
		Long: `Remove servers from gateway.yaml. The comment directly above an entry goes with it, and is shown; all else stays as it is. To keep an entry
without using it, write disabled: true into it. A gateway that runs takes the change over by itself.

` + exitCodes,
		Args: cobra.MinimumNArgs(1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return without(a.configuredNames(), args), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error { return a.remove(args) },
	}
}

func (a *app) remove(names []string) error {
	d, err := a.draft(false)
	if err != nil {
		return err
	}
	var gone []string
	for _, name := range names {
		data, comments, err := config.Remove(d.data, name)
		if err != nil {
			return &exitError{exitConfig, err}
		}
		d.data, gone = data, append(gone, comments...)
	}
	if _, err := config.Verify(d.path, d.data); err != nil {
		return d.invalid(err)
	}
	if err := d.write(); err != nil {
		return err
	}
	for _, name := range names {
		a.say("%s: removed %s", d.path, name)
	}
	for _, c := range gone {
		a.say("  with its comment: %s", c)
	}
	return nil
}
