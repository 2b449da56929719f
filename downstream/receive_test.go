package downstream

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestMuxFailsOnlyTheCallWhoseAnswerIsBad(t *testing.T) {
	deep := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	for _, test := range []struct{ name, line string }{
		{"invalid UTF-8", `{"jsonrpc":"2.0","id":%s,"result":{"a":"` + "\xc3(" + `"}}`},
		{"invalid UTF-8, id last", `{"result":{"id":77,"a":"` + "\xff" + `"},"jsonrpc":"2.0","id":%s}`},
		{"NaN, id last", `{"result":{"a":NaN},"jsonrpc":"2.0","id" : %s }`},
		{"cut off", `{"jsonrpc":"2.0","id":%s,"result":{"a":`},
		{"duplicate result", `{"jsonrpc":"2.0","id":%s,"result":{},"result":{}}`},
		{"differs in case", `{"jsonrpc":"2.0","id":%s,"Result":{}}`},
		{"both", `{"jsonrpc":"2.0","id":%s,"result":{},"error":{"code":1,"message":"x"}}`},
		{"neither", `{"jsonrpc":"2.0","id":%s}`},
		{"no version", `{"id":%s,"result":{}}`},
		{"result null", `{"jsonrpc":"2.0","id":%s,"result":null}`},
		{"result a string", `{"jsonrpc":"2.0","id":%s,"result":"x"}`},
		{"error a string", `{"jsonrpc":"2.0","id":%s,"error":"x"}`},
		{"error without code", `{"jsonrpc":"2.0","id":%s,"error":{"message":"x"}}`},
		{"too deep", `{"jsonrpc":"2.0","id":%s,"result":{"a":` + deep + `}}`},
		{"data after it", `{"jsonrpc":"2.0","id":%s,"result":{}} x`},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMuxPair(t, opening{}, Legacy)
			_, other := m.begin(t.Context(), &Call{Method: "other"})
			r, a := m.begin(t.Context(), &Call{Method: "a"})
			m.server(test.line, r.ID)
			var lost *LostError
			if got := <-a; !errors.As(got.err, &lost) || lost.Class != "malformed_response" {
				t.Errorf("the call ended with %s, %v, want malformed_response", got.raw, got.err)
			}
			m.server(`{"jsonrpc":"2.0","id":1,"result":{}}`)
			if got := <-other; got.err != nil {
				t.Errorf("the other call: %v", got.err)
			}
		})
	}
}

func TestMuxSkipsWhatIsNoMessage(t *testing.T) {
	for _, line := range []string{
		"Server starting", "{", "[]", "[1]", "null", `"x"`, "\x00\xff", `{"a":1}`, `{"id":1}` + "x", `{"jsonrpc":"2.0","id":99,"result":{}}`,
		`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"what"}}`,
		`{"jsonrpc":"2.0","id":"1","result":{}}`,
		`{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":"x"}`, // a request of the server's that happens to have our id
		`{"jsonrpc":"2.0","id":1,"Method":"sampling/createMessage"}`,
		`{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{"a":NaN},"result":1}`,
		`{"params":{"result":{},"id":1,"a":NaN}}`,
		`[{"jsonrpc":"2.0","id":1,"result":{}}]`, // batches ended with 2025-03-26
	} {
		m := newMuxPair(t, opening{}, Legacy)
		_, a := m.begin(t.Context(), &Call{Method: "a"})
		m.receive([]byte(line))
		select {
		case got := <-a:
			t.Errorf("%s ended the call: %s, %v", line, got.raw, got.err)
		default:
		}
		m.server(`{"jsonrpc":"2.0","id":1,"result":{}}`)
		if got := <-a; got.err != nil {
			t.Errorf("after %s the call failed: %v", line, got.err)
		}
	}
}

func TestMuxTakesBatchesOfTheOldRevision(t *testing.T) {
	m := newMuxPair(t, opening{}, "2025-03-26")
	r1, a1 := m.begin(t.Context(), &Call{Method: "a"})
	r2, a2 := m.begin(t.Context(), &Call{Method: "b"})
	m.server(`[{"jsonrpc":"2.0","id":%s,"result":{}},{"jsonrpc":"2.0","id":%s,"result":{"b":1}}]`, r1.ID, r2.ID)
	if got := <-a1; got.err != nil {
		t.Error(got.err)
	}
	if got := <-a2; string(got.raw) != `{"b":1}` {
		t.Errorf("%s, %v", got.raw, got.err)
	}
}

func TestRecoverID(t *testing.T) {
	for _, test := range []struct{ head, tail, want string }{
		{`{"jsonrpc":"2.0","id":12,"result":{"a":"`, `x"}}`, "12"},
		{`{"id" : 12 , "error":{`, `}}`, "12"},
		{`{"result":{"id":1,"x":"`, `"},"jsonrpc":"2.0","id":12}`, "12"},
		{`{"result":{"id":1,"x":"`, `{"id":12}`, "12"},
		{`{"result":{"id":1,"x":"`, `{"id":12}]}}`, ""},
		{`{"result":{"id":1,"x":"`, ``, ""},
		{`{"jsonrpc":"2.0","id":12,"method":"x","params":{"result":`, `}`, ""},
		{`{"method":"x","params":{"result":1`, `"id":12}`, ""},
		{`{"jsonrpc":"2.0","id":1`, ``, ""}, // the number may go on
		{`{"jsonrpc":"2.0","id":"12","result":{`, ``, ""},
		{`[{"id":12,"result":`, `}]`, ""},
		{`garbage`, `"id":12}`, ""},
	} {
		if got := string(recoverID([]byte(test.head), []byte(test.tail))); got != test.want {
			t.Errorf("recoverID(%s … %s) = %s, want %s", test.head, test.tail, got, test.want)
		}
	}
}

// FuzzMuxReceive feeds a session two lines of anything while a call is in flight: nothing panics, nothing ends the session, the
// call gets at most one answer, and a proper answer after it still arrives.
func FuzzMuxReceive(f *testing.F) {
	for _, s := range []string{
		`{"jsonrpc":"2.0","id":1,"result":{}}`, `{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}`, `{"jsonrpc":"2.0","id":5,"method":"ping"}`,
		`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1}}`, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}`,
		`{"jsonrpc":"2.0","id":5,"method":"roots/list","params":[]}`, `[{"jsonrpc":"2.0","id":1,"result":{}}]`, `{"result":{"a":NaN},"id":1}`, "garbage \xff",
		`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":1}}}`,
	} {
		f.Add([]byte(s), []byte(`{"jsonrpc":"2.0","id":1,"result":{}}`), false)
	}
	f.Fuzz(func(t *testing.T, one, two []byte, old bool) {
		revision := Legacy
		if old {
			revision = "2025-03-26"
		}
		m := newMuxPair(t, opening{shared: true}, revision)
		m.mux.write = func(context.Context, []byte) error { return nil }
		s := newRecorder(t)
		p, err := m.register(t.Context(), s, false)
		if err != nil {
			t.Fatal(err)
		}
		m.receive(one)
		m.receive(two)
		m.server(`{"jsonrpc":"2.0","id":1,"result":{"last":1}}`)
		select {
		case <-p.answer:
		default:
			t.Error("the call has no answer")
		}
		p.finish()
		if m.err() != nil {
			t.Errorf("the session ended: %v", m.err())
		}
	})
}
