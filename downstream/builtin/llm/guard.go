package llm

import (
	"fmt"
	"sync"
	"time"
)

// guard bounds what callers spend. Its methods may be called at the same time.
type guard struct {
	limits Limits

	mu       sync.Mutex
	starts   []time.Time // of the last minute; guarded by mu
	spent    []spending  // of the last day; guarded by mu
	today    int         // sum of spent; guarded by mu
	reserved int         // by completions under way; guarded by mu
}

type spending struct {
	at     time.Time
	tokens int
}

const day = 24 * time.Hour

// begin admits a completion that may take up to worst tokens. The caller ends it with settle.
func (g *guard) begin(worst int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	for len(g.starts) > 0 && now.Sub(g.starts[0]) >= time.Minute {
		g.starts = g.starts[1:]
	}
	for len(g.spent) > 0 && now.Sub(g.spent[0].at) >= day {
		g.today -= g.spent[0].tokens
		g.spent = g.spent[1:]
	}
	if most := g.limits.RequestsPerMinute; most > 0 && len(g.starts) >= most {
		return fmt.Errorf("the limit of %d completions a minute is reached (llm.limits.requests_per_minute in gateway.yaml); the next is possible in %s. Nothing was sent",
			most, (time.Minute - now.Sub(g.starts[0])).Round(time.Second))
	}
	if most := g.limits.TokensPerDay; most > 0 && g.today+g.reserved+worst > most {
		text := fmt.Sprintf("this completion could take up to %d tokens, and %d of the %d that are allowed in 24 hours are spent or reserved (llm.limits.tokens_per_day in gateway.yaml)",
			worst, g.today+g.reserved, most)
		if len(g.spent) > 0 {
			text += fmt.Sprintf("; the count goes down from %s on", g.spent[0].at.Add(day).UTC().Format("15:04 UTC"))
		}
		return fmt.Errorf("%s. A shorter prompt or max_tokens may still fit. Nothing was sent", text)
	}
	g.starts = append(g.starts, now)
	g.reserved += worst
	return nil
}

// settle ends a completion that took the tokens, 0 for one that was not made.
func (g *guard) settle(worst, tokens int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reserved -= worst
	if tokens > 0 {
		g.today += tokens
		g.spent = append(g.spent, spending{time.Now(), tokens})
	}
}
