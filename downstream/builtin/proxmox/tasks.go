package proxmox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

type tasksArgs struct {
	Node   string `json:"node,omitempty" jsonschema:"the longer list of one node"`
	Errors bool   `json:"errors,omitempty" jsonschema:"only tasks that failed"`
	kit.Page
}

type taskLogArgs struct {
	UPID  string `json:"upid" jsonschema:"as tasks and the tools that start tasks show it"`
	Lines int    `json:"lines,omitempty" jsonschema:"how much of the log's end, 1 to 500; default 50"`
}

// taskReport says how a task is.
type taskReport struct {
	Task    string   `json:"task"`
	State   string   `json:"state" jsonschema:"running, ok, warnings or failed"`
	Exit    string   `json:"exit,omitempty"`
	Node    string   `json:"node"`
	Started string   `json:"started,omitempty"`
	Seconds float64  `json:"seconds,omitempty"`
	UPID    string   `json:"upid"`
	Log     []string `json:"log,omitempty"`
	Note    string   `json:"note,omitempty"`
}

// Shrink implements kit.Shrinker.
func (r *taskReport) Shrink() bool {
	if len(r.Log) < 2 {
		return false
	}
	r.Log = r.Log[len(r.Log)/4+1:]
	return true
}

func (p *server) addTasks(s *kit.Server) {
	kit.Add(s, kit.Tool{
		Name: "tasks", Title: "Tasks", Adjust: kit.PageLimits,
		Description: "Recent tasks of the cluster, newest first: what, on which guest and node, by whom, state or error.",
	}, p.tasks)
	kit.Add(s, kit.Tool{
		Name: "task_log", Title: "One task",
		Description: "How one task is or ended, and the end of its log. It tells why a task failed.",
	}, func(ctx context.Context, _ *kit.Call, in taskLogArgs) (*taskReport, error) {
		t, err := parseUPID(in.UPID)
		if err != nil {
			return nil, err
		}
		r, err := p.task(ctx, t)
		if err != nil {
			return nil, err
		}
		r.Log, err = p.logEnd(ctx, t, cmp.Or(min(max(in.Lines, 0), 500), 50))
		return r, err
	})
}

func (p *server) tasks(ctx context.Context, _ *kit.Call, in tasksArgs) (*kit.Listing, error) {
	path, query := "/cluster/tasks", url.Values(nil)
	if in.Node != "" {
		if err := checkNode(in.Node); err != nil {
			return nil, err
		}
		path, query = "/nodes/"+url.PathEscape(in.Node)+"/tasks", url.Values{"limit": {"1000"}, "source": {"all"}}
		if in.Errors {
			query.Set("errors", "1")
		}
	}
	var all []object
	if err := p.get(ctx, path, query, &all); err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(a, b object) int { return cmp.Compare(b.number("starttime"), a.number("starttime")) })
	var items []kit.Item
	for _, o := range all {
		it := kit.Item{
			"task": o.text("type"), "on": o.text("id"), "node": o.text("node"), "user": o.text("user"), "state": "running",
			"started": moment(o.number("starttime")), "upid": o.text("upid"),
		}
		if end := o.number("endtime"); end > 0 {
			it["seconds"] = end - o.number("starttime")
		}
		if exit := cmp.Or(o.text("status"), o.text("exitstatus")); exit != "" && exit != "RUNNING" {
			it["state"] = ended(exit)
			if it["state"] != "ok" {
				it["exit"] = exit
			}
		}
		if in.Errors && it["state"] != "failed" {
			continue
		}
		items = append(items, it)
	}
	return kit.List(items, in.Page, "started", "task", "on", "node", "user", "state", "seconds", "exit", "upid"), nil
}

// ended names how a task ended.
func ended(exit string) string {
	switch {
	case exit == "OK":
		return "ok"
	case strings.HasPrefix(exit, "WARNINGS"):
		return "warnings"
	}
	return "failed"
}

// task is what a UPID says by itself.
type task struct {
	upid, node, kind, id string
	started              time.Time
}

// path of the task in the API.
func (t *task) path() string {
	return fmt.Sprintf("/nodes/%s/tasks/%s", url.PathEscape(t.node), url.PathEscape(t.upid))
}

// upidForm is UPID:node:pid:pstart:starttime:type:id:user: with its last colon.
var upidForm = regexp.MustCompile(`^UPID:([A-Za-z0-9][A-Za-z0-9.-]*):[0-9A-Fa-f]{8,}:[0-9A-Fa-f]{8,}:([0-9A-Fa-f]{8}):([^:\s/]+):([^:\s/]*):([^:\s/]+):$`)

func parseUPID(upid string) (*task, error) {
	m := upidForm.FindStringSubmatch(upid)
	if m == nil {
		return nil, fmt.Errorf("upid %q: expected UPID:NODE:… with its last colon, as tasks shows it", upid)
	}
	started, _ := strconv.ParseInt(m[2], 16, 64)
	return &task{upid, m[1], m[3], m[4], time.Unix(started, 0)}, nil
}

// task asks how a task is.
func (p *server) task(ctx context.Context, t *task) (*taskReport, error) {
	var o object
	if err := p.get(ctx, t.path()+"/status", nil, &o); err != nil {
		return nil, err
	}
	r := &taskReport{
		Task: strings.TrimSpace(t.kind + " " + t.id), State: "running", Node: t.node, UPID: t.upid, Started: moment(o.number("starttime")),
	}
	if o.text("status") == "stopped" {
		r.Exit = cmp.Or(o.text("exitstatus"), "unknown")
		r.State = ended(r.Exit)
	}
	if end := o.number("endtime"); end > 0 {
		r.Seconds = end - o.number("starttime")
	}
	return r, nil
}

// log returns lines of a task's log from the one with index start on.
func (p *server) log(ctx context.Context, t *task, start, limit int) ([]string, error) {
	var lines []object
	query := url.Values{"start": {strconv.Itoa(start)}, "limit": {strconv.Itoa(limit)}}
	if err := p.get(ctx, t.path()+"/log", query, &lines); err != nil {
		return nil, err
	}
	out := make([]string, 0, len(lines))
	for _, l := range lines {
		if text := l.text("t"); text != "no content" {
			out = append(out, text)
		}
	}
	return out, nil
}

// logEnd returns the last n lines.
func (p *server) logEnd(ctx context.Context, t *task, n int) ([]string, error) {
	const page = 5000
	var end []string
	for start := 0; start < 20*page; start += page {
		lines, err := p.log(ctx, t, start, page)
		if err != nil {
			return nil, err
		}
		end = append(end, lines...)
		end = end[max(len(end)-n, 0):]
		if len(lines) < page {
			break
		}
	}
	return end, nil
}

// follow stays with a task until it ends, and tells how it goes on. What it returns as an error is no failure of the system that policies
// could act on: the task has been started, and must not be started again.
func (p *server) follow(ctx context.Context, c *kit.Call, upid string, wait bool) (*taskReport, error) {
	t, err := parseUPID(upid)
	if err != nil {
		return nil, fmt.Errorf("Proxmox VE accepted the request but named no task (%.80q): look with tasks whether it was done", upid) //nolint:staticcheck // a name
	}
	patience := p.silent
	if c.WantsProgress() {
		patience = p.patient
	}
	if !wait {
		patience = 0
	}
	var (
		begun  = time.Now()
		pause  = p.poll
		seen   int
		missed int
		done   float64
	)
	for {
		r, err := p.task(ctx, t)
		switch {
		case err != nil && ctx.Err() != nil:
			return nil, err
		case err != nil:
			missed++
			if f, ok := errors.AsType[*kit.Failure](err); missed >= 5 || !ok || f.Class == kit.ClassAuth {
				// Not wrapped: as a failure of this call it would say that the start was lost.
				return nil, errors.New("task " + upid + " was started, but how it goes on cannot be seen: " + err.Error() +
					". It may have ended well: ask task_log for it before doing anything again")
			}
		case r.State != "running":
			return p.finish(ctx, t, r)
		default:
			missed = 0
			if patience > 0 {
				seen, done = p.tell(ctx, c, t, seen, done)
			}
		}
		if time.Since(begun)+pause > patience {
			if r == nil {
				r = &taskReport{Task: strings.TrimSpace(t.kind + " " + t.id), State: "running", Node: t.node, UPID: upid}
			}
			r.Note = "still running, and goes on by itself: ask task_log for this upid how it ended"
			return r, nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		pause = min(pause*3/2, p.most)
	}
}

var percent = regexp.MustCompile(`(\d{1,3}(?:\.\d+)?)\s?%`)

// tell passes on what is new in the log. Progress never goes back, which the protocol asks for.
func (p *server) tell(ctx context.Context, c *kit.Call, t *task, seen int, done float64) (int, float64) {
	lines, err := p.log(ctx, t, seen, 500)
	if err != nil {
		return seen, done // the state is asked for again anyway
	}
	text := fmt.Sprintf("%s runs for %.0f s", t.kind, time.Since(t.started).Seconds())
	if n := len(lines); n > 0 {
		text = lines[n-1]
	}
	next := done
	for _, l := range lines {
		if m := percent.FindStringSubmatch(l); m != nil {
			if v, err := strconv.ParseFloat(m[1], 64); err == nil && v <= 100 {
				next = max(next, v)
			}
		}
	}
	if next <= done {
		next = done + 0.01
	}
	c.Progress(ctx, min(next, 100), 100, text)
	return seen + len(lines), next
}

// finish reports a task that has ended.
func (p *server) finish(ctx context.Context, t *task, r *taskReport) (*taskReport, error) {
	end, err := p.logEnd(ctx, t, 12)
	if err != nil {
		end = []string{"(the log cannot be read: " + err.Error() + ")"}
	}
	if r.State == "failed" {
		return nil, fmt.Errorf("the task failed: %s\ntask %s on node %s, %s\nThe end of its log:\n%s", r.Exit, r.Task, r.Node, r.UPID, strings.Join(end, "\n"))
	}
	r.Log = end
	if r.State == "warnings" {
		r.Note = "done, but with warnings: read the log"
	}
	return r, nil
}
