package sim

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// task is one that runs or ran. Its effect happens at its end.
type task struct {
	upid, node, kind, id, user string
	start, end                 time.Time
	exit                       string // what it will have said at its end
	log                        []line
	effect                     func()
	ended                      bool
}

// line is written when a part of the task's time, between 0 and 1, is over.
type line struct {
	at   float64
	text string
}

// task adds a task. The caller sets what else it is.
func (c *cluster) task(node, kind, id string, start time.Time, takes time.Duration) *task {
	c.pids++
	pid := 0x1000 + c.pids*37
	t := &task{
		upid: fmt.Sprintf("UPID:%s:%08X:%08X:%08X:%s:%s:%s:", node, pid, 0x01000000+c.pids*4321, start.Unix(), kind, id, "mcpgw@pve!lab"),
		node: node, kind: kind, id: id, user: "mcpgw@pve!lab", start: start, end: start.Add(takes), exit: "OK",
	}
	c.tasks = append(c.tasks, t)
	return t
}

// run starts a task on a guest. If the guest is locked the task fails, as Proxmox checks only then.
func (c *cluster) run(g *guest, kind string, takes time.Duration, lock string, log []line, effect func()) *task {
	t := c.task(g.node, kind, strconv.Itoa(g.vmid), time.Now(), time.Duration(float64(takes)/c.Pace))
	if g.lock != "" {
		t.end = t.start
		t.fail("%s is locked (%s)", map[string]string{"qemu": "VM", "lxc": "CT"}[g.kind], g.lock)
		return t
	}
	t.log = log
	g.lock = lock
	t.effect = func() {
		if lock != "" {
			g.lock = ""
		}
		if effect != nil {
			effect()
		}
	}
	return t
}

func (t *task) fail(format string, args ...any) {
	t.exit = fmt.Sprintf(format, args...)
	t.log = append(t.log, line{1, "TASK ERROR: " + t.exit})
}

// settle lets happen what is due. The caller holds mu.
func (c *cluster) settle(now time.Time) {
	due := slices.DeleteFunc(slices.Clone(c.tasks), func(t *task) bool { return t.ended || t.end.After(now) })
	slices.SortStableFunc(due, func(a, b *task) int { return a.end.Compare(b.end) })
	for _, t := range due {
		t.ended = true
		if t.effect != nil {
			t.effect()
		}
		if t.exit == "OK" && (len(t.log) == 0 || t.log[len(t.log)-1].text != "TASK OK") {
			t.log = append(t.log, line{1, "TASK OK"})
		}
	}
}

// written returns the log so far.
func (t *task) written(now time.Time) []string {
	part := 1.0
	if !t.ended {
		part = float64(now.Sub(t.start)) / float64(t.end.Sub(t.start))
	}
	var lines []string
	for _, l := range t.log {
		if l.at <= part {
			lines = append(lines, l.text)
		}
	}
	return lines
}

func (t *task) describe() object {
	o := object{"upid": t.upid, "node": t.node, "type": t.kind, "id": t.id, "user": t.user, "starttime": t.start.Unix(), "pid": 4096, "pstart": 1}
	if t.ended {
		o["endtime"], o["status"] = t.end.Unix(), t.exit
	}
	return o
}

func (c *cluster) taskReads() {
	list := func(node string, most int, failed bool) []object {
		found := []object{}
		for _, t := range slices.Backward(c.tasks) {
			if (node == "" || t.node == node) && (!failed || t.ended && t.exit != "OK") && len(found) < most {
				found = append(found, t.describe())
			}
		}
		return found
	}
	c.handle("GET /cluster/tasks", func(*http.Request) (any, error) { return list("", 1000, false), nil })
	c.handle("GET /nodes/{node}/tasks", func(r *http.Request) (any, error) {
		if err := knownNode(r); err != nil {
			return nil, err
		}
		most, _ := strconv.Atoi(cmp.Or(r.FormValue("limit"), "50"))
		return list(r.PathValue("node"), most, r.FormValue("errors") == "1"), nil
	})
	c.handle("GET /nodes/{node}/tasks/{upid}/status", func(r *http.Request) (any, error) {
		t, err := c.find(r)
		if err != nil {
			return nil, err
		}
		o := t.describe()
		o["status"] = "running"
		if t.ended {
			o["status"], o["exitstatus"] = "stopped", t.exit
		}
		return o, nil
	})
	c.handle("GET /nodes/{node}/tasks/{upid}/log", func(r *http.Request) (any, error) {
		t, err := c.find(r)
		if err != nil {
			return nil, err
		}
		start, _ := strconv.Atoi(r.FormValue("start"))
		limit, _ := strconv.Atoi(cmp.Or(r.FormValue("limit"), "50"))
		lines := t.written(time.Now())
		if len(lines) == 0 {
			return []object{{"n": 1, "t": "no content"}}, nil
		}
		out := []object{}
		for i := max(start, 0); i < min(len(lines), start+limit); i++ {
			out = append(out, object{"n": i + 1, "t": lines[i]})
		}
		return out, nil
	})
}

func (c *cluster) find(r *http.Request) (*task, error) {
	for _, t := range c.tasks {
		if t.upid == r.PathValue("upid") && t.node == r.PathValue("node") {
			return t, nil
		}
	}
	return nil, badParameter("upid", "unable to parse worker upid '%s'", r.PathValue("upid"))
}

func backupLog(g *guest, storage string) []line {
	return []line{
		{0, fmt.Sprintf("INFO: starting new backup job: vzdump %d --storage %s --mode snapshot --compress zstd", g.vmid, storage)},
		{0.05, fmt.Sprintf("INFO: Starting Backup of VM %d (%s)", g.vmid, g.kind)},
		{0.1, "INFO: status = running"},
		{0.25, "INFO:  22% (7.1 GiB of 32.0 GiB) in 3s, read: 2.4 GiB/s, write: 410.2 MiB/s"},
		{0.5, "INFO:  51% (16.4 GiB of 32.0 GiB) in 6s, read: 3.1 GiB/s, write: 388.0 MiB/s"},
		{0.75, "INFO:  78% (25.0 GiB of 32.0 GiB) in 9s, read: 2.9 GiB/s, write: 402.7 MiB/s"},
		{0.95, "INFO: 100% (32.0 GiB of 32.0 GiB) in 12s, read: 2.3 GiB/s, write: 0 B/s"},
		{1, fmt.Sprintf("INFO: Finished Backup of VM %d (00:00:12)", g.vmid)},
		{1, "INFO: Backup job finished successfully"},
	}
}
