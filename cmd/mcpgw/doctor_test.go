package main

import (
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/gateway"
	"github.com/mcpgw/mcpgw/internal/mcptest"
)

// verdict returns the first finding about something.
func verdict(x *examination, what string) finding {
	for _, f := range x.Findings {
		if f.What == what {
			return f
		}
	}
	return finding{}
}

func TestDoctor(t *testing.T) {
	https := httptest.NewTLSServer(http.NotFoundHandler())
	defer https.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	tests := []struct {
		name, file string
		code       int
		want       map[string][2]string // what: verdict, and a part of what is said or of the mend
	}{
		{"all is well", "gateway: {listen: \"127.0.0.1:0\"}\n" + hostOnly, 0, map[string][2]string{"configuration": {"ok", "is valid"}, "clock": {"ok", ""}, "gateway": {"warning", "mcpgw serve starts it"}}},
		{"faults in the file", "downstreams: {host: {preset: hots}}\n", 3, map[string][2]string{"configuration": {"fault", `did you mean "host"?`}}},
		{"a variable", "downstreams: {a: {url: \"${MCPGW_TEST_UNSET}\"}}\n", 3, map[string][2]string{"environment": {"fault", "export MCPGW_TEST_UNSET"}}},
		{"another program", "gateway: {listen: \"" + strings.TrimPrefix(other.URL, "http://") + "\"}\n" + hostOnly, 3, map[string][2]string{"gateway": {"fault", "choose another gateway.listen"}}},
		{
			"servers", "gateway: {listen: \"127.0.0.1:0\"}\ndownstreams:\n" +
				"  cmd: {command: sh}\n  gone: {command: /nowhere/to/be/found}\n  node: {command: npx-that-is-not-there}\n  dir: {command: sh, dir: /nowhere}\n  off: {command: /nowhere, disabled: true}\n" +
				"  plain: {url: \"" + plain.URL + "\"}\n  refused: {url: \"" + mcptest.Refusing(t) + "\"}\n  tls: {url: \"" + https.URL + "\"}\n  notls: {url: \"https" + strings.TrimPrefix(plain.URL, "http") + "\"}\n" +
				"  nodns: {url: \"http://mcpgw-test.invalid/mcp\"}\n",
			3,
			map[string][2]string{
				"cmd": {"ok", "/sh"}, "gone": {"fault", "cannot be started"}, "node": {"fault", "services have a shorter PATH"}, "dir": {"fault", "is not there"}, "off": {"", ""},
				"plain": {"ok", "takes connections"}, "refused": {"fault", "does not take connections"}, "tls": {"fault", "is not trusted"}, "notls": {"fault", "is it an http:// address?"},
				"nodns": {"fault", "has no address"},
			},
		},
	}
	for _, v := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"} {
		t.Setenv(v, "")
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, tt.file)
			code, out, errs := command(t, "doctor", "--config", path, "-o", "json")
			var x examination
			if err := json.Unmarshal([]byte(out), &x); err != nil {
				t.Fatalf("%v\n%s%s", err, out, errs)
			}
			if code != tt.code || x.Healthy != (tt.code == 0) {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			for what, want := range tt.want {
				f := verdict(&x, what)
				if f.Verdict != want[0] || !strings.Contains(f.Says+"\n"+f.Mend, want[1]) {
					t.Errorf("%s: got %+v, want %v", what, f, want)
				}
			}
			if _, text, _ := command(t, "doctor", "--config", path); strings.Contains(text, "\x1b") || !strings.Contains(text, "\n\n") {
				t.Errorf("got\n%s", text)
			}
		})
	}
	if code, out, _ := command(t, "doctor", "--config", "/nowhere/gateway.yaml"); code != exitNotReady || !strings.Contains(out, "--config") {
		t.Errorf("%d\n%s", code, out)
	}
}

func TestDoctorSeesTheGateway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	path := write(t, "gateway: {listen: \""+address+"\"}\n"+hostOnly)
	r := start(t, nil, "serve", "--config", path)
	r.log.await(t, "server ready", 1)
	code, out, errs := command(t, "doctor", "--config", path)
	if code != 0 || !strings.Contains(out, "one runs at http://"+address+", 1 of 1 servers ready") || !strings.Contains(out, "All is well.") {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
}

func TestClock(t *testing.T) {
	for at, want := range map[string]string{"1970-01-01": "fault", "2027-05-05": "ok", "2099-01-01": "fault"} {
		now, err := time.Parse(time.DateOnly, at)
		if err != nil {
			t.Fatal(err)
		}
		var x examination
		x.clock(now)
		if got := x.Findings[0].Verdict; got != want {
			t.Errorf("%s: got %s, want %s", at, got, want)
		}
	}
}

func TestExpiry(t *testing.T) {
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	tests := []struct {
		left time.Duration
		want string
	}{
		{90 * 24 * time.Hour, ""},
		{10 * 24 * time.Hour, "the certificate of nas expires on 2026-12-01, in 10 days"},
		{24 * time.Hour, "the certificate of nas expires on 2026-11-22, in 1 day"},
		{-24 * time.Hour, "the certificate of nas has expired on 2026-11-20"},
	}
	for _, tt := range tests {
		c := certificate{host: "nas", notAfter: now.Add(tt.left)}
		if got := c.expiry(now); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	s.StartTLS()
	defer s.Close()
	c := inspect(t.Context(), s.Listener.Addr().String(), "127.0.0.1")
	if c.notAfter.IsZero() || c.err == nil {
		t.Errorf("got %+v, want a certificate that nobody trusts", c)
	}
}

// TestAdvice finds what works and could be better.
func TestAdvice(t *testing.T) {
	var tools []gateway.Tool
	r := &report{Downstreams: []checked{{Name: "a", size: size{2, 100, 25}}, {Name: "big", size: size{130, 100_000, 25_000}}}, Total: size{132, 100_100, 25_025}}
	tools = append(tools,
		gateway.Tool{Name: "a__x", Downstream: "a", Own: "x", Raw: json.RawMessage(`{"name":"x","annotations":{"readOnlyHint":true}}`)},
		gateway.Tool{Name: "a__y_z", Downstream: "a", Own: "y.z", Raw: json.RawMessage(`{"name":"y.z","annotations":{"title":"Y"}}`)},
	)
	for i := range 7 {
		own := "t" + strconv.Itoa(i)
		tools = append(tools, gateway.Tool{Name: "big__" + own, Downstream: "big", Own: own, Raw: json.RawMessage(`{"name":"` + own + `"}`)})
	}
	r.advise(tools)
	all := strings.Join(r.Advice, "\n")
	for _, want := range []string{
		"132 tools together: more than the 128", "about 25025 tokens of descriptions together", "big: about 25000 tokens", "a: 1 of 2 tools do not say whether they change something (y.z)",
		"big: 7 of 130 tools do not say whether they change something (t0, t1, t2, t3, t4 and 2 more)", "a__y_z (y.z of a)",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("lacks %q:\n%s", want, all)
		}
	}
	small := &report{Downstreams: []checked{{Name: "a", size: size{1, 10, 2}}}, Total: size{1, 10, 2}}
	if small.advise(tools[:1]); len(small.Advice) != 0 {
		t.Errorf("got %v", small.Advice)
	}
}

func TestCheckVerbose(t *testing.T) {
	path := write(t, "downstreams: {host: {preset: host, resilience: {circuit_breaker: {failure_threshold: 7}, tools: {\"x*\": {safety: read_only}}}}}\n")
	code, out, errs := command(t, "check", "--connect=false", "--verbose", "--config", path)
	for _, want := range []string{"policies of host", "* circuit_breaker.failure_threshold", "    timeouts.attempt  ", "* tools.x*.safety"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("%d, lacks %q:\n%s%s", code, want, out, errs)
		}
	}
}

// TestSearch knocks at doors of this machine, behind each of which stands another system.
func TestSearch(t *testing.T) {
	page := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if text == "redfish" {
				if r.URL.Path == "/redfish/v1/" {
					_, _ = w.Write([]byte(`{"Vendor":"Dell","Oem":{"Dell":{}}}`))
				}
				return
			}
			_, _ = w.Write([]byte(text))
		}
	}
	var doors []knock
	door := func(s *httptest.Server, k knock) {
		port, err := strconv.Atoi(s.URL[strings.LastIndexByte(s.URL, ':')+1:])
		if err != nil {
			t.Fatal(err)
		}
		k.port = port
		doors = append(doors, k)
		t.Cleanup(s.Close)
	}
	for _, text := range []string{"<title>pfSense - Login</title>", "<title>TrueNAS</title>", "redfish", "a printer"} {
		s := httptest.NewTLSServer(page(text))
		door(s, knocks[0])
		door(s, knocks[1])
	}
	door(httptest.NewTLSServer(page("Proxmox Virtual Environment")), knocks[2])
	door(httptest.NewServer(page("Prometheus Server is Healthy.\n")), knocks[3])
	door(httptest.NewServer(page("Ollama is running")), knocks[4])
	door(httptest.NewServer(page("Ollama is running")), knocks[2]) // not what the port is known for

	var got []string
	for _, s := range search(t.Context(), []netip.Addr{netip.MustParseAddr("127.0.0.1")}, doors) {
		got = append(got, s.preset)
	}
	if want := "idrac llm pfsense prometheus proxmox truenas"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	hosts, where := neighbours()
	if len(hosts) == 0 || len(hosts) > 1+254*mostSubnets || !strings.HasPrefix(where, "this machine") {
		t.Errorf("%d hosts: %s", len(hosts), where)
	}
}
