package kit

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Client talks to the HTTP API of one system. It turns everything that goes wrong into a [*Failure] or, where the system understood the
// request and refuses it, into a [*Refusal]. It never repeats a request. Its methods may be called at the same time.
type Client struct {
	system string // "Proxmox at https://pve:8006", for messages
	base   *url.URL
	http   *http.Client
	opts   ClientOptions
	header map[string]string // of every request
	hidden *strings.Replacer // takes secrets out of what the system says

	mu      sync.Mutex
	refused time.Time // when the credentials were refused; guarded by mu
	why     *Failure  // guarded by mu
}

// ClientOptions says how a system speaks HTTP.
type ClientOptions struct {
	System string // what people call it: "Proxmox VE"
	// Authorize puts the credentials into a request; nil for none. An error that is a *Failure is returned as it is.
	Authorize func(*http.Request) error
	// Down are the statuses that say that the system, or a part of it, does not work, besides 502, 503 and 504.
	Down []int
	// Explain reads what a status that is not 2xx means. It returns nil where the status says it all, or a *Failure or *Refusal.
	Explain func(status int, reason string, header http.Header, body []byte) error
	// MaxBody bounds an answer in bytes; 0 means 32 MiB.
	MaxBody int64
	// AuthHold is how long credentials that were refused (401) are not tried again; 0 means 5 minutes. Several wrong attempts lock
	// accounts.
	AuthHold time.Duration
	// Hidden are further secrets that no text of the system may show.
	Hidden []string
}

// Refusal reports that the system understood a request and did not do it.
type Refusal struct { //nolint:errname // an answer of the system first, an error second
	Status  int
	Message string
}

func (r *Refusal) Error() string { return r.Message }

// NewClient returns a client for the system at cfg.URL, which must be an http or https URL.
func NewClient(cfg *Config, opts ClientOptions) (*Client, error) {
	base, err := url.Parse(strings.TrimRight(cfg.URL, "/"))
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		return nil, errors.New("url: expected http:// or https:// and a host")
	}
	transport, err := NewTransport(cfg.TLS, cfg.Connection)
	if err != nil {
		return nil, err
	}
	if opts.MaxBody <= 0 {
		opts.MaxBody = 32 << 20
	}
	switch {
	case cfg.Simulated:
		opts.AuthHold = 10 * time.Second // nobody's account is locked, and somebody waits to see it recover
	case opts.AuthHold <= 0:
		opts.AuthHold = 5 * time.Minute
	}
	if cfg.TLS.InsecureSkipVerify && base.Scheme == "https" {
		cfg.logger().Warn("certificate is not verified", "downstream", cfg.Name, "mend", "set ca_file or tls_pin instead of tls_insecure_skip_verify")
	}
	c := &Client{
		system: opts.System + " at " + base.Scheme + "://" + base.Host, base: base, opts: opts,
		http: &http.Client{
			Transport: transport,
			// A redirect of an API is a mistake in the address, and would carry credentials elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	c.header, c.hidden = map[string]string{}, redactor(cfg, opts.Hidden)
	for name, value := range cfg.Headers {
		c.header[http.CanonicalHeaderKey(name)] = value.Reveal()
	}
	return c, nil
}

// redactor takes the secrets of cfg out of texts: some systems repeat the key that they refuse.
func redactor(cfg *Config, more []string) *strings.Replacer {
	const telling = 6 // shorter values are words that texts contain by chance
	var pairs []string
	hide := func(s string) {
		if len(s) >= telling {
			pairs = append(pairs, s, "[redacted]")
		}
	}
	for _, s := range more {
		hide(s)
	}
	hide(cfg.Token.Reveal())
	hide(cfg.Password.Reveal())
	for _, name := range slices.Sorted(maps.Keys(cfg.Headers)) {
		for part := range strings.FieldsSeq(cfg.Headers[name].Reveal()) {
			if !strings.EqualFold(part, "bearer") {
				hide(part)
			}
		}
	}
	return strings.NewReplacer(pairs...)
}

// Redact takes the secrets that the client knows out of a text.
func (c *Client) Redact(text string) string { return c.hidden.Replace(text) }

// Close closes idle connections.
func (c *Client) Close(context.Context) error {
	c.http.CloseIdleConnections()
	return nil
}

// Base returns a copy of the system's address.
func (c *Client) Base() *url.URL { u := *c.base; return &u }

// Request is one request to a system.
type Request struct {
	Method string     // "" is GET
	Path   string     // below the base, with its first slash; already escaped
	Query  url.Values // nil for none
	Form   url.Values // a form body; nil for none
	JSON   any        // a JSON body; nil for none
	Header http.Header
	// Status takes the status of the answer, where one came; nil for those who need not know.
	Status *int
	// Stream takes the body of a 2xx answer as it arrives instead of Do reading all of it.
	Stream func(http.Header, io.Reader) error
}

// Do makes a request. A 2xx body that is JSON is decoded into out; out may be nil, or a *[]byte that takes the body as it is. The returned
// header is that of the answer, nil where there was none.
func (c *Client) Do(ctx context.Context, r Request, out any) (http.Header, error) {
	if err := c.held(); err != nil {
		return nil, err
	}
	var wrote atomic.Bool
	req, err := c.request(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteHeaders: func() { wrote.Store(true) },
	}), &r)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.broken(ctx, err, wrote.Load())
	}
	defer func() { _ = res.Body.Close() }()
	if r.Status != nil {
		*r.Status = res.StatusCode
	}
	if res.StatusCode/100 != 2 {
		body, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10))
		return res.Header, c.status(res, body)
	}
	c.accepted()
	if r.Stream != nil {
		if err := r.Stream(res.Header, res.Body); err != nil {
			return res.Header, c.broken(ctx, err, true)
		}
		return res.Header, nil
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, c.opts.MaxBody+1))
	if err != nil {
		return res.Header, c.broken(ctx, err, true)
	}
	if int64(len(body)) > c.opts.MaxBody {
		return res.Header, &Failure{Class: ClassMalformed, Executed: true, Message: fmt.Sprintf("%s answered more than %d bytes", c.system, c.opts.MaxBody)}
	}
	return res.Header, c.decode(res, body, out)
}

// Get is Do for the commonest request.
func (c *Client) Get(ctx context.Context, path string, query url.Values, out any) error {
	_, err := c.Do(ctx, Request{Path: path, Query: query}, out)
	return err
}

func (c *Client) request(ctx context.Context, r *Request) (*http.Request, error) {
	u := *c.base
	u.RawQuery = r.Query.Encode()
	rel, err := url.Parse(r.Path)
	if err != nil {
		return nil, fmt.Errorf("path %q: %w", r.Path, err)
	}
	u.Path, u.RawPath = c.base.Path+rel.Path, c.base.EscapedPath()+rel.EscapedPath()
	method := r.Method
	if method == "" {
		method = http.MethodGet
	}
	var body io.Reader
	contentType := ""
	switch {
	case r.JSON != nil:
		raw, err := json.Marshal(r.JSON)
		if err != nil {
			return nil, fmt.Errorf("body: %w", err)
		}
		body, contentType = bytes.NewReader(raw), "application/json"
	case r.Form != nil:
		body, contentType = strings.NewReader(r.Form.Encode()), "application/x-www-form-urlencoded"
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, err
	}
	// The transport would repeat a request without a body on a new connection by itself; it may have been executed.
	req.GetBody = nil
	if method != http.MethodGet && method != http.MethodHead && body == nil {
		req.Body, req.ContentLength = http.NoBody, 0
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "mcpgw")
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for k, v := range c.header {
		req.Header.Set(k, v)
	}
	maps.Copy(req.Header, r.Header)
	if c.opts.Authorize != nil {
		if err := c.opts.Authorize(req); err != nil {
			return nil, err
		}
	}
	return req, nil
}

func (c *Client) decode(res *http.Response, body []byte, out any) error {
	switch out := out.(type) {
	case nil:
		return nil
	case *[]byte:
		*out = body
		return nil
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return &Failure{Class: ClassMalformed, Executed: true, Message: fmt.Sprintf("%s answered something that is not what its API says (%s, %d bytes): %v",
			c.system, cmpType(res.Header.Get("Content-Type")), len(body), err)}
	}
	return nil
}

func cmpType(s string) string {
	if s == "" {
		return "no content type"
	}
	return clip(s, 80)
}

// broken explains a request that no answer came to.
func (c *Client) broken(ctx context.Context, err error, sent bool) error {
	if f, ok := errors.AsType[*Failure](err); ok {
		return f
	}
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r
	}
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return context.Cause(ctx)
	}
	class, text := Broken(err)
	if ctx.Err() != nil {
		class, text = ClassTimeout, "did not answer in time"
	}
	return &Failure{Class: class, Executed: sent, Message: c.system + " " + text}
}

// Broken names the class of an error of a connection, and says in words for "the system …" what happened.
func Broken(err error) (class, text string) {
	var (
		dns     *net.DNSError
		cert    *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		op      *net.OpError
		timeout interface{ Timeout() bool }
	)
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // its text would repeat the address
	}
	switch {
	case errors.As(err, &dns):
		return ClassDNS, "has a name that cannot be resolved: " + dns.Err
	case errors.As(err, &cert):
		return ClassTLS, "shows a certificate that is not accepted: " + cert.Err.Error() + " (set ca_file or tls_pin)"
	case strings.Contains(err.Error(), "HTTP response to HTTPS client"):
		return ClassTLS, "speaks plain HTTP at this address: write http:// if that is meant"
	case errors.As(err, &record), strings.Contains(err.Error(), "tls:"), strings.Contains(err.Error(), "not the pinned one"):
		return ClassTLS, "cannot be spoken to over TLS: " + clip(err.Error(), 200)
	case errors.As(err, &op) && op.Op == "dial":
		if op.Timeout() {
			return ClassConnect, "does not take connections (no answer at its address)"
		}
		return ClassConnect, "cannot be reached: " + op.Err.Error()
	case errors.As(err, &timeout) && timeout.Timeout():
		return ClassTimeout, "did not answer in time"
	}
	return ClassConnection, "ended the connection before it answered: " + clip(err.Error(), 200)
}

// status explains an answer that is not 2xx.
func (c *Client) status(res *http.Response, body []byte) error {
	_, reason, _ := strings.Cut(res.Status, " ")
	if res.StatusCode != http.StatusUnauthorized {
		c.accepted()
	}
	body, reason = []byte(c.Redact(string(body))), c.Redact(reason)
	if c.opts.Explain != nil {
		if err := c.opts.Explain(res.StatusCode, reason, res.Header, body); err != nil {
			if f, ok := errors.AsType[*Failure](err); ok && f.Class == ClassAuth {
				c.hold(f)
			}
			return err
		}
	}
	f := &Failure{Class: ClassStatus, Status: res.StatusCode, RetryAfter: RetryAfter(res.Header)}
	told := ""
	if t := plainText(body); t != "" {
		told = ": " + t
	} else if reason != "" && reason != http.StatusText(res.StatusCode) {
		told = ": " + reason
	}
	f.Message = fmt.Sprintf("%s answered HTTP %d%s", c.system, res.StatusCode, told)
	switch {
	case res.StatusCode == http.StatusUnauthorized:
		f.Class, f.Message = ClassAuth, fmt.Sprintf("%s does not accept the credentials (HTTP 401)%s", c.system, told)
		c.hold(f)
		return f
	case res.StatusCode == http.StatusTooManyRequests:
		f.Class = ClassRateLimited
		return f
	case slices.Contains([]int{http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}, res.StatusCode), slices.Contains(c.opts.Down, res.StatusCode):
		f.Executed = true
		return f
	}
	return &Refusal{Status: res.StatusCode, Message: f.Message}
}

// held returns the failure of credentials that were refused a short while ago.
func (c *Client) held() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why == nil {
		return nil
	}
	left := c.opts.AuthHold - time.Since(c.refused)
	if left <= 0 {
		c.why = nil
		return nil
	}
	return &Failure{Class: ClassAuth, Status: c.why.Status, RetryAfter: left, Message: fmt.Sprintf(
		"%s; they are not tried again for %s, or until gateway.yaml changes, because repeated attempts lock accounts", c.why.Message, left.Round(time.Second))}
}

func (c *Client) hold(f *Failure) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused, c.why = time.Now(), f
}

func (c *Client) accepted() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.why = nil
}

// RetryAfter reads Retry-After (RFC 9110 §10.2.3) and the retry-after-ms of LLM providers; 0 if there is none.
func RetryAfter(h http.Header) time.Duration {
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil && ms > 0 && ms < 1e9 {
		return time.Duration(ms * float64(time.Millisecond))
	}
	v := h.Get("Retry-After")
	if s, err := strconv.ParseFloat(v, 64); err == nil && s > 0 && s < 1e6 {
		return time.Duration(s * float64(time.Second))
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}

// plainText makes one short line of a body that is text.
func plainText(body []byte) string {
	if i := bytes.IndexByte(body, '<'); i >= 0 && i < 5 {
		return "" // a page for people's browsers
	}
	s := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '�' {
			return ' '
		}
		return r
	}, string(body))
	return clip(strings.Join(strings.Fields(s), " "), 300)
}
