package truenas_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
	"github.com/mcpgw/mcpgw/downstream/builtin/kit/kittest"
	"github.com/mcpgw/mcpgw/downstream/builtin/lab"
	"github.com/mcpgw/mcpgw/downstream/builtin/truenas"
	"github.com/mcpgw/mcpgw/downstream/builtin/truenas/sim"
)

func serve(t *testing.T, cfg kit.Config) *kittest.Client {
	t.Helper()
	if cfg.Token == "" {
		cfg.Token = lab.Credential
	}
	if cfg.Username == "" {
		cfg.Username = lab.Credential
	}
	s, err := truenas.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return kittest.Connect(t, s)
}

// Each fault, met by a connection that is open and by one that has to be opened, and what is after it.
func TestFaults(t *testing.T) {
	for fault, want := range map[string]struct {
		class string // "" for an answer
		says  string
	}{
		lab.FaultRefuse:       {kit.ClassConnect, "cannot be reached"},
		lab.Fault503:          {kit.ClassStatus, "503"},
		lab.Fault429:          {kit.ClassBusy, "did not begin"},
		lab.Fault500:          {"", "EFAULT"},
		lab.FaultGarbage:      {kit.ClassMalformed, "no JSON-RPC"},
		lab.FaultUnauthorized: {kit.ClassAuth, "does not accept the credentials"},
	} {
		for _, open := range []bool{true, false} {
			t.Run(fault, func(t *testing.T) {
				l := lab.New()
				defer l.Close()
				system, err := l.Start("nas", "truenas", sim.New)
				if err != nil {
					t.Fatal(err)
				}
				c := serve(t, kit.Config{URL: system.URL(), Access: kit.Full})
				if open {
					c.OK(t, "overview", nil)
				}
				f, err := lab.ParseFault(fault, 0)
				if err == nil {
					err = system.Break(f)
				}
				if err != nil {
					t.Fatal(err)
				}
				got := c.Call(t, "alerts", nil)
				if open && got.Failure != nil && got.Failure.Class == kit.ClassConnection {
					got = c.Call(t, "alerts", nil) // the end of the open connection was seen first
				}
				switch {
				case want.class != "" && (got.Failure == nil || got.Failure.Class != want.class || !got.Has(want.says)):
					t.Errorf("open %v: got %+v %s", open, got.Failure, got.Text)
				case want.class == "" && !open && got.Failure == nil: // the login fails, too
				case want.class == "" && open && (!got.IsError || !got.Has(want.says) || got.Has("Traceback")):
					t.Errorf("open %v: got %+v", open, got)
				}
				if err := system.Mend(); err != nil {
					t.Fatal(err)
				}
				if fault == lab.FaultUnauthorized || fault == lab.Fault500 && !open {
					return // tried once
				}
				c.OK(t, "alerts", nil)
			})
		}
	}
}

// A box that hangs: the call ends with its own time, others are not in its way, and after mending it works again.
func TestHang(t *testing.T) {
	l := lab.New()
	defer l.Close()
	system, err := l.Start("nas", "truenas", sim.New)
	if err != nil {
		t.Fatal(err)
	}
	c := serve(t, kit.Config{URL: system.URL(), Access: kit.Full})
	c.OK(t, "overview", nil)
	if err := system.Break(lab.Fault{Name: lab.FaultHang}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if _, err := c.Session.CallTool(ctx, &mcp.CallToolParams{Name: "alerts"}); err == nil || time.Since(begun) > 5*time.Second {
		t.Errorf("got %v after %v", err, time.Since(begun))
	}
	if err := system.Mend(); err != nil {
		t.Fatal(err)
	}
	if got := c.Call(t, "alerts", nil); got.Failure != nil {
		c.OK(t, "alerts", nil)
	}
}

// Calls that were sent when the connection ends may have run; those after it work on a new one.
func TestLostConnection(t *testing.T) {
	box := sim.NewWith(sim.Options{Job: 300 * time.Millisecond})
	web := httptest.NewServer(box)
	defer web.Close()
	c := serve(t, kit.Config{URL: web.URL, Access: kit.Full})
	for range 3 {
		c.OK(t, "overview", nil)
		box.Drop()
		if got := c.Call(t, "alerts", nil); got.Failure != nil && (got.Failure.Class != kit.ClassConnection || !got.Failure.Executed) {
			t.Errorf("got %+v", got.Failure)
		}
	}
	c.OK(t, "overview", nil)
	if n := box.Asked("auth.login_ex"); n < 2 || n > 4 {
		t.Errorf("%d logins", n)
	}
}

// A job goes on when the connection is lost, and is found again instead of being started again.
func TestJobOutlivesTheConnection(t *testing.T) {
	box := sim.NewWith(sim.Options{Job: 2 * time.Second})
	web := httptest.NewServer(box)
	defer web.Close()
	c := serve(t, kit.Config{URL: web.URL, Access: kit.Full})
	var wg sync.WaitGroup
	wg.Go(func() {
		<-c.Progress
		box.Drop()
	})
	got := c.OK(t, "app_control", map[string]any{"app": "jellyfin", "action": "stop"})
	wg.Wait()
	if got.Structured["state"] != "SUCCESS" {
		t.Errorf("got %s", got.Raw)
	}
	if n := box.Asked("app.stop"); n != 1 {
		t.Errorf("started %d times", n)
	}
	if n := box.Asked("auth.login_ex"); n < 2 {
		t.Errorf("%d logins: the connection was not lost", n)
	}
}

func TestWrongCredentialsAreTriedOnce(t *testing.T) {
	for _, release := range []string{"25.10", "24.04"} {
		box := sim.NewWith(sim.Options{Release: release})
		web := httptest.NewServer(box)
		defer web.Close()
		c := serve(t, kit.Config{URL: web.URL, Token: "the-wrong-key"})
		for range 3 {
			if got := c.Call(t, "overview", nil); got.Failure == nil || got.Failure.Class != kit.ClassAuth || got.Has("the-wrong-key") {
				t.Errorf("%s: got %+v", release, got)
			}
		}
		if ex, old := box.Asked("auth.login_ex"), box.Asked("auth.login_with_api_key"); ex != 1 || (release == "24.04") != (old == 1) {
			t.Errorf("%s: %d and %d logins", release, ex, old)
		}
	}
}

// A key that is revoked while it is in use: one login shows it.
func TestRevokedKey(t *testing.T) {
	box := sim.NewWith(sim.Options{})
	web := httptest.NewServer(box)
	defer web.Close()
	c := serve(t, kit.Config{URL: web.URL})
	c.OK(t, "alerts", nil)
	box.Revoke()
	for range 3 {
		if got := c.Call(t, "alerts", nil); got.Failure == nil || got.Failure.Class != kit.ClassAuth || got.Failure.Executed || !got.Has("revoked") {
			t.Errorf("got %+v", got)
		}
	}
	if n := box.Asked("auth.login_ex"); n != 2 {
		t.Errorf("%d logins", n)
	}
}

// Self-signed certificates are usual: they are refused with a hint, and taken with their pin. nginx prefers HTTP/2, which must not be offered.
func TestSelfSigned(t *testing.T) {
	box := sim.NewWith(sim.Options{})
	web := httptest.NewUnstartedServer(box)
	web.EnableHTTP2 = true
	web.StartTLS()
	defer web.Close()
	got := serve(t, kit.Config{URL: web.URL}).Call(t, "alerts", nil)
	if got.Failure == nil || got.Failure.Class != kit.ClassTLS || !got.Has("tls_pin") {
		t.Errorf("got %+v", got)
	}
	sum := sha256.Sum256(web.Certificate().Raw)
	serve(t, kit.Config{URL: web.URL, TLS: kit.TLS{Pin: "sha256:" + hex.EncodeToString(sum[:])}}).OK(t, "alerts", nil)
	var log bytes.Buffer
	serve(t, kit.Config{URL: web.URL, TLS: kit.TLS{InsecureSkipVerify: true}, Log: slog.New(slog.NewTextHandler(&log, nil))}).OK(t, "alerts", nil)
	if !strings.Contains(log.String(), "certificate is not verified") {
		t.Errorf("no warning: %s", &log)
	}
}

// Many calls at once stay below what TrueNAS takes on one connection.
func TestManyAtOnce(t *testing.T) {
	box := sim.NewWith(sim.Options{})
	web := httptest.NewServer(box)
	defer web.Close()
	c := serve(t, kit.Config{URL: web.URL})
	var wg sync.WaitGroup
	for range 60 {
		wg.Go(func() {
			if res, err := c.Session.CallTool(t.Context(), &mcp.CallToolParams{Name: "snapshots"}); err != nil || res.IsError {
				t.Errorf("%v %+v", err, res)
			}
		})
	}
	wg.Wait()
	if n := box.Asked("auth.login_ex"); n != 1 {
		t.Errorf("%d logins", n)
	}
}

func TestNotATrueNAS(t *testing.T) {
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	got := serve(t, kit.Config{URL: web.URL}).Call(t, "alerts", nil)
	if got.Failure == nil || !got.Has("is the address right?") {
		t.Errorf("got %+v", got)
	}
}
