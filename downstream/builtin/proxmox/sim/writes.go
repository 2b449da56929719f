package sim

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// onGuest serves a write on a guest, which answers with the UPID of a task.
func (c *cluster) onGuest(pattern string, f func(*http.Request, *guest) (*task, error)) {
	method, path := http.MethodPost, pattern
	if pattern == "" || pattern == "/snapshot/{name}" {
		method = http.MethodDelete
	}
	c.handle(method+" /nodes/{node}/{kind}/{vmid}"+path, func(r *http.Request) (any, error) {
		g, err := c.guest(r)
		if err != nil {
			return nil, err
		}
		t, err := f(r, g)
		if err != nil {
			return nil, err
		}
		c.settle(time.Now())
		return t.upid, nil
	})
}

// taskName: tasks of VMs begin with qm, of containers with vz.
func (g *guest) taskName(what string) string {
	return map[string]string{"qemu": "qm", "lxc": "vz"}[g.kind] + what
}

func (c *cluster) writes() {
	c.onGuest("/status/{action}", c.power)
	c.onGuest("/migrate", c.migrate)
	c.onGuest("/clone", c.clone)
	c.onGuest("/snapshot", c.snapshot)
	c.onGuest("/snapshot/{name}", func(r *http.Request, g *guest) (*task, error) {
		t := c.run(g, g.taskName("delsnapshot"), 2*time.Second, "snapshot-delete", nil, nil)
		c.withSnapshot(t, g, r.PathValue("name"), func(i int) {
			old := g.snapshots[i]
			g.snapshots = slices.Delete(g.snapshots, i, i+1)
			for _, s := range g.snapshots {
				if s.parent == old.name {
					s.parent = old.parent
				}
			}
		})
		return t, nil
	})
	c.onGuest("/snapshot/{name}/rollback", func(r *http.Request, g *guest) (*task, error) {
		t := c.run(g, g.taskName("rollback"), 2*time.Second, "rollback", nil, nil)
		c.withSnapshot(t, g, r.PathValue("name"), func(i int) { g.running, g.since = g.snapshots[i].memory, time.Now() })
		return t, nil
	})
	c.onGuest("", func(_ *http.Request, g *guest) (*task, error) {
		if g.running {
			return nil, refuse(http.StatusInternalServerError, "%s %d is running - destroy failed", map[string]string{"qemu": "VM", "lxc": "CT"}[g.kind], g.vmid)
		}
		return c.run(g, g.taskName("destroy"), 2*time.Second, "", nil, func() { delete(c.guests, g.vmid) }), nil
	})
	c.handle("POST /nodes/{node}/vzdump", c.vzdump)
}

// withSnapshot lets a task do f with the snapshot of that name, or fail.
func (c *cluster) withSnapshot(t *task, g *guest, name string, f func(i int)) {
	if t.effect == nil { // it has failed already
		return
	}
	unlock := t.effect
	t.effect = func() {
		unlock()
		i := slices.IndexFunc(g.snapshots, func(s *snapshot) bool { return s.name == name })
		if i < 0 {
			t.fail("snapshot '%s' does not exist", name)
			return
		}
		f(i)
	}
}

func (c *cluster) power(r *http.Request, g *guest) (*task, error) {
	up := func() { g.running, g.since = true, time.Now() }
	down := func() { g.running = false }
	switch action := r.PathValue("action"); action {
	case "start":
		if g.running {
			t := c.run(g, g.taskName("start"), 0, "", nil, nil)
			t.fail("%s %d already running", map[string]string{"qemu": "VM", "lxc": "CT"}[g.kind], g.vmid)
			return t, nil
		}
		return c.run(g, g.taskName("start"), 2*time.Second, "", nil, up), nil
	case "stop":
		return c.run(g, g.taskName("stop"), time.Second, "", nil, down), nil
	case "shutdown", "reboot":
		if g.deaf {
			limit, err := strconv.Atoi(r.FormValue("timeout"))
			if err != nil {
				limit = 180
			}
			t := c.run(g, g.taskName(action), time.Duration(limit)*time.Second, "", nil, nil)
			t.fail("VM quit/powerdown failed - got timeout")
			return t, nil
		}
		if action == "reboot" {
			return c.run(g, g.taskName("reboot"), 5*time.Second, "", nil, up), nil
		}
		return c.run(g, g.taskName("shutdown"), 4*time.Second, "", nil, down), nil
	default:
		return nil, refuse(http.StatusNotImplemented, "Method 'POST /nodes/%s/%s/%d/status/%s' not implemented", g.node, g.kind, g.vmid, action)
	}
}

func (c *cluster) migrate(r *http.Request, g *guest) (*task, error) {
	to := r.FormValue("target")
	switch {
	case !slices.Contains(nodes, to):
		return nil, badParameter("target", "no such cluster node '%s'", to)
	case to == g.node:
		return nil, badParameter("target", "target is local node.")
	case g.running && g.kind == "qemu" && r.FormValue("online") != "1":
		return nil, refuse(http.StatusInternalServerError, "can't migrate running VM without --online")
	case g.running && g.kind == "lxc" && r.FormValue("restart") != "1":
		return nil, refuse(http.StatusInternalServerError, "lxc live migration is currently not implemented")
	}
	return c.run(g, g.taskName("migrate"), 5*time.Second, "migrate", []line{
		{0, fmt.Sprintf("starting migration of VM %d to node '%s'", g.vmid, to)},
		{0.3, "migration active, transferred 2.0 GiB of 8.0 GiB VM-state, 1.1 GiB/s (25.0%)"},
		{0.7, "migration active, transferred 6.4 GiB of 8.0 GiB VM-state, 1.2 GiB/s (80.0%)"},
		{1, "migration finished successfully (duration 00:00:05)"},
	}, func() { g.node = to }), nil
}

func (c *cluster) clone(r *http.Request, g *guest) (*task, error) {
	id, err := strconv.Atoi(r.FormValue("newid"))
	switch {
	case err != nil || id < 100:
		return nil, badParameter("newid", "type check ('integer') failed - got '%s'", r.FormValue("newid"))
	case c.guests[id] != nil:
		return nil, refuse(http.StatusInternalServerError, "unable to create VM %d: config file already exists", id)
	}
	name := r.FormValue(map[string]string{"qemu": "name", "lxc": "hostname"}[g.kind])
	if name == "" {
		name = "Copy-of-VM-" + g.name
	}
	twin := *g
	twin.vmid, twin.name, twin.running, twin.template, twin.snapshots, twin.lock = id, name, false, false, nil, "create"
	t := c.run(g, g.taskName("clone"), 4*time.Second, "", []line{
		{0, "create full clone of drive scsi0"},
		{0.3, "transferred 2.4 GiB of 8.0 GiB (30.00%)"},
		{0.7, "transferred 5.6 GiB of 8.0 GiB (70.00%)"},
		{1, "transferred 8.0 GiB of 8.0 GiB (100.00%)"},
	}, func() { twin.lock = "" })
	if t.effect != nil {
		c.guests[id] = &twin
	}
	return t, nil
}

func (c *cluster) snapshot(r *http.Request, g *guest) (*task, error) {
	name := r.FormValue("snapname")
	if name == "" {
		return nil, badParameter("snapname", "property is missing and it is not optional")
	}
	for _, s := range g.snapshots {
		if s.name == name {
			t := c.run(g, g.taskName("snapshot"), 0, "", nil, nil)
			t.fail("snapshot name '%s' already used", name)
			return t, nil
		}
	}
	return c.run(g, g.taskName("snapshot"), 2*time.Second, "snapshot", []line{{0, "snapshotting 'drive-scsi0'"}}, func() {
		s := &snapshot{name: name, description: r.FormValue("description"), taken: time.Now(), memory: r.FormValue("vmstate") == "1" && g.running}
		if n := len(g.snapshots); n > 0 {
			s.parent = g.snapshots[n-1].name
		}
		g.snapshots = append(g.snapshots, s)
	}), nil
}

func (c *cluster) vzdump(r *http.Request) (any, error) {
	if err := knownNode(r); err != nil {
		return nil, err
	}
	id, _ := strconv.Atoi(r.FormValue("vmid"))
	g := c.guests[id]
	if g == nil || g.node != r.PathValue("node") {
		return nil, refuse(http.StatusInternalServerError, "unable to find VM '%s'", r.FormValue("vmid"))
	}
	name := r.FormValue("storage")
	i := slices.IndexFunc(storages, func(s storage) bool { return s.name == name })
	switch {
	case i < 0:
		return nil, refuse(http.StatusInternalServerError, "storage '%s' does not exist", name)
	case storages[i].content != "backup":
		return nil, badParameter("storage", "storage '%s' does not support backups", name)
	}
	t := c.run(g, "vzdump", 8*time.Second, "backup", backupLog(g, name), func() { c.store(g, time.Now(), r.FormValue("notes-template")) })
	c.settle(time.Now())
	return t.upid, nil
}
