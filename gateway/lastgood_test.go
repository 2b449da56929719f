package gateway

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
)

func resultOf(text string) downstream.Result {
	return downstream.Result{Raw: json.RawMessage(`{"content":` + string(textContent(text)) + `}`)}
}

// TestLastGoodIsBounded: by age, by number and by size; what was used last stays.
func TestLastGoodIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLastGood()
		l.configure(CacheFallback{MaxAge: time.Minute, MaxEntries: 3, MaxBytes: 1 << 20})
		for i := range 3 {
			l.put(fmt.Sprint(i), resultOf("x"))
		}
		time.Sleep(40 * time.Second)
		if _, age, ok := l.get("0"); !ok || age != 40*time.Second {
			t.Fatalf("age %s, %v", age, ok)
		}
		l.put("3", resultOf("x"))
		if _, _, ok := l.get("1"); ok {
			t.Error("the one that was not used for the longest time stayed")
		}
		time.Sleep(21 * time.Second)
		if _, _, ok := l.get("0"); ok {
			t.Error("a result of 61 seconds was shown")
		}
		if _, _, ok := l.get("3"); !ok {
			t.Error("a result of 21 seconds was not shown")
		}
		l.configure(CacheFallback{MaxAge: time.Minute, MaxEntries: 10, MaxBytes: 4 << 10})
		l.put("large", resultOf(strings.Repeat("x", 5<<10)))
		if l.bytes != 0 || l.used.Len() != 0 || len(l.byKey) != 0 {
			t.Errorf("%d bytes, %d results after one that does not fit", l.bytes, l.used.Len())
		}
		for range 5 {
			l.put("same", resultOf(strings.Repeat("x", 1<<10)))
		}
		if l.used.Len() != 1 || l.bytes > 2<<10 {
			t.Errorf("one key holds %d results of %d bytes", l.used.Len(), l.bytes)
		}
	})
}

// TestGoodKeys: results are shared only by the same principal, for the same tool and the same arguments.
func TestGoodKeys(t *testing.T) {
	key := func(principal, method, own, params string) string {
		o := wire.Index([]byte(params))
		return goodKey(&request{principal: principal}, method, own, &o)
	}
	base := key("p", "tools/call", "get", `{"arguments":{"a":1,"b":[2,{"c":3}]},"_meta":{"progressToken":1}}`)
	if same := key("p", "tools/call", "get", `{"arguments":{ "b":[2, {"c":3}],"a":1},"_meta":{"progressToken":2}}`); base == "" || same != base {
		t.Errorf("%q and %q", base, same)
	}
	for name, other := range map[string]string{
		"principal": key("q", "tools/call", "get", `{"arguments":{"a":1,"b":[2,{"c":3}]}}`),
		"tool":      key("p", "tools/call", "set", `{"arguments":{"a":1,"b":[2,{"c":3}]}}`),
		"method":    key("p", "prompts/get", "get", `{"arguments":{"a":1,"b":[2,{"c":3}]}}`),
		"arguments": key("p", "tools/call", "get", `{"arguments":{"a":1.0,"b":[2,{"c":3}]}}`),
		"order":     key("p", "tools/call", "get", `{"arguments":{"a":1,"b":[{"c":3},2]}}`),
		"absent":    key("p", "tools/call", "get", `{}`),
	} {
		if other == base || other == "" {
			t.Errorf("%s does not tell keys apart", name)
		}
	}
	for _, params := range []string{`{"inputResponses":{}}`, `{"requestState":"x"}`} {
		if got := key("p", "tools/call", "get", params); got != "" {
			t.Errorf("%s is kept as %q", params, got)
		}
	}
	if got := key("p", "completion/complete", "get", `{}`); got != "" {
		t.Errorf("completions are kept as %q", got)
	}
}

// TestGoodResults: errors and questions are not kept.
func TestGoodResults(t *testing.T) {
	for raw, want := range map[string]bool{
		`{"content":[]}`:                                     true,
		`{"content":[],"resultType":"complete"}`:             true,
		`{"content":[],"isError":true}`:                      false,
		`{"resultType":"input_required","inputRequests":{}}`: false,
		`[]`: false,
	} {
		if got := good(&downstream.Result{Raw: json.RawMessage(raw)}); got != want {
			t.Errorf("%s: %v", raw, got)
		}
	}
}
