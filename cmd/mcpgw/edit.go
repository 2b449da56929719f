package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mcpgw/mcpgw/internal/clients"
	"github.com/mcpgw/mcpgw/internal/config"
)

// draft is a configuration file that is being edited.
type draft struct {
	path      string
	was, data []byte // was is nil if there is no file yet
}

// draft reads the configuration file. It need not be valid, but it must be there, unless create is set.
func (a *app) draft(create bool) (*draft, error) {
	path, err := a.find()
	if err != nil && create {
		return &draft{path: "gateway.yaml", data: []byte(fileHead)}, nil
	}
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path) //nolint:gosec // the file is the one that the user names
	if errors.Is(err, fs.ErrNotExist) && create {
		return &draft{path: path, data: []byte(fileHead)}, nil
	}
	if err != nil {
		return nil, &exitError{exitConfig, fmt.Errorf("reading the configuration: %w", err)}
	}
	if data == nil {
		data = []byte{}
	}
	return &draft{path: path, was: data, data: data}, nil
}

// add puts an entry into the draft, if the file is valid with it. It returns the variables of the entry that are not set here.
func (d *draft) add(e config.Entry) (unset []string, err error) {
	data, err := config.Add(d.data, e)
	if err != nil {
		return nil, err
	}
	if unset, err = config.Verify(d.path, data); err != nil {
		return nil, d.invalid(err)
	}
	d.data = data
	text := e.String()
	return slices.DeleteFunc(unset, func(name string) bool { return !strings.Contains(text, "${"+name) }), nil
}

// invalid tells apart what was wrong before from what the edit would make wrong.
func (d *draft) invalid(err error) error {
	if d.was != nil {
		if _, before := config.Verify(d.path, d.was); before != nil {
			return &exitError{exitConfig, fmt.Errorf("%s is not valid as it is; nothing was written. Mend it first:\n%w", d.path, before)}
		}
	}
	return &exitError{exitConfig, fmt.Errorf("nothing was written, because the file would not be valid (places are those in the file with the change):\n%w", err)}
}

// write puts the draft in the place of the file.
func (d *draft) write() error {
	if err := config.Replace(d.path, d.was, d.data); err != nil {
		return fmt.Errorf("writing the configuration: %w", err)
	}
	return nil
}

// secrets is what to do with the values of secrets that were replaced by variables.
type secrets struct {
	show bool
	file string
}

func (s *secrets) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&s.show, "show-secrets", false, "print the values of secrets in the export lines")
	cmd.Flags().StringVar(&s.file, "env-file", "", "append NAME=value for each secret to this `file`, readable only by its owner")
}

// tell says which variables have to be set before the gateway starts, and writes those that are known into the file for them.
func (a *app) tell(s *secrets, variables []clients.Variable, unset []string) error {
	known := map[string]bool{}
	var lines []string
	var file strings.Builder
	for _, v := range variables {
		known[v.Name] = true
		if now, ok := os.LookupEnv(v.Name); ok && (v.Value == "" || v.Value == now) {
			continue
		}
		value := "…"
		switch {
		case v.Value != "" && s.file != "":
			fmt.Fprintf(&file, "%s=%s\n", v.Name, quoteShell(v.Value))
			continue
		case v.Value != "" && s.show:
			value = v.Value
		}
		lines = append(lines, fmt.Sprintf("  export %s=%s   # %s", v.Name, quoteShell(value), v.Why))
	}
	for _, name := range unset {
		if !known[name] {
			lines = append(lines, fmt.Sprintf("  export %s='…'", name))
		}
	}
	if len(lines) > 0 {
		a.say("Set before the gateway starts:\n%s", strings.Join(lines, "\n"))
	}
	if file.Len() == 0 {
		return nil
	}
	f, err := os.OpenFile(s.file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("--env-file: %w", err)
	}
	_, err = f.WriteString(file.String())
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("--env-file: %w", err)
	}
	a.say("Secrets were added to %s. Before the gateway starts:\n  set -a; . %s; set +a", s.file, quoteShell(pathFor(s.file)))
	return nil
}

// pathFor makes a path that the shell's "." does not look for in PATH.
func pathFor(path string) string {
	if strings.ContainsRune(path, os.PathSeparator) {
		return path
	}
	return "." + string(os.PathSeparator) + path
}

// say tells people something beside the data that a command prints.
func (a *app) say(format string, args ...any) {
	_, _ = fmt.Fprintf(a.stderr, format+"\n", args...)
}

// quoteShell writes s as one word of a shell.
func quoteShell(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("_-./:@%+,", c))
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
