package integration

import (
	"context"
	"encoding/json"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// listed returns the names of all tools.
func listed(ctx context.Context, c *harness.Client) (map[string]bool, error) {
	r, err := c.Request(ctx, "tools/list", "", c.Params("", ""))
	if err != nil {
		return nil, err
	}
	var list struct {
		Tools []struct {
			Name string `json:"name"`
		} `json:"tools"`
	}
	if err := json.Unmarshal(r, &list); err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, tool := range list.Tools {
		names[tool.Name] = true
	}
	return names, nil
}

// result is what the tests read of a tool's result.
type result struct {
	IsError    bool            `json:"isError"`
	Content    []content       `json:"content"`
	Structured json.RawMessage `json:"structuredContent"`
}

type content struct {
	Text string `json:"text"`
}

func parse(raw json.RawMessage) (r result) {
	if err := json.Unmarshal(raw, &r); err != nil {
		return result{}
	}
	return r
}

func isError(raw json.RawMessage) bool { return parse(raw).IsError }
