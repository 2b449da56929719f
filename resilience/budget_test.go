package resilience

import (
	"testing"
	"time"
)

// TestBudgetBoundsAStorm shows the bound of repetitions when everything fails: the share of the calls and what was saved up, however long
// it takes; and that rare callers get what time earns.
func TestBudgetBoundsAStorm(t *testing.T) {
	begin := time.Now()
	for _, tt := range []struct {
		calls int
		every time.Duration
		most  float64
	}{
		{2000, 5 * time.Millisecond, 0.2*2000 + 10},
		{2000, 50 * time.Millisecond, 0.2*2000 + 10},
		{100, 10 * time.Second, 1000}, // rare: each may repeat as often as it likes
	} {
		var b budget
		now := begin
		b.reconfigure(BudgetConfig{Ratio: 0.2, MinPerSecond: 1, Burst: 10}, now)
		repeated := 0
		for range tt.calls {
			b.deposit()
			for range 2 {
				if b.withdraw(now) {
					repeated++
				}
			}
			now = now.Add(tt.every)
		}
		if float64(repeated) > tt.most {
			t.Errorf("%d calls, one every %s: %d repetitions, at most %v wanted", tt.calls, tt.every, repeated, tt.most)
		}
		if tt.every > time.Second && repeated != 2*tt.calls {
			t.Errorf("rare callers repeated %d times in %d calls", repeated, tt.calls)
		}
	}
}
