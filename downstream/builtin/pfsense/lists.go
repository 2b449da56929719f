package pfsense

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

// kind is a list that pfSense keeps. Members that are named nowhere are never shown.
type kind struct {
	path    string
	columns []string // shown unless the call says otherwise
	more    []string // can be asked for by fields
}

var network = map[string]kind{
	"interfaces": {"/status/interfaces", []string{"name", "descr", "hwif", "status", "ipaddr", "subnet", "ipaddrv6", "inbytes", "outbytes", "inerrs", "outerrs"}, []string{"macaddr", "mtu", "enable", "media", "gateway", "gatewayv6", "linklocal", "subnetv6", "collisions", "inpkts", "outpkts", "dhcplink"}},
	"gateways":   {"/status/gateways", []string{"name", "status", "substatus", "loss", "delay", "stddev", "monitorip"}, []string{"srcip"}},
	"arp":        {"/diagnostics/arp_table", []string{"ip_address", "mac_address", "hostname", "interface", "expires"}, []string{"type", "permanent"}},
	"vlans":      {"/interface/vlans", []string{"id", "if", "tag", "vlanif", "descr"}, []string{"pcp"}},
	"routes":     {"/routing/static_routes", []string{"id", "network", "gateway", "disabled", "descr"}, nil},
}

var nat = map[string]kind{
	"port_forwards": {"/firewall/nat/port_forwards", []string{"id", "interface", "protocol", "destination", "destination_port", "target", "local_port", "descr", "disabled"}, []string{"ipprotocol", "source", "source_port", "natreflection", "associated_rule_id", "nordr", "created_time", "created_by", "updated_time", "updated_by"}},
	"outbound":      {"/firewall/nat/outbound/mappings", []string{"id", "interface", "protocol", "source", "destination", "target", "nat_port", "static_nat_port", "descr", "disabled"}, []string{"source_port", "destination_port", "nonat", "target_subnet", "poolopts"}},
	"one_to_one":    {"/firewall/nat/one_to_one/mappings", []string{"id", "interface", "external", "source", "destination", "descr", "disabled"}, []string{"nobinat", "natreflection", "ipprotocol"}},
}

var names = map[string]kind{
	"host_overrides":   {"/services/dns_resolver/host_overrides", []string{"id", "host", "domain", "ip", "aliases", "descr"}, nil},
	"domain_overrides": {"/services/dns_resolver/domain_overrides", []string{"id", "domain", "ip", "descr"}, []string{"forward_tls_upstream", "tls_hostname"}},
	"settings":         {"/services/dns_resolver/settings", []string{"enable", "port", "active_interface", "outgoing_interface", "dnssec", "forwarding", "regdhcp", "regdhcpstatic"}, []string{"enablessl", "tlsport", "strictout", "system_domain_local_zone_type", "regovpnclients", "python"}},
	"servers":          {"/system/dns", []string{"dnsserver", "dnsallowoverride", "dnslocalhost"}, nil},
}

var vpn = map[string]kind{
	"openvpn_servers":   {"/status/openvpn/servers", []string{"name", "mode", "port", "clients"}, []string{"conns", "routes", "vpnid"}},
	"openvpn_clients":   {"/status/openvpn/clients", []string{"name", "status", "state", "virtual_addr", "remote_host", "remote_port", "connect_time"}, []string{"state_detail", "local_host", "local_port", "port"}},
	"ipsec":             {"/status/ipsec/sas", []string{"con_id", "state", "local_host", "remote_host", "remote_id", "established", "rekey_time", "child_sas"}, []string{"version", "encr_alg", "encr_keysize", "uniqueid", "nat_any"}},
	"wireguard_tunnels": {"/status/wireguard/tunnels", []string{"name", "status", "descr", "listen_port", "transfer_rx", "transfer_tx"}, []string{"public_key", "mtu", "inpkts", "outpkts"}},
	"wireguard_peers":   {"/status/wireguard/peers", []string{"tunnel_device", "descr", "endpoint", "allowed_ips", "latest_handshake", "transfer_rx", "transfer_tx"}, []string{"public_key", "persistent_keepalive"}},
}

var parts = map[string]kind{
	"services":       {"/status/services", []string{"name", "description", "enabled", "status"}, nil},
	"packages":       {"/system/packages", []string{"shortname", "installed_version", "latest_version", "update_available", "descr"}, []string{"name"}},
	"config_history": {"/diagnostics/config_history/revisions", []string{"time", "description", "version", "filesize"}, nil},
	"certificates":   {"/system/certificates", []string{"descr", "type", "refid"}, nil},
}

var leases = map[string]kind{
	"leases": {"/status/dhcp_server/leases", []string{"ip", "mac", "hostname", "if", "active_status", "online_status", "ends", "descr"}, []string{"starts"}},
}

// kinds is the argument that picks one of several lists.
type kinds struct {
	Kind string `json:"kind"`
	kit.Page
}

func (f *firewall) addLists(s *kit.Server) {
	for _, t := range []struct {
		name, title, description string
		of                       map[string]kind
	}{
		{"network", "Interfaces and neighbours", "Interfaces with traffic, gateways with loss and delay, ARP table, VLANs, static routes.", network},
		{"nat", "Address translation", "Port forwards, outbound NAT or one-to-one NAT. id is the position at the moment.", nat},
		{"dns", "DNS resolver", "Host and domain overrides, settings of the DNS resolver, or the system's DNS servers.", names},
		{"vpn", "VPN status", "OpenVPN, IPsec and WireGuard: what is up and who is connected.", vpn},
		{"inventory", "Services, packages, history", "Services and whether they run, packages and updates, configuration history, certificates.", parts},
	} {
		kit.Add(s, kit.Tool{
			Name: t.name, Title: t.title, Description: t.description,
			Adjust: func(s *jsonschema.Schema) {
				kit.PageLimits(s)
				kit.Enum(s, "kind", slices.Sorted(maps.Keys(t.of))...)
			},
		}, func(ctx context.Context, _ *kit.Call, in kinds) (*kit.Listing, error) {
			return f.show(ctx, t.of[in.Kind], in.Page)
		})
	}
	kit.Add(s, kit.Tool{
		Name: "dhcp_leases", Title: "DHCP leases", Adjust: kit.PageLimits,
		Description: "Who got which address, and who is online. search= finds a device.",
	}, func(ctx context.Context, _ *kit.Call, in struct{ kit.Page }) (*kit.Listing, error) {
		return f.show(ctx, leases["leases"], in.Page)
	})
}

// show lists what is of the kind. A path that holds a single object becomes a list of one.
func (f *firewall) show(ctx context.Context, k kind, page kit.Page) (*kit.Listing, error) {
	var items []kit.Item
	if k.path == names["settings"].path || k.path == names["servers"].path {
		var it kit.Item
		if err := f.get(ctx, k.path, nil, &it); err != nil {
			return nil, err
		}
		items = []kit.Item{it}
	} else {
		var err error
		if items, err = f.list(ctx, k.path, nil); err != nil {
			return nil, err
		}
	}
	for _, it := range items {
		if conns, ok := it["conns"].([]any); ok {
			it["clients"] = len(conns)
		}
	}
	return kit.List(only(items, k.columns, k.more), page, k.columns...), nil
}

func asRefusal(err error) (*kit.Refusal, bool) {
	if err == nil {
		return nil, false
	}
	return errors.AsType[*kit.Refusal](err)
}
