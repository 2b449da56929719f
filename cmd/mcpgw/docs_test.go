package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mcpgw/mcpgw/internal/config"
)

// cliPage writes docs/cli.md from the commands themselves.
func cliPage() []byte {
	var b bytes.Buffer
	b.WriteString("# The command line\n\n<!-- Made by go test ./cmd/mcpgw -run TestCommandPage -update. Do not edit. -->\n\n")
	root := (&app{}).root()
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	fmt.Fprintf(&b, "%s\n\n| command | |\n|---|---|\n", prose(root.Long))
	commands := slices.DeleteFunc(root.Commands(), func(c *cobra.Command) bool { return c.Name() == "help" || c.Hidden })
	for _, c := range commands {
		fmt.Fprintf(&b, "| [`mcpgw %s`](#mcpgw-%s) | %s |\n", c.Name(), c.Name(), c.Short)
	}
	b.WriteString("\nEvery command takes\n\n")
	flagTable(&b, root.PersistentFlags())
	for _, c := range commands {
		fmt.Fprintf(&b, "\n## mcpgw %s\n\n```\n%s\n```\n\n", c.Name(), c.UseLine())
		text := c.Long
		if c.Name() == "completion" {
			text = "Generate the completion of a shell: `mcpgw completion bash --help` says how it is loaded; also for fish, powershell and zsh. It completes the names\n" +
				"of servers, tools and arguments from the gateway that runs."
		}
		if text == "" {
			text = c.Short + "."
		}
		fmt.Fprintf(&b, "%s\n", prose(text))
		if c.Example != "" {
			fmt.Fprintf(&b, "\n```sh\n%s\n```\n", unindent(c.Example))
		}
		if c.Name() == "completion" {
			continue
		}
		if c.HasLocalFlags() {
			b.WriteString("\n")
			flagTable(&b, c.LocalFlags())
		}
		for _, sub := range c.Commands() {
			text := sub.Long
			if text == "" {
				text = sub.Short + "."
			}
			fmt.Fprintf(&b, "\n### mcpgw %s %s\n\n```\n%s\n```\n\n%s\n\n", c.Name(), sub.Name(), sub.UseLine(), prose(text))
			flagTable(&b, sub.LocalFlags())
		}
	}
	// The page stays the same when a built-in server is added.
	return bytes.ReplaceAll(b.Bytes(), []byte(strings.Join(config.Presets(), ", ")), []byte("those that [configuration.md](configuration.md) lists"))
}

// prose makes Markdown of a help text: what is indented becomes a block, and the exit codes stand only once.
func prose(text string) string {
	if before, _, ok := strings.Cut(text, "\n\n"+exitCodes); ok && !strings.HasPrefix(text, "mcpgw is") {
		text = before
	}
	var out []string
	block := false
	for line := range strings.SplitSeq(text, "\n") {
		indented := strings.HasPrefix(line, "  ")
		if indented != block && (indented || line != "") {
			if fence := "```"; indented {
				if len(out) > 0 && out[len(out)-1] != "" {
					out = append(out, "")
				}
				out = append(out, fence+"text")
			} else {
				for len(out) > 0 && out[len(out)-1] == "" {
					out = out[:len(out)-1]
				}
				out = append(out, fence, "")
			}
			block = indented
		}
		out = append(out, strings.TrimPrefix(line, "  "))
	}
	if block {
		out = append(out, "```")
	}
	return strings.Join(out, "\n")
}

func unindent(s string) string {
	return strings.TrimPrefix(strings.ReplaceAll(s, "\n  ", "\n"), "  ")
}

func flagTable(b *bytes.Buffer, flags *pflag.FlagSet) {
	b.WriteString("| flag | default | |\n|---|---|---|\n")
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		kind, usage := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		if kind != "" {
			name += " " + kind
		}
		def := f.DefValue
		if def == "false" || def == "[]" || def == "" {
			def = ""
		} else {
			def = "`" + def + "`"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", name, def, strings.ReplaceAll(usage, "|", `\|`))
	})
}

// TestCommandPage keeps docs/cli.md equal to what the commands say of themselves.
func TestCommandPage(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "cli.md")
	got := cliPage()
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("docs/cli.md is not what the commands say; run go test ./cmd/mcpgw -run TestCommandPage -update\n%s", d)
	}
}

// TestEveryCommandIsInTheReadme keeps the list of commands complete.
func TestEveryCommandIsInTheReadme(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range (&app{}).root().Commands() {
		if c.Name() != "help" && !bytes.Contains(readme, []byte("mcpgw "+c.Name())) {
			t.Errorf("README.md does not name mcpgw %s", c.Name())
		}
	}
}
