package archtest

import "strings"

const module = "github.com/mcpgw/mcpgw/"

// plan lists every package with the ones of this module that it may import. Imports go down only: cmd/mcpgw, gateway, resilience
// and downstream, server.
var plan = map[string][]string{
	"cmd/mcpgw":              {"gateway", "internal/clients", "internal/config", "telemetry", "downstream"}, // downstream: only MaybeReaper, see calls
	"gateway":                {"downstream", "resilience", "telemetry", "internal/wire"},
	"downstream":             {"downstream/builtin", "downstream/builtin/kit", "downstream/builtin/lab", "downstream/internal/proc", "telemetry", "internal/wire"},
	"downstream/builtin/kit": {"telemetry", "internal/wire"},
	"downstream/builtin/lab": {},

	"downstream/builtin/kit/kittest": {"downstream/builtin/kit", "downstream/builtin/lab"},
	"downstream/internal/proc":       {},
	"resilience":                     {},
	"telemetry":                      {},
	"internal/wire":                  {},
	"internal/config":                {"gateway", "downstream", "resilience", "telemetry"}, // for their Config types
	"internal/clients":               {"internal/config"},                                  // for its entries
	"internal/mcptest":               {"internal/wire"},
	"internal/archtest":              {},
}

// mayImport returns what a package may import of ours, and whether the plan has a place for it. Everything under integration sees
// only the built binary, and helpers.
func mayImport(pkg string) ([]string, bool) {
	if under(pkg, "integration") {
		return []string{"integration", "internal/mcptest", "internal/wire"}, true
	}
	if may, ok := plan[pkg]; ok {
		return may, true
	}
	switch {
	case pkg == "downstream/builtin": // the register of all built-in servers
		return []string{"downstream/builtin", "telemetry", "internal/wire"}, true
	case strings.HasPrefix(pkg, "downstream/builtin/") && strings.HasSuffix(pkg, "/sim"): // a simulator, which knows nothing of the server that is tried on it
		return []string{"downstream/builtin/lab"}, true
	case strings.HasPrefix(pkg, "downstream/builtin/"): // one system; its tests use its simulator
		return []string{"downstream/builtin/kit", "downstream/builtin/kit/kittest", "downstream/builtin/lab", "downstream/builtin/rest", pkg + "/sim", "telemetry", "internal/wire"}, true
	}
	return nil, false
}

// kept lists modules that belong to one package, so that a change of heart about one of them stays in one room. Tests may read what
// the OpenTelemetry SDK has recorded.
var kept = []struct {
	module, by string
	tests      bool // tests of other packages may import it too
}{
	{"github.com/failsafe-go/failsafe-go", "resilience", false},
	{"go.opentelemetry.io/otel/sdk", "telemetry", true},
	{"go.opentelemetry.io/otel/exporters", "telemetry", true},
	{"go.opentelemetry.io/contrib", "telemetry", true},
	{"github.com/prometheus", "telemetry", true},
	{"github.com/spf13", "cmd/mcpgw", false},
	{"go.yaml.in", "internal/config", false},
	{"gopkg.in/yaml.v2", "internal/config", false},
	{"gopkg.in/yaml.v3", "internal/config", false},
	{"github.com/goccy/go-yaml", "internal/config", false},
	{"sigs.k8s.io/yaml", "internal/config", false},
}

// strangers are what nobody imports, but for tests that silence a library with them.
var strangers = map[string]string{
	"log":                   "use log/slog with the logger you were given",
	"math/rand":             "use math/rand/v2",
	"io/ioutil":             "use io and os",
	"github.com/pkg/errors": "use errors and fmt",
}

// calls are functions and variables that only some files may use.
var calls = []struct {
	pkg, prefix string // of the name: time.Sleep, fmt.Print*
	allowed     func(f file) bool
	why         string
}{
	{"downstream", "", func(f file) bool { return f.pkg != "cmd/mcpgw" }, "the command line knows the gateway only; main calls downstream.MaybeReaper"},
	{"time", "Sleep", func(f file) bool { return f.imports["testing/synctest"] }, "wait for an event, or run under testing/synctest"},
	{"fmt", "Print", program, "stdout belongs to MCP"},
	{"os", "Stdout", program, "stdout belongs to MCP"},
	// A reaper is a process of its own that happens to have the same binary.
	{"os", "Exit", func(f file) bool { return program(f) || f.pkg == "downstream/internal/proc" }, "only main ends the process: return an error"},
	{"slog", "Default", never, "use the logger you were given"},
	{"slog", "SetDefault", never, "use the logger you were given"},
}

// program says whether f is part of something that has a process, and its standard files, to itself: the command, the programs of
// the integration tests, and tests that start themselves as a server.
func program(f file) bool {
	return f.test || f.pkg == "cmd/mcpgw" || f.pkg == "internal/mcptest" || under(f.pkg, "integration")
}

func never(file) bool { return false }

// maxLines keeps a file to one concern. Tests may be longer: tables are.
const (
	maxLines     = 500
	maxTestLines = 1000
)

// under says whether path is dir or lies in it.
func under(path, dir string) bool { return strings.HasPrefix(path+"/", dir+"/") }
