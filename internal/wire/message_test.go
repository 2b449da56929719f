package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const testDepth = 128

func TestParseAcceptsWhatPeersSend(t *testing.T) {
	for name, in := range map[string]struct {
		text string
		want Message
	}{
		"request":                {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}`, Message{ID: raw("1"), Method: "tools/call", Params: raw(`{"name":"x"}`)}},
		"any order and space":    {" {\n\"params\" : { } , \"method\":\"m\",\"id\":\"a\",\t\"jsonrpc\":\"2.0\" } ", Message{ID: raw(`"a"`), Method: "m", Params: raw("{ }")}},
		"id beyond 2^53":         {`{"jsonrpc":"2.0","id":9007199254740993,"method":"m"}`, Message{ID: raw("9007199254740993"), Method: "m"}},
		"negative id":            {`{"jsonrpc":"2.0","id":-1,"method":"m"}`, Message{ID: raw("-1"), Method: "m"}},
		"empty string id":        {`{"jsonrpc":"2.0","id":"","method":"m"}`, Message{ID: raw(`""`), Method: "m"}},
		"notification":           {`{"jsonrpc":"2.0","method":"notifications/x"}`, Message{Method: "notifications/x"}},
		"result before id":       {`{"result":{"a":1.0},"jsonrpc":"2.0","id":7}`, Message{ID: raw("7"), Result: raw(`{"a":1.0}`)}},
		"error without id":       {`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"x"}}`, Message{ID: raw("null"), Error: raw(`{"code":-32700,"message":"x"}`)}},
		"unknown member":         {`{"jsonrpc":"2.0","id":1,"method":"m","trace":{"a":[1]}}`, Message{ID: raw("1"), Method: "m"}},
		"escaped method":         {`{"jsonrpc":"2.0","id":1,"method":"tools\/call"}`, Message{ID: raw("1"), Method: "tools/call"}},
		"non-ASCII and escapes":  {`{"jsonrpc":"2.0","id":1,"method":"m","params":{"ü":"\ud83d\ude00 😀 \ud800"}}`, Message{ID: raw("1"), Method: "m", Params: raw(`{"ü":"\ud83d\ude00 😀 \ud800"}`)}},
		"duplicate below params": {`{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":{"b":1,"b":2}}}`, Message{ID: raw("1"), Method: "m", Params: raw(`{"a":{"b":1,"b":2}}`)}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse([]byte(in.text), testDepth)
			if err != nil {
				t.Fatal(err)
			}
			if !same(got, in.want) {
				t.Errorf("got %s, want %s", show(got), show(in.want))
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for name, in := range map[string]struct{ text, want string }{
		"empty":                   {``, "unexpected end"},
		"byte order mark":         {"\xef\xbb\xbf" + `{"jsonrpc":"2.0","method":"m"}`, `unexpected 'ï'`},
		"array":                   {`[{"jsonrpc":"2.0","method":"m"}]`, "batch"},
		"scalar":                  {`42`, "which is an object"},
		"trailing data":           {`{"jsonrpc":"2.0","method":"m"} x`, "data after the value"},
		"two messages":            {`{"jsonrpc":"2.0","method":"m"}{"jsonrpc":"2.0","method":"m"}`, "data after the value"},
		"invalid UTF-8":           {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":{\"a\":\"\xff\"}}", "invalid UTF-8"},
		"overlong UTF-8":          {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":{\"a\":\"\xc0\xaf\"}}", "invalid UTF-8"},
		"NaN":                     {`{"jsonrpc":"2.0","method":"m","params":{"a":NaN}}`, "unexpected 'N'"},
		"leading zero":            {`{"jsonrpc":"2.0","id":01,"method":"m"}`, "expected ',' or '}'"},
		"lone minus":              {`{"jsonrpc":"2.0","id":-,"method":"m"}`, "expected a digit"},
		"control character":       {"{\"jsonrpc\":\"2.0\",\"method\":\"m\\u0000\x00\"}", "control character"},
		"bad escape":              {`{"jsonrpc":"2.0","method":"\x"}`, "invalid escape"},
		"too deep":                {`{"jsonrpc":"2.0","method":"m","params":` + strings.Repeat("[", testDepth) + strings.Repeat("]", testDepth) + `}`, "nested deeper than 128"},
		"trailing comma":          {`{"jsonrpc":"2.0","method":"m",}`, "expected a member name"},
		"duplicate method":        {`{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}`, `"method" occurs twice`},
		"other case":              {`{"jsonrpc":"2.0","id":1,"method":"a","Method":"b"}`, `"Method" is ambiguous`},
		"other case alone":        {`{"jsonrpc":"2.0","ID":1,"method":"a"}`, `"ID" is ambiguous`},
		"escaped member":          {`{"jsonrpc":"2.0","id":1,"method":"a","\u006dethod":"b"}`, `ambiguous`},
		"no version":              {`{"id":1,"method":"m"}`, `jsonrpc must be "2.0"`},
		"wrong version":           {`{"jsonrpc":"1.0","id":1,"method":"m"}`, `jsonrpc must be "2.0"`},
		"null id":                 {`{"jsonrpc":"2.0","id":null,"method":"m"}`, "id must be a string or a number"},
		"object id":               {`{"jsonrpc":"2.0","id":{},"method":"m"}`, "id must be a string or a number"},
		"method is no string":     {`{"jsonrpc":"2.0","id":1,"method":1}`, "method must be a string"},
		"params is a string":      {`{"jsonrpc":"2.0","id":1,"method":"m","params":"x"}`, "params must be an object"},
		"method and result":       {`{"jsonrpc":"2.0","id":1,"method":"m","result":{}}`, "cannot carry a result"},
		"result and error":        {`{"jsonrpc":"2.0","id":1,"result":{},"error":{}}`, "neither a request"},
		"nothing":                 {`{"jsonrpc":"2.0","id":1}`, "neither a request"},
		"result without id":       {`{"jsonrpc":"2.0","result":{}}`, "must carry the id"},
		"null in place of a word": {`{"jsonrpc":"2.0","method":"m","params":{"a":nul}}`, "unknown literal"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(in.text), testDepth)
			if err == nil || !strings.Contains(err.Error(), in.want) {
				t.Errorf("got error %v, want one with %q", err, in.want)
			}
		})
	}
}

func TestInvalidMessageKeepsItsID(t *testing.T) {
	m, err := Parse([]byte(`{"jsonrpc":"2.0","id":"q","method":"m","params":3}`), testDepth)
	var invalid *InvalidError
	if !errors.As(err, &invalid) || string(m.ID) != `"q"` {
		t.Errorf("got id %s and error %v, want id \"q\" and an *InvalidError", m.ID, err)
	}
}

func TestBatch(t *testing.T) {
	parts, err := Batch([]byte(` [ {"a":1} , 2,"x"] `), testDepth)
	if err != nil || len(parts) != 3 || string(parts[0]) != `{"a":1}` || string(parts[1]) != "2" || string(parts[2]) != `"x"` {
		t.Errorf("got %s, %v", parts, err)
	}
	if _, err := Batch([]byte("[]"), testDepth); err == nil {
		t.Error("an empty batch was accepted")
	}
}

func TestErrorKeepsWhatThePeerWrote(t *testing.T) {
	text := raw(`{"code":-32001,"message":"a\/b","data":{"n":1.0},"extra":[1]}`)
	e, err := ParseError(text)
	if err != nil {
		t.Fatal(err)
	}
	if e.Code != -32001 || e.Message != "a/b" || string(e.Data) != `{"n":1.0}` {
		t.Errorf("got %+v", e)
	}
	if got := e.Bytes(); !bytes.Equal(got, text) {
		t.Errorf("got %s, want %s", got, text)
	}
	if got, want := string(e.WithCode(-32602).Bytes()), `{"code":-32602,"message":"a\/b","data":{"n":1.0},"extra":[1]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, bad := range []string{`"x"`, `{"message":"m"}`, `{"code":"1"}`, `{"code":1.5}`} {
		if _, err := ParseError(raw(bad)); err == nil {
			t.Errorf("%s was accepted as an error", bad)
		}
	}
}

// FuzzParse compares with encoding/json: what Parse accepts, any other reader must understand in the same way.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"a":[1,2.5e-3,"\u00e9\"\\"]}}}`,
		`{"jsonrpc":"2.0","id":"x","result":{}}`, `{"jsonrpc":"2.0","id":null,"error":{"code":1}}`, `[1]`, `{"jsonrpc":"2.0","Method":"x"}`,
		`{"jsonrpc":"2.0","id":1,"method":"\u0061"}`, "{\"a\":\"\xff\"}", `{"a":"` + strings.Repeat("x", 40) + `\n"}`, `{"jsonrpc":"2.0","method":"m","params":{"a":{"b":1}},"other":{"c":2}}`,
		`{"jsonrpc":"2.0","method":"m","params":{"1":1,"2":2,"3":3,"4":4,"5":5,"6":6,"7":7,"8":8,"9":9}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b, testDepth)
		if err != nil {
			return
		}
		if !utf8.Valid(b) {
			t.Fatal("accepted invalid UTF-8")
		}
		var v struct {
			JSONRPC string          `json:"jsonrpc"`
			ID      json.RawMessage `json:"id"`
			Method  string          `json:"method"`
			Params  json.RawMessage `json:"params"`
			Result  json.RawMessage `json:"result"`
			Error   json.RawMessage `json:"error"`
		}
		if err := json.Unmarshal(b, &v); err != nil {
			t.Fatalf("encoding/json refuses what Parse accepts: %v", err)
		}
		if v.JSONRPC != "2.0" || v.Method != m.Method || !bytes.Equal(v.ID, m.ID) || !bytes.Equal(v.Params, m.Params) ||
			!bytes.Equal(v.Result, m.Result) || !bytes.Equal(v.Error, m.Error) {
			t.Fatalf("Parse reads %s, encoding/json reads %+v", show(m), v)
		}
		var seen, want []string
		body := m.Params
		if body == nil {
			body = m.Result
		}
		m.Body.Members(func(k []byte, v json.RawMessage) bool { seen = append(seen, string(k), string(v)); return true })
		Members(body, func(k []byte, v json.RawMessage) bool { want = append(want, string(k), string(v)); return true })
		if !slices.Equal(seen, want) {
			t.Fatalf("Body has %q, the object has %q", seen, want)
		}
		var again []byte
		switch {
		case m.Method != "" && m.ID != nil:
			again = AppendRequest(nil, m.ID, m.Method, m.Params)
		case m.Method != "":
			again = AppendNotification(nil, m.Method, m.Params)
		case m.Result != nil:
			again = AppendResult(nil, m.ID, m.Result)
		default:
			return
		}
		n, err := Parse(again, testDepth)
		if err != nil || !same(m, n) {
			t.Fatalf("written and read again: %s, %v; first %s", show(n), err, show(m))
		}
	})
}

// FuzzValid compares the grammar with encoding/json's.
func FuzzValid(f *testing.F) {
	for _, s := range []string{`{"a":[1,-0.5e+9,true,null,"\ud83d"]}`, `"12345678\"`, `[[[]]]`, "\"\x1f\"", `"aaaaaaaé"`, "1 ", "-", `{"":""}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, want := Valid(b, 1<<20) == nil, json.Valid(b)
		if got && !want {
			t.Fatal("accepted what encoding/json refuses")
		}
		if want && !got && utf8.Valid(b) {
			t.Fatal("refused what encoding/json accepts")
		}
	})
}

func raw(s string) json.RawMessage { return json.RawMessage(s) }

func same(a, b Message) bool {
	return a.Method == b.Method && bytes.Equal(a.ID, b.ID) && bytes.Equal(a.Params, b.Params) && bytes.Equal(a.Result, b.Result) && bytes.Equal(a.Error, b.Error)
}

func show(m Message) string {
	return strings.Join([]string{"id=" + string(m.ID), "method=" + m.Method, "params=" + string(m.Params), "result=" + string(m.Result), "error=" + string(m.Error)}, " ")
}

func BenchmarkParse(b *testing.B) {
	plain := strings.Repeat("the quick brown fox ", 51)
	quoted := strings.Repeat(`a \"b\" c\\d `, 7900)
	for _, c := range []struct{ name, text string }{{"1KB", plain}, {"100KB_escapes", quoted}} {
		msg := []byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"` + c.text + `"}}}`)
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(msg)))
			for b.Loop() {
				if _, err := Parse(msg, testDepth); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
