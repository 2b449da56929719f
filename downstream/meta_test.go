package downstream

import (
	"encoding/json"
	"testing"

	"github.com/mcpgw/mcpgw/internal/wire"
)

func TestOutgoing(t *testing.T) {
	const (
		version = `"io.modelcontextprotocol/protocolVersion"`
		info    = `"io.modelcontextprotocol/clientInfo"`
		caps    = `"io.modelcontextprotocol/clientCapabilities"`
		level   = `"io.modelcontextprotocol/logLevel"`
	)
	triple := func(capabilities string) string {
		return version + `:"2026-07-28",` + info + `:{"name":"gw"},` + caps + `:` + capabilities
	}
	o := opening{info: json.RawMessage(`{"name":"gw"}`), capabilities: json.RawMessage(`{"gw":1}`)}
	modern, legacy := &peer{Revision: Modern}, &peer{Revision: Legacy}
	theirs := `{"a": [1, 2] ,"_meta":{` + version + `:"2026-07-28","x/y": 1.0,` + caps + `:{"sampling":{}},` + info + `:{"name":"c"},` + level + `:"info","progressToken":"p"}, "b":18446744073709551615}`
	for _, test := range []struct {
		name  string
		peer  *peer
		call  Call
		token string
		want  string
		sent  string // the client's token
	}{
		{"own request, nothing", modern, Call{}, "7", `{"_meta":{` + triple(`{"gw":1}`) + `}}`, ""},
		{"own request, params", modern, Call{Params: json.RawMessage(`{"cursor":""}`)}, "7", `{"cursor":"","_meta":{` + triple(`{"gw":1}`) + `}}`, ""},
		{
			"modern to modern", modern,
			Call{Modern: true, Params: json.RawMessage(theirs)},
			"7",
			`{"a": [1, 2] ,"_meta":{` + triple(`{"sampling":{}}`) + `,` + level + `:"info","x/y":1.0,"progressToken":7}, "b":18446744073709551615}`, `"p"`,
		},
		{
			"modern without capabilities", modern,
			Call{Modern: true, Params: json.RawMessage(`{"_meta":{` + caps + `:"all"}}`)},
			"7",
			`{"_meta":{` + triple(`{}`) + `}}`, "",
		},
		{
			"legacy to modern", modern,
			Call{Client: &Client{}, Params: json.RawMessage(`{"_meta":{"progressToken":1.50,` + level + `:"debug",` + caps + `:{"x":1}}}`)},
			"",
			`{"_meta":{` + triple(`{}`) + `,"progressToken":1.50}}`, "1.50",
		},
		{"meta that is no object", modern, Call{Client: &Client{}, Params: json.RawMessage(`{"_meta":null,"a":1}`)}, "7", `{"_meta":{` + triple(`{}`) + `},"a":1}`, ""},
		{
			"modern to legacy", legacy,
			Call{Modern: true, Params: json.RawMessage(theirs)},
			"7",
			`{"a": [1, 2] ,"_meta":{"x/y":1.0,"progressToken":7}, "b":18446744073709551615}`, `"p"`,
		},
		{
			"modern to legacy, nothing of the client's own", legacy,
			Call{Modern: true, Params: json.RawMessage(`{"_meta":{` + version + `:"2026-07-28"},"a":1}`)},
			"7",
			`{"a":1}`, "",
		},
		{"legacy to legacy is untouched", legacy, Call{Client: &Client{}, Params: json.RawMessage(` { "_meta" : {"k": 1 } , "a":1}`)}, "7", ` { "_meta" : {"k": 1 } , "a":1}`, ""},
		{"empty meta stays", legacy, Call{Params: json.RawMessage(`{"_meta":{}}`)}, "7", `{"_meta":{}}`, ""},
		{"no params", legacy, Call{}, "7", ``, ""},
		{"no minting", legacy, Call{Params: json.RawMessage(`{"_meta":{"progressToken":"p"}}`)}, "", `{"_meta":{"progressToken":"p"}}`, `"p"`},
		{"a token of another type is the server's business", legacy, Call{Params: json.RawMessage(`{"_meta":{"progressToken":{}}}`)}, "7", `{"_meta":{"progressToken":{}}}`, ""},
		{
			"escapes do not pass", legacy,
			Call{Params: json.RawMessage(`{"\u005fmeta":{"io.modelcontextprotocol\/clientInfo":1,"progress\u0054oken":2}}`)},
			"7",
			`{"\u005fmeta":{"progress\u0054oken":7}}`, "2",
		},
		{"a second meta does not pass", legacy, Call{Params: json.RawMessage(`{"_meta":{"a":1},"_meta":{"b":1}}`)}, "7", `{"_meta":{"a":1}}`, ""},
		{"other reserved members stay", legacy, Call{Params: json.RawMessage(`{"_meta":{"io.modelcontextprotocol/related-task":{}}}`)}, "7", `{"_meta":{"io.modelcontextprotocol/related-task":{}}}`, ""},
		{"an array stays", modern, Call{Params: json.RawMessage(`[1]`)}, "7", `[1]`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := string(test.call.Params)
			var token json.RawMessage
			if test.token != "" {
				token = json.RawMessage(test.token)
			}
			got, sent := outgoing(&test.call, test.peer, &o, token)
			if string(got) != test.want || string(sent) != test.sent {
				t.Errorf("outgoing:\n%s, token %s\nwant\n%s, token %s", got, sent, test.want, test.sent)
			}
			if string(test.call.Params) != before {
				t.Errorf("the call's params became %s", test.call.Params)
			}
			msg, sent := outgoingRequest(json.RawMessage(`"i"`), &test.call, test.peer, &o, token)
			want := string(wire.AppendRequest(nil, json.RawMessage(`"i"`), "", got))
			if string(msg) != want || string(sent) != test.sent || cap(msg) == len(msg) {
				t.Errorf("outgoingRequest:\n%s, token %s\nwant\n%s", msg, sent, want)
			}
		})
	}
}

// meant returns the value of the member that a reader who decodes names finds under key.
func meant(obj json.RawMessage, key string) json.RawMessage {
	var found json.RawMessage
	wire.Members(obj, func(k []byte, v json.RawMessage) bool {
		if keyIs(k, key) {
			found = v
		}
		return true
	})
	return found
}

func FuzzOutgoing(f *testing.F) {
	f.Add([]byte(`{"a":1,"_meta":{"progressToken":"x","io.modelcontextprotocol/clientInfo":{}}}`), true, true)
	f.Add([]byte(`{"_meta":null,"\u005fmeta":{}}`), false, true)
	f.Fuzz(func(t *testing.T, params []byte, modern, client bool) {
		if wire.Valid(params, 100) != nil || !wire.IsObject(params) {
			return
		}
		o := opening{info: json.RawMessage(`{}`), capabilities: json.RawMessage(`{}`)}
		p := &peer{Revision: Legacy}
		if modern {
			p.Revision = Modern
		}
		got, _ := outgoing(&Call{Params: params, Modern: client}, p, &o, json.RawMessage("1"))
		if got == nil {
			t.Fatalf("%s vanished", params)
		}
		if err := wire.Valid(got, 101); err != nil {
			t.Fatalf("%s became %s: %v", params, got, err)
		}
		if !modern && meant(meant(got, "_meta"), MetaClientInfo) != nil {
			t.Errorf("%s became %s: a reserved member passed", params, got)
		}
		if modern && string(meant(meant(got, "_meta"), MetaProtocolVersion)) != `"2026-07-28"` {
			t.Errorf("%s became %s: no revision", params, got)
		}
	})
}
