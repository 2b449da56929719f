package wire

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestEditTouchesOnlyWhatItIsTold(t *testing.T) {
	obj := raw(`{ "b" : 1.0, "a":{"x":[ 1 ,2]},"c":"\u00e9"}`)
	for name, c := range map[string]struct {
		edits []Member
		want  string
	}{
		"replace":        {[]Member{{"a", raw("2")}}, `{"b":1.0,"a":2,"c":"\u00e9"}`},
		"remove":         {[]Member{{"b", nil}}, `{"a":{"x":[ 1 ,2]},"c":"\u00e9"}`},
		"append":         {[]Member{{"d", raw("true")}}, `{"b":1.0,"a":{"x":[ 1 ,2]},"c":"\u00e9","d":true}`},
		"remove missing": {[]Member{{"z", nil}}, `{"b":1.0,"a":{"x":[ 1 ,2]},"c":"\u00e9"}`},
		"several":        {[]Member{{"c", nil}, {"b", raw("0")}, {"n", raw("[]")}}, `{"b":0,"a":{"x":[ 1 ,2]},"n":[]}`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := string(Edit(obj, c.edits...)); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
	if got := string(Set(nil, "k", raw("1"))); got != `{"k":1}` {
		t.Errorf("got %s for a nil object", got)
	}
	if got := string(Edit(nil)); got != `{}` {
		t.Errorf("got %s for a nil object without edits", got)
	}
}

func TestCheckKeysFindsWhatReadersDisagreeOn(t *testing.T) {
	for text, want := range map[string]string{
		`{"name":"a","other":1}`:         "",
		`{"name":"a","name":"b"}`:        "occurs twice",
		`{"name":"a","Name":"b"}`:        "ambiguous",
		`{"n\u0061me":"a"}`:              "ambiguous",
		`{"x":1,"x":2}`:                  "occurs twice",
		`{"x":1,"\u0078":2}`:             "occurs twice",
		`{"uri":"a","arguments":{}}`:     "",
		`{"ARGUMENTS":{"name":"inner"}}`: "ambiguous",
	} {
		err := CheckKeys(raw(text), "name", "arguments")
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

func TestStringDecodes(t *testing.T) {
	for text, want := range map[string]string{`"a"`: "a", `""`: "", `"a\"b\\\n\u00e9"`: "a\"b\\\né", `"ü"`: "ü"} {
		if got, ok := String(raw(text)); !ok || got != want {
			t.Errorf("%s: got %q, %v", text, got, ok)
		}
	}
	for _, text := range []string{``, `1`, `null`, `{}`, `["a"]`} {
		if got, ok := String(raw(text)); ok {
			t.Errorf("%s: got %q", text, got)
		}
	}
}

// FuzzEdit checks against encoding/json that an edit changes the member that it names and no other.
func FuzzEdit(f *testing.F) {
	f.Add([]byte(`{"a":1,"b":{"c":[1,2,{"d":"\\\""}]},"":null}`), "a")
	f.Add([]byte(`{"x":"\"},{"}`), "y")
	f.Fuzz(func(t *testing.T, obj []byte, key string) {
		if Valid(obj, testDepth) != nil || !IsObject(obj) || string(Quote(key)) != `"`+key+`"` || CheckKeys(obj, key) != nil {
			return
		}
		out := Set(obj, key, raw(`[7]`))
		if err := Valid(out, testDepth); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		var before, after map[string]json.RawMessage
		if json.Unmarshal(obj, &before) != nil || json.Unmarshal(out, &after) != nil {
			t.Fatal("encoding/json cannot read it")
		}
		if string(after[key]) != "[7]" {
			t.Fatalf("%s has not %q", out, key)
		}
		delete(before, key)
		delete(after, key)
		if len(before) != len(after) {
			t.Fatalf("%d members became %d", len(before), len(after))
		}
		for k, v := range before {
			if string(v) != string(after[k]) {
				t.Fatalf("member %q changed from %s to %s", k, v, after[k])
			}
		}
	})
}

// FuzzQuote checks that what AppendString writes any reader reads back.
func FuzzQuote(f *testing.F) {
	f.Add("a\"\\\n\x00é\xff\u2028")
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		if err := json.Unmarshal(Quote(s), &got); err != nil {
			t.Fatal(err)
		}
		if want := strings.ToValidUTF8(s, "\ufffd"); got != want && strings.ReplaceAll(got, "\ufffd", "") != strings.ReplaceAll(want, "\ufffd", "") {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}

func BenchmarkEdit(b *testing.B) {
	obj := raw(`{"name":"files__read","arguments":{"path":"` + strings.Repeat("x", 1000) + `"},"_meta":{"progressToken":1}}`)
	b.ReportAllocs()
	for b.Loop() {
		Set(obj, "name", raw(`"read"`))
	}
}
