package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// stage is a gateway under some load, and a Prometheus that scrapes it.
type stage struct {
	bin        string // mcpgw
	tools      *tools
	gateway    *harness.Server
	prometheus *harness.Server
}

func newStage(ctx context.Context, t *tools, dir, folder string) (*stage, error) {
	bin, err := harness.Build(ctx, dir, "./cmd/mcpgw")
	if err != nil {
		return nil, err
	}
	s := &stage{bin: bin, tools: t}
	nobody, err := harness.FreeAddr()
	if err != nil {
		return nil, err
	}
	// The server that is killed half-way is a gateway too, a real MCP server over HTTP.
	other := filepath.Join(dir, "flaky")
	if err := os.Mkdir(other, 0o700); err != nil {
		return nil, err
	}
	gw, err := harness.StartGateway(ctx, bin, other, "gateway: { listen: LISTEN }\ndownstreams: { host: { preset: host } }\n")
	if err != nil {
		return nil, err
	}
	flaky := &server{gw}
	defer func() { flaky.Kill() }()
	if s.gateway, err = harness.StartGateway(ctx, bin, dir, fmt.Sprintf("gateway: { listen: LISTEN }\ntelemetry: { log_level: error }\n"+
		"downstreams:\n  host: { preset: host }\n  dead: { url: http://%s/mcp }\n  ends: { command: \"false\" }\n  flaky: { url: http://%s/servers/host/mcp, restart: { max_delay: 500ms }, resilience: { circuit_breaker: { failure_threshold: 1, timeout: 1s } } }\n", nobody, flaky.Addr)); err != nil {
		return nil, err
	}
	addr, err := harness.FreeAddr()
	if err != nil {
		s.close()
		return nil, err
	}
	conf := fmt.Sprintf("global: { scrape_interval: 1s, evaluation_interval: 1s }\nrule_files: [%s]\nscrape_configs: [{ job_name: mcpgw, static_configs: [{ targets: [%q] }] }]\n",
		filepath.Join(folder, "prometheus", "rules.yml"), s.gateway.Addr)
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		s.close()
		return nil, err
	}
	if s.prometheus, err = harness.StartHTTP(ctx, harness.Spec{
		Name: "prometheus", Path: t.server, Args: []string{"--config.file=" + file, "--storage.tsdb.path=" + filepath.Join(dir, "tsdb"), "--web.listen-address=" + addr},
	}, addr); err != nil {
		s.close()
		return nil, err
	}
	const loaded = 14 * time.Second
	killed := false
	for begin := time.Now(); time.Since(begin) < loaded; {
		switch past := time.Since(begin); {
		case !killed && past > loaded/4:
			flaky.Kill()
			killed = true
		case killed && past > loaded/2 && flaky.ended():
			if flaky, err = restart(ctx, flaky, bin, other); err != nil {
				s.close()
				return nil, err
			}
		}
		for _, tool := range []string{"host__memory", "host__overview", "flaky__memory", "circuit_status"} {
			if err := s.call(ctx, tool); err != nil {
				s.close()
				return nil, err
			}
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

// server is a gateway that can be asked whether it has been killed.
type server struct{ *harness.Server }

func (s *server) ended() bool {
	select {
	case <-s.Done():
		return true
	default:
		return false
	}
}

// restart starts a server again at its address.
func restart(ctx context.Context, was *server, bin, dir string) (*server, error) {
	s, err := harness.StartHTTP(ctx, harness.Spec{
		Name: "flaky", Path: bin, Args: []string{"serve", "--config", filepath.Join(dir, "gateway.yaml")},
		Env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir},
	}, was.Addr)
	if err != nil {
		return was, err
	}
	return &server{s}, nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *stage) close() {
	for _, p := range []*harness.Server{s.prometheus, s.gateway} {
		if p != nil {
			p.Kill()
		}
	}
}

// call makes one call; what the tool answers does not matter.
func (s *stage) call(ctx context.Context, tool string) error {
	c := &harness.Client{URL: "http://" + s.gateway.Addr + "/mcp", Modern: true}
	_, err := c.Send(ctx, "1", "tools/call", tool, c.Params(fmt.Sprintf(`"name":%q,"arguments":{}`, tool), ""))
	return err
}

// containers has mcpgw check the gateway.yaml of the image and that of the Kubernetes ConfigMap.
func (s *stage) containers(ctx context.Context, dir, folder string) error {
	image, err := os.ReadFile(filepath.Join(folder, "docker", "gateway.yaml"))
	if err != nil {
		return err
	}
	manifest, err := os.ReadFile(filepath.Join(folder, "kubernetes", "mcpgw.yaml"))
	if err != nil {
		return err
	}
	_, rest, ok := strings.Cut(string(manifest), "  gateway.yaml: |\n")
	inner, _, ok2 := strings.Cut(rest, "\n---\n")
	if !ok || !ok2 {
		return errors.New("no gateway.yaml in the ConfigMap")
	}
	var errs []error
	for name, text := range map[string]string{"docker": string(image), "kubernetes": inner} {
		file := filepath.Join(dir, name+".yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, s.bin, "check", "--connect=false", "--config", file)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "MCPGW_TOKEN=a-token-for-the-test-only"}
		if out, err := cmd.CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w\n%s", name, err, out))
		}
	}
	return errors.Join(errs...)
}

func (s *stage) checkMetrics(ctx context.Context) error {
	body, err := get(ctx, "http://"+s.gateway.Addr+"/metrics")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, s.tools.promtool, "check", "metrics")
	cmd.Stdin = bytes.NewReader(body)
	if out, err := cmd.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		return fmt.Errorf("%w\n%s", errors.Join(err, errors.New("it has something to say")), out)
	}
	return nil
}

func get(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close() //nolint:errcheck // read to its end
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, body)
	}
	return body, err
}

// quiet are metrics of things that do not happen on this stage, so that their queries find nothing.
var quiet = regexp.MustCompile(`mcpgw_(retry|hedge|fallback|panics|rate_limit|attempt_late|admission|downstream_(restarts|pushback|probe)|timeout|bulkhead_(wait|rejected)|circuit_breaker_outage|degraded)|mcp_server_session`)

// queries asks every query of a dashboard. It must be valid, and find something where something happened.
func (s *stage) queries(ctx context.Context, d *dashboard) error {
	replace := strings.NewReplacer("$downstream", ".*", "$circuit", ".*", "$__rate_interval", "10s", "$__range", "1m")
	var errs []error
	for _, r := range d.rows {
		for _, p := range r.panels {
			for _, q := range p.queries {
				n, err := s.ask(ctx, replace.Replace(q.expr))
				if err == nil && n == 0 && !quiet.MatchString(q.expr) {
					err = errors.New("finds nothing")
				}
				if err != nil {
					errs = append(errs, fmt.Errorf("%s: %s: %w", p.title, q.expr, err))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// ask returns how many series a query finds.
func (s *stage) ask(ctx context.Context, expr string) (int, error) {
	body, err := get(ctx, "http://"+s.prometheus.Addr+"/api/v1/query?query="+url.QueryEscape(expr))
	if err != nil {
		return 0, err
	}
	var answer struct {
		Data struct{ Result []any }
	}
	err = json.Unmarshal(body, &answer)
	return len(answer.Data.Result), err
}

// rules looks whether Prometheus evaluates all of them without an error.
func (s *stage) rules(ctx context.Context) error {
	body, err := get(ctx, "http://"+s.prometheus.Addr+"/api/v1/rules")
	if err != nil {
		return err
	}
	var answer struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return err
	}
	var errs []error
	n := 0
	for _, g := range answer.Data.Groups {
		for _, r := range g.Rules {
			if n++; r.Health != "ok" {
				errs = append(errs, fmt.Errorf("%s: %s %s", r.Name, r.Health, r.LastError))
			}
		}
	}
	if n == 0 {
		errs = append(errs, errors.New("there are none"))
	}
	return errors.Join(errs...)
}

var (
	alertName   = regexp.MustCompile(`(?m)^\s*- alert: (\w+)`)
	runbookName = regexp.MustCompile(`runbook: (docs/runbooks/[\w-]+\.md)`)
)

// runbooks compares the alerts with the pages about them.
func runbooks(root string) error {
	rules, err := os.ReadFile(filepath.Join(root, "deploy", "prometheus", "rules.yml"))
	if err != nil {
		return err
	}
	pages, err := filepath.Glob(filepath.Join(root, "docs", "runbooks", "*.md"))
	if err != nil {
		return err
	}
	texts := map[string]string{}
	for _, p := range pages {
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		texts["docs/runbooks/"+filepath.Base(p)] = string(b)
	}
	var errs []error
	used := map[string]bool{"docs/runbooks/README.md": true}
	for _, m := range runbookName.FindAllStringSubmatch(string(rules), -1) {
		used[m[1]] = true
		if texts[m[1]] == "" {
			errs = append(errs, fmt.Errorf("no page %s", m[1]))
		}
	}
	all := strings.Join(slices.Collect(maps.Values(texts)), "\n")
	for _, m := range alertName.FindAllStringSubmatch(string(rules), -1) {
		if strings.Count(all, "`"+m[1]+"`") < 2 { // in its page and in the list
			errs = append(errs, fmt.Errorf("%s has no page, or is not in the list", m[1]))
		}
	}
	for page := range texts {
		if !used[page] {
			errs = append(errs, fmt.Errorf("no alert leads to %s", page))
		}
	}
	return errors.Join(errs...)
}
