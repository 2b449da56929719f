package pfsense_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
	"github.com/mcpgw/mcpgw/downstream/builtin/kit/kittest"
	"github.com/mcpgw/mcpgw/downstream/builtin/lab"
	"github.com/mcpgw/mcpgw/downstream/builtin/pfsense"
	"github.com/mcpgw/mcpgw/downstream/builtin/pfsense/sim"
	"github.com/mcpgw/mcpgw/telemetry"
)

func kitSecret(s string) telemetry.Secret { return telemetry.Secret(s) }

func TestFaults(t *testing.T) {
	l := lab.New()
	defer l.Close()
	system, err := l.Start("fw", "pfsense", sim.New)
	if err != nil {
		t.Fatal(err)
	}
	for fault, want := range map[string]struct {
		class    string // "" for an answer
		executed bool
		says     string
	}{
		lab.FaultRefuse:       {kit.ClassConnect, false, "cannot be reached"},
		lab.Fault500:          {"", false, "look before doing it again"},
		lab.Fault503:          {kit.ClassStatus, true, "503"},
		lab.Fault429:          {kit.ClassRateLimited, false, "429"},
		lab.FaultGarbage:      {kit.ClassMalformed, true, "not what its API says"},
		lab.FaultUnauthorized: {kit.ClassAuth, false, "does not accept the credentials"},
	} {
		t.Run(fault, func(t *testing.T) {
			s, err := pfsense.New(kit.Config{URL: system.URL(), Token: lab.Credential, Access: kit.Full})
			if err != nil {
				t.Fatal(err)
			}
			c := kittest.Connect(t, s)
			f, err := lab.ParseFault(fault, 0)
			if err == nil {
				err = system.Break(f)
			}
			if err != nil {
				t.Fatal(err)
			}
			got := c.Call(t, "rules", nil)
			switch {
			case want.class == "" && !got.IsError, !got.Has(want.says):
				t.Errorf("got %+v", got)
			case want.class != "" && (got.Failure == nil || got.Failure.Class != want.class || got.Failure.Executed != want.executed):
				t.Errorf("got %+v", got.Failure)
			}
			if err := system.Mend(); err != nil {
				t.Fatal(err)
			}
			if fault == lab.FaultUnauthorized {
				return
			}
			c.OK(t, "rules", nil)
		})
	}
}

// A hung apply must say that it may be under way, and must not be sent again.
func TestHangWhileApplying(t *testing.T) {
	var mu sync.Mutex
	applies := 0
	box := sim.NewWith(sim.Options{Apply: time.Hour})
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v2/firewall/apply" {
			mu.Lock()
			first := r.Method == http.MethodPost
			if first {
				applies++
			}
			mu.Unlock()
			if !first {
				panic(http.ErrAbortHandler)
			}
		}
		box.ServeHTTP(w, r)
	}))
	defer web.Close()
	s, err := pfsense.New(kit.Config{URL: web.URL, Token: lab.Credential, Access: kit.Operate})
	if err != nil {
		t.Fatal(err)
	}
	c := kittest.Connect(t, s)
	got := c.OK(t, "alias_update", map[string]any{"name": "cameras", "add": []string{"192.168.20.40"}, "apply": true})
	if got.Structured["applied"] != false || !got.Has("do not repeat the change") {
		t.Errorf("got %s", got.Raw)
	}
	failed := c.Call(t, "apply", nil)
	if failed.Failure == nil || !failed.Failure.Executed || !failed.Has("was told to apply") {
		t.Errorf("got %+v", failed)
	}
	if applies != 2 {
		t.Errorf("applied %d times for two calls", applies)
	}
}

func TestWrongCredentialsAreTriedOnce(t *testing.T) {
	asked := 0
	box := sim.NewWith(sim.Options{Key: "the-right-key"})
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked++; box.ServeHTTP(w, r) }))
	defer web.Close()
	s, err := pfsense.New(kit.Config{URL: web.URL, Token: "the-wrong-key-of-mine"})
	if err != nil {
		t.Fatal(err)
	}
	c := kittest.Connect(t, s)
	for range 3 {
		if got := c.Call(t, "overview", nil); got.Failure == nil || got.Failure.Class != kit.ClassAuth || got.Has("the-wrong-key") {
			t.Errorf("got %+v", got)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

func TestCredentialsAreShownNowhere(t *testing.T) {
	const key, password = "planted-api-key-1f9d", "planted-password-77aa"
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A server that tells everything it was told.
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"code":400,"response_id":"X","message":"`+r.Header.Get("X-Api-Key")+" "+strings.ReplaceAll(string(body), `"`, "")+`","data":[]}`)
	}))
	defer echo.Close()
	var log bytes.Buffer
	s, err := pfsense.New(kit.Config{URL: echo.URL, Token: key, Password: password, Username: "me", Log: slog.New(slog.NewTextHandler(&log, nil)), TLS: kit.TLS{InsecureSkipVerify: true}})
	if err != nil {
		t.Fatal(err)
	}
	c := kittest.Connect(t, s)
	got := c.Call(t, "rules", nil)
	if !got.IsError || got.Has(key) || got.Has(password) || strings.Contains(log.String(), key) {
		t.Errorf("got %s\n%s", got.Text, log.String())
	}
	if _, err := pfsense.New(kit.Config{URL: "http://127.0.0.1:1"}); err == nil || !strings.Contains(err.Error(), "token: missing") {
		t.Errorf("got %v", err)
	}
}

// Basic authentication is the package's default where no key has been made.
func TestBasic(t *testing.T) {
	web := httptest.NewServer(sim.New())
	defer web.Close()
	s, err := pfsense.New(kit.Config{URL: web.URL, Username: lab.Credential, Password: lab.Credential})
	if err != nil {
		t.Fatal(err)
	}
	kittest.Connect(t, s).OK(t, "overview", nil)
}

// Writes are one at a time, whatever the clients do.
func TestWritesAreOneAtATime(t *testing.T) {
	box := sim.New()
	var mu sync.Mutex
	under, most := 0, 0
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			mu.Lock()
			under++
			most = max(most, under)
			mu.Unlock()
			defer func() { mu.Lock(); under--; mu.Unlock() }()
		}
		box.ServeHTTP(w, r)
	}))
	defer web.Close()
	s, err := pfsense.New(kit.Config{URL: web.URL, Token: lab.Credential, Access: kit.Operate})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		c := kittest.Connect(t, s)
		wg.Go(func() {
			c.Call(t, "alias_update", map[string]any{"name": "cameras", "add": []string{"192.168.20.99"}, "remove": []string{"192.168.20.31"}})
		})
	}
	wg.Wait()
	if most != 1 {
		t.Errorf("%d writes at once", most)
	}
}
