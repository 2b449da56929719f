package pfsense_test

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
	"github.com/mcpgw/mcpgw/downstream/builtin/kit/kittest"
	"github.com/mcpgw/mcpgw/downstream/builtin/pfsense"
	"github.com/mcpgw/mcpgw/downstream/builtin/pfsense/sim"
)

func connect(t *testing.T, opts sim.Options, access kit.Access) (*kittest.Client, *sim.Firewall) {
	t.Helper()
	if opts.Apply == 0 {
		opts.Apply = 300 * time.Millisecond
	}
	box := sim.NewWith(opts)
	web := httptest.NewServer(box)
	t.Cleanup(web.Close)
	key := opts.Key
	if key == "" {
		key = "lab"
	}
	s, err := pfsense.New(kit.Config{URL: web.URL, Token: kitSecret(key), Access: access, Simulated: true})
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
	{"overview", nil, "avahi"},
	{"overview", nil, "LTE_BACKUP"},
	{"network", map[string]any{"kind": "interfaces"}, "vtnet1.20"},
	{"network", map[string]any{"kind": "gateways"}, "8.412"},
	{"network", map[string]any{"kind": "arp", "search": "pve"}, "192.168.1.11"},
	{"network", map[string]any{"kind": "vlans"}, "IoT"},
	{"network", map[string]any{"kind": "routes"}, "10.20.0.0/16"},
	{"nat", map[string]any{"kind": "port_forwards"}, "Reverse proxy"},
	{"nat", map[string]any{"kind": "outbound"}, "Game console"},
	{"nat", map[string]any{"kind": "one_to_one"}, "nothing found"},
	{"dns", map[string]any{"kind": "host_overrides"}, "home.arpa"},
	{"dns", map[string]any{"kind": "domain_overrides"}, "corp.example"},
	{"dns", map[string]any{"kind": "settings"}, "dnssec"},
	{"dns", map[string]any{"kind": "servers"}, "9.9.9.9"},
	{"vpn", map[string]any{"kind": "openvpn_servers", "fields": []string{"name", "conns", "clients"}}, "alice"},
	{"vpn", map[string]any{"kind": "openvpn_clients"}, "nothing found"},
	{"vpn", map[string]any{"kind": "ipsec"}, "ESTABLISHED"},
	{"vpn", map[string]any{"kind": "wireguard_tunnels"}, "tun_wg0"},
	{"vpn", map[string]any{"kind": "wireguard_peers"}, "alice's phone"},
	{"inventory", map[string]any{"kind": "services"}, "unbound"},
	{"inventory", map[string]any{"kind": "packages"}, "0.2.11"},
	{"inventory", map[string]any{"kind": "config_history"}, "Installed package WireGuard"},
	{"inventory", map[string]any{"kind": "certificates"}, "webConfigurator"},
	{"dhcp_leases", map[string]any{"search": "vacuum"}, "192.168.20.107"},
	{"logs", map[string]any{"kind": "firewall", "limit": 5}, "192.168.20.101"},
	{"logs", map[string]any{"kind": "firewall", "search": "2001:db8::1"}, "udp"},
	{"logs", map[string]any{"kind": "auth"}, "Failed password"},
	{"logs", map[string]any{"kind": "system"}, "Reloading filter"},
	{"logs", map[string]any{"kind": "dhcp"}, "LEASE_ALLOC"},
	{"logs", map[string]any{"kind": "openvpn"}, "IV_VER"},
	{"rules", map[string]any{"interface": "opt1"}, "IoT to the internet"},
	{"aliases", nil, "blocked_countries"},
	{"aliases", map[string]any{"fields": []string{"name", "detail"}}, "Guests"},
}

func TestReads(t *testing.T) {
	for _, opts := range []sim.Options{{}, {Rules: 5000}} {
		c, _ := connect(t, opts, kit.Read)
		for _, r := range reads {
			got := c.OK(t, r.tool, r.args)
			if !got.Has(r.want) {
				t.Errorf("%s %v: no %q in\n%s", r.tool, r.args, r.want, got.Text)
			}
			for _, secret := range sim.Secrets {
				if got.Has(secret) {
					t.Errorf("%s %v shows a secret", r.tool, r.args)
				}
			}
		}
		if left := c.Uncalled(); len(left) > 0 {
			t.Errorf("not called: %v", left)
		}
	}
}

func TestNoFieldOpensASecret(t *testing.T) {
	c, _ := connect(t, sim.Options{}, kit.Read)
	for kind, field := range map[string]string{"vpn wireguard_peers": "preshared_key", "inventory certificates": "prv"} {
		tool, kind, _ := strings.Cut(kind, " ")
		for _, args := range []map[string]any{{"kind": kind, "fields": []string{field}}, {"kind": kind, "search": "lab-"}} {
			got := c.Call(t, tool, args)
			for _, secret := range sim.Secrets {
				if got.Has(secret) {
					t.Errorf("%s %v: %s", tool, args, got.Raw)
				}
			}
		}
	}
}

func TestLargeEstate(t *testing.T) {
	c, _ := connect(t, sim.Options{Rules: 5000}, kit.Read)
	all := c.OK(t, "rules", map[string]any{"limit": 500})
	if all.Structured["total"] != 5008.0 || !all.Has("shown; offset=") {
		t.Errorf("total %v", all.Structured["total"])
	}
	one := c.OK(t, "rules", map[string]any{"search": "rule 04711"})
	if one.Structured["total"] != 1.0 || !one.Has(`"id":4719`) || !one.Has("1700004711") {
		t.Errorf("got %s", one.Raw)
	}
}

func TestRules(t *testing.T) {
	c, box := connect(t, sim.Options{}, kit.Full)
	made := c.OK(t, "rule_create", map[string]any{"type": "block", "interface": []string{"opt1"}, "source": "192.168.20.31", "destination": "any", "descr": "door camera stays in", "placement": 4})
	if made.Structured["id"] != 4.0 || made.Structured["applied"] != false || !made.Has("until apply is called") {
		t.Fatalf("got %s", made.Raw)
	}
	tracker := made.Structured["object"].(map[string]any)["tracker"]
	if got := c.OK(t, "overview", nil); !got.Has("pending_changes") {
		t.Errorf("no pending change in\n%s", got.Text)
	}
	changed := c.OK(t, "rule_update", map[string]any{"id": 4, "expect": map[string]any{"tracker": tracker, "type": "block"}, "set": map[string]any{"disabled": true}})
	if !changed.Has(`"disabled":true`) {
		t.Errorf("got %s", changed.Raw)
	}
	if got := c.OK(t, "rules", map[string]any{"search": "door camera"}); !got.Has(`"disabled":true`) || !got.Has(`"id":4`) {
		t.Errorf("got %s", got.Raw)
	}
	gone := c.OK(t, "rule_delete", map[string]any{"id": 4, "expect": map[string]any{"tracker": tracker}, "apply": true})
	if gone.Structured["applied"] != true {
		t.Errorf("got %s", gone.Raw)
	}
	if got := c.OK(t, "rules", map[string]any{"search": "door camera"}); got.Structured["total"] != 0.0 {
		t.Errorf("still there: %s", got.Raw)
	}
	if got := c.OK(t, "rules", map[string]any{"search": "IoT may ask"}); !got.Has(`"id":4`) {
		t.Errorf("the rule behind did not move up: %s", got.Raw)
	}
	if got := c.OK(t, "overview", nil); got.Has("pending_changes") {
		t.Errorf("still pending:\n%s", got.Text)
	}
	if n := box.Asked("DELETE /api/v2/firewall/rule"); n != 1 {
		t.Errorf("deleted %d times", n)
	}
}

// Ids are positions: the same delete twice must not hit the next rule.
func TestAPositionIsNotARule(t *testing.T) {
	c, box := connect(t, sim.Options{}, kit.Full)
	args := map[string]any{"id": 2, "expect": map[string]any{"tracker": 1690000003}}
	c.OK(t, "rule_delete", args)
	if got := c.Call(t, "rule_delete", args); !got.IsError || !got.Has("nothing was changed") || !got.Has("tracker is 1690000004") {
		t.Errorf("got %s", got.Text)
	}
	moved := c.Call(t, "rule_update", map[string]any{"id": 3, "expect": map[string]any{"tracker": 1690000004}, "set": map[string]any{"disabled": true}})
	if !moved.IsError || !moved.Has("is at id 2 now") {
		t.Errorf("got %s", moved.Text)
	}
	for _, expect := range []map[string]any{{}, {"type": "pass"}, {"descr": "something else"}, {"tracker": 1690000001, "type": "block"}, {"tracker": 1690000001, "interface": "lan"}} {
		if got := c.Call(t, "rule_delete", map[string]any{"id": 0, "expect": expect}); !got.IsError {
			t.Errorf("%v was deleted", expect)
		}
	}
	if got := c.Call(t, "rule_delete", map[string]any{"id": 999, "expect": map[string]any{"descr": "x"}}); !got.IsError || !got.Has("there are 7") {
		t.Errorf("got %s", got.Text)
	}
	if n := box.Asked("DELETE /api/v2/firewall/rule"); n != 1 {
		t.Errorf("%d deletes reached the firewall", n)
	}
}

func TestAliases(t *testing.T) {
	c, box := connect(t, sim.Options{}, kit.Full)
	c.OK(t, "alias_update", map[string]any{"name": "cameras", "add": []string{"192.168.20.33", "192.168.20.31"}, "remove": []string{"192.168.20.32"}, "apply": true})
	got := c.OK(t, "aliases", map[string]any{"search": "cameras", "fields": []string{"address", "detail"}})
	if !got.Has(`"address":["192.168.20.31","192.168.20.33"]`) || !got.Has(`"detail":["door",""]`) {
		t.Errorf("got %s", got.Raw)
	}
	if got := c.Call(t, "alias_update", map[string]any{"name": "camera", "add": []string{"1.2.3.4"}}); !got.IsError || !got.Has("cameras") {
		t.Errorf("got %s", got.Text)
	}
	if got := c.Call(t, "alias_update", map[string]any{"name": "cameras"}); !got.IsError {
		t.Error("an empty change was accepted")
	}
	if got := c.Call(t, "alias_delete", map[string]any{"name": "cameras", "expect": []string{"192.168.20.31"}}); !got.IsError || !got.Has("nothing was changed") {
		t.Errorf("got %s", got.Text)
	}
	c.OK(t, "alias_delete", map[string]any{"name": "cameras", "expect": []string{"192.168.20.33", "192.168.20.31"}})
	if got := c.OK(t, "aliases", map[string]any{"search": "cameras"}); got.Structured["total"] != 0.0 {
		t.Errorf("still there: %s", got.Raw)
	}
	if n := box.Asked("DELETE /api/v2/firewall/alias"); n != 1 {
		t.Errorf("%d deletes", n)
	}
}

func TestControl(t *testing.T) {
	c, box := connect(t, sim.Options{}, kit.Full)
	if got := c.OK(t, "service_control", map[string]any{"name": "avahi", "action": "start"}); !got.Has("says that it runs") {
		t.Errorf("got %s", got.Text)
	}
	if got := c.OK(t, "overview", nil); got.Has("avahi") {
		t.Errorf("avahi does not run:\n%s", got.Text)
	}
	if got := c.Call(t, "service_control", map[string]any{"name": "toaster", "action": "start"}); !got.IsError || !got.Has("unbound") {
		t.Errorf("got %s", got.Text)
	}
	c.OK(t, "alias_update", map[string]any{"name": "cameras", "add": []string{"192.168.20.40"}})
	if got := c.OK(t, "apply", map[string]any{"wait": false}); got.Structured["applied"] != false {
		t.Errorf("got %s", got.Raw)
	}
	if got := c.OK(t, "apply", nil); got.Structured["applied"] != true {
		t.Errorf("got %s", got.Raw)
	}
	if got := <-c.Progress; !strings.Contains(got, "aliases") {
		t.Errorf("progress %q", got)
	}
	for _, area := range []string{"routing", "interfaces", "dns_resolver", "dhcp_server"} {
		c.OK(t, "apply", map[string]any{"area": area})
	}
	c.OK(t, "backup", nil)
	history := c.OK(t, "inventory", map[string]any{"kind": "config_history"}).Structured["items"].([]any)
	first := history[0].(map[string]any)
	if !strings.Contains(fmt.Sprint(first["description"]), "backup") {
		t.Errorf("got %v", first)
	}
	if got := c.Call(t, "restore", map[string]any{"time": first["time"], "expect": "another"}); !got.IsError || !got.Has("nothing was changed") {
		t.Errorf("got %s", got.Text)
	}
	last := history[len(history)-1].(map[string]any)
	c.OK(t, "restore", map[string]any{"time": last["time"], "expect": last["description"]})
	if got := c.Call(t, "reboot", map[string]any{"confirm": "yes"}); !got.IsError || box.Asked("POST /api/v2/diagnostics/reboot") != 0 {
		t.Errorf("got %s", got.Text)
	}
	c.OK(t, "reboot", map[string]any{"confirm": "pfsense.home.arpa"})
	if got := c.OK(t, "overview", nil); !got.Has("0 Days 00 Hours") {
		t.Errorf("got %s", got.Text)
	}
}

// What the API refuses is an answer, with its reason.
func TestRefusalsAreAnswers(t *testing.T) {
	c, _ := connect(t, sim.Options{}, kit.Operate)
	got := c.Call(t, "rule_create", map[string]any{"type": "pass", "interface": []string{"lan"}, "source": "any", "destination": "any", "protocol": "tcp", "destination_port": "nonsense"})
	if !got.IsError || !got.Has("HTTP 422, INVALID_PORT_FIELD_VALUE") || !got.Has("received `nonsense`") {
		t.Errorf("got %s", got.Text)
	}
	if got := c.Call(t, "rules", map[string]any{"colour": "red"}); !got.IsError {
		t.Error("an unknown argument was accepted")
	}
}
