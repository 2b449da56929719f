package truenas

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

var snapshotColumns = []string{"id", "created", "used", "referenced", "held"}

type snapshotsArgs struct {
	Dataset string `json:"dataset,omitempty" jsonschema:"only snapshots of it"`
	kit.Page
}

type createSnapshot struct {
	Dataset   string `json:"dataset"`
	Name      string `json:"name,omitempty" jsonschema:"left out: mcpgw-DATE"`
	Recursive bool   `json:"recursive,omitempty" jsonschema:"also of all datasets below"`
}

type deleteSnapshot struct {
	ID string `json:"id" jsonschema:"DATASET@NAME"`
}

type rollback struct {
	ID      string `json:"id" jsonschema:"DATASET@NAME"`
	Discard bool   `json:"discard_newer,omitempty" jsonschema:"destroy the snapshots of the dataset that are newer"`
	Confirm string `json:"confirm" jsonschema:"the dataset again: what was written since is lost"`
}

func (n *nas) addSnapshots(s *kit.Server) {
	kit.Add(s, kit.Tool{
		Name: "snapshots", Title: "Snapshots", Adjust: kit.PageLimits,
		Description: "Snapshots, the newest first, with the bytes that only they hold. Give dataset where there are thousands.",
	}, func(ctx context.Context, _ *kit.Call, in snapshotsArgs) (*kit.Listing, error) {
		items, err := n.snapshots(ctx, in.Dataset)
		if err != nil {
			return nil, err
		}
		return kit.List(items, in.Page, snapshotColumns...), nil
	})
	kit.Add(s, kit.Tool{
		Name: "snapshot_create", Title: "Take a snapshot", Access: kit.Operate,
		Description: "Takes a snapshot of a dataset now. It holds no space until something changes.",
	}, n.createSnapshot)
	kit.Add(s, kit.Tool{
		Name: "snapshot_delete", Title: "Delete a snapshot", Access: kit.Full, Destructive: true, Idempotent: true,
		Description: "Destroys one snapshot for good. Snapshots that are held or cloned are refused.",
	}, func(ctx context.Context, _ *kit.Call, in deleteSnapshot) (*outcome, error) {
		if !strings.Contains(in.ID, "@") {
			return nil, fmt.Errorf("id: expected DATASET@NAME, found %q", in.ID)
		}
		params := []any{in.ID, map[string]any{"defer": false, "recursive": false}}
		if err := n.first(ctx, nil, call{"pool.snapshot.delete", params}, call{"zfs.snapshot.delete", params}); err != nil {
			return nil, err
		}
		return &outcome{Done: "deleted " + in.ID}, nil
	})
	kit.Add(s, kit.Tool{
		Name: "snapshot_rollback", Title: "Roll a dataset back", Access: kit.Full, Destructive: true,
		Description: "Sets a dataset back to a snapshot: everything written since is lost. Take a snapshot of the present state first.",
	}, n.rollback)
}

// snapshots returns the snapshots, the newest first. Only what is shown is asked for: there may be tens of thousands.
func (n *nas) snapshots(ctx context.Context, dataset string) ([]kit.Item, error) {
	var filters []any
	if dataset != "" {
		filters = equal("dataset", dataset)
	}
	params := queryParams(filters, map[string]any{"select": []any{
		"name", "dataset", []any{"properties.creation.rawvalue", "created"}, []any{"properties.used.parsed", "used"}, []any{"properties.referenced.parsed", "referenced"}, "holds",
	}, "extra": map[string]any{"holds": true}})
	var items []kit.Item
	if err := n.first(ctx, &items, call{"pool.snapshot.query", params}, call{"zfs.snapshot.query", params}); err != nil {
		return nil, err
	}
	seconds := func(it kit.Item) int64 {
		s, _ := strconv.ParseInt(fmt.Sprint(it["created"]), 10, 64)
		return s
	}
	slices.SortStableFunc(items, func(a, b kit.Item) int {
		if d := seconds(b) - seconds(a); d != 0 {
			return int(max(min(d, 1), -1))
		}
		return strings.Compare(fmt.Sprint(a["name"]), fmt.Sprint(b["name"]))
	})
	for i, it := range items {
		row := kit.Item{"id": it["name"]}
		if s := seconds(it); s > 0 {
			row["created"] = time.Unix(s, 0).UTC().Format(time.RFC3339)
		}
		for _, k := range []string{"used", "referenced"} {
			if it[k] != nil {
				row[k] = it[k]
			}
		}
		if holds, ok := it["holds"].(map[string]any); ok && len(holds) > 0 {
			row["held"] = true
		}
		items[i] = row
	}
	return items, nil
}

func (n *nas) createSnapshot(ctx context.Context, _ *kit.Call, in createSnapshot) (*outcome, error) {
	if in.Name == "" {
		in.Name = "mcpgw-" + time.Now().UTC().Format("2006-01-02_15-04-05")
	}
	params := []any{map[string]any{"dataset": in.Dataset, "name": in.Name, "recursive": in.Recursive}}
	if err := n.first(ctx, nil, call{"pool.snapshot.create", params}, call{"zfs.snapshot.create", params}); err != nil {
		return nil, err
	}
	out := &outcome{Done: "took " + in.Dataset + "@" + in.Name}
	if in.Recursive {
		out.Done += ", and one of each dataset below"
	}
	return out, nil
}

func (n *nas) rollback(ctx context.Context, _ *kit.Call, in rollback) (*outcome, error) {
	dataset, _, ok := strings.Cut(in.ID, "@")
	switch {
	case !ok:
		return nil, fmt.Errorf("id: expected DATASET@NAME, found %q", in.ID)
	case in.Confirm != dataset:
		return nil, fmt.Errorf("confirm must be %q: nothing was done", dataset)
	}
	params := []any{in.ID, map[string]any{"recursive": in.Discard}}
	err := n.first(ctx, nil, call{"pool.snapshot.rollback", params}, call{"zfs.snapshot.rollback", params})
	if err != nil && !in.Discard && strings.Contains(err.Error(), "more recent") {
		return nil, errors.Join(err, errors.New("nothing was done; discard_newer would destroy the newer snapshots"))
	}
	if err != nil {
		return nil, err
	}
	return &outcome{Done: dataset + " is as it was in " + in.ID}, nil
}
