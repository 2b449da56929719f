// Package proxmox is an MCP server in front of a Proxmox VE cluster or host. It speaks the JSON API (api2/json) with an API token.
package proxmox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
	"github.com/mcpgw/mcpgw/telemetry"
)

// server is what the tools share.
type server struct {
	api    *kit.Client
	system string // for messages
	// How tasks are followed.
	poll, most      time.Duration // pause between two questions, at first and at most
	silent, patient time.Duration // how long where nobody hears of progress, and where somebody does
}

const instructions = "A Proxmox VE cluster: nodes, VMs and containers (together: guests), storage, backups and tasks. Guests are named by their " +
	"number (vmid), which guests lists. Tools that change something follow the task that Proxmox starts and tell how it ended; " +
	"task_log shows one that was still running."

// New returns a server in front of the system at cfg.URL, such as https://pve.example:8006.
func New(cfg kit.Config) (*kit.Server, error) {
	p, s, err := newServer(cfg)
	if err != nil {
		return nil, err
	}
	p.addTools(s)
	return s, nil
}

func (p *server) addTools(s *kit.Server) {
	p.addCluster(s)
	p.addGuests(s)
	p.addTasks(s)
	p.addPower(s)
	p.addCopies(s)
	p.addDeletions(s)
}

func newServer(cfg kit.Config) (*server, *kit.Server, error) {
	token := strings.TrimPrefix(strings.TrimSpace(cfg.Token.Reveal()), "PVEAPIToken=")
	switch m := tokenForm.FindStringSubmatch(token); {
	case m != nil:
		cfg.Password = telemetry.Secret(m[1]) // the client takes it out of texts, as it does the whole token
	case cfg.Simulated:
	case token == "":
		return nil, nil, errors.New("token: missing: expected USER@REALM!TOKENID=UUID, as Datacenter > Permissions > API Tokens shows it once")
	default:
		return nil, nil, errors.New("token: expected USER@REALM!TOKENID=UUID, such as mcpgw@pve!agent=xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx")
	}
	cfg.URL = strings.TrimSuffix(strings.TrimRight(cfg.URL, "/"), "/api2/json")
	p := &server{poll: 250 * time.Millisecond, most: 3 * time.Second, silent: 22 * time.Second, patient: 28 * time.Minute}
	var err error
	if p.api, err = kit.NewClient(&cfg, kit.ClientOptions{
		System: "Proxmox VE",
		Authorize: func(r *http.Request) error {
			r.Header.Set("Authorization", "PVEAPIToken="+token)
			return nil
		},
		Explain: p.explain,
	}); err != nil {
		return nil, nil, err
	}
	base := p.api.Base()
	p.system = "Proxmox VE at " + base.Scheme + "://" + base.Host
	s := kit.NewServer(cfg, "proxmox", "Proxmox VE", instructions)
	s.OnClose(p.api.Close)
	s.OnPing(func(ctx context.Context) error { return p.get(ctx, "/version", nil, nil) })
	return p, s, nil
}

// tokenForm also catches the secret part.
var tokenForm = regexp.MustCompile(`^[^\s@!=]+@[^\s@!=]+![^\s@!=]+=([0-9a-fA-F-]{36})$`)

// explain reads what Proxmox says by its statuses. The message is the reason phrase of the status line; 500 is its answer to anything
// that it does not want to do, and those from 595 on are of its proxy to another node of the cluster (AnyEvent::HTTP).
func (p *server) explain(status int, reason string, header http.Header, body []byte) error {
	told := message(reason, body)
	switch {
	case status == http.StatusUnauthorized:
		return &kit.Failure{Class: kit.ClassAuth, Status: status, Message: fmt.Sprintf(
			"%s does not accept the API token (%s): check token in gateway.yaml against Datacenter > Permissions > API Tokens", p.system, told)}
	case status == http.StatusForbidden:
		return &kit.Refusal{Status: status, Message: fmt.Sprintf(
			"Proxmox VE refuses: %s. The API token lacks that privilege: Datacenter > Permissions > Add > API Token Permission gives it.", strings.TrimRight(told, ". "))}
	case status >= 595 && status <= 599:
		// 595 is an error while the connection was made: the other node was not asked.
		return &kit.Failure{Class: kit.ClassStatus, Status: status, Executed: status != 595, Message: fmt.Sprintf(
			"%s answers, but not the node that the request was for (HTTP %d: %s): that node is down, or cut off from the cluster", p.system, status, told)}
	case status == http.StatusBadGateway, status == http.StatusServiceUnavailable, status == http.StatusGatewayTimeout:
		return &kit.Failure{
			Class: kit.ClassStatus, Status: status, Executed: true, RetryAfter: kit.RetryAfter(header),
			Message: fmt.Sprintf("%s answered HTTP %d: %s", p.system, status, told),
		}
	case status == http.StatusTooManyRequests:
		return nil
	}
	return &kit.Refusal{Status: status, Message: "Proxmox VE refuses: " + told}
}

// message puts together what an error answer says.
func message(reason string, body []byte) string {
	var told struct {
		Message string         `json:"message"`
		Errors  map[string]any `json:"errors"`
	}
	_ = json.Unmarshal(body, &told) // often there is no body
	text := strings.Join(strings.Fields(reason), " ")
	if m := strings.Join(strings.Fields(told.Message), " "); len(m) > len(text) {
		text = m // a reason phrase ends at the first line
	}
	if text == "" {
		text = "no reason given"
	}
	parts := make([]string, 0, len(told.Errors))
	for _, k := range slices.Sorted(maps.Keys(told.Errors)) {
		parts = append(parts, k+": "+strings.TrimSpace(fmt.Sprint(told.Errors[k])))
	}
	if len(parts) > 0 {
		text = strings.TrimRight(text, ". ") + " (" + strings.Join(parts, "; ") + ")"
	}
	return text
}

// get asks for the data at a path below /api2/json.
func (p *server) get(ctx context.Context, path string, query url.Values, out any) error {
	return p.api.Get(ctx, "/api2/json"+path, query, &envelope{out})
}

// envelope is around every answer.
type envelope struct {
	Data any `json:"data"`
}

// start sends a write that Proxmox answers with the UPID of a task.
func (p *server) start(ctx context.Context, method, path string, args url.Values) (string, error) {
	var upid string
	r := kit.Request{Method: method, Path: "/api2/json" + path}
	if method == http.MethodDelete {
		r.Query = args // Proxmox reads no body of a DELETE
	} else if r.Form = args; args == nil {
		r.Form = url.Values{}
	}
	if _, err := p.api.Do(ctx, r, &envelope{&upid}); err != nil {
		return "", err
	}
	return upid, nil
}

// object is a JSON object of the API, which writes some numbers as strings.
type object map[string]any

func (o object) text(key string) string {
	switch v := o[key].(type) {
	case nil:
		return ""
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	default:
		return fmt.Sprint(v)
	}
}

func (o object) number(key string) float64 {
	switch v := o[key].(type) {
	case float64:
		return v
	case string:
		f, _ := strconv.ParseFloat(v, 64)
		return f
	case bool:
		if v {
			return 1
		}
	}
	return 0
}

const gib = 1 << 30

// tenths rounds to one decimal.
func tenths(f float64) float64 { return math.Round(f*10) / 10 }

// nameForm is what nodes may be called; anything else would become a different path.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

func checkNode(name string) error {
	if !nameForm.MatchString(name) {
		return fmt.Errorf("node %q: expected letters, digits, dots, dashes and underscores", name)
	}
	return nil
}

// age shows how long something has been so.
func age(seconds float64) string {
	d := time.Duration(seconds) * time.Second
	switch {
	case d <= 0:
		return ""
	case d >= 48*time.Hour:
		return fmt.Sprintf("%.0f days", math.Floor(d.Hours()/24))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%.0f hours", math.Floor(d.Hours()))
	}
	return fmt.Sprintf("%.0f minutes", math.Floor(d.Minutes()))
}

// moment shows a time in seconds since 1970.
func moment(seconds float64) string {
	if seconds <= 0 {
		return ""
	}
	return time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339)
}
