package idrac

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

// act sends a change, and follows the task that the controller makes of it.
func (b *bmc) act(ctx context.Context, c *kit.Call, r kit.Request, out *report, wait bool) (*report, error) {
	where, err := local(r.Path)
	if err != nil {
		return nil, err
	}
	r.Path = where
	status := 0
	r.Status = &status
	b.forget()
	header, err := b.send(ctx, r, nil)
	b.forget()
	if err != nil {
		return nil, err
	}
	out.State = "done"
	if status != http.StatusAccepted {
		return out, nil
	}
	out.State = "running"
	monitor := header.Get("Location")
	if u, err := b.api.Base().Parse(monitor); err == nil { // some controllers answer a whole address
		monitor = u.EscapedPath()
	}
	if out.Task, err = local(monitor); err != nil {
		out.Task, out.State, out.Note = "", "accepted", "the controller does it later and does not say where that can be followed"
		return out, nil //nolint:nilerr // the change has been accepted
	}
	return b.watch(ctx, c, out, wait)
}

// pace is how a loop asks again and again.
type pace struct {
	begun    time.Time
	pause    time.Duration
	most     time.Duration
	patience time.Duration
	missed   int
}

func (b *bmc) pace(c *kit.Call, wait bool) *pace {
	p := &pace{begun: time.Now(), pause: b.poll, most: b.most, patience: b.silent}
	switch {
	case !wait:
		p.patience = 0
	case c.WantsProgress():
		p.patience = b.patient
	}
	return p
}

// next waits for the next question. It reports false when patience is at its end.
func (p *pace) next(ctx context.Context) (bool, error) {
	if time.Since(p.begun)+p.pause > p.patience {
		return false, nil
	}
	select {
	case <-time.After(p.pause):
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	p.pause = min(p.pause*3/2, p.most)
	return true, nil
}

// missing judges a question that was not answered, while a change is under way. A controller that restarts is away for a while. What it
// returns is no failure of the call, which would say that the change was lost.
func (p *pace) missing(ctx context.Context, err error, what, look string) error {
	if ctx.Err() != nil {
		return err
	}
	p.missed++
	if f, ok := errors.AsType[*kit.Failure](err); p.missed < 5 && ok && f.Class != kit.ClassAuth && f.Class != kit.ClassAuthExhausted {
		return nil
	}
	return errors.New(what + " was accepted, but how it goes on cannot be seen: " + err.Error() + ". " + look + " before doing anything again")
}

// watch follows a task monitor, a task or a Dell job to its end.
func (b *bmc) watch(ctx context.Context, c *kit.Call, out *report, wait bool) (*report, error) {
	for p := b.pace(c, wait); ; {
		var o object
		status := 0
		_, err := b.send(ctx, kit.Request{Path: out.Task, Status: &status}, &o)
		if refused(err) && status == http.StatusNotFound && p.missed == 0 && time.Since(p.begun) > b.poll/2 {
			out.State, out.Note = "done", "the controller has taken the task away, as it does at its end; it does not say how it ended"
			return out, nil
		}
		if err != nil {
			if err := p.missing(ctx, err, out.Action, "Look with systems, and redfish_get "+out.Task); err != nil {
				return nil, err
			}
		} else {
			state, done, ok := taskState(o, status)
			switch {
			case done && !ok:
				return nil, fmt.Errorf("%s failed: task %s ended as %s%s", out.Action, out.Task, state, after(taskMessages(o)))
			case done:
				out.State, out.Note = "done", taskMessages(o)
				return out, nil
			}
			percent, _ := o.number("PercentComplete")
			c.Progress(ctx, percent+time.Since(p.begun).Seconds()/1e5, 100, fmt.Sprintf("%s: %s", out.Action, state)) // progress always grows
		}
		more, err := p.next(ctx)
		if err != nil {
			return nil, err
		}
		if !more {
			out.Note = "still running: redfish_get " + out.Task + " tells how it goes on"
			return out, nil
		}
	}
}

// taskState reads Redfish's TaskState or Dell's JobState. A monitor without either has ended when it no longer answers 202.
func taskState(o object, status int) (state string, done, ok bool) {
	state = o.text("TaskState")
	if state == "" {
		state = o.text("JobState")
	}
	switch strings.ReplaceAll(state, " ", "") {
	case "":
		return "Completed", status != http.StatusAccepted, true
	case "Completed", "RebootCompleted":
		health := o.text("TaskStatus")
		return state, true, health != "Critical"
	case "CompletedWithErrors", "Failed", "RebootFailed", "Exception", "Killed", "Cancelled":
		return state, true, false
	}
	return state, false, false
}

func taskMessages(o object) string {
	var texts []string
	for _, m := range o.objects("Messages") {
		if t := m.text("Message"); t != "" {
			texts = append(texts, t)
		}
	}
	if len(texts) == 0 {
		return o.text("Message")
	}
	return strings.Join(texts, "; ")
}

// untilPower waits until a server has the power state that was asked for.
func (b *bmc) untilPower(ctx context.Context, c *kit.Call, link string, r reset, out *report) (*report, error) {
	for p := b.pace(c, true); ; {
		o, err := b.fetch(ctx, link, true)
		if err != nil {
			if err := p.missing(ctx, err, r.action, "Look with systems"); err != nil {
				return nil, err
			}
		} else if out.Power = o.text("PowerState"); out.Power == r.to {
			out.State = "done"
			return out, nil
		}
		c.Progress(ctx, time.Since(p.begun).Seconds(), 0, fmt.Sprintf("%s: the server is %s", r.action, out.Power))
		more, err := p.next(ctx)
		if err != nil {
			return nil, err
		}
		if !more {
			out.State = "accepted"
			out.Note = fmt.Sprintf("the controller accepted it, but the server is still %s: systems shows when that changes", out.Power)
			return out, nil
		}
	}
}
