package sim

import (
	"fmt"
	"strconv"
	"time"
)

const gib = 1 << 30

var nodes = []string{"pve1", "pve2", "pve3"}

// guest is a VM or container.
type guest struct {
	vmid       int
	name       string
	kind       string // qemu or lxc
	node       string
	running    bool
	since      time.Time
	cpus       int
	mem, disk  int64
	tags, lock string
	template   bool
	agent      bool // the QEMU guest agent answers
	deaf       bool // it does not shut down when asked to
	snapshots  []*snapshot
	extra      object
}

type snapshot struct {
	name, description, parent string
	taken                     time.Time
	memory                    bool
}

type backup struct {
	volid, notes string
	vmid         int
	kind         string
	made         time.Time
	size         int64
	protected    bool
}

type storage struct {
	name, kind, content string
	shared              bool // else each node has one
	size, used          int64
}

var storages = []storage{
	{"local", "dir", "iso,vztmpl", false, 94 * gib, 31 * gib},
	{"local-zfs", "zfspool", "images,rootdir", false, 880 * gib, 340 * gib},
	{"nas-backup", "nfs", "backup", true, 7300 * gib, 5110 * gib},
}

// furnish fills the estate.
func (c *cluster) furnish() {
	c.guests = map[int]*guest{}
	now := c.born
	for i, g := range []guest{
		{vmid: 100, name: "homeassistant", kind: "qemu", node: "pve1", running: true, cpus: 2, mem: 4 * gib, disk: 32 * gib, tags: "home", agent: true},
		{vmid: 101, name: "pihole", kind: "lxc", node: "pve1", running: true, cpus: 1, mem: 1 * gib, disk: 8 * gib, tags: "network"},
		{vmid: 102, name: "jellyfin", kind: "lxc", node: "pve2", running: true, cpus: 4, mem: 4 * gib, disk: 64 * gib, tags: "media"},
		{vmid: 103, name: "docker", kind: "qemu", node: "pve2", running: true, cpus: 4, mem: 16 * gib, disk: 120 * gib, agent: true},
		{vmid: 104, name: "nextcloud", kind: "qemu", node: "pve2", running: true, cpus: 4, mem: 8 * gib, disk: 500 * gib, agent: true},
		{vmid: 105, name: "gitea", kind: "lxc", node: "pve3", running: true, cpus: 2, mem: 2 * gib, disk: 40 * gib, tags: "dev"},
		{vmid: 106, name: "prometheus", kind: "lxc", node: "pve3", running: true, cpus: 2, mem: 4 * gib, disk: 80 * gib, tags: "monitoring"},
		{vmid: 107, name: "win11", kind: "qemu", node: "pve1", running: true, cpus: 4, mem: 8 * gib, disk: 128 * gib, deaf: true},
		{vmid: 108, name: "k3s-1", kind: "qemu", node: "pve3", running: true, cpus: 4, mem: 8 * gib, disk: 60 * gib, tags: "dev;k8s", agent: true},
		{vmid: 109, name: "truenas-test", kind: "qemu", node: "pve3", cpus: 2, mem: 8 * gib, disk: 32 * gib},
		{vmid: 110, name: "minecraft", kind: "lxc", node: "pve2", cpus: 4, mem: 6 * gib, disk: 20 * gib},
		{vmid: 9000, name: "debian-13", kind: "qemu", node: "pve1", cpus: 2, mem: 2 * gib, disk: 8 * gib, template: true, extra: object{"cipassword": "**********"}},
	} {
		g.since = now.Add(-time.Duration(i*7+3) * 24 * time.Hour)
		c.guests[g.vmid] = &g
	}
	c.guests[100].snapshots = []*snapshot{
		{name: "before-2026-10", description: "before the October update", taken: now.Add(-40 * 24 * time.Hour)},
		{name: "before-2026-11", description: "before the November update", parent: "before-2026-10", taken: now.Add(-9 * 24 * time.Hour), memory: true},
	}
	c.guests[103].snapshots = []*snapshot{{name: "compose-v2", taken: now.Add(-100 * 24 * time.Hour)}}
	for i := range c.Guests {
		id := 10_000 + i
		c.guests[id] = &guest{
			vmid: id, name: fmt.Sprintf("load-%04d", i), kind: []string{"qemu", "lxc"}[i%2], node: nodes[i%3], running: i%5 != 0, cpus: 1 + i%8,
			mem: int64(1+i%16) * gib, disk: int64(8+i%100) * gib, tags: "load;team-" + strconv.Itoa(i%20), since: now.Add(-time.Duration(i+1) * time.Hour),
		}
	}
	for _, g := range c.sorted() {
		if g.template {
			continue
		}
		for day := 3; day > 0; day-- {
			c.store(g, now.Add(-time.Duration(day)*24*time.Hour+2*time.Hour), "")
		}
	}
	c.backups[0].protected = true
	for i := range c.Tasks + 6 {
		at := now.Add(-time.Duration(c.Tasks+6-i) * time.Hour)
		g := c.sorted()[i%10]
		t := c.task(g.node, "vzdump", strconv.Itoa(g.vmid), at, 90*time.Second)
		t.user, t.log, t.ended = "root@pam", backupLog(g, "nas-backup"), true
		if i == 3 {
			t.exit = "job errors"
			t.log = append(t.log, line{1, fmt.Sprintf("ERROR: Backup of VM %d failed - connection to 'nas-backup' timed out", g.vmid)}, line{1, "TASK ERROR: job errors"})
		}
	}
}

// store puts a backup of g on the shared storage.
func (c *cluster) store(g *guest, at time.Time, notes string) {
	kind := map[string]string{"qemu": "vma.zst", "lxc": "tar.zst"}[g.kind]
	c.backups = append(c.backups, &backup{
		volid: fmt.Sprintf("nas-backup:backup/vzdump-%s-%d-%s.%s", g.kind, g.vmid, at.UTC().Format("2006_01_02-15_04_05"), kind),
		vmid:  g.vmid, kind: kind, made: at, size: g.disk / 4, notes: notes,
	})
}
