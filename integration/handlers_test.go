package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"
)

// callParams is what the handlers read of a call.
type callParams struct {
	Arguments struct {
		Who   string `json:"who"`
		Round string `json:"round"`
		Of    int    `json:"of"`
		Steps int    `json:"steps"`
	} `json:"arguments"`
	Meta struct {
		Token json.RawMessage `json:"progressToken"`
	} `json:"_meta"`
}

// gate opens when enough have come.
type gate struct {
	come int
	open chan struct{}
}

// handlers returns the tools of the raw server that do more than answer:
//
//   - hang reports progress once and never answers.
//   - together waits until as many calls of the round are there as "of" says, so that they surely run at the same time, then reports
//     "steps" steps of progress and answers with who called.
//   - endless reports progress until nobody listens any more.
func handlers() func(ctx context.Context, name string, params json.RawMessage, notify func(method, params string)) string {
	var mu sync.Mutex // guards gates
	gates := map[string]*gate{}
	return func(ctx context.Context, name string, params json.RawMessage, notify func(method, params string)) string {
		if name != "hang" && name != "together" && name != "endless" {
			return ""
		}
		var p callParams
		if err := json.Unmarshal(params, &p); err != nil {
			return text("bad params: "+err.Error(), true)
		}
		progress := func(n int, message string) {
			if p.Meta.Token != nil {
				notify("notifications/progress", fmt.Sprintf(`{"progressToken":%s,"progress":%d,"message":%q}`, p.Meta.Token, n, message))
			}
		}
		switch name {
		case "hang":
			progress(1, "hanging")
			<-ctx.Done()
			return text("nobody waits any more", true)
		case "endless":
			for n := 1; ctx.Err() == nil; n++ {
				progress(n, strings.Repeat("endless ", 100))
			}
			return text("nobody listens any more", true)
		}
		mu.Lock()
		g := gates[p.Arguments.Round]
		if g == nil {
			g = &gate{open: make(chan struct{})}
			gates[p.Arguments.Round] = g
		}
		if g.come++; g.come == p.Arguments.Of {
			close(g.open)
		}
		mu.Unlock()
		select {
		case <-g.open:
		case <-ctx.Done():
			return text("cancelled", true)
		case <-time.After(20 * time.Second):
			return text("the others did not come", true)
		}
		for n := range p.Arguments.Steps {
			progress(n+1, fmt.Sprintf("%s %d", p.Arguments.Who, n+1))
			runtime.Gosched()
		}
		return text(p.Arguments.Who, false)
	}
}

func text(s string, isError bool) string {
	return fmt.Sprintf(`{"content":[{"type":"text","text":%q}],"isError":%t}`, s, isError)
}
