package downstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// ReplicasConfig says how calls are spread over the endpoints of a server that has several. Zero values are replaced by the defaults of
// [DefaultConfig].
type ReplicasConfig struct {
	EjectAfter     int           `yaml:"eject_after" default:"3" doc:"Failures in a row after which an endpoint gets no calls for a time."`
	EjectFor       time.Duration `yaml:"eject_for" default:"30s" doc:"That time. It doubles with each ejection until a call succeeds."`
	EjectMax       time.Duration `yaml:"eject_max" default:"5m" doc:"It doubles up to this."`
	PanicThreshold float64       `yaml:"panic_threshold" default:"0.5" doc:"When more than this share of the endpoints is ejected, ejections do not count: something else is wrong, and all of them are tried."`
}

// Endpoint is what an operator sees of one endpoint of a server that has several.
type Endpoint struct {
	URL          string // without query
	Ejected      bool
	EjectedUntil time.Time // zero unless Ejected
	Pending      int       // calls that wait for its answer
	Sessions     int       // open sessions with it
	Calls        uint64    // that it was given
	Failures     uint64    // of Calls, and attempts to open a session
	InARow       int       // failures since the last success
	LastError    string
}

// doubtful is how long an endpoint that failed once is asked only where no other can be.
const doubtful = time.Second

// replicas is an opener for several endpoints of one server. It knows which of them work, across sessions.
type replicas struct {
	cfg  *Config
	log  *slog.Logger
	all  []*replica
	next atomic.Uint64 // where to begin among equals
	mu   sync.Mutex    // guards the health of all
}

// replica is one endpoint.
type replica struct {
	cfg    Config
	opener opener
	shown  string // URL for people

	pending, sessions atomic.Int64
	*health
}

// health is what is known of an endpoint. It survives the Server. Guarded by the mutex of replicas.
type health struct {
	calls, failures uint64
	row             int // failures in a row
	failed          time.Time
	ejected         time.Time // until when; zero or past: not
	ejections       int       // in a row
	last            string
}

func newReplicas(name string, cfg *Config, log *slog.Logger, version string, former *Server) (*replicas, error) {
	r := &replicas{cfg: cfg, log: log}
	known := map[string]health{}
	if former != nil {
		if old, ok := former.opener.(*replicas); ok {
			old.mu.Lock()
			for _, e := range old.all {
				known[e.cfg.URL] = *e.health
			}
			old.mu.Unlock()
		}
	}
	for _, u := range cfg.URLs {
		e := &replica{cfg: *cfg, shown: shownURL(u), health: new(known[u])}
		e.cfg.URL, e.cfg.URLs = u, nil
		e.cfg.Connection.MaxPerHost, e.cfg.Connection.MaxTotal = cfg.perHost(), 0
		var err error
		if e.opener, err = newHTTPOpener(name, &e.cfg, log.With("endpoint", e.shown), version); err != nil {
			return nil, err
		}
		r.all = append(r.all, e)
	}
	return r, nil
}

// shownURL leaves out what may be secret.
func shownURL(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// close implements opener.
func (r *replicas) close() {
	for _, e := range r.all {
		e.opener.close()
	}
}

// open implements opener: with the first endpoint that lets it. Sessions of older revisions stay with their endpoint; a modern server has
// none, so each call may go to another one.
func (r *replicas) open(ctx context.Context, o opening) (link, error) {
	var errs []error
	order := r.order(func(*replica) bool { return true })
	for i, e := range order {
		l, err := r.openAt(ctx, e, o, len(order)-i)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", e.shown, err))
			if ctx.Err() != nil {
				break
			}
			continue
		}
		if l.peer().modern() {
			return newBalanced(r, o, e, l), nil
		}
		return newPinned(r, e, l), nil
	}
	return nil, errors.Join(errs...)
}

// openAt opens a session with one endpoint, within its share of the time that is left for several.
func (r *replicas) openAt(ctx context.Context, e *replica, o opening, several int) (link, error) {
	if end, ok := ctx.Deadline(); ok && several > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/time.Duration(several))
		defer cancel()
	}
	l, err := e.opener.open(ctx, o)
	if err != nil {
		r.note(e, err, false)
	}
	return l, err
}

// order returns the endpoints that may be used in the order in which to try them: those that work first, then by how many calls wait for
// each. Ejected ones come only if there are no others, or too many are ejected.
func (r *replicas) order(may func(*replica) bool) []*replica {
	now := time.Now()
	type rank struct {
		e     *replica
		class int
		load  int64
		turn  int
	}
	first := int(r.next.Add(1) % uint64(len(r.all))) //nolint:gosec // less than the number of endpoints
	ranks := make([]rank, 0, len(r.all))
	r.mu.Lock()
	out := 0
	for _, e := range r.all {
		if now.Before(e.ejected) {
			out++
		}
	}
	panicking := float64(out) > r.cfg.Replicas.PanicThreshold*float64(len(r.all))
	for i, e := range r.all {
		if !may(e) {
			continue
		}
		k := rank{e: e, load: e.pending.Load() + e.sessions.Load(), turn: (i + len(r.all) - first) % len(r.all)}
		switch {
		case panicking:
		case now.Before(e.ejected):
			k.class = 2
		case e.row > 0 && now.Sub(e.failed) < doubtful:
			k.class = 1
		}
		ranks = append(ranks, k)
	}
	r.mu.Unlock()
	slices.SortFunc(ranks, func(a, b rank) int {
		return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(a.load, b.load), cmp.Compare(a.turn, b.turn))
	})
	order := make([]*replica, 0, len(ranks))
	for _, k := range ranks {
		if k.class == 2 && len(order) > 0 {
			break
		}
		order = append(order, k.e)
	}
	return order
}

// note records what came of a call, or of an attempt to open a session.
func (r *replicas) note(e *replica, err error, call bool) {
	broken := brokenBy(err)
	r.mu.Lock()
	defer r.mu.Unlock()
	if call {
		e.calls++
	}
	switch {
	case err == nil || !broken && isAnswer(err):
		e.row, e.ejections = 0, 0
		e.ejected = time.Time{}
	case broken:
		now := time.Now()
		e.failures++
		e.row++
		e.failed, e.last = now, err.Error()
		if e.row < r.cfg.Replicas.EjectAfter || now.Before(e.ejected) {
			return
		}
		d := r.cfg.Replicas.EjectFor
		for i := 0; i < e.ejections && d < r.cfg.Replicas.EjectMax; i++ {
			d *= 2
		}
		d = min(d, r.cfg.Replicas.EjectMax)
		e.ejections++
		e.ejected = now.Add(d)
		r.log.Warn("endpoint ejected", "endpoint", e.shown, "failures", e.row, "for", d, "err", err)
	}
}

// brokenBy reports whether an error speaks against the endpoint.
func brokenBy(err error) bool {
	if status, ok := errors.AsType[*StatusError](err); ok {
		return status.Status/100 == 5 && status.Status != http.StatusNotImplemented || status.Status == http.StatusRequestTimeout
	}
	if away, ok := errors.AsType[*UnavailableError](err); ok {
		return away.Class != "overloaded" && away.Class != "stopped" && away.Class != "connection_closed"
	}
	if lost, ok := errors.AsType[*LostError](err); ok {
		return lost.Class != "cancelled"
	}
	return errors.Is(err, context.DeadlineExceeded)
}

// isAnswer reports whether an error is the server's own answer.
func isAnswer(err error) bool {
	if _, ok := errors.AsType[*wire.Error](err); ok {
		return true
	}
	_, ok := errors.AsType[*StatusError](err)
	return ok
}

// endpoints returns what an operator sees.
func (r *replicas) endpoints() []Endpoint {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Endpoint, len(r.all))
	for i, e := range r.all {
		list[i] = Endpoint{
			URL: e.shown, Pending: int(e.pending.Load()), Sessions: int(e.sessions.Load()), Calls: e.calls, Failures: e.failures,
			InARow: e.row, LastError: e.last,
		}
		if now.Before(e.ejected) {
			list[i].Ejected, list[i].EjectedUntil = true, e.ejected
		}
	}
	return list
}
