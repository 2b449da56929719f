package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// rackSystems are the simulated systems of the default gateway.yaml with a tool that asks each of them something.
var rackSystems = map[string]string{
	"pfsense": "pfsense__overview", "truenas": "truenas__overview", "idrac": "idrac__systems", "proxmox": "proxmox__guests", "llm": "llm__list_models",
}

// rackYAML is the default rack with limits that a test has time for.
func rackYAML() string {
	var b strings.Builder
	b.WriteString("gateway: { listen: LISTEN }\ndownstreams:\n  host: { preset: host }\n")
	for name := range rackSystems {
		fmt.Fprintf(&b, "  %s: { preset: %s, url: lab, resilience: { timeouts: { attempt: 1s, overall: 2s }, retry: { max_attempts: 1 }, "+
			"circuit_breaker: { half_open_timeout: 1s, failure_threshold: 2, timeout: 500ms, probe: { interval: 100ms, timeout: 1s } } } }\n", name, name)
	}
	return b.String()
}

// told is what a client reads of a call.
type told struct {
	IsError    bool `json:"isError"`
	Structured struct {
		Error, Class, Executed, Message string
		Simulated                       bool
	} `json:"structuredContent"`
}

func rackCall(t *testing.T, gw *harness.Server, tool string) (told, time.Duration) {
	t.Helper()
	c := &harness.Client{URL: "http://" + gw.Addr + "/mcp", Modern: true}
	begin := time.Now()
	raw, err := c.Request(deadline(t, 20*time.Second), "tools/call", tool, c.Params(fmt.Sprintf(`"name":%q,"arguments":{}`, tool), ""))
	if err != nil {
		t.Fatalf("%s: %v", tool, err)
	}
	var got told
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatalf("%s: %v in %s", tool, err, raw)
	}
	return got, time.Since(begin)
}

func labOrder(t *testing.T, gw *harness.Server, name, fault string) {
	t.Helper()
	body, _ := json.Marshal(map[string]any{"name": name, "fault": fault, "delay_ms": 3000})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+gw.Addr+"/-/lab", strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if text, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", res.Status, text)
	}
}

func page(t *testing.T, address string, header ...string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestRack breaks each system of the default rack in each way while the others are used (issue 5, bar 4).
func TestRack(t *testing.T) {
	t.Parallel()
	gw := startGateway(t, rackYAML())
	held := map[string]bool{} // a refused key is not tried again for some seconds
	everybody := func(but, when string) {
		t.Helper()
		for name, tool := range rackSystems {
			if name == but || held[name] {
				continue
			}
			if got, took := rackCall(t, gw, tool); got.IsError || !got.Structured.Simulated || took > 5*time.Second {
				t.Errorf("%s %s: %+v after %s", name, when, got, took)
			}
		}
		if got, _ := rackCall(t, gw, "host__memory"); got.IsError {
			t.Errorf("host %s: %+v", when, got)
		}
	}
	eventually(t, 20*time.Second, "all systems", func() error {
		if n := strings.Count(page(t, "http://"+gw.Addr+"/status", "Accept", "application/json"), `"state":"ready"`); n < 6 {
			return fmt.Errorf("%d servers are ready", n)
		}
		return nil
	})
	everybody("", "at first")
	for name, tool := range rackSystems {
		for _, f := range []struct {
			fault string
			want  []string // classes
		}{
			{"refuse", []string{"connect", "connection"}},
			{"hang", []string{"timeout"}},
			{"slow", []string{"timeout"}},
			{"503", []string{"503", "status", "connect", "connection"}},
			{"429", []string{"rate_limited", "busy", "429"}},
			{"garbage", []string{"malformed_response", "connection"}},
			{"unauthorized", []string{"auth_error"}},
		} {
			fault, want := f.fault, f.want
			when := "while " + name + " has " + fault
			labOrder(t, gw, name, fault)
			first, took := rackCall(t, gw, tool)
			if !first.IsError || !slices.Contains(want, first.Structured.Class) || took > 10*time.Second {
				t.Errorf("%s: told %+v after %s, want one of %v", when, first, took, want)
			}
			everybody(name, when)
			labOrder(t, gw, name, "")
			if fault == "unauthorized" {
				held[name] = true
				continue
			}
			eventually(t, 30*time.Second, name+" after "+fault, func() error {
				if got, _ := rackCall(t, gw, tool); got.IsError {
					return fmt.Errorf("still %+v", got)
				}
				return nil
			})
		}
	}
	for name, tool := range rackSystems {
		eventually(t, 60*time.Second, name+" after its key was refused", func() error {
			if got, _ := rackCall(t, gw, tool); got.IsError {
				return fmt.Errorf("still %+v", got)
			}
			return nil
		})
	}
}

// TestRackKeepsSecrets plants a secret in every credential field and looks for it in all that comes out (issue 5, bar 7). The systems are
// simulators of another gateway, which refuse it.
func TestRackKeepsSecrets(t *testing.T) {
	t.Parallel()
	real := startGateway(t, rackYAML())
	var lab struct {
		Systems []struct{ Name, URL string }
	}
	eventually(t, 20*time.Second, "the lab", func() error {
		if err := json.Unmarshal([]byte(page(t, "http://"+real.Addr+"/-/lab")), &lab); err != nil || len(lab.Systems) < len(rackSystems) {
			return fmt.Errorf("%d systems: %w", len(lab.Systems), err)
		}
		return nil
	})
	var b strings.Builder
	b.WriteString("gateway: { listen: LISTEN, tokens: [\"planted-gateway-token-1234567890\"] }\ntelemetry: { log_level: debug, access_log: { enabled: true } }\ndownstreams:\n")
	const uuid = "0badc0de-5ec2-4e70-8000-70616e746564" // the form that Proxmox wants
	secret := func(name string) string {
		if name == "proxmox" {
			return "root@pam!mcpgw=" + uuid
		}
		return "planted-secret-of-" + name
	}
	for _, s := range lab.Systems {
		fmt.Fprintf(&b, "  %s: { preset: %s, url: %q, username: someone, %s: %q }\n", s.Name, s.Name, s.URL,
			map[bool]string{true: "password", false: "token"}[s.Name == "idrac"], secret(s.Name))
	}
	fmt.Fprintf(&b, "  remote: { url: %q, headers: { Authorization: \"Bearer planted-secret-of-remote\" } }\n", "http://"+real.Addr+"/servers/host/mcp")
	fmt.Fprintf(&b, "  child: { command: \"false\", env: { KEY: planted-secret-of-child } }\n")
	gw := startGateway(t, b.String())
	all := ""
	for name, tool := range rackSystems {
		for range 2 {
			c := &harness.Client{URL: "http://" + gw.Addr + "/servers/" + name + "/mcp", Modern: true, HTTP: withToken("planted-gateway-token-1234567890")}
			_, own, _ := strings.Cut(tool, "__")
			messages, err := c.Send(deadline(t, 40*time.Second), "1", "tools/call", own, c.Params(fmt.Sprintf(`"name":%q,"arguments":{}`, own), ""))
			all += fmt.Sprintf("%s: %s %v\n", name, messages, err)
		}
	}
	for _, path := range []string{"/status", "/metrics", "/-/lab"} {
		all += page(t, "http://"+gw.Addr+path, "Authorization", "Bearer planted-gateway-token-1234567890", "Accept", "application/json")
	}
	all += page(t, "http://"+gw.Addr+"/status", "Authorization", "Bearer planted-gateway-token-1234567890", "Accept", "text/html")
	all += gw.Log()
	if !strings.Contains(all, "does not accept") && !strings.Contains(all, "auth_error") {
		t.Errorf("nothing was refused, so that nothing is proved:\n%.2000s", all)
	}
	for _, planted := range []string{"planted-", uuid} {
		if at := strings.Index(all, planted); at >= 0 {
			t.Errorf("a secret came out: …%s…", all[max(at-200, 0):min(at+100, len(all))])
		}
	}
}

// withToken is a client that sends a bearer token.
func withToken(token string) *http.Client {
	return &http.Client{Transport: bearer(token)}
}

type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(context.WithoutCancel(r.Context()))
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}

// TestRackStartsAtOnce starts the default file as the README says: five systems and host within two seconds, and little memory (issue 5,
// bar 6).
func TestRackStartsAtOnce(t *testing.T) {
	root, err := harness.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	yaml, err := os.ReadFile(root + "/gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	program(t, harness.Gateway)
	begin := time.Now()
	gw := startGateway(t, strings.Replace(string(yaml), "listen: 127.0.0.1:8080", "listen: LISTEN", 1))
	eventually(t, 20*time.Second, "all systems", func() error {
		if n := strings.Count(page(t, "http://"+gw.Addr+"/status", "Accept", "application/json"), `"state":"ready"`); n < 6 {
			return fmt.Errorf("%d servers are ready", n)
		}
		return nil
	})
	took := time.Since(begin)
	for _, tool := range rackSystems {
		if got, _ := rackCall(t, gw, tool); got.IsError {
			t.Errorf("%s: %+v", tool, got)
		}
	}
	t.Logf("ready after %s", took.Round(time.Millisecond))
	if limit := 2 * time.Second; len(buildFlags) == 0 && took > limit {
		t.Errorf("ready after %s, want %s", took, limit)
	}
	if kb := residentKB(t, gw.PID()); len(buildFlags) == 0 && kb > 60<<10 {
		t.Errorf("%d KB resident, want at most 60 MB", kb)
	}
}

// residentKB returns the resident memory of a process.
func residentKB(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	kb := 0
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			_, _ = fmt.Sscan(rest, &kb)
		}
	}
	return kb
}
