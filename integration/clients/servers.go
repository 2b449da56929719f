package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// loopbackOnly makes a Node program that would listen on all addresses listen on loopback.
const loopbackOnly = `const net = require('net'), listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (port, ...rest) {
  if (typeof port === 'object') return listen.call(this, { ...port, host: '127.0.0.1' }, ...rest);
  if (typeof rest[0] === 'string') rest.shift();
  return listen.call(this, port, '127.0.0.1', ...rest);
};
`

// realServers puts the reference servers behind the gateway and uses them through the Inspector, also side by side with the Inspector
// talking to the server directly.
func (r *runner) realServers(ctx context.Context) error {
	files := filepath.Join(r.dir, "files")
	if err := os.Mkdir(files, 0o750); err != nil {
		return err
	}
	if _, err := script(files, "hello.txt", "hello from the file\n"); err != nil {
		return err
	}
	lo, err := script(r.dir, "lo.js", loopbackOnly)
	if err != nil {
		return err
	}
	urls := map[string]string{}
	for mode, path := range map[string]string{"streamableHttp": "/mcp", "sse": "/sse"} {
		p, err := r.everythingHTTP(ctx, mode, lo)
		if err != nil {
			return err
		}
		defer p.Kill()
		urls[mode] = "http://" + p.Addr + path
	}
	node := r.node.Program()
	stdio := func(program string, args ...string) string {
		quoted := []string{"'" + r.node.Path(program) + "'"}
		for _, a := range args {
			quoted = append(quoted, "'"+a+"'")
		}
		return fmt.Sprintf("{ command: '%s', args: [%s], env: { MEMORY_FILE_PATH: '%s' } }", node, strings.Join(quoted, ", "), filepath.Join(r.dir, "memory.jsonl"))
	}
	gw, err := harness.StartGateway(ctx, r.gateway, r.dir, "gateway: { listen: LISTEN }\ndownstreams:\n"+
		"  everything: "+stdio("mcp-server-everything", "stdio")+"\n"+
		"  files: "+stdio("mcp-server-filesystem", files)+"\n"+
		"  memory: "+stdio("mcp-server-memory")+"\n"+
		"  http: { url: '"+urls["streamableHttp"]+"' }\n"+
		"  sse: { url: '"+urls["sse"]+"' }\n")
	if err != nil {
		return err
	}
	defer gw.Kill()
	if err := r.listed(ctx, gw, "everything__echo", "files__read_text_file", "memory__read_graph", "http__echo", "sse__echo"); err != nil {
		return err
	}
	for _, era := range []string{"legacy", "modern"} {
		r.useServers(ctx, "http://"+gw.Addr+"/mcp", era, files)
	}
	// What the Inspector sees of a server directly and through the gateway must be the same text.
	for _, c := range []struct{ name, direct, transport string }{
		{"everything", "", ""}, {"http", urls["streamableHttp"], "http"}, {"sse", urls["sse"], "sse"},
	} {
		direct := []string{"mcp-inspector", "--cli", node, r.node.Path("mcp-server-everything"), "stdio"}
		if c.direct != "" {
			direct = []string{"mcp-inspector", "--cli", c.direct, "--transport", c.transport}
		}
		through := []string{"mcp-inspector", "--cli", "http://" + gw.Addr + "/servers/" + c.name + "/mcp", "--transport", "http", "--protocol-era", "legacy"}
		r.sideBySide(ctx, c.name, direct, through)
	}
	r.check(ctx, "mcpgw with the real servers ends well", func(context.Context) error { return gw.Stop(20 * time.Second) })
	return nil
}

// everythingHTTP starts server-everything over HTTP.
func (r *runner) everythingHTTP(ctx context.Context, mode, lo string) (*harness.Server, error) {
	addr, err := harness.FreeAddr()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	return harness.StartHTTP(ctx, harness.Spec{
		Name: "server-everything " + mode, Path: r.node.Path("mcp-server-everything"), Args: []string{mode},
		Env: []string{"PATH=" + r.node.PATH(), "HOME=" + r.dir, "PORT=" + port, "NODE_OPTIONS=--require " + lo},
	}, addr)
}

// listed waits until the tools are in the list: Node takes a second to start.
func (r *runner) listed(ctx context.Context, gw *harness.Server, tools ...string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	c := harness.Client{URL: "http://" + gw.Addr + "/mcp", Modern: true}
	return gw.Until(ctx, "the tools of the real servers", func() error {
		list, err := c.Request(ctx, "tools/list", "", c.Params("", ""))
		if err != nil {
			return err
		}
		var missing error
		for _, tool := range tools {
			if !strings.Contains(string(list), `"`+tool+`"`) {
				missing = errors.Join(missing, errors.New("no tool "+tool))
			}
		}
		return missing
	})
}

func (r *runner) useServers(ctx context.Context, url, era, files string) {
	for _, c := range []struct {
		tool, args string
		want       []string
	}{
		{"everything__echo", `{"message":"caf\u00e9 \"q\""}`, []string{`Echo: café \"q\"`}},
		{"everything__get-sum", `{"a":2,"b":3}`, []string{"5"}},
		{"everything__trigger-long-running-operation", `{"duration":1,"steps":4}`, []string{"completed"}},
		{"http__echo", `{"message":"over HTTP"}`, []string{"Echo: over HTTP"}},
		{"http__get-tiny-image", `{}`, []string{"image/png"}},
		{"sse__echo", `{"message":"over SSE"}`, []string{"Echo: over SSE"}},
		{"files__read_text_file", `{"path":"` + filepath.Join(files, "hello.txt") + `"}`, []string{"hello from the file"}},
		{"files__list_directory", `{"path":"` + files + `"}`, []string{"hello.txt"}},
		{"memory__create_entities", `{"entities":[{"name":"` + era + `","entityType":"era","observations":["it works"]}]}`, []string{era}},
		{"memory__read_graph", `{}`, []string{era, "it works"}},
	} {
		r.check(ctx, "Inspector, "+era+": "+c.tool, func(ctx context.Context) error {
			out, err := r.inspect(ctx, url, era, "--method", "tools/call", "--tool-name", c.tool, "--tool-args-json", c.args)
			if err != nil {
				return err
			}
			return contains(out, c.want...)
		})
	}
	for method, want := range map[string]string{"resources/list": "demo://resource", "prompts/list": "everything__simple-prompt", "resources/templates/list": "demo://resource/dynamic"} {
		r.check(ctx, "Inspector, "+era+": "+method, func(ctx context.Context) error {
			out, err := r.inspect(ctx, url, era, "--method", method)
			if err != nil {
				return err
			}
			return contains(out, want)
		})
	}
}

// sideBySide compares what the Inspector prints of a server directly and through the gateway.
func (r *runner) sideBySide(ctx context.Context, name string, direct, through []string) {
	for _, method := range [][]string{
		{"tools/list"},
		{"prompts/list"},
		{"resources/list"},
		{"resources/templates/list"},
		{"tools/call", "--tool-name", "get-annotated-message", "--tool-args-json", `{"messageType":"error","includeImage":true}`},
		{"tools/call", "--tool-name", "get-structured-content", "--tool-args-json", `{"location":"New York"}`},
		{"tools/call", "--tool-name", "get-resource-links", "--tool-args-json", `{"count":3}`},
		{"prompts/get", "--prompt-name", "args-prompt", "--prompt-args", "city=Paris"},
	} {
		r.check(ctx, "Inspector, side by side, "+name+": "+strings.Join(method[:min(3, len(method))], " "), func(ctx context.Context) error {
			args := append([]string{"--method"}, method...)
			want, err := r.output(ctx, append(direct, args...)...)
			if err != nil {
				return fmt.Errorf("directly: %w", err)
			}
			got, err := r.output(ctx, append(through, args...)...)
			if err != nil {
				return fmt.Errorf("through the gateway: %w", err)
			}
			if method[0] == "tools/list" {
				if want, got, err = common(want, got); err != nil {
					return err
				}
			}
			if got != want {
				return errors.New(firstDifference(want, got))
			}
			return nil
		})
	}
}

// byCapability are tools that server-everything offers only to clients that declare roots, sampling or elicitation. The gateway lists
// with a session of its own, so its clients see the tools for what that session declared, not for what each of them declares.
var byCapability = map[string]bool{
	"get-roots-list": true, "trigger-sampling-request": true, "trigger-elicitation-request": true, "trigger-url-elicitation": true,
	"trigger-sampling-request-async": true, "trigger-elicitation-request-async": true,
}

// common returns the tools of two lists that are in both, as text. A tool that is in one only is an error, unless it depends on what
// the client declares.
func common(direct, through string) (a, b string, err error) {
	var lists [2]struct {
		Tools []json.RawMessage `json:"tools"`
	}
	var byName [2]map[string]json.RawMessage
	for i, s := range []string{direct, through} {
		if err := json.Unmarshal([]byte(s), &lists[i]); err != nil {
			return "", "", fmt.Errorf("the Inspector printed no list: %w", err)
		}
		byName[i] = map[string]json.RawMessage{}
		for _, t := range lists[i].Tools {
			var v struct {
				Name string `json:"name"`
			}
			if err := json.Unmarshal(t, &v); err != nil {
				return "", "", err
			}
			byName[i][v.Name] = t
		}
	}
	var text [2]strings.Builder
	for i := range byName {
		for _, name := range slices.Sorted(maps.Keys(byName[i])) {
			if _, ok := byName[1-i][name]; ok {
				text[i].Write(byName[i][name])
			} else if !byCapability[name] {
				return "", "", fmt.Errorf("the tool %s is only %s", name, []string{"listed directly", "listed through the gateway"}[i])
			}
		}
	}
	if text[0].Len() == 0 {
		return "", "", errors.New("no tool is in both lists")
	}
	return text[0].String(), text[1].String(), nil
}

// firstDifference shows where two texts begin to differ, with what stands around.
func firstDifference(direct, through string) string {
	a, b := strings.Split(direct, "\n"), strings.Split(through, "\n")
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	show := func(lines []string) string {
		return strings.Join(lines[min(max(0, n-3), len(lines)):min(len(lines), n+8)], "\n")
	}
	return fmt.Sprintf("line %d of %d directly:\n%s\nof %d through the gateway:\n%s", n+1, len(a), show(a), len(b), show(b))
}
