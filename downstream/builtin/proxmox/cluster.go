package proxmox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

type clusterStatus struct {
	Cluster  string     `json:"cluster,omitempty"`
	Version  string     `json:"version"`
	Quorate  bool       `json:"quorate"`
	Nodes    []kit.Item `json:"nodes"`
	Problems []string   `json:"problems,omitempty"`
}

func (p *server) addCluster(s *kit.Server) {
	kit.Add(s, kit.Tool{
		Name: "cluster", Title: "Cluster and nodes",
		Description: "Version, quorum and every node: online or not, CPU, memory, root disk, uptime. The first thing to look at.",
	}, func(ctx context.Context, _ *kit.Call, _ struct{}) (*clusterStatus, error) { return p.cluster(ctx) })

	kit.Add(s, kit.Tool{
		Name: "storage", Title: "Storage", Adjust: kit.PageLimits,
		Description: "Storages of all nodes: type, content, size, how full, whether shared and available.",
	}, func(ctx context.Context, _ *kit.Call, in struct{ kit.Page }) (*kit.Listing, error) {
		items, err := p.storages(ctx)
		if err != nil {
			return nil, err
		}
		return kit.List(items, in.Page), nil
	})

	kit.Add(s, kit.Tool{
		Name: "backups", Title: "Backups", Adjust: kit.PageLimits,
		Description: "Backups on all storages, newest first: guest, time, size, storage, verification. Give vmid for those of one guest.",
	}, p.backups)
}

func (p *server) cluster(ctx context.Context) (*clusterStatus, error) {
	var version object
	if err := p.get(ctx, "/version", nil, &version); err != nil {
		return nil, err
	}
	var members, nodes []object
	if err := p.get(ctx, "/cluster/status", nil, &members); err != nil {
		return nil, err
	}
	if err := p.get(ctx, "/cluster/resources", url.Values{"type": {"node"}}, &nodes); err != nil {
		return nil, err
	}
	out := &clusterStatus{Version: version.text("version"), Quorate: true, Nodes: []kit.Item{}}
	online, ip := map[string]bool{}, map[string]string{}
	for _, m := range members {
		if m.text("type") == "cluster" {
			out.Cluster, out.Quorate = m.text("name"), m.number("quorate") == 1
			continue
		}
		online[m.text("name")], ip[m.text("name")] = m.number("online") == 1, m.text("ip")
	}
	if !out.Quorate {
		out.Problems = append(out.Problems, "the cluster has no quorum: nothing can be changed and no guest started until enough nodes are back")
	}
	slices.SortFunc(nodes, func(a, b object) int { return strings.Compare(a.text("node"), b.text("node")) })
	for _, n := range nodes {
		name := n.text("node")
		it := kit.Item{"node": name, "status": n.text("status")}
		if v, ok := online[name]; ok && !v {
			it["status"] = "offline"
		}
		if ip[name] != "" {
			it["ip"] = ip[name]
		}
		if it["status"] != "online" {
			out.Problems = append(out.Problems, fmt.Sprintf("node %s is %s", name, it["status"]))
			out.Nodes = append(out.Nodes, it)
			continue
		}
		it["cpus"], it["cpu_percent"] = n.number("maxcpu"), tenths(n.number("cpu")*100)
		it["mem_gib"], it["maxmem_gib"] = tenths(n.number("mem")/gib), tenths(n.number("maxmem")/gib)
		it["root_gib"], it["maxroot_gib"] = tenths(n.number("disk")/gib), tenths(n.number("maxdisk")/gib)
		it["uptime"] = age(n.number("uptime"))
		for _, full := range []struct{ used, of, what string }{{"mem", "maxmem", "memory"}, {"disk", "maxdisk", "root disk"}} {
			if of := n.number(full.of); of > 0 && n.number(full.used)/of > 0.9 {
				out.Problems = append(out.Problems, fmt.Sprintf("node %s: the %s is %.0f%% full", name, full.what, 100*n.number(full.used)/of))
			}
		}
		out.Nodes = append(out.Nodes, it)
	}
	return out, nil
}

// storages lists each storage once, shared ones without a node.
func (p *server) storages(ctx context.Context) ([]kit.Item, error) {
	var all []object
	if err := p.get(ctx, "/cluster/resources", url.Values{"type": {"storage"}}, &all); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b object) int {
		return cmp.Or(strings.Compare(a.text("storage"), b.text("storage")), strings.Compare(a.text("status"), b.text("status")), strings.Compare(a.text("node"), b.text("node")))
	})
	var items []kit.Item
	shared := map[string]bool{}
	for _, o := range all {
		name := o.text("storage")
		it := kit.Item{
			"storage": name, "type": o.text("plugintype"), "status": o.text("status"), "content": o.text("content"),
			"used_gib": tenths(o.number("disk") / gib), "size_gib": tenths(o.number("maxdisk") / gib), "node": o.text("node"),
		}
		if o.number("maxdisk") > 0 {
			it["used_percent"] = tenths(100 * o.number("disk") / o.number("maxdisk"))
		}
		if o.number("shared") == 1 {
			if shared[name] { // the available ones come first
				continue
			}
			shared[name], it["shared"] = true, true
		}
		items = append(items, it)
	}
	return items, nil
}

type backupsArgs struct {
	VMID int `json:"vmid,omitempty" jsonschema:"only those of this guest"`
	kit.Page
}

func (p *server) backups(ctx context.Context, c *kit.Call, in backupsArgs) (*kit.Listing, error) {
	stores, err := p.storages(ctx)
	if err != nil {
		return nil, err
	}
	stores = slices.DeleteFunc(stores, func(it kit.Item) bool { return !takesBackups(it) })
	query := url.Values{"content": {"backup"}}
	if in.VMID > 0 {
		query.Set("vmid", strconv.Itoa(in.VMID))
	}
	var (
		items   []kit.Item
		missing []string
		first   error
	)
	for i, st := range stores {
		c.Progress(ctx, float64(i), float64(len(stores)), fmt.Sprintf("storage %s", st["storage"]))
		where := fmt.Sprintf("%s on %s", st["storage"], st["node"])
		if st["status"] != "available" {
			missing = append(missing, fmt.Sprintf("%s (%s)", where, st["status"]))
			continue
		}
		var volumes []object
		err := p.get(ctx, fmt.Sprintf("/nodes/%s/storage/%s/content", url.PathEscape(st["node"].(string)), url.PathEscape(st["storage"].(string))), query, &volumes)
		if err != nil {
			if f, ok := errors.AsType[*kit.Failure](err); ok && f.Class == kit.ClassAuth || ctx.Err() != nil {
				return nil, err
			}
			if first == nil {
				first = err
			}
			missing = append(missing, where+" ("+err.Error()+")")
			continue
		}
		for _, v := range volumes {
			items = append(items, backup(v, st))
		}
	}
	if items == nil && first != nil {
		return nil, first
	}
	slices.SortStableFunc(items, func(a, b kit.Item) int { return strings.Compare(b["created"].(string), a["created"].(string)) })
	l := kit.List(items, in.Page, "vmid", "created", "size_gib", "storage", "node", "protected", "verified", "notes", "volume")
	if len(missing) > 0 {
		l.Say("not read: " + strings.Join(missing, ", "))
	}
	return l, nil
}

func takesBackups(storage kit.Item) bool {
	return slices.Contains(strings.Split(storage["content"].(string), ","), "backup")
}

func backup(v object, storage kit.Item) kit.Item {
	it := kit.Item{
		"vmid": v.number("vmid"), "created": moment(v.number("ctime")), "size_gib": tenths(v.number("size") / gib), "volume": v.text("volid"),
		"storage": storage["storage"], "node": storage["node"],
	}
	if v.number("protected") == 1 {
		it["protected"] = true
	}
	if n := v.text("notes"); n != "" {
		it["notes"] = n
	}
	if o, ok := v["verification"].(map[string]any); ok {
		it["verified"] = object(o).text("state")
	}
	return it
}
