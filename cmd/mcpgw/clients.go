package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mcpgw/mcpgw/internal/clients"
	"github.com/mcpgw/mcpgw/internal/config"
)

// pointing is what the flags of clients say.
type pointing struct {
	write, project      bool
	name, url, tokenEnv string
}

func clientNames() []string {
	var names []string
	for _, c := range clients.All() {
		names = append(names, c.Name)
	}
	return names
}

func (a *app) clientsCommand() *cobra.Command {
	var n pointing
	cmd := &cobra.Command{
		Use:   "clients [CLIENT]...",
		Short: "Point MCP clients at this gateway",
		Long: `Point MCP clients at this gateway: print what belongs into their files, or write it there with --write. Other entries, comments and the order of
a file stay as they are; the file as it was is kept beside it, with the time in its name. Without CLIENT all of them are printed.

Known are ` + strings.Join(clientNames(), ", ") + `.

If gateway.tokens is set, the entry names an environment variable of the client (--token-env) and holds no token. Claude Desktop starts
mcpgw stdio, which serves the same configuration without a port.

` + exitCodes,
		Example: `  mcpgw clients claude-code --write
  mcpgw clients vscode --project`,
		Args: func(_ *cobra.Command, args []string) error {
			for _, arg := range args {
				if !slices.Contains(clientNames(), arg) {
					return fmt.Errorf("expected one of %s, found %q", strings.Join(clientNames(), ", "), arg)
				}
			}
			if n.write && len(args) == 0 {
				return errors.New("--write: say which client: " + strings.Join(clientNames(), ", "))
			}
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return without(clientNames(), args), cobra.ShellCompDirectiveNoFileComp
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&n.write, "write", "w", false, "write into the file of the client")
	f.BoolVar(&n.project, "project", false, "the file of the project in the current folder, not that of the user")
	f.StringVar(&n.name, "name", "mcpgw", "`name` of the gateway in the client")
	f.StringVar(&n.url, "url", "", "`address` of the gateway as the client reaches it, instead of what the configuration says")
	f.StringVar(&n.tokenEnv, "token-env", "MCPGW_TOKEN", "environment `variable` of the client that holds a token, if the gateway wants one")
	cmd.RunE = func(_ *cobra.Command, args []string) error { return a.clients(&n, args) }
	return cmd
}

func (a *app) clients(n *pointing, names []string) error {
	if pattern, words := config.NameRule(); !pattern.MatchString(n.name) {
		return &exitError{exitUsage, fmt.Errorf("--name: expected %s, found %q", words, n.name)}
	}
	g, err := a.addressed(n)
	if err != nil {
		return err
	}
	project := ""
	if n.project {
		if project, err = os.Getwd(); err != nil {
			return err
		}
	}
	place := a.place(project)
	for i, c := range clients.All() {
		if len(names) > 0 && !slices.Contains(names, c.Name) {
			continue
		}
		file := c.File(place)
		switch {
		case file == "" && len(names) > 0:
			return &exitError{exitUsage, fmt.Errorf("%s has no file for a project", c.Title)}
		case file == "":
			continue
		case n.write:
			err = a.writeClient(&c, g, file)
		default:
			if i > 0 && len(names) != 1 {
				_, _ = fmt.Fprintln(a.stdout)
			}
			err = a.printClient(&c, g, file)
		}
		if err != nil {
			return err
		}
	}
	if strings.HasPrefix(g.Command[0], os.TempDir()) && (len(names) == 0 || slices.Contains(names, "claude-desktop")) {
		a.say("mcpgw was started from the temporary folder %s, as go run does: install it first, so that Claude Desktop finds it later too.", filepath.Dir(g.Command[0]))
	}
	if n.write && g.TokenEnv != "" && os.Getenv(g.TokenEnv) == "" {
		a.say("The gateway wants a token: set %s to one of gateway.tokens where the client runs.", g.TokenEnv)
	}
	return nil
}

// addressed finds what clients have to know about the gateway.
func (a *app) addressed(n *pointing) (clients.Gateway, error) {
	g := clients.Gateway{Name: n.name}
	r, err := a.remote(n.url)
	if err != nil {
		return g, err
	}
	g.URL = r.mcp
	if r.token != "" {
		g.TokenEnv = n.tokenEnv
	}
	exe, err := os.Executable()
	if err != nil {
		return g, err
	}
	g.Command = []string{exe, "stdio"}
	if path, err := a.find(); err == nil {
		if path, err = filepath.Abs(path); err != nil {
			return g, err
		}
		g.Command = append(g.Command, "--config", path)
	}
	return g, nil
}

func (a *app) printClient(c *clients.Client, g clients.Gateway, file string) error {
	p := paint(colors(a.stdout))
	head := p.bold(c.Title) + "  " + p.dim(file)
	text := head + "\n" + c.Snippet(g)
	if own := c.Command(g); own != "" {
		text += p.dim("or: ") + own + "\n"
	}
	_, err := fmt.Fprint(a.stdout, text)
	return err
}

// writeClient edits the file of a client and keeps it as it was beside it.
func (a *app) writeClient(c *clients.Client, g clients.Gateway, file string) error {
	was, err := os.ReadFile(file) //nolint:gosec // the path is that of a client's own file
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil && was == nil {
		was = []byte{}
	}
	missing := err != nil
	now, err := c.Write(was, g)
	if err != nil {
		return fmt.Errorf("%s: %w\nPut this into it by hand:\n%s", file, err, c.Snippet(g))
	}
	if !missing && string(now) == string(was) {
		a.say("%s: %s knows the gateway already", file, c.Title)
		return nil
	}
	if missing {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return err
		}
		if err := config.Replace(file, nil, now); err != nil {
			return err
		}
		a.say("%s: written for %s; %s", file, c.Title, c.After)
		return nil
	}
	backup := file + "." + time.Now().Format("20060102-150405") + ".bak"
	if err := config.Replace(backup, nil, was); err != nil {
		return fmt.Errorf("keeping the file as it was: %w", err)
	}
	if err := config.Replace(file, was, now); err != nil {
		return err
	}
	a.say("%s: %s added for %s (as it was: %s); %s", file, g.Name, c.Title, filepath.Base(backup), c.After)
	return nil
}
