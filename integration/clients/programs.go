package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// inspector runs the flows of the Inspector's command line, which has no model: what it prints is what a person sees.
func (r *runner) inspector(ctx context.Context, rig *rig, name, era string) {
	a := agent{name: name, program: "mcp-inspector", settings: func(string, string, string) ([]string, error) { return nil, nil }}
	r.report.version(name, inspectorVersion)
	program := r.node.Path("mcp-inspector")
	args := func(rest ...string) []string {
		return append([]string{"--cli", "GATEWAY", "--transport", "http", "--protocol-era", era, "--method"}, rest...)
	}
	once := func(ctx context.Context, rest ...string) (*place, string, time.Duration, error) {
		p, err := r.settle(ctx, a, rig.url, "", "{}")
		if err != nil {
			return nil, "", 0, err
		}
		defer p.close()
		start := time.Now()
		out, err := r.finish(ctx, p, program, args(rest...))
		return p, out, time.Since(start), err
	}
	// Its command line ends every request after 60 s, whatever progress comes, and has no setting for it.
	most := min(r.long, inspectorLimit-10*time.Second)
	var long sync.WaitGroup
	defer long.Wait()
	for flow, call := range map[string][2]string{
		flowLong:   {"demo__steps", fmt.Sprintf(`{"seconds":%d,"every":5}`, int(most.Seconds()))},
		flowSilent: {"demo__silent", fmt.Sprintf(`{"seconds":%d}`, int(most.Seconds()))},
	} {
		long.Go(func() {
			r.flow(ctx, name, flow, r.long+longMore, func(ctx context.Context) (string, error) {
				_, out, took, err := once(ctx, "tools/call", "--tool-name", call[0], "--tool-args-json", call[1])
				return fmt.Sprintf("ok, %d s in %s with starting it; it ends every request after %s and has no setting for it", int(most.Seconds()), seconds(took), inspectorLimit),
					errors.Join(err, contains(out, "the long work is done"))
			})
		})
	}
	r.flow(ctx, name, flowList, shortFlow, func(ctx context.Context) (string, error) {
		p, out, took, err := once(ctx, "tools/list", "--strict")
		if err == nil {
			r.report.wire(name, p.wire)
			r.flow(ctx, name, flowConnect, shortFlow, func(context.Context) (string, error) { return "ok, " + seconds(took) + " with the list", nil })
		}
		return "`--strict` has no complaint", errors.Join(err, contains(out, `"circuit_status"`, `"demo__hello"`, `"broken__hello"`))
	})
	r.flow(ctx, name, flowCall, shortFlow, func(ctx context.Context) (string, error) {
		_, out, took, err := once(ctx, "tools/call", "--tool-name", "demo__hello", "--tool-args-json", `{"name":"inspector"}`)
		return "ok, " + seconds(took) + " with starting it", errors.Join(err, contains(out, "greetings, inspector"))
	})
	r.flow(ctx, name, flowOpen, shortFlow, func(ctx context.Context) (string, error) {
		_, out, took, err := once(ctx, "tools/call", "--tool-name", "broken__hello", "--tool-args-json", `{"name":"x"}`)
		r.report.seen(name, out)
		return "told at once (" + seconds(took) + " with starting it)", errors.Join(err, saysAll(out))
	})
	for flow, d := range map[string]*demo{flowCancel: rig.demo, flowCancelOl: rig.old} {
		tool := map[string]string{flowCancel: "demo__hang", flowCancelOl: "old__hang"}[flow]
		r.flow(ctx, name, flow, shortFlow, func(ctx context.Context) (string, error) {
			id := name + tool
			p, err := r.settle(ctx, a, rig.url, "", "{}")
			if err != nil {
				return "", err
			}
			defer p.close()
			proc, _, err := r.start(ctx, p, program, args("tools/call", "--tool-name", tool, "--tool-args-json", `{"id":"`+id+`"}`))
			if err != nil {
				return "", err
			}
			defer proc.Kill()
			took, err := cancelled(ctx, d.hanging(id), func() error { return syscall.Kill(-proc.PID(), syscall.SIGINT) })
			return cancelText(p, took, err)
		})
	}
}

const (
	inspectorVersion = "2.12.0" // of harness's package.json
	inspectorLimit   = time.Minute
	mcpRemoteName    = "mcp-remote"
	mcpRemoteVersion = "0.15.1"
)

// mcpRemote runs the flows of mcp-remote, the bridge for clients that start a command. Its client is this program.
func (r *runner) mcpRemote(ctx context.Context, rig *rig) {
	program, err := r.node.Install(ctx, "mcp-remote@"+mcpRemoteVersion, "mcp-remote", false)
	if err != nil {
		r.flow(ctx, mcpRemoteName, flowConnect, shortFlow, func(context.Context) (string, error) { return "", err })
		return
	}
	r.report.version(mcpRemoteName, mcpRemoteVersion)
	a := agent{name: mcpRemoteName, program: "mcp-remote", settings: func(string, string, string) ([]string, error) { return nil, nil }}
	p, err := r.settle(ctx, a, rig.url, "", "{}")
	if err != nil {
		r.count(mcpRemoteName+": settings", time.Now(), err)
		return
	}
	defer p.close()
	var l *lines
	r.flow(ctx, mcpRemoteName, flowConnect, shortFlow, func(ctx context.Context) (string, error) {
		if l, err = r.startLines(context.WithoutCancel(ctx), p, program, p.url, "--allow-http", "--transport", "http-only"); err != nil {
			return "", err
		}
		start := time.Now()
		if err := l.send(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"desktop","version":"1"}}}`); err != nil {
			return "", err
		}
		res, err := l.answer(ctx, 1, nil)
		if err != nil {
			return "", err
		}
		took := time.Since(start)
		return "ok, " + seconds(took), errors.Join(contains(string(res), `"tools"`), l.send(`{"jsonrpc":"2.0","method":"notifications/initialized"}`))
	})
	if l == nil {
		return
	}
	defer l.end()
	id := 1
	call := func(ctx context.Context, tool, args string, other func(harness.Message)) (string, time.Duration, error) {
		id++
		start := time.Now()
		if err := l.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":%q,"arguments":%s,"_meta":{"progressToken":"t%d"}}}`, id, tool, args, id)); err != nil {
			return "", 0, err
		}
		res, err := l.answer(ctx, id, other)
		return string(res), time.Since(start), err
	}
	r.flow(ctx, mcpRemoteName, flowList, shortFlow, func(ctx context.Context) (string, error) {
		id++
		if err := l.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/list"}`, id)); err != nil {
			return "", err
		}
		res, err := l.answer(ctx, id, nil)
		return "names unchanged", errors.Join(err, contains(string(res), `"circuit_status"`, `"demo__hello"`, `"broken__hello"`))
	})
	r.flow(ctx, mcpRemoteName, flowCall, shortFlow, func(ctx context.Context) (string, error) {
		res, took, err := call(ctx, "demo__hello", `{"name":"remote"}`, nil)
		return "ok, " + seconds(took), errors.Join(err, contains(res, "greetings, remote"))
	})
	r.report.wire(mcpRemoteName, p.wire)
	r.flow(ctx, mcpRemoteName, flowOpen, shortFlow, func(ctx context.Context) (string, error) {
		res, took, err := call(ctx, "broken__hello", `{"name":"x"}`, nil)
		r.report.seen(mcpRemoteName, res)
		return "told at once (" + seconds(took) + ")", errors.Join(err, saysAll(res))
	})
	for flow, d := range map[string]*demo{flowCancel: rig.demo, flowCancelOl: rig.old} {
		tool := map[string]string{flowCancel: "demo__hang", flowCancelOl: "old__hang"}[flow]
		r.flow(ctx, mcpRemoteName, flow, shortFlow, func(ctx context.Context) (string, error) {
			id++
			key := "remote-" + tool
			if err := l.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":%q,"arguments":{"id":%q}}}`, id, tool, key)); err != nil {
				return "", err
			}
			took, err := cancelled(ctx, d.hanging(key), func() error {
				return l.send(fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%d,"reason":"the user"}}`, id))
			})
			return cancelText(p, took, err)
		})
	}
	for flow, args := range map[string]string{flowLong: `,"every":5`, flowSilent: ""} {
		tool := map[string]string{flowLong: "demo__steps", flowSilent: "demo__silent"}[flow]
		r.flow(ctx, mcpRemoteName, flow, r.long+longMore, func(ctx context.Context) (string, error) {
			progress, last := 0, json.RawMessage(nil)
			res, took, err := call(ctx, tool, fmt.Sprintf(`{"seconds":%d%s}`, int(r.long.Seconds()), args), func(m harness.Message) {
				if strings.HasSuffix(m.Method, "progress") {
					progress, last = progress+1, m.Params
				}
			})
			if err == nil && progress == 0 {
				err = fmt.Errorf("no progress came: %s", last)
			}
			return fmt.Sprintf("ok after %s, %d progress notifications", seconds(took), progress), errors.Join(err, contains(res, "the long work is done"))
		})
	}
}
