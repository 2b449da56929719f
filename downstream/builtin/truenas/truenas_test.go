package truenas_test

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
	"github.com/mcpgw/mcpgw/downstream/builtin/kit/kittest"
	"github.com/mcpgw/mcpgw/downstream/builtin/truenas"
	"github.com/mcpgw/mcpgw/downstream/builtin/truenas/sim"
)

func connect(t *testing.T, opts sim.Options, access kit.Access) (*kittest.Client, *sim.NAS) {
	t.Helper()
	if opts.Job == 0 {
		opts.Job = 400 * time.Millisecond
	}
	box := sim.NewWith(opts)
	web := httptest.NewServer(box)
	t.Cleanup(web.Close)
	s, err := truenas.New(kit.Config{URL: web.URL, Token: "lab", Username: "lab", Access: access, Simulated: true})
	if err != nil {
		t.Fatal(err)
	}
	return kittest.Connect(t, s), box
}

func TestListOfToolsIsSmall(t *testing.T) {
	c, _ := connect(t, sim.Options{}, kit.Read)
	c.CheckList(t, 2500)
	c, _ = connect(t, sim.Options{}, kit.Full)
	c.CheckList(t, 5500)
}

var reads = []struct {
	tool string
	args map[string]any
	want string
}{
	{"overview", nil, "DEGRADED"},
	{"overview", nil, "ups"},
	{"pools", nil, "data mirror-0: nvme1n1 is REMOVED, 9 errors"},
	{"pools", map[string]any{"fields": []string{"name", "vdevs"}}, "sda sdb sdc sdd sde sdf"},
	{"datasets", nil, "tank/home/alice"},
	{"datasets", map[string]any{"under": "tank/home", "fields": []string{"id", "compression"}}, "lz4"},
	{"snapshots", map[string]any{"dataset": "tank/media"}, "tank/media@auto-"},
	{"disks", map[string]any{"search": "nvme"}, "Samsung"},
	{"shares", map[string]any{"kind": "smb"}, "/mnt/tank/media"},
	{"shares", map[string]any{"kind": "nfs"}, "192.168.1.11"},
	{"shares", map[string]any{"kind": "iscsi_targets"}, "vmstore"},
	{"shares", map[string]any{"kind": "iscsi_extents"}, "zvol/fast/vms"},
	{"workloads", map[string]any{"kind": "apps"}, "http://0.0.0.0:8096/"},
	{"workloads", map[string]any{"kind": "vms"}, "homeassistant"},
	{"workloads", map[string]any{"kind": "services"}, "cifs"},
	{"alerts", nil, "pending"},
	{"jobs", nil, "nothing found"},
}

func TestReads(t *testing.T) {
	for _, opts := range []sim.Options{{}, {Release: "25.04"}, {Release: "24.04"}, {Snapshots: 10_000, Datasets: 2000}} {
		c, _ := connect(t, opts, kit.Read)
		for _, r := range reads {
			got := c.OK(t, r.tool, r.args)
			if r.tool != "datasets" && !got.Has(r.want) {
				t.Errorf("%s: %s %v: no %q in\n%s", opts.Release, r.tool, r.args, r.want, got.Text)
			}
			for _, secret := range append([]string{sim.Trace}, sim.Secrets...) {
				if got.Has(secret) {
					t.Errorf("%s %v shows %q", r.tool, r.args, secret)
				}
			}
		}
		if left := c.Uncalled(); len(left) > 0 {
			t.Errorf("not called: %v", left)
		}
		smart := c.OK(t, "disks", nil)
		if kept := opts.Release == "25.04" || opts.Release == "24.04"; kept != smart.Has("read failure") || kept == smart.Has("keeps no SMART") {
			t.Errorf("%s: %s", opts.Release, smart.Text)
		}
	}
}

func TestNoFieldOpensASecret(t *testing.T) {
	c, _ := connect(t, sim.Options{}, kit.Read)
	for _, args := range []map[string]any{{"kind": "apps", "fields": []string{"config"}}, {"kind": "vms", "fields": []string{"devices"}}, {"kind": "vms", "search": "display-password"}} {
		if got := c.OK(t, "workloads", args); got.Has("lab-app-database") || got.Has("lab-vm-display") {
			t.Errorf("%v: %s", args, got.Raw)
		}
	}
	if got := c.OK(t, "disks", map[string]any{"fields": []string{"passwd"}}); got.Has("lab-disk-sed") {
		t.Error(got.Raw)
	}
}

func TestLargeEstate(t *testing.T) {
	c, _ := connect(t, sim.Options{Snapshots: 10_000}, kit.Read)
	if got := c.OK(t, "snapshots", map[string]any{"limit": 500}); got.Structured["total"] != 10_035.0 || !got.Has("shown; offset=") {
		t.Errorf("total %v", got.Structured["total"])
	}
	if got := c.OK(t, "snapshots", map[string]any{"search": "generated-09999"}); got.Structured["total"] != 1.0 {
		t.Errorf("got %s", got.Raw)
	}
	first := c.OK(t, "snapshots", map[string]any{"limit": 1, "dataset": "tank/media"})
	if !first.Has(`"held":true`) {
		t.Errorf("the newest is not first: %s", first.Raw)
	}
}

func TestSnapshots(t *testing.T) {
	for _, release := range []string{"25.10", "25.04"} {
		c, box := connect(t, sim.Options{Release: release}, kit.Full)
		c.OK(t, "snapshot_create", map[string]any{"dataset": "tank/home", "name": "before", "recursive": true})
		if got := c.OK(t, "snapshots", map[string]any{"search": "@before"}); got.Structured["total"] != 3.0 {
			t.Errorf("got %s", got.Raw)
		}
		if got := c.Call(t, "snapshot_create", map[string]any{"dataset": "tank/home", "name": "before"}); !got.IsError || !got.Has("EEXIST") || got.Has("Traceback") {
			t.Errorf("got %s", got.Text)
		}
		c.OK(t, "snapshot_delete", map[string]any{"id": "tank/home@before"})
		if got := c.OK(t, "snapshots", map[string]any{"search": "tank/home@before"}); got.Structured["total"] != 0.0 {
			t.Errorf("still there: %s", got.Raw)
		}
		if got := c.Call(t, "snapshot_delete", map[string]any{"id": "tank/home@before"}); !got.IsError || !got.Has("ENOENT") {
			t.Errorf("got %s", got.Text)
		}
		oldest := c.OK(t, "snapshots", map[string]any{"dataset": "tank/media", "offset": 6}).Structured["items"].([]any)[0].(map[string]any)["id"]
		args := map[string]any{"id": oldest, "confirm": "tank/media"}
		if got := c.Call(t, "snapshot_rollback", args); !got.IsError || !got.Has("discard_newer") {
			t.Errorf("got %s", got.Text)
		}
		args["discard_newer"] = true
		c.OK(t, "snapshot_rollback", args)
		if got := c.OK(t, "snapshots", map[string]any{"dataset": "tank/media"}); got.Structured["total"] != 1.0 {
			t.Errorf("got %s", got.Raw)
		}
		if got := c.Call(t, "snapshot_rollback", map[string]any{"id": oldest, "confirm": "yes"}); !got.IsError || !got.Has("nothing was done") {
			t.Errorf("got %s", got.Text)
		}
		if n := box.Asked("zfs.snapshot.delete") + box.Asked("pool.snapshot.delete"); (release == "25.10" && n != 2) || n > 4 {
			t.Errorf("%s: %d deletes", release, n)
		}
	}
}

func TestDatasets(t *testing.T) {
	c, _ := connect(t, sim.Options{}, kit.Full)
	c.OK(t, "dataset_create", map[string]any{"name": "tank/media/films", "set": map[string]any{"compression": "zstd", "quota": 1_000_000}})
	got := c.OK(t, "dataset_update", map[string]any{"id": "tank/media/films", "set": map[string]any{"readonly": "ON", "quota": 2_000_000}})
	if !got.Has(`"quota":2000000`) || !got.Has(`"readonly":"ON"`) {
		t.Errorf("got %s", got.Raw)
	}
	if got := c.Call(t, "dataset_create", map[string]any{"name": "nopool/x"}); !got.IsError || !got.Has("pool_dataset_create.name: Parent dataset nopool does not exist") {
		t.Errorf("got %s", got.Text)
	}
	for _, args := range []map[string]any{{"id": "tank", "confirm": "tank", "recursive": true}, {"id": "tank/media", "confirm": "yes"}, {"id": "tank/home", "confirm": "tank/home"}, {"id": "tank/none", "confirm": "tank/none"}} {
		if got := c.Call(t, "dataset_delete", args); !got.IsError {
			t.Errorf("%v was accepted", args)
		}
	}
	c.OK(t, "dataset_delete", map[string]any{"id": "tank/home", "confirm": "tank/home", "recursive": true})
	if got := c.OK(t, "datasets", map[string]any{"under": "tank/home"}); got.Structured["total"] != 0.0 {
		t.Errorf("still there: %s", got.Raw)
	}
	if got := c.OK(t, "snapshots", map[string]any{"dataset": "tank/home/alice"}); got.Structured["total"] != 0.0 {
		t.Errorf("snapshots of what is gone: %s", got.Raw)
	}
}

func TestControl(t *testing.T) {
	for _, release := range []string{"25.10", "25.04"} {
		c, box := connect(t, sim.Options{Release: release}, kit.Full)
		c.OK(t, "service_control", map[string]any{"service": "ups", "action": "start"})
		if got := c.OK(t, "overview", nil); got.Has(`"stopped_services"`) {
			t.Errorf("%s: got %s", release, got.Raw)
		}
		if got := c.Call(t, "service_control", map[string]any{"service": "toaster", "action": "stop"}); !got.IsError || !got.Has("toaster not found") {
			t.Errorf("got %s", got.Text)
		}
		stopped := c.OK(t, "app_control", map[string]any{"app": "jellyfin", "action": "stop"})
		if stopped.Structured["state"] != "SUCCESS" || stopped.Structured["percent"] != 100.0 {
			t.Errorf("got %s", stopped.Raw)
		}
		if got := <-c.Progress; got == "" {
			t.Error("no progress")
		}
		if got := c.OK(t, "workloads", map[string]any{"kind": "apps", "search": "jellyfin"}); !got.Has("STOPPED") {
			t.Errorf("got %s", got.Text)
		}
		if got := c.Call(t, "app_control", map[string]any{"app": "broken", "action": "start"}); !got.IsError || !got.Has("failed") || !got.Has("app_lifecycle.log") {
			t.Errorf("got %s", got.Text)
		}
		c.OK(t, "app_upgrade", map[string]any{"app": "jellyfin"})
		if got := c.Call(t, "app_upgrade", map[string]any{"app": "jellyfin"}); !got.IsError || !got.Has("No upgrade available") {
			t.Errorf("got %s", got.Text)
		}
		c.OK(t, "vm_control", map[string]any{"id": 2, "action": "start"})
		if got := c.OK(t, "workloads", map[string]any{"kind": "vms", "search": "win11"}); !got.Has("RUNNING") {
			t.Errorf("got %s", got.Text)
		}
		c.OK(t, "vm_control", map[string]any{"id": 2, "action": "stop"})
		c.OK(t, "vm_control", map[string]any{"id": 1, "action": "force_stop", "wait": false})
		if got := c.OK(t, "jobs", map[string]any{"state": "RUNNING"}); !got.Has("vm.stop") {
			t.Errorf("got %s", got.Text)
		}
		if got := c.OK(t, "scrub", map[string]any{"pool": "tank"}); !got.Has("the tool pools shows") {
			t.Errorf("got %s", got.Text)
		}
		if got := c.OK(t, "pools", map[string]any{"search": "tank"}); !got.Has("scrub scanning") {
			t.Errorf("got %s", got.Text)
		}
		c.OK(t, "scrub", map[string]any{"pool": "fast", "wait": true})
		if n := box.Asked("pool.scrub.scrub"); n != 2 {
			t.Errorf("%d scrubs", n)
		}
		alerts := c.OK(t, "alerts", nil).Structured["items"].([]any)
		first := alerts[0].(map[string]any)
		if first["level"] != "CRITICAL" {
			t.Errorf("got %v", first)
		}
		c.OK(t, "alert_dismiss", map[string]any{"uuid": first["uuid"]})
		if got := c.OK(t, "alerts", nil); got.Structured["total"] != 2.0 {
			t.Errorf("got %s", got.Raw)
		}
		c.OK(t, "alert_dismiss", map[string]any{"uuid": first["uuid"], "restore": true})
		if got := c.Call(t, "alert_dismiss", map[string]any{"uuid": "none"}); !got.IsError {
			t.Error("dismissed nothing")
		}
	}
}

// A key that arrives without encryption is revoked, so it must not be sent.
func TestNeverUnencrypted(t *testing.T) {
	for _, url := range []string{"http://nas.example", "ws://192.0.2.10", "ws://192.0.2.10/api/current", "http://localhost.example"} {
		_, err := truenas.New(kit.Config{URL: url, Token: "key-of-mine"})
		if err == nil || !strings.Contains(err.Error(), "revokes an API key") || strings.Contains(err.Error(), "key-of-mine") {
			t.Errorf("%s: %v", url, err)
		}
	}
	for _, url := range []string{"https://nas", "wss://nas/api/current", "ws://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"} {
		if _, err := truenas.New(kit.Config{URL: url, Token: "x"}); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	if _, err := truenas.New(kit.Config{URL: "https://nas"}); err == nil || !strings.Contains(err.Error(), "token: missing") {
		t.Errorf("got %v", err)
	}
}
