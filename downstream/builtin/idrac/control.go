package idrac

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

// report says what came of a change.
type report struct {
	System string `json:"system,omitempty"`
	Action string `json:"action"`
	State  string `json:"state" jsonschema:"done, accepted or running"`
	Power  string `json:"power,omitempty" jsonschema:"power state now"`
	Task   string `json:"task,omitempty"`
	Note   string `json:"note,omitempty"`
}

type systemArgs struct {
	System string `json:"system,omitempty" jsonschema:"id, where the controller has several"`
}

type powerArgs struct {
	Wait bool `json:"wait,omitempty" jsonschema:"false returns when the controller has accepted it"`
	systemArgs
}

type forceArgs struct {
	Action string `json:"action"`
	powerArgs
}

type bootArgs struct {
	Target string `json:"target" jsonschema:"such as Pxe, Cd, Hdd, BiosSetup; None takes it back"`
	systemArgs
}

type indicatorArgs struct {
	On bool `json:"on"`
	systemArgs
}

func waits(s *jsonschema.Schema) { s.Properties["wait"].Default = []byte("true") }

// reset is one kind of change of power.
type reset struct {
	action string
	types  []string // Redfish's names, the preferred first
	from   string   // power state that it must have; "" for any
	to     string   // power state that it leads to; "" if that tells nothing
}

var resets = map[string]reset{
	"on":            {"power on", []string{"On", "ForceOn"}, "Off", "On"},
	"shutdown":      {"graceful shutdown", []string{"GracefulShutdown"}, "On", "Off"},
	"restart":       {"graceful restart", []string{"GracefulRestart"}, "On", ""},
	"force_off":     {"force off", []string{"ForceOff"}, "On", "Off"},
	"force_restart": {"force restart", []string{"ForceRestart"}, "On", ""},
	"power_cycle":   {"power cycle", []string{"PowerCycle"}, "On", ""},
}

func (b *bmc) addControl(s *kit.Server) {
	kit.Add(s, kit.Tool{
		Name: "power_on", Title: "Power on", Access: kit.Operate, Adjust: waits,
		Description: "Switch a server on and wait until it is. The operating system starts after that.",
	}, func(ctx context.Context, c *kit.Call, in powerArgs) (*report, error) {
		return b.reset(ctx, c, in, resets["on"])
	})
	kit.Add(s, kit.Tool{
		Name: "shutdown", Title: "Shut down", Access: kit.Operate, Destructive: true, Adjust: waits,
		Description: "Ask the operating system of a server to shut down, and wait until the server is off.",
	}, func(ctx context.Context, c *kit.Call, in powerArgs) (*report, error) {
		return b.reset(ctx, c, in, resets["shutdown"])
	})
	kit.Add(s, kit.Tool{
		Name: "restart", Title: "Restart", Access: kit.Operate, Destructive: true, Adjust: waits,
		Description: "Ask the operating system of a server to restart. force_power does not ask.",
	}, func(ctx context.Context, c *kit.Call, in powerArgs) (*report, error) {
		return b.reset(ctx, c, in, resets["restart"])
	})
	kit.Add(s, kit.Tool{
		Name: "set_indicator", Title: "Locator light", Access: kit.Operate, Idempotent: true,
		Description: "Switch the light on or off by which a server is found in its rack.",
	}, b.indicator)
	kit.Add(s, kit.Tool{
		Name: "boot_once", Title: "Boot from, once", Access: kit.Operate, Idempotent: true,
		Description: "Choose what a server boots from at its next start only. It does not restart the server.",
	}, b.bootOnce)
	kit.Add(s, kit.Tool{
		Name: "force_power", Title: "Force power", Access: kit.Full, Destructive: true,
		Description: "Switch a server off, restart or power cycle it at once, without its operating system: unsaved data is lost.",
		Adjust: func(s *jsonschema.Schema) {
			waits(s)
			kit.Enum(s, "action", "force_off", "force_restart", "power_cycle")
		},
	}, func(ctx context.Context, c *kit.Call, in forceArgs) (*report, error) {
		return b.reset(ctx, c, in.powerArgs, resets[in.Action])
	})
}

func sorted(list []string) []string {
	slices.Sort(list)
	return list
}

// target finds the server that is meant, as it is now.
func (b *bmc) target(ctx context.Context, c *kit.Call, id string) (object, error) {
	list, err := b.systems(ctx, c)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(list))
	for i, o := range list {
		ids[i] = o.text("Id")
		if strings.EqualFold(ids[i], id) {
			return o, nil
		}
	}
	switch {
	case id != "":
		return nil, fmt.Errorf("there is no system %q (there is: %s)", id, strings.Join(ids, ", "))
	case len(list) == 1:
		return list[0], nil
	case len(list) == 0:
		return nil, errors.New("the controller shows no server")
	}
	return nil, fmt.Errorf("the controller has several servers: give system, one of %s", strings.Join(ids, ", "))
}

func resetTypes(o object) []string {
	return o.object("Actions").object("#ComputerSystem.Reset").texts("ResetType@Redfish.AllowableValues")
}

// reset changes the power of a server. It looks first: what is done already is not done again.
func (b *bmc) reset(ctx context.Context, c *kit.Call, in powerArgs, r reset) (*report, error) {
	o, err := b.target(ctx, c, in.System)
	if err != nil {
		return nil, err
	}
	id, power := o.text("Id"), o.text("PowerState")
	if r.from != "" && power != "" && power != r.from {
		return nil, fmt.Errorf("server %s is %s: for %s it has to be %s. Nothing was done", id, power, r.action, r.from)
	}
	action := o.object("Actions").object("#ComputerSystem.Reset")
	if action.text("target") == "" {
		return nil, fmt.Errorf("server %s cannot be switched by this controller", id)
	}
	allowed := resetTypes(o)
	if info := action.text("@Redfish.ActionInfo"); len(allowed) == 0 && info != "" {
		about, err := b.fetch(ctx, info, false)
		if err != nil && !refused(err) {
			return nil, err
		}
		for _, p := range about.objects("Parameters") {
			if p.text("Name") == "ResetType" {
				allowed = p.texts("AllowableValues")
			}
		}
	}
	kind := r.types[0]
	if len(allowed) > 0 {
		i := slices.IndexFunc(r.types, func(t string) bool { return slices.Contains(allowed, t) })
		if i < 0 {
			return nil, fmt.Errorf("server %s does not know %s (it knows: %s)", id, r.types[0], strings.Join(allowed, ", "))
		}
		kind = r.types[i]
	}
	out := &report{System: id, Action: r.action}
	out, err = b.act(ctx, c, kit.Request{Method: http.MethodPost, Path: action.text("target"), JSON: object{"ResetType": kind}}, out, in.Wait)
	if err != nil || r.to == "" || !in.Wait {
		if err == nil && out.State != "done" {
			out.State = "accepted"
		}
		return out, err
	}
	return b.untilPower(ctx, c, o.text("@odata.id"), r, out)
}

func (b *bmc) indicator(ctx context.Context, c *kit.Call, in indicatorArgs) (*report, error) {
	o, err := b.target(ctx, c, in.System)
	if err != nil {
		return nil, err
	}
	patch := object{"IndicatorLED": map[bool]string{true: "Blinking", false: "Off"}[in.On]}
	if o["LocationIndicatorActive"] != nil || o["IndicatorLED"] == nil {
		patch = object{"LocationIndicatorActive": in.On}
	}
	out := &report{System: o.text("Id"), Action: map[bool]string{true: "locator light on", false: "locator light off"}[in.On]}
	return b.act(ctx, c, kit.Request{Method: http.MethodPatch, Path: o.text("@odata.id"), JSON: patch, Header: match(o)}, out, true)
}

func (b *bmc) bootOnce(ctx context.Context, c *kit.Call, in bootArgs) (*report, error) {
	o, err := b.target(ctx, c, in.System)
	if err != nil {
		return nil, err
	}
	allowed := o.object("Boot").texts("BootSourceOverrideTarget@Redfish.AllowableValues")
	target := in.Target
	if len(allowed) > 0 {
		i := slices.IndexFunc(allowed, func(a string) bool { return strings.EqualFold(a, in.Target) })
		if i < 0 && !strings.EqualFold(in.Target, "None") {
			return nil, fmt.Errorf("server %s cannot boot once from %q (it can from: %s)", o.text("Id"), in.Target, strings.Join(allowed, ", "))
		}
		if i >= 0 {
			target = allowed[i]
		}
	}
	boot := object{"BootSourceOverrideTarget": target, "BootSourceOverrideEnabled": "Once"}
	if strings.EqualFold(target, "None") {
		boot = object{"BootSourceOverrideTarget": "None", "BootSourceOverrideEnabled": "Disabled"}
	}
	out := &report{System: o.text("Id"), Action: "boot once from " + target}
	return b.act(ctx, c, kit.Request{Method: http.MethodPatch, Path: o.text("@odata.id"), JSON: object{"Boot": boot}, Header: match(o)}, out, true)
}

// match makes a change only if nobody else has changed the resource; some controllers insist on it.
func match(o object) http.Header {
	if tag := o.text("@odata.etag"); tag != "" {
		return http.Header{"If-Match": {tag}}
	}
	return nil
}
