package truenas

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

// properties are what can be set of a dataset.
type properties struct {
	Quota       *int64  `json:"quota,omitempty" jsonschema:"bytes, with all below; 0 for none"`
	RefQuota    *int64  `json:"refquota,omitempty" jsonschema:"bytes, without what is below; 0 for none"`
	Compression string  `json:"compression,omitempty" jsonschema:"LZ4, ZSTD, OFF, INHERIT …"`
	Readonly    string  `json:"readonly,omitempty"`
	Atime       string  `json:"atime,omitempty"`
	Sync        string  `json:"sync,omitempty"`
	Recordsize  string  `json:"recordsize,omitempty" jsonschema:"128K, 1M …"`
	Comments    *string `json:"comments,omitempty"`
}

type createDataset struct {
	Name string     `json:"name" jsonschema:"with its parents: tank/media/films"`
	Set  properties `json:"set,omitzero"`
}

type updateDataset struct {
	ID  string     `json:"id"`
	Set properties `json:"set"`
}

type deleteDataset struct {
	ID        string `json:"id"`
	Confirm   string `json:"confirm" jsonschema:"the id again: all data in it is lost"`
	Recursive bool   `json:"recursive,omitempty" jsonschema:"also all datasets below, and their snapshots"`
}

func (n *nas) addDatasets(s *kit.Server) {
	limits := func(s *jsonschema.Schema) {
		set := s.Properties["set"]
		kit.Enum(set, "readonly", "ON", "OFF", "INHERIT")
		kit.Enum(set, "atime", "ON", "OFF", "INHERIT")
		kit.Enum(set, "sync", "STANDARD", "ALWAYS", "DISABLED", "INHERIT")
	}
	kit.Add(s, kit.Tool{
		Name: "dataset_create", Title: "Make a dataset", Access: kit.Operate, Adjust: limits,
		Description: "Makes a file system dataset below one that exists. What set does not name is inherited.",
	}, func(ctx context.Context, _ *kit.Call, in createDataset) (*outcome, error) {
		params := in.Set.params()
		params["name"], params["type"] = in.Name, "FILESYSTEM"
		var made kit.Item
		if err := n.call(ctx, "pool.dataset.create", []any{params}, &made); err != nil {
			return nil, err
		}
		return &outcome{Done: "made " + in.Name, Object: only([]kit.Item{made}, datasetColumns)[0]}, nil
	})
	kit.Add(s, kit.Tool{
		Name: "dataset_update", Title: "Change a dataset", Access: kit.Operate, Adjust: limits, Idempotent: true, Destructive: true,
		Description: "Sets properties of a dataset: quota, compression, read-only and others. What set does not name stays as it is.",
	}, func(ctx context.Context, _ *kit.Call, in updateDataset) (*outcome, error) {
		params := in.Set.params()
		if len(params) == 0 {
			return nil, errors.New("set: nothing to change is given")
		}
		var now kit.Item
		if err := n.call(ctx, "pool.dataset.update", []any{in.ID, params}, &now); err != nil {
			return nil, err
		}
		return &outcome{Done: "changed " + in.ID, Object: only([]kit.Item{now}, datasetColumns, datasetMore)[0]}, nil
	})
	kit.Add(s, kit.Tool{
		Name: "dataset_delete", Title: "Delete a dataset", Access: kit.Full, Destructive: true,
		Description: "Destroys a dataset with all its data and snapshots, for good. The root of a pool is refused.",
	}, func(ctx context.Context, _ *kit.Call, in deleteDataset) (*outcome, error) {
		switch {
		case in.Confirm != in.ID:
			return nil, fmt.Errorf("confirm must be %q: nothing was done", in.ID)
		case !strings.Contains(in.ID, "/"):
			return nil, fmt.Errorf("%q is the root of a pool, which this tool does not destroy: nothing was done", in.ID)
		}
		if err := n.call(ctx, "pool.dataset.delete", []any{in.ID, map[string]any{"recursive": in.Recursive, "force": false}}, nil); err != nil {
			return nil, err
		}
		return &outcome{Done: "deleted " + in.ID}, nil
	})
}

func (p *properties) params() map[string]any {
	out := map[string]any{}
	for k, v := range map[string]string{"compression": p.Compression, "readonly": p.Readonly, "atime": p.Atime, "sync": p.Sync, "recordsize": p.Recordsize} {
		if v != "" {
			out[k] = strings.ToUpper(v)
		}
	}
	for k, v := range map[string]*int64{"quota": p.Quota, "refquota": p.RefQuota} {
		switch {
		case v == nil:
		case *v == 0:
			out[k] = nil // none
		default:
			out[k] = *v
		}
	}
	if p.Comments != nil {
		out["comments"] = *p.Comments
	}
	return out
}
