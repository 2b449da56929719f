package pfsense

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

// areas are the parts of the configuration whose changes are staged, with the endpoint that applies them.
var areas = map[string]string{
	"firewall": "/firewall/apply", "routing": "/routing/apply", "interfaces": "/interface/apply", "dns_resolver": "/services/dns_resolver/apply", "dhcp_server": "/services/dhcp_server/apply",
}

type applyArgs struct {
	Area string `json:"area,omitempty" jsonschema:"what to apply; firewall is rules, NAT and aliases"`
	Wait *bool  `json:"wait,omitempty" jsonschema:"false: do not wait until it is in effect"`
}

type applied struct {
	Applied bool     `json:"applied"`
	Pending []string `json:"pending,omitempty"`
	Next    string   `json:"next,omitempty"`
}

type serviceArgs struct {
	Name   string `json:"name" jsonschema:"as inventory kind=services shows it"`
	Action string `json:"action"`
}

type done struct {
	Done string `json:"done"`
	Next string `json:"next,omitempty"`
}

type restoreArgs struct {
	Time   int64  `json:"time" jsonschema:"of the revision, as inventory kind=config_history shows it"`
	Expect string `json:"expect" jsonschema:"its description, word for word"`
}

type rebootArgs struct {
	Confirm string `json:"confirm" jsonschema:"the host name that overview shows"`
}

func (f *firewall) addControl(s *kit.Server) {
	kit.Add(s, kit.Tool{
		Name: "apply", Title: "Apply staged changes", Access: kit.Operate, Destructive: true, Idempotent: true,
		Description: "Puts all staged changes of an area into effect, those of other administrators included, and waits until pfSense says so.",
		Adjust: func(s *jsonschema.Schema) {
			kit.Enum(s, "area", "firewall", "routing", "interfaces", "dns_resolver", "dhcp_server")
		},
	}, func(ctx context.Context, c *kit.Call, in applyArgs) (*applied, error) {
		if in.Area == "" {
			in.Area = "firewall"
		}
		return f.apply(ctx, c, in.Area, in.Wait == nil || *in.Wait)
	})
	kit.Add(s, kit.Tool{
		Name: "service_control", Title: "Start, stop or restart a service", Access: kit.Operate, Destructive: true,
		Description: "Starts, stops or restarts a service. Restarting unbound, dhcpd or a VPN interrupts what depends on it for some seconds.",
		Adjust:      func(s *jsonschema.Schema) { kit.Enum(s, "action", "start", "stop", "restart") },
	}, f.control)
	kit.Add(s, kit.Tool{
		Name: "backup", Title: "Keep the configuration", Access: kit.Full,
		Description: "Has pfSense write a revision of the configuration to its own history, to which restore can return. No configuration leaves the firewall.",
	}, f.backup)
	kit.Add(s, kit.Tool{
		Name: "restore", Title: "Return to an earlier configuration", Access: kit.Full, Destructive: true,
		Description: "Replaces the whole configuration by a revision of the history. A reboot is needed for all of it to take effect.",
	}, f.restore)
	kit.Add(s, kit.Tool{
		Name: "reboot", Title: "Reboot the firewall", Access: kit.Full, Destructive: true,
		Description: "Reboots pfSense: the network behind it has no internet for minutes, and this tool no connection if it goes through it.",
	}, f.reboot)
}

// apply applies staged changes and waits for the end, unless wait says otherwise.
func (f *firewall) apply(ctx context.Context, c *kit.Call, area string, wait bool) (*applied, error) {
	path := areas[area]
	type state struct {
		Applied bool     `json:"applied"`
		Pending []string `json:"pending_subsystems"`
	}
	var now state
	err := f.exclusively(ctx, func() error {
		return f.do(ctx, kit.Request{Method: http.MethodPost, Path: path, JSON: map[string]any{}}, &now)
	})
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	for pause := 250 * time.Millisecond; wait && !now.Applied; pause = min(pause*2, 3*time.Second) {
		if time.Since(begun) > 2*time.Minute {
			return &applied{Pending: now.Pending, Next: "pfSense has been applying for two minutes; overview shows when nothing is pending any more. Do not apply again before"}, nil
		}
		c.Progress(ctx, time.Since(begun).Seconds(), 0, "pfSense applies the changes: "+strings.Join(now.Pending, ", "))
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, &kit.Failure{Class: kit.ClassTimeout, Executed: true, Message: "pfSense was told to apply the changes and is still at it: call overview to see when nothing is pending, not apply again"}
		}
		now = state{}
		if err := f.get(ctx, path, nil, &now); err != nil {
			if refusal, ok := asRefusal(err); ok {
				return nil, fmt.Errorf("pfSense was told to apply the changes; whether they are in effect is not known: %w", refusal)
			}
			// It reloads its filter: what fails now says nothing about the changes, except that they may be on their way.
			return nil, &kit.Failure{Class: kit.ClassConnection, Executed: true, Message: fmt.Sprintf("pfSense was told to apply the changes; then it could not be asked whether they are in effect: %v", err)}
		}
	}
	out := &applied{Applied: now.Applied, Pending: now.Pending}
	if !now.Applied {
		out.Next = "pfSense is applying the changes; overview shows when nothing is pending any more"
	}
	return out, nil
}

func (f *firewall) control(ctx context.Context, _ *kit.Call, in serviceArgs) (*done, error) {
	var now kit.Item
	err := f.exclusively(ctx, func() error {
		items, err := f.list(ctx, parts["services"].path, nil)
		if err != nil {
			return err
		}
		at := -1
		var there []string
		for i, it := range items {
			there = append(there, fmt.Sprint(it["name"]))
			if it["name"] == in.Name {
				if at = i; it["id"] != nil {
					at = int(number(it["id"]))
				}
				break
			}
		}
		if at < 0 {
			return fmt.Errorf("there is no service %q (there is: %s)", in.Name, strings.Join(there, ", "))
		}
		// Up to 2.7 a service is picked by its position, later by its name; both are sent.
		return f.do(ctx, kit.Request{Method: http.MethodPost, Path: "/status/service", JSON: map[string]any{"id": at, "name": in.Name, "action": in.Action}}, &now)
	})
	if err != nil {
		return nil, err
	}
	state := "does not run"
	if now["status"] == true {
		state = "runs"
	}
	return &done{Done: fmt.Sprintf("%s of %s asked for; pfSense says that it %s", in.Action, in.Name, state), Next: "inventory kind=services shows whether it stays so"}, nil
}

// command runs one of the two fixed commands below: the API has no endpoint for them.
func (f *firewall) command(ctx context.Context, command string) error {
	var out struct {
		Code int `json:"result_code"`
	}
	err := f.exclusively(ctx, func() error {
		return f.do(ctx, kit.Request{Method: http.MethodPost, Path: "/diagnostics/command_prompt", JSON: map[string]any{"command": command}}, &out)
	})
	if err == nil && out.Code != 0 {
		err = fmt.Errorf("the command on pfSense ended with code %d", out.Code) // its output could quote the configuration
	}
	return err
}

func (f *firewall) backup(ctx context.Context, _ *kit.Call, _ struct{}) (*done, error) {
	if err := f.command(ctx, `/usr/local/bin/php -r 'require_once("/etc/inc/config.inc"); write_config("Kept by mcpgw");'`); err != nil {
		return nil, err
	}
	return &done{Done: "the configuration is kept in pfSense's history", Next: "inventory kind=config_history shows it; download a copy for yourself at Diagnostics > Backup & Restore"}, nil
}

func (f *firewall) restore(ctx context.Context, _ *kit.Call, in restoreArgs) (*done, error) {
	items, err := f.list(ctx, parts["config_history"].path, nil)
	if err != nil {
		return nil, err
	}
	found := false
	for _, it := range items {
		if number(it["time"]) != in.Time {
			continue
		}
		if found = it["description"] == in.Expect; found {
			break
		}
		return nil, fmt.Errorf("the revision %d is not the expected one (%v): nothing was changed", in.Time, it["description"])
	}
	if !found {
		return nil, fmt.Errorf("there is no revision %d: nothing was changed", in.Time)
	}
	stamp := strconv.FormatInt(in.Time, 10)
	if err := f.command(ctx, `/usr/local/bin/php -r 'require_once("/etc/inc/config.inc"); exit(config_restore("/cf/conf/backup/config-`+stamp+`.xml"));'`); err != nil {
		return nil, err
	}
	return &done{Done: "the configuration of revision " + stamp + " is back", Next: "reboot for all of it to take effect"}, nil
}

func (f *firewall) reboot(ctx context.Context, _ *kit.Call, in rebootArgs) (*done, error) {
	now, err := f.overview(ctx)
	if err != nil {
		return nil, err
	}
	if in.Confirm != now.Host && in.Confirm != strings.SplitN(now.Host, ".", 2)[0] {
		return nil, fmt.Errorf("confirm must be the host name %q: nothing was done", now.Host)
	}
	err = f.exclusively(ctx, func() error {
		return f.do(ctx, kit.Request{Method: http.MethodPost, Path: "/diagnostics/reboot", JSON: map[string]any{}}, nil)
	})
	if err != nil {
		return nil, err
	}
	return &done{Done: now.Host + " reboots", Next: "it answers again after some minutes; overview shows a short uptime then"}, nil
}
