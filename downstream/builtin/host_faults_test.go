package builtin

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/sensors"
)

func TestHostListsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := hugeMachine()
		c := connect(t, &p, "")
		for tool, test := range map[string]struct {
			list, left    string
			standard, all int
			few, many     int // bytes
			most          map[string]any
			mostEntries   int
		}{
			"cpu":          {"cores_percent", "cores_left_out", 64, 2000, 4 << 10, 24 << 10, map[string]any{"max_cores": 1024}, 1024},
			"disks":        {"filesystems", "filesystems_left_out", 20, 500, 40 << 10, 400 << 10, map[string]any{"limit": 200}, 200},
			"network":      {"interfaces", "left_out", 20, 500, 64 << 10, 640 << 10, map[string]any{"limit": 200}, 200},
			"processes":    {"processes", "left_out", 10, 5000, 16 << 10, 160 << 10, map[string]any{"limit": 100}, 100},
			"temperatures": {"sensors", "left_out", 40, 500, 16 << 10, 80 << 10, map[string]any{"limit": 200}, 200},
		} {
			check := func(args map[string]any, entries, bytes int) {
				t.Helper()
				got := call(t, c, tool, args)
				list, _ := got.structured[test.list].([]any)
				left := fmt.Sprint(got.structured[test.left])
				if len(list) != entries || left != strconv.Itoa(test.all-entries) {
					t.Errorf("%s %v: %d entries and %s left out, want %d and %d", tool, args, len(list), left, entries, test.all-entries)
				}
				if got.bytes > bytes {
					t.Errorf("%s %v: %d bytes, want at most %d", tool, args, got.bytes, bytes)
				}
				if !strings.Contains(got.text, left) || !strings.Contains(got.text, "left out") {
					t.Errorf("%s: the text does not say that %s are left out", tool, left)
				}
				if i := strings.IndexFunc(got.text, func(r rune) bool { return r != '\n' && unicode.IsControl(r) }); i >= 0 {
					t.Errorf("%s: control character %q in the text", tool, got.text[i:i+1])
				}
			}
			check(nil, test.standard, test.few)
			check(test.most, test.mostEntries, test.many)
		}
		if got := call(t, c, "overview", nil); got.bytes > 2<<10 {
			t.Errorf("overview has %d bytes", got.bytes)
		}
		c.Close()
	})
}

// Whatever single probe fails, the others still report.
func TestHostProbeFailuresAreNotes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fakeMachine()
		fails := broken(func(out []reflect.Value) {
			if last := len(out) - 1; out[last].Type() == reflect.TypeFor[error]() {
				out[last] = reflect.ValueOf(&errBroken).Elem()
			}
		})
		p.hostname, p.uptime, p.swap, p.diskIO, p.linkIO, p.cpuInfo, p.usage = fails.hostname, fails.uptime, fails.swap, fails.diskIO, fails.linkIO, fails.cpuInfo, fails.usage
		c := connect(t, &p, "")
		for tool, want := range map[string][]string{
			"overview": {"(name unknown): debian 13.1", "booted 2026", "11.0 GiB of 16.0 GiB", "Note: host name: permission denied", "Note: uptime: permission denied"},
			"memory":   {"11.0 GiB available", "Note: swap: permission denied"},
			"disks":    {"/ (ext4, /dev/vda1): no figures: permission denied", "Note: disk counters: permission denied"},
			"network":  {"eth0 (up", "192.0.2.7/24", "Note: traffic: permission denied"},
			"cpu":      {"CPU model unknown", "50.0% busy", "Note: model: permission denied"},
		} {
			got := call(t, c, tool, nil)
			for _, w := range want {
				if got.isError || !strings.Contains(got.text, w) {
					t.Errorf("%s: isError %v, %q does not say %q", tool, got.isError, got.text, w)
				}
			}
			if strings.Contains(got.text, "\x00") {
				t.Errorf("%s: control character of an error in %q", tool, got.text)
			}
		}
		c.Close()
	})
}

// On a machine where nothing works, each tool says so, and the overview and the temperatures, for which that is normal, are no errors.
func TestHostNothingWorks(t *testing.T) {
	for name, test := range map[string]struct {
		end  func([]reflect.Value)
		want string
	}{
		"errors": {func(out []reflect.Value) {
			if last := len(out) - 1; out[last].Type() == reflect.TypeFor[error]() {
				out[last] = reflect.ValueOf(&errBroken).Elem()
			}
		}, "permission denied"},
		"panics":  {func([]reflect.Value) { panic("index out of range") }, "the probe panicked: index out of range"},
		"nothing": {func([]reflect.Value) {}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := broken(test.end)
				c := connect(t, &p, "")
				for _, tool := range hostTools {
					got := call(t, c, tool, nil)
					if !strings.Contains(got.text, test.want) {
						t.Errorf("%s: %q does not say %q", tool, got.text, test.want)
					}
					if got.isError && (tool == "overview" || tool == "temperatures") {
						t.Errorf("%s is an error: %s", tool, got.text)
					}
					if !got.isError && test.want != "" && tool != "overview" && tool != "temperatures" && tool != "cpu" {
						t.Errorf("%s is no error: %s", tool, got.text)
					}
				}
				c.Close()
			})
		})
	}
}

// A dead network mount blocks whoever asks for its usage, and no context helps.
func TestHostHangingMount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fakeMachine()
		usage, dead := p.usage, make(chan struct{})
		var calls atomic.Int64
		p.usage = func(ctx context.Context, path string) (*disk.UsageStat, error) {
			if path == "/mnt/nas" {
				calls.Add(1)
				<-dead
				return nil, errors.New("stale file handle")
			}
			return usage(ctx, path)
		}
		c := connect(t, &p, "")
		for range 3 {
			began := time.Now()
			got := call(t, c, "disks", nil)
			if passed := time.Since(began); passed != usageTime {
				t.Errorf("took %v, want %v", passed, usageTime)
			}
			if !strings.Contains(got.text, "/ (ext4, /dev/vda1): 25.0% used") || !strings.Contains(got.text, "/mnt/nas (cifs, //nas/share, read-only): no figures: no answer within 1s") {
				t.Error(got.text)
			}
		}
		if n := calls.Load(); n != 1 {
			t.Errorf("%d probes hang, want 1", n)
		}
		close(dead)
		synctest.Wait()
		c.Close()
	})
}

// Probes that hang keep nobody who gave up, and what they find later is dropped.
func TestHostCancel(t *testing.T) {
	for _, tool := range hostTools {
		t.Run(tool, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				p := broken(func([]reflect.Value) { <-release })
				s, err := newHostWith(Config{}, p)
				if err != nil {
					t.Fatal(err)
				}
				ended := make(chan struct{})
				s.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
					return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
						if method == "tools/call" {
							defer close(ended)
						}
						return next(ctx, method, req)
					}
				})
				c := connectTo(t, s, "")
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				began := time.Now()
				if _, err := c.CallTool(ctx, &mcp.CallToolParams{Name: tool}); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
				<-ended
				if passed := time.Since(began); passed != 100*time.Millisecond {
					t.Errorf("the handler ended after %v, want 100ms", passed)
				}
				close(release)
				synctest.Wait()
				c.Close()
			})
		})
	}
}

func TestHostTemperatureWarnings(t *testing.T) {
	p := fakeMachine()
	p.sensors = func(context.Context) ([]sensors.TemperatureStat, error) {
		w := &sensors.Warnings{}
		w.Add(errors.New("hwmon1: input/output error"))
		return []sensors.TemperatureStat{{SensorKey: "cpu", Temperature: math.NaN()}, {SensorKey: "ssd", Temperature: 40}}, w
	}
	c := connect(t, &p, "")
	want := "ssd: 40.0 °C\ncpu: 0.0 °C\nNote: 1 sensors could not be read: hwmon1: input/output error"
	if diff := cmp.Diff(want, call(t, c, "temperatures", nil).text); diff != "" {
		t.Error(diff)
	}
	p.sensors = value[[]sensors.TemperatureStat](nil)
	c = connect(t, &p, "")
	got := call(t, c, "temperatures", nil)
	if got.isError || !strings.HasPrefix(got.text, "None available") {
		t.Errorf("isError %v: %s", got.isError, got.text)
	}
}

// Probes of one name wait for their turn, and a slot that is given back serves the next.
func TestRunTakesTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r runner
		began := time.Now()
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				_, err := run(t.Context(), &r, "probe", 2, time.Minute, func(context.Context) (int, error) {
					time.Sleep(10 * time.Second)
					return 1, nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if passed := time.Since(began); passed != 20*time.Second {
			t.Errorf("four probes, two at a time, took %v, want 20s", passed)
		}
		if len(r.gates) != 0 {
			t.Errorf("%d gates are left", len(r.gates))
		}
	})
}
