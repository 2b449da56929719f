package telemetry

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of metrics into docs/telemetry.md")

const page = "../docs/telemetry.md"

// documented is the table as the page shows it.
func documented() string {
	var b strings.Builder
	b.WriteString("\n| metric | in Prometheus | kind, unit | attributes | what it tells |\n|---|---|---|---|---|\n")
	for _, d := range Table() {
		attrs := "–"
		if len(d.Attrs) > 0 {
			attrs = "`" + strings.Join(d.Attrs, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s, `%s` | %s | %s |\n", d.Name, d.inPrometheus(), d.Kind, d.Unit, attrs, d.Help)
	}
	return b.String() + "\n"
}

// inPrometheus is the name that Prometheus gives a metric. A test of package gateway compares such names with a real scrape.
func (d *Def) inPrometheus() string {
	if d.Name == "go.goroutine.count" {
		return "go_goroutines"
	}
	name := strings.ReplaceAll(d.Name, ".", "_") + map[string]string{"s": "_seconds", "By": "_bytes", "1": "_ratio"}[d.Unit]
	if d.Kind == Counter {
		name += "_total"
	}
	return name
}

func TestPageShowsTheTable(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), "telemetry/metrics_table.go -->\n")
	got, after, ok2 := strings.Cut(rest, "<!-- end of metrics -->")
	if !ok || !ok2 {
		t.Fatal("the page has no place for the table")
	}
	want := documented()
	if got == want {
		return
	}
	if !*update {
		t.Fatal("docs/telemetry.md differs from telemetry/metrics_table.go: run go test ./telemetry -update")
	}
	if err := os.WriteFile(page, []byte(before+"telemetry/metrics_table.go -->\n"+want+"<!-- end of metrics -->"+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
