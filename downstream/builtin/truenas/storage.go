package truenas

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

type overview struct {
	Host     string     `json:"host,omitempty"`
	Version  string     `json:"version,omitempty"`
	Uptime   string     `json:"uptime,omitempty"`
	CPU      string     `json:"cpu,omitempty"`
	Memory   float64    `json:"memory_bytes,omitempty"`
	Load     []float64  `json:"load,omitempty"`
	Pools    []kit.Item `json:"pools,omitempty"`
	Alerts   []kit.Item `json:"alerts,omitempty"`
	Stopped  []string   `json:"stopped_services,omitempty"`
	Jobs     []kit.Item `json:"running_jobs,omitempty"`
	Problems []string   `json:"problems,omitempty"`
}

func (n *nas) addOverview(s *kit.Server) {
	kit.Add(s, kit.Tool{
		Name: "overview", Title: "Storage server at a glance",
		Description: "Version, load, health and fill of pools, open alerts, services that should run and do not, and jobs under way.",
	}, func(ctx context.Context, _ *kit.Call, _ struct{}) (*overview, error) { return n.overview(ctx) })
}

func (n *nas) overview(ctx context.Context) (*overview, error) {
	var info struct {
		Version string    `json:"version"`
		Host    string    `json:"hostname"`
		Memory  float64   `json:"physmem"`
		Model   string    `json:"model"`
		Load    []float64 `json:"loadavg"`
		Uptime  string    `json:"uptime"`
	}
	if err := n.call(ctx, "system.info", nil, &info); err != nil {
		return nil, err
	}
	o := &overview{Host: info.Host, Version: info.Version, Uptime: info.Uptime, CPU: info.Model, Memory: info.Memory, Load: info.Load}
	// What the user of the key may not read must not hide the rest; a failure of the system itself does end it.
	part := func(what string, err error) error {
		if _, failed := errors.AsType[*kit.Failure](err); failed || ctx.Err() != nil {
			return err
		}
		if err != nil {
			o.Problems = append(o.Problems, fmt.Sprintf("%s: %v", what, err))
		}
		return nil
	}
	pools, err := n.pools(ctx)
	if err := part("pools", err); err != nil {
		return nil, err
	}
	o.Pools = only(pools, []string{"name", "status", "healthy", "used_percent", "free", "scan", "problems"})
	alerts, err := n.alerts(ctx, false)
	if err := part("alerts", err); err != nil {
		return nil, err
	}
	o.Alerts = only(alerts[:min(len(alerts), 20)], []string{"level", "text", "datetime"})
	services, err := n.query(ctx, "service.query", nil, nil)
	if err := part("services", err); err != nil {
		return nil, err
	}
	for _, it := range services {
		if it["enable"] == true && it["state"] != "RUNNING" {
			o.Stopped = append(o.Stopped, fmt.Sprint(it["service"]))
		}
	}
	jobs, err := n.query(ctx, "core.get_jobs", equal("state", "RUNNING"), nil)
	if err := part("jobs", err); err != nil {
		return nil, err
	}
	o.Jobs = only(jobRows(jobs), []string{"id", "method", "percent", "description"})
	return o, nil
}

var poolColumns = []string{"name", "status", "healthy", "size", "used", "free", "used_percent", "fragmentation", "scan", "problems"}

// pools returns the pools, with what is wrong in their topology in words.
func (n *nas) pools(ctx context.Context) ([]kit.Item, error) {
	items, err := n.query(ctx, "pool.query", nil, nil)
	if err != nil {
		return nil, err
	}
	for _, it := range items {
		size, used := num(it["size"]), num(it["allocated"])
		it["used"] = used
		if size > 0 {
			it["used_percent"] = math.Round(used / size * 100)
		}
		if scan, ok := it["scan"].(map[string]any); ok {
			it["scan"] = scanText(scan)
		}
		var problems, vdevs []any
		for _, class := range []string{"data", "special", "dedup", "log", "cache", "spare"} {
			for _, v := range list(at(it, "topology", class)) {
				vdev, _ := v.(map[string]any)
				row := kit.Item{"class": class, "type": vdev["type"], "status": vdev["status"]}
				var disks []string
				if vdev["type"] == "DISK" {
					disks = append(disks, fmt.Sprint(vdev["disk"]))
				}
				problems = append(problems, ailing(class, vdev)...)
				for _, child := range list(vdev["children"]) {
					d, _ := child.(map[string]any)
					disks = append(disks, fmt.Sprint(d["disk"]))
					problems = append(problems, ailing(class+" "+fmt.Sprint(vdev["name"]), d)...)
				}
				row["disks"] = strings.Join(disks, " ")
				vdevs = append(vdevs, row)
			}
		}
		if len(problems) > 0 {
			it["problems"] = problems
		}
		it["vdevs"] = vdevs
	}
	return items, nil
}

// ailing says what is wrong with a device of a pool.
func ailing(where string, d map[string]any) []any {
	errs := num(at(d, "stats", "read_errors")) + num(at(d, "stats", "write_errors")) + num(at(d, "stats", "checksum_errors"))
	status := fmt.Sprint(d["status"])
	if errs == 0 && (status == "ONLINE" || status == "AVAIL" || d["status"] == nil) {
		return nil
	}
	name := fmt.Sprint(d["name"])
	if disk, ok := d["disk"].(string); ok {
		name = disk
	}
	return []any{fmt.Sprintf("%s: %s is %s, %.0f errors", where, name, status, errs)}
}

func scanText(scan map[string]any) string {
	text := strings.ToLower(fmt.Sprintf("%v %v", scan["function"], scan["state"]))
	if scan["state"] == "SCANNING" {
		text += fmt.Sprintf(" %.0f%%", num(scan["percentage"]))
	} else if end, ok := plain(scan["end_time"]).(string); ok {
		text += " " + end
	}
	if e := num(scan["errors"]); e > 0 {
		text += fmt.Sprintf(", %.0f errors", e)
	}
	return text
}

var (
	datasetColumns = []string{"id", "type", "used", "available", "quota", "compressratio", "encrypted", "locked", "mountpoint"}
	datasetMore    = []string{"pool", "compression", "refquota", "readonly", "recordsize", "deduplication", "sync", "atime", "comments", "creation", "usedbysnapshots", "usedbydataset", "volsize"}
	diskColumns    = []string{"name", "model", "serial", "size", "type", "pool", "celsius", "smart", "last_test"}
	diskMore       = []string{"rotationrate", "bus", "description", "lunid", "hddstandby", "tests"}
)

type datasetsArgs struct {
	Under string `json:"under,omitempty" jsonschema:"only this dataset and those below it"`
	kit.Page
}

func (n *nas) addStorage(s *kit.Server) {
	kit.Add(s, kit.Tool{
		Name: "pools", Title: "Pools", Adjust: kit.PageLimits,
		Description: "Pools with health, fill, last scrub and what is wrong in their topology. fields=[\"name\",\"vdevs\"] shows the devices.",
	}, func(ctx context.Context, _ *kit.Call, in struct{ kit.Page }) (*kit.Listing, error) {
		items, err := n.pools(ctx)
		if err != nil {
			return nil, err
		}
		return kit.List(only(items, poolColumns, []string{"id", "vdevs", "status_detail", "path"}), in.Page, poolColumns...), nil
	})
	kit.Add(s, kit.Tool{
		Name: "datasets", Title: "Datasets", Adjust: kit.PageLimits,
		Description: "Datasets and volumes with used and available bytes, quota, encryption and mount point. fields= shows more properties.",
	}, func(ctx context.Context, _ *kit.Call, in datasetsArgs) (*kit.Listing, error) {
		items, err := n.query(ctx, "pool.dataset.query", under(in.Under), map[string]any{
			"order_by": []any{"id"}, "select": anys(datasetColumns, datasetMore),
			"extra": map[string]any{"flat": true, "retrieve_user_props": false},
		})
		if err != nil {
			return nil, err
		}
		if in.Under != "" { // the filter takes tank/home2 for tank/home, too
			items = only(items, datasetColumns, datasetMore)
			kept := items[:0]
			for _, it := range items {
				if id := fmt.Sprint(it["id"]); id == in.Under || strings.HasPrefix(id, in.Under+"/") {
					kept = append(kept, it)
				}
			}
			items = kept
		}
		return kit.List(only(items, datasetColumns, datasetMore), in.Page, datasetColumns...), nil
	})
	kit.Add(s, kit.Tool{
		Name: "disks", Title: "Disks", Adjust: kit.PageLimits,
		Description: "Disks with model, serial, size, pool, temperature and the last SMART self-test (releases before 25.10 keep those).",
	}, n.disks)
}

func under(dataset string) []any {
	if dataset == "" {
		return nil
	}
	return []any{[]any{"id", "^", dataset}}
}

func anys(lists ...[]string) []any {
	var out []any
	for _, l := range lists {
		for _, s := range l {
			out = append(out, s)
		}
	}
	return out
}

func (n *nas) disks(ctx context.Context, _ *kit.Call, in struct{ kit.Page }) (*kit.Listing, error) {
	items, err := n.query(ctx, "disk.query", nil, map[string]any{"extra": map[string]any{"pools": true}})
	if err != nil {
		return nil, err
	}
	var notes []string
	var temperatures map[string]any
	if err := n.call(ctx, "disk.temperatures", nil, &temperatures); err != nil {
		if _, failed := errors.AsType[*kit.Failure](err); failed || ctx.Err() != nil {
			return nil, err
		}
		notes = append(notes, fmt.Sprintf("no temperatures: %v", err))
	}
	var results []kit.Item
	err = n.first(ctx, &results, call{"smart.test.results", queryParams(nil, nil)})
	switch _, failed := errors.AsType[*kit.Failure](err); {
	case failed, ctx.Err() != nil:
		return nil, err
	case errors.Is(err, errNoMethod):
		notes = append(notes, "this release keeps no SMART self-tests; the tool alerts reports disks that fail")
	case err != nil:
		notes = append(notes, fmt.Sprintf("no SMART results: %v", err))
	}
	tests := map[string][]any{}
	for _, r := range results {
		tests[fmt.Sprint(r["disk"])] = list(r["tests"])
	}
	for _, it := range items {
		name := fmt.Sprint(it["name"])
		it["celsius"] = temperatures[name]
		if ran := tests[name]; len(ran) > 0 {
			last, _ := ran[0].(map[string]any)
			it["smart"], it["last_test"], it["tests"] = last["status"], fmt.Sprintf("%v: %v", last["description"], last["status_verbose"]), ran[:min(len(ran), 10)]
		}
	}
	l := kit.List(only(items, diskColumns, diskMore), in.Page, diskColumns...)
	if len(notes) > 0 {
		l.Say(strings.Join(notes, "; "))
	}
	return l, nil
}
