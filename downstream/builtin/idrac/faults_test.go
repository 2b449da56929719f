package idrac

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/downstream/builtin/idrac/sim"
	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
	"github.com/mcpgw/mcpgw/downstream/builtin/kit/kittest"
	"github.com/mcpgw/mcpgw/downstream/builtin/lab"
	"github.com/mcpgw/mcpgw/telemetry"
)

// TestFaults breaks the simulator in every way, reads and writes, and mends it.
func TestFaults(t *testing.T) {
	l := lab.New()
	defer l.Close()
	system, err := l.Start("bmc", "idrac", func() http.Handler { return sim.NewWith(sim.Options{Pace: 100}) })
	if err != nil {
		t.Fatal(err)
	}
	for fault, want := range map[string]struct {
		class    string
		status   int
		executed bool
		says     string
	}{
		lab.FaultRefuse:           {kit.ClassConnect, 0, false, "cannot be reached"},
		lab.Fault500:              {kit.ClassStatus, 500, true, "HTTP 500: The request failed due to an internal service error"},
		lab.Fault503:              {kit.ClassStatus, 503, true, "temporarily unavailable"},
		lab.Fault429:              {kit.ClassRateLimited, 429, false, "429"},
		lab.FaultGarbage:          {kit.ClassMalformed, 0, true, "not what its API says"},
		lab.FaultUnauthorized:     {kit.ClassAuth, 401, false, "does not accept the user name or password"},
		lab.FaultSessionExhausted: {kit.ClassAuthExhausted, 503, false, "no free session (RAC0218)"},
	} {
		t.Run(fault, func(t *testing.T) {
			c := client(t, kit.Config{URL: system.URL(), Access: kit.Operate}, nil)
			f, err := lab.ParseFault(fault, 0)
			if err == nil {
				err = system.Break(f)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range []*kittest.Result{c.Call(t, "systems", nil), c.Call(t, "set_indicator", map[string]any{"on": true})} {
				if r.Failure == nil || !r.Has(want.says) || r.Failure.Class != want.class || r.Failure.Executed != want.executed || r.Failure.Status != want.status {
					t.Errorf("got %+v", r)
				}
				if fault == lab.FaultSessionExhausted && r.Failure.RetryAfter < 10*time.Minute {
					t.Errorf("retry after %s", r.Failure.RetryAfter)
				}
			}
			if err := system.Mend(); err != nil {
				t.Fatal(err)
			}
			if fault != lab.FaultUnauthorized { // that is remembered
				c.OK(t, "systems", nil)
			}
		})
	}
}

// wire counts requests to a simulator.
type wire struct {
	*httptest.Server
	mu   sync.Mutex
	seen []string // guarded by mu
}

func (w *wire) count(what string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, s := range w.seen {
		if strings.HasPrefix(s, what) {
			n++
		}
	}
	return n
}

// exactly counts the reads of one path.
func (w *wire) exactly(path string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, s := range w.seen {
		if s == "GET "+path {
			n++
		}
	}
	return n
}

func newWire(t *testing.T, inner http.Handler) *wire {
	t.Helper()
	w := &wire{}
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.seen = append(w.seen, r.Method+" "+r.URL.Path)
		w.mu.Unlock()
		inner.ServeHTTP(rw, r)
	}))
	t.Cleanup(w.Close)
	return w
}

const sessionsAt = "/redfish/v1/SessionService/Sessions"

// TestOneSession is opened, used for everything, and given back.
func TestOneSession(t *testing.T) {
	w := newWire(t, sim.NewWith(sim.Options{}))
	t.Run("used", func(t *testing.T) {
		c := client(t, kit.Config{URL: w.URL, Options: &Options{Login: "session"}}, nil)
		for range 3 {
			c.OK(t, "storage", nil)
		}
		if r := c.OK(t, "managers", nil); r.Structured["sessions_open"] != 1.0 {
			t.Errorf("got %s", r.Raw)
		}
		if n := w.count("POST " + sessionsAt); n != 1 {
			t.Errorf("%d sessions opened", n)
		}
	})
	if n := w.count("DELETE " + sessionsAt + "/1"); n != 1 {
		t.Errorf("the session was given back %d times", n)
	}
}

// TestSessionThatIsOver: another is opened once, the call succeeds, and the old one is not left behind.
func TestSessionThatIsOver(t *testing.T) {
	inner := sim.NewWith(sim.Options{})
	var forget atomic.Bool
	w := newWire(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Auth-Token") != "" && r.Method == http.MethodGet && forget.CompareAndSwap(true, false) {
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(rw, r)
	}))
	c := client(t, kit.Config{URL: w.URL, Options: &Options{Login: "session"}, Access: kit.Operate}, nil)
	c.OK(t, "systems", nil)
	forget.Store(true)
	c.OK(t, "systems", nil)
	if opened, ended := w.count("POST "+sessionsAt), w.count("DELETE "+sessionsAt); opened != 2 || ended != 1 {
		t.Errorf("%d opened, %d ended", opened, ended)
	}
	if r := c.OK(t, "managers", nil); r.Structured["sessions_open"] != 1.0 {
		t.Errorf("got %s", r.Raw)
	}
}

// TestExhaustedWhileLoggingIn asks once for a session and for nothing else.
func TestExhaustedWhileLoggingIn(t *testing.T) {
	w := newWire(t, sim.NewWith(sim.Options{Sessions: 8}))
	c := client(t, kit.Config{URL: w.URL, Options: &Options{Login: "session"}}, nil)
	r := c.Call(t, "systems", nil)
	if r.Failure == nil || r.Failure.Class != kit.ClassAuthExhausted || r.Failure.Executed || r.Failure.RetryAfter != 30*time.Minute || w.count("POST ") != 1 {
		t.Errorf("%d logins: %+v", w.count("POST "), r.Failure)
	}
}

func TestWrongPasswordIsTriedOnce(t *testing.T) {
	for _, login := range []string{"basic", "session"} {
		w := newWire(t, sim.NewWith(sim.Options{Password: "right-one"}))
		c := client(t, kit.Config{URL: w.URL, Username: lab.Credential, Password: "wrong-one", Options: &Options{Login: login}}, nil)
		for range 3 {
			if r := c.Call(t, "systems", nil); r.Failure == nil || r.Failure.Class != kit.ClassAuth {
				t.Fatalf("%s: got %+v", login, r)
			}
		}
		tried := w.count("POST "+sessionsAt) + w.count("GET /redfish/v1/Systems")
		if tried != 1 {
			t.Errorf("%s: tried %d times: %v", login, tried, w.seen)
		}
	}
}

// TestLostReset may have been executed, and is not sent again.
func TestLostReset(t *testing.T) {
	inner := sim.NewWith(sim.Options{})
	w := newWire(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			panic(http.ErrAbortHandler)
		}
		inner.ServeHTTP(rw, r)
	}))
	c := client(t, kit.Config{URL: w.URL, Access: kit.Operate}, nil)
	if r := c.Call(t, "shutdown", nil); r.Failure == nil || !r.Failure.Executed || w.count("POST ") != 1 {
		t.Errorf("sent %d times: %+v", w.count("POST "), r)
	}
}

// TestLostWhileFollowing: the reset was accepted, and its caller is told so.
func TestLostWhileFollowing(t *testing.T) {
	inner := sim.NewWith(sim.Options{Vendor: true})
	w := newWire(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/Tasks/") {
			panic(http.ErrAbortHandler)
		}
		inner.ServeHTTP(rw, r)
	}))
	c := client(t, kit.Config{URL: w.URL, Access: kit.Operate}, nil)
	if r := c.Call(t, "shutdown", nil); !r.IsError || !r.Has("graceful shutdown was accepted, but how it goes on cannot be seen") || w.count("POST ") != 1 {
		t.Errorf("sent %d times: %+v", w.count("POST "), r)
	}
}

// TestFailedTask is an error with what the controller says.
func TestFailedTask(t *testing.T) {
	inner := sim.NewWith(sim.Options{Vendor: true})
	w := newWire(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/Tasks/") {
			_, _ = rw.Write([]byte(`{"Id":"JID_1","JobState":"Failed","PercentComplete":100,"Message":"Lifecycle Controller in use."}`))
			return
		}
		inner.ServeHTTP(rw, r)
	}))
	c := client(t, kit.Config{URL: w.URL, Access: kit.Operate}, nil)
	if r := c.Call(t, "restart", nil); !r.IsError || !r.Has("ended as Failed: Lifecycle Controller in use.") {
		t.Errorf("got %+v", r)
	}
}

// TestStrangeLinks: a controller that leads elsewhere is not followed.
func TestStrangeLinks(t *testing.T) {
	for _, link := range []string{"http://192.0.2.99/redfish/v1/Systems", "//192.0.2.99/redfish/v1", "/restapi/keys", "/redfish/v1/../../keys"} {
		w := newWire(t, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(rw, `{"Systems":{"@odata.id":%q}}`, link)
		}))
		c := client(t, kit.Config{URL: w.URL}, nil)
		if r := c.Call(t, "systems", nil); !r.IsError || !r.Has("expected one below /redfish/v1") || w.count("GET ") != 1 {
			t.Errorf("%s: %+v", link, r)
		}
	}
}

// TestSecretsStayIn: a controller that repeats what it was sent.
func TestSecretsStayIn(t *testing.T) {
	const user, secret = "agent", "correct-horse-battery"
	hidden := []string{secret, base64.StdEncoding.EncodeToString([]byte(user + ":" + secret)), "hidden-too-1"}
	for _, login := range []string{"basic", "session"} {
		for _, status := range []int{400, 401, 403, 500, 503} {
			web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body := new(bytes.Buffer)
				_, _ = body.ReadFrom(r.Body)
				w.WriteHeader(status)
				fmt.Fprintf(w, `{"error":{"message":%q}}`, r.Header.Get("Authorization")+" "+secret+" "+r.Header.Get("X-Other")+" "+body.String())
			}))
			var log bytes.Buffer
			c := client(t, kit.Config{
				URL: web.URL, Username: user, Password: secret, Log: slog.New(slog.NewTextHandler(&log, nil)),
				Headers: map[string]telemetry.Secret{"X-Other": "hidden-too-1"}, Options: &Options{Login: login},
			}, nil)
			r := c.Call(t, "redfish_get", map[string]any{"path": "/redfish/v1/Systems"})
			for _, s := range hidden {
				if r.Has(s) || strings.Contains(log.String(), s) {
					t.Errorf("%s %d: %s\n%s", login, status, r.Text, log.String())
				}
			}
			web.Close()
		}
	}
}

func TestConfiguration(t *testing.T) {
	if _, err := New(kit.Config{URL: "https://192.0.2.1", Username: "root"}); err == nil || !strings.Contains(err.Error(), "username and password") {
		t.Errorf("got %v", err)
	}
	o := Options{Login: "cookie"}
	if err := o.Validate(); err == nil || err.Error() != `login: expected basic or session, found "cookie"` {
		t.Errorf("got %v", err)
	}
	if o = DefaultOptions(); o.Validate() != nil {
		t.Error("the default is not valid")
	}
	web := httptest.NewServer(sim.New())
	defer web.Close()
	for _, end := range []string{"/", "/redfish/v1", "/redfish/v1/"} {
		client(t, kit.Config{URL: web.URL + end}, nil).OK(t, "systems", nil)
	}
	if err := client(t, kit.Config{URL: web.URL}, nil).Session.Ping(context.Background(), nil); err != nil {
		t.Error(err)
	}
}
