package resilience_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/resilience"
)

// The default Classifier, with errors as real connections make them.
func TestClassify(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	dropping := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, _ := w.(http.Hijacker).Hijack()
		conn.Close()
	}))
	defer dropping.Close()
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer slow.Close()
	get := func(url string, timeout time.Duration) error {
		client := &http.Client{Timeout: timeout, Transport: &http.Transport{DisableKeepAlives: true}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err == nil {
			resp.Body.Close()
			t.Fatalf("%s answered", url)
		}
		return err
	}
	failure := func(class string, retry resilience.Retry, sent resilience.Sent) resilience.Outcome {
		return resilience.Outcome{Breaker: resilience.Failure, Class: class, Retry: retry, Sent: sent}
	}
	tests := []struct {
		name string
		err  error
		want resilience.Outcome
	}{
		{"success", nil, resilience.Outcome{Sent: resilience.Answered}},
		{"connection refused", get("http://"+closed.Addr().String(), time.Minute), failure("connect", resilience.RetryUnsent, resilience.NotSent)},
		{"unknown authority", get(secure.URL, time.Minute), failure("tls", resilience.RetryNever, resilience.NotSent)},
		{"no such host", fmt.Errorf("get: %w", &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", IsNotFound: true}}), failure("dns", resilience.RetryUnsent, resilience.NotSent)},
		{"not TLS", fmt.Errorf("get: %w", tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}), failure("tls", resilience.RetryNever, resilience.NotSent)},
		{"dropped after the request", get(dropping.URL, time.Minute), failure("connection", resilience.RetryIdempotent, resilience.SentUnknown)},
		{"timeout of the client", get(slow.URL, 10*time.Millisecond), failure("timeout", resilience.RetryIdempotent, resilience.SentUnknown)},
		{"deadline of a file", os.ErrDeadlineExceeded, failure("timeout", resilience.RetryIdempotent, resilience.SentUnknown)},
		{"cut short", io.ErrUnexpectedEOF, failure("connection", resilience.RetryIdempotent, resilience.SentUnknown)},
		{"anything else", errors.New("odd"), failure("other", resilience.RetryIdempotent, resilience.SentUnknown)},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, resilience.Classify(t.Context(), nil, tt.err)); diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", tt.name, tt.err, diff)
		}
	}
}

func TestNames(t *testing.T) {
	tests := map[string][]fmt.Stringer{
		"success": {resilience.Success}, "failure": {resilience.Failure}, "ignored": {resilience.Ignored},
		"never": {resilience.RetryNever}, "unsent": {resilience.RetryUnsent}, "idempotent": {resilience.RetryIdempotent, resilience.Idempotent}, "rejected": {resilience.RetryRejected},
		"unknown": {resilience.SentUnknown}, "not_sent": {resilience.NotSent}, "sent": {resilience.WasSent}, "answered": {resilience.Answered},
		"unsafe": {resilience.Unsafe}, "read_only": {resilience.ReadOnly},
		"closed": {resilience.StateClosed}, "open": {resilience.StateOpen}, "half_open": {resilience.StateHalfOpen}, "isolated": {resilience.StateIsolated}, "disabled": {resilience.StateDisabled},
	}
	for want, all := range tests {
		for _, s := range all {
			if s.String() != want {
				t.Errorf("%T: %q, want %q", s, s, want)
			}
		}
	}
}

// An error whose outcome is a success is the dependency's, and stays so even if the Classifier forgot to say that it was an answer.
func TestForgetfulClassifier(t *testing.T) {
	g := newGuard(t, plain(), resilience.Options{Classifier: func(context.Context, any, error) resilience.Outcome { return resilience.Outcome{} }})
	if err := try(t.Context(), g, resilience.Call{}, errBoom); err != errBoom { //nolint:errorlint // not even wrapped
		t.Errorf("err = %v", err)
	}
}
