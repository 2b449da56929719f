package gateway

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/mcpgw/mcpgw/telemetry"
)

func TestAdmit(t *testing.T) {
	const token = "0123456789abcdef0123"
	local := DefaultConfig()
	lan := DefaultConfig()
	lan.Listen = "0.0.0.0:8080"
	lan.Tokens = []telemetry.Secret{"another-token-of-mine", token}
	named := DefaultConfig()
	named.AllowedHosts = []string{"gw.example.net"}
	named.AllowedOrigins = []string{"https://app.example.net"}
	for name, c := range map[string]struct {
		cfg    Config
		host   string
		header http.Header
		want   int // 0 is admitted
	}{
		"loopback":                      {local, "127.0.0.1:8080", nil, 0},
		"localhost":                     {local, "localhost:9999", nil, 0},
		"IPv6 loopback":                 {local, "[::1]:8080", nil, 0},
		"rebound name":                  {local, "evil.example", nil, 403},
		"rebound name with port":        {local, "evil.example:8080", nil, 403},
		"name that begins like it":      {local, "localhost.evil.example", nil, 403},
		"address of the network":        {local, "192.168.1.5:8080", nil, 403},
		"no host":                       {local, "", nil, 403},
		"foreign page":                  {local, "127.0.0.1:8080", http.Header{"Origin": {"https://evil.example"}}, 403},
		"page of this machine":          {local, "127.0.0.1:8080", http.Header{"Origin": {"http://localhost:6274"}}, 0},
		"opaque origin":                 {local, "127.0.0.1:8080", http.Header{"Origin": {"null"}}, 403},
		"two origins":                   {local, "127.0.0.1:8080", http.Header{"Origin": {"http://localhost", "https://evil.example"}}, 403},
		"allowed name":                  {named, "GW.example.net:443", nil, 0},
		"allowed page":                  {named, "gw.example.net", http.Header{"Origin": {"https://app.example.net"}}, 0},
		"page of this machine, by name": {named, "gw.example.net", http.Header{"Origin": {"http://localhost:6274"}}, 403},
		"no token":                      {lan, "192.168.1.5:8080", nil, 401},
		"wrong token":                   {lan, "192.168.1.5:8080", http.Header{"Authorization": {"Bearer nope"}}, 401},
		"basic":                         {lan, "192.168.1.5:8080", http.Header{"Authorization": {"Basic " + token}}, 401},
		"token":                         {lan, "192.168.1.5:8080", http.Header{"Authorization": {"Bearer " + token}}, 0},
		"token, rebound name":           {lan, "evil.example", http.Header{"Authorization": {"Bearer " + token}}, 403},
	} {
		t.Run(name, func(t *testing.T) {
			g := New(Options{})
			defer g.Close(t.Context())
			for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete, http.MethodOptions} {
				r := httptest.NewRequestWithContext(t.Context(), method, "/mcp", nil)
				r.Host = c.host
				r.Header = c.header.Clone()
				if r.Header == nil {
					r.Header = http.Header{}
				}
				principal, no := g.admit(r, &c.cfg)
				got := 0
				if no != nil {
					got = no.status
				}
				if got != c.want {
					t.Errorf("%s: got %d, want %d", method, got, c.want)
				}
				if got == 0 && len(c.cfg.Tokens) > 0 && (principal == anonymous || principal == token) {
					t.Errorf("%s: principal %q", method, principal)
				}
			}
		})
	}
}

func TestRefusalIsReadableByClients(t *testing.T) {
	g := New(Options{})
	defer g.Close(t.Context())
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/mcp", nil)
	r.Host = "evil.example"
	w := httptest.NewRecorder()
	g.Handler().ServeHTTP(w, r)
	want := `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"host \"evil.example\" is not allowed: use the address the gateway listens on, or add the name to gateway.allowed_hosts"}}`
	if w.Code != http.StatusForbidden || w.Body.String() != want {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}
