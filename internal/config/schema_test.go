package config

import (
	"bytes"
	"flag"
	"maps"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write gateway.schema.json anew")

const schemaFile = "../../gateway.schema.json"

// TestSchemaFile keeps the file in the repository, which editors use, equal to the code.
func TestSchemaFile(t *testing.T) {
	want := Schema()
	if *update {
		if err := os.WriteFile(schemaFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("gateway.schema.json is not what the code says; run go test ./internal/config -update\n%s", d)
	}
}

// compile reads the schema with a validator that is not ours.
func compile(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("gateway.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("gateway.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestAgreement gives the same files to Parse and to the schema. What only one of them can judge is marked.
func TestAgreement(t *testing.T) {
	const (
		both   = "both accept"
		none   = "both refuse"
		deeper = "only Parse refuses" // a rule that a schema cannot hold
	)
	tests := []struct{ want, text string }{
		{both, host},
		{both, "downstreams: {}\n"},
		{both, "gateway: {}\n" + host},
		{both, "gateway: {listen: \"${LISTEN}\", page_size: \"${N}\", limits: {request_bytes: \"${SIZE}\", depth: 5}, timeouts: {idle: \"${D}\"}}\n" + host},
		{both, "gateway: {limits: {request_bytes: 1024}, timeouts: {idle: 1h30m0.5s}, tokens: [\"0123456789abcdef\"]}\n" + host},
		{both, "downstreams: {a: {command: npx, args: [-y, 8080, true, 1.5], env: {A: 1, B: true, C: x}, dir: /}}\n"},
		{both, "downstreams: {a: {url: \"http://x\", transport: sse, headers: {A: b}, protocol: 2025-11-25, session: per_client}}\n"},
		{both, "downstreams: {a: {preset: host, disabled: \"${OFF}\", transport: \"${T}\"}}\n"},
		{both, "downstreams: {a: {preset: llm, url: \"http://x\"}}\n"},
		{both, "downstreams:\n  a: &a {preset: host}\n  b: {<<: *a, disabled: true}\n"},
		{both, "telemetry: {log_level: debug, log_format: json}\n" + host},
		{both, "downstreams: {a: {command: 5}}\n"},

		{none, "gateway: {}\n"},
		{none, "hello\n"},
		{none, "[]\n"},
		{none, "downstreams:\n"},
		{none, "downstreams: []\n"},
		{none, "gateway:\n" + host},
		{none, "x: 1\n" + host},
		{both, "resilience: {}\n" + host},
		{both, "resilience: {defaults: {retry: {jitter: true, max_attempts: 4}, retry_min_wait: 1.5, timeout_ms: 5000, circuit_breaker_timeout: 30s}, profiles: {x: {hedge: {delay: 20ms}}}}\n" + host},
		{both, "downstreams: {a: {preset: host, resilience: {profile: critical, tools: {\"get_*\": {safety: read_only}}, classification: {tool_error_patterns: [{match: x}]}}}}\n"},
		{none, "resilience: {defaults: {retry: {max_attempt: 4}}}\n" + host},
		{none, "resilience: {mode: maybe}\n" + host},
		{none, "downstreams: {a: {preset: host, resilience: {tools: {x: {bulkhead: {}}}}}}\n"},
		{deeper, "resilience: {defaults: {retry: {max_attempts: 0}}}\n" + host},
		{none, "gateway: {listn: x}\n" + host},
		{none, "gateway: {limits: {x: 1}}\n" + host},
		{none, "gateway: {page_size: many}\n" + host},
		{none, "gateway: {page_size: \"5\"}\n" + host},
		{none, "gateway: {page_size: 1.5}\n" + host},
		{none, "gateway: {page_size: }\n" + host},
		{none, "gateway: {tokens: 0123456789abcdef}\n" + host},
		{none, "gateway: {tokens: [[]]}\n" + host},
		{none, "gateway: {limits: {request_bytes: 4MB}}\n" + host},
		{none, "gateway: {limits: {request_bytes: \"5\"}}\n" + host},
		{none, "gateway: {timeouts: {idle: 5}}\n" + host},
		{none, "gateway: {timeouts: {idle: 1d}}\n" + host},
		{none, "gateway: {timeouts: {idle: \"0\"}}\n" + host},
		{none, "downstreams: {a: {}}\n"},
		{none, "downstreams: {a: }\n"},
		{none, "downstreams: {a: npx}\n"},
		{none, "downstreams: {a b: {preset: host}}\n"},
		{none, "downstreams: {\"\": {preset: host}}\n"},
		{none, "downstreams: {" + strings.Repeat("a", 31) + ": {preset: host}}\n"},
		{none, "downstreams: {a: {command: x, url: \"http://x\"}}\n"},
		{none, "downstreams: {a: {command: x, preset: host}}\n"},
		{none, "downstreams: {a: {preset: host, args: [x]}}\n"},
		{none, "downstreams: {a: {url: \"http://x\", env: {A: b}}}\n"},
		{none, "downstreams: {a: {url: \"http://x\", dir: /}}\n"},
		{none, "downstreams: {a: {preset: hots}}\n"},
		{none, "downstreams: {a: {preset: host, disabled: yes}}\n"},
		{none, "downstreams: {a: {preset: host, disabled: \"true\"}}\n"},
		{none, "downstreams: {a: {preset: host, transport: tcp}}\n"},
		{none, "downstreams: {a: {command: x, args: y}}\n"},
		{none, "downstreams: {a: {command: x, args: [{}]}}\n"},
		{none, "downstreams: {a: {command: x, env: [A=B]}}\n"},
		{none, "downstreams: {a: {command: [x]}}\n"},
		{none, "telemetry: {log_level: trace}\n" + host},

		{deeper, "gateway: {listen: nowhere}\n" + host},
		{deeper, "gateway: {tokens: [short]}\n" + host},
		{deeper, "gateway: {timeouts: {idle: 0s}}\n" + host},
		{deeper, "gateway: {page_size: \"${WORD}\"}\n" + host},
		{deeper, "downstreams: {a: {url: \"ftp://x\"}}\n"},
		{deeper, "downstreams: {a: {command: \"${UNSET}\"}}\n"},
		{deeper, "downstreams: {a: {command: x, timeouts: {call: 1h}}}\n"},
	}
	schema := compile(t)
	variables := env("LISTEN", "127.0.0.1:1", "N", "5", "SIZE", "1MiB", "D", "5s", "OFF", "true", "T", "sse", "WORD", "abc")
	for _, tt := range tests {
		_, errParse := Parse("f", []byte(tt.text), variables)
		errSchema := schema.Validate(plainValue(t, tt.text))
		got := both
		switch {
		case errParse != nil && errSchema != nil:
			got = none
		case errParse != nil:
			got = deeper
		case errSchema != nil:
			got = "only the schema refuses"
		}
		if got != tt.want {
			t.Errorf("%s\ngot %s, want %s\nParse: %v\nschema: %v", tt.text, got, tt.want, errParse, errSchema)
		}
	}
}

func TestShippedFileMatchesSchema(t *testing.T) {
	data, err := os.ReadFile("../../gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := compile(t).Validate(plainValue(t, string(data))); err != nil {
		t.Error(err)
	}
	if first, _, _ := strings.Cut(string(data), "\n"); first != "# yaml-language-server: $schema=gateway.schema.json" {
		t.Errorf("the first line should point editors at the schema, found %q", first)
	}
}

// plainValue is what an editor makes of text: the core schema of YAML 1.2, in which a date is a text.
func plainValue(t *testing.T, text string) any {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	var convert func(n *yaml.Node) any
	convert = func(n *yaml.Node) any {
		switch n.Kind {
		case yaml.DocumentNode:
			return convert(n.Content[0])
		case yaml.AliasNode:
			return convert(n.Alias)
		case yaml.SequenceNode:
			list := []any{}
			for _, c := range n.Content {
				list = append(list, convert(c))
			}
			return list
		case yaml.MappingNode:
			m := map[string]any{}
			for i := 0; i < len(n.Content); i += 2 {
				value := convert(n.Content[i+1])
				if from, ok := value.(map[string]any); ok && n.Content[i].Value == "<<" {
					maps.Copy(m, from)
					continue
				}
				m[n.Content[i].Value] = value
			}
			return m
		}
		switch n.ShortTag() {
		case "!!null":
			return nil
		case "!!bool":
			return n.Value == "true"
		case "!!int", "!!float":
			f, err := strconv.ParseFloat(n.Value, 64)
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
		return n.Value
	}
	return convert(&doc)
}
