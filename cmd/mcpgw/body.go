package main

import (
	"io"
	"net/http"
	"time"
)

// bodyWithin gives the body of each request limit to arrive. The server's own ReadTimeout would go on to count while the answer is
// written, and end a stream in the middle.
func bodyWithin(limit time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			rc := http.NewResponseController(w)
			if rc.SetReadDeadline(time.Now().Add(limit)) == nil { // only a writer of a test has no deadline
				r.Body = &timedBody{r.Body, rc}
			}
		}
		next.ServeHTTP(w, r)
	})
}

// timedBody takes the deadline away when the body has arrived: the connection is read on, to notice that the client has gone.
type timedBody struct {
	io.ReadCloser
	rc *http.ResponseController
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		_ = b.rc.SetReadDeadline(time.Time{}) // it worked before
	}
	return n, err
}
