package config

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/downstream"
)

// ratio is written as a number or as "off".
type ratio struct{ of float64 }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *ratio) UnmarshalText(text []byte) error {
	if string(text) == "off" {
		r.of = 0
		return nil
	}
	return json.Unmarshal(text, &r.of)
}

type policy struct {
	Factor float64                  `yaml:"factor" doc:"A number." default:"1.5"`
	Jitter ratio                    `yaml:"jitter" doc:"A number or off."`
	Parent *policy                  `yaml:"-"`
	Inner  *inner                   `yaml:"inner" doc:"A section that may be missing."`
	Steps  []inner                  `yaml:"steps" doc:"Several."`
	Waits  map[string]time.Duration `yaml:"waits" doc:"By name."`
	Sizes  []int64                  `yaml:"sizes" unit:"bytes" doc:"Several sizes."`
	Modes  []string                 `yaml:"modes" enum:"fast|slow" doc:"Several of a few."`
}

type inner struct {
	N int8 `yaml:"n" doc:"A small number."`
	M int  `yaml:"m" doc:"Another one."`
}

type entries struct {
	policy `yaml:",inline"`
	Extra  bool `yaml:"extra" doc:"Beside the embedded ones."`
}

func decodeInto[T any](v *T, text string) error {
	d := &decoder{faults: faults{file: "f"}, lookup: env("N", "7"), budget: maxNodes, places: map[string]place{}}
	d.initial = func(t reflect.Type) reflect.Value {
		if t == reflect.TypeFor[inner]() {
			return reflect.ValueOf(inner{M: 5})
		}
		return reflect.Zero(t)
	}
	if n := d.parse([]byte(text)); n != nil {
		d.value(n, reflect.ValueOf(v).Elem(), spot{node: n})
	}
	return d.err()
}

// TestKinds covers what Config types may hold and those of today do not.
func TestKinds(t *testing.T) {
	shared := &inner{N: 1, M: 2}
	got := entries{policy: policy{Factor: 1.5, Inner: shared, Steps: []inner{{N: 9}}}}
	err := decodeInto(&got, "{factor: 2e-1, jitter: off, inner: {n: 3}, steps: [{n: 1}, {m: \"${N}\"}], waits: {a: 5s}, sizes: [1KiB, 5], modes: [fast], extra: true}")
	if err != nil {
		t.Fatal(err)
	}
	want := entries{Extra: true, policy: policy{
		Factor: 0.2, Inner: &inner{N: 3, M: 2}, Steps: []inner{{N: 1, M: 5}, {M: 7}}, Waits: map[string]time.Duration{"a": 5 * time.Second},
		Sizes: []int64{1024, 5}, Modes: []string{"fast"},
	}}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(entries{}, ratio{})); d != "" {
		t.Error(d)
	}
	if shared.N != 1 {
		t.Error("decoding over a default changed the default")
	}

	err = decodeInto(&got, "{factor: .5, jitter: much, inner: {n: 300}, steps: {}, waits: {a: 5}, sizes: [x], modes: [fats]}")
	lines := []string{
		`f:1:2: factor: expected a number, found .5`,
		`f:1:14: jitter: expected a value, found "much"`,
		`f:1:36: inner.n: expected a whole number, found 300 (it is too large)`,
		`f:1:45: steps: expected a list such as [a, b], found a section`,
		`f:1:64: waits.a: expected a duration such as 500ms, 30s or 1h30m, found 5 (a unit is missing: ms, s, m or h)`,
		`f:1:79: sizes[0]: expected a size such as 16MiB, 512KiB or a number of bytes, found "x"`,
		`f:1:91: modes[0]: expected one of fast, slow, found "fats" (did you mean "fast"?)`,
	}
	if err == nil || err.Error() != strings.Join(lines, "\n") {
		t.Errorf("got\n%v", err)
	}
}

func TestSchemaOfKinds(t *testing.T) {
	got, err := json.Marshal(section(reflect.TypeFor[entries]()))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"factor":{"description":"A number.","default":1.5,"anyOf":[{"type":"number"},`,
		`"jitter":{"description":"A number or off.","type":["string","number","boolean"]}`,
		`"inner":{"description":"A section that may be missing.","type":"object","additionalProperties":false,"properties":{"n":`,
		`"steps":{"description":"Several.","type":"array","items":{"type":"object",`,
		`"sizes":{"description":"Several sizes.","type":"array","items":{"anyOf":[{"type":"integer"},{"type":"string","pattern":"^([0-9]+)(KiB|MiB|GiB)$|`,
		`"modes":{"description":"Several of a few.","type":"array","items":{"anyOf":[{"enum":["fast","slow"]},`,
		`"extra":{"description":"Beside the embedded ones.","anyOf":[{"type":"boolean"},`,
	} {
		if !strings.Contains(string(got), want) {
			t.Errorf("lacks %s\n%s", want, got)
		}
	}
}

// TestJudge covers errors that are no FieldError: packages that import nothing of ours name the key in the text.
func TestJudge(t *testing.T) {
	d := &decoder{faults: faults{file: "f"}, places: map[string]place{
		"telemetry": {line: 2, col: 1}, "telemetry.log_level": {line: 3, col: 3, text: "x"}, "telemetry.deep.list[1]": {line: 4, col: 5},
	}}
	d.judge("telemetry", errors.Join(
		errors.New("log_level: wrong, found \"expanded\""), errors.New("other.key: wrong"), errors.New("deep.list[1]: wrong"),
		errors.New("wrong: as a whole, and this is no key"), errors.Join(errors.New("Wrong at large")), &downstream.FieldError{Path: "deep", Msg: "wrong"},
	))
	want := "f:2:1: telemetry: Wrong at large\nf:2:1: telemetry.deep: wrong\nf:2:1: telemetry.other.key: wrong\nf:2:1: telemetry.wrong: as a whole, and this is no key\n" +
		"f:3:3: telemetry.log_level: wrong, found \"x\"\nf:4:5: telemetry.deep.list[1]: wrong"
	if err := d.err(); err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}
