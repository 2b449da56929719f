package builtin

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/load"
	"github.com/shirou/gopsutil/v4/mem"
	"github.com/shirou/gopsutil/v4/net"
	"github.com/shirou/gopsutil/v4/sensors"
)

const gib = 1 << 30

// value returns a probe that always gives v.
func value[T any](v T) func(context.Context) (T, error) {
	return func(context.Context) (T, error) { return v, nil }
}

// fakeMachine is a small server on which nothing changes but the processor time: each look at it finds 1 s more, of which cpu1 was busy
// for 0.75 s and cpu0 for 0.25 s.
func fakeMachine() probes {
	var looks [2]float64
	procLooks := map[int32]float64{}
	return probes{
		hostname: value("web1"), platform: value("debian 13.1"), kernel: value("6.12.48"), arch: value("x86_64"), virtual: value("kvm guest"),
		bootTime: value[uint64](1_790_000_000), uptime: value[uint64](3*86400 + 4*3600 + 5*60), sessions: value(2),
		load:     value(&load.AvgStat{Load1: 0.5, Load5: 0.25, Load15: 0.125}),
		cpuInfo:  value([]cpu.InfoStat{{ModelName: "Fast  CPU\n9000", Mhz: 3200}, {ModelName: "Fast CPU 9000", Mhz: 3200}}),
		cpuCount: func(context.Context, bool) (int, error) { return 2, nil },
		cpuTimes: func(_ context.Context, per bool) ([]cpu.TimesStat, error) {
			if !per {
				looks[0]++
				n := looks[0]
				return []cpu.TimesStat{{CPU: "cpu-total", User: n * 0.75, System: n * 0.25, Iowait: n * 0.5, Idle: n * 0.5, Guest: n * 0.75}}, nil
			}
			looks[1]++
			n := looks[1]
			return []cpu.TimesStat{{CPU: "cpu0", User: n * 0.25, Idle: n * 0.75}, {CPU: "cpu1", User: n * 0.75, Idle: n * 0.25}}, nil
		},
		memory: value(&mem.VirtualMemoryStat{Total: 16 * gib, Used: 4 * gib, Available: 11 * gib, Free: 6 * gib, Cached: 5 * gib}),
		swap:   value(&mem.SwapMemoryStat{Total: 2 * gib, Used: gib / 2}),
		mounts: value([]disk.PartitionStat{
			{Device: "/dev/vda1", Mountpoint: "/", Fstype: "ext4", Opts: []string{"rw"}},
			{Device: "proc", Mountpoint: "/proc", Fstype: "proc"},
			{Device: "tmpfs", Mountpoint: "/run", Fstype: "tmpfs"},
			{Device: "/dev/vda1", Mountpoint: "/srv/bound", Fstype: "ext4", Opts: []string{"rw", "bind"}},
			{Device: "//backup:hunter2@nas/share", Mountpoint: "/mnt/nas", Fstype: "cifs", Opts: []string{"ro"}},
		}),
		usage: func(_ context.Context, path string) (*disk.UsageStat, error) {
			return map[string]*disk.UsageStat{
				"/":          {Total: 100 * gib, Used: 25 * gib, Free: 75 * gib, UsedPercent: 25, InodesUsedPercent: 3.14},
				"/mnt/nas":   {Total: 1024 * gib, Used: 768 * gib, Free: 256 * gib, UsedPercent: 75},
				"/run":       {Total: gib, Free: gib},
				"/srv/bound": {Total: 100 * gib, Used: 25 * gib, Free: 75 * gib, UsedPercent: 25},
				"/proc":      {},
			}[path], nil
		},
		diskIO: value(map[string]disk.IOCountersStat{
			"vda":  {ReadCount: 1000, ReadBytes: 2 * gib, WriteCount: 500, WriteBytes: gib, IoTime: 1234},
			"vda1": {ReadCount: 1000, ReadBytes: 2 * gib, WriteCount: 500, WriteBytes: gib}, "loop0": {ReadCount: 1}, "dm-1": {}, "dm-10": {ReadCount: 3, ReadBytes: 4096},
		}),
		links: value(net.InterfaceStatList{
			{Name: "lo", Flags: []string{"up", "loopback"}, MTU: 65536, Addrs: net.InterfaceAddrList{{Addr: "127.0.0.1/8"}}},
			{Name: "eth0", Flags: []string{"up"}, MTU: 1500, HardwareAddr: "02:00:00:00:00:01", Addrs: net.InterfaceAddrList{{Addr: "192.0.2.7/24"}, {Addr: "2001:db8::7/64"}}},
			{Name: "wg0", Flags: []string{"up"}, MTU: 1420},
			{Name: "veth12", Flags: []string{"up"}, MTU: 1500},
		}),
		linkIO: value([]net.IOCountersStat{
			{Name: "eth0", BytesRecv: 3 * gib, PacketsRecv: 3000, BytesSent: gib, PacketsSent: 1000, Errin: 1, Errout: 2, Dropin: 4, Dropout: 8},
		}),
		sensors: value([]sensors.TemperatureStat{
			{SensorKey: "nvme_composite", Temperature: 38.85, High: 81.85, Critical: 84.85},
			{SensorKey: "coretemp_package_id_0", Temperature: 55},
		}),
		processes:  value([]int32{1, 20, 300}),
		procName:   func(_ context.Context, pid int32) (string, error) { return fmt.Sprintf("task-%d", pid), nil },
		procMemory: func(_ context.Context, pid int32) (uint64, error) { return uint64(pid) << 20, nil },
		procCPU: func(_ context.Context, pid int32) (float64, error) {
			procLooks[pid]++
			return procLooks[pid] / float64(pid), nil
		},
		procDetail: func(context.Context, int32) procDetail {
			return procDetail{user: "www", state: "sleep", started: time.Unix(1_790_000_100, 0)}
		},
	}
}

// hugeMachine has more of everything than anyone wants to read, under names that are too long and not clean.
func hugeMachine() probes {
	p := fakeMachine()
	long := func(kind string, n int) string { return fmt.Sprintf("%s-%05d-\x1b[31m\n%0500d", kind, n, n) }
	p.cpuTimes = func(_ context.Context, per bool) ([]cpu.TimesStat, error) {
		n := 1
		if per {
			n = 2000
		}
		t := make([]cpu.TimesStat, n)
		for i := range t {
			t[i] = cpu.TimesStat{CPU: fmt.Sprintf("cpu%d", i), User: float64(time.Now().UnixNano()) / 1e9}
		}
		return t, nil
	}
	pids := make([]int32, 5000)
	var mounts []disk.PartitionStat
	counters := map[string]disk.IOCountersStat{}
	var links net.InterfaceStatList
	var temps []sensors.TemperatureStat
	for i := range pids {
		pids[i] = int32(i + 1)
		if i < 500 {
			mounts = append(mounts, disk.PartitionStat{Device: long("/dev/disk", i), Mountpoint: long("/mnt", i), Fstype: "xfs"})
			counters[long("disk", i)] = disk.IOCountersStat{ReadCount: 1, ReadBytes: uint64(i)}
			l := net.InterfaceStat{Name: long("eth", i), Flags: []string{"up"}}
			for range 50 {
				l.Addrs = append(l.Addrs, net.InterfaceAddr{Addr: long("addr", i)})
			}
			links = append(links, l)
			temps = append(temps, sensors.TemperatureStat{SensorKey: long("sensor", i), Temperature: float64(i)})
		}
	}
	p.processes, p.mounts, p.diskIO, p.links, p.sensors = value(pids), value(mounts), value(counters), value(links), value(temps)
	p.usage = func(context.Context, string) (*disk.UsageStat, error) {
		return &disk.UsageStat{Total: gib, Used: gib / 2, UsedPercent: 50}, nil
	}
	p.procName = func(_ context.Context, pid int32) (string, error) { return long("task", int(pid)), nil }
	p.procDetail = func(context.Context, int32) procDetail {
		return procDetail{user: long("user", 1), state: long("state", 1)}
	}
	p.procCPU = func(_ context.Context, pid int32) (float64, error) {
		return float64(pid) * float64(time.Now().UnixNano()) / 1e9, nil
	}
	return p
}

var errBroken = errors.New("permission denied: /sys\x00 is not there")

// broken returns the probes of a machine on which each ends in the way that end says: with an error, a panic, or by returning
// neither a value nor an error.
func broken(end func(result []reflect.Value)) probes {
	var p probes
	all := reflect.ValueOf(&p).Elem()
	// Unexported fields can be read by reflection but not set, so all are listed; the test that uses this checks that none is nil.
	set := func(field any) {
		f := reflect.ValueOf(field).Elem()
		f.Set(reflect.MakeFunc(f.Type(), func([]reflect.Value) []reflect.Value {
			out := make([]reflect.Value, f.Type().NumOut())
			for i := range out {
				out[i] = reflect.Zero(f.Type().Out(i))
			}
			end(out)
			return out
		}))
	}
	for _, f := range []any{
		&p.hostname, &p.platform, &p.kernel, &p.arch, &p.virtual, &p.bootTime, &p.uptime, &p.sessions, &p.load, &p.cpuInfo, &p.cpuCount,
		&p.cpuTimes, &p.memory, &p.swap, &p.mounts, &p.usage, &p.diskIO, &p.links, &p.linkIO, &p.sensors, &p.processes, &p.procName,
		&p.procCPU, &p.procMemory, &p.procDetail,
	} {
		set(f)
	}
	for i := range all.NumField() {
		if all.Field(i).IsNil() {
			panic("broken does not set " + all.Type().Field(i).Name)
		}
	}
	return p
}
