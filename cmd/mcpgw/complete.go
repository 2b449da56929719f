package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/internal/config"
)

// completionTime is how long a shell may wait for a gateway while a user types.
const completionTime = 2 * time.Second

// runningNames lists the servers of the running gateway, or those of the file if none runs.
func (a *app) runningNames(ctx context.Context, address string) []string {
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	if r, err := a.remote(address); err == nil {
		if st, err := r.status(ctx); err == nil {
			var names []string
			for i := range st.Downstreams {
				names = append(names, st.Downstreams[i].Name)
			}
			return names
		}
	}
	return a.configuredNames()
}

// configuredNames lists the servers of the file.
func (a *app) configuredNames() []string {
	d, err := a.draft(false)
	if err != nil {
		return nil
	}
	names, _ := config.Names(d.data) // a file that cannot be read completes nothing
	return names
}

// toolNames lists the tools of the running gateway that begin with what was typed, each with its description.
func (a *app) toolNames(ctx context.Context, address, typed string) []string {
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	r, err := a.remote(address)
	if err != nil {
		return nil
	}
	all, err := r.tools(ctx)
	if err != nil {
		return nil
	}
	var names []string
	for i := range all {
		if strings.HasPrefix(all[i].Name, typed) {
			names = append(names, all[i].Name+"\t"+cut(all[i].Description, 60))
		}
	}
	return names
}

// argumentNames lists the arguments of a tool, as KEY=.
func (a *app) argumentNames(ctx context.Context, address, name string) []string {
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	r, err := a.remote(address)
	if err != nil {
		return nil
	}
	s, err := r.schemaOf(ctx, name)
	if err != nil {
		return nil
	}
	var keys []string
	for _, k := range s.order {
		keys = append(keys, k+"=\t"+cut(s.Properties[k].Description, 60))
	}
	return keys
}

// without returns the names that are not taken.
func without(names, taken []string) []string {
	return slices.DeleteFunc(names, func(n string) bool { return slices.Contains(taken, n) })
}
