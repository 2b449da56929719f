package integration

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// waitLong is more than anything in these tests takes.
const waitLong = 20 * time.Second

// TestPairProgress: a server reports how far a call is.
func TestPairProgress(t *testing.T) {
	everyCell(t, func(t *testing.T, c *cell) {
		for _, token := range []any{"mine ", float64(7)} {
			c.call(t, c.shared(), "progress", nil, mcp.Meta{"progressToken": token})
			want := map[any][]string{"mine ": {"progress mine  1/3", "progress mine  2/3"}, float64(7): {"progress 7 1/3", "progress 7 2/3"}}[token]
			if diff := cmp.Diff(want, c.hears(t, strings.Replace(want[1], "2/3", "3/3", 1))); diff != "" {
				t.Errorf("progress (-want +got):\n%s", diff)
			}
		}
		c.call(t, c.shared(), "log", nil, nil)
		c.call(t, c.shared(), "progress", nil, mcp.Meta{"progressToken": "last"})
		for _, other := range c.hears(t, "progress last 3/3") {
			if strings.HasPrefix(other, "progress ") && !strings.HasPrefix(other, "progress last") {
				t.Errorf("a call that is over made progress: %s", other)
			}
		}
	})
}

// TestPairLogging: a server logs, and the client hears as much as it wants.
func TestPairLogging(t *testing.T) {
	everyCell(t, func(t *testing.T, c *cell) {
		const debug, failure = "log debug pair map[level:debug]", "log error pair map[level:error]"
		// heard calls log and returns what the client heard until the next call's progress.
		heard := func(level mcp.LoggingLevel) (logs []string) {
			t.Helper()
			meta := mcp.Meta{}
			if c.newClient && level != "" {
				meta[mcp.MetaKeyLogLevel] = level
			} else if level != "" {
				if err := c.session.SetLoggingLevel(t.Context(), &mcp.SetLoggingLevelParams{Level: level}); err != nil {
					t.Fatal(err)
				}
			}
			c.call(t, c.shared(), "log", nil, meta)
			c.call(t, c.shared(), "progress", nil, mcp.Meta{"progressToken": "after"})
			for _, h := range c.hears(t, "progress after 3/3") {
				if strings.HasPrefix(h, "log ") {
					logs = append(logs, h)
				}
			}
			return logs
		}
		var unasked []string // what is logged without a wish
		if !c.newClient && c.newServer {
			unasked = []string{failure} // the gateway wishes for info, as an older server would log by itself
		}
		for _, step := range []struct {
			level mcp.LoggingLevel
			want  []string
		}{{"", unasked}, {"warning", []string{failure}}, {"debug", []string{debug, failure}}, {"emergency", nil}} {
			if diff := cmp.Diff(step.want, heard(step.level)); diff != "" {
				t.Errorf("level %q (-want +got):\n%s", step.level, diff)
			}
		}
	})
}

// TestPairCancel: a client gives up, and the server learns of it; the next call works.
func TestPairCancel(t *testing.T) {
	everyCell(t, func(t *testing.T, c *cell) {
		id := c.String()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan error, 1)
		go func() {
			_, err := c.try(ctx, c.shared(), "hang", map[string]any{"id": id}, nil)
			ended <- err
		}()
		c.experienced(t, "begun "+id)
		if c.noted(t, "cancelled "+id) {
			t.Fatal("cancelled too early")
		}
		cancel()
		if err := <-ended; err == nil {
			t.Error("the call has a result")
		}
		c.experienced(t, "cancelled "+id)
		c.call(t, c.shared(), "progress", nil, nil)
	})
}

// TestPairSubscription: a client wants to know when a resource changes.
func TestPairSubscription(t *testing.T) {
	everyCell(t, func(t *testing.T, c *cell) {
		uri := "mcpgw://" + c.shared() + "/" + pairURI // several servers list it
		if err := c.session.Subscribe(t.Context(), &mcp.SubscribeParams{URI: uri}); err != nil {
			t.Fatal(err)
		}
		// A newer client is acknowledged at once, before the server is: a slow server must not delay the others' news.
		eventually(t, waitLong, "the update", func() error {
			c.call(t, c.shared(), "touch", nil, nil)
			select {
			case got := <-c.heard:
				if got != "updated "+uri {
					t.Errorf("heard %q", got)
				}
				return nil
			case <-time.After(100 * time.Millisecond):
				return context.DeadlineExceeded
			}
		})
		if err := c.session.Unsubscribe(t.Context(), &mcp.UnsubscribeParams{URI: uri}); err != nil {
			t.Error(err)
		}
	})
}

// TestPairListChanged: a server's lists change, the client is told, and then sees what is new.
func TestPairListChanged(t *testing.T) {
	everyCell(t, func(t *testing.T, c *cell) {
		for list, names := range map[string]func() []string{
			"tools": func() (names []string) {
				for v, err := range c.session.Tools(t.Context(), nil) {
					if err != nil {
						t.Fatal(err)
					}
					names = append(names, strings.TrimPrefix(v.Name, c.shared()+"__"))
				}
				return names
			},
			"prompts": func() (names []string) {
				for v, err := range c.session.Prompts(t.Context(), nil) {
					if err != nil {
						t.Fatal(err)
					}
					names = append(names, strings.TrimPrefix(v.Name, c.shared()+"__"))
				}
				return names
			},
			"resources": func() (names []string) {
				for v, err := range c.session.Resources(t.Context(), nil) {
					if err != nil {
						t.Fatal(err)
					}
					names = append(names, v.Name)
				}
				return names
			},
		} {
			name := c.call(t, c.shared(), "change", map[string]any{"list": list}, nil)
			// Nothing may have been told of yet, or what was told of may be another pairing's.
			for late := time.After(waitLong); !slices.Contains(names(), name); {
				for got := ""; got != list; {
					select {
					case got = <-c.changed:
					case <-late:
						t.Fatalf("%s: not told of %s", list, name)
					}
				}
			}
		}
	})
}
