package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// stage starts the processes of one part of the benchmark and ends them all.
type stage struct {
	dir     string   // for configurations
	gateway string   // the program; "" if it could not be built
	gogc    string   // "" leaves every process its own setting
	yaml    string   // further sections for gateways that are started from now on
	vars    []string // and further variables for them
	started []*harness.Server
}

func (s *stage) close() {
	for _, p := range s.started {
		p.Kill()
	}
	s.started = nil
}

func (s *stage) env() []string {
	if s.gogc == "" {
		return nil
	}
	return []string{"GOGC=" + s.gogc}
}

// role starts one of this program's roles.
func (s *stage) role(ctx context.Context, r role) (*harness.Server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if r.addr, err = harness.FreeAddr(); err != nil {
		return nil, err
	}
	p, err := harness.StartHTTP(ctx, harness.Spec{Name: r.name, Path: self, Args: r.args(), Env: append([]string{"PATH=" + os.Getenv("PATH")}, s.env()...)}, r.addr)
	if err == nil {
		s.started = append(s.started, p)
	}
	return p, err
}

var errNoGateway = errors.New("the gateway does not build, so it has no rows")

// mcpgw starts the gateway in front of the named URLs and waits until each name in want has a tool in its list.
func (s *stage) mcpgw(ctx context.Context, urls map[string]string, want []string, modern bool) (*harness.Server, error) {
	if s.gateway == "" {
		return nil, errNoGateway
	}
	dir, err := os.MkdirTemp(s.dir, "gateway-")
	if err != nil {
		return nil, err
	}
	var yaml strings.Builder
	yaml.WriteString("gateway: { listen: LISTEN }\ndownstreams:\n")
	for name, url := range urls {
		yaml.WriteString("  " + name + ": { url: '" + url + "' }\n")
	}
	yaml.WriteString(s.yaml)
	p, err := harness.StartGateway(ctx, s.gateway, dir, yaml.String(), append(s.env(), s.vars...)...)
	if err != nil {
		return nil, err
	}
	s.started = append(s.started, p)
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return p, p.Until(ctx, "a tool of "+strings.Join(want, ", "), func() error {
		c := harness.Client{URL: "http://" + p.Addr + "/mcp", Modern: modern}
		if _, err := c.Connect(ctx); err != nil {
			return err
		}
		r, err := c.Request(ctx, "tools/list", "", c.Params("", ""))
		if err != nil {
			return err
		}
		for _, name := range want {
			if !strings.Contains(string(r), `"`+name+`__`) {
				return fmt.Errorf("no tool of %s", name)
			}
		}
		return c.Close(ctx)
	})
}

// variant is one thing to measure, with a connection for each caller.
type variant struct {
	name     string
	hop      *harness.Server // whose processor time counts
	endpoint string
	tool     string
	conns    []*conn
	requests map[*conn][]byte
	samples  []sample
}

func (v *variant) open(ctx context.Context, callers int, modern bool, request func(*conn) []byte) error {
	v.requests = map[*conn][]byte{}
	v.samples = nil
	for range callers {
		c, err := dial(ctx, v.endpoint, modern)
		if err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
		v.conns = append(v.conns, c)
		v.requests[c] = request(c)
	}
	return nil
}

func (v *variant) closeConns() {
	for _, c := range v.conns {
		c.close()
	}
	v.conns = nil
}

// measure drives the variant for d and returns what it saw.
func (v *variant) measure(ctx context.Context, d time.Duration, do func(*conn) error) (sample, error) {
	m0, b0 := allocs(ctx, v.hop.Addr)
	c0, err := cpuTime(v.hop.PID())
	if err != nil {
		return sample{}, err
	}
	s, err := drive(v.conns, d, do)
	if err != nil {
		return s, fmt.Errorf("%s: %w; its log:\n%s", v.name, err, lastLines(v.hop.Log()))
	}
	c1, err := cpuTime(v.hop.PID())
	s.cpu = c1 - c0
	m1, b1 := allocs(ctx, v.hop.Addr)
	s.mallocs, s.bytes = m1-m0, b1-b0
	return s, err
}

func lastLines(s string) string { return s[max(0, len(s)-2000):] }

// rounds measures every variant once a round, each round beginning with another one, so that all of them meet the same noise. A
// round that only warms up comes first.
func rounds(ctx context.Context, vs []*variant, n int, d time.Duration, do func(v *variant, c *conn) error) error {
	for r := -1; r < n; r++ {
		for i := range vs {
			v := vs[(i+max(r, 0))%len(vs)]
			s, err := v.measure(ctx, d, func(c *conn) error { return do(v, c) })
			if err != nil {
				return err
			}
			if r >= 0 {
				v.samples = append(v.samples, s)
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
	}
	return nil
}
