package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// rig is what one scenario runs on: the gateway, servers, proxies and clients. A scenario starts it, uses it from one goroutine, and
// finish checks what must hold in every scenario and ends all of it.
type rig struct {
	*suite

	dir     string
	gw      *harness.Server
	log     *logBook
	servers map[string]*server
	procs   []*harness.Process // servers over HTTP
	client  *client
	direct  *client
	ledger  *ledger
	watch   *monitor
	before  usage
	began   time.Time // of the faults: what came before is the baseline
	ended   time.Time // of the faults
	figures []figure
	config  string
	summary string
	notes   []string // examples of what went wrong

	// A scenario may set these:
	env       []string      // of the gateway
	wrap      []string      // program and arguments to start the gateway with; nil for none
	noLatency bool          // times say nothing, because the gateway itself is stopped
	crowd     time.Duration // what circuit_status may take longer because many calls come at the same moment
	stopped   bool          // the scenario has ended the gateway
	restart   bool          // fewer or more processes than before may be left
}

// server is one downstream.
type server struct {
	serverSpec

	role  serverRole
	proxy *proxy // of one over HTTP
}

// serverSpec says what downstream to start.
type serverSpec struct {
	name   string
	stdio  bool
	legacy bool   // speak 2025-11-25
	policy string // members of "resilience" in flow style that differ from the defaults of the rig
	more   string // further members of the downstream
	plain  bool   // no proxy in front
	host   string // name to reach the proxy by, instead of 127.0.0.1
}

// figure is one thing that a scenario measured.
type figure struct {
	name, want, got string
	ok              bool
	timed           bool // the machine has a say in it
}

// policies are the defaults of the rig: those of the product, with shorter times so that a scenario takes seconds. Annotations count,
// because the servers are ours.
const policies = `  defaults:
    timeouts: { overall: 8s, attempt: 2s }
    retry: { max_attempts: 3, initial_delay: 20ms, max_delay: 200ms }
    circuit_breaker: { timeout: 1s, max_timeout: 4s, half_open_timeout: 1s, probe: { interval: 100ms, timeout: 500ms } }
    classification: { trust_annotations: true }
`

// check adds a figure to the result of the scenario.
func (r *rig) check(name string, ok bool, want, format string, args ...any) {
	r.figures = append(r.figures, figure{name, want, fmt.Sprintf(format, args...), ok, false})
}

// timed adds a figure that a busy machine can spoil. With -invariants it is shown, but does not count.
func (r *rig) timed(name string, ok bool, want, format string, args ...any) {
	r.check(name, ok, want, format, args...)
	r.figures[len(r.figures)-1].timed = true
}

// atMost adds a figure that is a number with an upper bound.
func (r *rig) atMost(name string, got, most int) {
	r.check(name, got <= most, fmt.Sprintf("≤ %d", most), "%d", got)
}

// exactly adds a figure that is a number.
func (r *rig) exactly(name string, got, want int) {
	r.check(name, got == want, strconv.Itoa(want), "%d", got)
}

// every adds a figure that counts how many of some came out as they should.
func (r *rig) every(name string, got, of int) {
	r.check(name, got == of, "all", "%d of %d", got, of)
}

// within adds a figure that is a time with an upper bound.
func (r *rig) within(name string, got, most time.Duration) {
	r.timed(name, got <= most, "≤ "+most.String(), "%s", short(got))
}

// short rounds a time to three digits or so.
func short(d time.Duration) time.Duration {
	switch {
	case d > 10*time.Second:
		return d.Round(100 * time.Millisecond)
	case d > 100*time.Millisecond:
		return d.Round(time.Millisecond)
	}
	return d.Round(10 * time.Microsecond)
}

// start starts the servers (the healthy neighbour among them), the gateway and the monitor, and measures the baseline.
func (r *rig) start(ctx context.Context, specs ...serverSpec) error {
	r.servers, r.ledger, r.log = map[string]*server{}, &ledger{}, &logBook{}
	for _, s := range append([]serverSpec{{name: calm}}, specs...) {
		if err := r.startServer(ctx, s); err != nil {
			return err
		}
	}
	if err := r.startGateway(ctx, r.yaml("")); err != nil {
		return err
	}
	r.client = newClient("http://"+r.gw.Addr+"/mcp", r.ledger)
	r.direct = newClient("http://"+r.servers[calm].role.addr+"/mcp", r.ledger)
	r.direct.bare = true
	ready, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	err := r.gw.Until(ready, "the tools of every server", func() error {
		list, err := r.client.mcp.Request(ready, "tools/list", "", r.client.mcp.Params("", ""))
		for name := range r.servers {
			if !strings.Contains(string(list), `"`+name+`__write"`) {
				err = errors.Join(err, fmt.Errorf("no tools of %s", name))
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	for name := range r.servers {
		if t := r.client.do(ctx, call{server: name, tool: "read"}); !t.answered {
			return fmt.Errorf("before any fault: %s", t)
		}
	}
	r.watch = startMonitor(ctx, r.client, r.direct, 10*time.Millisecond, r.hasPolicies)
	pause(ctx, r.span(700*time.Millisecond, 1500*time.Millisecond, 5*time.Second))
	if r.before, err = measure(r.gw.PID()); err != nil {
		return err
	}
	r.began = time.Now()
	return nil
}

func (r *rig) startServer(ctx context.Context, spec serverSpec) error {
	s := &server{serverSpec: spec, role: serverRole{name: spec.name, dir: r.dir, modern: !spec.legacy}}
	r.servers[spec.name] = s
	if spec.stdio {
		return nil // the gateway starts it
	}
	var err error
	if s.role.addr, err = harness.FreeAddr(); err != nil {
		return err
	}
	p, err := harness.StartHTTP(ctx, harness.Spec{Name: "server " + spec.name, Path: r.self, Args: s.role.args(), Env: []string{}}, s.role.addr)
	if err != nil {
		return err
	}
	r.procs = append(r.procs, p.Process)
	if s.proxy, err = newProxy(s.role.addr); err != nil {
		return err
	}
	return nil
}

// yaml is the configuration; more are members of the section resilience before the defaults.
func (r *rig) yaml(more string) string {
	var b strings.Builder
	b.WriteString("gateway: { listen: LISTEN }\n")
	if r.hasPolicies {
		b.WriteString("resilience:\n" + more + policies)
	}
	b.WriteString("downstreams:\n")
	for _, s := range r.servers {
		fmt.Fprintf(&b, "  %s:\n", s.name)
		switch {
		case s.stdio:
			fmt.Fprintf(&b, "    command: '%s'\n    args: ['%s']\n", r.self, strings.Join(s.role.args(), "', '"))
		case s.name == calm || s.plain: // not through a proxy, which would be in this busy process
			fmt.Fprintf(&b, "    url: 'http://%s/mcp'\n", s.role.addr)
		case s.host != "":
			fmt.Fprintf(&b, "    url: 'http://%s%s/mcp'\n", s.host, s.proxy.addr[strings.LastIndexByte(s.proxy.addr, ':'):])
		default:
			fmt.Fprintf(&b, "    url: 'http://%s/mcp'\n", s.proxy.addr)
		}
		if s.more != "" {
			b.WriteString("    " + s.more + "\n")
		}
		if !s.stdio && !strings.Contains(s.more, "connection:") {
			b.WriteString("    connection: { keep_alive: 2s }\n") // what is left afterwards is a leak
		}
		if r.hasPolicies && s.policy != "" {
			b.WriteString("    resilience: { " + s.policy + " }\n")
		}
	}
	return b.String()
}

func (r *rig) startGateway(ctx context.Context, yaml string) error {
	addr, err := harness.FreeAddr()
	if err != nil {
		return err
	}
	r.config = filepath.Join(r.dir, "gateway.yaml")
	if err := os.WriteFile(r.config, []byte(strings.ReplaceAll(yaml, "LISTEN", addr)), 0o600); err != nil {
		return err
	}
	spec := harness.Spec{
		Name: "mcpgw", Path: r.gateway, Args: []string{"serve", "--config", r.config, "--log-format", "json"},
		Env: append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir}, r.env...), Log: r.log,
	}
	if len(r.wrap) > 0 {
		spec.Args = append(append(slices.Clone(r.wrap[1:]), spec.Path), spec.Args...)
		spec.Path = r.wrap[0]
	}
	r.gw, err = harness.StartHTTP(ctx, spec, addr)
	return err
}

// reload puts another configuration into force and returns the HTTP status that says how that went.
func (r *rig) reload(ctx context.Context, yaml string) (int, error) {
	if err := os.WriteFile(r.config, []byte(strings.ReplaceAll(yaml, "LISTEN", r.gw.Addr)), 0o600); err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+r.gw.Addr+"/-/reload", http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Body.Close()
}

// tell writes the control file of a server, in one step so that nobody reads half of it.
func (r *rig) tell(name, what string) error {
	file := controlFile(r.dir, name)
	return errors.Join(os.WriteFile(file+".new", []byte(what), 0o600), os.Rename(file+".new", file))
}

// journal reads the journal of a server.
func (r *rig) journal(name string) (journal, error) { return readJournal(r.dir, name) }

// pid returns the process of a stdio server that began last.
func (r *rig) pid(name string) (int, error) {
	j, err := r.journal(name)
	if err != nil || len(j.starts) == 0 {
		return 0, errors.Join(err, fmt.Errorf("%s has not begun", name))
	}
	return j.starts[len(j.starts)-1], nil
}

// kill ends the process of a stdio server as the kernel does when memory runs out. That there is none (it may just have ended) is
// no error.
func (r *rig) kill(name string) error {
	pid, err := r.pid(name)
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// circuit returns the circuit of a downstream as circuit_status shows it.
func (r *rig) circuit(ctx context.Context, name string) (*circuit, error) {
	s, err := r.client.status(ctx, "circuit_metrics")
	if err != nil {
		return nil, err
	}
	if c := s.of(name); c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("circuit_metrics has no circuit of %s", name)
}

// until polls f until it returns nil.
func until(ctx context.Context, limit time.Duration, what string, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		if !pause(ctx, 5*time.Millisecond) {
			return fmt.Errorf("%s: not within %s: %w", what, limit, err)
		}
	}
}

// works waits until calls to a server are answered again and returns how long that took.
func (r *rig) works(ctx context.Context, name string, limit time.Duration) (time.Duration, error) {
	start := time.Now()
	err := until(ctx, limit, "calls to "+name+" work again", func() error {
		if t := r.client.do(ctx, call{server: name, tool: "read"}); !t.answered {
			return errors.New(t.String())
		}
		return nil
	})
	return time.Since(start), err
}

// opens waits until the circuit of a server has the state.
func (r *rig) state(ctx context.Context, name, state string, limit time.Duration) error {
	return until(ctx, limit, "the circuit of "+name+" is "+state, func() error {
		c, err := r.circuit(ctx, name)
		if err == nil && c.State != state {
			err = fmt.Errorf("it is %s", c.State)
		}
		return err
	})
}

// healed marks the end of the faults.
func (r *rig) healed() { r.ended = time.Now() }
