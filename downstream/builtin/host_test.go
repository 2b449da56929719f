package builtin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	validator "github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

var hostTools = []string{"cpu", "disks", "memory", "network", "overview", "processes", "temperatures"}

// connect returns a client of a host server with the probes p, or of the real machine if p is nil.
func connect(t *testing.T, p *probes, revision string) *mcp.ClientSession {
	t.Helper()
	cfg := Config{Config: kit.Config{Version: "1.2.3"}}
	if p == nil {
		s, err := New("host", cfg)
		if err != nil {
			t.Fatal(err)
		}
		return connectTo(t, s.MCP, revision)
	}
	s, err := newHostWith(cfg, *p)
	if err != nil {
		t.Fatal(err)
	}
	s.AddReceivingMiddleware(protect)
	return connectTo(t, s, revision)
}

func connectTo(t *testing.T, s *mcp.Server, revision string) *mcp.ClientSession {
	t.Helper()
	there, here := mcp.NewInMemoryTransports()
	if _, err := s.Connect(t.Context(), there, nil); err != nil {
		t.Fatal(err)
	}
	c, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).Connect(t.Context(), here, &mcp.ClientSessionOptions{ProtocolVersion: revision})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

type answer struct {
	text       string
	structured map[string]any
	bytes      int
	isError    bool
}

// call calls a tool. Numbers of the structured content are json.Numbers.
func call(t *testing.T, c *mcp.ClientSession, tool string, args map[string]any) answer {
	t.Helper()
	res, err := c.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: args})
	if err != nil {
		t.Fatalf("%s: %v", tool, err)
	}
	whole, err := json.Marshal(res)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{bytes: len(whole), isError: res.IsError}
	if len(res.Content) != 1 {
		t.Fatalf("%s: %d blocks of content, want one text", tool, len(res.Content))
	}
	a.text = res.Content[0].(*mcp.TextContent).Text
	raw, err := json.Marshal(res.StructuredContent)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&a.structured); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestHostTools(t *testing.T) {
	for _, revision := range []string{"2025-11-25", "2026-07-28"} {
		t.Run(revision, func(t *testing.T) {
			c := connect(t, nil, revision)
			init := c.InitializeResult()
			if init.ProtocolVersion != revision || init.Instructions == "" || init.ServerInfo.Version != "1.2.3" {
				t.Errorf("initialize: %+v", init)
			}
			if caps := init.Capabilities; caps.Logging != nil ||
				caps.Tools == nil || caps.Tools.ListChanged || caps.Prompts != nil || caps.Resources != nil {
				t.Errorf("capabilities: %+v, want only tools that do not change", caps)
			}
			list, err := c.ListTools(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := json.Marshal(list)
			if err != nil {
				t.Fatal(err)
			}
			if len(raw) > 8<<10 {
				t.Errorf("tools/list has %d bytes, want at most 8 KiB: clients may put it before a model", len(raw))
			}
			var names []string
			for _, tool := range list.Tools {
				names = append(names, tool.Name)
				if tool.Title == "" || tool.Description == "" {
					t.Errorf("%s: title %q, description %q", tool.Name, tool.Title, tool.Description)
				}
				no := false
				want := &mcp.ToolAnnotations{ReadOnlyHint: true, DestructiveHint: &no, IdempotentHint: true, OpenWorldHint: &no}
				if diff := cmp.Diff(want, tool.Annotations); diff != "" {
					t.Errorf("%s: annotations (-want +got)\n%s", tool.Name, diff)
				}
				compile(t, tool.OutputSchema)
				checkParameters(t, tool)
			}
			if diff := cmp.Diff(hostTools, names); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// checkParameters fails if a parameter of the tool has no description, or is a number without bounds.
func checkParameters(t *testing.T, tool *mcp.Tool) {
	t.Helper()
	compile(t, tool.InputSchema)
	in := tool.InputSchema.(map[string]any)
	if in["type"] != "object" || in["additionalProperties"] != false {
		t.Errorf("%s: input schema %v must be a closed object", tool.Name, in)
	}
	props, _ := in["properties"].(map[string]any)
	for name, p := range props {
		p := p.(map[string]any)
		if p["description"] == nil {
			t.Errorf("%s: parameter %s has no description", tool.Name, name)
		}
		if p["type"] == "integer" && (p["minimum"] == nil || p["maximum"] == nil || p["default"] == nil) {
			t.Errorf("%s: parameter %s has no bounds or no default: %v", tool.Name, name, p)
		}
		if p["type"] == "string" && p["enum"] == nil && p["maxLength"] == nil {
			t.Errorf("%s: parameter %s is not bounded: %v", tool.Name, name, p)
		}
	}
}

// compile compiles a schema with a validator that is not the SDK's.
func compile(t *testing.T, schema any) *validator.Schema {
	t.Helper()
	if schema == nil {
		t.Fatal("no schema")
	}
	c := validator.NewCompiler()
	if err := c.AddResource("schema.json", schema); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestHostResultsMatchTheirSchemas(t *testing.T) {
	fake, huge := fakeMachine(), hugeMachine()
	for name, p := range map[string]*probes{"real": nil, "fake": &fake, "huge": &huge} {
		t.Run(name, func(t *testing.T) {
			c := connect(t, p, "2025-11-25")
			list, err := c.ListTools(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, tool := range list.Tools {
				args := map[string]any{}
				props := tool.InputSchema.(map[string]any)["properties"]
				if p, _ := props.(map[string]any); p["all"] != nil {
					args["all"] = true
				}
				got := call(t, c, tool.Name, args)
				if got.isError {
					t.Errorf("%s: %s", tool.Name, got.text)
					continue
				}
				// Nothing in the schema is required and further members are allowed, so check also that all members are known.
				if err := compile(t, closed(tool.OutputSchema)).Validate(got.structured); err != nil {
					t.Errorf("%s: %v", tool.Name, err)
				}
				checkNumbers(t, tool.Name, got)
			}
		})
	}
}

// closed returns a copy of schema in which no object may have unknown members.
func closed(schema any) any {
	switch s := schema.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, v := range s {
			out[k] = closed(v)
		}
		if s["type"] == "object" {
			out["additionalProperties"] = false
		}
		return out
	default:
		return schema
	}
}

var (
	number = regexp.MustCompile(`(\d+(?:\.\d+)?) ?(%|B|[KMGTPE]iB)?`)
	quoted = regexp.MustCompile(`(?m)^Note: .*$|\d{4}-\d\d-\d\dT[\d:]+Z|\d+ d \d+ h|\d+ h \d+ min|\d+ min \d+ s|\(1, 5, 15 min\)|\d+ (of \d+ )?processes that match`)
)

// checkNumbers fails if the text of an answer holds a number that its structured content does not.
func checkNumbers(t *testing.T, tool string, a answer) {
	t.Helper()
	var have []float64
	words := map[string]bool{}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, m := range v {
				walk(m)
			}
		case []any:
			for _, m := range v {
				walk(m)
			}
		case json.Number:
			f, err := v.Float64()
			if err != nil {
				t.Errorf("%s: number %q: %v", tool, v, err)
			}
			have = append(have, f)
		case string:
			words[v] = true
		}
	}
	walk(a.structured)
	rest := a.text
	// Names and addresses contain digits that are no figures. The longest go first, because one may contain another.
	for _, w := range slices.SortedFunc(keys(words), func(a, b string) int { return len(b) - len(a) }) {
		if strings.ContainsAny(w, "0123456789") {
			rest = strings.ReplaceAll(rest, w, "")
		}
	}
	found := number.FindAllStringSubmatch(quoted.ReplaceAllString(rest, ""), -1)
	if len(found) == 0 && len(have) > 0 {
		t.Errorf("%s: no figures in %q", tool, a.text)
	}
	for _, m := range found {
		f, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		slack := 0.0
		if i := strings.Index("KMGTPE", m[2][:min(len(m[2]), 1)]); m[2] != "" && i >= 0 {
			unit := math.Pow(1024, float64(i+1))
			f, slack = f*unit, 0.051*unit
		}
		if !slices.ContainsFunc(have, func(h float64) bool { return math.Abs(h-f) <= slack+1e-9 }) {
			t.Errorf("%s: the text says %q, which is not in the structured content\n%s\n%v", tool, m[0], a.text, a.structured)
			return
		}
	}
}

func keys(m map[string]bool) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func TestHostTexts(t *testing.T) {
	want := map[string]string{
		"overview": `web1: debian 13.1, kernel 6.12.48, x86_64, kvm guest
up 3 d 4 h, booted 2026-09-21T14:13:20Z, 2 user sessions, 3 processes
CPU: 2 logical processors
Load: 0.50, 0.25, 0.13 (1, 5, 15 min)
Memory: 25.0% used, 11.0 GiB of 16.0 GiB available
Fullest disk: / 25.0% used, 75.0 GiB free`,
		"cpu": `Fast CPU 9000, 3200.0 MHz, 2 physical cores, 2 logical processors
Usage over 200 ms: 50.0% busy (user 37.5%, system 12.5%, steal 0.0%), waiting for I/O 25.0%
Per processor: 25.0% 75.0%
Load: 0.50, 0.25, 0.13 (1, 5, 15 min)`,
		"memory": `RAM: 4.0 GiB of 16.0 GiB used (25.0%), 11.0 GiB available, 6.0 GiB free, 5.0 GiB cached
Swap: 512.0 MiB of 2.0 GiB used (25.0%)`,
		"disks": `/mnt/nas (cifs, //nas/share, read-only): 75.0% used, 768.0 GiB of 1.0 TiB, 256.0 GiB free
/ (ext4, /dev/vda1): 25.0% used, 25.0 GiB of 100.0 GiB, 75.0 GiB free, inodes 3.1% used
Device vda: read 2.0 GiB in 1000 reads, written 1.0 GiB in 500 writes, busy 1234 ms
Device dm-10: read 4.0 KiB in 3 reads, written 0 B in 0 writes, busy 0 ms`,
		"network": `eth0 (up, MTU 1500, MAC 02:00:00:00:00:01): 192.0.2.7/24 2001:db8::7/64
  received 3.0 GiB in 3000 packets, sent 1.0 GiB in 1000 packets, 3 errors, 12 dropped
wg0 (up, MTU 1420): no address
Note: 2 loopback, down or container interfaces left out; all=true shows them`,
		"temperatures": `coretemp_package_id_0: 55.0 °C
nvme_composite: 38.9 °C (high 81.9 °C, critical 84.9 °C)`,
		"processes": `3 of 3 processes that match, 3 in all
1 task-1: CPU 200.0%, memory 1.0 MiB, user www, sleep, started 2026-09-21T14:15:00Z
20 task-20: CPU 10.0%, memory 20.0 MiB (0.1%), user www, sleep, started 2026-09-21T14:15:00Z
300 task-300: CPU 0.7%, memory 300.0 MiB (1.8%), user www, sleep, started 2026-09-21T14:15:00Z`,
	}
	synctest.Test(t, func(t *testing.T) {
		p := fakeMachine()
		c := connect(t, &p, "")
		for _, tool := range hostTools {
			if diff := cmp.Diff(want[tool], call(t, c, tool, nil).text); diff != "" {
				t.Errorf("%s (-want +got)\n%s", tool, diff)
			}
		}
		c.Close()
	})
}

func TestHostArguments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fakeMachine()
		c := connect(t, &p, "")
		if got := call(t, c, "processes", map[string]any{"sort": "memory", "limit": 1}).text; !strings.Contains(got, "\n300 task-300") || strings.Contains(got, "task-20") {
			t.Errorf("sorted by memory: %s", got)
		}
		got := call(t, c, "processes", map[string]any{"name": "TASK-2", "interval_ms": 2000}).text
		if !strings.HasPrefix(got, "1 of 1 processes that match, 3 in all\n20 task-20: CPU 2.5%") {
			t.Errorf("filtered by name: %s", got)
		}
		if got := call(t, c, "disks", map[string]any{"all": true}).text; !strings.Contains(got, "/proc (proc, proc)") || !strings.Contains(got, "Device loop0") || !strings.Contains(got, "/srv/bound") {
			t.Errorf("all disks: %s", got)
		}
		if got := call(t, c, "network", map[string]any{"all": true}).text; !strings.Contains(got, "127.0.0.1/8") || !strings.Contains(got, "veth12") {
			t.Errorf("all interfaces: %s", got)
		}
		if got := call(t, c, "cpu", map[string]any{"max_cores": 1, "interval_ms": 1000}).text; !strings.Contains(got, "Per processor: 25.0%\n") || !strings.Contains(got, "Usage over 1000 ms") || !strings.Contains(got, "max_cores=2") {
			t.Errorf("one core: %s", got)
		}
		c.Close()
	})
}

func TestHostBadArguments(t *testing.T) {
	c := connect(t, nil, "")
	for _, test := range []struct {
		tool string
		args map[string]any
		want []string // in the error
	}{
		{"processes", map[string]any{"limit": 101}, []string{"limit", "maximum", "100"}},
		{"processes", map[string]any{"limit": 0}, []string{"limit", "minimum", "1"}},
		{"processes", map[string]any{"sort": "size"}, []string{"sort", "size", "cpu memory"}},
		{"processes", map[string]any{"name": strings.Repeat("x", 101)}, []string{"name", "maxLength"}},
		{"processes", map[string]any{"name": 7}, []string{"name", "string"}},
		{"cpu", map[string]any{"interval_ms": 60_000}, []string{"interval_ms", "2000"}},
		{"cpu", map[string]any{"interval_ms": 100.5}, []string{"interval_ms", "integer"}},
		{"disks", map[string]any{"all": "yes"}, []string{"all", "boolean"}},
		{"overview", map[string]any{"verbose": true}, []string{"verbose"}},
	} {
		got := call(t, c, test.tool, test.args)
		if !got.isError {
			t.Errorf("%s %v: no error: %s", test.tool, test.args, got.text)
		}
		for _, w := range test.want {
			if !strings.Contains(got.text, w) {
				t.Errorf("%s %v: %q does not say %q", test.tool, test.args, got.text, w)
			}
		}
	}
	if _, err := c.CallTool(t.Context(), &mcp.CallToolParams{Name: "reboot"}); err == nil || !strings.Contains(err.Error(), "reboot") {
		t.Errorf("unknown tool: %v", err)
	}
}

func TestHostRealMachine(t *testing.T) {
	c := connect(t, nil, "")
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if got := call(t, c, "overview", nil).structured["hostname"]; got != name {
		t.Errorf("hostname %v, want %s", got, name)
	}
	if got := fmt.Sprint(call(t, c, "cpu", map[string]any{"interval_ms": 50}).structured["logical_cpus"]); got == "0" {
		t.Errorf("%s processors", got)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	base := strings.TrimSuffix(filepath.Base(self), filepath.Ext(self))
	got := call(t, c, "processes", map[string]any{"name": base[:min(len(base), 15)], "limit": 100, "interval_ms": 100})
	list, _ := got.structured["processes"].([]any)
	if !slices.ContainsFunc(list, func(p any) bool { return fmt.Sprint(p.(map[string]any)["pid"]) == strconv.Itoa(os.Getpid()) }) {
		t.Errorf("process %d (%s) is not listed: %s", os.Getpid(), base, got.text)
	}
}

// A process that sets its title overwrites its command line, from which long names are completed.
func TestHostProcessNamesHoldNoArguments(t *testing.T) {
	for name, want := range map[string]string{
		"short": "short", "everything-server": "everything-server", "long-secret-tool --token=hunter2": "long-secret-too",
		"postgres: user hunter2@db": "postgres: user ", "long-secret-key=hunter2": "long-secret-key",
	} {
		if got := bareName(name); got != want {
			t.Errorf("bareName(%q) = %q, want %q", name, got, want)
		}
	}
	if runtime.GOOS != "linux" {
		return
	}
	program := filepath.Join(t.TempDir(), "long-secret-tool")
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, self, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Args = []string{"long-secret-tool --token=hunter2"}
	cmd.Env = []string{"MCPGW_TEST_WAIT=1"}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil { // it runs
		t.Fatal(err)
	}
	got := call(t, connect(t, nil, ""), "processes", map[string]any{"name": "long-secret", "interval_ms": 100})
	if !strings.Contains(got.text, strconv.Itoa(cmd.Process.Pid)+" long-secret-too: ") || strings.Contains(got.text, "hunter2") {
		t.Error(got.text)
	}
}

func TestMain(m *testing.M) {
	if os.Getenv("MCPGW_TEST_WAIT") != "" {
		os.Stdout.Write([]byte{'.'})
		io.Copy(io.Discard, os.Stdin)
		return
	}
	os.Exit(m.Run())
}

func BenchmarkHostOverview(b *testing.B) {
	h := &hostServer{probes: machine()}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.overview(b.Context(), noArgs{}); err != nil {
			b.Fatal(err)
		}
	}
}
