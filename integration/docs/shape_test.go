package main

import "testing"

func TestMissing(t *testing.T) {
	t.Parallel()
	const output = "3 of 3 servers ready (degraded)\n" +
		"nas: ready since 2026-11-21T13:30:06Z, 9 tools\n" +
		"  circuit 'nas': open since 2026-11-21T13:30:10Z, retry after 59.7s\n" +
		"host   works   2s\n"
	tests := map[string]struct {
		want []string
		miss string
	}{
		"numbers differ":               {want: []string{"5 of 7 servers ready (degraded)"}},
		"lines left out":               {want: []string{"1 of 1 servers ready (degraded)", "host works 1m2s"}},
		"other spaces":                 {want: []string{"circuit 'nas': open since 13:00, retry after 1s"}},
		"another word":                 {want: []string{"3 of 3 servers ready (healthy)"}, miss: "3 of 3 servers ready (healthy)"},
		"a word more":                  {want: []string{"host works well 2s"}, miss: "host works well 2s"},
		"half a line":                  {want: []string{"host works"}, miss: "host works"},
		"half a line with an ellipsis": {want: []string{"host …"}},
		"ellipsis in the middle":       {want: []string{"circuit 'nas': … retry after 3s"}},
		"ellipsis and another word":    {want: []string{"circuit 'nas': … wait after 3s"}, miss: "circuit 'nas': … wait after 3s"},
		"order":                        {want: []string{"host works 2s", "1 of 1 servers ready (degraded)"}, miss: "1 of 1 servers ready (degraded)"},
		"an ellipsis alone":            {want: []string{"…", "", "host works 2s"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := missing(test.want, output); got != test.miss {
				t.Errorf("missing is %q, want %q", got, test.miss)
			}
		})
	}
}
