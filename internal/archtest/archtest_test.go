package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// file is what the rules look at.
type file struct {
	pkg     string // folder from the root of the repository
	test    bool
	imports map[string]bool
}

// TestHouse checks every Go file of the repository. It reads the files itself rather than asking "go list", so that the test cache
// sees what the result depends on.
func TestHouse(t *testing.T) {
	root := os.DirFS("../..")
	seen := map[string]bool{}
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || d.Name() == "node_modules" || d.Name() != "." && strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		src, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		seen[path.Dir(name)] = true
		for _, fault := range inspect(name, src) {
			t.Error(fault)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !seen["cmd/mcpgw"] || !seen["internal/archtest"] {
		t.Errorf("the walk did not come by cmd/mcpgw and internal/archtest: it saw %d folders", len(seen))
	}
}

// inspect returns what the file called name (from the root of the repository) does against the plan.
func inspect(name string, src []byte) []string {
	f := file{pkg: path.Dir(filepath.ToSlash(name)), test: strings.HasSuffix(name, "_test.go"), imports: map[string]bool{}}
	var faults []string
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, name, src, parser.SkipObjectResolution)
	if err != nil {
		return []string{err.Error()}
	}
	fault := func(pos token.Pos, format string, args ...any) {
		p := set.Position(pos)
		faults = append(faults, fmt.Sprintf("%s:%d: ", p.Filename, p.Line)+fmt.Sprintf(format, args...))
	}
	if _, ok := mayImport(f.pkg); !ok {
		fault(parsed.Package, "package %s is not on the plan", f.pkg)
	}
	for _, spec := range parsed.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			fault(spec.Pos(), "%v", err)
			continue
		}
		f.imports[imp] = true
		for _, why := range f.refuses(imp) {
			fault(spec.Pos(), "%s", why)
		}
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		x, ok := sel.X.(*ast.Ident)
		if !ok {
			return true
		}
		for _, c := range calls {
			if x.Name == c.pkg && strings.HasPrefix(sel.Sel.Name, c.prefix) && !c.allowed(f) && sel.Sel.Name != "MaybeReaper" {
				fault(sel.Pos(), "%s.%s: %s", x.Name, sel.Sel.Name, c.why)
			}
		}
		return true
	})
	most := maxLines
	if f.test {
		most = maxTestLines
	}
	if lines := strings.Count(string(src), "\n"); lines > most {
		faults = append(faults, fmt.Sprintf("%s: %d lines, at most %d: the file has two jobs", name, lines, most))
	}
	return faults
}

// refuses says why f must not import imp.
func (f file) refuses(imp string) []string {
	var faults []string
	if ours, ok := strings.CutPrefix(imp, module); ok {
		may, _ := mayImport(f.pkg)
		if f.test {
			// A test may use the servers that misbehave on request, and stand outside of its own package.
			may = append(slices.Clone(may), "internal/mcptest", "internal/wire", f.pkg)
		}
		allowed := slices.ContainsFunc(may, func(m string) bool {
			return ours == m || (m == "integration" || m == "downstream/builtin" && f.pkg == m) && under(ours, m)
		})
		if !allowed {
			faults = append(faults, fmt.Sprintf("%s must not import %s", f.pkg, ours))
		}
	}
	for _, k := range kept {
		if under(imp, k.module) && f.pkg != k.by && (!k.tests || !f.test) && !under(f.pkg, "integration") {
			faults = append(faults, fmt.Sprintf("only %s may import %s", k.by, imp))
		}
	}
	if why, ok := strangers[imp]; ok && !f.test {
		faults = append(faults, fmt.Sprintf("nobody imports %s: %s", imp, why))
	}
	return faults
}

// TestInspect shows that the rules can fail.
func TestInspect(t *testing.T) {
	tests := []struct {
		name, src string
		want      []string
	}{
		{"gateway/a.go", "package gateway\nimport _ \"github.com/mcpgw/mcpgw/downstream\"\n", nil},
		{"gateway/a_test.go", "package gateway_test\nimport _ \"github.com/mcpgw/mcpgw/gateway\"\nimport _ \"github.com/mcpgw/mcpgw/internal/mcptest\"\n", nil},
		{"downstream/a.go", "package downstream\nimport _ \"github.com/mcpgw/mcpgw/gateway\"\n", []string{"downstream/a.go:2: downstream must not import gateway"}},
		{"downstream/a_test.go", "package downstream\nimport _ \"github.com/mcpgw/mcpgw/gateway\"\n", []string{"downstream/a_test.go:2: downstream must not import gateway"}},
		{"gateway/a.go", "package gateway\nimport _ \"github.com/mcpgw/mcpgw/internal/mcptest\"\n", []string{"gateway/a.go:2: gateway must not import internal/mcptest"}},
		{"integration/bench/a.go", "package main\nimport _ \"github.com/mcpgw/mcpgw/gateway\"\nimport _ \"github.com/mcpgw/mcpgw/integration/internal/x\"\n", []string{"integration/bench/a.go:2: integration/bench must not import gateway"}},
		{"util/a.go", "package util\n", []string{"util/a.go:1: package util is not on the plan"}},
		{"gateway/a.go", "package gateway\nimport _ \"github.com/failsafe-go/failsafe-go/retrypolicy\"\n", []string{"gateway/a.go:2: only resilience may import github.com/failsafe-go/failsafe-go/retrypolicy"}},
		{"gateway/a.go", "package gateway\nimport _ \"go.opentelemetry.io/otel/trace\"\nimport _ \"go.opentelemetry.io/otel/sdk/trace\"\n", []string{"gateway/a.go:3: only telemetry may import go.opentelemetry.io/otel/sdk/trace"}},
		{"gateway/a_test.go", "package gateway\nimport _ \"go.opentelemetry.io/otel/sdk/trace\"\n", nil},
		{"gateway/a.go", "package gateway\nimport _ \"github.com/spf13/cobra\"\nimport _ \"go.yaml.in/yaml/v3\"\nimport _ \"log\"\n", []string{
			"gateway/a.go:2: only cmd/mcpgw may import github.com/spf13/cobra", "gateway/a.go:3: only internal/config may import go.yaml.in/yaml/v3",
			"gateway/a.go:4: nobody imports log: use log/slog with the logger you were given",
		}},
		{"gateway/a.go", "package gateway\nimport \"time\"\nfunc f() { time.Sleep(1) }\n", []string{"gateway/a.go:3: time.Sleep: wait for an event, or run under testing/synctest"}},
		{"gateway/a_test.go", "package gateway\nimport \"time\"\nimport _ \"testing/synctest\"\nfunc f() { time.Sleep(1) }\n", nil},
		{"gateway/a.go", "package gateway\nimport \"fmt\"\nimport \"os\"\nfunc f() { fmt.Printf(\"\"); fmt.Fprint(os.Stdout); os.Exit(1) }\n", []string{
			"gateway/a.go:4: fmt.Printf: stdout belongs to MCP", "gateway/a.go:4: os.Stdout: stdout belongs to MCP", "gateway/a.go:4: os.Exit: only main ends the process: return an error",
		}},
		{"gateway/a_test.go", "package gateway\nimport \"os\"\nfunc f() { os.Exit(1) }\n", nil},
		{"cmd/mcpgw/a.go", "package main\nimport \"os\"\nfunc f() { os.Exit(1) }\n", nil},
		{"cmd/mcpgw/a.go", "package main\nimport \"github.com/mcpgw/mcpgw/downstream\"\nfunc f() { downstream.MaybeReaper(); downstream.New() }\n", []string{
			"cmd/mcpgw/a.go:3: downstream.New: the command line knows the gateway only; main calls downstream.MaybeReaper",
		}},
		{"gateway/a.go", "package gateway\n" + strings.Repeat("\n", maxLines), []string{"gateway/a.go: 501 lines, at most 500: the file has two jobs"}},
		{"gateway/a.go", "package gateway\nfunc {\n", []string{"gateway/a.go:2:6: expected 'IDENT', found '{'"}},
	}
	for _, tt := range tests {
		if d := cmp.Diff(tt.want, inspect(tt.name, []byte(tt.src))); d != "" {
			t.Errorf("%s %q: %s", tt.name, tt.src, d)
		}
	}
}
