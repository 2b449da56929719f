package gateway

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/mcpgw/mcpgw/downstream"
)

// Change says what an Apply did, by the names of downstreams.
type Change struct {
	Added, Removed, Replaced, Kept []string
	Reconfigured                   []string // of Replaced and Kept, those whose policies changed in place: circuits keep their states
	Restart                        []string // settings that take effect only at the next start
}

// Apply makes s the settings of the gateway. Everything that can fail comes first: on an error nothing has changed. Downstreams whose
// configuration is the same keep their sessions; the others are replaced, and those that are gone finish their calls in the
// background and end.
func (g *Gateway) Apply(ctx context.Context, s Settings) (Change, error) {
	var change Change
	if err := s.Validate(); err != nil {
		return change, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return change, errors.New("the gateway is closed")
	}
	old := g.settings.Load()
	seals, err := newSeals(s.Gateway.SealingKeys, g.key)
	if err != nil {
		return change, fmt.Errorf("gateway.sealing_keys: %w", err)
	}
	next := map[string]*target{}
	var started, ended []*target
	for _, name := range slices.Sorted(maps.Keys(s.Downstreams)) {
		cfg := s.Downstreams[name]
		was := g.targets[name]
		if was != nil && reflect.DeepEqual(was.server.Config(), cfg) {
			next[name] = was
			change.Kept = append(change.Kept, name)
			continue
		}
		tg, err := g.newTarget(name, cfg, s.policiesOf(name), was)
		if err != nil {
			g.abandon(started)
			return Change{}, fmt.Errorf("downstreams.%s: %w", name, err)
		}
		next[name] = tg
		started = append(started, tg)
		if was != nil {
			ended = append(ended, was)
			change.Replaced = append(change.Replaced, name)
		} else {
			change.Added = append(change.Added, name)
		}
	}
	for name, was := range g.targets {
		if next[name] == nil {
			ended = append(ended, was)
			change.Removed = append(change.Removed, name)
		}
	}
	slices.Sort(change.Removed)
	if len(g.targets) > 0 && old.Gateway.Listen != s.Gateway.Listen {
		change.Restart = append(change.Restart, "gateway.listen")
	}
	if len(g.targets) > 0 && old.Gateway.Admin.Listen != s.Gateway.Admin.Listen {
		change.Restart = append(change.Restart, "gateway.admin.listen")
	}
	g.targets = next
	g.settings.Store(&s)
	g.seals.Store(seals)
	select {
	case g.applied <- struct{}{}:
	default:
	}
	g.admission.configure(s.Admission)
	for _, tg := range g.sortedTargets() {
		changed, err := tg.policy.reconfigure(s.policiesOf(tg.name), new(tg.server.Config()))
		if err != nil { // they have been validated
			g.log.ErrorContext(ctx, "policies not applied", "downstream", tg.name, "err", err)
		}
		if changed {
			change.Reconfigured = append(change.Reconfigured, tg.name)
		}
	}
	for _, tg := range started {
		g.start(tg)
	}
	g.swap(g.newView(g.sortedTargets()))
	for _, was := range ended {
		g.moveSubscriptions(was, next[was.name])
	}
	g.retire(ctx, ended)
	return change, nil
}

// newTarget makes a downstream that is not started yet. It takes over what is known of was, which it replaces, if that is the same
// server with other settings.
func (g *Gateway) newTarget(name string, cfg downstream.Config, p Policies, was *target) (*target, error) {
	tg := &target{
		name: name, obs: g.obs, log: g.log, joins: cfg.Session == "shared" && cfg.Kind() == "http",
		lanes: cfg.Session == "per_client" && cfg.Kind() == "stdio" || cfg.Session != "shared" && cfg.Transport == "sse",
	}
	tg.replicated = len(cfg.URLs) > 0
	var seed *downstream.Catalog
	var former *downstream.Server
	if was != nil {
		if old := was.server.Config(); old.Command == cfg.Command && sameEndpoints(&old, &cfg) && old.Preset == cfg.Preset && slices.Equal(old.Args, cfg.Args) {
			seed, tg.policy, former = was.server.Catalog(), was.policy, was.server
		}
	}
	var err error
	if tg.policy == nil {
		if tg.policy, err = g.newPolicy(name, p, &cfg); err != nil {
			return nil, err
		}
	}
	tg.server, err = downstream.New(name, cfg, downstream.Options{
		Logger: g.opts.Logger, Version: g.opts.Version, Changed: g.markDirty, Seed: seed, Former: former, Lab: g.lab, Events: g.downstreamEvents(name, tg.policy),
		Upcalls: func(method string, params json.RawMessage) { g.sharedUpcall(tg, method, params) },
		Ready: func() {
			tg.ready.Store(time.Now().UnixNano())
			tg.policy.nudge()
		},
	})
	return tg, err
}

// sameEndpoints reports whether two configurations lead to the same server: one with several endpoints is that as long as one of them stays.
func sameEndpoints(a, b *downstream.Config) bool {
	if len(a.URLs) == 0 && len(b.URLs) == 0 {
		return a.URL == b.URL
	}
	of := func(c *downstream.Config) []string { return append(slices.Clone(c.URLs), c.URL) }
	return slices.ContainsFunc(of(a), func(u string) bool { return u != "" && slices.Contains(of(b), u) })
}

// start starts a downstream and the prober that watches over its circuit, which ends with close. The caller holds mu.
func (g *Gateway) start(tg *target) {
	tg.server.Start()
	ctx, cancel := context.WithCancel(g.ctx)
	done := make(chan struct{})
	tg.stop = func() { cancel(); <-done }
	g.wg.Go(func() {
		defer close(done)
		tg.probe(ctx)
	})
}

// close ends the prober and the downstream.
func (tg *target) close(ctx context.Context) error {
	if tg.stop != nil {
		tg.stop()
	}
	return tg.server.Close(ctx)
}

// abandon closes downstreams that were made but never started.
func (g *Gateway) abandon(targets []*target) {
	for _, tg := range targets {
		_ = tg.server.Close(context.Background()) // nothing is in flight
	}
}

// retire ends downstreams that no view shows any more, once their calls are done.
func (g *Gateway) retire(ctx context.Context, targets []*target) {
	patience := g.settings.Load().Gateway.Timeouts.Shutdown
	for _, tg := range targets {
		g.wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
			defer cancel()
			if err := tg.close(ctx); err != nil {
				g.log.WarnContext(ctx, "a removed server was ended with calls in flight", "downstream", tg.name, "err", err)
			}
		})
	}
}

// sortedTargets returns the downstreams by name. The caller holds mu.
func (g *Gateway) sortedTargets() []*target {
	return slices.SortedFunc(maps.Values(g.targets), func(a, b *target) int { return cmp.Compare(a.name, b.name) })
}

// newView builds what clients see of targets.
func (g *Gateway) newView(targets []*target) *view {
	cfg := &g.settings.Load().Gateway
	mk := &tableMaker{own: ownTools(cfg), info: g.info, instructions: cfg.Instructions, pageSize: cfg.PageSize, key: g.seals.Load().cursors, through: cfg.PassthroughExtensions}
	v := &view{all: mk.all(targets), single: make(map[string]*table, len(targets))}
	for _, tg := range targets {
		v.single[tg.name] = mk.single(tg)
		tg.policy.forget(tg.server.Catalog())
	}
	return v
}

// publish shows clients the catalogues as they are now.
func (g *Gateway) publish() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.swap(g.newView(g.sortedTargets()))
}

// swap makes v what clients see and tells those of them for whom a list changed. The caller holds mu.
func (g *Gateway) swap(v *view) {
	old := g.view.Swap(v)
	g.announce("", old.all, v.all)
	for name, t := range v.single {
		if was := old.single[name]; was != nil {
			g.announce(name, was, t)
		}
	}
}

// listKinds names the notification for each kind of list; resources and templates share one.
var listKinds = [4]string{
	downstream.Tools: "tools", downstream.Prompts: "prompts", downstream.Resources: "resources", downstream.Templates: "resources",
}

// announce tells the clients of one endpoint which of its lists changed.
func (g *Gateway) announce(viewName string, old, now *table) {
	told := map[string]bool{}
	for k, kind := range listKinds {
		if told[kind] || sameEntries(old.pages[k].entries, now.pages[k].entries) {
			continue
		}
		told[kind] = true
		method := "notifications/" + kind + "/list_changed"
		for _, s := range g.everySession() {
			if s.view == viewName {
				s.box.put(method, notification(method, nil, nil))
			}
		}
		g.listens.each(func(l *listener) {
			if l.view == viewName && l.kinds[kind] {
				l.box.put(method, notification(method, nil, l.id))
			}
		})
	}
}

func sameEntries(a, b []entry) bool {
	return slices.EqualFunc(a, b, func(x, y entry) bool { return x.key == y.key && bytes.Equal(x.raw, y.raw) })
}
