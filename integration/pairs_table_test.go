package integration

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestPairTable: the table in docs/transparency.md has a row for every pairing and a column for every test that runs in all of them, and
// explains each letter in its cells.
func TestPairTable(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "docs", "transparency.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "\n## Every pairing\n")
	var rows [][]string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			break
		}
		if strings.HasPrefix(line, "| ") {
			cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
			for i := range cells {
				cells[i] = strings.Trim(cells[i], " `")
			}
			rows = append(rows, cells)
		}
	}
	if len(rows) != 1+len(pairs()) {
		t.Fatalf("%d rows, want %d", len(rows)-1, len(pairs()))
	}
	tests := everyCellTests(t)
	columns := rows[0][1:]
	if len(columns) != len(tests) {
		t.Errorf("%d columns, but %d tests run in every pairing", len(columns), len(tests))
	}
	for _, name := range columns {
		if !tests[name] {
			t.Errorf("column %s: no such test runs in every pairing", name)
		}
	}
	used := map[string]bool{}
	for i, p := range pairs() {
		row := rows[i+1]
		if row[0] != p.String() || len(row) != len(rows[0]) {
			t.Errorf("row %d is %q with %d cells, want %s with %d", i+1, row[0], len(row), p, len(rows[0]))
		}
		for _, cell := range row[1:] {
			marks := strings.Fields(cell)
			if len(marks) == 0 || marks[0] != "✓" {
				t.Errorf("%s: a cell says %q", row[0], cell)
				continue
			}
			for _, m := range marks[1:] {
				used[m] = true
			}
		}
	}
	notes := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\* ([a-z]): `).FindAllStringSubmatch(text, -1) {
		notes[m[1]] = true
		if !used[m[1]] {
			t.Errorf("note %s belongs to no cell", m[1])
		}
	}
	for m := range used {
		if !notes[m] {
			t.Errorf("no note explains %s", m)
		}
	}
}

// everyCellTests returns the tests of this package that call everyCell.
func everyCellTests(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || !strings.HasPrefix(fn.Name.Name, "Test") {
				continue
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok {
					if id, ok := call.Fun.(*ast.Ident); ok && id.Name == "everyCell" {
						tests[fn.Name.Name] = true
					}
				}
				return true
			})
		}
	}
	return tests
}
