package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

const prometheusConfig = `global: { scrape_interval: 1s, evaluation_interval: 1s }
rule_files: [rules.yml]
scrape_configs:
  - job_name: itself
    static_configs: [{ targets: ["LISTEN"] }]
  - job_name: gone
    static_configs: [{ targets: ["127.0.0.1:1"] }]
`

const prometheusRules = `groups:
  - name: test
    rules:
      - { alert: TargetDown, expr: up == 0, labels: { severity: critical }, annotations: { summary: "a target is down" } }
`

func init() {
	emulators = append(emulators, emulator{"prometheus", "Prometheus itself: from PATH, or as Debian packs it (apt-get download)", runPrometheus})
}

// runPrometheus asks a Prometheus that scrapes itself and something that is not there.
func runPrometheus(ctx context.Context, s *stage) error {
	program, err := findPrometheus(ctx)
	if err != nil {
		return err
	}
	addr, err := harness.FreeAddr()
	if err != nil {
		return err
	}
	for name, text := range map[string]string{"prometheus.yml": strings.ReplaceAll(prometheusConfig, "LISTEN", addr), "rules.yml": prometheusRules} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	p, err := harness.StartHTTP(ctx, harness.Spec{
		Name: "prometheus", Path: program, Dir: s.dir,
		Args: []string{"--config.file=prometheus.yml", "--storage.tsdb.path=" + filepath.Join(s.dir, "data"), "--web.listen-address=" + addr},
	}, addr)
	if err != nil {
		return err
	}
	defer p.Kill()
	g, err := s.gateway(ctx, fmt.Sprintf("gateway: { listen: LISTEN }\ndownstreams:\n  prom: { preset: prometheus, url: \"http://%s\" }\n", addr))
	if err != nil {
		return err
	}
	defer g.close()
	// Two scrapes and an evaluation have to happen first.
	wait, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := p.Until(wait, "an alert fires", func() error {
		if strings.Contains(g.call(wait, "prom__alerts", `{}`), "TargetDown") {
			return nil
		}
		return errors.New("not yet")
	}); err != nil {
		return err
	}
	s.expect("query", g.call(ctx, "prom__query", `{"query":"up"}`), `up{instance=\"`+addr+`\", job=\"itself\"}`)
	s.expect("query, scalar", g.call(ctx, "prom__query", `{"query":"scalar(vector(4))"}`), `"value":"4"`)
	s.expect("query, wrong", g.call(ctx, "prom__query", `{"query":"sum("}`), "Prometheus refuses")
	s.expect("query_range", g.call(ctx, "prom__query_range", `{"query":"prometheus_tsdb_head_series","start":"1m","points":10}`), `"rows":[[`)
	s.expect("alerts", g.call(ctx, "prom__alerts", `{"state":"firing"}`), "a target is down")
	s.expect("targets", g.call(ctx, "prom__targets", `{"health":"down"}`), "connection refused")
	s.expect("metrics", g.call(ctx, "prom__metrics", `{"search":"tsdb_head_series"}`), `"type":"gauge"`)
	s.expect("label_values", g.call(ctx, "prom__label_values", `{"label":"job"}`), "gone")
	p.Kill()
	s.expect("after it is gone", g.call(ctx, "prom__query", `{"query":"up"}`), "cannot be reached", "connection refused")
	return nil
}

// findPrometheus returns a Prometheus, which it unpacks into the cache if there is none.
func findPrometheus(ctx context.Context) (string, error) {
	if path, err := exec.LookPath("prometheus"); err == nil {
		return path, nil
	}
	cache, err := harness.Cache(ctx)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "prometheus")
	path := filepath.Join(dir, "usr", "bin", "prometheus")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", "apt-get download prometheus >/dev/null && dpkg-deb -x prometheus_*.deb .")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("no prometheus in PATH, and Debian's cannot be fetched: %w\n%s", err, out)
	}
	return path, nil
}
