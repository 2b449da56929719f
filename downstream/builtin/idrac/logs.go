package idrac

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

// mostEntries bounds what is read of a log: a lifecycle log has tens of thousands of entries, fifty in each answer.
const mostEntries = 500

type eventLogArgs struct {
	Log string `json:"log,omitempty" jsonschema:"its id; default: the system event log (SEL)"`
	kit.Page
}

type clearLogArgs struct {
	Log string `json:"log" jsonschema:"id of the log, as event_log names them"`
}

func (b *bmc) addLogs(s *kit.Server) {
	kit.Add(s, kit.Tool{
		Name: "event_log", Title: "Event log", Adjust: kit.PageLimits,
		Description: "Entries of a log of the server or controller, newest first: time, severity, message. Tells which logs there are.",
	}, b.eventLog)
	kit.Add(s, kit.Tool{
		Name: "clear_log", Title: "Clear a log", Access: kit.Full, Destructive: true,
		Description: "Delete all entries of a log. They cannot be brought back: read them with event_log first.",
	}, b.clearLog)
}

// logs finds the log services of servers and controllers.
func (b *bmc) logs(ctx context.Context, c *kit.Call) ([]object, error) {
	var found []object
	for _, what := range []string{"Systems", "Managers"} {
		owners, err := b.list(ctx, c, what, false)
		if err != nil {
			return nil, err
		}
		for _, o := range owners {
			list, err := b.members(ctx, c, o, "LogServices", false)
			if err != nil && !refused(err) {
				return nil, err
			}
			for _, l := range list {
				// Some controllers show the same service from both sides.
				if !slices.ContainsFunc(found, func(f object) bool { return f.text("@odata.id") == l.text("@odata.id") }) {
					found = append(found, l)
				}
			}
		}
	}
	if len(found) == 0 {
		return nil, errors.New("this controller has no logs")
	}
	return found, nil
}

// pick returns the log that is meant, and the ids of all.
func pick(logs []object, name string) (object, []string, error) {
	ids := make([]string, len(logs))
	best, score := logs[0], -1
	for i, l := range logs {
		ids[i] = l.text("Id")
		if name != "" {
			if strings.EqualFold(ids[i], name) || strings.EqualFold(l.text("Name"), name) {
				return l, ids, nil
			}
			continue
		}
		s := 0
		switch id := strings.ToLower(ids[i]); {
		case id == "sel" || l.text("LogEntryType") == "SEL":
			s = 3
		case id == "iml" || id == "eventlog" || id == "event":
			s = 2
		case l.link("Entries") != "":
			s = 1
		}
		if s > score {
			best, score = l, s
		}
	}
	if name != "" {
		return nil, ids, fmt.Errorf("there is no log %q (there is: %s)", name, strings.Join(ids, ", "))
	}
	return best, ids, nil
}

func (b *bmc) eventLog(ctx context.Context, c *kit.Call, in eventLogArgs) (*kit.Listing, error) {
	logs, err := b.logs(ctx, c)
	if err != nil {
		return nil, err
	}
	l, ids, err := pick(logs, in.Log)
	if err != nil {
		return nil, err
	}
	list, missed, err := b.entries(ctx, c, l)
	if err != nil {
		return nil, err
	}
	items := make([]kit.Item, len(list))
	for i, o := range list {
		it := kit.Item{"created": o.text("Created")}
		o.put(it, "Severity", "severity", "Message", "message", "SensorType", "sensor", "MessageId", "message_id", "Id", "id")
		items[i] = it
	}
	slices.SortStableFunc(items, func(a, b kit.Item) int { return strings.Compare(b["created"].(string), a["created"].(string)) })
	out := kit.List(items, in.Page, "created", "severity", "message", "sensor", "message_id", "id")
	note := fmt.Sprintf("log %s of %s", l.text("Id"), strings.Join(ids, ", "))
	if missed > 0 {
		note += fmt.Sprintf("; %d older entries were not read", missed)
	}
	out.Say(note)
	return out, nil
}

// entries reads the newest entries of a log, whichever way round the controller keeps them.
func (b *bmc) entries(ctx context.Context, c *kit.Call, l object) (list []object, missed int, err error) {
	link := l.link("Entries")
	if link == "" {
		return nil, 0, fmt.Errorf("log %s has no entries that can be read", l.text("Id"))
	}
	page, err := b.fetch(ctx, link, true)
	if err != nil {
		return nil, 0, err
	}
	list = page.objects("Members")
	count := len(list)
	if n, ok := page.number("Members@odata.count"); ok && int(n) > count {
		count = int(n)
	}
	if n := len(list); n > 1 && count > mostEntries && list[0].text("Created") < list[n-1].text("Created") {
		// The oldest come first: leave them out, if the controller can.
		if later, err := b.fetch(ctx, fmt.Sprintf("%s?$skip=%d", strings.SplitN(link, "?", 2)[0], count-mostEntries), true); err == nil {
			page, list = later, later.objects("Members")
		} else if !refused(err) {
			return nil, 0, err
		}
	}
	for len(list) < mostEntries {
		next := page.text("Members@odata.nextLink")
		if next == "" {
			break
		}
		c.Progress(ctx, float64(len(list)), float64(min(count, mostEntries)), fmt.Sprintf("%d entries read", len(list)))
		if page, err = b.fetch(ctx, next, true); err != nil {
			return nil, 0, err
		}
		list = append(list, page.objects("Members")...)
	}
	list = list[:min(len(list), mostEntries)]
	if err := b.complete(ctx, c, list, false); err != nil {
		return nil, 0, err
	}
	return list, max(count-len(list), 0), nil
}

func (b *bmc) clearLog(ctx context.Context, c *kit.Call, in clearLogArgs) (*report, error) {
	logs, err := b.logs(ctx, c)
	if err != nil {
		return nil, err
	}
	l, _, err := pick(logs, in.Log)
	if err != nil {
		return nil, err
	}
	target := l.object("Actions").object("#LogService.ClearLog").text("target")
	if target == "" {
		return nil, fmt.Errorf("log %s cannot be cleared: the controller offers no such action", l.text("Id"))
	}
	return b.act(ctx, c, kit.Request{Method: http.MethodPost, Path: target, JSON: object{}}, &report{Action: "clear log " + l.text("Id")}, true)
}
