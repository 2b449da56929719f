package clients

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/mcpgw/mcpgw/internal/config"
)

// registry reads a server.json, as the MCP registry has it. Of several packages the first that can be started is taken.
func (r *reader) registry(root object) {
	full := root.text("name")
	s := Server{From: r.file + ": " + full}
	s.Entry.Name = r.name(full[strings.LastIndexByte(full, '/')+1:], &s)
	r.server = s.Entry.Name
	packages, _ := root.get("packages").([]any)
	remotes, _ := root.get("remotes").([]any)
	var why []string
	for _, v := range packages {
		p, ok := v.(object)
		if !ok {
			continue
		}
		if err := r.startable(&s, p, root); err != nil {
			why = append(why, err.Error())
			continue
		}
		if len(remotes) > 0 {
			s.Notes = append(s.Notes, "it is offered over HTTP too; this is the command")
		}
		r.found.Servers = append(r.found.Servers, s)
		return
	}
	for _, v := range remotes {
		if o, ok := v.(object); ok && o.text("url") != "" {
			r.offered(&s, o)
			r.found.Servers = append(r.found.Servers, s)
			return
		}
	}
	s.Skip = "nothing in it can be started: " + strings.Join(append(why, "no remotes"), ", ")
	delete(r.names, fold(s.Entry.Name))
	r.found.Servers = append(r.found.Servers, s)
}

// startable makes the command that starts a package.
func (r *reader) startable(s *Server, p, root object) error {
	id, version := p.text("identifier"), p.text("version")
	if version == "" {
		version = root.text("version")
	}
	kind := p.text("registryType")
	if t := p.object("transport").text("type"); t != "" && t != "stdio" {
		return fmt.Errorf("the %s package speaks %s", kind, t)
	}
	var command string
	var args []string
	var env []config.Key
	for _, v := range list(p.get("environmentVariables")) {
		env = append(env, config.Key{Name: v.text("name"), Value: r.asked(v, v.text("name"), "env")})
	}
	before, after := r.packageArguments(p.get("runtimeArguments")), r.packageArguments(p.get("packageArguments"))
	switch kind {
	case "npm":
		command, args = "npx", slices.Concat([]string{"-y"}, before, []string{at(id, "@", version)})
	case "pypi":
		command, args = "uvx", slices.Concat(before, []string{at(id, "==", version)})
	case "nuget":
		command, args = "dnx", slices.Concat(before, []string{at(id, "@", version), "--yes"})
		if len(after) > 0 {
			after = append([]string{"--"}, after...)
		}
	case "oci":
		command, args = "docker", append([]string{"run", "-i", "--rm"}, before...)
		for _, e := range env {
			args = append(args, "-e", e.Name)
		}
		if !strings.Contains(id[strings.LastIndexByte(id, '/')+1:], ":") {
			id = at(id, ":", version)
		}
		args = append(args, id)
	default:
		return fmt.Errorf("packages of the kind %q cannot be started by name", kind)
	}
	s.Entry.Set("command", command)
	s.Entry.Set("args", append(args, after...))
	if len(env) > 0 {
		s.Entry.Set("env", env)
	}
	return nil
}

// offered makes the entry of a server that is there already.
func (r *reader) offered(s *Server, o object) {
	address := config.Escape(o.text("url"), false)
	for _, m := range o.object("variables") {
		v, _ := m.value.(object)
		address = strings.ReplaceAll(address, "{"+m.key+"}", r.asked(v, r.server+"_"+m.key, "the URL"))
	}
	s.Entry.Set("url", address)
	if o.text("type") == "sse" {
		s.Entry.Set("transport", "sse")
	}
	var headers []config.Key
	for _, h := range list(o.get("headers")) {
		name := r.server + "_" + h.text("name")
		if strings.EqualFold(h.text("name"), "authorization") {
			name = r.server + "_token"
		}
		headers = append(headers, config.Key{Name: h.text("name"), Value: r.asked(h, name, "header "+h.text("name"))})
	}
	if len(headers) > 0 {
		s.Entry.Set("headers", headers)
	}
}

var placeholderForm = regexp.MustCompile(`\{([A-Za-z0-9_]+)\}`)

// asked returns what to write for something that the user has to say, or may say.
func (r *reader) asked(o object, variable, kind string) string {
	why := strings.TrimSuffix(kind+" of "+r.server+": "+o.text("description"), ": ")
	if v := o.text("value"); v != "" {
		// A text such as "Bearer {token}", whose parts are described beside it.
		parts := o.object("variables")
		return placeholderForm.ReplaceAllStringFunc(config.Escape(v, false), func(m string) string {
			inner := strings.Trim(m, "{}")
			if part := parts.object(inner); part != nil {
				return r.asked(part, r.server+"_"+inner, kind)
			}
			return m
		})
	}
	name := variableName(variable)
	secret := o.get("isSecret") == true
	def, hasDefault := o.get("default"), o.get("default") != nil
	switch {
	case secret || o.get("isRequired") == true && !hasDefault:
		r.need(Variable{Name: name, Why: why})
		return "${" + name + "}"
	case hasDefault && strings.ContainsAny(scalarText(def), "${}"):
		return config.Escape(scalarText(def), false)
	}
	return "${" + name + ":-" + scalarText(def) + "}"
}

// packageArguments returns the arguments that are fixed or required.
func (r *reader) packageArguments(v any) []string {
	var args []string
	for _, o := range list(v) {
		var value string
		switch {
		case o.text("value") != "" || o.get("isRequired") == true:
			hint := o.text("valueHint")
			if hint == "" {
				hint = strings.TrimLeft(o.text("name"), "-")
			}
			value = r.asked(o, r.server+"_"+hint, "an argument")
		case o.get("default") != nil:
			value = config.Escape(scalarText(o.get("default")), false)
		case o.text("type") == "named" && o.get("isRequired") == nil && o.text("format") == "" && o.text("valueHint") == "":
			continue // a switch that is off
		default:
			continue
		}
		if name := o.text("name"); o.text("type") == "named" && name != "" {
			args = append(args, name)
		}
		if value != "" {
			args = append(args, value)
		}
	}
	return args
}

func list(v any) []object {
	all, _ := v.([]any)
	var objects []object
	for _, e := range all {
		if o, ok := e.(object); ok {
			objects = append(objects, o)
		}
	}
	return objects
}

func at(id, sep, version string) string {
	if version == "" || version == "latest" {
		return id
	}
	return id + sep + version
}
