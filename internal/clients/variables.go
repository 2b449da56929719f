package clients

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/mcpgw/mcpgw/internal/config"
)

// dialect is how a client writes variables in its file.
type dialect int

const (
	braces   dialect = iota // ${NAME}, ${NAME:-default}, ${env:NAME}, ${input:id}: Claude, VS Code, Cursor, LM Studio
	shell                   // the same, and $NAME: Gemini
	openCode                // {env:NAME}
	none                    // Codex
)

var (
	braceForm    = regexp.MustCompile(`\$\{([^{}]*)\}`)
	dollarForm   = regexp.MustCompile(`\$(\{[^{}]*\}|[A-Za-z_][A-Za-z0-9_]*)`)
	openCodeForm = regexp.MustCompile(`\{(env|file):([^{}]*)\}`)
	nameForm     = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(:-[^${}]*)?$`)
	badInName    = regexp.MustCompile(`[^A-Za-z0-9_]+`)
)

// text translates what stands in a file of a client to what means the same in gateway.yaml.
func (r *reader) text(s string) (string, error) {
	form := map[dialect]*regexp.Regexp{braces: braceForm, shell: dollarForm, openCode: openCodeForm}[r.dialect]
	if form == nil {
		return config.Escape(s, false), nil
	}
	var b strings.Builder
	last := 0
	for _, at := range form.FindAllStringIndex(s, -1) {
		b.WriteString(config.Escape(s[last:at[0]], false))
		v, err := r.variable(strings.Trim(s[at[0]:at[1]], "${}"))
		if err != nil {
			return "", err
		}
		b.WriteString(v)
		last = at[1]
	}
	b.WriteString(config.Escape(s[last:], false))
	return b.String(), nil
}

// variable translates what stands between the brackets.
func (r *reader) variable(name string) (string, error) {
	kind, rest, typed := strings.Cut(name, ":")
	switch {
	case nameForm.MatchString(name) && r.folder(name) == "":
		return "${" + name + "}", nil
	case kind == "env" && nameForm.MatchString(rest):
		return "${" + rest + "}", nil
	case kind == "input" && typed:
		v := r.input(rest)
		return "${" + v + "}", nil
	case name == "pathSeparator" || name == "/":
		return string(filepath.Separator), nil
	case r.folder(name) != "":
		return config.Escape(r.folder(name), false), nil
	}
	return "", fmt.Errorf("the variable %q has no meaning outside of its client", name)
}

// folder resolves the variables for folders.
func (r *reader) folder(name string) string {
	switch name {
	case "workspaceFolder", "workspaceRoot":
		return r.project
	case "workspaceFolderBasename":
		return filepath.Base(r.project)
	case "userHome":
		return r.home
	}
	return ""
}

// input returns the variable that stands for what VS Code asks the user.
func (r *reader) input(id string) string {
	name := "MCPGW_INPUT_" + variableName(id)
	what := ""
	for _, in := range r.inputs {
		if o, ok := in.(object); ok && o.text("id") == id {
			what = o.text("description")
		}
	}
	r.need(Variable{Name: name, Why: strings.TrimSuffix("what the client asked for as "+id+": "+what, ": ")})
	return name
}

// variableName makes the name of an environment variable of a text.
func variableName(s string) string {
	s = strings.Trim(strings.ToUpper(badInName.ReplaceAllString(s, "_")), "_")
	if s == "" || s[0] >= '0' && s[0] <= '9' {
		s = "_" + s
	}
	return s
}
