package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// job is work that takes time. Its effect comes at its end.
type job struct {
	id     int
	method string
	begun  time.Time
	takes  time.Duration
	done   bool
	failed string
	effect func() (any, string) // result, or why it failed
	result any
}

// start begins a job and returns its id, which is what the call of a method with jobs answers.
func (n *NAS) start(method string, takes time.Duration, effect func() (any, string)) (any, *fail) {
	j := &job{id: 1001 + len(n.jobs), method: method, begun: time.Now(), takes: takes, effect: effect}
	n.jobs = append(n.jobs, j)
	return j.id, nil
}

// settle lets the effects of the jobs that are over come true.
func (n *NAS) settle() {
	for _, j := range n.jobs {
		if !j.done && time.Since(j.begun) >= j.takes {
			j.done = true
			j.result, j.failed = j.effect()
		}
	}
}

func date(t time.Time) object { return object{"$date": t.UnixMilli()} }

func (j *job) row() object {
	percent := min(int(time.Since(j.begun)*100/j.takes), 99)
	out := object{
		"id": j.id, "method": j.method, "arguments": []any{"not shown"}, "transient": false, "description": nil, "abortable": false, "logs_path": nil, "logs_excerpt": nil, "result": nil, "error": nil, "exception": nil, "exc_info": nil,
		"state": "RUNNING", "time_started": date(j.begun), "time_finished": nil, "progress": object{"percent": percent, "description": "Working on " + j.method, "extra": nil},
	}
	if j.done {
		out["state"], out["time_finished"], out["result"] = "SUCCESS", date(j.begun.Add(j.takes)), j.result
		out["progress"] = object{"percent": 100, "description": "", "extra": nil}
	}
	if j.failed != "" {
		out["state"], out["error"], out["exception"] = "FAILED", j.failed, Trace
	}
	return out
}

var methods = map[string]func(*NAS, []any) (any, *fail){
	"system.info":          (*NAS).info,
	"disk.temperatures":    (*NAS).temperatures,
	"alert.list":           func(n *NAS, _ []any) (any, *fail) { return n.tables["alert.list"], nil },
	"alert.dismiss":        func(n *NAS, p []any) (any, *fail) { return n.dismiss(p, true) },
	"alert.restore":        func(n *NAS, p []any) (any, *fail) { return n.dismiss(p, false) },
	"pool.snapshot.create": (*NAS).snapshotCreate, "zfs.snapshot.create": (*NAS).snapshotCreate,
	"pool.snapshot.delete": (*NAS).snapshotDelete, "zfs.snapshot.delete": (*NAS).snapshotDelete,
	"pool.snapshot.rollback": (*NAS).snapshotRollback, "zfs.snapshot.rollback": (*NAS).snapshotRollback,
	"pool.dataset.create": (*NAS).datasetCreate,
	"pool.dataset.update": (*NAS).datasetUpdate,
	"pool.dataset.delete": (*NAS).datasetDelete,
	"pool.scrub.scrub":    (*NAS).scrub,
	"service.control": func(n *NAS, p []any) (any, *fail) {
		verb, _ := arg[string](p, 0)
		name, _ := arg[string](p, 1)
		if _, at := n.find("service.query", "service", name); at < 0 {
			return nil, invalid("service_control.service", "Service "+name+" not found")
		}
		return n.start("service.control", n.opts.Job/4, func() (any, string) { ok, _ := n.service(name, verb); return ok, "" })
	},
	"service.start":   func(n *NAS, p []any) (any, *fail) { name, _ := arg[string](p, 0); return n.service(name, "START") },
	"service.stop":    func(n *NAS, p []any) (any, *fail) { name, _ := arg[string](p, 0); return n.service(name, "STOP") },
	"service.restart": func(n *NAS, p []any) (any, *fail) { name, _ := arg[string](p, 0); return n.service(name, "RESTART") },
	"app.start":       func(n *NAS, p []any) (any, *fail) { return n.app(p, "app.start", object{"state": "RUNNING"}) },
	"app.stop":        func(n *NAS, p []any) (any, *fail) { return n.app(p, "app.stop", object{"state": "STOPPED"}) },
	"app.upgrade":     (*NAS).appUpgrade,
	"vm.start": func(n *NAS, p []any) (any, *fail) {
		row, bad := n.vm(p)
		if bad == nil {
			row["status"] = object{"state": "RUNNING", "pid": 4711, "domain_state": "RUNNING"}
		}
		return nil, bad
	},
	"vm.stop": func(n *NAS, p []any) (any, *fail) {
		row, bad := n.vm(p)
		if bad != nil {
			return nil, bad
		}
		return n.start("vm.stop", n.opts.Job, func() (any, string) {
			row["status"] = object{"state": "STOPPED", "pid": nil, "domain_state": "SHUTOFF"}
			return nil, ""
		})
	},
}

func (n *NAS) info([]any) (any, *fail) {
	up := 41*24*time.Hour + time.Since(n.begun)
	return object{
		"version": n.opts.Release + ".1", "hostname": "nas", "physmem": int64(68_619_476_992), "model": "Intel(R) Core(TM) i3-12100", "cores": 8, "physical_cores": 4, "loadavg": []float64{0.42, 0.51, 0.48}, "uptime": up.Round(time.Second).String(),
		"uptime_seconds": up.Seconds(), "system_serial": "LAB0001", "system_product": "X13SAE", "system_manufacturer": "Supermicro", "license": nil, "boottime": date(time.Now().Add(-up)), "datetime": date(time.Now()), "timezone": "Europe/Berlin", "ecc_memory": true,
	}, nil
}

func (n *NAS) temperatures([]any) (any, *fail) {
	out := object{}
	for i, d := range n.tables["disk.query"] {
		out[fmt.Sprint(d["name"])] = 31 + i
	}
	return out, nil
}

func (n *NAS) dismiss(p []any, dismissed bool) (any, *fail) {
	id, _ := arg[string](p, 0)
	row, at := n.find("alert.list", "uuid", id)
	if at < 0 {
		return nil, callError(2, "ENOENT", "[ENOENT] Alert "+id+" not found")
	}
	row["dismissed"] = dismissed
	return nil, nil
}

func (n *NAS) snapshotCreate(p []any) (any, *fail) {
	data, _ := arg[map[string]any](p, 0)
	set, name := fmt.Sprint(data["dataset"]), fmt.Sprint(data["name"])
	if _, at := n.find("pool.dataset.query", "id", set); at < 0 {
		return nil, invalid("snapshot_create.dataset", "Dataset "+set+" not found")
	}
	if _, at := n.find("pool.snapshot.query", "id", set+"@"+name); at >= 0 {
		return nil, callError(17, "EEXIST", "[EEXIST] Cannot create snapshot "+set+"@"+name+": dataset already exists")
	}
	var first object
	for _, d := range n.tables["pool.dataset.query"] {
		id := fmt.Sprint(d["id"])
		if id != set && (data["recursive"] != true || !strings.HasPrefix(id, set+"/")) {
			continue
		}
		s := snapshot(id, name, time.Now(), 0)
		n.tables["pool.snapshot.query"] = append(n.tables["pool.snapshot.query"], s)
		if id == set {
			first = s
		}
	}
	return first, nil
}

func (n *NAS) snapshotDelete(p []any) (any, *fail) {
	id, _ := arg[string](p, 0)
	row, at := n.find("pool.snapshot.query", "id", id)
	if at < 0 {
		return nil, callError(2, "ENOENT", "[ENOENT] None: Snapshot "+id+" not found")
	}
	if holds, ok := row["holds"].(object); ok && len(holds) > 0 {
		return nil, callError(16, "EBUSY", "[EBUSY] Failed to delete snapshot: dataset is busy (it is held)")
	}
	n.tables["pool.snapshot.query"] = slices.Delete(n.tables["pool.snapshot.query"], at, at+1)
	return true, nil
}

func (n *NAS) snapshotRollback(p []any) (any, *fail) {
	id, _ := arg[string](p, 0)
	options, _ := arg[map[string]any](p, 1)
	row, at := n.find("pool.snapshot.query", "id", id)
	if at < 0 {
		return nil, callError(2, "ENOENT", "[ENOENT] None: Snapshot "+id+" not found")
	}
	newer := func(s object) bool { return s["dataset"] == row["dataset"] && created(s) > created(row) }
	if slices.ContainsFunc(n.tables["pool.snapshot.query"], newer) {
		if options["recursive"] != true {
			return nil, callError(14, "EFAULT", "[EFAULT] Failed to rollback snapshot: more recent snapshots or bookmarks exist")
		}
		n.tables["pool.snapshot.query"] = slices.DeleteFunc(n.tables["pool.snapshot.query"], newer)
	}
	return nil, nil
}

func created(s object) string { return fmt.Sprint(lookup(s, "properties.creation.rawvalue")) }

func (n *NAS) datasetCreate(p []any) (any, *fail) {
	data, _ := arg[map[string]any](p, 0)
	name := fmt.Sprint(data["name"])
	parent := name[:max(strings.LastIndex(name, "/"), 0)]
	if _, at := n.find("pool.dataset.query", "id", parent); at < 0 {
		return nil, invalid("pool_dataset_create.name", "Parent dataset "+parent+" does not exist")
	}
	if _, at := n.find("pool.dataset.query", "id", name); at >= 0 {
		return nil, invalid("pool_dataset_create.name", "Path "+name+" already exists")
	}
	d := dataset(name, 196_608, 9_000_000_000_000)
	n.put(d, data)
	n.tables["pool.dataset.query"] = append(n.tables["pool.dataset.query"], d)
	return d, nil
}

// put sets the properties of a dataset that data names.
func (n *NAS) put(d, data object) {
	for k, v := range data {
		switch k {
		case "quota", "refquota", "volsize":
			d[k] = object{"parsed": v, "rawvalue": fmt.Sprint(v), "value": fmt.Sprint(v), "source": "LOCAL"}
		case "compression", "readonly", "atime", "sync", "comments", "recordsize":
			d[k] = object{"parsed": v, "rawvalue": strings.ToLower(fmt.Sprint(v)), "value": v, "source": "LOCAL"}
		case "type":
			d[k] = v
		}
	}
}

func (n *NAS) datasetUpdate(p []any) (any, *fail) {
	id, _ := arg[string](p, 0)
	data, _ := arg[map[string]any](p, 1)
	d, at := n.find("pool.dataset.query", "id", id)
	if at < 0 {
		return nil, callError(2, "ENOENT", "[ENOENT] None: PoolDataset "+id+" does not exist")
	}
	n.put(d, data)
	return d, nil
}

func (n *NAS) datasetDelete(p []any) (any, *fail) {
	id, _ := arg[string](p, 0)
	options, _ := arg[map[string]any](p, 1)
	if _, at := n.find("pool.dataset.query", "id", id); at < 0 {
		return nil, callError(2, "ENOENT", "[ENOENT] None: PoolDataset "+id+" does not exist")
	}
	below := func(d object) bool { return strings.HasPrefix(fmt.Sprint(d["id"]), id+"/") }
	if slices.ContainsFunc(n.tables["pool.dataset.query"], below) && options["recursive"] != true {
		return nil, callError(14, "EFAULT", "[EFAULT] Failed to delete dataset: cannot destroy '"+id+"': filesystem has children")
	}
	n.tables["pool.dataset.query"] = slices.DeleteFunc(n.tables["pool.dataset.query"], func(d object) bool { return d["id"] == id || below(d) })
	n.tables["pool.snapshot.query"] = slices.DeleteFunc(n.tables["pool.snapshot.query"], func(s object) bool {
		set := fmt.Sprint(s["dataset"])
		return set == id || strings.HasPrefix(set, id+"/")
	})
	return true, nil
}

func (n *NAS) scrub(p []any) (any, *fail) {
	name, _ := arg[string](p, 0)
	row, at := n.find("pool.query", "name", name)
	if at < 0 {
		return nil, callError(2, "ENOENT", "[ENOENT] Pool "+name+" not found")
	}
	if action, ok := arg[string](p, 1); ok && action != "START" {
		row["scan"] = object{"function": "SCRUB", "state": "CANCELED", "percentage": 12.0, "errors": 0, "start_time": date(time.Now()), "end_time": date(time.Now())}
		return n.start("pool.scrub.scrub", time.Millisecond, func() (any, string) { return nil, "" })
	}
	row["scan"] = object{"function": "SCRUB", "state": "SCANNING", "percentage": 0.5, "errors": 0, "start_time": date(time.Now()), "end_time": nil, "total_secs_left": 5400}
	return n.start("pool.scrub.scrub", n.opts.Job, func() (any, string) {
		row["scan"] = object{"function": "SCRUB", "state": "FINISHED", "percentage": 100.0, "errors": 0, "start_time": date(time.Now()), "end_time": date(time.Now())}
		return nil, ""
	})
}

func (n *NAS) service(name, verb string) (any, *fail) {
	row, at := n.find("service.query", "service", name)
	if at < 0 {
		return nil, callError(2, "ENOENT", "[ENOENT] Service "+name+" not found")
	}
	row["state"], row["pids"] = "RUNNING", []int{4812}
	if verb == "STOP" {
		row["state"], row["pids"] = "STOPPED", []int{}
	}
	return true, nil
}

func (n *NAS) app(p []any, method string, change object) (any, *fail) {
	name, _ := arg[string](p, 0)
	row, at := n.find("app.query", "id", name)
	if at < 0 {
		return nil, callError(2, "ENOENT", "[ENOENT] Application "+name+" does not exist")
	}
	return n.start(method, n.opts.Job, func() (any, string) {
		if row["name"] == "broken" {
			return nil, "[EFAULT] Failed 'up' action for 'broken' app. Please check /var/log/app_lifecycle.log for more details"
		}
		maps.Copy(row, change)
		return nil, ""
	})
}

func (n *NAS) appUpgrade(p []any) (any, *fail) {
	name, _ := arg[string](p, 0)
	row, at := n.find("app.query", "id", name)
	if at >= 0 && row["upgrade_available"] != true {
		return nil, callError(22, "EINVAL", "[EINVAL] app_upgrade: No upgrade available for "+name)
	}
	change := object{"upgrade_available": false}
	if at >= 0 {
		change["version"] = row["latest_version"]
	}
	return n.app(p, "app.upgrade", change)
}

func (n *NAS) vm(p []any) (object, *fail) {
	id, _ := arg[float64](p, 0)
	row, at := n.find("vm.query", "id", int(id))
	if at < 0 {
		return nil, callError(2, "ENOENT", fmt.Sprintf("[ENOENT] None: VM %v does not exist", p))
	}
	return row, nil
}
