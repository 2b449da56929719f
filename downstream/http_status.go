package downstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/downstream/internal/proc"
	"github.com/mcpgw/mcpgw/internal/wire"
)

// Bounds of what is read of an answer that is an error.
const (
	errorBodyPatience = time.Second
	errorExcerpt      = 200     // bytes of it that an error message shows
	errorText         = 4 << 10 // bytes that are read for it
)

// refused returns the error that an answer with another status than 2xx means for the request with the given id. session says
// whether the request named a session. It reads and closes the body, and waits for it only briefly.
func (h *httpClient) refused(ctx context.Context, resp *http.Response, id json.RawMessage, session bool) error {
	defer h.hurry(resp)()
	status := &StatusError{Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header)}
	if resp.StatusCode/100 == 3 {
		status.Body = "it redirects" + redirectTarget(resp) + ", which is not followed: write the address of the MCP endpoint itself into url"
		return status
	}
	var rpc *wire.Error
	var ours bool
	if contentType(resp.Header) == "application/json" {
		b, err := h.readBody(resp)
		if err != nil && ctx.Err() != nil {
			return lostTo(ctx)
		}
		rpc, ours = errorAnswer(b, id)
		status.Body = excerpt(b)
	} else {
		status.Body = excerpt(beginning(resp.Body))
	}
	if rpc != nil {
		status.Body = excerpt([]byte(rpc.Message))
	}
	switch {
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500:
		return status // whatever the body says, the status says what to do now
	case session && sessionGone(resp.StatusCode, rpc, ours):
		return &SessionLostError{Err: status}
	case rpc != nil && (ours || standardCode(rpc.Code)):
		return rpc
	}
	return status
}

// hurry bounds the time that reading the body of resp may take, until the function returned is called, which closes it.
func (h *httpClient) hurry(resp *http.Response) (done func()) {
	timer := time.AfterFunc(errorBodyPatience, func() { _ = resp.Body.Close() })
	return func() {
		timer.Stop()
		_ = resp.Body.Close()
	}
}

// beginning returns as much of a body as an error message needs, or as can be had.
func beginning(body io.Reader) []byte {
	b, _ := io.ReadAll(io.LimitReader(body, errorText))
	return b
}

// sessionGone reports whether a refusal means that the server does not know the session any more: 404 by the specification, unless
// it is the answer to an unknown method; some servers made with the TypeScript SDK say 400 and "No valid session ID provided".
func sessionGone(status int, rpc *wire.Error, ours bool) bool {
	switch status {
	case http.StatusNotFound:
		return rpc == nil || !ours || rpc.Code != wire.CodeMethodNotFound
	case http.StatusBadRequest:
		return rpc != nil && !ours && rpc.Code == -32000 && strings.Contains(strings.ToLower(rpc.Message), "session")
	}
	return false
}

// errorAnswer reads a JSON-RPC error response; nil if b is none. ours tells whether it names our request; it may also leave open
// which one it means, because the server could not read that.
func errorAnswer(b []byte, id json.RawMessage) (rpc *wire.Error, ours bool) {
	m, err := wire.Parse(b, maxErrorDepth)
	if err != nil || m.Error == nil {
		return nil, false
	}
	if ours = bytes.Equal(m.ID, id); !ours && string(m.ID) != "null" {
		return nil, false
	}
	if rpc, err = wire.ParseError(m.Error); err != nil {
		return nil, false
	}
	return rpc, ours
}

// maxErrorDepth bounds the nesting of an error answer.
const maxErrorDepth = 200

// standardCode reports whether the specification gives an error code its meaning, so that it answers the request even where the
// server could not tell which one that was.
func standardCode(code int64) bool {
	return code == wire.CodeParse || code >= wire.CodeInternal && code <= wire.CodeInvalidRequest ||
		code >= wire.CodeUnsupportedProtocol && code <= wire.CodeHeaderMismatch
}

// contentType returns the media type of an answer in lower case, without its parameters.
func contentType(h http.Header) string {
	v := h["Content-Type"]
	if len(v) == 0 {
		return ""
	}
	switch v[0] { // as nearly all servers write it
	case "application/json", "text/event-stream":
		return v[0]
	}
	t, _, err := mime.ParseMediaType(v[0])
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return ""
	}
	return t
}

// retryAfter reads the Retry-After header: seconds or a date (RFC 9110, section 10.2.3). It is 0 if there is none.
func retryAfter(h http.Header) time.Duration {
	const most = 24 * time.Hour
	v := h.Get("Retry-After")
	if v == "" {
		return 0
	}
	if s, err := strconv.ParseUint(v, 10, 31); err == nil {
		return min(time.Duration(s)*time.Second, most)
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	now := time.Now()
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date // the server's clock, which may not be ours
	}
	return min(max(at.Sub(now), 0), most)
}

// redirectTarget says where a redirect leads, without what may be secret in it.
func redirectTarget(resp *http.Response) string {
	u, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || *u == (url.URL{}) {
		return ""
	}
	if resp.Request != nil && resp.Request.URL != nil {
		u = resp.Request.URL.ResolveReference(u)
	}
	u = &url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	return " to " + excerpt([]byte(u.String()))
}

// excerpt returns the beginning of what a server sent, fit for an error message: one line, bounded.
func excerpt(b []byte) string {
	words := bytes.Fields(b[:min(len(b), errorText)])
	return proc.Clean(string(bytes.Join(words, []byte{' '})), errorExcerpt)
}

// malformed reports an answer that is not one.
func malformed(format string, args ...any) error {
	return &LostError{Class: "malformed_response", Err: fmt.Errorf(format, args...)}
}
