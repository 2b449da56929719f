package proxmox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

// guest is a VM or container, as the cluster's list of resources has it.
type guest struct {
	object

	vmid             int
	node, kind, name string // kind is the path element: qemu or lxc
}

func (g *guest) path() string {
	return fmt.Sprintf("/nodes/%s/%s/%d", url.PathEscape(g.node), g.kind, g.vmid)
}

func (g *guest) running() bool { return g.text("status") == "running" }

// String names the guest as people do.
func (g *guest) String() string { return fmt.Sprintf("%s %d (%s)", kindName(g.kind), g.vmid, g.name) }

func kindName(kind string) string {
	if kind == "lxc" {
		return "container"
	}
	return "vm"
}

func (p *server) guests(ctx context.Context) ([]*guest, error) {
	var all []object
	if err := p.get(ctx, "/cluster/resources", url.Values{"type": {"vm"}}, &all); err != nil {
		return nil, err
	}
	list := make([]*guest, 0, len(all))
	for _, o := range all {
		g := &guest{object: o, vmid: int(o.number("vmid")), node: o.text("node"), kind: o.text("type"), name: o.text("name")}
		if g.kind == "qemu" || g.kind == "lxc" {
			list = append(list, g)
		}
	}
	slices.SortFunc(list, func(a, b *guest) int { return cmp.Compare(a.vmid, b.vmid) })
	return list, nil
}

// guest finds a guest by its number.
func (p *server) guest(ctx context.Context, vmid int) (*guest, error) {
	list, err := p.guests(ctx)
	if err != nil {
		return nil, err
	}
	for _, g := range list {
		if g.vmid == vmid {
			return g, checkNode(g.node)
		}
	}
	return nil, fmt.Errorf("there is no VM or container %d that the API token may see; guests lists them", vmid)
}

func (g *guest) item() kit.Item {
	it := kit.Item{
		"vmid": g.vmid, "name": g.name, "kind": kindName(g.kind), "node": g.node, "status": g.text("status"), "cpus": g.number("maxcpu"),
		"maxmem_gib": tenths(g.number("maxmem") / gib), "disk_gib": tenths(g.number("maxdisk") / gib),
	}
	if g.running() {
		it["cpu_percent"], it["mem_gib"], it["uptime"] = tenths(g.number("cpu")*100), tenths(g.number("mem")/gib), age(g.number("uptime"))
	}
	for _, k := range []string{"lock", "pool", "tags"} {
		if v := g.text(k); v != "" {
			it[k] = v
		}
	}
	if g.number("template") == 1 {
		it["template"] = true
	}
	return it
}

type vmidArgs struct {
	VMID int `json:"vmid" jsonschema:"number of the VM or container"`
}

type guestDetail struct {
	Summary   kit.Item `json:"summary"`
	Addresses []string `json:"addresses,omitempty"`
	Config    kit.Item `json:"config"`
	Note      string   `json:"note,omitempty"`
}

func (p *server) addGuests(s *kit.Server) {
	kit.Add(s, kit.Tool{
		Name: "guests", Title: "VMs and containers", Adjust: kit.PageLimits,
		Description: "All VMs and containers of the cluster: vmid, name, node, status, CPU, memory. search finds by any value, such as a name or stopped.",
	}, func(ctx context.Context, _ *kit.Call, in struct{ kit.Page }) (*kit.Listing, error) {
		list, err := p.guests(ctx)
		if err != nil {
			return nil, err
		}
		items := make([]kit.Item, len(list))
		for i, g := range list {
			items[i] = g.item()
		}
		return kit.List(items, in.Page, "vmid", "name", "kind", "node", "status", "cpu_percent", "cpus", "mem_gib", "maxmem_gib", "uptime", "lock", "tags", "template"), nil
	})

	kit.Add(s, kit.Tool{
		Name: "guest", Title: "One VM or container",
		Description: "State, configuration (disks, network, boot, cloud-init) and IP addresses of one guest.",
	}, func(ctx context.Context, _ *kit.Call, in vmidArgs) (*guestDetail, error) {
		return p.detail(ctx, in.VMID)
	})

	kit.Add(s, kit.Tool{
		Name: "snapshots", Title: "Snapshots of a guest",
		Description: "Snapshots of one VM or container, oldest first: name, time, parent, description, whether memory is in it.",
	}, func(ctx context.Context, _ *kit.Call, in vmidArgs) (*kit.Listing, error) {
		g, err := p.guest(ctx, in.VMID)
		if err != nil {
			return nil, err
		}
		list, err := p.snapshots(ctx, g)
		if err != nil {
			return nil, err
		}
		return kit.List(list, kit.Page{Limit: 500}, "name", "created", "parent", "memory", "description"), nil
	})

	kit.Add(s, kit.Tool{
		Name: "metrics", Title: "Load over time",
		Description: "CPU, memory, network and disk of a guest (vmid) or a node over an hour to a year, as a table of at most 24 rows.",
		Adjust: func(s *jsonschema.Schema) {
			kit.Enum(s, "timeframe", "hour", "day", "week", "month", "year")
			s.Properties["timeframe"].Default = []byte(`"hour"`)
		},
	}, p.metrics)
}

func (p *server) detail(ctx context.Context, vmid int) (*guestDetail, error) {
	g, err := p.guest(ctx, vmid)
	if err != nil {
		return nil, err
	}
	var status, config object
	if err := p.get(ctx, g.path()+"/status/current", nil, &status); err != nil {
		return nil, err
	}
	if err := p.get(ctx, g.path()+"/config", nil, &config); err != nil {
		return nil, err
	}
	out := &guestDetail{Summary: g.item(), Config: kit.Item(config)}
	delete(out.Config, "digest")
	for _, secret := range []string{"cipassword", "password"} {
		if _, ok := out.Config[secret]; ok {
			out.Config[secret] = "[redacted]"
		}
	}
	if status.text("status") != "" {
		out.Summary["status"] = status.text("status")
	}
	if q := status.text("qmpstatus"); q != "" && q != status.text("status") {
		out.Summary["qemu_status"] = q // paused, prelaunch, io-error …
	}
	if ha, ok := status["ha"].(map[string]any); ok && object(ha).number("managed") == 1 {
		out.Summary["ha"] = object(ha).text("state")
	}
	if g.running() {
		out.Addresses, out.Note = p.addresses(ctx, g)
	}
	return out, nil
}

// addresses asks inside of the guest. That it cannot be asked is no error of the call.
func (p *server) addresses(ctx context.Context, g *guest) (list []string, note string) {
	add := func(name, address string) {
		if address != "" && name != "lo" && !strings.HasPrefix(address, "fe80:") {
			list = append(list, fmt.Sprintf("%s %s", name, address))
		}
	}
	if g.kind == "lxc" {
		var found []object
		if err := p.get(ctx, g.path()+"/interfaces", nil, &found); err != nil {
			return nil, "no addresses: " + err.Error()
		}
		for _, o := range found {
			add(o.text("name"), o.text("inet"))
			add(o.text("name"), o.text("inet6"))
		}
		return list, ""
	}
	var found struct {
		Result []struct {
			Name      string   `json:"name"`
			Addresses []object `json:"ip-addresses"`
		} `json:"result"`
	}
	if err := p.get(ctx, g.path()+"/agent/network-get-interfaces", nil, &found); err != nil {
		return nil, "no addresses: " + err.Error() + " (they come from the QEMU guest agent: install qemu-guest-agent inside and switch it on under Options)"
	}
	for _, o := range found.Result {
		for _, a := range o.Addresses {
			add(o.Name, a.text("ip-address"))
		}
	}
	return list, ""
}

func (p *server) snapshots(ctx context.Context, g *guest) ([]kit.Item, error) {
	var all []object
	if err := p.get(ctx, g.path()+"/snapshot", nil, &all); err != nil {
		return nil, err
	}
	var items []kit.Item
	for _, o := range all {
		if o.text("name") == "current" { // how it is now, which is no snapshot
			continue
		}
		it := kit.Item{"name": o.text("name"), "created": moment(o.number("snaptime")), "parent": o.text("parent"), "description": o.text("description")}
		if o.number("vmstate") == 1 {
			it["memory"] = true
		}
		items = append(items, it)
	}
	slices.SortStableFunc(items, func(a, b kit.Item) int { return strings.Compare(a["created"].(string), b["created"].(string)) })
	return items, nil
}

type metricsArgs struct {
	VMID      int    `json:"vmid,omitempty" jsonschema:"a guest"`
	Node      string `json:"node,omitempty" jsonschema:"a node, instead of vmid"`
	Timeframe string `json:"timeframe,omitempty"`
}

func (p *server) metrics(ctx context.Context, _ *kit.Call, in metricsArgs) (*kit.Listing, error) {
	path := "/nodes/" + url.PathEscape(in.Node)
	switch {
	case (in.VMID > 0) == (in.Node != ""):
		return nil, errors.New("metrics: give either vmid or node")
	case in.VMID > 0:
		g, err := p.guest(ctx, in.VMID)
		if err != nil {
			return nil, err
		}
		path = g.path()
	default:
		if err := checkNode(in.Node); err != nil {
			return nil, err
		}
	}
	var points []object
	if err := p.get(ctx, path+"/rrddata", url.Values{"timeframe": {in.Timeframe}, "cf": {"AVERAGE"}}, &points); err != nil {
		return nil, err
	}
	l := kit.List(shortTable(points, 24), kit.Page{Limit: 24}, "time", "cpu_percent", "mem_gib", "net_in_kib_s", "net_out_kib_s", "disk_read_kib_s", "disk_write_kib_s", "io_wait_percent", "load")
	if len(points) > 24 {
		l.Say(fmt.Sprintf("each row is the average of about %d measurements", (len(points)+23)/24))
	}
	return l, nil
}

// measures are the members of a measurement, under the names of Proxmox 8 and 9.
var measures = []struct {
	to    string
	from  []string
	scale float64
}{
	{"cpu_percent", []string{"cpu"}, 100},
	{"mem_gib", []string{"mem", "memused"}, 1.0 / gib},
	{"net_in_kib_s", []string{"netin"}, 1.0 / 1024},
	{"net_out_kib_s", []string{"netout"}, 1.0 / 1024},
	{"disk_read_kib_s", []string{"diskread"}, 1.0 / 1024},
	{"disk_write_kib_s", []string{"diskwrite"}, 1.0 / 1024},
	{"io_wait_percent", []string{"iowait"}, 100},
	{"load", []string{"loadavg"}, 1},
}

// shortTable makes at most so many rows out of measurements, oldest first. What was not measured stays away.
func shortTable(points []object, rows int) []kit.Item {
	slices.SortFunc(points, func(a, b object) int { return cmp.Compare(a.number("time"), b.number("time")) })
	step := max((len(points)+rows-1)/rows, 1)
	var items []kit.Item
	for part := range slices.Chunk(points, step) {
		it := kit.Item{"time": time.Unix(int64(part[0].number("time")), 0).UTC().Format("2006-01-02T15:04Z")}
		for _, m := range measures {
			sum, n := 0.0, 0
			for _, o := range part {
				for _, key := range m.from {
					if o[key] != nil {
						sum, n = sum+o.number(key)*m.scale, n+1
						break
					}
				}
			}
			if n > 0 {
				it[m.to] = tenths(sum / float64(n))
			}
		}
		items = append(items, it)
	}
	return items
}
