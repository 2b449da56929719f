// Package idrac is an MCP server in front of the board management controller (BMC) of a server: Dell's iDRAC and any other that speaks
// Redfish. It finds everything by links, because every vendor names things differently.
package idrac

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
	"github.com/mcpgw/mcpgw/telemetry"
)

// Options are those of the section idrac in gateway.yaml.
type Options struct {
	Login string `yaml:"login" default:"basic" enum:"basic|session" doc:"How to log in: basic sends user name and password with each request. session keeps one session and gives it back; an iDRAC has only 8 of them."`
}

// DefaultOptions returns Options with every default filled in.
func DefaultOptions() Options { return Options{Login: "basic"} }

// Validate reports what is wrong, each a *[kit.KeyError].
func (o *Options) Validate() error {
	var f kit.Faults
	if o.Login != "basic" && o.Login != "session" {
		f.Add("login", "expected basic or session, found %q", o.Login)
	}
	return f.Err()
}

// bmc is what the tools share.
type bmc struct {
	api    *kit.Client
	system string // for messages
	slots  chan struct{}
	ttl    time.Duration // of what seldom changes

	// Of sessions; login is nil without.
	login          *kit.Client
	user, password string
	loggingIn      chan struct{} // holds one element while nobody logs in

	// How tasks and changes of power are followed.
	poll, most      time.Duration // pause between two questions, at first and at most
	silent, patient time.Duration // how long where nobody hears of progress, and where somebody does

	mu       sync.Mutex
	cache    map[string]cached // by path; guarded by mu
	noExpand bool              // $expand is announced but does not work; guarded by mu
	session  session           // guarded by mu
}

const instructions = "The management controller of a physical server (iDRAC or another that speaks Redfish): power, temperatures, fans, disks, " +
	"memory, firmware and event logs, even while the server is off. It is slow: a call can take many seconds. redfish_get reads what no other tool shows."

// New returns a server in front of the controller at cfg.URL, such as https://192.0.2.20.
func New(cfg kit.Config) (*kit.Server, error) {
	b, s, err := newServer(cfg)
	if err != nil {
		return nil, err
	}
	b.addTools(s)
	return s, nil
}

func newServer(cfg kit.Config) (*bmc, *kit.Server, error) {
	opts, _ := cfg.Options.(*Options)
	if opts == nil {
		d := DefaultOptions()
		opts = &d
	}
	if cfg.Username == "" || cfg.Password == "" {
		return nil, nil, errors.New("username and password: both are needed; best those of an account that is only for this")
	}
	cfg.URL = strings.TrimSuffix(strings.TrimRight(cfg.URL, "/"), "/redfish/v1")
	b := &bmc{
		slots: make(chan struct{}, 2), ttl: time.Minute, user: cfg.Username, password: cfg.Password.Reveal(), loggingIn: make(chan struct{}, 1),
		poll: 500 * time.Millisecond, most: 5 * time.Second, silent: 40 * time.Second, patient: 20 * time.Minute, cache: map[string]cached{},
	}
	// The client takes it out of texts, as it does the password.
	cfg.Token = telemetry.Secret(base64.StdEncoding.EncodeToString([]byte(b.user + ":" + b.password)))
	options := kit.ClientOptions{System: "The management controller", Explain: b.explain, MaxBody: 8 << 20}
	if opts.Login != "session" {
		options.Authorize = func(r *http.Request) error {
			r.SetBasicAuth(b.user, b.password)
			return nil
		}
	}
	var err error
	if opts.Login == "session" {
		if b.login, err = kit.NewClient(&cfg, options); err != nil {
			return nil, nil, err
		}
		cfg.Log = nil // what there is to warn of has been said
		options.Explain = b.explainInSession
	}
	if b.api, err = kit.NewClient(&cfg, options); err != nil {
		return nil, nil, err
	}
	base := b.api.Base()
	b.system = "The management controller at " + base.Scheme + "://" + base.Host
	s := kit.NewServer(cfg, "idrac", "Server management (Redfish)", instructions)
	s.OnClose(b.api.Close)
	if b.login != nil {
		s.OnClose(b.login.Close)
		s.OnClose(b.giveBack) // the last is called first
	}
	// The service root answers without credentials and is the cheapest question there is. Whoever is locked out learns it by a call.
	s.OnPing(func(ctx context.Context) error { return b.api.Get(ctx, rootPath, nil, nil) })
	return b, s, nil
}

func (b *bmc) addTools(s *kit.Server) {
	b.addInventory(s)
	b.addHealth(s)
	b.addLogs(s)
	b.addGeneric(s)
	b.addControl(s)
}
