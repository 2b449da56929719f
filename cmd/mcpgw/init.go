package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mcpgw/mcpgw/internal/clients"
	"github.com/mcpgw/mcpgw/internal/config"
)

// fileHead is what every file that mcpgw writes begins with.
const fileHead = `# One endpoint in front of many MCP servers. "mcpgw check" says what is wrong with this file, "mcpgw add" and "mcpgw import" add servers to
# it, docs/configuration.md has every key. Changes are taken over while the gateway runs.
`

// fileExamples stands below the servers of a new file.
const fileExamples = `
  # files:                        # a server that is started as a command
  #   command: npx
  #   args: [-y, "@modelcontextprotocol/server-filesystem", "${HOME}/shared"]

  # search:                       # a remote server
  #   url: https://mcp.example.net/mcp
  #   headers: { Authorization: "Bearer ${SEARCH_TOKEN}" }
`

// beginning is what the flags of init say.
type beginning struct {
	yes, discover, host bool
	listen              string
	imports             []string
	secrets
}

const defaultListen = "127.0.0.1:8080"

func (a *app) initCommand() *cobra.Command {
	var b beginning
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write a gateway.yaml to begin with",
		Long: `Write a gateway.yaml to begin with, into the current folder or where --config says. A file that is there is never overwritten. On a terminal
it asks; with --yes, or without a terminal, it takes the flags and their defaults.

With --discover it looks for systems that have a built-in server: it tries the well-known ports of pfSense, TrueNAS, iDRAC (443), Proxmox (8006),
Prometheus (9090) and Ollama (11434) on the addresses beside those of this machine (at most 254 for each network), for 20 seconds at
most. It sends nothing but requests for the first page, and no credentials. Without --discover nothing is sent.

` + exitCodes,
		Example: `  mcpgw init --yes && mcpgw serve`,
		Args:    cobra.NoArgs,
	}
	f := cmd.Flags()
	f.BoolVarP(&b.yes, "yes", "y", false, "ask nothing")
	f.StringVar(&b.listen, "listen", "", "`address` of the endpoint (default "+defaultListen+", or the next port that is free)")
	f.BoolVar(&b.host, "host", true, "include the built-in server host, which tells about this machine")
	f.BoolVar(&b.discover, "discover", false, "look for systems on the local network")
	f.StringArrayVar(&b.imports, "import", nil, "`file` of an MCP client whose servers to take over; may be repeated")
	b.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return a.init(cmd.Context(), cmd, &b) }
	return cmd
}

func (a *app) init(ctx context.Context, cmd *cobra.Command, b *beginning) error {
	path := a.configPath
	if path == "" {
		path = "gateway.yaml"
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = errors.New("it is there already and is never overwritten; mcpgw add and mcpgw import add servers to it")
		}
		return fmt.Errorf("%s: %w", path, err)
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	if b.listen == "" {
		b.listen = freeAddress(ctx)
	}
	if !b.yes && terminal(a.stdin) {
		if err := a.ask(cmd, b); err != nil {
			return err
		}
	}
	d := &draft{path: path, data: []byte(b.file())}
	if _, err := config.Verify(path, d.data); err != nil {
		return &exitError{exitUsage, fmt.Errorf("--listen: %w", err)}
	}
	var variables []clients.Variable
	var unset []string
	if len(b.imports) > 0 {
		r := clients.NewReader(a.place("").Home, nil)
		for _, f := range b.imports {
			data, err := a.slurp(f)
			if err == nil {
				err = r.Read(f, data)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", f, err)
			}
		}
		result, more, err := a.take(d, r.Found(), nil)
		if err != nil {
			return err
		}
		result.Config = path
		if err := a.printImport(result, "text"); err != nil {
			return err
		}
		variables, unset = result.Variables, more
	}
	if b.discover {
		if err := a.discover(ctx, d); err != nil {
			return err
		}
	}
	if err := d.write(); err != nil {
		return err
	}
	a.say("%s: written", path)
	if err := a.tell(&b.secrets, variables, unset); err != nil {
		return err
	}
	flag := ""
	if a.configPath != "" {
		flag = " --config " + quoteShell(a.configPath)
	}
	a.say("Next:\n  mcpgw serve%s\n  mcpgw clients claude-code --write%s    # or codex, gemini, cursor, vscode, opencode, claude-desktop", flag, flag)
	return nil
}

// file is the content of the new file.
func (b *beginning) file() string {
	servers := "downstreams: {}\n"
	if b.host {
		servers = "downstreams:\n  host:                           # a built-in server: the machine that the gateway runs on\n    preset: host\n"
	}
	return fileHead + "\ngateway:\n  listen: " + quoteYAML(b.listen) + "\n\n" + servers + fileExamples
}

func quoteYAML(s string) string {
	if strings.HasPrefix(s, "[") || strings.HasPrefix(s, ":") || strings.ContainsAny(s, " #\"'") {
		return fmt.Sprintf("%q", s)
	}
	return s
}

// freeAddress returns the default address, or one with a port beside it if another program has it.
func freeAddress(ctx context.Context) string {
	for port := 8080; port < 8100; port++ {
		address := fmt.Sprintf("127.0.0.1:%d", port)
		if l, err := new(net.ListenConfig).Listen(ctx, "tcp", address); err == nil {
			_ = l.Close() // it was only tried
			return address
		}
	}
	return defaultListen
}

// ask lets the user change what the flags say.
func (a *app) ask(cmd *cobra.Command, b *beginning) error {
	in := bufio.NewScanner(a.stdin)
	line := func(question, def string) (string, error) {
		_, _ = fmt.Fprintf(a.stderr, "%s [%s] ", question, def)
		if !in.Scan() {
			return "", errors.Join(errors.New("no answer: nothing was written"), in.Err())
		}
		if s := strings.TrimSpace(in.Text()); s != "" {
			return s, nil
		}
		return def, nil
	}
	yes := func(question string, def bool) (bool, error) {
		hint := "y/N"
		if def {
			hint = "Y/n"
		}
		s, err := line(question, hint)
		if s == hint {
			return def, err
		}
		return strings.HasPrefix(strings.ToLower(s), "y"), err
	}
	var err error
	if !cmd.Flags().Changed("listen") {
		if b.listen, err = line("Address of the endpoint", b.listen); err != nil {
			return err
		}
	}
	if !cmd.Flags().Changed("host") {
		if b.host, err = yes("Include the built-in server that tells about this machine?", true); err != nil {
			return err
		}
	}
	if len(b.imports) == 0 {
		for _, f := range clientFiles(a.place("")) {
			data, err := a.slurp(f)
			r := clients.NewReader("", nil)
			if err != nil || r.Read(f, data) != nil || len(r.Found().Servers) == 0 {
				continue
			}
			take, err := yes(fmt.Sprintf("Take over %s of %s?", count(len(r.Found().Servers), "server"), f), false)
			if err != nil {
				return err
			}
			if take {
				b.imports = append(b.imports, f)
			}
		}
	}
	if !cmd.Flags().Changed("discover") {
		b.discover, err = yes("Look for pfSense, TrueNAS, iDRAC, Proxmox, Prometheus and Ollama on the local network?", false)
	}
	return err
}
