package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mcpgw/mcpgw/internal/clients"
	"github.com/mcpgw/mcpgw/internal/config"
)

// intake is what the flags of import say.
type intake struct {
	write bool
	only  []string
	secrets
}

// imported is what import did, as --output json prints it.
type imported struct {
	Config    string             `json:"config,omitempty"` // the file that was written
	Servers   []importedServer   `json:"servers"`
	Variables []clients.Variable `json:"variables,omitempty"`
	Notes     []string           `json:"notes,omitempty"`
}

type importedServer struct {
	Name  string   `json:"name"`
	From  string   `json:"from"`
	Entry string   `json:"entry,omitempty"` // as YAML
	Notes []string `json:"notes,omitempty"`
	Skip  string   `json:"skipped,omitempty"` // why there is no entry
}

func (a *app) importCommand() *cobra.Command {
	var in intake
	cmd := &cobra.Command{
		Use:   "import FILE...",
		Short: "Take over the servers of MCP clients",
		Long: `Take over the servers that MCP clients have in their files, and print them as entries of gateway.yaml. With --write they are added to the
file, whose comments and order stay. "-" is the standard input.

Known are "mcpServers" (Claude Desktop, Claude Code with ~/.claude.json and .mcp.json, Cursor, Gemini CLI, LM Studio), "servers" and "inputs" (VS Code),
"mcp" (OpenCode), [mcp_servers.NAME] (Codex), and server.json of the MCP registry.

What looks like a secret is not written: ${NAME} is, and the line to export it is printed. What a client was told to approve without asking is
never taken over. What has no meaning for a gateway is told of.

` + exitCodes,
		Example: `  mcpgw import ~/.claude.json
  mcpgw import ~/.cursor/mcp.json ~/.codex/config.toml --write --env-file .env`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return nil
			}
			return errors.New("expected the file of a client" + found(a.place("")))
		},
	}
	cmd.Flags().BoolVarP(&in.write, "write", "w", false, "add the entries to gateway.yaml, which is made if there is none")
	cmd.Flags().StringSliceVar(&in.only, "only", nil, "`names` of the servers to take, as printed")
	in.flags(cmd)
	out := outputFlag(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error { return a.importFiles(&in, args, *out) }
	return cmd
}

// place says for whom clients run.
func (a *app) place(project string) clients.Place {
	home, _ := os.UserHomeDir()  // what cannot be found is not looked into
	dir, _ := os.UserConfigDir() // as above
	return clients.Place{OS: runtime.GOOS, Home: home, Config: dir, Project: project, Getenv: os.Getenv}
}

// clientFiles lists the files of clients that are on this machine.
func clientFiles(p clients.Place) []string {
	var files []string
	for _, c := range clients.All() {
		if f := c.File(p); f != "" {
			if info, err := os.Stat(f); err == nil && info.Mode().IsRegular() {
				files = append(files, f)
			}
		}
	}
	return files
}

// found suggests files, for error messages.
func found(p clients.Place) string {
	files := clientFiles(p)
	if len(files) == 0 {
		return ""
	}
	return ". On this machine there are:\n  " + strings.Join(files, "\n  ")
}

func (a *app) importFiles(in *intake, files []string, out output) error {
	d, err := a.draft(true)
	if err != nil {
		return err
	}
	names, err := config.Names(d.data)
	if err != nil {
		return &exitError{exitConfig, fmt.Errorf("%s: %w", d.path, err)}
	}
	home, _ := os.UserHomeDir() // only for ${userHome}
	r := clients.NewReader(home, names)
	for _, f := range files {
		data, err := a.slurp(f)
		if err == nil {
			err = r.Read(f, data)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
	}
	result, unset, err := a.take(d, r.Found(), in.only)
	if err != nil {
		return err
	}
	n := slices.ContainsFunc(result.Servers, func(s importedServer) bool { return s.Skip == "" })
	if in.write && n {
		if err := d.write(); err != nil {
			return err
		}
		result.Config = d.path
	}
	if err := a.printImport(result, out); err != nil {
		return err
	}
	return a.tell(&in.secrets, result.Variables, unset)
}

// slurp reads a file, or the standard input.
func (a *app) slurp(path string) ([]byte, error) {
	const most = 16 << 20 // ~/.claude.json holds histories
	if path == "-" {
		return io.ReadAll(io.LimitReader(a.stdin, most))
	}
	data, err := os.ReadFile(path) //nolint:gosec // the file is the one that the user names
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, e.Err
	}
	return data, err
}

// take adds to the draft what was found. An entry that the file would not be valid with is left out.
func (a *app) take(d *draft, f *clients.Found, only []string) (*imported, []string, error) {
	for _, name := range only {
		if !slices.ContainsFunc(f.Servers, func(s clients.Server) bool { return s.Entry.Name == name }) {
			return nil, nil, fmt.Errorf("--only: there is no server %q in the files", name)
		}
	}
	if len(d.was) > 0 {
		if _, err := config.Verify(d.path, d.was); err != nil {
			return nil, nil, d.invalid(err)
		}
	}
	result := &imported{Servers: []importedServer{}, Notes: f.Notes}
	own := listens(d.data)
	var unset []string
	for _, s := range f.Servers {
		if len(only) > 0 && !slices.Contains(only, s.Entry.Name) {
			continue
		}
		one := importedServer{Name: s.Entry.Name, From: s.From, Notes: s.Notes, Skip: s.Skip}
		if one.Skip == "" && own != "" && slices.ContainsFunc(s.Entry.Keys, func(k config.Key) bool { return k.Name == "url" && hostOf(k.Value) == own }) {
			one.Skip = "it is this gateway"
		}
		if one.Skip == "" {
			more, err := d.add(s.Entry)
			if err != nil {
				one.Skip = explain(err)
			} else {
				one.Entry = s.Entry.String()
				unset = append(unset, more...)
			}
		}
		result.Servers = append(result.Servers, one)
	}
	slices.Sort(unset)
	unset = slices.Compact(unset)
	for _, v := range f.Variables {
		used := slices.ContainsFunc(result.Servers, func(s importedServer) bool { return strings.Contains(s.Entry, "${"+v.Name+"}") })
		if used {
			result.Variables = append(result.Variables, v)
		}
	}
	return result, unset, nil
}

// explain says in one line why an entry is not valid.
func explain(err error) string {
	if e, ok := errors.AsType[*config.Error](err); ok {
		f := e.Faults[0]
		return f.Path + ": " + f.Msg
	}
	return err.Error()
}

// listens returns HOST:PORT of the gateway that a file describes, if it is valid.
func listens(data []byte) string {
	f, err := config.Parse("", data, os.LookupEnv)
	if err != nil {
		return ""
	}
	return sameHost(f.Settings.Gateway.Listen)
}

func hostOf(v any) string {
	s, _ := v.(string)
	u, err := url.Parse(s)
	if err != nil {
		return ""
	}
	return sameHost(u.Host)
}

// sameHost gives every name of this machine one form.
func sameHost(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || host == "localhost" || ip != nil && (ip.IsLoopback() || ip.IsUnspecified()) {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// printImport writes entries to stdout, and what is to be known about them to stderr.
func (a *app) printImport(r *imported, out output) error {
	if out == "json" {
		return a.printJSON(r)
	}
	var b strings.Builder
	taken := 0
	for _, s := range r.Servers {
		if s.Skip == "" {
			taken++
			if r.Config == "" {
				b.WriteString(s.Entry)
			}
		}
	}
	if b.Len() > 0 {
		if _, err := fmt.Fprintf(a.stdout, "downstreams:\n%s", b.String()); err != nil {
			return err
		}
	}
	for _, s := range r.Servers {
		switch {
		case s.Skip != "":
			a.say("not imported: %s (%s): %s", s.Name, s.From, s.Skip)
			continue
		case r.Config != "":
			a.say("imported: %s (%s)", s.Name, s.From)
		case len(s.Notes) > 0:
			a.say("%s (%s)", s.Name, s.From)
		}
		for _, n := range s.Notes {
			a.say("  %s", n)
		}
	}
	for _, n := range r.Notes {
		a.say("note: %s", n)
	}
	switch {
	case r.Config != "":
		a.say("%s: %s added. mcpgw check tries them.", r.Config, count(taken, "server"))
	case taken > 0:
		a.say("Nothing was written: --write adds %s to %s.", count(taken, "server"), filepath.Base(a.target()))
	}
	return nil
}

// target is the file that would be written.
func (a *app) target() string {
	if path, err := a.find(); err == nil {
		return path
	}
	return "gateway.yaml"
}
