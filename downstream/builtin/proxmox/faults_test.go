package proxmox

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
	"github.com/mcpgw/mcpgw/downstream/builtin/kit/kittest"
	"github.com/mcpgw/mcpgw/downstream/builtin/lab"
	"github.com/mcpgw/mcpgw/downstream/builtin/proxmox/sim"
	"github.com/mcpgw/mcpgw/telemetry"
)

// TestFaults breaks the simulator in every way, reads and writes, and mends it.
func TestFaults(t *testing.T) {
	l := lab.New()
	defer l.Close()
	system, err := l.Start("pve", "proxmox", func() http.Handler { return sim.NewWith(sim.Options{Pace: 100}) })
	if err != nil {
		t.Fatal(err)
	}
	for fault, want := range map[string]struct {
		class    string // "" for a refusal
		status   int
		executed bool
		says     string
	}{
		lab.FaultRefuse:       {kit.ClassConnect, 0, false, "cannot be reached"},
		lab.Fault500:          {"", 500, false, "Proxmox VE refuses: unable to open file"},
		lab.Fault503:          {kit.ClassStatus, 503, true, "HTTP 503"},
		lab.Fault595:          {kit.ClassStatus, 595, false, "not the node that the request was for (HTTP 595: No route to host)"},
		lab.Fault429:          {kit.ClassRateLimited, 429, false, "429"},
		lab.FaultGarbage:      {kit.ClassMalformed, 0, true, "not what its API says"},
		lab.FaultUnauthorized: {kit.ClassAuth, 401, false, "does not accept the API token (invalid token value!)"},
	} {
		t.Run(fault, func(t *testing.T) {
			c := client(t, kit.Config{URL: system.URL(), Token: lab.Credential, Access: kit.Operate}, nil)
			f, err := lab.ParseFault(fault, 0)
			if err == nil {
				err = system.Break(f)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range []*kittest.Result{c.Call(t, "guests", nil), c.Call(t, "start_guest", map[string]any{"vmid": 109})} {
				switch {
				case !r.Has(want.says):
					t.Errorf("got %s", r.Text)
				case want.class == "":
					if !r.IsError {
						t.Errorf("got %+v", r)
					}
				case r.Failure == nil || r.Failure.Class != want.class || r.Failure.Executed != want.executed || r.Failure.Status != want.status:
					t.Errorf("got %+v", r.Failure)
				}
			}
			if err := system.Mend(); err != nil {
				t.Fatal(err)
			}
			if fault != lab.FaultUnauthorized { // that is remembered
				c.OK(t, "guests", nil)
			}
		})
	}
}

// TestOtherProxyStatuses: 596 and more mean that the request was on its way.
func TestOtherProxyStatuses(t *testing.T) {
	for _, status := range []int{595, 596, 597, 599} {
		web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		c := client(t, kit.Config{URL: web.URL, Token: lab.Credential}, nil)
		if r := c.Call(t, "guests", nil); r.Failure == nil || r.Failure.Status != status || r.Failure.Executed != (status != 595) {
			t.Errorf("%d: got %+v", status, r.Failure)
		}
		web.Close()
	}
}

func TestWrongTokenIsTriedOnce(t *testing.T) {
	inner := sim.NewWith(sim.Options{Token: "right"})
	var asked atomic.Int32
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked.Add(1); inner.ServeHTTP(w, r) }))
	defer web.Close()
	c := client(t, kit.Config{URL: web.URL, Token: "mcpgw@pve!agent=12345678-1234-1234-1234-123456789abc"}, nil)
	for range 3 {
		if r := c.Call(t, "cluster", nil); r.Failure == nil || r.Failure.Class != kit.ClassAuth {
			t.Fatalf("got %+v", r)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("tried %d times", n)
	}
}

func TestMissingPrivilege(t *testing.T) {
	c := start(t, sim.Options{Deny: "/status/start"}, kit.Operate)
	r := c.Call(t, "start_guest", map[string]any{"vmid": 109})
	if !r.IsError || !r.Has("Permission check failed (/vms/100, VM.PowerMgmt). The API token lacks that privilege") {
		t.Errorf("got %+v", r)
	}
	c.OK(t, "guests", nil)
}

// TestLostWrite: a write that got no answer may have been executed.
func TestLostWrite(t *testing.T) {
	inner := sim.NewWith(sim.Options{})
	var starts atomic.Int32
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			starts.Add(1)
			panic(http.ErrAbortHandler)
		}
		inner.ServeHTTP(w, r)
	}))
	defer web.Close()
	c := client(t, kit.Config{URL: web.URL, Token: lab.Credential, Access: kit.Operate}, nil)
	if r := c.Call(t, "start_guest", map[string]any{"vmid": 109}); r.Failure == nil || !r.Failure.Executed || r.Failure.Class != kit.ClassConnection || starts.Load() != 1 {
		t.Errorf("sent %d times: %+v", starts.Load(), r.Failure)
	}
}

func TestTokenForm(t *testing.T) {
	for token, want := range map[string]string{
		"": "token: missing", "root@pam:secret": "token: expected USER@REALM!TOKENID=UUID", "root@pam!x": "token: expected",
		"root@pam!x=12345678-1234-1234-1234-123456789abc": "", "PVEAPIToken=root@pam!x=12345678-1234-1234-1234-123456789abc": "",
	} {
		_, err := New(kit.Config{URL: "https://192.0.2.1:8006", Token: telemetry.Secret(token)})
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%q: %v", token, err)
		}
	}
}

// TestAddressForms: people copy the address of the API, or of the page.
func TestAddressForms(t *testing.T) {
	web := httptest.NewServer(sim.NewWith(sim.Options{}))
	defer web.Close()
	for _, end := range []string{"", "/", "/api2/json", "/api2/json/"} {
		client(t, kit.Config{URL: web.URL + end, Token: lab.Credential, Simulated: true}, nil).OK(t, "cluster", nil)
	}
}

// TestSecretsStayIn: a system that repeats what it was sent.
func TestSecretsStayIn(t *testing.T) {
	const secret = "0badcafe-1234-1234-1234-123456789abc"
	for _, status := range []int{400, 401, 403, 500, 503, 595} {
		web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"message":"bad header %s, value %s, %s","errors":{"x":%q}}`, r.Header.Get("Authorization"), secret, r.Header.Get("X-Other"), secret)
		}))
		var log bytes.Buffer
		c := client(t, kit.Config{
			URL: web.URL, Token: "mcpgw@pve!agent=" + secret, Log: slog.New(slog.NewTextHandler(&log, nil)),
			Headers: map[string]telemetry.Secret{"X-Other": "hidden-too-1"},
		}, nil)
		r := c.Call(t, "guests", nil)
		for _, s := range []string{secret, "hidden-too-1"} {
			if r.Has(s) || strings.Contains(log.String(), s) {
				t.Errorf("%d: %s\n%s", status, r.Text, log.String())
			}
		}
		if !r.Has("[redacted]") {
			t.Errorf("%d: %s", status, r.Text)
		}
		web.Close()
	}
}
