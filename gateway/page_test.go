package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/telemetry"
)

// pageGateway is a gateway with the built-in host server and its admin surface.
func pageGateway(t *testing.T, change func(*Settings)) (*Gateway, *httptest.Server) {
	t.Helper()
	g := New(Options{Version: "1.2.3"})
	cfg := downstream.DefaultConfig()
	cfg.Preset = "host"
	s := Settings{Gateway: DefaultConfig(), Downstreams: map[string]downstream.Config{"box": cfg}}
	if change != nil {
		change(&s)
	}
	if _, err := g.Apply(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close(context.WithoutCancel(t.Context())) })
	if err := g.Settled(t.Context()); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(g.AdminHandler())
	t.Cleanup(srv.Close)
	return g, srv
}

func get(t *testing.T, url string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
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
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

const browser = "text/html,application/xhtml+xml,*/*;q=0.8"

func TestStatusIsAPageForBrowsersOnly(t *testing.T) {
	_, srv := pageGateway(t, nil)
	res, body := get(t, srv.URL+"/status", "Accept", browser)
	if ct := res.Header.Get("Content-Type"); !strings.HasPrefix(ct, "text/html") {
		t.Errorf("a browser got %s", ct)
	}
	for _, want := range []string{`<article id="card-box"`, "works", "calls / min", "circuit_breaker.failure_threshold", "healthy", "mcpgw 1.2.3"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	if strings.Contains(body, "http://") || strings.Contains(body, "https://") || strings.Contains(body, "ZgotmplZ") {
		t.Error("the page uses something from outside, or the template refused a value")
	}
	if strings.Contains(body, "data-action=\"isolate\"") {
		t.Error("buttons are shown although gateway.admin_tools is false")
	}
	for _, accept := range []string{"application/json", "*/*", ""} {
		res, body := get(t, srv.URL+"/status", "Accept", accept)
		if ct := res.Header.Get("Content-Type"); ct != "application/json" || !json.Valid([]byte(body)) {
			t.Errorf("Accept %q got %s", accept, ct)
		}
	}
}

// TestPageTellsOfChanges watches the page while a circuit is opened by hand.
func TestPageTellsOfChanges(t *testing.T) {
	g, srv := pageGateway(t, func(s *Settings) { s.Gateway.AdminTools = true })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+"/status/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 1<<20)
	next := func(want string) string {
		for lines.Scan() {
			var parts []pagePart
			data, ok := strings.CutPrefix(lines.Text(), "data: ")
			if !ok {
				continue
			}
			if err := json.Unmarshal([]byte(data), &parts); err != nil {
				t.Fatal(err)
			}
			for _, p := range parts {
				if p.ID == "card-box" && strings.Contains(p.HTML, want) {
					return p.HTML
				}
			}
		}
		t.Fatalf("the stream ended before %q: %v", want, lines.Err())
		return ""
	}
	if first := next(`class="state ok"`); !strings.Contains(first, `data-action="isolate"`) {
		t.Error("no buttons although gateway.admin_tools is true")
	}
	if _, err := g.Control("box", "isolate", "test"); err != nil {
		t.Fatal(err)
	}
	next(`class="state isolated"`)
	if _, err := g.Control("box", "reset", "test"); err != nil {
		t.Fatal(err)
	}
	next(`class="state ok"`)
}

// TestPageTakesATokenAsPassword shows the way in for browsers, which cannot send a bearer token by themselves.
func TestPageTakesATokenAsPassword(t *testing.T) {
	const token = "a-token-of-twenty-characters"
	_, srv := pageGateway(t, func(s *Settings) { s.Gateway.Tokens = []telemetry.Secret{token} })
	res, _ := get(t, srv.URL+"/status", "Accept", browser)
	if res.StatusCode != http.StatusUnauthorized || !strings.HasPrefix(res.Header.Get("WWW-Authenticate"), "Basic ") {
		t.Errorf("without a token: %s, %q", res.Status, res.Header.Get("WWW-Authenticate"))
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+"/status", nil)
	req.SetBasicAuth("anybody", token)
	req.Header.Set("Accept", browser)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK || strings.Contains(string(body), token) {
		t.Errorf("with the token: %s", res.Status)
	}
}

func TestTimelineShowsShortOutages(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	got := timeline(now, []change{{now.Add(-20 * time.Hour), conditionOK}, {now.Add(-6 * time.Hour), conditionOpen}, {now.Add(-6*time.Hour + time.Second), conditionOK}})
	if len(got) != 3 || got[2].Is != conditionOpen || got[2].X != 500 || got[2].Width != 2 || got[0].X != 0 || got[0].Width != 500 {
		t.Errorf("got %+v", got)
	}
}

func TestQuantiles(t *testing.T) {
	var l latencies
	if got := (&l).load().quantile(0.95); got != 0 {
		t.Errorf("of nothing: %s", got)
	}
	for range 95 {
		l.add(200 * time.Microsecond) // 128 to 256 µs
	}
	for range 5 {
		l.add(3 * time.Second) // 2.1 to 4.2 s
	}
	l.add(-time.Second)
	l.add(time.Hour)
	c := l.load()
	if p50 := c.quantile(0.5); p50 < 128*time.Microsecond || p50 > 256*time.Microsecond {
		t.Errorf("p50 %s", p50)
	}
	if p99 := c.quantile(0.97); p99 < 2*time.Second || p99 > 5*time.Second {
		t.Errorf("p97 %s", p99)
	}
}
