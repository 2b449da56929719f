package clients

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/internal/config"
)

// approvals are the keys by which clients run tools without asking. They are never taken over: who may call what is for each client to ask.
var approvals = []string{"alwaysAllow", "autoApprove", "trust", "auto_approve", "autoApproveTools", "default_tools_approval_mode", "always_allow"}

// filters are the keys by which clients hide tools.
var filters = []string{"enabled_tools", "disabled_tools", "includeTools", "excludeTools", "disabledTools", "enabledTools"}

// fromOpenCode gives a server of OpenCode the keys that the others use.
func fromOpenCode(o object) object {
	out := object{}
	for _, m := range o {
		switch m.key {
		case "command":
			list := o.texts("command")
			if len(list) > 0 {
				rest := make([]any, 0, len(list))
				for _, a := range list[1:] {
					rest = append(rest, a)
				}
				out = append(out, member{"command", list[0]}, member{"args", rest})
			}
		case "environment":
			out = append(out, member{"env", m.value})
		case "type": // local or remote: the other keys tell
		default:
			out = append(out, m)
		}
	}
	return out
}

// fill makes the entry of a server from its keys.
func (r *reader) fill(s *Server, o object) error {
	address := o.text("url")
	for _, key := range []string{"httpUrl", "serverUrl"} {
		if v := o.text(key); v != "" {
			address = v
		}
	}
	command, args := o.text("command"), o.texts("args")
	if list := o.texts("command"); command == "" && len(list) > 0 { // an array, as OpenCode has it
		command, args = list[0], append(list[1:], args...)
	}
	headers := r.headersOf(o)
	var err error
	switch remote := remoteOf(command, args); {
	case command == "" && address == "":
		return errors.New("it has neither command nor url")
	case isGateway(command, args):
		return errors.New("it is mcpgw itself")
	case remote != nil:
		s.Notes = append(s.Notes, "mcp-remote is not needed: the gateway connects to the URL itself"+remote.lost)
		o = append(slices.Clone(o), member{"type", remote.kind})
		err = r.remote(s, remote.url, append(headers, remote.headers...), o)
	case command != "":
		err = r.command(s, command, args, o)
	default:
		err = r.remote(s, address, headers, o)
	}
	if err != nil {
		return err
	}
	r.times(s, o)
	r.left(s, o)
	if o.get("disabled") == true || o.get("enabled") == false {
		s.Entry.Set("disabled", true)
	}
	return nil
}

func (r *reader) command(s *Server, command string, args []string, o object) error {
	c, err := r.text(command)
	if err != nil {
		return fmt.Errorf("command: %w", err)
	}
	s.Entry.Set("command", c)
	out, err := r.arguments(args)
	if err != nil {
		return fmt.Errorf("args: %w", err)
	}
	if len(out) > 0 {
		s.Entry.Set("args", out)
	}
	var env []config.Key
	for _, m := range o.object("env") {
		v, err := r.secretText("env", m.key, scalarText(m.value))
		if err != nil {
			return fmt.Errorf("env.%s: %w", m.key, err)
		}
		env = append(env, config.Key{Name: m.key, Value: v})
	}
	for _, name := range o.texts("env_vars") { // what Codex passes on
		if nameForm.MatchString(name) {
			env = append(env, config.Key{Name: name, Value: "${" + name + "}"})
			r.need(Variable{Name: name, Why: "passed on to " + r.server})
		}
	}
	if len(env) > 0 {
		s.Entry.Set("env", env)
	}
	if f := o.text("envFile"); f != "" {
		s.Notes = append(s.Notes, fmt.Sprintf("envFile %s is not read: write env: {NAME: \"${NAME}\"} for what the server needs, and load the file before the gateway starts", f))
	}
	if dir := o.text("cwd"); dir != "" {
		d, err := r.text(dir)
		if err != nil {
			return fmt.Errorf("cwd: %w", err)
		}
		if !filepath.IsAbs(d) && !strings.HasPrefix(d, "${") {
			d = filepath.Join(config.Escape(r.project, false), d)
		}
		s.Entry.Set("dir", d)
	} else if strings.HasPrefix(command, ".") || slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "./") }) {
		s.Entry.Set("dir", config.Escape(r.project, false))
		s.Notes = append(s.Notes, "paths in it begin with a dot: dir is the folder of the project, "+r.project)
	}
	return nil
}

func (r *reader) remote(s *Server, address string, headers []config.Key, o object) error {
	u, err := r.address(address)
	if err != nil {
		return fmt.Errorf("url: %w", err)
	}
	s.Entry.Set("url", u)
	if strings.EqualFold(o.text("type"), "sse") {
		s.Entry.Set("transport", "sse")
	}
	for i, h := range headers {
		text, _ := h.Value.(string)
		if raw, done := h.Value.(config.Raw); done { // in the language of gateway.yaml already
			headers[i].Value = string(raw)
			continue
		}
		if headers[i].Value, err = r.secretText("header", h.Name, text); err != nil {
			return fmt.Errorf("headers.%s: %w", h.Name, err)
		}
	}
	if len(headers) > 0 {
		s.Entry.Set("headers", headers)
	}
	for _, key := range []string{"oauth", "authProviderType", "auth"} {
		if v := o.get(key); v != nil && v != false {
			s.Notes = append(s.Notes, key+" is not imported: the gateway does not sign in by OAuth for you, it sends headers")
		}
	}
	return nil
}

// headersOf collects headers from all the keys that clients have for them.
func (r *reader) headersOf(o object) []config.Key {
	var headers []config.Key
	for _, key := range []string{"headers", "http_headers"} {
		for _, m := range o.object(key) {
			headers = append(headers, config.Key{Name: m.key, Value: scalarText(m.value)})
		}
	}
	for _, m := range o.object("env_http_headers") {
		name := scalarText(m.value)
		r.need(Variable{Name: name, Why: "header " + m.key + " of " + r.server})
		headers = append(headers, config.Key{Name: m.key, Value: config.Raw("${" + name + "}")})
	}
	if v := o.text("bearer_token_env_var"); v != "" {
		r.need(Variable{Name: v, Why: "bearer token of " + r.server})
		headers = append(headers, config.Key{Name: "Authorization", Value: config.Raw("Bearer ${" + v + "}")})
	}
	return headers
}

// times takes over how long the client waits.
func (r *reader) times(s *Server, o object) {
	if d := seconds(o.get("startup_timeout_sec"), time.Second) + seconds(o.get("startup_timeout_ms"), time.Millisecond); d > 0 {
		s.Entry.Set("timeouts.initialize", config.Raw(config.ShortDuration(d)))
	}
	const overall, longest = 50 * time.Second, 30 * time.Minute
	d := max(seconds(o.get("tool_timeout_sec"), time.Second), seconds(o.get("timeout"), time.Millisecond))
	switch {
	case d <= 0:
	case d > longest:
		s.Notes = append(s.Notes, fmt.Sprintf("its time limit of %s is not imported: set resilience.timeouts, if calls need more than %s", d, longest))
	default:
		s.Entry.Set("resilience.timeouts.attempt", config.Raw(config.ShortDuration(d)))
		if d > overall {
			s.Entry.Set("resilience.timeouts.overall", config.Raw(config.ShortDuration(d)))
		}
	}
}

// left tells of what is not taken over.
func (r *reader) left(s *Server, o object) {
	for _, key := range approvals {
		if v := o.get(key); v != nil && v != false {
			s.Notes = append(s.Notes, fmt.Sprintf("auto-approval is never imported: %s%s was left out, each client asks for itself", key, howMany(v)))
		}
	}
	if tools := o.object("tools"); tools != nil {
		s.Notes = append(s.Notes, fmt.Sprintf("auto-approval is never imported: tools%s was left out, each client asks for itself", howMany(tools)))
	}
	for _, key := range filters {
		if v := o.get(key); v != nil {
			s.Notes = append(s.Notes, fmt.Sprintf("%s%s was left out: the gateway shows every tool, each client can hide what it does not want", key, howMany(v)))
		}
	}
}

func howMany(v any) string {
	switch v := v.(type) {
	case []any:
		return fmt.Sprintf(" (%d)", len(v))
	case object:
		return fmt.Sprintf(" (%d)", len(v))
	}
	return ""
}

func scalarText(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

func seconds(v any, unit time.Duration) time.Duration {
	f, err := strconv.ParseFloat(scalarText(v), 64)
	if err != nil || f < 0 || f > 1e9 {
		return 0
	}
	return time.Duration(f * float64(unit))
}

// bridge is a server that mcp-remote would be connected to.
type bridge struct {
	url, kind, lost string
	headers         []config.Key
}

// remoteOf recognises "npx mcp-remote URL", which clients without HTTP need.
func remoteOf(command string, args []string) *bridge {
	words := append([]string{command}, args...)
	at := slices.IndexFunc(words, func(w string) bool {
		base, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(w), ".cmd"), "@")
		return base == "mcp-remote"
	})
	if at < 0 {
		return nil
	}
	b := &bridge{}
	var lost []string
	rest := words[at+1:]
	for i := 0; i < len(rest); i++ {
		next := ""
		if i+1 < len(rest) {
			next = rest[i+1]
		}
		switch w := rest[i]; {
		case b.url == "" && (strings.HasPrefix(w, "http://") || strings.HasPrefix(w, "https://") || strings.HasPrefix(w, "$")):
			b.url = w
		case w == "--header":
			name, value, _ := strings.Cut(next, ":")
			b.headers = append(b.headers, config.Key{Name: strings.TrimSpace(name), Value: strings.TrimSpace(value)})
			i++
		case w == "--transport":
			if strings.HasPrefix(next, "sse") {
				b.kind = "sse"
			}
			i++
		case w == "--allow-http" || w == "--debug" || w == "--silent":
		case strings.HasPrefix(w, "--"):
			lost = append(lost, w)
		}
	}
	if b.url == "" {
		return nil
	}
	if len(lost) > 0 {
		b.lost = "; left out: " + strings.Join(lost, " ")
	}
	return b
}

// isGateway recognises the entry that mcpgw clients --write makes.
func isGateway(command string, args []string) bool {
	base := strings.TrimSuffix(filepath.Base(command), ".exe")
	return base == "mcpgw" && slices.Contains(args, "stdio")
}
