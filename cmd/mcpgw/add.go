package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mcpgw/mcpgw/internal/clients"
	"github.com/mcpgw/mcpgw/internal/config"
)

// addition is what the flags of add say.
type addition struct {
	preset, url, token, transport string
	headers, env, set             []string
	dryRun                        bool
	secrets
}

func (a *app) addCommand() *cobra.Command {
	var n addition
	cmd := &cobra.Command{
		Use:   "add NAME URL | NAME -- COMMAND [ARG]... | NAME --preset PRESET [--url URL]",
		Short: "Add a server to gateway.yaml",
		Long: `Add a server to gateway.yaml: a remote one by its URL, one that is started as a command, or one that is built in. Comments and the order
of the file stay as they are; nothing is written if the file would not be valid. A gateway that runs takes the change over by itself.

Values are taken as they are, but for ${NAME} and ${NAME:-default}, which stand for environment variables of the gateway. What looks
like a secret (in --header, --env, --token, the URL or an argument) is not written into the file: ${NAME} is, and the line to export it is printed.

Built-in servers: ` + strings.Join(config.Presets(), ", ") + `. Their keys are those of docs/configuration.md: --set KEY=VALUE sets any of them.

` + exitCodes,
		Example: `  mcpgw add files -- npx -y @modelcontextprotocol/server-filesystem '${HOME}/shared'
  mcpgw add search https://mcp.example.net/mcp --header 'Authorization: Bearer ${SEARCH_TOKEN}'
  mcpgw add machine --preset host --set resilience.profile=critical`,
		Args: n.check,
	}
	f := cmd.Flags()
	f.StringVar(&n.preset, "preset", "", "built-in server: "+strings.Join(config.Presets(), ", "))
	f.StringVar(&n.url, "url", "", "`address` of the server, or of the system that a preset talks to (lab: its simulator)")
	f.StringVar(&n.token, "token", "", "credential of the system that a preset talks to, best as '${NAME}'")
	f.StringVar(&n.transport, "transport", "", "auto, streamable or sse")
	f.StringArrayVarP(&n.headers, "header", "H", nil, "HTTP header, as 'Name: value'; may be repeated")
	f.StringArrayVarP(&n.env, "env", "e", nil, "environment of the command, as NAME=value; NAME alone passes on the gateway's; may be repeated")
	f.StringArrayVar(&n.set, "set", nil, "any other key, as KEY=VALUE with dots between keys; may be repeated")
	f.BoolVar(&n.dryRun, "dry-run", false, "print the entry and write nothing")
	n.flags(cmd)
	_ = cmd.RegisterFlagCompletionFunc("preset", cobra.FixedCompletions(config.Presets(), cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that is not there
	_ = cmd.RegisterFlagCompletionFunc("transport", cobra.FixedCompletions([]string{"auto", "streamable", "sse"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return a.add(&n, args, cmd.ArgsLenAtDash()) }
	return cmd
}

// check refuses command lines that say nothing, or more than one thing.
func (n *addition) check(cmd *cobra.Command, args []string) error {
	dash := cmd.ArgsLenAtDash()
	switch {
	case len(args) == 0 || dash == 0:
		return errors.New("expected a name for the server")
	case dash == 1 && (n.preset != "" || n.url != ""):
		return errors.New("expected one of a command, a URL and --preset, found several")
	case dash == 1 && len(args) == 1:
		return errors.New("expected a command after --")
	case dash == 1:
		return nil
	case dash > 1 || len(args) > 2:
		return errors.New("expected NAME -- COMMAND [ARG]..., with the -- right after the name")
	case len(args) == 2 && (n.url != "" || n.preset != "" && !address(args[1])):
		return errors.New("expected one address, found several")
	case len(args) == 2 && !address(args[1]):
		return fmt.Errorf("expected a URL such as https://mcp.example.net/mcp, found %q; before a command stands --: mcpgw add %s -- %s", args[1], args[0], args[1])
	case len(args) == 1 && n.preset == "" && n.url == "":
		return errors.New("expected a URL, -- COMMAND or --preset after the name")
	}
	return nil
}

func address(s string) bool {
	return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "${") || s == "lab"
}

func (a *app) add(n *addition, args []string, dash int) error {
	if pattern, words := config.NameRule(); !pattern.MatchString(args[0]) {
		return &exitError{exitUsage, fmt.Errorf("%q is no name for a server: expected %s", args[0], words)}
	}
	entry, variables, err := n.entry(args, dash)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	d, err := a.draft(false)
	if err != nil {
		return err
	}
	unset, err := d.add(*entry)
	if err != nil {
		return err
	}
	if n.dryRun {
		_, err := fmt.Fprint(a.stdout, entry.String())
		return err
	}
	if err := d.write(); err != nil {
		return err
	}
	a.say("%s: added\n%s", d.path, strings.TrimRight(entry.String(), "\n"))
	if err := a.tell(&n.secrets, variables, unset); err != nil {
		return err
	}
	if len(unset) > 0 {
		a.say("A gateway that runs keeps the old configuration until it is started again with them. mcpgw check tries the server.")
	} else {
		a.say("A gateway that runs takes it over by itself. mcpgw check tries the server.")
	}
	return nil
}

// entry makes the entry of what the command line says.
func (n *addition) entry(args []string, dash int) (*config.Entry, []clients.Variable, error) {
	e := &config.Entry{Name: args[0]}
	safe := clients.NewReader("", nil)
	url := n.url
	switch {
	case dash == 1:
		e.Set("command", config.Escape(args[1], true))
		if len(args) > 2 {
			list, err := safe.Arguments(e.Name, args[2:])
			if err != nil {
				return nil, nil, err
			}
			e.Set("args", list)
		}
	case len(args) == 2:
		url = args[1]
	}
	if n.preset != "" {
		e.Set("preset", n.preset)
	}
	if url != "" {
		u, err := safe.Address(e.Name, url)
		if err != nil {
			return nil, nil, fmt.Errorf("the URL: %w", err)
		}
		e.Set("url", u)
	}
	if n.transport != "" {
		e.Set("transport", n.transport)
	}
	if n.token != "" {
		if !config.HasKey("token") {
			return nil, nil, errors.New("--token: there is no such key; use --header")
		}
		e.Set("token", safe.Secret(e.Name, e.Name+"_token", n.token, "token of "+e.Name))
	}
	if err := n.pairs(e, safe); err != nil {
		return nil, nil, err
	}
	for _, s := range n.set {
		key, value, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			return nil, nil, fmt.Errorf("--set: expected KEY=VALUE, found %q", s)
		}
		last := key[strings.LastIndexByte(key, '.')+1:]
		text, err := safe.Value(e.Name, "key", e.Name+"_"+last, value)
		if err != nil {
			return nil, nil, fmt.Errorf("--set %s: %w", key, err)
		}
		if text == config.Escape(value, true) {
			e.Set(key, config.Raw(text)) // a number stays one
		} else {
			e.Set(key, text)
		}
	}
	return e, safe.Found().Variables, nil
}

// pairs puts headers and environment into the entry.
func (n *addition) pairs(e *config.Entry, safe *clients.Reader) error {
	for _, h := range n.headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return fmt.Errorf("--header: expected 'Name: value', found %q", name)
		}
		if err := n.pair(e, safe, "header", "headers", strings.TrimSpace(name), strings.TrimSpace(value)); err != nil {
			return err
		}
	}
	for _, v := range n.env {
		name, value, ok := strings.Cut(v, "=")
		if !ok {
			value = "${" + name + "}"
		}
		if err := n.pair(e, safe, "env", "env", name, value); err != nil {
			return err
		}
	}
	return nil
}

func (n *addition) pair(e *config.Entry, safe *clients.Reader, kind, section, name, value string) error {
	text, err := safe.Value(e.Name, kind, name, value)
	if err != nil {
		return fmt.Errorf("--%s %s: %w", kind, name, err)
	}
	i := slices.IndexFunc(e.Keys, func(k config.Key) bool { return k.Name == section })
	if i < 0 {
		i = len(e.Keys)
		e.Keys = append(e.Keys, config.Key{Name: section})
	}
	list, _ := e.Keys[i].Value.([]config.Key)
	list = append(list, config.Key{Name: name, Value: text}) // not Set: names may hold dots
	e.Keys[i].Value = list
	return nil
}
