package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// across runs each set of requirements through a gateway whose downstream speaks only the other era: the fixture for clients of the set
// cannot be reached directly, so every scenario that passes does so because the gateway translates.
func across(ctx context.Context, out io.Writer, page, keep, only string) error {
	dir := keep
	if dir == "" {
		tmp, err := os.MkdirTemp("", "mcpgw-conformance-")
		if err != nil {
			return fmt.Errorf("making a folder: %w", err)
		}
		defer os.RemoveAll(tmp) //nolint:errcheck // in the system's temporary folder
		dir = tmp
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	node, err := harness.InstallNode(ctx)
	if err != nil {
		return err
	}
	fixture, err := harness.Build(ctx, dir, harness.Everything)
	if err != nil {
		return err
	}
	gateway, err := harness.Build(ctx, dir, harness.Gateway)
	if err != nil {
		return err
	}
	var all []comparison
	for i, rev := range revisions {
		s := suite{node: node, dir: dir, requirements: rev.name}
		direct, err := runDirect(ctx, s, rev, fixture)
		if err != nil {
			return err
		}
		all = append(all, compare(rev.name, "direct", direct, direct))
		other := revisions[1-i]
		crossed := revision{name: rev.name, stateless: other.stateless, http: other.http, stdio: other.stdio}
		for _, name := range []string{"http", "stdio"} {
			if only != "" && !strings.Contains(rev.name+" "+name, only) {
				continue
			}
			through, stopErr, err := runThrough(ctx, s, crossed, name, fixture, gateway)
			if err != nil {
				return fmt.Errorf("%s through the gateway with a server of the other era over %s: %w", rev.name, name, err)
			}
			c := compare(rev.name, name+" across", direct, through)
			c.excuse(rev.name)
			if stopErr != nil {
				c.faults = append(c.faults, fmt.Sprintf("the gateway did not end well: %v", stopErr))
			}
			all = append(all, c)
		}
	}
	writeText(out, all)
	if page != "" && only == "" {
		var b strings.Builder
		writeMarkdown(&b, all)
		if err := harness.WriteResults(page, b.String()); err != nil {
			return err
		}
	}
	for _, c := range all {
		if len(c.faults) > 0 {
			return errors.New("something that the specification lets a gateway bridge does not pass across the eras")
		}
	}
	return nil
}

// forbidden says which sentence of the specification keeps a gateway from making a check pass across the eras.
var forbidden = map[string]string{
	"2025-11-25 tools-call-elicitation":       noRequests,
	"2025-11-25 elicitation-sep1034-defaults": noRequests,
	"2025-11-25 elicitation-sep1330-enums":    noRequests,
	"2025-11-25 tools-call-sampling":          noRequests,
	"2026-07-28 input-required-result-basic-elicitation": `The scenario wants the server's own name for its question. 2025-11-25, client/elicitation, has no such name, and ` +
		`2026-07-28, basic/patterns/mrtr says: "Keys are server-assigned string identifiers": the server across the gateway is the gateway.`,
	"2026-07-28 input-required-result-multi-round": `The fixture ends its second round itself: its SDK asks an older client once only and then returns an empty result ` +
		`(design of go-sdk v1.8.0, not of the specification); nothing in 2025-11-25 says that such a result asks for more.`,
}

// noRequests keeps a tool that asks in the middle of its call from working on a server of the newer revision, whoever the client is.
const noRequests = `The tool of the fixture sends a request in the middle of its call, which its revision forbids, so there is nothing to translate. ` +
	`2026-07-28, basic/patterns/mrtr: "The previous pattern of server-initiated requests is no longer supported."`

// excuse makes notes of the faults that the specification forbids to mend.
func (c *comparison) excuse(revision string) {
	faults := c.faults
	c.faults, c.worse = nil, map[string]bool{}
	for _, f := range faults {
		scenario, _, _ := strings.Cut(f, ":")
		if why := forbidden[revision+" "+scenario]; why != "" {
			c.note(f + ". " + why)
			continue
		}
		c.fault(scenario, strings.TrimPrefix(f, scenario+": "))
	}
}
