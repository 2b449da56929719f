package proxmox

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

type oldSnapshotArgs struct {
	target

	Name string `json:"name" jsonschema:"of the snapshot"`
}

type deleteArgs struct {
	target

	Name string `json:"name" jsonschema:"name of the guest, as a check that the right one is meant"`
}

func (p *server) addDeletions(s *kit.Server) {
	kit.Add(s, kit.Tool{
		Name: "delete_snapshot", Title: "Delete a snapshot", Access: kit.Full, Destructive: true, Adjust: followed,
		Description: "Delete a snapshot of a guest. The guest itself stays as it is.",
	}, func(ctx context.Context, c *kit.Call, in oldSnapshotArgs) (*taskReport, error) {
		return p.onSnapshot(ctx, c, in, http.MethodDelete, "")
	})

	kit.Add(s, kit.Tool{
		Name: "rollback_snapshot", Title: "Roll back", Access: kit.Full, Destructive: true, Adjust: followed,
		Description: "Return a guest to a snapshot. All that changed in it since then is lost; it stops if the snapshot holds no memory.",
	}, func(ctx context.Context, c *kit.Call, in oldSnapshotArgs) (*taskReport, error) {
		return p.onSnapshot(ctx, c, in, http.MethodPost, "/rollback")
	})

	kit.Add(s, kit.Tool{
		Name: "delete_guest", Title: "Delete a guest", Access: kit.Full, Destructive: true, Adjust: followed,
		Description: "Delete a stopped VM or container with its disks and snapshots, and take it out of backup jobs. Its backups are kept.",
	}, p.deleteGuest)
}

func (p *server) onSnapshot(ctx context.Context, c *kit.Call, in oldSnapshotArgs, method, action string) (*taskReport, error) {
	if !snapshotForm.MatchString(in.Name) {
		return nil, fmt.Errorf("name %q: that is no snapshot's name", in.Name)
	}
	g, err := p.guest(ctx, in.VMID)
	if err != nil {
		return nil, err
	}
	list, err := p.snapshots(ctx, g)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(list, func(it kit.Item) bool { return it["name"] == in.Name }) {
		names := make([]string, len(list))
		for i, it := range list {
			names[i] = it["name"].(string)
		}
		return nil, fmt.Errorf("%s has no snapshot %q (there is: %s)", g, in.Name, strings.Join(names, ", "))
	}
	upid, err := p.start(ctx, method, g.path()+"/snapshot/"+in.Name+action, nil)
	if err != nil {
		return nil, err
	}
	return p.follow(ctx, c, upid, in.Wait)
}

func (p *server) deleteGuest(ctx context.Context, c *kit.Call, in deleteArgs) (*taskReport, error) {
	g, err := p.guest(ctx, in.VMID)
	if err != nil {
		return nil, err
	}
	switch {
	case g.name != in.Name:
		return nil, fmt.Errorf("guest %d is called %q, not %q: nothing was deleted", in.VMID, g.name, in.Name)
	case g.running():
		return nil, fmt.Errorf("%s runs: shut it down first. Nothing was deleted", g)
	}
	upid, err := p.start(ctx, http.MethodDelete, g.path(), url.Values{"purge": {"1"}, "destroy-unreferenced-disks": {"0"}})
	if err != nil {
		return nil, err
	}
	return p.follow(ctx, c, upid, in.Wait)
}
