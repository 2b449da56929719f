package random

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options says what to compare.
type Options struct {
	Program string   // the gateway
	Count   int      // of messages
	Seed    uint64   // the same seed makes the same messages
	Workers int      // rigs that run at the same time; 0 means 2
	PerRig  int      // messages after which a rig is thrown away for one with other lists; 0 means 5000
	Most    int      // differences after which to stop; 0 means 10
	Schemas *Schemas // check what is made; nil for no check
}

// Report is what came of it.
type Report struct {
	Kinds       map[string]int // messages by method
	Lanes       map[string]int // messages by way
	Differences []string
}

// Count is the number of messages.
func (r *Report) Count() (n int) {
	for _, k := range r.Kinds {
		n += k
	}
	return n
}

// Write prints the report.
func (r *Report) Write(w io.Writer) {
	for _, counts := range []map[string]int{r.Kinds, r.Lanes} {
		for _, k := range slices.Sorted(maps.Keys(counts)) {
			fmt.Fprintf(w, "%8d  %s\n", counts[k], k)
		}
		fmt.Fprintln(w)
	}
	for _, d := range r.Differences {
		fmt.Fprintln(w, d+"\n")
	}
	fmt.Fprintf(w, "%d messages, %d differences\n", r.Count(), len(r.Differences))
}

// Run compares. The error is a fault of the test itself; what differs stands in the report.
func Run(ctx context.Context, o Options) (*Report, error) {
	workers, per, most := o.Workers, o.PerRig, o.Most
	if workers == 0 {
		workers = 2
	}
	if per == 0 {
		per = 5000
	}
	if most == 0 {
		most = 10
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rep := &Report{Kinds: map[string]int{}, Lanes: map[string]int{}}
	var mu sync.Mutex // guards rep, err and what is left to do
	var failed error
	left, stream := o.Count, uint64(0)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				mu.Lock()
				n := min(per, left)
				left -= n
				stream++
				r := newMaker(o.Seed, stream)
				place := fmt.Sprintf("-seed %d, rig %d", o.Seed, stream)
				stop := n == 0 || failed != nil || len(rep.Differences) >= most
				mu.Unlock()
				if stop || ctx.Err() != nil {
					return
				}
				err := o.rig(ctx, r, n, func(kind string, l *lane, diff error, i int) bool {
					mu.Lock()
					defer mu.Unlock()
					rep.Kinds[kind]++
					rep.Lanes[l.name]++
					if diff != nil {
						rep.Differences = append(rep.Differences, fmt.Sprintf("%s, message %d: %s: %s: %v", place, i, l.name, kind, diff))
					}
					return len(rep.Differences) < most
				})
				if err != nil {
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
					cancel()
				}
			}
		})
	}
	wg.Wait()
	return rep, failed
}

// rig sends n messages through one rig.
func (o *Options) rig(ctx context.Context, r *maker, n int, done func(kind string, l *lane, diff error, i int) bool) error {
	dir, err := os.MkdirTemp("", "mcpgw-random-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a folder that stays harms nobody
	g, err := newRig(ctx, r, o.Program, dir)
	if err != nil {
		return err
	}
	for _, p := range g.peers {
		err = errors.Join(err, o.Schemas.validLists(p))
	}
	if err != nil {
		return errors.Join(err, g.stop())
	}
	for _, l := range g.lanes {
		l.schemas = o.Schemas
	}
	for i := range n {
		l := pick(r, g.lanes...)
		kind, diff := g.one(ctx, l)
		if ctx.Err() != nil || !done(kind, l, diff, i) {
			break
		}
	}
	return g.stop()
}

// one makes one message and compares.
func (g *rig) one(ctx context.Context, l *lane) (kind string, diff error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, same := g.maker, l.newClient == l.peer.modern
	r.modern = l.peer.modern
	key := func(kind int) string { return pick(r, l.peer.keys[kind]...) }
	n := r.IntN(100)
	switch {
	case n < 1:
		return "handshake", l.sameHandshake(ctx, r)
	case n < 3:
		k := r.IntN(4)
		return listMethods[k], l.sameList(ctx, k, func() *message { return r.request("") })
	case n < 5 && !l.newClient:
		return l.answeredHere(ctx, r)
	case n < 12 && same && !l.all:
		m := r.vendor()
		return "methods of vendors", l.compare(ctx, m)
	case n < 16 && same && l.newClient:
		return "input_required", l.compareRounds(ctx, r, g.askable(l))
	case n < 20 && same && !l.newClient && !l.stdioServer:
		m := g.askable(l)
		for range 1 + r.IntN(2) {
			m.reply.asks = append(m.reply.asks, r.question())
		}
		return "questions in a call", l.compare(ctx, m)
	case n < 24 && same && !l.newClient:
		return "tasks", l.compareTask(ctx, r, key(tools))
	}
	var m *message
	switch n = r.IntN(100); {
	case n < 65:
		m = r.call(key(tools))
	case n < 77:
		m = r.getPrompt(key(prompts))
	case n < 90:
		uri := key(resources)
		if r.chance(30) {
			uri = strings.Trim(r.uri(), `"`)
			uri = strings.ReplaceAll(uri, `\/`, "/")
		}
		m = r.read(uri)
	case n < 95:
		m = r.complete(prompts, key(prompts))
	default:
		m = r.complete(templates, key(templates))
	}
	return m.method, l.compare(ctx, m)
}

// askable makes a request in which a server may ask.
func (g *rig) askable(l *lane) *message {
	switch g.IntN(4) {
	case 0:
		return g.getPrompt(pick(g.maker, l.peer.keys[prompts]...))
	case 1:
		return g.read(pick(g.maker, l.peer.keys[resources]...))
	}
	return g.call(pick(g.maker, l.peer.keys[tools]...))
}
