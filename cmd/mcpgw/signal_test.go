//go:build unix

package main

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
)

// TestSignals sends real signals to a real process.
func TestSignals(t *testing.T) {
	path := write(t, hostOnly)
	cmd, log := program(t, "serve", "--config", path, "--listen", "127.0.0.1:0")
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	log.await(t, "serving", 1)
	hup := func() {
		t.Helper()
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	hup()
	log.await(t, "configuration unchanged", 1)
	put(t, path, two)
	hup()
	if got := log.await(t, reloaded, 1)["trigger"]; got != "SIGHUP" {
		t.Errorf("got %v", got)
	}
	put(t, path, faulty)
	hup()
	log.await(t, notReloaded, 1)
	put(t, path, hostOnly)
	if got := log.await(t, reloaded, 2)["trigger"]; got != "file change" {
		t.Errorf("got %v", got)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("expected exit code 0, got %v\n%s", err, log.text())
	}
	log.await(t, "ended", 1)
	if stdout.Len() > 0 {
		t.Errorf("stdout belongs to MCP, found %q", &stdout)
	}
}

// TestSecondSignal ends a gateway that waits for a call which never ends.
func TestSecondSignal(t *testing.T) {
	cmd, log := program(t, "serve", "--listen", "127.0.0.1:0", "--config", write(t, "gateway: {timeouts: {shutdown: 10m}}\n"+hostOnly))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	url, _ := log.await(t, "serving", 1)["url"].(string)
	// A request whose body does not end is in flight.
	c, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/mcp"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_, _ = io.WriteString(c, "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n")
	// The server asks for the body when the handler reads it: from then on the request is in flight.
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("%q %v", line, err)
	}
	for i := range 2 {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			log.await(t, "shutting down, a second signal ends at once", 1)
		}
	}
	err = cmd.Wait()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
		t.Errorf("expected the second signal to end it, got %v\n%s", err, log.text())
	}
}
