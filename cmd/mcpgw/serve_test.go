package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

const initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"0"}}}`

// ask sends a request and returns the status and the body.
func ask(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

func TestServe(t *testing.T) {
	path := write(t, hostOnly)
	r := start(t, nil, "serve", "--config", path, "--listen", "127.0.0.1:0")
	base := r.base(t)
	if code, body := ask(t, http.MethodPost, base+"/mcp", initialize); code != 200 || !strings.Contains(body, `"serverInfo"`) {
		t.Errorf("initialize: %d %s", code, body)
	}
	if code, body := ask(t, http.MethodGet, base+"/healthz", ""); code != 200 {
		t.Errorf("healthz: %d %s", code, body)
	}
	r.cancel()
	if code := r.wait(t); code != 0 {
		t.Errorf("exit code %d\n%s", code, r.log.text())
	}
	if r.stdout.Len() > 0 {
		t.Errorf("stdout belongs to MCP, found %q", r.stdout)
	}
	r.log.await(t, "ended", 1)
}

func TestServeReloadsOnRequest(t *testing.T) {
	path := write(t, hostOnly)
	r := start(t, nil, "serve", "--config", path, "--listen", "127.0.0.1:0")
	base := r.base(t)
	reload := func() (int, string) { return ask(t, http.MethodPost, base+"/-/reload", "") }

	put(t, path, "gateway: {timeouts: {header: 3s}}\ntelemetry: {log_level: debug}\n"+two)
	if code, body := reload(); code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	rec := r.log.await(t, reloaded, 1)
	if got := fmt.Sprintf("%v %v %v", rec["added"], rec["kept"], rec["trigger"]); got != "[other] 1 POST /-/reload" {
		t.Errorf("got %s", got)
	}
	for i, want := range []string{"gateway.timeouts.header", "telemetry"} {
		if got := r.log.await(t, "a changed setting takes effect only at the next start", i+1)["key"]; got != want {
			t.Errorf("got %v, want %s", got, want)
		}
	}

	put(t, path, faulty)
	code, body := reload()
	for _, want := range []string{path + ":1:22: downstreams.host.preset: ", path + ":1:37: downstreams.x: expected one of command, url, urls or preset"} {
		if code == 200 || !strings.Contains(body, want) {
			t.Errorf("%d, lacks %q:\n%s", code, want, body)
		}
	}
	// A file that serve would refuse is refused here too.
	put(t, path, "gateway: {listen: \"127.0.0.1:1\", admin: {listen: \"0.0.0.0:1\"}}\n"+hostOnly)
	if code, body := reload(); code == 200 || !strings.Contains(body, "gateway.admin.listen: 0.0.0.0:1 can be reached by others") {
		t.Errorf("%d %s", code, body)
	}
	if code, _ := ask(t, http.MethodPost, base+"/servers/other/mcp", initialize); code != 200 {
		t.Errorf("a refused reload took a downstream away: %d", code)
	}
}

func TestServeKeepsTokensWhileOthersCanReachIt(t *testing.T) {
	const tokens = "gateway: {tokens: [0123456789abcdef]}\n"
	path := write(t, tokens+hostOnly)
	r := start(t, nil, "serve", "--config", path, "--listen", "0.0.0.0:0")
	url := r.log.await(t, "serving", 1)["url"].(string)
	if !strings.HasPrefix(url, "http://localhost:") {
		t.Errorf("expected an address that can be used, found %s", url)
	}
	put(t, path, hostOnly)
	rec := r.log.await(t, notReloaded, 1)
	if got := fmt.Sprint(rec["err"]); !strings.Contains(got, "can be reached by others") || rec["trigger"] != "file change" {
		t.Errorf("got %v", rec)
	}
}

func TestServeWithAdminAddress(t *testing.T) {
	free := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		return l.Addr().String()
	}
	admin := free()
	r := start(t, nil, "serve", "--config", write(t, "gateway: {listen: \"127.0.0.1:0\", admin: {listen: \""+admin+"\"}}\n"+hostOnly))
	base := r.base(t)
	if code, _ := ask(t, http.MethodGet, base+"/healthz", ""); code != 404 {
		t.Errorf("healthz at the clients' address: %d", code)
	}
	if code, _ := ask(t, http.MethodGet, "http://"+admin+"/healthz", ""); code != 200 {
		t.Errorf("healthz: %d", code)
	}
}

// TestBodyWithin sends a body that never comes, and then takes a stream for longer than a body may take.
func TestBodyWithin(t *testing.T) {
	const limit = 200 * time.Millisecond
	failed := make(chan error, 1)
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: bodyWithin(limit, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		if r.URL.Path == "/slow" {
			failed <- err
			return
		}
		for range 4 {
			select {
			case <-r.Context().Done():
				failed <- context.Cause(r.Context())
				return
			case <-time.After(limit / 2):
			}
			_, _ = w.Write([]byte("x"))
			_ = http.NewResponseController(w).Flush()
		}
		failed <- err
	}))}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = srv.Serve(l) }()
	defer func() { _ = srv.Close() }()

	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_, _ = io.WriteString(c, "POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
	if err := <-failed; !os.IsTimeout(err) {
		t.Errorf("a body that does not come: got %v, want a timeout", err)
	}
	if code, body := ask(t, http.MethodPost, "http://"+l.Addr().String()+"/stream", "abc"); code != 200 || body != "xxxx" {
		t.Errorf("stream: %d %q", code, body)
	}
	if err := <-failed; err != nil {
		t.Errorf("stream: %v", err)
	}
}

// TestStdio speaks MCP to a real process until its input ends.
func TestStdio(t *testing.T) {
	cmd, log := program(t, "stdio", "--config", write(t, hostOnly))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(in, initialize+"\n")
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	if !lines.Scan() || !strings.Contains(lines.Text(), `"serverInfo"`) {
		t.Fatalf("got %q\n%s", lines.Text(), log.text())
	}
	_, _ = io.WriteString(in, `{"jsonrpc":"2.0","method":"notifications/initialized"}`+"\n")
	_, _ = io.WriteString(in, `{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"circuit_status","arguments":{}}}`+"\n")
	answered := false
	for !answered && lines.Scan() {
		var m struct {
			Version string `json:"jsonrpc"`
			ID      any    `json:"id"`
		}
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil || m.Version != "2.0" {
			t.Errorf("stdout holds something else than MCP: %q", lines.Text())
		}
		answered = m.ID == "a"
	}
	if !answered {
		t.Errorf("no answer\n%s", log.text())
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
		if !json.Valid(lines.Bytes()) {
			t.Errorf("stdout holds something else than MCP: %q", lines.Text())
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("expected exit code 0, got %v\n%s", err, log.text())
	}
}

// TestStdioEndsWithItsContext covers a client that keeps the pipe open.
func TestStdioEndsWithItsContext(t *testing.T) {
	in, w := io.Pipe()
	defer func() { _ = w.Close() }()
	r := start(t, in, "stdio", "--config", write(t, hostOnly))
	_, _ = io.WriteString(w, initialize+"\n")
	r.cancel()
	if code := r.wait(t); code != 0 {
		t.Errorf("exit code %d\n%s", code, r.log.text())
	}
}
