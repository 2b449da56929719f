package config

import (
	"fmt"
	"os"
	"reflect"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/gateway"
	"github.com/mcpgw/mcpgw/telemetry"
)

// File is what a valid gateway.yaml says.
type File struct {
	Settings  gateway.Settings
	Telemetry telemetry.Config
	Warnings  []*Fault // what is valid and still worth knowing, sorted by line
}

// document is the file from its top: a new section is a field here, its value before decoding in newDocument, and a line in
// [document.file] and [document.validate]. Sections are decoded in the order of the fields, so that one can supply the defaults
// of a later one.
type document struct {
	Gateway     gateway.Config    `yaml:"gateway" doc:"The endpoint that clients connect to."`
	Downstreams map[string]server `yaml:"downstreams" keys:"^[A-Za-z0-9_-]{1,30}$" names:"1 to 30 letters, digits, '-' and '_'" doc:"The MCP servers behind the gateway, by name. The name becomes part of tool names (NAME__tool) and of /servers/NAME/mcp."`
	Resilience  resilienceSection `yaml:"resilience" doc:"What keeps a server that fails from harming others: circuit breakers, retries, timeouts, queues."`
	Telemetry   telemetry.Config  `yaml:"telemetry" doc:"What the gateway tells about itself."`
}

// server is an entry of downstreams. Sections that belong to a downstream but to another package stand beside the embedded Config.
type server struct {
	downstream.Config `yaml:",inline"`
	Resilience        serverPolicies `yaml:"resilience" doc:"What is different for the calls to this server."`
}

// required are the keys at the top without which a file says nothing.
var required = []string{"downstreams"}

const smallest = `the smallest valid file is

    downstreams:
      host:
        preset: host`

func newDocument() *document {
	return &document{Gateway: gateway.DefaultConfig(), Resilience: newResilienceSection(), Telemetry: telemetry.DefaultConfig()}
}

// initial returns what a new element of a map or list is before its keys are decoded over it.
func (doc *document) initial(t reflect.Type) reflect.Value {
	switch t {
	case reflect.TypeFor[server]():
		return reflect.ValueOf(server{Config: downstream.DefaultConfig(), Resilience: newServerPolicies()})
	case reflect.TypeFor[policies]():
		return reflect.ValueOf(newPolicies())
	case reflect.TypeFor[toolPolicies]():
		return reflect.ValueOf(newToolPolicies())
	case reflect.TypeFor[gateway.Fallback]():
		return reflect.ValueOf(gateway.DefaultFallback())
	case reflect.TypeFor[gateway.CacheFallback]():
		return reflect.ValueOf(gateway.DefaultCacheFallback())
	case reflect.TypeFor[gateway.Pattern]():
		return reflect.ValueOf(gateway.DefaultPattern())
	}
	if v, ok := downstream.Initial(t); ok {
		return v
	}
	return reflect.Zero(t)
}

func (doc *document) file(m *merger) *File {
	f := &File{
		Settings: gateway.Settings{
			Gateway: doc.Gateway, Downstreams: make(map[string]downstream.Config, len(doc.Downstreams)),
			Policies: make(map[string]gateway.Policies, len(doc.Downstreams)), Admission: doc.Resilience.Admission,
		},
		Telemetry: doc.Telemetry,
	}
	for name, s := range doc.Downstreams {
		f.Settings.Downstreams[name] = s.Config
		f.Settings.Policies[name] = m.server(name, s.Preset, &s.Resilience)
	}
	return f
}

// validate returns what each package finds wrong with its section, under the path at which that section stands.
func (f *File) validate() map[string]error {
	return map[string]error{
		"":          f.Settings.Validate(),
		"telemetry": f.Telemetry.Validate(),
	}
}

// Load reads the named file and decodes it with the environment of this process. It also returns the content, by which a later
// change can be noticed; what is wrong with the content is an [*Error].
func Load(path string) (*File, []byte, error) {
	data, err := os.ReadFile(path) //nolint:gosec // the file is the one that the user names
	if err != nil {
		return nil, nil, fmt.Errorf("reading the configuration: %w", err)
	}
	f, err := Parse(path, data, os.LookupEnv)
	return f, data, err
}

// Parse decodes the content of a file. The name stands in errors; lookup answers ${NAME}. The error is an [*Error] with every
// fault. No error shows a secret or the value of an environment variable: texts appear as they are written in the file.
func Parse(name string, data []byte, lookup func(string) (string, bool)) (*File, error) {
	d := &decoder{faults: faults{file: name}, lookup: lookup, budget: maxNodes, places: map[string]place{}, layers: map[string][]string{}}
	doc := newDocument()
	d.initial = doc.initial
	if root := d.parse(data); root != nil {
		d.root(root, reflect.ValueOf(doc).Elem())
	}
	m := &merger{d: d, top: &doc.Resilience, off: d.killed()}
	f := doc.file(m)
	if !d.exhausted() {
		for prefix, err := range m.unused() {
			d.judge(prefix, err)
		}
		for prefix, err := range f.validate() {
			d.judge(prefix, err)
		}
	}
	if err := d.err(); err != nil {
		return nil, err
	}
	f.Warnings = d.warnings(f, m.off)
	return f, nil
}
