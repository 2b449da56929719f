package builtin

import (
	"context"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/host"
	"github.com/shirou/gopsutil/v4/load"
	"github.com/shirou/gopsutil/v4/mem"
	"github.com/shirou/gopsutil/v4/net"
	"github.com/shirou/gopsutil/v4/process"
	"github.com/shirou/gopsutil/v4/sensors"
)

// probes are the ways in which the machine is asked. What they return may be shared and is not changed.
type probes struct {
	hostname, platform, kernel, arch, virtual func(context.Context) (string, error)
	bootTime, uptime                          func(context.Context) (uint64, error) // seconds since 1970; seconds
	sessions                                  func(context.Context) (int, error)

	load      func(context.Context) (*load.AvgStat, error)
	cpuInfo   func(context.Context) ([]cpu.InfoStat, error) // one per logical processor on Linux, fewer elsewhere
	cpuCount  func(ctx context.Context, logical bool) (int, error)
	cpuTimes  func(ctx context.Context, perCPU bool) ([]cpu.TimesStat, error)
	memory    func(context.Context) (*mem.VirtualMemoryStat, error)
	swap      func(context.Context) (*mem.SwapMemoryStat, error)
	mounts    func(context.Context) ([]disk.PartitionStat, error) // all of them
	usage     func(ctx context.Context, mountpoint string) (*disk.UsageStat, error)
	diskIO    func(context.Context) (map[string]disk.IOCountersStat, error)
	links     func(context.Context) (net.InterfaceStatList, error)
	linkIO    func(context.Context) ([]net.IOCountersStat, error)
	sensors   func(context.Context) ([]sensors.TemperatureStat, error) // may return values and a *sensors.Warnings
	processes func(context.Context) ([]int32, error)

	procName   func(context.Context, int32) (string, error)
	procCPU    func(context.Context, int32) (float64, error) // seconds of processor time since its start
	procMemory func(context.Context, int32) (uint64, error)  // resident bytes
	procDetail func(context.Context, int32) procDetail
}

// procDetail is what is read only for the processes that are listed. What cannot be read is empty.
type procDetail struct {
	user, state string
	started     time.Time
}

// cacheBootTime spares two files per process. The time is kept by gopsutil for the life of our process; only the start times of
// other processes are computed with it.
var cacheBootTime = sync.OnceFunc(func() { process.EnableBootTimeCache(true) })

// machine returns the probes of the real machine. HOST_PROC, HOST_SYS and the like in the environment move them, as gopsutil
// documents, for a gateway in a container that has the host's file systems mounted.
func machine() probes {
	cacheBootTime()
	return probes{
		hostname: func(context.Context) (string, error) { return os.Hostname() },
		// Where there is no /etc/lsb-release, gopsutil starts a program.
		platform: remember(func(ctx context.Context) (string, error) {
			name, _, version, err := host.PlatformInformationWithContext(ctx)
			return strings.TrimSpace(name + " " + version), err
		}),
		kernel: host.KernelVersionWithContext,
		arch:   func(context.Context) (string, error) { return host.KernelArch() },
		virtual: func(ctx context.Context) (string, error) {
			system, role, err := host.VirtualizationWithContext(ctx)
			return strings.TrimSpace(system + " " + role), err
		},
		bootTime: host.BootTimeWithContext,
		uptime:   host.UptimeWithContext,
		sessions: func(ctx context.Context) (int, error) {
			users, err := host.UsersWithContext(ctx)
			return len(users), err
		},
		load:     load.AvgWithContext,
		cpuInfo:  cpu.InfoWithContext,
		cpuCount: cpu.CountsWithContext,
		cpuTimes: cpu.TimesWithContext,
		memory:   mem.VirtualMemoryWithContext,
		swap:     mem.SwapMemoryWithContext,
		// Asked for less, gopsutil leaves out all network mounts, and in a container everything.
		mounts: func(ctx context.Context) ([]disk.PartitionStat, error) { return disk.PartitionsWithContext(ctx, true) },
		usage:  disk.UsageWithContext,
		diskIO: func(ctx context.Context) (map[string]disk.IOCountersStat, error) {
			return disk.IOCountersWithContext(ctx)
		},
		links:  net.InterfacesWithContext,
		linkIO: func(ctx context.Context) ([]net.IOCountersStat, error) { return net.IOCountersWithContext(ctx, true) },

		sensors:   sensors.TemperaturesWithContext,
		processes: process.PidsWithContext,
		procName: func(ctx context.Context, pid int32) (string, error) {
			name, err := (&process.Process{Pid: pid}).NameWithContext(ctx)
			if runtime.GOOS == "linux" {
				name = bareName(name)
			}
			return name, err
		},
		procCPU: func(ctx context.Context, pid int32) (float64, error) {
			t, err := (&process.Process{Pid: pid}).TimesWithContext(ctx)
			if err != nil {
				return 0, err
			}
			return t.User + t.System, nil
		},
		procMemory: func(ctx context.Context, pid int32) (uint64, error) {
			m, err := (&process.Process{Pid: pid}).MemoryInfoWithContext(ctx)
			if err != nil {
				return 0, err
			}
			return m.RSS, nil
		},
		procDetail: func(ctx context.Context, pid int32) procDetail {
			p := &process.Process{Pid: pid}
			var d procDetail
			d.user, _ = p.UsernameWithContext(ctx)
			if states, err := p.StatusWithContext(ctx); err == nil {
				d.state = strings.Join(states, " ")
			}
			if ms, err := p.CreateTimeWithContext(ctx); err == nil && ms > 0 {
				d.started = time.UnixMilli(ms).UTC()
			}
			return d
		},
	}
}

// remember returns a probe that asks probe until it succeeds once.
func remember[T any](probe func(context.Context) (T, error)) func(context.Context) (T, error) {
	var known atomic.Pointer[T]
	return func(ctx context.Context) (T, error) {
		if v := known.Load(); v != nil {
			return *v, nil
		}
		v, err := probe(ctx)
		if err == nil {
			known.Store(&v)
		}
		return v, err
	}
}

// bareName takes the arguments off a process name. Linux keeps 15 bytes of a name; gopsutil completes a name of that length from the
// first string of the command line, which a process that sets its title (node, postgres) has overwritten with all of its arguments.
func bareName(name string) string {
	const kept = 15
	if len(name) > kept && strings.ContainsAny(name, " \t\n=:@") {
		return name[:kept]
	}
	return name
}
