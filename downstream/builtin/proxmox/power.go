package proxmox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

// target is in the arguments of all tools that change a guest.
type target struct {
	VMID int  `json:"vmid" jsonschema:"number of the VM or container"`
	Wait bool `json:"wait,omitempty" jsonschema:"false returns at once instead of following the task to its end"`
}

// followed is the Adjust of tools whose arguments embed a target.
func followed(s *jsonschema.Schema) { s.Properties["wait"].Default = []byte("true") }

type downArgs struct {
	target

	Timeout int `json:"timeout,omitempty" jsonschema:"seconds that the guest gets, 10 to 1800; default 180"`
}

func downLimits(s *jsonschema.Schema) {
	followed(s)
	kit.Range(s, "timeout", 10, 1800)
}

type migrateArgs struct {
	target

	Node       string `json:"node" jsonschema:"where to"`
	LocalDisks bool   `json:"local_disks,omitempty" jsonschema:"copy the disks of a running VM that are on storage of its node"`
}

func (p *server) addPower(s *kit.Server) {
	kit.Add(s, kit.Tool{
		Name: "start_guest", Title: "Start", Access: kit.Operate, Adjust: followed,
		Description: "Start a VM or container and wait until Proxmox VE has done it.",
	}, func(ctx context.Context, c *kit.Call, in target) (*taskReport, error) {
		return p.power(ctx, c, in, "start", nil)
	})

	kit.Add(s, kit.Tool{
		Name: "shutdown_guest", Title: "Shut down", Access: kit.Operate, Destructive: true, Adjust: downLimits,
		Description: "Ask a VM or container to shut down by itself, as its power button does. Fails if it does not listen in time.",
	}, func(ctx context.Context, c *kit.Call, in downArgs) (*taskReport, error) {
		return p.power(ctx, c, in.target, "shutdown", in.patience())
	})

	kit.Add(s, kit.Tool{
		Name: "reboot_guest", Title: "Reboot", Access: kit.Operate, Destructive: true, Adjust: downLimits,
		Description: "Shut a VM or container down and start it again, which also applies pending changes of its configuration.",
	}, func(ctx context.Context, c *kit.Call, in downArgs) (*taskReport, error) {
		return p.power(ctx, c, in.target, "reboot", in.patience())
	})

	kit.Add(s, kit.Tool{
		Name: "stop_guest", Title: "Stop at once", Access: kit.Operate, Destructive: true, Adjust: followed,
		Description: "Stop a VM or container as by pulling the plug: unsaved data is lost. Try shutdown_guest first.",
	}, func(ctx context.Context, c *kit.Call, in target) (*taskReport, error) {
		return p.power(ctx, c, in, "stop", nil)
	})

	kit.Add(s, kit.Tool{
		Name: "migrate_guest", Title: "Migrate", Access: kit.Operate, Destructive: true, Adjust: followed,
		Description: "Move a guest to another node. A running VM moves while it runs; a running container is restarted there.",
	}, p.migrate)
}

func (in *downArgs) patience() url.Values {
	if in.Timeout == 0 {
		in.Timeout = 180
	}
	return url.Values{"timeout": {strconv.Itoa(in.Timeout)}}
}

// power changes whether a guest runs. It looks first, because Proxmox starts a task even for what cannot work.
func (p *server) power(ctx context.Context, c *kit.Call, in target, action string, args url.Values) (*taskReport, error) {
	g, err := p.guest(ctx, in.VMID)
	if err != nil {
		return nil, err
	}
	switch {
	case g.number("template") == 1:
		return nil, fmt.Errorf("%s is a template: clone_guest makes a guest of it", g)
	case action == "start" && g.running():
		return nil, fmt.Errorf("%s runs already on node %s: nothing was done", g, g.node)
	case action != "start" && !g.running():
		return nil, fmt.Errorf("%s does not run (it is %s): nothing was done", g, g.text("status"))
	}
	upid, err := p.start(ctx, http.MethodPost, g.path()+"/status/"+action, args)
	if err != nil {
		return nil, err
	}
	return p.follow(ctx, c, upid, in.Wait)
}

func (p *server) migrate(ctx context.Context, c *kit.Call, in migrateArgs) (*taskReport, error) {
	if err := checkNode(in.Node); err != nil {
		return nil, err
	}
	g, err := p.guest(ctx, in.VMID)
	if err != nil {
		return nil, err
	}
	if g.node == in.Node {
		return nil, fmt.Errorf("%s is on node %s already: nothing was done", g, in.Node)
	}
	args := url.Values{"target": {in.Node}}
	switch {
	case g.kind == "lxc" && in.LocalDisks:
		return nil, errors.New("local_disks: only of VMs; the disks of a container are copied anyway")
	case g.kind == "lxc" && g.running():
		args.Set("restart", "1")
	case g.running():
		args.Set("online", "1")
	}
	if in.LocalDisks {
		args.Set("with-local-disks", "1")
	}
	upid, err := p.start(ctx, http.MethodPost, g.path()+"/migrate", args)
	if err != nil {
		return nil, err
	}
	return p.follow(ctx, c, upid, in.Wait)
}
