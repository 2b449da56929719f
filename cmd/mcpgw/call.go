package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// calling is what the flags of call say.
type calling struct {
	address, args string
	timeout       time.Duration
}

func (a *app) callCommand() *cobra.Command {
	var c calling
	cmd := &cobra.Command{
		Use:   "call TOOL [KEY=VALUE]...",
		Short: "Call a tool through a running gateway",
		Long: `Call a tool through a running gateway, as an agent would, and print what it answers. Values become what the tool's schema asks for: numbers,
true or false, lists and objects as JSON, and texts. KEY:=JSON says the type itself. --args takes all arguments as one JSON object, - reads it
from the standard input, and @FILE from a file.

Progress and the log of the call go to the error stream. --output json prints the whole result. The gateway is found as by mcpgw status.

` + exitCodes,
		Example: `  mcpgw call circuit_status
  mcpgw call host__processes limit=5 sort=memory
  mcpgw call host__processes --args '{"limit": 3}'`,
		Args: cobra.MinimumNArgs(1),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return a.toolNames(cmd.Context(), c.address, typed), cobra.ShellCompDirectiveNoFileComp
			}
			return a.argumentNames(cmd.Context(), c.address, args[0]), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		},
	}
	cmd.Flags().StringVar(&c.address, "url", "", "`address` of the gateway, instead of what the configuration says")
	cmd.Flags().StringVar(&c.args, "args", "", "the arguments as a `JSON` object; - is the standard input, @FILE a file")
	cmd.Flags().DurationVar(&c.timeout, "timeout", 0, "how long to wait for the answer; 0s: as long as the gateway does")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.call(cmd.Context(), &c, args[0], args[1:], *out)
	}
	return cmd
}

// toolResult is what is used of the result of a call.
type toolResult struct {
	Content []struct {
		Type     string `json:"type"`
		Text     string `json:"text"`
		MimeType string `json:"mimeType"`
		Data     string `json:"data"`
		URI      string `json:"uri"`
		Resource *struct {
			URI  string `json:"uri"`
			Text string `json:"text"`
		} `json:"resource"`
	} `json:"content"`
	Structured json.RawMessage `json:"structuredContent"`
	IsError    bool            `json:"isError"`
}

func (a *app) call(ctx context.Context, c *calling, name string, pairs []string, out output) error {
	r, err := a.remote(c.address)
	if err != nil {
		return err
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	if c.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.timeout, fmt.Errorf("no answer within %s (--timeout): whether the call has run is not known", c.timeout))
		defer cancel()
	}
	p := a.working("calling " + name)
	ended := false
	end := func() {
		if !ended {
			ended = true
			p.done()
		}
	}
	defer end()
	arguments, err := a.arguments(ctx, r, c, name, pairs)
	if err != nil {
		return err
	}
	raw, err := r.request(ctx, "tools/call", name, map[string]any{"name": name, "arguments": arguments}, func(m message) { a.heard(p, name, m) })
	end()
	if e, ok := errors.AsType[*rpcError](err); ok {
		if out == "json" {
			return errors.Join(a.printJSON(map[string]any{"error": e}), &exitError{code: exitToolError})
		}
		return &exitError{exitToolError, a.explainCall(ctx, r, name, e)}
	}
	if err != nil {
		return err
	}
	var result toolResult
	if err := json.Unmarshal(raw, &result); err != nil {
		return fmt.Errorf("the result of %s: %w", name, err)
	}
	if out == "json" {
		err = a.printJSON(raw)
	} else {
		err = a.printResult(&result)
	}
	if err == nil && result.IsError {
		return &exitError{code: exitToolError}
	}
	return err
}

// explainCall says what may have been meant if there is no such tool.
func (a *app) explainCall(ctx context.Context, r *remote, name string, e *rpcError) error {
	const invalidParams = -32602
	if e.Code != invalidParams {
		return e
	}
	all, err := r.tools(ctx)
	if err != nil || slices.ContainsFunc(all, func(t tool) bool { return t.Name == name }) {
		return e
	}
	return noTool(all, name)
}

// heard shows what the server says before it answers.
func (a *app) heard(p *progress, name string, m message) {
	var n struct {
		Progress *float64 `json:"progress"`
		Total    *float64 `json:"total"`
		Message  string   `json:"message"`
		Level    string   `json:"level"`
		Data     any      `json:"data"`
	}
	if json.Unmarshal(m.Params, &n) != nil {
		return
	}
	switch m.Method {
	case "notifications/progress":
		text := "calling " + name
		if n.Progress != nil && (*n.Progress >= 0.001 || n.Total != nil) { // the gateway's own signs of life count by less
			text += ": " + strconv.FormatFloat(*n.Progress, 'g', 6, 64)
			if n.Total != nil {
				text += " of " + strconv.FormatFloat(*n.Total, 'g', 6, 64)
			}
		}
		if n.Message != "" {
			text += ": " + n.Message
		}
		p.say(text)
		if n.Message != "" && !terminal(a.stderr) {
			a.say("mcpgw: %s", cut(text, 300))
		}
	case "notifications/message":
		a.say("%s: %v", n.Level, n.Data)
	}
}

func (a *app) printResult(r *toolResult) error {
	var b strings.Builder
	texts := 0
	for _, c := range r.Content {
		switch {
		case c.Type == "text":
			texts++
			b.WriteString(strings.TrimRight(c.Text, "\n") + "\n")
		case c.Resource != nil && c.Resource.Text != "":
			fmt.Fprintf(&b, "%s:\n%s\n", c.Resource.URI, c.Resource.Text)
		case c.Resource != nil:
			fmt.Fprintf(&b, "[resource %s]\n", c.Resource.URI)
		case c.Type == "resource_link":
			fmt.Fprintf(&b, "[resource %s]\n", c.URI)
		default:
			fmt.Fprintf(&b, "[%s %s, %d bytes as base64: --output json prints it]\n", c.Type, c.MimeType, len(c.Data))
		}
	}
	if texts == 0 && len(r.Structured) > 0 {
		b.Write(r.Structured)
		b.WriteByte('\n')
	}
	_, err := fmt.Fprint(a.stdout, b.String())
	return err
}

// arguments makes the arguments of a call of what the command line says.
func (a *app) arguments(ctx context.Context, r *remote, c *calling, name string, pairs []string) (map[string]any, error) {
	args := map[string]any{}
	text := c.args
	switch {
	case text == "-":
		data, err := a.slurp("-")
		if err != nil {
			return nil, fmt.Errorf("--args: %w", err)
		}
		text = string(data)
	case strings.HasPrefix(text, "@"):
		data, err := os.ReadFile(text[1:])
		if err != nil {
			return nil, fmt.Errorf("--args: %w", err)
		}
		text = string(data)
	}
	if text != "" {
		dec := json.NewDecoder(strings.NewReader(text))
		dec.UseNumber() // a large number stays what it is
		if err := dec.Decode(&args); err != nil || dec.More() || args == nil {
			return nil, &exitError{exitUsage, fmt.Errorf(`--args: expected a JSON object such as {"key": "value"}: %w`, errors.Join(err))}
		}
	}
	if len(pairs) == 0 {
		return args, nil
	}
	s, err := r.schemaOf(ctx, name)
	if err != nil {
		return nil, err
	}
	for _, pair := range pairs {
		key, value, err := argumentOf(s, pair)
		if err != nil {
			return nil, &exitError{exitUsage, err}
		}
		args[key] = value
	}
	return args, nil
}

// schemaOf asks for the schema of one tool.
func (r *remote) schemaOf(ctx context.Context, name string) (*schema, error) {
	all, err := r.tools(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(t tool) bool { return t.Name == name })
	if i < 0 {
		return nil, &exitError{exitToolError, noTool(all, name)}
	}
	return schemaOf(all[i].InputSchema), nil
}

// argumentOf reads KEY=VALUE or KEY:=JSON.
func argumentOf(s *schema, pair string) (key string, value any, err error) {
	key, text, ok := strings.Cut(pair, "=")
	if !ok || key == "" {
		return "", nil, fmt.Errorf("expected KEY=VALUE, found %q", pair)
	}
	raw := strings.HasSuffix(key, ":")
	key = strings.TrimSuffix(key, ":")
	p := s.Properties[key]
	if p == nil && len(s.order) > 0 && !raw {
		return "", nil, fmt.Errorf("the tool has no argument %q; it has %s (KEY:=JSON sends it all the same)", key, strings.Join(s.order, ", "))
	}
	types := []string(nil)
	if p != nil {
		types = p.types()
	}
	if !raw && (len(types) == 0 || slices.Contains(types, "string")) {
		return key, text, nil
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&value); err != nil || dec.More() {
		return "", nil, fmt.Errorf("%s: expected %s as JSON, found %q", key, strings.Join(append(types, []string{"a value"}[:max(1-len(types), 0)]...), " or "), text)
	}
	return key, value, nil
}
