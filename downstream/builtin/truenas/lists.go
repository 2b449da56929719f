package truenas

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

// kind is a list that TrueNAS keeps. Members that are named nowhere are never shown: apps and VMs hold passwords in their configuration.
type kind struct {
	method  string
	columns []string
	more    []string
	shape   func(kit.Item) // makes members that TrueNAS does not have so
}

var shares = map[string]kind{
	"smb":           {"sharing.smb.query", []string{"id", "name", "path", "enabled", "readonly", "browsable", "comment", "locked"}, []string{"purpose"}, nil},
	"nfs":           {"sharing.nfs.query", []string{"id", "path", "enabled", "ro", "networks", "hosts", "comment", "locked"}, []string{"maproot_user", "mapall_user", "security"}, nil},
	"iscsi_targets": {"iscsi.target.query", []string{"id", "name", "alias", "mode"}, []string{"auth_networks", "rel_tgt_id"}, nil},
	"iscsi_extents": {"iscsi.extent.query", []string{"id", "name", "type", "path", "enabled", "ro", "blocksize"}, []string{"serial", "naa", "comment", "locked"}, nil},
}

var workloads = map[string]kind{
	"apps": {"app.query", []string{"name", "state", "version", "latest_version", "upgrade_available", "portals", "containers"}, []string{"id", "human_version", "custom_app", "image_updates_available"}, func(it kit.Item) {
		it["containers"] = at(it, "active_workloads", "containers")
		if m, ok := it["portals"].(map[string]any); ok {
			urls := []any{}
			for _, k := range slices.Sorted(maps.Keys(m)) {
				urls = append(urls, fmt.Sprint(m[k]))
			}
			it["portals"] = urls
		}
	}},
	"vms":      {"vm.query", []string{"id", "name", "state", "vcpus", "cores", "threads", "memory_mib", "autostart", "description"}, []string{"bootloader", "time"}, func(it kit.Item) { it["state"], it["memory_mib"] = at(it, "status", "state"), it["memory"] }},
	"services": {"service.query", []string{"service", "state", "enable"}, []string{"pids"}, nil},
}

type kinds struct {
	Kind string `json:"kind"`
	kit.Page
}

type alertsArgs struct {
	Dismissed bool `json:"dismissed,omitempty" jsonschema:"also those that were dismissed"`
	kit.Page
}

type jobsArgs struct {
	State string `json:"state,omitempty"`
	kit.Page
}

var (
	alertColumns = []string{"level", "text", "datetime", "uuid", "dismissed"}
	jobColumns   = []string{"id", "method", "state", "percent", "description", "error", "time_started", "time_finished"}
)

func (n *nas) addLists(s *kit.Server) {
	for _, t := range []struct {
		name, title, description string
		of                       map[string]kind
	}{
		{"shares", "Shares", "What is shared by SMB, NFS or iSCSI: name, path, whether it is on, and who may reach it.", shares},
		{"workloads", "Apps, VMs and services", "Apps with versions and updates, virtual machines, or system services: which run, which start at boot.", workloads},
	} {
		kit.Add(s, kit.Tool{
			Name: t.name, Title: t.title, Description: t.description,
			Adjust: func(s *jsonschema.Schema) {
				kit.PageLimits(s)
				kit.Enum(s, "kind", slices.Sorted(maps.Keys(t.of))...)
			},
		}, func(ctx context.Context, _ *kit.Call, in kinds) (*kit.Listing, error) {
			k := t.of[in.Kind]
			items, err := n.query(ctx, k.method, nil, nil)
			if err != nil {
				return nil, err
			}
			if k.shape != nil {
				for _, it := range items {
					k.shape(it)
				}
			}
			return kit.List(only(items, k.columns, k.more), in.Page, k.columns...), nil
		})
	}
	kit.Add(s, kit.Tool{
		Name: "alerts", Title: "Alerts", Adjust: kit.PageLimits,
		Description: "What TrueNAS warns of: pools, disks, certificates, updates; the worst first. uuid is what alert_dismiss takes.",
	}, func(ctx context.Context, _ *kit.Call, in alertsArgs) (*kit.Listing, error) {
		items, err := n.alerts(ctx, in.Dismissed)
		if err != nil {
			return nil, err
		}
		return kit.List(items, in.Page, alertColumns...), nil
	})
	kit.Add(s, kit.Tool{
		Name: "jobs", Title: "Jobs",
		Description: "Long work, the newest first: what it is, how far, how it ended. A job that was started is looked after here, not started again.",
		Adjust: func(s *jsonschema.Schema) {
			kit.PageLimits(s)
			kit.Enum(s, "state", "RUNNING", "WAITING", "SUCCESS", "FAILED", "ABORTED")
		},
	}, func(ctx context.Context, _ *kit.Call, in jobsArgs) (*kit.Listing, error) {
		var filters []any
		if in.State != "" {
			filters = equal("state", in.State)
		}
		items, err := n.query(ctx, "core.get_jobs", filters, map[string]any{"order_by": []any{"-id"}, "limit": 1000})
		if err != nil {
			return nil, err
		}
		return kit.List(jobRows(items), in.Page, jobColumns...), nil
	})
}

// jobRows returns what may be shown of jobs. Their arguments may hold passwords.
func jobRows(items []kit.Item) []kit.Item {
	for _, it := range items {
		it["percent"], it["description"] = at(it, "progress", "percent"), at(it, "progress", "description")
		if text, ok := it["error"].(string); ok {
			it["error"] = clip(text, 300)
		}
	}
	return only(items, jobColumns)
}

var levels = []string{"EMERGENCY", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO"}

// alerts returns the alerts, the worst first.
func (n *nas) alerts(ctx context.Context, dismissed bool) ([]kit.Item, error) {
	var items []kit.Item
	if err := n.call(ctx, "alert.list", nil, &items); err != nil {
		return nil, err
	}
	if !dismissed {
		items = slices.DeleteFunc(items, func(it kit.Item) bool { return it["dismissed"] == true })
	}
	for _, it := range items {
		if text, ok := it["formatted"].(string); ok && text != "" {
			it["text"] = text
		}
		it["text"] = clip(unmarked(fmt.Sprint(it["text"])), 500)
	}
	rank := func(it kit.Item) int { return slices.Index(levels, strings.ToUpper(fmt.Sprint(it["level"]))) }
	slices.SortStableFunc(items, func(a, b kit.Item) int { return rank(a) - rank(b) })
	return only(items, alertColumns), nil
}

// unmarked takes the HTML out of a text.
func unmarked(s string) string {
	var b strings.Builder
	inside := false
	for _, r := range s {
		switch {
		case r == '<':
			inside = true
		case r == '>' && inside:
			inside = false
			b.WriteByte(' ')
		case !inside:
			b.WriteRune(r)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}
