package downstream

import (
	"encoding/json"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// Servers drop what they ask while they have no stream for it, so a call that may lead to a question waits for the stream.
func TestFirstCallWaitsForTheServersOwnStream(t *testing.T) {
	for _, tc := range []struct {
		name string
		o    opening
		want bool
	}{
		{"a client that can be asked", opening{listen: true, capabilities: json.RawMessage(`{"elicitation":{}}`)}, true},
		{"a client that cannot", opening{listen: true}, false},
		{"a session of several", opening{listen: true, shared: true, capabilities: json.RawMessage(`{"elicitation":{}}`)}, true},
		{"the session of the catalogue", opening{listen: true, shared: true, capabilities: catalogCapabilities}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inner := newHostile(nil)
			var streaming atomic.Bool
			called := make(chan struct{})
			url, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet {
					select { // a server that is slow to answer GET
					case <-called:
					case <-time.After(50 * time.Millisecond):
					case <-r.Context().Done():
						return
					}
					streaming.Store(true)
				}
				inner.ServeHTTP(w, r)
			}))
			l := openHTTP(t, httpConfig(url), tc.o)
			got := streaming.Load()
			close(called)
			if got != tc.want {
				t.Errorf("the session was ready with the stream answered: %t, want %t", got, tc.want)
			}
			l.close(t.Context())
		})
	}
}
