package sim

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"
)

func knownNode(r *http.Request) error {
	if n := r.PathValue("node"); !slices.Contains(nodes, n) {
		return refuse(http.StatusInternalServerError, "hostname lookup '%s' failed - failed to get address info for: %s: Name or service not known", n, n)
	}
	return nil
}

// guest finds the guest of a path.
func (c *cluster) guest(r *http.Request) (*guest, error) {
	if err := knownNode(r); err != nil {
		return nil, err
	}
	id, err := strconv.Atoi(r.PathValue("vmid"))
	if err != nil {
		return nil, badParameter("vmid", "type check ('integer') failed - got '%s'", r.PathValue("vmid"))
	}
	g, kind := c.guests[id], r.PathValue("kind")
	if kind != "qemu" && kind != "lxc" {
		return nil, refuse(http.StatusNotImplemented, "Method '%s %s' not implemented", r.Method, r.URL.Path)
	}
	if g == nil || g.kind != kind || g.node != r.PathValue("node") {
		dir := map[string]string{"qemu": "qemu-server", "lxc": "lxc"}[kind]
		return nil, refuse(http.StatusInternalServerError, "Configuration file 'nodes/%s/%s/%d.conf' does not exist", r.PathValue("node"), dir, id)
	}
	return g, nil
}

func (c *cluster) sorted() []*guest {
	list := make([]*guest, 0, len(c.guests))
	for _, g := range c.guests {
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b *guest) int { return a.vmid - b.vmid })
	return list
}

// load is a number between 0 and 1 that moves slowly, differently for each seed.
func load(seed int, at time.Time) float64 {
	x := float64(at.Unix())/900 + float64(seed)
	return 0.05 + 0.3*(1+math.Sin(x))/2 + 0.1*(1+math.Sin(5.3*x))/2
}

func (g *guest) describe(now time.Time) object {
	o := object{
		"id": fmt.Sprintf("%s/%d", g.kind, g.vmid), "vmid": g.vmid, "name": g.name, "type": g.kind, "node": g.node, "status": "stopped", "maxcpu": g.cpus,
		"maxmem": g.mem, "maxdisk": g.disk, "disk": 0, "cpu": 0, "mem": 0, "uptime": 0, "template": 0, "netin": 0, "netout": 0, "diskread": 0, "diskwrite": 0,
	}
	if g.running {
		l := load(g.vmid, now)
		o["status"], o["cpu"], o["mem"], o["uptime"] = "running", l, int64(float64(g.mem)*(0.3+l)), int64(now.Sub(g.since).Seconds())
	}
	if g.template {
		o["template"] = 1
	}
	if g.tags != "" {
		o["tags"] = g.tags
	}
	if g.lock != "" {
		o["lock"] = g.lock
	}
	return o
}

func (c *cluster) resources(kind string) []object {
	now, out := time.Now(), []object{}
	if kind == "" || kind == "vm" {
		for _, g := range c.sorted() {
			out = append(out, g.describe(now))
		}
	}
	for i, n := range nodes {
		if kind == "" || kind == "node" {
			out = append(out, object{
				"id": "node/" + n, "node": n, "type": "node", "status": "online", "maxcpu": 16, "cpu": load(i, now), "maxmem": int64(64 * gib),
				"mem": int64(float64(64*gib) * (0.4 + load(i, now)/2)), "maxdisk": int64(94 * gib), "disk": int64(31 * gib), "uptime": int64(now.Sub(c.born).Seconds()) + 3_000_000, "level": "",
			})
		}
		if kind == "" || kind == "storage" {
			for _, s := range storages {
				o := object{
					"id": "storage/" + n + "/" + s.name, "storage": s.name, "node": n, "type": "storage", "plugintype": s.kind, "content": s.content,
					"status": "available", "maxdisk": s.size, "disk": s.used, "shared": 0,
				}
				if s.shared {
					o["shared"] = 1
				}
				out = append(out, o)
			}
		}
	}
	return out
}

func (c *cluster) reads() {
	c.handle("GET /version", func(*http.Request) (any, error) {
		return object{"version": "9.0.11", "release": "9.0", "repoid": "3bf5476b8a4699e2"}, nil
	})
	c.handle("GET /cluster/status", func(*http.Request) (any, error) {
		list := []object{{"type": "cluster", "id": "cluster", "name": "homelab", "version": 5, "nodes": len(nodes), "quorate": 1}}
		for i, n := range nodes {
			list = append(list, object{"type": "node", "id": "node/" + n, "name": n, "nodeid": i + 1, "ip": fmt.Sprintf("192.0.2.%d", 11+i), "online": 1, "local": 0, "level": ""})
		}
		return list, nil
	})
	c.handle("GET /cluster/resources", func(r *http.Request) (any, error) { return c.resources(r.FormValue("type")), nil })
	c.handle("GET /cluster/nextid", func(*http.Request) (any, error) {
		id := 100
		for c.guests[id] != nil {
			id++
		}
		return strconv.Itoa(id), nil // it is a string
	})
	c.handle("GET /nodes/{node}/rrddata", func(r *http.Request) (any, error) {
		if err := knownNode(r); err != nil {
			return nil, err
		}
		return series(r, slices.Index(nodes, r.PathValue("node")), 64*gib, true), nil
	})
	c.handle("GET /nodes/{node}/storage/{storage}/content", c.content)
	c.handle("GET /nodes/{node}/{kind}/{vmid}/rrddata", func(r *http.Request) (any, error) {
		g, err := c.guest(r)
		if err != nil {
			return nil, err
		}
		return series(r, g.vmid, g.mem, false), nil
	})
	c.handle("GET /nodes/{node}/{kind}/{vmid}/status/current", func(r *http.Request) (any, error) {
		g, err := c.guest(r)
		if err != nil {
			return nil, err
		}
		o := g.describe(time.Now())
		o["qmpstatus"], o["ha"], o["cpus"] = o["status"], object{"managed": 0}, g.cpus
		return o, nil
	})
	c.handle("GET /nodes/{node}/{kind}/{vmid}/config", c.config)
	c.handle("GET /nodes/{node}/{kind}/{vmid}/snapshot", c.listSnapshots)
	c.handle("GET /nodes/{node}/lxc/{vmid}/interfaces", func(r *http.Request) (any, error) {
		r.SetPathValue("kind", "lxc")
		g, err := c.guest(r)
		if err != nil {
			return nil, err
		}
		if !g.running {
			return nil, refuse(http.StatusInternalServerError, "CT %d is not running", g.vmid)
		}
		return []object{{"name": "lo", "inet": "127.0.0.1/8"}, {"name": "eth0", "hwaddr": "bc:24:11:00:00:01", "inet": address(g) + "/24"}}, nil
	})
	c.handle("GET /nodes/{node}/qemu/{vmid}/agent/network-get-interfaces", func(r *http.Request) (any, error) {
		r.SetPathValue("kind", "qemu")
		g, err := c.guest(r)
		if err != nil {
			return nil, err
		}
		if !g.running || !g.agent {
			return nil, refuse(http.StatusInternalServerError, "QEMU guest agent is not running")
		}
		return object{"result": []object{
			{"name": "lo", "ip-addresses": []object{{"ip-address": "127.0.0.1", "ip-address-type": "ipv4", "prefix": 8}}},
			{"name": "eth0", "ip-addresses": []object{{"ip-address": address(g), "ip-address-type": "ipv4", "prefix": 24}}},
		}}, nil
	})
	c.taskReads()
}

func address(g *guest) string { return fmt.Sprintf("198.51.100.%d", g.vmid%250+2) }

func (c *cluster) config(r *http.Request) (any, error) {
	g, err := c.guest(r)
	if err != nil {
		return nil, err
	}
	o := object{"digest": "da39a3ee5e6b4b0d3255bfef95601890afd80709", "cores": g.cpus, "memory": g.mem >> 20, "onboot": 1}
	mac := fmt.Sprintf("BC:24:11:00:%02X:%02X", g.vmid/256%256, g.vmid%256)
	if g.kind == "lxc" {
		o["hostname"], o["rootfs"], o["unprivileged"] = g.name, fmt.Sprintf("local-zfs:subvol-%d-disk-0,size=%dG", g.vmid, g.disk/gib), 1
		o["net0"] = "name=eth0,bridge=vmbr0,hwaddr=" + mac + ",ip=dhcp,type=veth"
	} else {
		o["name"], o["scsi0"], o["boot"], o["ostype"] = g.name, fmt.Sprintf("local-zfs:vm-%d-disk-0,iothread=1,size=%dG", g.vmid, g.disk/gib), "order=scsi0", "l26"
		o["net0"], o["agent"] = "virtio="+mac+",bridge=vmbr0", map[bool]string{true: "1", false: "0"}[g.agent]
	}
	maps.Copy(o, g.extra)
	return o, nil
}

func (c *cluster) listSnapshots(r *http.Request) (any, error) {
	g, err := c.guest(r)
	if err != nil {
		return nil, err
	}
	list, parent := []object{}, ""
	for _, s := range g.snapshots {
		o := object{"name": s.name, "description": s.description, "snaptime": s.taken.Unix()}
		if s.parent != "" {
			o["parent"] = s.parent
		}
		if s.memory {
			o["vmstate"] = 1
		}
		list, parent = append(list, o), s.name
	}
	now := object{"name": "current", "description": "You are here!", "digest": "da39a3ee5e6b4b0d3255bfef95601890afd80709"}
	if parent != "" {
		now["parent"] = parent
	}
	return append(list, now), nil
}

func (c *cluster) content(r *http.Request) (any, error) {
	if err := knownNode(r); err != nil {
		return nil, err
	}
	name, list := r.PathValue("storage"), []object{}
	known := false
	for _, s := range storages {
		known = known || s.name == name
	}
	if !known {
		return nil, refuse(http.StatusInternalServerError, "storage '%s' does not exist", name)
	}
	if name != "nas-backup" {
		return list, nil
	}
	for _, b := range c.backups {
		if id := r.FormValue("vmid"); id != "" && id != strconv.Itoa(b.vmid) {
			continue
		}
		o := object{"volid": b.volid, "content": "backup", "format": b.kind, "vmid": b.vmid, "ctime": b.made.Unix(), "size": b.size}
		if b.notes != "" {
			o["notes"] = b.notes
		}
		if b.protected {
			o["protected"] = 1
		}
		list = append(list, o)
	}
	return list, nil
}

// series are measurements of 70 moments up to now.
func series(r *http.Request, seed int, mem int64, node bool) []object {
	step := map[string]int64{"hour": 60, "day": 1800, "week": 10800, "month": 43200, "year": 604800}[r.FormValue("timeframe")]
	if step == 0 {
		step = 60
	}
	end, out := time.Now().Unix()/step*step, []object{}
	for i := int64(69); i >= 0; i-- {
		at := end - i*step
		l := load(seed, time.Unix(at, 0))
		o := object{"time": at, "cpu": l, "maxcpu": 4, "netin": l * 2e6, "netout": l * 5e5}
		switch {
		case i == 0: // the newest is often not there yet
			o = object{"time": at}
		case node:
			o["memused"], o["memtotal"], o["iowait"], o["loadavg"] = float64(mem)*(0.4+l/2), mem, l/20, l*8
		default:
			o["mem"], o["maxmem"], o["diskread"], o["diskwrite"] = float64(mem)*(0.3+l), mem, l*1e6, l*3e6
		}
		out = append(out, o)
	}
	return out
}
