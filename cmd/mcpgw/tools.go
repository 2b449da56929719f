package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func (a *app) toolsCommand() *cobra.Command {
	var address string
	cmd := &cobra.Command{
		Use:   "tools [NAME]",
		Short: "List the tools that a running gateway offers",
		Long: `List the tools that a running gateway offers, with the server that each belongs to and what it says about itself. NAME is a server, of which
all tools are listed, or a tool, which is shown in full: its description and its arguments.

The gateway is found as by mcpgw status.

` + exitCodes,
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return slices.Concat(a.runningNames(cmd.Context(), address), a.toolNames(cmd.Context(), address, typed)), cobra.ShellCompDirectiveNoFileComp
		},
	}
	cmd.Flags().StringVar(&address, "url", "", "`address` of the gateway, instead of what the configuration says")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := a.remote(address)
		if err != nil {
			return err
		}
		p := a.working("asking " + r.mcp)
		all, err := r.tools(cmd.Context())
		p.done()
		if err != nil {
			return err
		}
		if len(args) == 1 {
			return a.someTools(all, args[0], *out)
		}
		return a.listTools(all, *out)
	}
	return cmd
}

// someTools shows one tool, or those of one server.
func (a *app) someTools(all []tool, name string, out output) error {
	for i := range all {
		if all[i].Name == name {
			return a.showTool(&all[i], out)
		}
	}
	of := slices.DeleteFunc(slices.Clone(all), func(t tool) bool { return !strings.HasPrefix(t.Name, name+"__") })
	if len(of) == 0 {
		return noTool(all, name)
	}
	return a.listTools(of, out)
}

// noTool says that a tool is not there, and which one may have been meant.
func noTool(all []tool, name string) error {
	var near []string
	for i := range all {
		if strings.Contains(fold(all[i].Name), fold(name)) || strings.HasSuffix(fold(all[i].Name), "__"+fold(name)) {
			near = append(near, all[i].Name)
		}
	}
	if len(near) > 0 && len(near) <= 5 {
		return fmt.Errorf("no tool or server %q (did you mean %s?)", name, strings.Join(near, ", "))
	}
	return fmt.Errorf("no tool or server %q: mcpgw tools lists them; a server that has just started may not have been listed yet", name)
}

func fold(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "_") }

func (a *app) listTools(tools []tool, out output) error {
	if out == "json" {
		list := make([]json.RawMessage, 0, len(tools))
		for i := range tools {
			list = append(list, tools[i].raw)
		}
		return a.printJSON(map[string]any{"tools": list})
	}
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	columns, _ := dimensions(a.stdout)
	widest := 0
	for i := range tools {
		widest = max(widest, len(tools[i].Name))
	}
	for i := range tools {
		text := cut(tools[i].Description, max(columns-widest-16, 30))
		fmt.Fprintf(t, "%s\t%s\t%s\n", tools[i].Name, tools[i].Annotations.words(), text)
	}
	_ = t.Flush() // a strings.Builder takes everything
	fmt.Fprintf(&b, "\n%s\n", count(len(tools), "tool"))
	_, err := fmt.Fprint(a.stdout, b.String())
	return err
}

// words says what a tool's hints promise.
func (n *annotations) words() string {
	is := func(b *bool) bool { return b != nil && *b }
	switch {
	case n == nil || n.ReadOnly == nil && n.Destructive == nil && n.Idempotent == nil:
		return "-"
	case is(n.ReadOnly):
		return "reads"
	case n.Destructive != nil && !*n.Destructive:
		return "changes"
	}
	return "destroys"
}

func (a *app) showTool(t *tool, out output) error {
	if out == "json" {
		return a.printJSON(t.raw)
	}
	var b strings.Builder
	p := paint(colors(a.stdout))
	b.WriteString(p.bold(t.Name))
	if t.Title != "" {
		b.WriteString("  " + t.Title)
	}
	if w := t.Annotations.words(); w != "-" {
		b.WriteString("  " + p.dim("("+w+")"))
	}
	b.WriteString("\n")
	if t.Description != "" {
		b.WriteString("\n" + t.Description + "\n")
	}
	s := schemaOf(t.InputSchema)
	if len(s.order) > 0 {
		b.WriteString("\n")
	}
	for _, name := range s.order {
		arg := s.Properties[name]
		must := ""
		if slices.Contains(s.Required, name) {
			must = ", required"
		}
		fmt.Fprintf(&b, "  %s  %s\n", p.cyan(name), p.dim(arg.kind()+must))
		if arg.Description != "" {
			fmt.Fprintf(&b, "      %s\n", strings.Join(strings.Fields(arg.Description), " "))
		}
	}
	fmt.Fprintf(&b, "\n  mcpgw call %s%s\n", t.Name, s.example())
	_, err := fmt.Fprint(a.stdout, b.String())
	return err
}

// schema is what is used of a tool's input schema.
type schema struct {
	Properties map[string]*argument `json:"properties"`
	Required   []string             `json:"required"`
	order      []string
}

// argument is what is used of the schema of an argument. A type may be a list, or be left out.
type argument struct {
	Type        any    `json:"type"`
	Description string `json:"description"`
	Enum        []any  `json:"enum"`
}

// schemaOf reads as much as it can: what it does not understand is left to the server.
func schemaOf(raw json.RawMessage) *schema {
	s := &schema{}
	if json.Unmarshal(raw, s) != nil {
		return &schema{}
	}
	var top struct {
		Properties json.RawMessage `json:"properties"`
	}
	_ = json.Unmarshal(raw, &top) // it was read above
	s.order = keysInOrder(top.Properties)
	s.order = slices.DeleteFunc(s.order, func(name string) bool { return s.Properties[name] == nil })
	return s
}

// keysInOrder returns the keys of a JSON object as they are written.
func keysInOrder(raw json.RawMessage) []string {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil
	}
	var keys []string
	for dec.More() {
		t, err := dec.Token()
		k, ok := t.(string)
		var skipped json.RawMessage
		if err != nil || !ok || dec.Decode(&skipped) != nil {
			return keys
		}
		keys = append(keys, k)
	}
	return keys
}

// types lists the JSON types that an argument may have.
func (p *argument) types() []string {
	switch t := p.Type.(type) {
	case string:
		return []string{t}
	case []any:
		var all []string
		for _, v := range t {
			all = append(all, fmt.Sprint(v))
		}
		return all
	}
	return nil
}

func (p *argument) kind() string {
	if len(p.Enum) > 0 {
		parts := make([]string, len(p.Enum))
		for i, v := range p.Enum {
			parts[i] = fmt.Sprint(v)
		}
		return strings.Join(parts, "|")
	}
	if t := p.types(); len(t) > 0 {
		return strings.Join(t, " or ")
	}
	return "any"
}

// example shows how the required arguments are written.
func (s *schema) example() string {
	var b strings.Builder
	for _, name := range s.order {
		if slices.Contains(s.Required, name) {
			fmt.Fprintf(&b, " %s=…", name)
		}
	}
	return b.String()
}
