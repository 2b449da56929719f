package truenas

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

type serviceArgs struct {
	Service string `json:"service" jsonschema:"as workloads kind=services shows it: cifs, nfs, ssh …"`
	Action  string `json:"action"`
}

type appArgs struct {
	App    string `json:"app"`
	Action string `json:"action"`
	Wait   *bool  `json:"wait,omitempty" jsonschema:"false: do not wait for the end of the job"`
}

type vmArgs struct {
	ID     int    `json:"id"`
	Action string `json:"action" jsonschema:"stop shuts the guest down; force_stop cuts its power"`
	Wait   *bool  `json:"wait,omitempty" jsonschema:"false: do not wait for the end of the job"`
}

type scrubArgs struct {
	Pool   string `json:"pool"`
	Action string `json:"action,omitempty" jsonschema:"left out: start"`
	Wait   bool   `json:"wait,omitempty" jsonschema:"follow it; a scrub takes hours"`
}

type dismissArgs struct {
	UUID    string `json:"uuid"`
	Restore bool   `json:"restore,omitempty" jsonschema:"show it again instead"`
}

type upgradeArgs struct {
	App     string `json:"app"`
	Version string `json:"version,omitempty" jsonschema:"left out: the latest"`
	Wait    *bool  `json:"wait,omitempty" jsonschema:"false: do not wait for the end of the job"`
}

func waits(w *bool) bool { return w == nil || *w }

func action(names ...string) func(*jsonschema.Schema) {
	return func(s *jsonschema.Schema) { kit.Enum(s, "action", names...) }
}

func (n *nas) addControl(s *kit.Server) {
	kit.Add(s, kit.Tool{
		Name: "service_control", Title: "Start, stop or restart a service", Access: kit.Operate, Destructive: true, Adjust: action("start", "stop", "restart"),
		Description: "Starts, stops or restarts a system service. Stopping cifs or nfs cuts off those who use its shares.",
	}, func(ctx context.Context, c *kit.Call, in serviceArgs) (*outcome, error) {
		options := map[string]any{"silent": false}
		return n.run(ctx, c, in.Action+" of "+in.Service, true,
			call{"service.control", []any{strings.ToUpper(in.Action), in.Service, options}}, call{"service." + in.Action, []any{in.Service, options}})
	})
	kit.Add(s, kit.Tool{
		Name: "app_control", Title: "Start or stop an app", Access: kit.Operate, Destructive: true, Adjust: action("start", "stop"),
		Description: "Starts or stops an app and follows the job to its end. Its data stays.",
	}, func(ctx context.Context, c *kit.Call, in appArgs) (*outcome, error) {
		return n.run(ctx, c, in.Action+" of app "+in.App, waits(in.Wait), call{"app." + in.Action, []any{in.App}})
	})
	kit.Add(s, kit.Tool{
		Name: "vm_control", Title: "Start or stop a virtual machine", Access: kit.Operate, Destructive: true, Adjust: action("start", "stop", "force_stop"),
		Description: "Starts a virtual machine, shuts it down, or cuts its power, and follows the job to its end.",
	}, n.vm)
	kit.Add(s, kit.Tool{
		Name: "scrub", Title: "Scrub a pool", Access: kit.Operate,
		Description: "Starts, pauses or stops the check of all data in a pool. It slows the pool down for hours; pools shows how far it is.",
		Adjust:      action("start", "pause", "stop"),
	}, func(ctx context.Context, c *kit.Call, in scrubArgs) (*outcome, error) {
		verb := strings.ToUpper(in.Action)
		if verb == "" {
			verb = "START"
		}
		run := map[string]any{"pool_name": in.Pool, "action": verb, "threshold": 0}
		if verb == "STOP" {
			run["action"] = "CANCEL"
		}
		out, err := n.run(ctx, c, strings.ToLower(verb)+" of the scrub of "+in.Pool, in.Wait, call{"pool.scrub.scrub", []any{in.Pool, verb}}, call{"zpool.scrub.run", []any{run}})
		if err == nil && !in.Wait {
			out.Next = fmt.Sprintf("the tool pools shows how far it is (job %d)", out.Job)
		}
		return out, err
	})
	kit.Add(s, kit.Tool{
		Name: "alert_dismiss", Title: "Dismiss an alert", Access: kit.Operate, Idempotent: true,
		Description: "Hides an alert that has been dealt with, or shows it again. Its cause stays what it is.",
	}, func(ctx context.Context, _ *kit.Call, in dismissArgs) (*outcome, error) {
		method, done := "alert.dismiss", "dismissed "
		if in.Restore {
			method, done = "alert.restore", "restored "
		}
		if err := n.call(ctx, method, []any{in.UUID}, nil); err != nil {
			return nil, err
		}
		return &outcome{Done: done + in.UUID}, nil
	})
	kit.Add(s, kit.Tool{
		Name: "app_upgrade", Title: "Upgrade an app", Access: kit.Full, Destructive: true,
		Description: "Upgrades an app to a newer version of its catalogue and follows the job to its end. Apps cannot always go back.",
	}, func(ctx context.Context, c *kit.Call, in upgradeArgs) (*outcome, error) {
		if in.Version == "" {
			in.Version = "latest"
		}
		return n.run(ctx, c, "upgrade of app "+in.App, waits(in.Wait), call{"app.upgrade", []any{in.App, map[string]any{"app_version": in.Version}}})
	})
}

func (n *nas) vm(ctx context.Context, c *kit.Call, in vmArgs) (*outcome, error) {
	done := fmt.Sprintf("%s of VM %d", strings.ReplaceAll(in.Action, "_", " "), in.ID)
	switch in.Action {
	case "start":
		return n.run(ctx, c, done, waits(in.Wait), call{"vm.start", []any{in.ID, map[string]any{"overcommit": false}}})
	case "stop":
		return n.run(ctx, c, done, waits(in.Wait), call{"vm.stop", []any{in.ID, map[string]any{"force": false, "force_after_timeout": false}}})
	}
	return n.run(ctx, c, done, waits(in.Wait), call{"vm.stop", []any{in.ID, map[string]any{"force": true}}})
}
