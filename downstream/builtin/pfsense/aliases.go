package pfsense

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

var aliasColumns = []string{"id", "name", "type", "address", "descr"}

type updateAlias struct {
	Name   string   `json:"name"`
	Add    []string `json:"add,omitempty" jsonschema:"addresses, networks or ports to add"`
	Remove []string `json:"remove,omitempty" jsonschema:"entries to take out"`
	Descr  *string  `json:"descr,omitempty"`
	Apply  bool     `json:"apply,omitempty" jsonschema:"also apply all staged firewall changes and wait"`
}

type deleteAlias struct {
	Name    string   `json:"name"`
	Expect  []string `json:"expect" jsonschema:"the entries that aliases showed; nothing is deleted if they are others now"`
	Applied bool     `json:"apply,omitempty" jsonschema:"also apply all staged firewall changes and wait"`
}

func (f *firewall) addAliases(s *kit.Server) {
	kit.Add(s, kit.Tool{
		Name: "aliases", Title: "Aliases", Adjust: kit.PageLimits,
		Description: "Named lists of hosts, networks, ports or URLs that rules use. fields=[\"detail\"] shows the remarks on entries.",
	}, func(ctx context.Context, _ *kit.Call, in struct{ kit.Page }) (*kit.Listing, error) {
		return f.show(ctx, kind{"/firewall/aliases", aliasColumns, []string{"detail"}}, in.Page)
	})
	kit.Add(s, kit.Tool{
		Name: "alias_update", Title: "Change an alias", Access: kit.Operate, Idempotent: true, Destructive: true,
		Description: "Adds entries to an alias or takes some out; the others stay, with their remarks. Staged until apply.",
	}, f.updateAlias)
	kit.Add(s, kit.Tool{
		Name: "alias_delete", Title: "Delete an alias", Access: kit.Full, Destructive: true,
		Description: "Deletes an alias that no rule uses, after checking that its entries are the expected ones. Staged until apply.",
	}, f.deleteAlias)
}

// alias is an alias with its position at the moment.
type alias struct {
	at      int
	item    kit.Item
	entries []string
	remarks []string
}

func (f *firewall) alias(ctx context.Context, name string) (*alias, error) {
	items, err := f.list(ctx, "/firewall/aliases", nil)
	if err != nil {
		return nil, err
	}
	var there []string
	for i, it := range items {
		if it["name"] == name {
			return &alias{i, it, texts(it["address"]), texts(it["detail"])}, nil
		}
		there = append(there, fmt.Sprint(it["name"]))
	}
	if len(there) > 20 {
		there = append(there[:20], "…")
	}
	return nil, fmt.Errorf("there is no alias %q (there is: %s)", name, strings.Join(there, ", "))
}

// texts reads a list of strings. Releases differ in whether they write a list or one text.
func texts(v any) []string {
	switch v := v.(type) {
	case []any:
		out := make([]string, len(v))
		for i, e := range v {
			out[i] = fmt.Sprint(e)
		}
		return out
	case string:
		return strings.Fields(v)
	}
	return nil
}

func (f *firewall) updateAlias(ctx context.Context, c *kit.Call, in updateAlias) (*changed, error) {
	if len(in.Add)+len(in.Remove) == 0 && in.Descr == nil {
		return nil, errors.New("nothing to change is given: add, remove or descr")
	}
	var now kit.Item
	err := f.exclusively(ctx, func() error {
		a, err := f.alias(ctx, in.Name)
		if err != nil {
			return err
		}
		body := map[string]any{"id": a.at}
		if len(in.Add)+len(in.Remove) > 0 {
			body["address"], body["detail"] = a.edited(in.Add, in.Remove)
		}
		if in.Descr != nil {
			body["descr"] = *in.Descr
		}
		if err := f.do(ctx, kit.Request{Method: http.MethodPatch, Path: "/firewall/alias", JSON: body}, &now); err != nil {
			return err
		}
		if name, ok := now["name"].(string); ok && name != in.Name {
			return fmt.Errorf("the aliases changed between look and write: %q was changed instead of %q; nothing is applied yet: put it right before anybody applies", name, in.Name)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f.staged(ctx, c, "alias changed", now, in.Apply)
}

// edited returns entries and remarks with some taken out and some added.
func (a *alias) edited(add, remove []string) (entries, remarks []string) {
	entries, remarks = []string{}, []string{}
	for i, e := range a.entries {
		if slices.Contains(remove, e) {
			continue
		}
		entries = append(entries, e)
		remark := ""
		if i < len(a.remarks) {
			remark = a.remarks[i]
		}
		remarks = append(remarks, remark)
	}
	for _, e := range add {
		if !slices.Contains(entries, e) {
			entries, remarks = append(entries, e), append(remarks, "")
		}
	}
	return entries, remarks
}

func (f *firewall) deleteAlias(ctx context.Context, c *kit.Call, in deleteAlias) (*changed, error) {
	var gone kit.Item
	err := f.exclusively(ctx, func() error {
		a, err := f.alias(ctx, in.Name)
		if err != nil {
			return err
		}
		if !slices.Equal(slices.Sorted(slices.Values(a.entries)), slices.Sorted(slices.Values(in.Expect))) {
			return fmt.Errorf("the alias %q holds other entries than expected (%s): nothing was changed", in.Name, strings.Join(a.entries, ", "))
		}
		query := url.Values{"id": {strconv.Itoa(a.at)}}
		if err := f.do(ctx, kit.Request{Method: http.MethodDelete, Path: "/firewall/alias", Query: query}, &gone); err != nil {
			return err
		}
		if name, ok := gone["name"].(string); ok && name != in.Name {
			return fmt.Errorf("the aliases changed between look and write: %q was deleted instead of %q; nothing is applied yet: put it right before anybody applies", name, in.Name)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f.staged(ctx, c, "alias deleted", gone, in.Applied)
}
