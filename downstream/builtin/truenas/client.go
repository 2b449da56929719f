package truenas

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

const (
	dialTime = 15 * time.Second // connecting and logging in
	authHold = 5 * time.Minute  // how long a key that was refused is not tried again
	labHold  = 10 * time.Second // the same in the lab, where nobody is locked out
)

// client keeps one connection to a TrueNAS, logged in. It opens a new one when the old one is over, and repeats no call that may have run.
// Its methods may be called at the same time.
type client struct {
	url      string
	host     string
	username string
	key      string
	http     *http.Client
	hold     time.Duration
	hidden   *strings.Replacer
	places   chan struct{} // calls at once
	dialing  chan struct{} // held by the one who connects

	mu      sync.Mutex
	rpc     *rpc            // nil while there is none; guarded by mu
	closed  bool            // guarded by mu
	refused time.Time       // when the key was refused; guarded by mu
	why     *kit.Failure    // guarded by mu
	missing map[string]bool // methods that this release does not have; guarded by mu
}

func newClient(cfg *kit.Config) (*client, error) {
	address, host, err := endpoint(cfg.URL)
	if err != nil {
		return nil, err
	}
	key := string(cfg.Token)
	if key == "" {
		return nil, errors.New("token: missing: expected an API key (TrueNAS: user menu > My API Keys)")
	}
	transport, err := kit.NewTransport(cfg.TLS, cfg.Connection)
	if err != nil {
		return nil, err
	}
	// nginx would prefer HTTP/2, on which there is no Upgrade.
	transport.TLSClientConfig.NextProtos = []string{"http/1.1"}
	if cfg.TLS.InsecureSkipVerify && cfg.Log != nil {
		cfg.Log.Warn("certificate is not verified", "downstream", cfg.Name, "mend", "set ca_file or tls_pin instead of tls_insecure_skip_verify")
	}
	c := &client{
		url: address, host: host, username: cfg.Username, key: key,
		http: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		hold: authHold, places: make(chan struct{}, maxAtOnce), dialing: make(chan struct{}, 1), missing: map[string]bool{},
	}
	if cfg.Simulated {
		c.hold = labHold
	}
	var hide []string
	for _, secret := range []string{key, string(cfg.Password)} {
		if len(secret) >= 8 { // what is shorter is no secret, and would be found in ordinary words
			hide = append(hide, secret, "[redacted]")
		}
	}
	c.hidden = strings.NewReplacer(hide...)
	return c, nil
}

// endpoint returns the WebSocket address of a TrueNAS. TrueNAS revokes a key that arrives without encryption, so such addresses are refused
// before anything is sent, except for this machine.
func endpoint(s string) (address, host string, err error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return "", "", errors.New("url: expected https:// (or wss://) and a host")
	}
	switch u.Scheme {
	case "https", "wss":
		u.Scheme = "wss"
	case "http", "ws":
		ip := net.ParseIP(u.Hostname())
		if u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return "", "", fmt.Errorf("url: %s:// is not encrypted, and TrueNAS revokes an API key that arrives so: write https://%s", u.Scheme, u.Host)
		}
		u.Scheme = "ws"
	default:
		return "", "", fmt.Errorf("url: expected https:// (or wss://), found %s://", u.Scheme)
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = "/api/current"
	}
	return u.String(), "TrueNAS at " + u.Host, nil
}

// Close ends the connection. No call can be made after it.
func (c *client) Close(context.Context) error {
	c.mu.Lock()
	c.closed = true
	r := c.rpc
	c.rpc = nil
	c.mu.Unlock()
	if r != nil {
		r.Close()
	}
	c.http.CloseIdleConnections()
	return nil
}

// call calls a method. What TrueNAS refuses is an ordinary error; everything else that goes wrong is a *kit.Failure.
func (c *client) call(ctx context.Context, method string, params []any, out any) error {
	select {
	case c.places <- struct{}{}:
	case <-ctx.Done():
		return c.explain(ctx, method, false, context.Cause(ctx))
	}
	defer func() { <-c.places }()
	for again := true; ; again = false {
		r, err := c.connection(ctx)
		if err != nil {
			return err
		}
		sent, err := r.call(ctx, method, params, out)
		if refused, ok := errors.AsType[*rpcError](err); ok && again && strings.Contains(refused.Error(), "ENOTAUTHENTICATED") {
			// The session is not valid any more, so nothing was done. Logging in again shows whether the key still is.
			c.drop(r)
			continue
		}
		return c.explain(ctx, method, sent, err)
	}
}

// first calls the first of the methods that this release has: names differ between releases. A method that does not exist did nothing.
func (c *client) first(ctx context.Context, out any, calls ...call) error {
	var err error
	for _, m := range calls {
		c.mu.Lock()
		missing := c.missing[m.method]
		c.mu.Unlock()
		if missing {
			err = errNoMethod
			continue
		}
		if err = c.call(ctx, m.method, m.params, out); !errors.Is(err, errNoMethod) {
			return err
		}
		c.mu.Lock()
		c.missing[m.method] = true
		c.mu.Unlock()
	}
	return err
}

type call struct {
	method string
	params []any
}

// errNoMethod reports a method that this release of TrueNAS does not have.
var errNoMethod = errors.New("this release of TrueNAS has no such method")

// explain turns what became of a call into words.
func (c *client) explain(ctx context.Context, method string, sent bool, err error) error {
	if err == nil {
		return nil
	}
	if refused, ok := errors.AsType[*rpcError](err); ok {
		switch {
		case refused.Code == codeNoMethod:
			return fmt.Errorf("%s: %w", method, errNoMethod)
		case refused.Code == codeBusy:
			return &kit.Failure{Class: kit.ClassBusy, RetryAfter: time.Second, Message: c.hidden.Replace(c.host + " has too many calls under way and did not begin this one: " + refused.Error())}
		}
		return fmt.Errorf("TrueNAS refuses %s: %s", method, clip(c.hidden.Replace(refused.Error()), 1000))
	}
	if l, ok := errors.AsType[*lost](err); ok {
		return &kit.Failure{Class: l.class, Executed: sent, Message: c.host + " " + l.why}
	}
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return context.Cause(ctx)
	}
	if ctx.Err() != nil {
		return &kit.Failure{Class: kit.ClassTimeout, Executed: sent, Message: fmt.Sprintf("%s did not answer %s in time", c.host, method)}
	}
	return err
}

func clip(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
}

func (c *client) drop(r *rpc) {
	c.mu.Lock()
	if c.rpc == r {
		c.rpc = nil
	}
	c.mu.Unlock()
	r.Close()
}

// current returns the connection that there is, or nil.
func (c *client) current() (*rpc, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, &kit.Failure{Class: kit.ClassConnection, Message: "the server in front of TrueNAS is closed"}
	case c.rpc != nil && !c.rpc.over():
		return c.rpc, nil
	case c.why == nil:
	case time.Since(c.refused) < c.hold:
		left := c.hold - time.Since(c.refused)
		return nil, &kit.Failure{Class: kit.ClassAuth, RetryAfter: left, Message: fmt.Sprintf(
			"%s; the key is not tried again for %s, or until gateway.yaml changes", c.why.Message, left.Round(time.Second))}
	default:
		c.why = nil
	}
	return nil, nil
}

// connection returns a connection that is logged in. One caller opens it, the others wait.
func (c *client) connection(ctx context.Context) (*rpc, error) {
	if r, err := c.current(); r != nil || err != nil {
		return r, err
	}
	select {
	case c.dialing <- struct{}{}:
	case <-ctx.Done():
		return nil, c.explain(ctx, "the connection", false, context.Cause(ctx))
	}
	defer func() { <-c.dialing }()
	if r, err := c.current(); r != nil || err != nil {
		return r, err
	}
	c.mu.Lock()
	old := c.rpc
	c.rpc = nil
	c.mu.Unlock()
	if old != nil {
		old.Close()
	}
	r, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		go r.Close() //nolint:contextcheck // nothing waits for it: the server is gone
		return nil, &kit.Failure{Class: kit.ClassConnection, Message: "the server in front of TrueNAS is closed"}
	}
	c.rpc = r
	return r, nil
}

// open connects and logs in. Nothing of the call that needs it has been sent yet.
func (c *client) open(parent context.Context) (*rpc, error) {
	ctx, cancel := context.WithTimeout(parent, dialTime)
	defer cancel()
	ws, res, err := websocket.Dial(ctx, c.url, &websocket.DialOptions{HTTPClient: c.http, HTTPHeader: http.Header{"User-Agent": {"mcpgw"}}}) //nolint:bodyclose // the library closes it
	if err != nil {
		return nil, c.undialed(ctx, parent, res, err)
	}
	r := newRPC(ws)
	if err := c.login(ctx, r); err != nil {
		r.Close()
		if f, ok := errors.AsType[*kit.Failure](err); ok {
			f.Executed = false
			return nil, f
		}
		if parent.Err() != nil {
			return nil, c.explain(parent, "the login", false, context.Cause(parent))
		}
		return nil, err
	}
	return r, nil
}

func (c *client) undialed(ctx, parent context.Context, res *http.Response, err error) error {
	if parent.Err() != nil && errors.Is(context.Cause(parent), context.Canceled) {
		return context.Cause(parent)
	}
	if res != nil && res.StatusCode != http.StatusSwitchingProtocols {
		f := &kit.Failure{Class: kit.ClassStatus, Status: res.StatusCode, RetryAfter: kit.RetryAfter(res.Header), Message: fmt.Sprintf("%s answered HTTP %d to the connection", c.host, res.StatusCode)}
		switch res.StatusCode {
		case http.StatusTooManyRequests:
			f.Class = kit.ClassRateLimited
		case http.StatusNotFound:
			f.Message += ": there is no /api/current, which TrueNAS has since 25.04; is the address right?"
		}
		return f
	}
	class, text := kit.Broken(unwrapped(err))
	if ctx.Err() != nil {
		class, text = kit.ClassTimeout, "did not take the connection in time"
	}
	return &kit.Failure{Class: class, Message: c.hidden.Replace(c.host + " " + text)}
}

// unwrapped returns the cause in err that kit.Broken knows.
func unwrapped(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u
	}
	return err
}

// login logs r in. A refusal is remembered.
func (c *client) login(ctx context.Context, r *rpc) error {
	var answer struct {
		Type string `json:"response_type"`
	}
	old := c.username == "" // releases before 25.04 know keys without their user
	if !old {
		sent, err := r.call(ctx, "auth.login_ex", []any{map[string]any{
			"mechanism": "API_KEY_PLAIN", "username": c.username, "api_key": c.key, "login_options": map[string]any{"user_info": false},
		}}, &answer)
		if refused, ok := errors.AsType[*rpcError](err); ok && refused.Code == codeNoMethod {
			old = true
		} else if err != nil {
			return c.notLoggedIn(ctx, sent, err)
		}
	}
	if old {
		var ok bool
		sent, err := r.call(ctx, "auth.login_with_api_key", []any{c.key}, &ok)
		if refused, is := errors.AsType[*rpcError](err); is && refused.Code == codeNoMethod {
			return c.refuse("this release of TrueNAS wants to know whose key it is: set username to the user that the key belongs to")
		}
		if err != nil {
			return c.notLoggedIn(ctx, sent, err)
		}
		if answer.Type = "AUTH_ERR"; ok {
			answer.Type = "SUCCESS"
		}
	}
	switch answer.Type {
	case "SUCCESS":
		return nil
	case "EXPIRED":
		return c.refuse("the API key has expired, or was revoked: make a new one")
	case "DENIED":
		return c.refuse("the key is right, but its user may not use the API (privileges)")
	case "OTP_REQUIRED":
		return c.refuse("it asks for a one-time password, which API keys cannot give: use a key of a user without two-factor login")
	case "REDIRECT":
		return c.refuse("it is the standby controller: write the address of the active one")
	}
	return c.refuse("user name and key do not belong together, or the key was revoked (TrueNAS revokes keys that were sent unencrypted): make a new one under My API Keys")
}

func (c *client) notLoggedIn(ctx context.Context, sent bool, err error) error {
	refused, ok := errors.AsType[*rpcError](err)
	if !ok || refused.Code == codeBusy {
		return c.explain(ctx, "the login", sent, err)
	}
	return c.refuse(refused.Error())
}

func (c *client) refuse(why string) error {
	f := &kit.Failure{Class: kit.ClassAuth, Message: c.hidden.Replace(fmt.Sprintf("%s does not accept the credentials: %s", c.host, why))}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused, c.why = time.Now(), f
	return f
}
