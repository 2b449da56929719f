package sim

import (
	"fmt"
	"strconv"
	"time"
)

// Secrets are what the simulated configuration holds that must never be shown to anybody.
var Secrets = []string{"lab-wireguard-preshared-key", "lab-certificate-private-key"}

func estate(opts Options) (map[string][]object, map[string]object) {
	now := time.Now()
	lists := map[string][]object{
		"/firewall/rules":   rules(opts.Rules),
		"/firewall/aliases": aliases(),
		"/firewall/nat/port_forwards": {
			forward("tcp", "443", "192.168.1.40", "443", "Reverse proxy"), forward("udp", "51820", "192.168.1.1", "51820", "WireGuard"),
			forward("tcp", "32400", "192.168.1.30", "32400", "Media server"),
		},
		"/firewall/nat/outbound/mappings": {
			{"interface": "wan", "protocol": "", "disabled": false, "nonat": false, "source": "192.168.1.0/24", "source_port": "", "destination": "any", "destination_port": "", "target": "wan:ip", "nat_port": "", "static_nat_port": false, "descr": "LAN to the internet"},
			{"interface": "wan", "protocol": "udp", "disabled": false, "nonat": false, "source": "192.168.1.51", "source_port": "", "destination": "any", "destination_port": "", "target": "wan:ip", "nat_port": "", "static_nat_port": true, "descr": "Game console"},
		},
		"/firewall/nat/one_to_one/mappings": {},
		"/status/interfaces": {
			iface("wan", "WAN", "vtnet0", "203.0.113.24", 812_334_221_934, 91_223_118_220), iface("lan", "LAN", "vtnet1", "192.168.1.1", 93_811_900_112, 815_662_018_771),
			iface("opt1", "IOT", "vtnet1.20", "192.168.20.1", 1_220_118_331, 9_918_221_002), iface("opt2", "GUEST", "vtnet1.30", "192.168.30.1", 0, 0),
		},
		"/status/gateways": {
			{"name": "WAN_DHCP", "srcip": "203.0.113.24", "monitorip": "203.0.113.1", "delay": 8.412, "stddev": 1.101, "loss": 0.0, "status": "online", "substatus": "none"},
			{"name": "LTE_BACKUP", "srcip": "198.51.100.9", "monitorip": "198.51.100.1", "delay": 61.2, "stddev": 18.4, "loss": 12.0, "status": "online", "substatus": "loss"},
		},
		"/routing/static_routes": {{"network": "10.20.0.0/16", "gateway": "LTE_BACKUP", "disabled": false, "descr": "Cabin"}},
		"/interface/vlans": {
			{"if": "vtnet1", "tag": 20, "vlanif": "vtnet1.20", "pcp": nil, "descr": "IoT"}, {"if": "vtnet1", "tag": 30, "vlanif": "vtnet1.30", "pcp": nil, "descr": "Guests"},
		},
		"/status/services": {
			service("unbound", "DNS Resolver", true), service("dhcpd", "Kea DHCP Server", true), service("ntpd", "NTP clock sync", true),
			service("dpinger", "Gateway Monitoring Daemon", true), service("sshd", "Secure Shell Daemon", true), service("openvpn", "OpenVPN server: Road warriors", true),
			service("wireguard", "WireGuard", true), service("avahi", "Avahi mDNS", false), service("syslogd", "System Logger Daemon", true),
		},
		"/status/dhcp_server/leases": leases(now),
		"/services/dns_resolver/host_overrides": {
			{"host": "nas", "domain": "home.arpa", "ip": []string{"192.168.1.10"}, "descr": "TrueNAS", "aliases": []any{}},
			{"host": "pve", "domain": "home.arpa", "ip": []string{"192.168.1.11"}, "descr": "Proxmox", "aliases": []any{}},
			{"host": "media", "domain": "home.arpa", "ip": []string{"192.168.1.30"}, "descr": "", "aliases": []any{object{"host": "tv", "domain": "home.arpa"}}},
		},
		"/services/dns_resolver/domain_overrides": {{"domain": "corp.example", "ip": "10.20.0.53", "descr": "Work", "forward_tls_upstream": false}},
		"/status/openvpn/servers": {{
			"name": "Road warriors UDP4:1194", "mode": "server_tls_user", "port": "1194", "vpnid": 1, "mgmt": "server1", "routes": []any{},
			"conns": []any{object{"common_name": "alice", "remote_host": "198.51.100.77:51044", "virtual_addr": "10.8.0.2", "bytes_recv": 1822331, "bytes_sent": 9922110, "connect_time": "2026-11-20 18:11:02", "user_name": "alice"}},
		}},
		"/status/openvpn/clients": {}, "/status/ipsec/sas": {{
			"con_id": "con1", "uniqueid": 4, "version": 2, "state": "ESTABLISHED", "local_host": "203.0.113.24", "local_port": "500", "remote_host": "192.0.2.80", "remote_port": "500", "remote_id": "cabin.example",
			"encr_alg": "AES_GCM_16", "encr_keysize": 256, "established": 20331, "rekey_time": 5110, "child_sas": []any{object{"name": "con1_1", "state": "INSTALLED", "bytes_in": 118822, "bytes_out": 99120}},
		}},
		"/status/wireguard/tunnels": {{"name": "tun_wg0", "status": "up", "public_key": "bGFiLXR1bm5lbC1wdWJsaWMta2V5", "listen_port": "51820", "mtu": 1420, "transfer_rx": 99123312, "transfer_tx": 712233190, "descr": "Phones", "peers": []any{}}},
		"/status/wireguard/peers":   {{"tunnel_device": "tun_wg0", "public_key": "bGFiLXBlZXItcHVibGljLWtleQ", "preshared_key": Secrets[0], "endpoint": "198.51.100.77:49022", "allowed_ips": []string{"10.9.0.2/32"}, "latest_handshake": now.Add(-40 * time.Second).Unix(), "transfer_rx": 99123312, "transfer_tx": 712233190, "persistent_keepalive": "25", "descr": "alice's phone"}},
		"/system/packages": {
			{"name": "pfSense-pkg-RESTAPI", "shortname": "RESTAPI", "descr": "REST API", "installed_version": "2.9.0", "latest_version": "2.9.0", "update_available": false},
			{"name": "pfSense-pkg-WireGuard", "shortname": "WireGuard", "descr": "WireGuard VPN", "installed_version": "0.2.9", "latest_version": "0.2.11", "update_available": true},
			{"name": "pfSense-pkg-Avahi", "shortname": "Avahi", "descr": "mDNS between networks", "installed_version": "2.2_5", "latest_version": "2.2_5", "update_available": false},
		},
		"/system/certificates": {{"descr": "webConfigurator", "type": "server", "refid": "5f1", "crt": "-----BEGIN CERTIFICATE-----", "prv": Secrets[1]}},
		"/diagnostics/arp_table": {
			{"hostname": "nas.home.arpa", "ip_address": "192.168.1.10", "mac_address": "3c:ec:ef:01:02:0a", "interface": "LAN", "type": "ethernet", "permanent": false, "expires": "Expires in 1103 seconds"},
			{"hostname": "pve.home.arpa", "ip_address": "192.168.1.11", "mac_address": "3c:ec:ef:01:02:0b", "interface": "LAN", "type": "ethernet", "permanent": false, "expires": "Expires in 871 seconds"},
			{"hostname": "?", "ip_address": "203.0.113.1", "mac_address": "00:00:5e:00:01:01", "interface": "WAN", "type": "ethernet", "permanent": false, "expires": "Expires in 1199 seconds"},
		},
		"/diagnostics/config_history/revisions": {
			{"time": now.Add(-26 * time.Hour).Unix(), "description": "admin@192.168.1.20 (Local Database): Firewall: Rules - saved/edited a firewall rule.", "version": "24.0", "filesize": 48012},
			{"time": now.Add(-240 * time.Hour).Unix(), "description": "admin@192.168.1.20 (Local Database): Installed package WireGuard.", "version": "24.0", "filesize": 47110},
		},
		"/status/logs/firewall": filterLog(now, 200),
		"/status/logs/system":   plainLog(now, "php-fpm[411]: /rc.newwanip: rc.newwanip: Info: starting on vtnet0.", "kernel: vtnet1: link state changed to UP", "check_reload_status[404]: Reloading filter"),
		"/status/logs/dhcp":     plainLog(now, "kea-dhcp4[30122]: DHCP4_LEASE_ALLOC 192.168.1.120 has been allocated for 7200 seconds"),
		"/status/logs/openvpn":  plainLog(now, "openvpn[8812]: alice/198.51.100.77:51044 peer info: IV_VER=2.6.12"),
		"/status/logs/auth":     plainLog(now, "php-fpm[411]: /index.php: Successful login for user 'admin' from: 192.168.1.20 (Local Database)", "sshd[9921]: Failed password for root from 192.168.20.66 port 51022 ssh2"),
	}
	singles := map[string]object{
		"/status/system": {
			"platform": "KVM Guest", "serial": "", "netgate_id": "0123456789abcdef0123", "uptime": "41 Days 03 Hours 12 Minutes 51 Seconds", "bios_vendor": "SeaBIOS", "bios_version": "1.16.3", "kernel_pti": true, "mds_mitigation": "inactive",
			"temp_c": 47.0, "temp_f": 116.6, "cpu_model": "Intel(R) N100", "cpu_load_avg": []float64{0.31, 0.24, 0.19}, "cpu_count": 4, "cpu_usage": 6.2, "mbuf_usage": 2.0, "mem_usage": 18.4, "swap_usage": 0.0, "disk_usage": 11.0,
		},
		"/system/version":                 {"version": "2.8.1-RELEASE", "base": "2.8.1", "patch": "0", "buildtime": "20250903-1502"},
		"/system/hostname":                {"hostname": "pfsense", "domain": "home.arpa"},
		"/system/dns":                     {"dnsallowoverride": false, "dnslocalhost": "", "dnsserver": []string{"9.9.9.9", "149.112.112.112"}},
		"/services/dns_resolver/settings": {"enable": true, "port": "53", "enablessl": false, "active_interface": []string{"lan", "opt1", "opt2", "lo0"}, "outgoing_interface": []string{"wan"}, "dnssec": true, "forwarding": true, "regdhcp": true, "regdhcpstatic": true},
		"/firewall/nat/outbound/mode":     {"mode": "hybrid"},
	}
	return lists, singles
}

func iface(name, descr, hw, addr string, in, out int64) object {
	status := "up"
	if in == 0 {
		status = "no carrier"
	}
	return object{
		"name": name, "descr": descr, "hwif": hw, "macaddr": "3c:ec:ef:99:00:01", "mtu": "1500", "enable": true, "status": status, "ipaddr": addr, "subnet": "24", "ipaddrv6": "", "linklocal": "fe80::1",
		"inerrs": 0, "outerrs": 0, "collisions": 0, "inbytes": in, "outbytes": out, "inpkts": in / 900, "outpkts": out / 900, "media": "10Gbase-T <full-duplex>", "gateway": "",
	}
}

func service(name, description string, running bool) object {
	return object{"name": name, "description": description, "enabled": true, "status": running}
}

func rule(tracker int64, kind, iface, proto, source, destination, port, descr string) object {
	o := object{
		"type": kind, "interface": []string{iface}, "ipprotocol": "inet", "protocol": proto, "source": source, "source_port": nil, "destination": destination, "destination_port": port, "descr": descr,
		"disabled": false, "log": kind != "pass", "floating": false, "quick": false, "direction": "any", "gateway": nil, "statetype": "keep state", "tracker": tracker,
		"created_time": 1_690_000_000, "created_by": "admin@192.168.1.20 (Local Database)", "updated_time": 1_690_000_000, "updated_by": "admin@192.168.1.20 (Local Database)",
	}
	if proto == "" {
		o["protocol"] = nil
	}
	if port == "" {
		o["destination_port"] = nil
	}
	return o
}

func rules(more int) []object {
	list := []object{
		rule(1_690_000_001, "pass", "wan", "udp", "any", "wan:ip", "51820", "WireGuard"),
		rule(1_690_000_002, "pass", "wan", "tcp", "any", "192.168.1.40", "443", "NAT Reverse proxy"),
		rule(1_690_000_003, "block", "wan", "", "blocked_countries", "any", "", "Blocked countries"),
		rule(1_690_000_004, "pass", "lan", "", "lan", "any", "", "Default allow LAN to any"),
		rule(1_690_000_005, "pass", "opt1", "tcp/udp", "opt1", "192.168.1.1", "53", "IoT may ask for names"),
		rule(1_690_000_006, "block", "opt1", "", "opt1", "home_networks", "", "IoT stays out of the other networks"),
		rule(1_690_000_007, "pass", "opt1", "", "opt1", "any", "", "IoT to the internet"),
		rule(1_690_000_008, "pass", "opt2", "tcp", "opt2", "any", "web_ports", "Guests may browse"),
	}
	for i := range more {
		list = append(list, rule(1_700_000_000+int64(i), "block", "opt1", "tcp", fmt.Sprintf("192.168.20.%d", i%250+1), "any", strconv.Itoa(1024+i), fmt.Sprintf("Generated rule %05d", i)))
	}
	return list
}

func aliases() []object {
	return []object{
		{"name": "home_networks", "type": "network", "descr": "All inner networks", "address": []string{"192.168.1.0/24", "192.168.20.0/24", "192.168.30.0/24"}, "detail": []string{"LAN", "IoT", "Guests"}},
		{"name": "web_ports", "type": "port", "descr": "", "address": []string{"80", "443"}, "detail": []string{"", ""}},
		{"name": "blocked_countries", "type": "network", "descr": "", "address": []string{"198.51.100.128/25"}, "detail": []string{""}},
		{"name": "cameras", "type": "host", "descr": "No way out for them", "address": []string{"192.168.20.31", "192.168.20.32"}, "detail": []string{"door", "garden"}},
	}
}

func forward(proto, port, target, local, descr string) object {
	return object{
		"interface": "wan", "ipprotocol": "inet", "protocol": proto, "source": "any", "source_port": "any", "destination": "wan:ip", "destination_port": port, "target": target, "local_port": local,
		"disabled": false, "nordr": false, "nosync": false, "descr": descr, "natreflection": nil, "associated_rule_id": "nat_" + port, "created_time": 1_690_000_000,
	}
}

func leases(now time.Time) []object {
	var list []object
	for i, host := range []string{"nas", "pve", "media", "printer", "phone-alice", "phone-bob", "tv", "vacuum", "thermostat", "door-camera"} {
		network, name := 1, "lan"
		if i > 5 {
			network, name = 20, "opt1"
		}
		list = append(list, object{
			"ip": fmt.Sprintf("192.168.%d.%d", network, 100+i), "mac": fmt.Sprintf("3c:ec:ef:01:03:%02x", i), "hostname": host, "if": name, "starts": now.Add(-time.Hour).UTC().Format("2006/01/02 15:04:05"),
			"ends": now.Add(time.Hour).UTC().Format("2006/01/02 15:04:05"), "active_status": "active", "online_status": map[bool]string{true: "active/online", false: "idle/offline"}[i%4 != 3], "descr": "",
		})
	}
	return list
}

// filterLog holds lines as filterlog writes them, the newest first.
func filterLog(now time.Time, n int) []object {
	list := make([]object, n)
	for i := range list {
		at := now.Add(-time.Duration(i) * 11 * time.Second).Format(time.Stamp)
		line := fmt.Sprintf("%s pfsense filterlog[51234]: 5,,,1690000006,vtnet1.20,match,block,in,4,0x0,,64,%d,0,DF,6,tcp,60,192.168.20.%d,192.168.1.10,%d,445,0,S,1828,,64240,,mss", at, 1000+i, 101+i%9, 40000+i)
		if i%5 == 4 {
			line = fmt.Sprintf("%s pfsense filterlog[51234]: 4,,,1000000103,vtnet0,match,block,in,6,0x00,0x00000,64,UDP,17,32,2001:db8::%d,2001:db8::1,%d,53,32", at, i+2, 50000+i)
		}
		list[i] = object{"text": line}
	}
	return list
}

func plainLog(now time.Time, lines ...string) []object {
	var list []object
	for i, l := range lines {
		list = append(list, object{"text": now.Add(-time.Duration(i)*time.Minute).Format(time.Stamp) + " pfsense " + l})
	}
	return list
}
