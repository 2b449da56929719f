package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// driveCommand makes this program the client that the suite starts: "drive GATEWAY CLIENT ERA URL", where ERA is what the client speaks to the
// gateway.
const driveCommand = "drive"

// drive puts a gateway before the suite's server and runs the client against it. The suite tells the scenario in the environment, which
// the client inherits.
func drive(ctx context.Context, gateway, client, era, server string) error {
	dir, err := os.MkdirTemp("", "mcpgw-drive-")
	if err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // in the system's temporary folder
	// Forty scenarios run at the same time, so that even the suite's server takes its time to answer.
	gw, err := harness.StartGateway(ctx, gateway, dir, "gateway: { listen: LISTEN }\ndownstreams:\n"+
		"  suite: { url: "+quote(server)+", timeouts: { connect: 1m, discover: 1m, initialize: 1m } }\ntelemetry: { log_level: debug }\n")
	if err != nil {
		return err
	}
	defer gw.Kill()
	through := "http://" + gw.Addr + "/servers/suite/mcp"
	settled(ctx, gw, through)
	if era == legacyEra {
		front, err := onlyLegacy(through)
		if err != nil {
			return err
		}
		defer front.Close()
		through = front.URL
	}
	cmd := exec.CommandContext(ctx, client, through)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	runErr := cmd.Run()
	if err := gw.Stop(20 * time.Second); err != nil {
		runErr = errors.Join(runErr, err)
	}
	if dir := os.Getenv("HOME"); runErr != nil && dir != "" {
		name := strings.ReplaceAll(os.Getenv("MCP_CONFORMANCE_SCENARIO"), "/", "-")
		_ = os.WriteFile(filepath.Join(dir, "gateway-"+era+"-"+name+".log"), []byte(gw.Log()), 0o600) // for -keep
	}
	return runErr
}

// settled waits until the gateway has the suite's tools. A scenario whose server has none, or refuses, goes on after a while.
func settled(ctx context.Context, gw *harness.Server, endpoint string) {
	limit := 20 * time.Second
	if strings.HasPrefix(os.Getenv("MCP_CONFORMANCE_SCENARIO"), "auth/") {
		limit = 3 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_ = gw.Until(ctx, "tools", func() error { // the client will say what is wrong
		c := harness.Client{URL: endpoint, Modern: true}
		r, err := c.Request(ctx, "tools/list", "", c.Params("", ""))
		if err == nil && !strings.Contains(string(r), `"inputSchema"`) {
			err = errors.New("no tools yet")
		}
		return err
	})
}

// onlyLegacy stands between the client and the gateway and knows nothing of server/discover: the go-sdk's client speaks 2026-07-28 to whoever
// answers that, and has no switch.
func onlyLegacy(target string) (*httptest.Server, error) {
	to, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	proxy := &httputil.ReverseProxy{
		FlushInterval: -1,
		Rewrite:       func(r *httputil.ProxyRequest) { r.Out.URL, r.Out.Host = to, to.Host },
		ErrorLog:      slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // a client that goes away is no news
	}
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var m struct {
			ID     json.RawMessage
			Method string
		}
		if r.Method == http.MethodPost && json.Unmarshal(body, &m) == nil && m.Method == "server/discover" {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no such method"}}`, m.ID)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(w, r)
	})), nil
}
