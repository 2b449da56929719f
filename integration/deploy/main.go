// The program deploy proves what deploy/ holds: the rules with promtool, and every query of the dashboards against a real Prometheus that
// scraped a real gateway with a healthy, a failing and a dead server.
//
//	go run ./integration/deploy
//	go run ./integration/deploy -write      write deploy/grafana/dashboards anew
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

func main() {
	write := flag.Bool("write", false, "write deploy/grafana/dashboards anew")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *write)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "deploy:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, write bool) error {
	root, err := harness.Root(ctx)
	if err != nil {
		return err
	}
	folder := filepath.Join(root, "deploy")
	if write {
		return writeDashboards(folder)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	var failed error
	say := func(what string, err error) {
		if err == nil {
			fmt.Fprintln(os.Stdout, "passed", what)
			return
		}
		fmt.Fprintf(os.Stdout, "FAILED %s: %v\n", what, err)
		failed = errors.New("not everything holds")
	}
	say("the dashboards are those of the program", sameDashboards(folder))
	say("every alert has a runbook, every runbook an alert", runbooks(root))
	t, err := findPrometheus(ctx)
	if err != nil {
		return err
	}
	for _, args := range [][]string{
		{"check", "rules", "rules.yml"}, {"test", "rules", "rules_test.yml"}, {"check", "config", "--syntax-only", "prometheus.yml"},
	} {
		cmd := exec.CommandContext(ctx, t.promtool, args...)
		cmd.Dir = filepath.Join(folder, "prometheus")
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, out)
		}
		say("promtool "+args[0]+" "+args[1], err)
	}
	dir, err := os.MkdirTemp("", "mcpgw-deploy-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	s, err := newStage(ctx, t, dir, folder)
	if err != nil {
		return err
	}
	defer s.close()
	say("the configurations for containers are valid", s.containers(ctx, dir, folder))
	say("promtool check metrics", s.checkMetrics(ctx))
	for i := range dashboards {
		say("every query of "+dashboards[i].file, s.queries(ctx, &dashboards[i]))
	}
	say("the rules are loaded and evaluated", s.rules(ctx))
	return failed
}

func writeDashboards(folder string) error {
	for i := range dashboards {
		b, err := dashboards[i].json()
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, "grafana", "dashboards", dashboards[i].file), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func sameDashboards(folder string) error {
	for i := range dashboards {
		want, err := dashboards[i].json()
		if err != nil {
			return err
		}
		got, err := os.ReadFile(filepath.Join(folder, "grafana", "dashboards", dashboards[i].file))
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%s differs: go run ./integration/deploy -write", dashboards[i].file)
		}
	}
	return nil
}
