package builtin

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/shirou/gopsutil/v4/disk"
)

const (
	usageTime  = time.Second     // for one file system: a dead network mount never answers
	usagesTime = 3 * time.Second // for all of them
	maxAtOnce  = 16
)

type disksArgs struct {
	All   bool `json:"all"`
	Limit int  `json:"limit"`
}

type disksReport struct {
	FileSystems []fileSystem `json:"filesystems"`
	Left        int          `json:"filesystems_left_out,omitempty"`
	Devices     []diskDevice `json:"devices"`
	DevicesLeft int          `json:"devices_left_out,omitempty"`
	Notes       []string     `json:"notes,omitempty"`
}

type fileSystem struct {
	Mountpoint  string  `json:"mountpoint"`
	Device      string  `json:"device"`
	Type        string  `json:"type"`
	ReadOnly    bool    `json:"read_only,omitempty"`
	Total       uint64  `json:"total_bytes"`
	Used        uint64  `json:"used_bytes"`
	Free        uint64  `json:"free_bytes"`
	UsedPercent float64 `json:"used_percent"`
	Inodes      float64 `json:"inodes_used_percent,omitempty"`
	Error       string  `json:"error,omitempty"`
}

type diskDevice struct {
	Name       string `json:"name"`
	Reads      uint64 `json:"reads"`
	ReadBytes  uint64 `json:"read_bytes"`
	Writes     uint64 `json:"writes"`
	WriteBytes uint64 `json:"written_bytes"`
	BusyMS     uint64 `json:"busy_ms,omitempty"`
}

func (h *hostServer) addDisks(s *mcp.Server) error {
	return addReport(s, "disks", "Disk usage",
		"Usage of file systems, fullest first, and reads and writes of disk devices since boot, busiest first.",
		arguments(
			boolParam("all", "also pseudo file systems (proc, tmpfs, overlays), bind mounts, loop devices, partitions"),
			intParam("limit", "most file systems and most devices", 1, 200, 20),
		), h.disks)
}

func (h *hostServer) disks(ctx context.Context, args disksArgs) (*disksReport, error) {
	var (
		r    disksReport
		n    notes
		read bool
	)
	together(&n,
		func() { r.FileSystems = h.fileSystems(ctx, &n, args.All) },
		func() { r.Devices, read = h.diskDevices(ctx, &n, args.All) },
	)
	if r.FileSystems == nil && !read {
		return nil, nothing(ctx, &n)
	}
	more := "a greater limit (at most 200) shows more"
	if r.Left = len(r.FileSystems) - args.Limit; r.Left > 0 {
		r.FileSystems = r.FileSystems[:args.Limit]
		n.addf("%d file systems left out, all less full than these; %s", r.Left, more)
	}
	if r.DevicesLeft = len(r.Devices) - args.Limit; r.DevicesLeft > 0 {
		r.Devices = r.Devices[:args.Limit]
		n.addf("%d devices left out, all less busy than these; %s", r.DevicesLeft, more)
	}
	r.Left, r.DevicesLeft = max(0, r.Left), max(0, r.DevicesLeft)
	if len(r.FileSystems) == 0 && !args.All {
		n.addf("no file system on a disk is visible; all=true shows the others")
	}
	r.FileSystems, r.Devices = orEmpty(r.FileSystems), orEmpty(r.Devices)
	r.Notes = n.all()
	return &r, ctx.Err()
}

// orEmpty returns s, or an empty slice for nil, which JSON writes as an array.
func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// fileSystems returns the file systems with their usage, the fullest first and those that could not be read last. It returns nil
// only if the mounts could not be read.
func (h *hostServer) fileSystems(ctx context.Context, n *notes, all bool) []fileSystem {
	mounts, ok := read(ctx, h, n, "mounts", h.probes.mounts)
	if !ok {
		return nil
	}
	if !all {
		mounts = realMounts(mounts)
	}
	// Network mounts come last, so that those that hang do not keep the others from being read in time.
	mounts = slices.Clone(mounts)
	slices.SortStableFunc(mounts, func(a, b disk.PartitionStat) int { return cmp.Compare(remote(a.Fstype), remote(b.Fstype)) })
	out := make([]fileSystem, len(mounts))
	ctx, cancel := context.WithTimeoutCause(ctx, usagesTime, fmt.Errorf("no answer within %v", usagesTime))
	defer cancel()
	var next atomic.Int64
	workers := make([]func(), min(len(mounts), maxAtOnce))
	for w := range workers {
		workers[w] = func() {
			for i := next.Add(1) - 1; i < int64(len(mounts)); i = next.Add(1) - 1 {
				out[i] = h.fileSystem(ctx, mounts[i])
			}
		}
	}
	together(n, workers...)
	if !all { // what has no size is no disk either
		out = slices.DeleteFunc(out, func(f fileSystem) bool { return f.Total == 0 && f.Error == "" })
	}
	slices.SortStableFunc(out, func(a, b fileSystem) int {
		return cmp.Or(
			cmp.Compare(a.unread(), b.unread()), cmp.Compare(b.UsedPercent, a.UsedPercent), strings.Compare(a.Mountpoint, b.Mountpoint),
		)
	})
	return out
}

// unread is 1 if f could not be read, else 0.
func (f *fileSystem) unread() int { return min(len(f.Error), 1) }

func (h *hostServer) fileSystem(ctx context.Context, m disk.PartitionStat) fileSystem {
	f := fileSystem{
		Mountpoint: clean(m.Mountpoint, maxPath), Device: cleanDevice(m.Device), Type: clean(m.Fstype, maxName),
		ReadOnly: slices.Contains(m.Opts, "ro"),
	}
	// One probe at a time for each mount: if it hangs, no second one joins it.
	u, err := run(ctx, &h.runner, "usage of "+m.Mountpoint, 1, usageTime, func(ctx context.Context) (*disk.UsageStat, error) {
		return h.probes.usage(ctx, m.Mountpoint)
	})
	if err != nil {
		f.Error = clean(err.Error(), maxNoteText)
		return f
	}
	if u == nil {
		f.Error = "no answer"
		return f
	}
	f.Total, f.Used, f.Free = u.Total, u.Used, u.Free
	f.UsedPercent, f.Inodes = tenth(u.UsedPercent), tenth(u.InodesUsedPercent)
	return f
}

// remote is 1 for file systems that are served over a network or by a process, else 0.
func remote(kind string) int {
	for _, prefix := range []string{"nfs", "cifs", "smb", "fuse", "9p", "ceph", "glusterfs", "afs", "ncpfs", "webdav", "lustre", "beegfs"} {
		if strings.HasPrefix(kind, prefix) && kind != "fuseblk" {
			return 1
		}
	}
	return 0
}

// pseudo are the types of file systems that store nothing, or whose storage is listed elsewhere, or that are images and always full.
var pseudo = map[string]bool{
	"autofs": true, "binfmt_misc": true, "bpf": true, "cgroup": true, "cgroup2": true, "configfs": true, "debugfs": true,
	"devfs": true, "devpts": true, "devtmpfs": true, "efivarfs": true, "erofs": true, "fdescfs": true, "fuse.gvfsd-fuse": true,
	"fuse.lxcfs": true, "fuse.portal": true, "fuse.snapfuse": true, "fusectl": true, "hugetlbfs": true, "iso9660": true,
	"linprocfs": true, "linsysfs": true, "mqueue": true, "nsfs": true, "nullfs": true, "overlay": true, "proc": true,
	"procfs": true, "pstore": true, "ramfs": true, "rootfs": true, "rpc_pipefs": true, "securityfs": true, "selinuxfs": true,
	"squashfs": true, "sysfs": true, "tmpfs": true, "tracefs": true,
}

// realMounts returns the mounts that hold data: no pseudo file systems, and a bind mount only if nothing else shows its device,
// as in a container.
func realMounts(mounts []disk.PartitionStat) []disk.PartitionStat {
	var kept, binds []disk.PartitionStat
	shown := make(map[string]bool)
	for _, m := range mounts {
		switch {
		case pseudo[m.Fstype] && m.Mountpoint != "/", slices.Contains(m.Opts, "nobrowse"):
		case slices.Contains(m.Opts, "bind"):
			binds = append(binds, m)
		default:
			kept = append(kept, m)
			shown[m.Device] = true
		}
	}
	slices.SortStableFunc(binds, func(a, b disk.PartitionStat) int { return cmp.Compare(len(a.Mountpoint), len(b.Mountpoint)) })
	for _, m := range binds {
		if !shown[m.Device] {
			kept = append(kept, m)
			shown[m.Device] = true
		}
	}
	return kept
}

// diskDevices returns the devices, the busiest first, and whether they could be read.
func (h *hostServer) diskDevices(ctx context.Context, n *notes, all bool) ([]diskDevice, bool) {
	counters, ok := read(ctx, h, n, "disk counters", h.probes.diskIO)
	if !ok {
		return nil, false
	}
	var out []diskDevice
	for name, c := range counters {
		if !all && (virtualDisk(name) || partition(name, counters) || c.ReadCount+c.WriteCount == 0) {
			continue
		}
		out = append(out, diskDevice{
			Name: clean(name, maxName), Reads: c.ReadCount, ReadBytes: c.ReadBytes,
			Writes: c.WriteCount, WriteBytes: c.WriteBytes, BusyMS: c.IoTime,
		})
	}
	slices.SortFunc(out, func(a, b diskDevice) int {
		return cmp.Or(cmp.Compare(b.ReadBytes+b.WriteBytes, a.ReadBytes+a.WriteBytes), strings.Compare(a.Name, b.Name))
	})
	return out, true
}

func virtualDisk(name string) bool {
	return strings.HasPrefix(name, "loop") || strings.HasPrefix(name, "ram") || strings.HasPrefix(name, "zram") || strings.HasPrefix(name, "fd")
}

// partition reports whether name is a part of another device in counters, as sda1 is of sda and nvme0n1p2 of nvme0n1.
func partition(name string, counters map[string]disk.IOCountersStat) bool {
	whole := strings.TrimRight(name, "0123456789")
	if whole == name || whole == "" {
		return false
	}
	if _, ok := counters[whole]; ok {
		return true
	}
	whole, ok := strings.CutSuffix(whole, "p")
	if !ok || whole == "" || whole[len(whole)-1] < '0' || whole[len(whole)-1] > '9' {
		return false
	}
	_, ok = counters[whole]
	return ok
}

func (r *disksReport) text() string {
	var t text
	for _, f := range r.FileSystems {
		kind := joined(f.Type, f.Device)
		if f.ReadOnly {
			kind += ", read-only"
		}
		if f.Error != "" {
			t.linef("%s (%s): no figures: %s", f.Mountpoint, kind, f.Error)
			continue
		}
		inodes := ""
		if f.Inodes > 0 {
			inodes = fmt.Sprintf(", inodes %.1f%% used", f.Inodes)
		}
		t.linef("%s (%s): %.1f%% used, %s of %s, %s free%s", f.Mountpoint, kind, f.UsedPercent, size(f.Used), size(f.Total), size(f.Free), inodes)
	}
	if len(r.FileSystems) == 0 {
		t.linef("No file systems.")
	}
	for _, d := range r.Devices {
		t.linef("Device %s: read %s in %d reads, written %s in %d writes, busy %d ms", d.Name, size(d.ReadBytes), d.Reads, size(d.WriteBytes), d.Writes, d.BusyMS)
	}
	return t.end(r.Notes)
}
