// Package pfsense is the built-in MCP server for pfSense firewalls with the REST API package v2 (pfrest.org).
//
// Two things about that API decide how it is written. The id of an object is its position at the moment, so a repeated or late write hits
// another object: each write names what it expects, is preceded by a look at the object in the same critical section, followed by a look at
// what the answer says was hit, and never repeated. And changes are staged: they have no effect until they are applied.
package pfsense

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

const instructions = `A pfSense firewall. Start with "overview". Lists are short by default: search=, limit=, offset= and fields= shape them. ` +
	`Changes to rules and aliases are staged and take effect with the tool "apply", if it exists here. ` +
	`The id of a rule is its position and changes when rules are added, moved or deleted: read it right before a change and pass its tracker in expect.`

// firewall is one pfSense. Its methods may be called at the same time.
type firewall struct {
	client *kit.Client
	// writing is held by the one write that is under way: pfSense's configuration is one file that must not be written twice at once.
	writing chan struct{}
}

// New returns a server in front of the pfSense at cfg.URL.
func New(cfg kit.Config) (*kit.Server, error) {
	token, user, password := string(cfg.Token), cfg.Username, string(cfg.Password)
	switch {
	case token == "" && (user == "" || password == ""):
		return nil, errors.New("token: missing: expected an API key of the REST API package (or username and password)")
	case strings.ContainsAny(token, "\r\n"):
		return nil, errors.New("token: must be one line")
	}
	client, err := kit.NewClient(&cfg, kit.ClientOptions{
		System: "pfSense",
		Authorize: func(r *http.Request) error {
			if token != "" {
				r.Header.Set("X-API-Key", token)
			} else {
				r.SetBasicAuth(user, password)
			}
			return nil
		},
		Explain:  explain,
		AuthHold: hold(cfg.Simulated),
	})
	if err != nil {
		return nil, err
	}
	f := &firewall{client: client, writing: make(chan struct{}, 1)}
	s := kit.NewServer(cfg, "pfsense", "pfSense", instructions)
	s.OnPing(func(ctx context.Context) error { return f.get(ctx, "/system/version", nil, nil) })
	s.OnClose(client.Close)
	f.addOverview(s)
	f.addLists(s)
	f.addLogs(s)
	f.addRules(s)
	f.addAliases(s)
	f.addControl(s)
	return s, nil
}

// hold returns how long a key that was refused is not tried again; 0 is the usual time. Who tries it in the lab should not have to wait.
func hold(simulated bool) time.Duration {
	if simulated {
		return 10 * time.Second
	}
	return 0
}

// envelope is how the API answers everything.
type envelope struct {
	Code       int             `json:"code"`
	ResponseID string          `json:"response_id"`
	Message    string          `json:"message"`
	Data       json.RawMessage `json:"data"`
}

// explain reads the reason out of an answer that is no success. What it leaves alone is told by its status.
func explain(status int, _ string, header http.Header, body []byte) error {
	var e envelope
	if err := json.Unmarshal(body, &e); err != nil || e.Message == "" {
		return nil //nolint:nilerr // it is not the API that answered, which is no news to the caller
	}
	said := strings.TrimRight(strings.TrimSpace(e.Message), ".")
	switch status {
	case http.StatusUnauthorized:
		return &kit.Failure{Class: kit.ClassAuth, Status: status, Message: "pfSense does not accept the credentials (HTTP 401): " + said + "; a new key is made at System > REST API > Keys"}
	case http.StatusTooManyRequests:
		return &kit.Failure{Class: kit.ClassRateLimited, Status: status, RetryAfter: kit.RetryAfter(header), Message: "pfSense wants to be asked less often (HTTP 429): " + said}
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return &kit.Failure{
			Class: kit.ClassStatus, Status: status, Executed: true, RetryAfter: kit.RetryAfter(header),
			Message: fmt.Sprintf("pfSense does not work at the moment (HTTP %d): %s", status, said),
		}
	}
	id := e.ResponseID
	if id != "" {
		id = ", " + id
	}
	hint := ""
	switch status {
	case http.StatusForbidden:
		hint = "; the user of the key lacks this privilege: System > User Manager shows what it may do"
	case http.StatusFailedDependency:
		hint = "; a package is missing on pfSense: System > Package Manager installs it"
	case http.StatusInternalServerError:
		hint = "; if this was a change, it may have happened: look before doing it again"
	}
	return &kit.Refusal{Status: status, Message: fmt.Sprintf("pfSense refuses (HTTP %d%s): %s%s", status, id, said, hint)}
}

// get reads data at a path below /api/v2 into out.
func (f *firewall) get(ctx context.Context, path string, query url.Values, out any) error {
	return f.do(ctx, kit.Request{Path: path, Query: query}, out)
}

func (f *firewall) do(ctx context.Context, r kit.Request, out any) error {
	r.Path = "/api/v2" + r.Path
	var e envelope
	if _, err := f.client.Do(ctx, r, &e); err != nil {
		return err
	}
	if e.Code == 0 && e.Data == nil {
		return &kit.Failure{Class: kit.ClassMalformed, Executed: true, Message: "the answer has none of the members that the REST API package v2 writes: is this address a pfSense with the package installed?"}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(e.Data, out); err != nil {
		return &kit.Failure{Class: kit.ClassMalformed, Executed: true, Message: fmt.Sprintf("pfSense answered data of another form than its API says: %v", err)}
	}
	return nil
}

// list reads all objects of a kind, in their order. The API says no total and its filters know no "anywhere", so they are read whole.
func (f *firewall) list(ctx context.Context, path string, query url.Values) ([]kit.Item, error) {
	if query == nil {
		query = url.Values{"limit": {"0"}}
	}
	var items []kit.Item
	return items, f.get(ctx, path, query, &items)
}

// only returns the items with no other members than the named ones: an API that shows configuration shows keys, too.
func only(items []kit.Item, members ...[]string) []kit.Item {
	out := make([]kit.Item, len(items))
	for i, it := range items {
		kept := kit.Item{}
		for _, list := range members {
			for _, m := range list {
				if v, ok := it[m]; ok && v != nil && v != "" {
					kept[m] = v
				}
			}
		}
		out[i] = kept
	}
	return out
}

// exclusively runs one write at a time.
func (f *firewall) exclusively(ctx context.Context, do func() error) error {
	select {
	case f.writing <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-f.writing }()
	return do()
}
