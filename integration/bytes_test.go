package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
	"github.com/mcpgw/mcpgw/integration/internal/rawserver"
)

// TestBytes compares what a hand-written client and a hand-written server see of one another directly with what they see through the
// gateway, byte by byte: items of tools/list, params as the server gets them, results, errors, ids, progress. These are the rewrites
// that are meant to be, and there are no others:
//
//   - On /mcp a tool is called DOWNSTREAM__NAME in lists and in calls. On /servers/NAME/mcp it keeps its name.
//   - The members of _meta that the specification reserves (io.modelcontextprotocol/…) are written anew by each hop; towards a legacy
//     server they are left out, and so is a _meta that held nothing else.
//   - A progress token may be another one on the way down; what comes back carries the client's own, as it was written.
//   - A modern client gets "resultType":"complete" at the end of a legacy server's result.
//   - Where a member was rewritten, white space around the members of that object is not kept.
//   - On /mcp the URI of a resource in a result, where not exactly this server lists it, becomes mcpgw://DOWNSTREAM/URI, by which
//     it can be read; no server here lists resources.
//   - On /mcp the serverInfo in the _meta of a result is the gateway's.
func TestBytes(t *testing.T) {
	t.Parallel()
	for _, serverModern := range []bool{false, true} {
		t.Run("server "+era(serverModern), func(t *testing.T) {
			t.Parallel()
			testBytes(t, serverModern)
		})
	}
}

func era(modern bool) string {
	if modern {
		return harness.Modern
	}
	return harness.Legacy
}

// lane is one way from a client to the raw server.
type lane struct {
	client *harness.Client
	prefix string        // of tool names
	seen   func() []byte // params of the last call, as the server got them
	direct *lane         // the way without the gateway, in the server's era; nil if this is it
	exact  bool          // nothing may differ, not even white space
	adds   []member      // what a result gets at its end
}

func testBytes(t *testing.T, serverModern bool) {
	t.Helper()
	var rec rawserver.Recorder
	server := corpusServer(serverModern)
	server.Seen = rec.Record
	up := httptest.NewServer(server)
	t.Cleanup(up.Close)
	record := filepath.Join(t.TempDir(), "params")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := filepath.Abs(filepath.Join("testdata", "corpus"))
	if err != nil {
		t.Fatal(err)
	}
	mode := map[bool]string{false: "legacy", true: "modern"}[serverModern]
	gw := startGateway(t, fmt.Sprintf(`
gateway: { listen: LISTEN }
downstreams:
  http: { url: '%s/mcp' }
  stdio: { command: '%s', env: { %s: %s, %s: '%s', MCPGW_TEST_CORPUS: '%s' } }
`, up.URL, self, rawServerEnv, mode, rawRecordEnv, record, data))

	direct := &lane{client: &harness.Client{URL: up.URL, Modern: serverModern}, seen: rec.Last}
	if _, err := direct.client.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen := map[string]func() []byte{"http": rec.Last, "stdio": func() []byte {
		b, err := os.ReadFile(record)
		if err != nil {
			t.Errorf("the server kept no params: %v", err)
		}
		_ = os.Remove(record)
		return b
	}}
	// One lane after the other: they share the server's memory of the last call.
	for _, clientModern := range []bool{serverModern, !serverModern} {
		for _, name := range []string{"http", "stdio"} {
			for _, path := range []string{"/servers/" + name + "/mcp", "/mcp"} {
				l := &lane{client: &harness.Client{URL: "http://" + gw.Addr + path, Modern: clientModern}, seen: seen[name], direct: direct}
				if path == "/mcp" {
					l.prefix = name + "__"
				}
				l.exact = clientModern == serverModern && l.prefix == ""
				if clientModern && !serverModern {
					l.adds = []member{{"resultType", `"complete"`}}
				}
				t.Run(fmt.Sprintf("client %s, %s server, %s", era(clientModern), name, path), func(t *testing.T) { l.test(t, gw) })
			}
		}
	}
}

func (l *lane) test(t *testing.T, gw *harness.Server) {
	t.Helper()
	ctx := deadline(t, 20*time.Second)
	if _, err := l.client.Connect(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.client.Close(deadline(t, 5*time.Second)); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	err := gw.Until(ctx, "the raw server's tools", func() error {
		items, err := l.tools(t)
		if err == nil && len(items) == 0 {
			err = errors.New("no tools yet")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Run("tools", l.testTools)
	t.Run("results", l.testResults)
	t.Run("errors", l.testErrors)
	t.Run("params", l.testParams)
	t.Run("ids", l.testIDs)
}

// tools returns the items of tools/list by the server's own names.
func (l *lane) tools(t *testing.T) (map[string]string, error) {
	t.Helper()
	r, err := l.client.Request(t.Context(), "tools/list", "", l.client.Params("", ""))
	if err != nil {
		return nil, err
	}
	var list struct {
		Tools []json.RawMessage `json:"tools"`
	}
	if err := json.Unmarshal(r, &list); err != nil {
		return nil, err
	}
	items := map[string]string{}
	for _, item := range list.Tools {
		var v struct {
			Name string `json:"name"`
		}
		if err := json.Unmarshal(item, &v); err != nil {
			return nil, err
		}
		if l.prefix == "" || strings.HasPrefix(v.Name, l.prefix) {
			items[v.Name] = string(item)
		}
	}
	return items, nil
}

// exposed is the name under which the lane offers a tool of the server.
func (l *lane) exposed(own string) string {
	if l.prefix == "" {
		return own
	}
	return l.prefix + strings.ReplaceAll(own, ".", "_")
}

func (l *lane) testTools(t *testing.T) {
	want, err := l.direct.tools(t)
	if err != nil {
		t.Fatal(err)
	}
	got, err := l.tools(t)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Errorf("got %d tools, want %d", len(got), len(want))
	}
	for _, own := range slices.Sorted(maps.Keys(want)) {
		g, w := got[l.exposed(own)], want[own]
		if l.prefix == "" {
			if g != w {
				t.Errorf("tool %s\n got %s\nwant %s", own, g, w)
			}
			continue
		}
		wm := members(t, w)
		for i := range wm {
			switch wm[i].Key {
			case "name":
				wm[i].Value = `"` + l.exposed(own) + `"`
			case "_meta": // apps stay with their own server
				wm[i].Value = strings.Replace(wm[i].Value, `,"ui/resourceUri":"ui://a"`, "", 1)
			}
		}
		if diff := cmp.Diff(wm, members(t, g)); diff != "" {
			t.Errorf("tool %s (-direct +gateway):\n%s", own, diff)
		}
	}
}

// call calls a tool by its own name and returns all messages of the answer.
func (l *lane) call(t *testing.T, id, own, more, meta string) []harness.Message {
	t.Helper()
	name := l.exposed(own)
	params := l.client.Params(strings.TrimSuffix(`"name":"`+name+`",`+more, ","), meta)
	all, err := l.client.Send(deadline(t, 20*time.Second), id, "tools/call", name, params)
	if err != nil {
		t.Fatalf("calling %s: %v", name, err)
	}
	return all
}

func (l *lane) testResults(t *testing.T) {
	for _, own := range slices.Sorted(maps.Keys(corpusServer(false).Results)) {
		direct := l.direct.call(t, "1", own, `"arguments":{}`, "")
		got := l.call(t, "1", own, `"arguments":{}`, "")
		w, g := string(direct[len(direct)-1].Result), string(got[len(got)-1].Result)
		if w == "" {
			t.Fatalf("%s: the direct answer has no result: %s", own, direct[len(direct)-1].Error)
		}
		if l.exact && g != w {
			t.Errorf("%s\n got %.2000s\nwant %.2000s", own, g, w)
		}
		if server, ok := strings.CutSuffix(l.prefix, "__"); ok {
			w = strings.ReplaceAll(w, `"uri":"`, `"uri":"mcpgw://`+server+"/")
		}
		if g == w && len(l.adds) == 0 {
			continue // the large ones are slow to take apart
		}
		if diff := cmp.Diff(append(members(t, w), l.adds...), members(t, g)); diff != "" {
			t.Errorf("%s (-direct +gateway), error %s:\n%.3000s", own, got[len(got)-1].Error, diff)
		}
	}
}

func (l *lane) testErrors(t *testing.T) {
	for _, own := range slices.Sorted(maps.Keys(corpusServer(false).Errors)) {
		direct := l.direct.call(t, "1", own, `"arguments":{}`, "")
		got := l.call(t, "1", own, `"arguments":{}`, "")
		if w, g := string(direct[len(direct)-1].Error), string(got[len(got)-1].Error); g != w || w == "" {
			t.Errorf("%s\n got %s\nwant %s", own, g, w)
		}
	}
}

func (l *lane) testParams(t *testing.T) {
	lines := append(corpus("params.txt"),
		"deep\t\"arguments\":{\"d\":"+strings.Repeat("[", 100)+strings.Repeat("]", 100)+"}\t",
		"one_megabyte\t\"arguments\":{\"t\":\""+strings.Repeat(`caf\u00e9 \"q\" \\ `, 1<<20/18)+"\"}\t")
	for _, line := range lines {
		parts := strings.Split(line, "\t")
		if len(parts) != 3 {
			t.Fatalf("params.txt: %d columns, want 3: %s", len(parts), line)
		}
		name, more, meta := parts[0], parts[1], parts[2]
		direct := l.direct.call(t, "1", "echo", more, meta)
		want := string(l.direct.seen())
		got := l.call(t, "1", "echo", more, meta)
		have := string(l.seen())
		if r := got[len(got)-1]; r.Error != nil {
			t.Errorf("%s: refused: %s", name, r.Error)
			continue
		}
		wantParams, wantMeta := split(t, want)
		if l.client.Modern != l.direct.client.Modern { // the eras know different tasks
			wantParams = slices.DeleteFunc(wantParams, func(m member) bool { return m.Key == "task" })
		}
		haveParams, haveMeta := split(t, have)
		if diff := cmp.Diff(wantParams, haveParams); diff != "" {
			t.Errorf("%s: params (-direct +gateway):\n%.3000s", name, diff)
		}
		if diff := cmp.Diff(wantMeta, haveMeta); diff != "" {
			t.Errorf("%s: _meta (-direct +gateway):\n%.3000s", name, diff)
		}
		if diff := cmp.Diff(progress(direct), progress(got)); diff != "" {
			t.Errorf("%s: what came before the answer (-direct +gateway):\n%s", name, diff)
		}
	}
}

// progress returns the messages before the answer.
func progress(all []harness.Message) (out []string) {
	for _, m := range all[:len(all)-1] {
		out = append(out, m.Method+" "+string(m.Params))
	}
	return out
}

func (l *lane) testIDs(t *testing.T) {
	for _, id := range corpus("ids.txt") {
		all := l.call(t, id, "echo", `"arguments":{}`, "")
		if got := string(all[len(all)-1].ID); got != id {
			t.Errorf("tools/call with id %s was answered with id %s", id, got)
		}
		for _, method := range []string{"tools/list", "no/such/method"} {
			all, err := l.client.Send(deadline(t, 10*time.Second), id, method, "", l.client.Params("", ""))
			if err != nil {
				t.Fatal(err)
			}
			if got := string(all[len(all)-1].ID); got != id {
				t.Errorf("%s with id %s was answered with id %s", method, id, got)
			}
		}
	}
}

// member is one member of an object: its key decoded, its value as it stands.
type member struct{ Key, Value string }

// members returns the members of an object in order, repeated ones too.
func members(t *testing.T, obj string) (out []member) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(obj))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		t.Errorf("not an object: %.500s", obj)
		return nil
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			t.Errorf("%v: %.500s", err, obj)
			return nil
		}
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			t.Errorf("%v: %.500s", err, obj)
			return nil
		}
		out = append(out, member{fmt.Sprint(key), string(bytes.TrimSpace(v))})
	}
	return out
}

// split returns the members of params and of its _meta, without what each hop writes anew: the reserved members and the progress token.
func split(t *testing.T, params string) (own, meta []member) {
	t.Helper()
	for _, m := range members(t, params) {
		if m.Key != "_meta" {
			own = append(own, m)
			continue
		}
		for _, mm := range members(t, m.Value) {
			switch {
			case strings.HasPrefix(mm.Key, "io.modelcontextprotocol/"):
			case mm.Key == "progressToken":
				meta = append(meta, member{Key: mm.Key, Value: "present"})
			default:
				meta = append(meta, mm)
			}
		}
	}
	return own, meta
}
