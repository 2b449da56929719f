package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// The flows, in the order of the report.
const (
	flowConnect  = "connect"
	flowList     = "list"
	flowCall     = "call"
	flowLong     = "long call with progress"
	flowSilent   = "long call, silent server"
	flowOpen     = "open circuit"
	flowCancel   = "cancel"
	flowCancelOl = "cancel, server of an older revision"
)

var flows = []string{flowConnect, flowList, flowCall, flowLong, flowSilent, flowOpen, flowCancel, flowCancelOl, flowMinute}

// realClients runs every client against a gateway with the demonstration servers. The clients, and the flows of each, run at the same time:
// most of it is waiting.
func (r *runner) realClients(ctx context.Context) error {
	if r.wanted("minute") { // by itself, because it is timed
		r.flow(ctx, agents[0].name, flowMinute, shortFlow, r.minute)
	}
	rig, err := startRig(ctx, r.gateway, r.dir)
	if err != nil {
		return err
	}
	defer rig.close()
	var wg sync.WaitGroup
	for _, a := range agents {
		if r.wanted(a.name) {
			wg.Go(func() { r.agent(ctx, rig, a) })
		}
	}
	for _, era := range []string{"legacy", "modern"} {
		if name := "Inspector, " + era; r.wanted(name) {
			wg.Go(func() { r.inspector(ctx, rig, name, era) })
		}
	}
	if r.wanted(mcpRemoteName) {
		wg.Go(func() { r.mcpRemote(ctx, rig) })
	}
	wg.Wait()
	return nil
}

func (r *runner) wanted(name string) bool {
	return r.only == "" || strings.Contains(strings.ToLower(name), strings.ToLower(r.only))
}

// flow does one flow of one client for at most limit and keeps what it returns for the report.
func (r *runner) flow(ctx context.Context, client, flow string, limit time.Duration, f func(ctx context.Context) (string, error)) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	start := time.Now()
	text, err := f(ctx)
	r.count(client+": "+flow, start, err)
	if err != nil {
		text = "**fails**: " + firstLine(err.Error())
	}
	r.report.set(client, flow, text)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

const ( // limits on a machine that is busy
	shortFlow = 3 * time.Minute
	longMore  = 3 * time.Minute
)

// agent installs one agent and runs its flows.
func (r *runner) agent(ctx context.Context, rig *rig, a agent) {
	program, err := r.node.Install(ctx, a.pkg+"@"+a.version, a.program, a.scripts)
	if err != nil {
		r.flow(ctx, a.name, flowConnect, shortFlow, func(context.Context) (string, error) {
			return "", fmt.Errorf("installing %s %s: %w", a.pkg, a.version, err)
		})
		return
	}
	r.report.version(a.name, a.version)
	var wg sync.WaitGroup
	defer wg.Wait()
	for flow, call := range map[string][2]string{
		flowLong:   {"demo__steps", fmt.Sprintf(`{"seconds":%d,"every":5}`, int(r.long.Seconds()))},
		flowSilent: {"demo__silent", fmt.Sprintf(`{"seconds":%d}`, int(r.long.Seconds()))},
	} {
		wg.Go(func() {
			r.flow(ctx, a.name, flow, r.long+longMore, func(ctx context.Context) (string, error) {
				p, err := r.talk(ctx, a, program, rig.url, call[0], call[1])
				if err != nil {
					return "", err
				}
				text, took, _ := p.model.result()
				return "ok after " + seconds(took), errors.Join(contains(text, "the long work is done"), atLeast(took, r.long))
			})
		})
	}
	wg.Go(func() {
		r.flow(ctx, a.name, flowConnect, shortFlow, func(ctx context.Context) (string, error) { return r.connect(ctx, rig, a, program) })
		r.flow(ctx, a.name, flowCall, shortFlow, func(ctx context.Context) (string, error) {
			p, err := r.talk(ctx, a, program, rig.url, "demo__hello", `{"name":"`+a.program+`"}`)
			if err != nil {
				return "", err
			}
			r.flow(ctx, a.name, flowList, shortFlow, func(context.Context) (string, error) {
				names := strings.Join(p.model.names(), " ")
				return "`" + strings.ReplaceAll(names, " ", "` `") + "`", contains(names, "circuit_status", "demo__hello", "old__hello", "broken__hello")
			})
			r.report.wire(a.name, p.wire)
			text, took, _ := p.model.result()
			return "ok, " + seconds(took), contains(text, "greetings, "+a.program+", from behind the gateway")
		})
		r.flow(ctx, a.name, flowOpen, shortFlow, func(ctx context.Context) (string, error) {
			p, err := r.talk(ctx, a, program, rig.url, "broken__hello", `{"name":"x"}`)
			if err != nil {
				return "", err
			}
			text, took, _ := p.model.result()
			r.report.seen(a.name, text)
			return "told at once (" + seconds(took) + ")", saysAll(text)
		})
		for flow, d := range map[string]*demo{flowCancel: rig.demo, flowCancelOl: rig.old} {
			tool := map[string]string{flowCancel: "demo__hang", flowCancelOl: "old__hang"}[flow]
			r.flow(ctx, a.name, flow, shortFlow, func(ctx context.Context) (string, error) {
				p, took, err := r.interrupt(ctx, a, program, rig.url, tool, d)
				return cancelText(p, took, err)
			})
		}
	})
}

// connect runs what the agent has for looking whether a server can be reached.
func (r *runner) connect(ctx context.Context, rig *rig, a agent, program string) (string, error) {
	p, err := r.settle(ctx, a, rig.url, "", "{}")
	if err != nil {
		return "", err
	}
	defer p.close()
	if a.health == nil {
		return codexStatus(ctx, r, p, program)
	}
	var out string
	for _, args := range a.health {
		if out, err = r.finish(ctx, p, program, args); err != nil {
			return "", err
		}
	}
	return "`" + a.program + " " + strings.Join(a.health[len(a.health)-1], " ") + "` says " + strings.ToLower(a.healthy[1]), contains(out, a.healthy...)
}

// saysAll looks whether a text tells the model what it needs: which server, that nothing was executed, when to try again.
func saysAll(text string) error {
	return contains(strings.ReplaceAll(strings.ToLower(text), "_", " "), "broken", "circuit", "not executed", "retry after")
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

func atLeast(took, want time.Duration) error {
	if took < want {
		return fmt.Errorf("it took only %s of %s", took, want)
	}
	return nil
}
