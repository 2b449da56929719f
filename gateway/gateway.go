package gateway

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
	"github.com/mcpgw/mcpgw/telemetry"
)

// Options is what a Gateway is made with and keeps for its whole life.
type Options struct {
	Logger  *slog.Logger                // nil discards
	Version string                      // reported to clients and servers
	Reload  func(context.Context) error // run by POST /-/reload; nil answers 404
	// Telemetry gets metrics, spans, and the records of requests; nil for nobody. It must outlive the Gateway.
	Telemetry *telemetry.Telemetry
}

// Gateway is one MCP server made of many. It owns its downstreams, its clients' sessions and two goroutines; Close waits for all of
// them. Its methods may be called at the same time.
type Gateway struct {
	opts Options
	log  *slog.Logger

	settings  atomic.Pointer[Settings]
	view      atomic.Pointer[view] // what clients see; never nil
	sessions  registry             // of HTTP clients
	stdio     registry             // of stdio clients
	listens   listeners
	streams   atomic.Int64    // open notification streams
	work      downstream.Gate // requests being answered
	admission admission       // calls on their way to downstreams
	clients   sync.Map        // jointKey → *joint
	seals     atomic.Pointer[seals]
	key       []byte // of this process, for seals
	lot       lot
	lab       *downstream.Lab // the simulators of presets with "url: lab"
	history   history         // for the status page
	info      json.RawMessage
	obs       *observer // nil: nobody wants to know

	ctx      context.Context // ends when Close begins
	cancel   context.CancelFunc
	wg       sync.WaitGroup // goroutines of the gateway
	dirty    chan struct{}  // a catalogue changed
	applied  chan struct{}  // the settings changed
	draining chan struct{}  // closed by Drain

	mu        sync.Mutex // serialises Apply, Drain and Close; guards what follows
	targets   map[string]*target
	closed    bool
	drainOnce sync.Once
}

// target pairs a downstream with all that the gateway keeps about it.
type target struct {
	name    string
	server  *downstream.Server
	policy  *policy
	log     *slog.Logger
	renewed atomic.Int64 // UnixNano when its lists were last wished for again, see renew
	joins   bool         // its clients share sessions, see joint
	lanes   bool         // calls in which it may ask have sessions of their own, see lane
	ready   atomic.Int64 // UnixNano when the server last opened its session
	obs     *observer
	place   atomic.Pointer[place] // see placeOf
	stop    func()                // ends the prober; nil before it runs

	replicated bool // it has several endpoints

	latency latencies // of answered calls
}

// view is what clients of every endpoint see at one moment. It is never changed after it is made.
type view struct {
	all    *table
	single map[string]*table
}

// New returns a Gateway without downstreams; Apply gives it some.
func New(opts Options) *Gateway {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Version == "" {
		opts.Version = "dev"
	}
	g := &Gateway{
		opts: opts, log: opts.Logger, sessions: registry{byID: map[string]*session{}}, stdio: registry{byID: map[string]*session{}}, key: make([]byte, 32),
		lab:   downstream.NewLab(),
		info:  wire.Edit(nil, wire.Member{Key: "name", Value: wire.Quote("mcpgw")}, wire.Member{Key: "version", Value: wire.Quote(opts.Version)}),
		dirty: make(chan struct{}, 1), applied: make(chan struct{}, 1), draining: make(chan struct{}), targets: map[string]*target{},
	}
	_, _ = rand.Read(g.key)        // never fails (crypto/rand)
	own, _ := newSeals(nil, g.key) // the length of the key is right
	g.seals.Store(own)
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.settings.Store(&Settings{Gateway: DefaultConfig(), Admission: DefaultAdmission()})
	g.admission.configure(DefaultAdmission())
	g.view.Store(g.newView(nil))
	g.obs = newObserver(g, opts.Telemetry)
	g.wg.Go(func() { g.reap(g.ctx) })
	g.wg.Go(g.republish)
	g.wg.Go(func() { g.record(g.ctx) })
	return g
}

// Settled waits until every downstream has been tried at least once, or ctx is done.
func (g *Gateway) Settled(ctx context.Context) error {
	g.mu.Lock()
	targets := g.sortedTargets()
	g.mu.Unlock()
	for _, tg := range targets {
		select {
		case <-tg.server.Settled():
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	g.publish()
	return nil
}

// everySession returns the sessions of all clients.
func (g *Gateway) everySession() []*session { return append(g.sessions.all(), g.stdio.all()...) }

// tableFor returns what clients of an endpoint see now; nil if there is no such endpoint.
func (g *Gateway) tableFor(name string) *table {
	v := g.view.Load()
	if name == "" {
		return v.all
	}
	return v.single[name]
}

// Drain ends every stream in good order and waits for requests in flight, at most until ctx is done. New requests are refused.
func (g *Gateway) Drain(ctx context.Context) error {
	g.drainOnce.Do(func() { close(g.draining) })
	g.lot.clear()
	return g.work.Drain(ctx)
}

// isDraining reports whether new requests are refused.
func (g *Gateway) isDraining() bool {
	select {
	case <-g.draining:
		return true
	default:
		return false
	}
}

// Close ends the sessions and every downstream. It returns when all of it has ended; calls in flight are waited for until ctx is done
// and then abandoned.
func (g *Gateway) Close(ctx context.Context) error {
	g.drainOnce.Do(func() { close(g.draining) })
	g.mu.Lock()
	targets := g.sortedTargets()
	already := g.closed
	g.closed = true
	g.mu.Unlock()
	if already {
		return nil
	}
	for _, s := range g.sessions.all() {
		s.end(errSessionEnded)
	}
	g.cancel()
	errs := make([]error, len(targets))
	var wg sync.WaitGroup
	for i, tg := range targets {
		wg.Go(func() { errs[i] = tg.close(ctx) })
	}
	wg.Wait()
	g.wg.Wait()
	g.lab.Close()
	g.obs.close()
	return errors.Join(errs...)
}

// republishDelay lets several catalogues that change together become one change for clients.
const republishDelay = 50 * time.Millisecond

// republish makes a new view when catalogues have changed, until the gateway is closed.
func (g *Gateway) republish() {
	for {
		select {
		case <-g.ctx.Done():
			return
		case <-g.dirty:
		}
		timer := time.NewTimer(republishDelay)
		select {
		case <-g.ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		g.publish()
	}
}

func (g *Gateway) markDirty() {
	select {
	case g.dirty <- struct{}{}:
	default:
	}
}
