package proxmox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

type snapshotArgs struct {
	target

	Name        string `json:"name" jsonschema:"letters, digits, - and _; begins with a letter"`
	Description string `json:"description,omitempty"`
	Memory      bool   `json:"memory,omitempty" jsonschema:"keep the memory of a running VM too"`
}

type backupArgs struct {
	target

	Storage string `json:"storage,omitempty" jsonschema:"needed where several storages take backups"`
	Mode    string `json:"mode,omitempty" jsonschema:"snapshot (default) does not interrupt, suspend and stop do"`
	Notes   string `json:"notes,omitempty"`
}

type cloneArgs struct {
	target

	NewID   int    `json:"new_vmid,omitempty" jsonschema:"default: the next free number"`
	Name    string `json:"name,omitempty" jsonschema:"of the new guest, as a host name"`
	Linked  bool   `json:"linked,omitempty" jsonschema:"share the disks of a template instead of copying them"`
	Storage string `json:"storage,omitempty" jsonschema:"for the copied disks"`
}

var (
	snapshotForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{1,39}$`)
	hostForm     = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?$`)
)

func (p *server) addCopies(s *kit.Server) {
	kit.Add(s, kit.Tool{
		Name: "create_snapshot", Title: "Take a snapshot", Access: kit.Operate, Adjust: followed,
		Description: "Take a snapshot of a VM or container, to which rollback_snapshot can return.",
	}, p.createSnapshot)

	kit.Add(s, kit.Tool{
		Name: "backup_guest", Title: "Back up", Access: kit.Operate,
		Description: "Back up a VM or container now (vzdump). Older backups are kept. Takes minutes to hours: wait=false returns at once.",
		Adjust: func(s *jsonschema.Schema) {
			followed(s)
			kit.Enum(s, "mode", "snapshot", "suspend", "stop")
		},
	}, p.backup)

	kit.Add(s, kit.Tool{
		Name: "clone_guest", Title: "Clone", Access: kit.Operate,
		Description: "Make a new guest as a copy of a VM, container or template, on the same node. It is not started.",
		Adjust: func(s *jsonschema.Schema) {
			followed(s)
			kit.Range(s, "new_vmid", 100, 999999999)
		},
	}, p.clone)
}

func (p *server) createSnapshot(ctx context.Context, c *kit.Call, in snapshotArgs) (*taskReport, error) {
	if !snapshotForm.MatchString(in.Name) || in.Name == "current" {
		return nil, fmt.Errorf("name %q: expected 2 to 40 letters, digits, - and _, beginning with a letter", in.Name)
	}
	g, err := p.guest(ctx, in.VMID)
	if err != nil {
		return nil, err
	}
	args := url.Values{"snapname": {in.Name}}
	if in.Description != "" {
		args.Set("description", in.Description)
	}
	if in.Memory {
		if g.kind == "lxc" {
			return nil, errors.New("memory: only of VMs")
		}
		args.Set("vmstate", "1")
	}
	upid, err := p.start(ctx, http.MethodPost, g.path()+"/snapshot", args)
	if err != nil {
		return nil, err
	}
	return p.follow(ctx, c, upid, in.Wait)
}

func (p *server) backup(ctx context.Context, c *kit.Call, in backupArgs) (*taskReport, error) {
	g, err := p.guest(ctx, in.VMID)
	if err != nil {
		return nil, err
	}
	if in.Storage == "" {
		if in.Storage, err = p.backupStorage(ctx, g.node); err != nil {
			return nil, err
		}
	}
	if in.Mode == "" {
		in.Mode = "snapshot"
	}
	args := url.Values{
		"vmid": {strconv.Itoa(g.vmid)}, "storage": {in.Storage}, "mode": {in.Mode}, "compress": {"zstd"},
		"remove": {"0"}, // else it prunes older backups
	}
	if in.Notes != "" {
		args.Set("notes-template", strings.NewReplacer(`\`, `\\`, "\n", `\n`, "{{", "{ {").Replace(in.Notes))
	}
	upid, err := p.start(ctx, http.MethodPost, "/nodes/"+url.PathEscape(g.node)+"/vzdump", args)
	if err != nil {
		return nil, err
	}
	return p.follow(ctx, c, upid, in.Wait)
}

// backupStorage finds where backups of guests on a node can only go.
func (p *server) backupStorage(ctx context.Context, node string) (string, error) {
	all, err := p.storages(ctx)
	if err != nil {
		return "", err
	}
	var names []string
	for _, st := range all {
		if takesBackups(st) && st["status"] == "available" && (st["shared"] == true || st["node"] == node) {
			names = append(names, st["storage"].(string))
		}
	}
	slices.Sort(names)
	switch len(names) {
	case 0:
		return "", fmt.Errorf("no storage that node %s can use takes backups (Datacenter > Storage > Content)", node)
	case 1:
		return names[0], nil
	}
	return "", fmt.Errorf("several storages take backups: give storage, one of %s", strings.Join(names, ", "))
}

func (p *server) clone(ctx context.Context, c *kit.Call, in cloneArgs) (*taskReport, error) {
	if in.Name != "" && !hostForm.MatchString(in.Name) {
		return nil, fmt.Errorf("name %q: expected a host name of at most 63 characters", in.Name)
	}
	g, err := p.guest(ctx, in.VMID)
	if err != nil {
		return nil, err
	}
	if in.Linked && g.number("template") != 1 {
		return nil, fmt.Errorf("linked: %s is no template", g)
	}
	if in.Linked && in.Storage != "" {
		return nil, errors.New("storage: a linked clone is where its template is")
	}
	if in.NewID == 0 {
		var next any
		if err := p.get(ctx, "/cluster/nextid", nil, &next); err != nil {
			return nil, err
		}
		in.NewID = int(object{"id": next}.number("id"))
	}
	args := url.Values{"newid": {strconv.Itoa(in.NewID)}, "full": {"1"}}
	if in.Linked {
		args.Set("full", "0")
	}
	if in.Name != "" {
		args.Set(map[string]string{"qemu": "name", "lxc": "hostname"}[g.kind], in.Name)
	}
	if in.Storage != "" {
		args.Set("storage", in.Storage)
	}
	upid, err := p.start(ctx, http.MethodPost, g.path()+"/clone", args)
	if err != nil {
		return nil, err
	}
	r, err := p.follow(ctx, c, upid, in.Wait)
	if err != nil {
		return nil, err
	}
	r.Note = strings.TrimSuffix(fmt.Sprintf("the new guest has vmid %d; %s", in.NewID, r.Note), "; ")
	return r, nil
}
