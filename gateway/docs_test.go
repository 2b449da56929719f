package gateway

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestDocumentedTestsExist: the page about the policies names the test of each key, and every test it names is there.
func TestDocumentedTestsExist(t *testing.T) {
	page, err := os.ReadFile("../docs/resilience.md")
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	for _, dir := range []string{"../resilience", ".", "../internal/config", "../cmd/mcpgw", "../downstream", "../downstream/builtin/kit", "../telemetry"} {
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", dir, len(files), err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			tests.Write(b)
		}
	}
	checklist(t, string(page))
	names := regexp.MustCompile(`\bTest[A-Z]\w+`).FindAllString(string(page), -1)
	if len(names) < 50 {
		t.Errorf("only %d tests are named", len(names))
	}
	for _, name := range names {
		if !strings.Contains(tests.String(), "func "+name+"(t *testing.T)") {
			t.Errorf("docs/resilience.md names %s, which does not exist", name)
		}
	}
}

// checklist checks that the table of sources has every row of them, each with a test.
func checklist(t *testing.T, page string) {
	t.Helper()
	_, table, _ := strings.Cut(page, "## The sources of the policies")
	has := map[string]bool{}
	for _, row := range regexp.MustCompile(`(?m)^\| (\d\.\d+) \|[^|]+\|([^|]*)\|$`).FindAllStringSubmatch(table, -1) {
		if has[row[1]] {
			t.Errorf("row %s is there twice", row[1])
		}
		has[row[1]] = true
		if !strings.Contains(row[2], "Test") {
			t.Errorf("row %s names no test", row[1])
		}
	}
	n := 0
	for source, rows := range []int{23, 11, 16, 12, 18} {
		for i := range rows {
			n++
			if id := strconv.Itoa(source) + "." + strconv.Itoa(i+1); !has[id] {
				t.Errorf("row %s is missing", id)
			}
		}
	}
	if len(has) != n {
		t.Errorf("%d rows, want %d", len(has), n)
	}
}
