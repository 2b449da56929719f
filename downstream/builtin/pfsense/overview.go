package pfsense

import (
	"context"
	"fmt"
	"strings"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

type overview struct {
	Host       string     `json:"host,omitempty"`
	Version    string     `json:"version,omitempty"`
	Uptime     string     `json:"uptime,omitempty"`
	CPU        float64    `json:"cpu_percent"`
	Memory     float64    `json:"memory_percent"`
	Disk       float64    `json:"disk_percent"`
	Celsius    float64    `json:"celsius,omitempty"`
	Pending    []string   `json:"pending_changes,omitempty"`
	Stopped    []string   `json:"stopped_services,omitempty"`
	Gateways   []kit.Item `json:"gateways,omitempty"`
	Interfaces []kit.Item `json:"interfaces,omitempty"`
	Notes      []string   `json:"notes,omitempty"`
}

func (f *firewall) addOverview(s *kit.Server) {
	kit.Add(s, kit.Tool{
		Name: "overview", Title: "Firewall at a glance",
		Description: "Version, load, gateways with loss and delay, interfaces, enabled services that do not run, and changes that are not applied yet.",
	}, func(ctx context.Context, _ *kit.Call, _ struct{}) (*overview, error) { return f.overview(ctx) })
}

func (f *firewall) overview(ctx context.Context) (*overview, error) {
	var (
		o      overview
		status struct {
			Uptime string   `json:"uptime"`
			CPU    float64  `json:"cpu_usage"`
			Memory float64  `json:"mem_usage"`
			Disk   float64  `json:"disk_usage"`
			TempC  *float64 `json:"temp_c"`
		}
	)
	if err := f.get(ctx, "/status/system", nil, &status); err != nil {
		return nil, err
	}
	o.Uptime, o.CPU, o.Memory, o.Disk = status.Uptime, status.CPU, status.Memory, status.Disk
	if status.TempC != nil {
		o.Celsius = *status.TempC
	}
	// What one key may not read must not hide the rest.
	part := func(what string, err error) error {
		if refusal, ok := asRefusal(err); ok {
			o.Notes = append(o.Notes, what+": "+refusal.Message)
			return nil
		}
		return err
	}
	var version struct {
		Version string `json:"version"`
	}
	var name struct {
		Host   string `json:"hostname"`
		Domain string `json:"domain"`
	}
	var applied struct {
		Pending []string `json:"pending_subsystems"`
	}
	for _, p := range []struct {
		what, path string
		out        any
	}{{"version", "/system/version", &version}, {"host name", "/system/hostname", &name}, {"staged changes", "/firewall/apply", &applied}} {
		if err := part(p.what, f.get(ctx, p.path, nil, p.out)); err != nil {
			return nil, err
		}
	}
	o.Version, o.Host, o.Pending = version.Version, strings.Trim(name.Host+"."+name.Domain, "."), applied.Pending
	for _, p := range []struct {
		what string
		kind kind
		put  func([]kit.Item)
	}{
		{"gateways", network["gateways"], func(items []kit.Item) { o.Gateways = only(items, network["gateways"].columns) }},
		{"interfaces", network["interfaces"], func(items []kit.Item) {
			o.Interfaces = only(items, []string{"descr", "name", "status", "ipaddr", "subnet"})
		}},
		{"services", parts["services"], func(items []kit.Item) {
			for _, it := range items {
				if it["enabled"] == true && it["status"] != true {
					o.Stopped = append(o.Stopped, fmt.Sprint(it["name"]))
				}
			}
		}},
	} {
		items, err := f.list(ctx, p.kind.path, nil)
		if err := part(p.what, err); err != nil {
			return nil, err
		}
		p.put(items)
	}
	return &o, nil
}
