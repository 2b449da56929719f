package pfsense

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

var ruleColumns = []string{"id", "tracker", "interface", "type", "ipprotocol", "protocol", "source", "destination", "destination_port", "descr", "disabled"}

var ruleMore = []string{"source_port", "log", "floating", "quick", "direction", "gateway", "sched", "statetype", "tag", "icmptype", "associated_rule_id", "created_time", "created_by", "updated_time", "updated_by"}

type rulesArgs struct {
	Interface string `json:"interface,omitempty" jsonschema:"only rules on it: wan, lan, opt1 …"`
	kit.Page
}

// ruleFields are what can be set in a rule.
type ruleFields struct {
	Type            string   `json:"type,omitempty"`
	Interface       []string `json:"interface,omitempty" jsonschema:"wan, lan, opt1 …"`
	IPProtocol      string   `json:"ipprotocol,omitempty"`
	Protocol        string   `json:"protocol,omitempty" jsonschema:"tcp, udp, tcp/udp, icmp …; left out: any"`
	Source          string   `json:"source,omitempty" jsonschema:"address, subnet, alias, interface name, or any"`
	SourcePort      string   `json:"source_port,omitempty"`
	Destination     string   `json:"destination,omitempty"`
	DestinationPort string   `json:"destination_port,omitempty" jsonschema:"port, range 1000:2000, or port alias"`
	Descr           *string  `json:"descr,omitempty"`
	Disabled        *bool    `json:"disabled,omitempty"`
	Log             *bool    `json:"log,omitempty"`
	Placement       *int     `json:"placement,omitempty" jsonschema:"position to put it at; left out: last, or where it is"`
}

// expectation is what a caller read of a rule. The position alone says nothing: another change may have moved it.
type expectation struct {
	Tracker   int64   `json:"tracker,omitempty" jsonschema:"the best: it never changes"`
	Descr     *string `json:"descr,omitempty"`
	Type      string  `json:"type,omitempty"`
	Interface string  `json:"interface,omitempty"`
}

type createRule struct {
	ruleFields
	Apply bool `json:"apply,omitempty" jsonschema:"also apply all staged firewall changes and wait"`
}

type updateRule struct {
	ID     int         `json:"id" jsonschema:"position, as rules shows it now"`
	Expect expectation `json:"expect" jsonschema:"what rules showed of it; the change is refused if the rule at id is another"`
	Set    ruleFields  `json:"set"`
	Apply  bool        `json:"apply,omitempty" jsonschema:"also apply all staged firewall changes and wait"`
}

type deleteRule struct {
	ID     int         `json:"id" jsonschema:"position, as rules shows it now"`
	Expect expectation `json:"expect" jsonschema:"what rules showed of it; nothing is deleted if the rule at id is another"`
	Apply  bool        `json:"apply,omitempty" jsonschema:"also apply all staged firewall changes and wait"`
}

// changed is what a write answers.
type changed struct {
	Done    string   `json:"done"`
	ID      *int     `json:"id,omitempty"`
	Applied bool     `json:"applied"`
	Next    string   `json:"next,omitempty"`
	Object  kit.Item `json:"object,omitempty"`
}

func (f *firewall) addRules(s *kit.Server) {
	kit.Add(s, kit.Tool{
		Name: "rules", Title: "Firewall rules", Adjust: kit.PageLimits,
		Description: "Firewall rules in their order; the first that matches decides. id is the position at the moment, tracker names the rule for good.",
	}, func(ctx context.Context, _ *kit.Call, in rulesArgs) (*kit.Listing, error) {
		items, err := f.list(ctx, "/firewall/rules", nil)
		if err != nil {
			return nil, err
		}
		if in.Interface != "" {
			items = slices.DeleteFunc(items, func(it kit.Item) bool { return !onInterface(it, in.Interface) })
		}
		return kit.List(only(items, ruleColumns, ruleMore), in.Page, ruleColumns...), nil
	})
	kit.Add(s, kit.Tool{
		Name: "rule_create", Title: "Add a firewall rule", Access: kit.Operate,
		Description: "Adds a rule, at the end unless placement says where. It is staged until apply. Needs type, interface, source and destination.",
		Adjust: func(s *jsonschema.Schema) {
			ruleEnums(s)
			s.Required = []string{"type", "interface", "source", "destination"}
		},
	}, f.createRule)
	kit.Add(s, kit.Tool{
		Name: "rule_update", Title: "Change a firewall rule", Access: kit.Operate, Destructive: true,
		Description: "Changes members of the rule at position id, such as disabled, after checking that it is the expected one. Staged until apply.",
		Adjust:      func(s *jsonschema.Schema) { ruleEnums(s.Properties["set"]); kit.Range(s, "id", 0, 1e6) },
	}, f.updateRule)
	kit.Add(s, kit.Tool{
		Name: "rule_delete", Title: "Delete a firewall rule", Access: kit.Full, Destructive: true,
		Description: "Deletes the rule at position id after checking that it is the expected one. The rules behind it move up. Staged until apply.",
		Adjust:      func(s *jsonschema.Schema) { kit.Range(s, "id", 0, 1e6) },
	}, f.deleteRule)
}

func ruleEnums(s *jsonschema.Schema) {
	kit.Enum(s, "type", "pass", "block", "reject")
	kit.Enum(s, "ipprotocol", "inet", "inet6", "inet46")
	kit.Range(s, "placement", 0, 1e6)
}

// onInterface reports whether a rule is on the interface. Releases differ in whether they write a list.
func onInterface(it kit.Item, name string) bool {
	switch on := it["interface"].(type) {
	case []any:
		return slices.ContainsFunc(on, func(v any) bool { return strings.EqualFold(fmt.Sprint(v), name) })
	case string:
		return slices.ContainsFunc(strings.Split(on, ","), func(v string) bool { return strings.EqualFold(v, name) })
	}
	return false
}

// body returns the members to send.
func (r *ruleFields) body() map[string]any {
	b := map[string]any{}
	for k, v := range map[string]string{
		"type": r.Type, "ipprotocol": r.IPProtocol, "protocol": r.Protocol, "source": r.Source, "source_port": r.SourcePort, "destination": r.Destination, "destination_port": r.DestinationPort,
	} {
		if v != "" {
			b[k] = v
		}
	}
	if len(r.Interface) > 0 {
		b["interface"] = r.Interface
	}
	if r.Descr != nil {
		b["descr"] = *r.Descr
	}
	if r.Disabled != nil {
		b["disabled"] = *r.Disabled
	}
	if r.Log != nil {
		b["log"] = *r.Log
	}
	if r.Placement != nil {
		b["placement"] = *r.Placement
	}
	return b
}

func (f *firewall) createRule(ctx context.Context, c *kit.Call, in createRule) (*changed, error) {
	body := in.body()
	if in.IPProtocol == "" {
		body["ipprotocol"] = "inet"
	}
	var made kit.Item
	err := f.exclusively(ctx, func() error {
		return f.do(ctx, kit.Request{Method: http.MethodPost, Path: "/firewall/rule", JSON: body}, &made)
	})
	if err != nil {
		return nil, err
	}
	return f.staged(ctx, c, "rule added", made, in.Apply)
}

func (f *firewall) updateRule(ctx context.Context, c *kit.Call, in updateRule) (*changed, error) {
	body := in.Set.body()
	if len(body) == 0 {
		return nil, errors.New("set: nothing to change is given")
	}
	var now kit.Item
	err := f.exclusively(ctx, func() error {
		was, err := f.expected(ctx, in.ID, &in.Expect)
		if err != nil {
			return err
		}
		body["id"] = in.ID
		if err := f.do(ctx, kit.Request{Method: http.MethodPatch, Path: "/firewall/rule", JSON: body}, &now); err != nil {
			return err
		}
		return hit("changed", was, now)
	})
	if err != nil {
		return nil, err
	}
	return f.staged(ctx, c, "rule changed", now, in.Apply)
}

func (f *firewall) deleteRule(ctx context.Context, c *kit.Call, in deleteRule) (*changed, error) {
	var gone kit.Item
	err := f.exclusively(ctx, func() error {
		was, err := f.expected(ctx, in.ID, &in.Expect)
		if err != nil {
			return err
		}
		query := url.Values{"id": {strconv.Itoa(in.ID)}}
		if err := f.do(ctx, kit.Request{Method: http.MethodDelete, Path: "/firewall/rule", Query: query}, &gone); err != nil {
			return err
		}
		return hit("deleted", was, gone)
	})
	if err != nil {
		return nil, err
	}
	return f.staged(ctx, c, "rule deleted; the ids of the rules behind it are one less now", gone, in.Apply)
}

// expected returns the rule at the position, if it is what the caller believes it to be.
func (f *firewall) expected(ctx context.Context, id int, want *expectation) (kit.Item, error) {
	if want.Tracker == 0 && want.Descr == nil {
		return nil, errors.New("expect: needs the tracker of the rule (or its descr), as the tool rules shows it: a position alone may have become another rule's")
	}
	rules, err := f.list(ctx, "/firewall/rules", nil)
	if err != nil {
		return nil, err
	}
	if want.Tracker != 0 {
		for at, it := range rules {
			if number(it["tracker"]) == want.Tracker && at != id {
				return nil, fmt.Errorf("the rule with tracker %d is at id %d now, not at %d: nothing was changed; repeat with id %d if it is still meant", want.Tracker, at, id, at)
			}
		}
	}
	if id < 0 || id >= len(rules) {
		return nil, fmt.Errorf("there is no rule at id %d (there are %d): nothing was changed", id, len(rules))
	}
	it := rules[id]
	var differs []string
	if want.Tracker != 0 && number(it["tracker"]) != want.Tracker {
		differs = append(differs, fmt.Sprintf("tracker is %d", number(it["tracker"])))
	}
	if descr, _ := it["descr"].(string); want.Descr != nil && descr != *want.Descr {
		differs = append(differs, fmt.Sprintf("descr is %q", descr))
	}
	if want.Type != "" && it["type"] != want.Type {
		differs = append(differs, fmt.Sprintf("type is %v", it["type"]))
	}
	if want.Interface != "" && !onInterface(it, want.Interface) {
		differs = append(differs, fmt.Sprintf("interface is %v", it["interface"]))
	}
	if len(differs) > 0 {
		return nil, fmt.Errorf("the rule at id %d is not the expected one (%s): nothing was changed; read the rules again", id, strings.Join(differs, ", "))
	}
	return it, nil
}

// hit compares what was to be written with what the answer says was written: an administrator's change can come between look and write.
func hit(done string, was, now kit.Item) error {
	if number(now["tracker"]) == 0 || number(now["tracker"]) == number(was["tracker"]) {
		return nil
	}
	return fmt.Errorf("the rules changed between look and write: instead of the rule with tracker %d (%v), the one with tracker %d (%v) was %s; "+
		"nothing is applied yet: look at the rules, and put it right before anybody applies", number(was["tracker"]), was["descr"], number(now["tracker"]), now["descr"], done)
}

func number(v any) int64 {
	switch v := v.(type) {
	case float64:
		return int64(v)
	case string:
		n, _ := strconv.ParseInt(v, 10, 64)
		return n
	}
	return 0
}

// staged reports a write, and applies it if that was asked for.
func (f *firewall) staged(ctx context.Context, c *kit.Call, done string, object kit.Item, apply bool) (*changed, error) {
	out := &changed{Done: done, Object: only([]kit.Item{object}, ruleColumns, ruleMore, aliasColumns)[0]}
	if id, ok := object["id"].(float64); ok {
		n := int(id)
		out.ID = &n
	}
	if !apply {
		out.Next = "staged: it has no effect until apply is called"
		return out, nil
	}
	res, err := f.apply(ctx, c, "firewall", true)
	if err != nil {
		// The write is done; an error would hide that, and would be taken for a call that may be repeated.
		out.Next = fmt.Sprintf("staged, but applying it did not end well: %v; do not repeat the change, call apply", err)
		return out, nil
	}
	if out.Applied = res.Applied; !out.Applied {
		out.Next = res.Next
	}
	return out, nil
}
