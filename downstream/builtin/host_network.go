package builtin

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/shirou/gopsutil/v4/net"
)

const maxAddresses = 8 // of one interface

type networkArgs struct {
	All   bool `json:"all"`
	Limit int  `json:"limit"`
}

type networkReport struct {
	Interfaces []netInterface `json:"interfaces"`
	Left       int            `json:"left_out,omitempty"`
	Notes      []string       `json:"notes,omitempty"`
}

type netInterface struct {
	Name          string      `json:"name"`
	Up            bool        `json:"up"`
	MAC           string      `json:"mac,omitempty"`
	MTU           int         `json:"mtu"`
	Addresses     []string    `json:"addresses"`
	AddressesLeft int         `json:"addresses_left_out,omitempty"`
	Traffic       *netTraffic `json:"since_boot,omitempty"`
}

type netTraffic struct {
	ReceivedBytes   uint64 `json:"received_bytes"`
	ReceivedPackets uint64 `json:"received_packets"`
	SentBytes       uint64 `json:"sent_bytes"`
	SentPackets     uint64 `json:"sent_packets"`
	Errors          uint64 `json:"errors"`
	Dropped         uint64 `json:"dropped"`
}

func (h *hostServer) addNetwork(s *mcp.Server) error {
	return addReport(s, "network", "Network interfaces",
		"Network interfaces with addresses, and traffic, errors and drops since boot, most traffic first.",
		arguments(
			boolParam("all", "also loopback, interfaces that are down, the host's ends of container links"),
			intParam("limit", "most interfaces", 1, 200, 20),
		), h.network)
}

func (h *hostServer) network(ctx context.Context, args networkArgs) (*networkReport, error) {
	var (
		r        networkReport
		n        notes
		links    net.InterfaceStatList
		counters []net.IOCountersStat
		known    bool
	)
	together(&n,
		func() { links, known = read(ctx, h, &n, "interfaces", h.probes.links) },
		func() { counters, _ = read(ctx, h, &n, "traffic", h.probes.linkIO) },
	)
	if !known {
		return nil, nothing(ctx, &n)
	}
	traffic := make(map[string]*netTraffic, len(counters))
	for _, c := range counters {
		traffic[c.Name] = &netTraffic{
			ReceivedBytes: c.BytesRecv, ReceivedPackets: c.PacketsRecv, SentBytes: c.BytesSent, SentPackets: c.PacketsSent,
			Errors: c.Errin + c.Errout, Dropped: c.Dropin + c.Dropout,
		}
	}
	hidden := 0
	for _, l := range links {
		if !args.All && !interesting(l) {
			hidden++
			continue
		}
		i := netInterface{
			Name: clean(l.Name, maxName), Up: slices.Contains(l.Flags, "up"), MAC: clean(l.HardwareAddr, maxName), MTU: l.MTU, Addresses: []string{},
			Traffic: traffic[l.Name],
		}
		for _, a := range l.Addrs[:min(len(l.Addrs), maxAddresses)] {
			i.Addresses = append(i.Addresses, clean(a.Addr, maxName))
		}
		i.AddressesLeft = len(l.Addrs) - len(i.Addresses)
		r.Interfaces = append(r.Interfaces, i)
	}
	slices.SortFunc(r.Interfaces, func(a, b netInterface) int {
		return cmp.Or(cmp.Compare(b.Traffic.bytes(), a.Traffic.bytes()), strings.Compare(a.Name, b.Name))
	})
	if left := len(r.Interfaces) - args.Limit; left > 0 {
		r.Interfaces, r.Left = r.Interfaces[:args.Limit], left
		n.addf("%d interfaces with less traffic left out; a greater limit (at most 200) shows more", left)
	}
	if hidden > 0 {
		n.addf("%d loopback, down or container interfaces left out; all=true shows them", hidden)
	}
	r.Interfaces, r.Notes = orEmpty(r.Interfaces), n.all()
	return &r, ctx.Err()
}

// interesting reports whether l connects the machine to others, as far as its name and flags tell.
func interesting(l net.InterfaceStat) bool {
	if !slices.Contains(l.Flags, "up") || slices.Contains(l.Flags, "loopback") {
		return false
	}
	for _, prefix := range []string{"veth", "cali", "lxc", "fwbr", "fwpr", "fwln"} {
		if strings.HasPrefix(l.Name, prefix) {
			return false
		}
	}
	return true
}

func (t *netTraffic) bytes() uint64 {
	if t == nil {
		return 0
	}
	return t.ReceivedBytes + t.SentBytes
}

func (r *networkReport) text() string {
	var t text
	for _, i := range r.Interfaces {
		state, mac, addresses := "down", "", "no address"
		if i.Up {
			state = "up"
		}
		if i.MAC != "" {
			mac = ", MAC " + i.MAC
		}
		if len(i.Addresses) > 0 {
			addresses = strings.Join(i.Addresses, " ")
		}
		if i.AddressesLeft > 0 {
			addresses += fmt.Sprintf(" and %d more", i.AddressesLeft)
		}
		t.linef("%s (%s, MTU %d%s): %s", i.Name, state, i.MTU, mac, addresses)
		if c := i.Traffic; c != nil {
			t.linef("  received %s in %d packets, sent %s in %d packets, %d errors, %d dropped",
				size(c.ReceivedBytes), c.ReceivedPackets, size(c.SentBytes), c.SentPackets, c.Errors, c.Dropped)
		}
	}
	if len(r.Interfaces) == 0 {
		t.linef("No network interfaces.")
	}
	return t.end(r.Notes)
}
