package proxmox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
	"github.com/mcpgw/mcpgw/downstream/builtin/kit/kittest"
	"github.com/mcpgw/mcpgw/downstream/builtin/lab"
	"github.com/mcpgw/mcpgw/downstream/builtin/proxmox/sim"
)

// start returns a client of a server in front of a simulator whose tasks take hundredths of their time.
func start(t *testing.T, o sim.Options, access kit.Access) *kittest.Client {
	t.Helper()
	if o.Pace == 0 {
		o.Pace = 50
	}
	web := httptest.NewServer(sim.NewWith(o))
	t.Cleanup(web.Close)
	return client(t, kit.Config{URL: web.URL, Token: lab.Credential, Simulated: true, Access: access}, nil)
}

func client(t *testing.T, cfg kit.Config, change func(*server)) *kittest.Client {
	t.Helper()
	cfg.Simulated = cfg.Simulated || cfg.Token == lab.Credential // the form of a real token is not asked for then
	p, s, err := newServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.poll, p.most = 10*time.Millisecond, 20*time.Millisecond
	if change != nil {
		change(p)
	}
	p.addTools(s)
	return kittest.Connect(t, s)
}

func TestListIsSmall(t *testing.T) { start(t, sim.Options{}, kit.Read).CheckList(t, 2500) }

func TestAccess(t *testing.T) {
	for access, want := range map[kit.Access]int{kit.Read: 9, kit.Operate: 17, kit.Full: 20} {
		c := start(t, sim.Options{}, access)
		c.CheckList(t, 6500)
		if len(c.Tools) != want {
			t.Errorf("%s: %d tools, want %d", access, len(c.Tools), want)
		}
		for _, tool := range c.Tools {
			if !tool.Annotations.ReadOnlyHint && tool.Annotations.IdempotentHint {
				t.Errorf("%s: a second start of the same task is a second task", tool.Name)
			}
		}
	}
}

func TestReads(t *testing.T) {
	c := start(t, sim.Options{}, kit.Read)
	for _, tt := range []struct {
		tool  string
		args  map[string]any
		wants []string
	}{
		{"cluster", nil, []string{"homelab", `"quorate":true`, "pve3", "192.0.2.11", "9.0.11"}},
		{"guests", nil, []string{`"total":12`, "homeassistant", "container", "debian-13"}},
		{"guests", map[string]any{"search": "stopped"}, []string{"minecraft", "truenas-test"}},
		{"guest", map[string]any{"vmid": 100}, []string{"eth0 198.51.100.102", "local-zfs:vm-100-disk-0"}},
		{"guest", map[string]any{"vmid": 101}, []string{"eth0 198.51.100.103/24", "hostname"}},
		{"guest", map[string]any{"vmid": 107}, []string{"QEMU guest agent is not running"}},
		{"guest", map[string]any{"vmid": 9000}, []string{`"cipassword":"[redacted]"`, `"template":true`}},
		{"snapshots", map[string]any{"vmid": 100}, []string{`"total":2`, "before-2026-11", `"memory":true`}},
		{"storage", nil, []string{"nas-backup", `"shared":true`, `"total":7`}},
		{"backups", nil, []string{`"total":33`, "nas-backup:backup/vzdump-qemu-100-"}},
		{"backups", map[string]any{"vmid": 105}, []string{`"total":3`, "vzdump-lxc-105"}},
		{"tasks", nil, []string{"vzdump", "job errors", "UPID:"}},
		{"tasks", map[string]any{"errors": true}, []string{`"total":1`, "failed"}},
		{"tasks", map[string]any{"node": "pve1"}, []string{"pve1"}},
		{"metrics", map[string]any{"vmid": 100}, []string{"cpu_percent", `"total":24`, "average of about 3"}},
		{"metrics", map[string]any{"node": "pve2", "timeframe": "week"}, []string{"io_wait_percent", "load"}},
	} {
		r := c.OK(t, tt.tool, tt.args)
		for _, want := range tt.wants {
			if !r.Has(want) {
				t.Errorf("%s %v: no %s in\n%s\n%s", tt.tool, tt.args, want, r.Text, r.Raw)
			}
		}
		if !strings.HasPrefix(r.Text, "[simulated") || r.Structured["simulated"] != true {
			t.Errorf("%s: not marked as simulated", tt.tool)
		}
	}
	upid := c.OK(t, "tasks", map[string]any{"errors": true}).Structured["items"].([]any)[0].(map[string]any)["upid"]
	if r := c.OK(t, "task_log", map[string]any{"upid": upid}); !r.Has("TASK ERROR: job errors") || r.Structured["state"] != "failed" {
		t.Errorf("task_log: %s", r.Raw)
	}
	if left := c.Uncalled(); len(left) > 0 {
		t.Errorf("not called: %v", left)
	}
	if r := c.OK(t, "storage", map[string]any{"search": "nas"}); r.Structured["total"] != 1.0 {
		t.Errorf("a shared storage is listed once: %s", r.Raw)
	}
}

// TestLargeEstate keeps results under 48 KiB, which kittest checks.
func TestLargeEstate(t *testing.T) {
	c := start(t, sim.Options{Guests: 1000, Tasks: 900}, kit.Read)
	for tool, total := range map[string]float64{"guests": 1012, "backups": 3033, "tasks": 906} {
		r := c.OK(t, tool, map[string]any{"limit": 500})
		if r.Structured["total"] != total || r.Structured["next_offset"] == nil || !r.Has("shown; offset=") {
			t.Errorf("%s: total %v, note %v", tool, r.Structured["total"], r.Structured["note"])
		}
	}
	if r := c.OK(t, "guests", map[string]any{"search": "load-0999", "fields": []string{"vmid", "node"}}); !r.Has(`"items":[{"node":"pve1","vmid":10999}]`) {
		t.Errorf("search: %s", r.Raw)
	}
}

// TestWritesShow calls every tool that changes something and looks at what reads show then.
func TestWritesShow(t *testing.T) {
	c := start(t, sim.Options{}, kit.Full)
	status := func(vmid int) string {
		return fmt.Sprint(c.OK(t, "guest", map[string]any{"vmid": vmid}).Structured["summary"].(map[string]any)["status"])
	}
	done := func(tool string, args map[string]any) *kittest.Result {
		t.Helper()
		r := c.OK(t, tool, args)
		if r.Structured["state"] != "ok" || !r.Has("UPID:") || !r.Has("TASK OK") {
			t.Errorf("%s: %s", tool, r.Raw)
		}
		return r
	}
	for _, step := range []struct{ tool, want string }{
		{"start_guest", "running"}, {"reboot_guest", "running"}, {"shutdown_guest", "stopped"}, {"start_guest", "running"}, {"stop_guest", "stopped"},
	} {
		done(step.tool, map[string]any{"vmid": 109})
		if got := status(109); got != step.want {
			t.Errorf("%s: %s", step.tool, got)
		}
	}
	for _, vmid := range []int{100, 101} { // a VM while it runs, and a container
		done("migrate_guest", map[string]any{"vmid": vmid, "node": "pve3"})
		if r := c.OK(t, "guest", map[string]any{"vmid": vmid}); !r.Has(`"node":"pve3"`) {
			t.Errorf("migrate_guest: %s", r.Raw)
		}
	}
	done("create_snapshot", map[string]any{"vmid": 104, "name": "try-1", "description": "before trying", "memory": true})
	if r := c.OK(t, "snapshots", map[string]any{"vmid": 104}); !r.Has("try-1") || !r.Has("before trying") {
		t.Errorf("create_snapshot: %s", r.Raw)
	}
	done("rollback_snapshot", map[string]any{"vmid": 104, "name": "try-1"})
	done("delete_snapshot", map[string]any{"vmid": 104, "name": "try-1"})
	if r := c.OK(t, "snapshots", map[string]any{"vmid": 104}); r.Has("try-1") {
		t.Errorf("delete_snapshot: %s", r.Raw)
	}
	done("backup_guest", map[string]any{"vmid": 110, "notes": "by hand"})
	if r := c.OK(t, "backups", map[string]any{"vmid": 110}); r.Structured["total"] != 4.0 || !r.Has("by hand") {
		t.Errorf("backup_guest: %s", r.Raw)
	}
	if r := done("clone_guest", map[string]any{"vmid": 9000, "name": "fresh"}); !r.Has("the new guest has vmid 111") {
		t.Errorf("clone_guest: %s", r.Raw)
	}
	if r := c.OK(t, "guests", map[string]any{"search": "fresh"}); r.Structured["total"] != 1.0 {
		t.Errorf("clone_guest: %s", r.Raw)
	}
	done("delete_guest", map[string]any{"vmid": 111, "name": "fresh"})
	if r := c.OK(t, "guests", map[string]any{"search": "fresh"}); r.Structured["total"] != 0.0 {
		t.Errorf("delete_guest: %s", r.Raw)
	}
	for _, name := range c.Uncalled() {
		if !c.Session.InitializeResult().Capabilities.Tools.ListChanged && !slices.Contains([]string{"cluster", "storage", "tasks", "task_log", "metrics"}, name) {
			t.Errorf("not called: %s", name)
		}
	}
	heard := ""
	for len(c.Progress) > 0 {
		heard += <-c.Progress + "\n"
	}
	for _, want := range []string{"INFO:  51%", "migration active", "GiB of 8.0 GiB"} {
		if !strings.Contains(heard, want) {
			t.Errorf("no %q among the progress heard:\n%s", want, heard)
		}
	}
}

// TestRefusals: what Proxmox says in the reason phrase, and in errors, is what the caller reads; nothing of it is a failure of the system.
func TestRefusals(t *testing.T) {
	c := start(t, sim.Options{}, kit.Full)
	for _, tt := range []struct {
		tool string
		args map[string]any
		want string
	}{
		{"guest", map[string]any{"vmid": 999}, "there is no VM or container 999"},
		{"tasks", map[string]any{"node": "pve9"}, "hostname lookup 'pve9' failed"}, // HTTP 500
		{"backup_guest", map[string]any{"vmid": 100, "storage": "nowhere"}, "storage 'nowhere' does not exist"},
		{"backup_guest", map[string]any{"vmid": 100, "storage": "local"}, "(storage: storage 'local' does not support backups)"},      // HTTP 400 with errors
		{"migrate_guest", map[string]any{"vmid": 100, "node": "pve9"}, "Parameter verification failed (target: no such cluster node"}, // HTTP 400 with errors
		{"migrate_guest", map[string]any{"vmid": 100, "node": "pve1"}, "is on node pve1 already"},
		{"migrate_guest", map[string]any{"vmid": 100, "node": "../access"}, "expected letters"},
		{"start_guest", map[string]any{"vmid": 100}, "runs already on node pve1: nothing was done"},
		{"stop_guest", map[string]any{"vmid": 110}, "does not run"},
		{"start_guest", map[string]any{"vmid": 9000}, "is a template"},
		{"delete_snapshot", map[string]any{"vmid": 100, "name": "old"}, "there is: before-2026-10, before-2026-11"},
		{"delete_guest", map[string]any{"vmid": 109, "name": "pihole"}, `is called "truenas-test", not "pihole": nothing was deleted`},
		{"delete_guest", map[string]any{"vmid": 100, "name": "homeassistant"}, "shut it down first"},
		{"create_snapshot", map[string]any{"vmid": 100, "name": "x/y"}, "expected 2 to 40 letters"},
		{"clone_guest", map[string]any{"vmid": 100, "new_vmid": 101}, "unable to create VM 101: config file already exists"},
		{"clone_guest", map[string]any{"vmid": 100, "linked": true}, "is no template"},
		{"task_log", map[string]any{"upid": "UPID:pve1:../../x"}, "expected UPID:NODE"},
		{"metrics", nil, "give either vmid or node"},
		// Tasks that fail, with the end of their log.
		{"create_snapshot", map[string]any{"vmid": 100, "name": "before-2026-10"}, "TASK ERROR: snapshot name 'before-2026-10' already used"},
	} {
		r := c.Call(t, tt.tool, tt.args)
		if !r.IsError || !strings.Contains(r.Text, tt.want) {
			t.Errorf("%s %v: got %+v, want %s", tt.tool, tt.args, r, tt.want)
		}
	}
}

// TestDeafGuest: a VM that does not listen to its power button.
func TestDeafGuest(t *testing.T) {
	c := start(t, sim.Options{Pace: 1000}, kit.Operate)
	r := c.Call(t, "shutdown_guest", map[string]any{"vmid": 107, "timeout": 10})
	if !r.IsError || !r.Has("the task failed: VM quit/powerdown failed - got timeout") || !r.Has("TASK ERROR") {
		t.Errorf("got %+v", r)
	}
	if r := c.OK(t, "guests", map[string]any{"search": "win11"}); !r.Has("running") {
		t.Errorf("got %s", r.Raw)
	}
}

// TestLockedGuest: a task on a guest that another task has locked fails, and says so.
func TestLockedGuest(t *testing.T) {
	c := start(t, sim.Options{Pace: 1}, kit.Operate)
	r := c.OK(t, "backup_guest", map[string]any{"vmid": 100, "wait": false})
	if r.Structured["state"] != "running" || !r.Has("ask task_log") {
		t.Errorf("wait=false: %s", r.Raw)
	}
	if r := c.OK(t, "guests", map[string]any{"search": "homeassistant"}); !r.Has(`"lock":"backup"`) {
		t.Errorf("no lock: %s", r.Raw)
	}
	if r := c.Call(t, "create_snapshot", map[string]any{"vmid": 100, "name": "now"}); !r.IsError || !r.Has("VM is locked (backup)") {
		t.Errorf("got %+v", r)
	}
}

// TestSilentClients get an answer before anybody gives up, and can ask for the end.
func TestSilentClients(t *testing.T) {
	web := httptest.NewServer(sim.NewWith(sim.Options{Pace: 4}))
	defer web.Close()
	c := client(t, kit.Config{URL: web.URL, Token: lab.Credential, Access: kit.Operate}, func(p *server) { p.silent = 50 * time.Millisecond })
	res, err := c.Session.CallTool(t.Context(), &mcp.CallToolParams{Name: "start_guest", Arguments: map[string]any{"vmid": 109}})
	if err != nil || res.IsError {
		t.Fatal(err, res)
	}
	out := res.StructuredContent.(map[string]any)
	if out["state"] != "running" || !strings.Contains(fmt.Sprint(out["note"]), "goes on by itself") {
		t.Fatalf("got %v", out)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		if r := c.OK(t, "task_log", map[string]any{"upid": out["upid"]}); r.Structured["state"] == "ok" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the task does not end")
		}
	}
}

// TestEndOfACallEndsFollowing: the task goes on.
func TestEndOfACallEndsFollowing(t *testing.T) {
	web := httptest.NewServer(sim.NewWith(sim.Options{Pace: 0.01}))
	defer web.Close()
	c := client(t, kit.Config{URL: web.URL, Token: lab.Credential, Access: kit.Operate}, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	params := &mcp.CallToolParams{Name: "backup_guest", Arguments: map[string]any{"vmid": 100}}
	params.SetProgressToken("x")
	if _, err := c.Session.CallTool(ctx, params); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	if r := c.OK(t, "tasks", map[string]any{"search": "running"}); r.Structured["total"] != 1.0 {
		t.Errorf("got %s", r.Raw)
	}
}

// TestLostWhileFollowing: the write was done once, and its caller is told that it may have ended well.
func TestLostWhileFollowing(t *testing.T) {
	inner := sim.NewWith(sim.Options{})
	var starts, asked atomic.Int32
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/status/start") {
			starts.Add(1)
		}
		if strings.Contains(r.URL.Path, "/tasks/") {
			asked.Add(1)
			panic(http.ErrAbortHandler)
		}
		inner.ServeHTTP(w, r)
	}))
	defer web.Close()
	c := client(t, kit.Config{URL: web.URL, Token: lab.Credential, Access: kit.Operate}, nil)
	r := c.Call(t, "start_guest", map[string]any{"vmid": 109})
	if !r.IsError || !r.Has("was started, but how it goes on cannot be seen") || !r.Has("task UPID:pve3:") || starts.Load() != 1 || asked.Load() < 5 {
		t.Errorf("%d starts, %d questions: %+v", starts.Load(), asked.Load(), r)
	}
}

// TestNoTask: an answer without a UPID.
func TestNoTask(t *testing.T) {
	inner := sim.NewWith(sim.Options{})
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			_, _ = w.Write([]byte(`{"data":null}`))
			return
		}
		inner.ServeHTTP(w, r)
	}))
	defer web.Close()
	c := client(t, kit.Config{URL: web.URL, Token: lab.Credential, Access: kit.Operate}, nil)
	if r := c.Call(t, "start_guest", map[string]any{"vmid": 109}); !r.IsError || !r.Has("named no task") {
		t.Errorf("got %+v", r)
	}
}

func TestPing(t *testing.T) {
	web := httptest.NewServer(sim.NewWith(sim.Options{}))
	c := client(t, kit.Config{URL: web.URL, Token: lab.Credential}, nil)
	if err := c.Session.Ping(t.Context(), nil); err != nil {
		t.Error(err)
	}
	web.Close()
	err := c.Session.Ping(t.Context(), nil)
	if rpc, ok := errors.AsType[*jsonrpc.Error](err); !ok || rpc.Code != kit.CodeFailure {
		t.Errorf("got %v", err)
	}
}
