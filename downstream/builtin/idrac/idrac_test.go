package idrac

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/downstream/builtin/idrac/sim"
	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
	"github.com/mcpgw/mcpgw/downstream/builtin/kit/kittest"
	"github.com/mcpgw/mcpgw/downstream/builtin/lab"
)

// start returns a client of a server in front of a simulator in which things take hundredths of their time.
func start(t *testing.T, o sim.Options, access kit.Access) *kittest.Client {
	t.Helper()
	if o.Pace == 0 {
		o.Pace = 50
	}
	web := httptest.NewServer(sim.NewWith(o))
	t.Cleanup(web.Close)
	return client(t, kit.Config{URL: web.URL, Simulated: true, Access: access}, nil)
}

// client returns a client of a server, which logs in as the lab wants it unless cfg says otherwise.
func client(t *testing.T, cfg kit.Config, change func(*bmc)) *kittest.Client {
	t.Helper()
	if cfg.Username == "" {
		cfg.Username, cfg.Password = lab.Credential, lab.Credential
	}
	b, s, err := newServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.poll, b.most = 10*time.Millisecond, 20*time.Millisecond
	if change != nil {
		change(b)
	}
	b.addTools(s)
	return kittest.Connect(t, s)
}

func TestListIsSmall(t *testing.T) {
	web := httptest.NewServer(sim.New())
	defer web.Close()
	client(t, kit.Config{URL: web.URL}, nil).CheckList(t, 1800)
}

func TestAccess(t *testing.T) {
	for access, want := range map[kit.Access]int{kit.Read: 10, kit.Operate: 15, kit.Full: 17} {
		c := start(t, sim.Options{}, access)
		c.CheckList(t, 4500)
		if len(c.Tools) != want {
			t.Errorf("%s: %d tools, want %d", access, len(c.Tools), want)
		}
	}
}

// TestReads reads everything of an iDRAC, of another vendor's controller and of a newer one: nothing is found by its name.
func TestReads(t *testing.T) {
	for name, tt := range map[string]struct {
		o      sim.Options
		system string
	}{
		"iDRAC":  {sim.Options{}, "System.Embedded.1"},
		"vendor": {sim.Options{Vendor: true}, "1"},
		"newer":  {sim.Options{Newer: true}, "System.Embedded.1"},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, tt.o, kit.Read)
			for _, step := range []struct {
				tool  string
				args  map[string]any
				wants []string
			}{
				{"systems", nil, []string{tt.system, "7X2LAB3", `"power":"On"`, "2 × Intel", `"health":"OK"`, `"memory_gib":256`}},
				{"managers", nil, []string{"7.20.30.50", "192.0.2.20", "idrac-7X2LAB3", `"sessions_open":0`}},
				{"hardware", nil, []string{"CPU.Socket.2", "DIMM A8", "D0:8E:79:00:00:01", `"total":12`}},
				{"storage", nil, []string{"RAID6", "Solid State Disk 0:1:5", `"failing":true`, "PERC H755", `"total":11`}},
				{"firmware", nil, []string{"52.30.0-6115", `"total":5`}},
				{"power", nil, []string{"supply", "consumption", "PS2 Status"}},
				{"thermal", nil, []string{"fan", "temperature", "RPM", "°C"}},
				{"sensors", nil, []string{"Sensor 10 of", "Cel"}},
				{"event_log", nil, []string{"power input for power supply 2 is lost", "log Sel of Sel, Lclog", `"total":4`}},
				{"event_log", map[string]any{"log": "lclog", "search": "Warning"}, []string{"corrected medium error", "log Lclog of"}},
				{"redfish_get", map[string]any{"path": "/redfish/v1/Systems/" + tt.system, "select": []string{"Model", "Nothing"}}, []string{`"Model":`}},
				{"redfish_get", map[string]any{"path": "/redfish/v1"}, []string{"RedfishVersion", "/redfish/v1/SessionService"}},
			} {
				r := c.OK(t, step.tool, step.args)
				for _, want := range step.wants {
					if !r.Has(want) {
						t.Errorf("%s %v: no %s in\n%s\n%s", step.tool, step.args, want, r.Text, r.Raw)
					}
				}
			}
			if left := c.Uncalled(); len(left) > 0 {
				t.Errorf("not called: %v", left)
			}
		})
	}
}

// TestLargeEstate keeps results under 48 KiB, which kittest checks.
func TestLargeEstate(t *testing.T) {
	for _, vendor := range []bool{false, true} {
		c := start(t, sim.Options{Parts: 200, Entries: 5000, Vendor: vendor}, kit.Read)
		for tool, total := range map[string]float64{"storage": 211, "hardware": 212, "firmware": 205, "sensors": 210} {
			r := c.OK(t, tool, map[string]any{"limit": 500})
			if r.Structured["total"] != total || total > 210 && r.Structured["next_offset"] == nil {
				t.Errorf("%s: %v of %v, next %v", tool, r.Structured["total"], total, r.Structured["next_offset"])
			}
		}
		r := c.OK(t, "event_log", map[string]any{"log": "Lclog", "limit": 500})
		if r.Structured["total"] != 500.0 || !r.Has("4530 older entries were not read") {
			t.Errorf("event_log: %v %v", r.Structured["total"], r.Structured["note"])
		}
		c.OK(t, "redfish_get", map[string]any{"path": "/redfish/v1/Systems"})
		c.OK(t, "redfish_get", map[string]any{"path": "/redfish/v1/UpdateService/FirmwareInventory"})
	}
}

// TestWritesShow calls every tool that changes something and looks at what reads show then, where changes are done at once and where they
// are tasks.
func TestWritesShow(t *testing.T) {
	for _, vendor := range []bool{false, true} {
		t.Run(fmt.Sprintf("tasks %v", vendor), func(t *testing.T) {
			c := start(t, sim.Options{Vendor: vendor}, kit.Full)
			power := func() string {
				for _, s := range c.OK(t, "systems", nil).Structured["systems"].(map[string]any) {
					return fmt.Sprint(s.(map[string]any)["power"])
				}
				return ""
			}
			for _, step := range []struct {
				tool string
				args map[string]any
				want string
			}{
				{"shutdown", nil, "Off"},
				{"power_on", nil, "On"},
				{"force_power", map[string]any{"action": "force_off"}, "Off"},
				{"power_on", map[string]any{"system": strings.ToUpper(map[bool]string{false: "System.Embedded.1", true: "1"}[vendor])}, "On"},
			} {
				r := c.OK(t, step.tool, step.args)
				if r.Structured["state"] != "done" || r.Structured["power"] != step.want || power() != step.want {
					t.Errorf("%s: %s", step.tool, r.Raw)
				}
				if vendor && !r.Has("/redfish/v1/TaskService/Tasks/JID_") {
					t.Errorf("%s: no task in %s", step.tool, r.Raw)
				}
			}
			for tool, args := range map[string]map[string]any{"restart": nil, "force_power": {"action": "power_cycle"}} {
				r := c.OK(t, tool, args)
				if s := r.Structured["state"]; s != "done" && s != "accepted" {
					t.Errorf("%s: %s", tool, r.Raw)
				}
				until(t, c, "On")
			}
			c.OK(t, "set_indicator", map[string]any{"on": true})
			if r := c.OK(t, "systems", nil); !r.Has(`"indicator_on":true`) && !r.Has(`"indicator":"Blinking"`) {
				t.Errorf("set_indicator: %s", r.Raw)
			}
			c.OK(t, "boot_once", map[string]any{"target": "pxe"})
			if r := c.OK(t, "systems", nil); !r.Has(`"boot_override":"Pxe (Once)"`) {
				t.Errorf("boot_once: %s", r.Raw)
			}
			c.OK(t, "boot_once", map[string]any{"target": "None"})
			if r := c.OK(t, "systems", nil); r.Has("boot_override") {
				t.Errorf("boot_once None: %s", r.Raw)
			}
			c.OK(t, "clear_log", map[string]any{"log": "SEL"})
			if r := c.OK(t, "event_log", nil); r.Structured["total"] != 1.0 || !r.Has("Log cleared.") {
				t.Errorf("clear_log: %s", r.Raw)
			}
			if vendor {
				heard := ""
				for len(c.Progress) > 0 {
					heard += <-c.Progress + "\n"
				}
				if !strings.Contains(heard, "graceful shutdown: Running") {
					t.Errorf("progress:\n%s", heard)
				}
			}
		})
	}
}

// until waits until the server has been off, or at least is as wanted after some time.
func until(t *testing.T, c *kittest.Client, want string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		r := c.OK(t, "systems", nil)
		log := c.OK(t, "event_log", nil)
		if r.Has(`"power":"`+want+`"`) && strings.HasPrefix(fmt.Sprint(log.Structured["items"].([]any)[0].(map[string]any)["message"]), "The system is turned on") {
			return
		}
	}
	t.Fatal("the server does not come back")
}

func TestRefusals(t *testing.T) {
	c := start(t, sim.Options{}, kit.Full)
	for _, tt := range []struct {
		tool string
		args map[string]any
		want string
	}{
		{"power_on", nil, "server System.Embedded.1 is On: for power on it has to be Off. Nothing was done"},
		{"shutdown", map[string]any{"system": "other"}, `there is no system "other" (there is: System.Embedded.1)`},
		{"boot_once", map[string]any{"target": "Floppies"}, "it can from: None, Pxe"},
		{"event_log", map[string]any{"log": "x"}, "there is: Sel, Lclog"},
		{"clear_log", map[string]any{"log": "Lclog"}, "the controller offers no such action"},
		{"redfish_get", map[string]any{"path": "/redfish/v1/Nothing"}, "(HTTP 404: The resource at the URI /redfish/v1/Nothing was not found.)"},
		{"redfish_get", map[string]any{"path": "/redfish/v1/../../etc/passwd"}, "expected one below /redfish/v1"},
		{"redfish_get", map[string]any{"path": "https://example.com/redfish/v1"}, "expected one below /redfish/v1"},
		{"redfish_get", map[string]any{"path": "/redfish/v1/Systems?$expand=*"}, "expected no query"},
		{"redfish_get", map[string]any{"path": "/restapi"}, "expected one below /redfish/v1"},
		{"redfish_get", map[string]any{"path": "/redfish/v1", "select": []string{"x"}}, "the resource has none of x (there is: Chassis"},
		{"force_power", map[string]any{"action": "explode"}, "wrong arguments"},
	} {
		r := c.Call(t, tt.tool, tt.args)
		if !r.IsError || !strings.Contains(r.Text, tt.want) {
			t.Errorf("%s %v: got %+v, want %s", tt.tool, tt.args, r, tt.want)
		}
	}
}

// TestRedfishGetHidesSecrets of the server that other people have put there.
func TestRedfishGetHidesSecrets(t *testing.T) {
	r := start(t, sim.Options{}, kit.Read).OK(t, "redfish_get", map[string]any{"path": "/redfish/v1/Managers/iDRAC.Embedded.1/SerialInterfaces/1"})
	if r.Has("public-but-secret") || r.Has("hunter2") || !r.Has(`"SnmpCommunity":"[redacted]"`) {
		t.Errorf("got %s", r.Raw)
	}
}

// TestSilentClients get an answer before anybody gives up.
func TestSilentClients(t *testing.T) {
	for _, vendor := range []bool{false, true} {
		web := httptest.NewServer(sim.NewWith(sim.Options{Vendor: vendor, Pace: 0.1}))
		defer web.Close()
		c := client(t, kit.Config{URL: web.URL, Access: kit.Operate}, func(b *bmc) { b.silent = 50 * time.Millisecond })
		res, err := c.Session.CallTool(t.Context(), &mcp.CallToolParams{Name: "shutdown"})
		if err != nil || res.IsError {
			t.Fatal(err, res)
		}
		out := res.StructuredContent.(map[string]any)
		if out["state"] == "done" || out["note"] == nil {
			t.Errorf("got %v", out)
		}
		if r := c.OK(t, "systems", nil); !r.Has(`"power":"On"`) {
			t.Errorf("got %s", r.Raw)
		}
	}
}

// TestInventoryIsRemembered for a short time, until something is changed.
func TestInventoryIsRemembered(t *testing.T) {
	w := newWire(t, sim.NewWith(sim.Options{Pace: 1000}))
	c := client(t, kit.Config{URL: w.URL, Access: kit.Operate}, nil)
	const inventory, system = "/redfish/v1/UpdateService/FirmwareInventory", "/redfish/v1/Systems"
	for range 3 {
		c.OK(t, "firmware", nil)
		c.OK(t, "systems", nil)
	}
	if w.exactly(inventory) != 1 || w.exactly(system) != 3 {
		t.Errorf("inventory asked for %d times, state %d times", w.exactly(inventory), w.exactly(system))
	}
	c.OK(t, "set_indicator", map[string]any{"on": true})
	c.OK(t, "firmware", nil)
	if w.exactly(inventory) != 2 {
		t.Errorf("after a change: asked for %d times", w.exactly(inventory))
	}
}

// TestTwoAtATime: a slow controller is not asked more.
func TestTwoAtATime(t *testing.T) {
	inner := sim.NewWith(sim.Options{Vendor: true})
	var (
		mu       sync.Mutex
		in, most int
	)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		in++
		most = max(most, in)
		mu.Unlock()
		inner.ServeHTTP(w, r)
		mu.Lock()
		in--
		mu.Unlock()
	}))
	defer web.Close()
	client(t, kit.Config{URL: web.URL}, nil).OK(t, "storage", nil)
	web.Close() // all handlers have ended
	if most > 2 {
		t.Errorf("%d requests at a time", most)
	}
}
