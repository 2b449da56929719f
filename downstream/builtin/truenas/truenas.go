// Package truenas is the built-in MCP server for TrueNAS (SCALE 24.10 and later), which is spoken to by JSON-RPC 2.0 over one WebSocket that
// is kept open and logged in.
package truenas

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

const instructions = `A TrueNAS storage server. Start with "overview". Lists are short by default: search=, limit=, offset= and fields= shape them. ` +
	`Sizes are in bytes, times in UTC. Long work runs as jobs: tools that start one follow it and report progress; "jobs" shows those that are still running. Do not start work again that a job is doing.`

// nas is one TrueNAS. Its methods may be called at the same time.
type nas struct{ *client }

// New returns a server in front of the TrueNAS at cfg.URL.
func New(cfg kit.Config) (*kit.Server, error) {
	c, err := newClient(&cfg)
	if err != nil {
		return nil, err
	}
	n := &nas{c}
	s := kit.NewServer(cfg, "truenas", "TrueNAS", instructions)
	s.OnPing(func(ctx context.Context) error { return n.call(ctx, "core.ping", nil, nil) })
	s.OnClose(c.Close)
	n.addOverview(s)
	n.addStorage(s)
	n.addLists(s)
	n.addSnapshots(s)
	n.addDatasets(s)
	n.addControl(s)
	return s, nil
}

// query lists objects by a method that takes filters and options.
func (n *nas) query(ctx context.Context, method string, filters []any, options map[string]any) ([]kit.Item, error) {
	var items []kit.Item
	return items, n.call(ctx, method, queryParams(filters, options), &items)
}

func queryParams(filters []any, options map[string]any) []any {
	if filters == nil {
		filters = []any{}
	}
	if options == nil {
		options = map[string]any{}
	}
	return []any{filters, options}
}

func equal(field string, value any) []any { return []any{[]any{field, "=", value}} }

// only returns the items with no other members than the named ones: an API that shows configuration shows secrets, too.
func only(items []kit.Item, members ...[]string) []kit.Item {
	out := make([]kit.Item, len(items))
	for i, it := range items {
		kept := kit.Item{}
		for _, list := range members {
			for _, m := range list {
				if v := plain(it[m]); v != nil && v != "" {
					kept[m] = v
				}
			}
		}
		out[i] = kept
	}
	return out
}

// plain takes values out of the forms that TrueNAS wraps them in: {"$date": ms} and the properties of ZFS.
func plain(v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		return v
	}
	if ms, ok := m["$date"].(float64); ok && len(m) == 1 {
		return time.UnixMilli(int64(ms)).UTC().Format(time.RFC3339)
	}
	if _, ok := m["rawvalue"]; ok {
		return plain(m["parsed"])
	}
	return v
}

// at follows members into an item.
func at(it map[string]any, path ...string) any {
	var v any = it
	for _, p := range path {
		switch m := v.(type) {
		case map[string]any:
			v = m[p]
		case kit.Item:
			v = m[p]
		default:
			return nil
		}
	}
	return v
}

func num(v any) float64 {
	f, _ := v.(float64)
	return f
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

// outcome is what a change answers.
type outcome struct {
	Done    string   `json:"done"`
	Job     int      `json:"job,omitempty"`
	State   string   `json:"state,omitempty"`
	Percent float64  `json:"percent,omitempty"`
	Next    string   `json:"next,omitempty"`
	Object  kit.Item `json:"object,omitempty"`
}

// jobTime is how long a call follows a job. What takes longer is found again by the tool jobs.
const jobTime = 10 * time.Minute

// job is the state of work under way.
type job struct {
	ID       int    `json:"id"`
	State    string `json:"state"`
	Error    string `json:"error"`
	Progress struct {
		Percent     float64 `json:"percent"`
		Description string  `json:"description"`
	} `json:"progress"`
}

// follow reports the progress of a job until it ends. It never starts it again; a lost connection is opened again to go on looking.
func (n *nas) follow(ctx context.Context, c *kit.Call, id int, done string, wait bool) (*outcome, error) {
	out := &outcome{Done: done, Job: id, State: "RUNNING", Next: fmt.Sprintf("job %d is under way: the tool jobs shows how far it is; do not start it again", id)}
	if !wait {
		return out, nil
	}
	begun, misses, shown := time.Now(), 0, 0.0
	for pause := 200 * time.Millisecond; time.Since(begun) < jobTime; pause = min(pause*3/2, 3*time.Second) {
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			if errors.Is(context.Cause(ctx), context.Canceled) {
				return nil, context.Cause(ctx)
			}
			return nil, &kit.Failure{Class: kit.ClassTimeout, Executed: true, Message: fmt.Sprintf("job %d was started and is still under way: the tool jobs shows how it ends; do not start it again", id)}
		}
		var now []job
		err := n.call(ctx, "core.get_jobs", queryParams(equal("id", id), map[string]any{"select": []any{"id", "state", "error", "progress"}}), &now)
		switch f, failed := errors.AsType[*kit.Failure](err); {
		case failed:
			if misses++; misses > 10 || f.Class == kit.ClassAuth {
				return nil, &kit.Failure{Class: f.Class, Executed: true, RetryAfter: f.RetryAfter, Message: fmt.Sprintf("job %d was started; then the connection was lost: %s. The tool jobs shows how it ends; do not start it again", id, f.Message)}
			}
			continue
		case err != nil && ctx.Err() == nil:
			return nil, fmt.Errorf("job %d was started, but TrueNAS does not tell how it goes: %w", id, err)
		case err != nil:
			continue // the end of ctx is dealt with above
		case len(now) == 0:
			return nil, fmt.Errorf("job %d was started, and TrueNAS does not know it any more (it was restarted?): look whether its work is done", id)
		}
		misses = 0
		j := &now[0]
		out.State, out.Percent = j.State, j.Progress.Percent
		switch j.State {
		case "SUCCESS":
			out.Next = ""
			return out, nil
		case "FAILED", "ABORTED":
			return nil, fmt.Errorf("job %d (%s) %s: %s", id, done, map[string]string{"FAILED": "failed", "ABORTED": "was aborted"}[j.State], clip(n.hidden.Replace(j.Error), 1000))
		}
		text := j.Progress.Description
		if text == "" {
			text = done
		}
		// MCP wants progress to grow; a job that reports none still shows that it is alive.
		shown = max(j.Progress.Percent, shown+0.01)
		c.Progress(ctx, shown, 100, clip(text, 200))
	}
	return out, nil
}

// run starts a job by the first method that there is, and follows it. A result that is no number is that of a release in which the method
// is no job.
func (n *nas) run(ctx context.Context, c *kit.Call, done string, wait bool, calls ...call) (*outcome, error) {
	var result any
	if err := n.first(ctx, &result, calls...); err != nil {
		return nil, err
	}
	if id, ok := result.(float64); ok {
		return n.follow(ctx, c, int(id), done, wait)
	}
	return &outcome{Done: done, State: "SUCCESS"}, nil
}
