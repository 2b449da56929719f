package gateway

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// denied is why a request is refused before anything of it is read.
type denied struct {
	status int
	msg    string
}

// anonymous is the principal of every client where no tokens are configured.
const anonymous = "anonymous"

// admit checks Host, Origin and bearer token of a request, for every method. It returns who the client is.
//
// Host and Origin guard against web pages that reach for local servers (DNS rebinding, CVE-2025-49596): a page can neither choose an IP
// literal as the name of its own host nor hide its origin.
func (g *Gateway) admit(r *http.Request, cfg *Config) (principal string, no *denied) {
	if !hostAllowed(r.Host, cfg) {
		return "", &denied{http.StatusForbidden, "host " + quoteShort(r.Host) + " is not allowed: use the address the gateway listens on, or add the name to gateway.allowed_hosts"}
	}
	if origin := r.Header["Origin"]; len(origin) > 0 && !originAllowed(origin, r.Host, cfg) {
		return "", &denied{http.StatusForbidden, "origin " + quoteShort(origin[0]) + " is not allowed: add it to gateway.allowed_origins if this web page may use the gateway"}
	}
	if len(cfg.Tokens) == 0 {
		return anonymous, nil
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", &denied{http.StatusUnauthorized, "a bearer token is required: send Authorization: Bearer TOKEN with a token of gateway.tokens"}
	}
	got := sha256.Sum256([]byte(strings.TrimSpace(token)))
	found := 0
	for _, t := range cfg.Tokens {
		want := sha256.Sum256([]byte(t.Reveal()))
		found |= subtle.ConstantTimeCompare(got[:], want[:])
	}
	if found == 0 {
		return "", &denied{http.StatusUnauthorized, "the bearer token is not one of gateway.tokens"}
	}
	return hex.EncodeToString(got[:8]), nil
}

func quoteShort(s string) string {
	if len(s) > 100 {
		s = s[:100] + "…"
	}
	return `"` + strings.ToValidUTF8(s, "?") + `"`
}

// hostAllowed reports whether the Host header names the gateway.
func hostAllowed(host string, cfg *Config) bool {
	if host == cfg.Listen {
		return true // the usual case
	}
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.Trim(name, "[]"), ".")
	if isLoopbackName(name) {
		return true
	}
	listenHost, _, _ := net.SplitHostPort(cfg.Listen)
	if _, err := netip.ParseAddr(name); err == nil && !isLoopbackName(listenHost) {
		return true // clients of a gateway on the network may use any of its addresses
	}
	if strings.EqualFold(name, listenHost) && name != "" {
		return true
	}
	for _, allowed := range cfg.AllowedHosts {
		if strings.EqualFold(allowed, host) || strings.EqualFold(allowed, name) {
			return true
		}
	}
	return false
}

func isLoopbackName(name string) bool {
	if strings.EqualFold(name, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.Unmap().IsLoopback()
}

// originAllowed reports whether a web page may use the gateway: one that is named in the configuration, one of the gateway itself, or one
// that this machine serves to itself. The host has been allowed before.
func originAllowed(origin []string, host string, cfg *Config) bool {
	if len(origin) != 1 {
		return false
	}
	for _, allowed := range cfg.AllowedOrigins {
		if strings.EqualFold(allowed, origin[0]) {
			return true
		}
	}
	u, err := url.Parse(origin[0])
	if err != nil || u.Host == "" {
		return false
	}
	if strings.EqualFold(u.Host, host) {
		return true // the status page: what it was loaded from is a name that hostAllowed knows
	}
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	return isLoopbackName(u.Hostname()) && isLoopbackName(strings.Trim(name, "[]"))
}

// allowPage lets the browser of an allowed web page read answers (CORS). It reports whether that was all that was asked.
func allowPage(w http.ResponseWriter, r *http.Request) (preflight bool) {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", origin)
	h.Add("Vary", "Origin")
	h.Set("Access-Control-Expose-Headers", "Mcp-Session-Id, WWW-Authenticate")
	if r.Method != http.MethodOptions {
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Accept, Last-Event-ID, Mcp-Session-Id, Mcp-Protocol-Version, Mcp-Method, Mcp-Name, "+r.Header.Get("Access-Control-Request-Headers"))
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}
