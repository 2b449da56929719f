package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
)

func TestWhatClientsAreToldAboutAFailure(t *testing.T) {
	late := fmt.Errorf("no answer within 5s: %w", context.DeadlineExceeded)
	for name, c := range map[string]struct {
		err      error
		kind     string
		executed string
		wait     float64
	}{
		"not connected":    {&downstream.UnavailableError{Class: "connect", RetryAfter: 4200 * time.Millisecond, Err: errors.New("refused")}, "unavailable", "no", 4000},
		"full":             {&downstream.UnavailableError{Class: "overloaded", Err: errors.New("512 calls")}, "overloaded", "no", 0},
		"timeout":          {&downstream.LostError{Class: "timeout", Err: late}, "timeout", "unknown", 0},
		"connection lost":  {&downstream.LostError{Class: "connection", Err: errors.New("EOF")}, "connection_lost", "unknown", 0},
		"garbage":          {&downstream.LostError{Class: "malformed_response", Err: errors.New("bad")}, "bad_answer", "unknown", 0},
		"refused by HTTP":  {&downstream.StatusError{Status: 429, RetryAfter: time.Minute}, "http_status", "no", 60000},
		"failed in HTTP":   {&downstream.StatusError{Status: 502, Body: "bad gateway"}, "http_status", "unknown", 0},
		"session lost":     {&downstream.SessionLostError{Err: errors.New("404")}, "unavailable", "no", 0},
		"something else":   {errors.New("boom"), "internal", "unknown", 0},
		"wrapped":          {fmt.Errorf("x: %w", &downstream.LostError{Class: "connection", Err: errors.New("EOF")}), "connection_lost", "unknown", 0},
		"retry at once is": {&downstream.UnavailableError{Class: "connect", RetryAfter: time.Millisecond, Err: errors.New("refused")}, "unavailable", "no", 1000},
	} {
		t.Run(name, func(t *testing.T) {
			f := explain("nas", c.err)
			raw := toolFailure(f)
			if err := wire.Valid(raw, 10); err != nil {
				t.Fatal(err)
			}
			var got struct {
				Content           []struct{ Text string }
				IsError           bool
				StructuredContent map[string]any
			}
			if err := json.Unmarshal(raw, &got); err != nil {
				t.Fatal(err)
			}
			s := got.StructuredContent
			if !got.IsError || s["error"] != c.kind || s["executed"] != c.executed || s["downstream"] != "nas" {
				t.Errorf("got %v", s)
			}
			if ms, _ := s["retry_after_ms"].(float64); ms != c.wait {
				t.Errorf("retry_after_ms is %v, want %v", ms, c.wait)
			}
			// Text and structured content say the same: clients show a model only one of them.
			text := got.Content[0].Text
			for _, fact := range []string{c.kind, "executed=" + c.executed, "nas", s["class"].(string), s["message"].(string)} {
				if !strings.Contains(text, fact) {
					t.Errorf("the text %q does not say %q", text, fact)
				}
			}
			w := wireError("nas", c.err)
			if w.Code >= -32768 && w.Code <= -32000 && c.kind != "internal" {
				t.Errorf("code %d could be mistaken for the server's own", w.Code)
			}
			if string(wire.Get(w.Data, "executed")) != `"`+c.executed+`"` {
				t.Errorf("data is %s", w.Data)
			}
		})
	}
}

func TestServersOwnErrorsPass(t *testing.T) {
	e, err := wire.ParseError(json.RawMessage(`{"code":-32000,"message":"m","data":{"x":1.0},"more":true}`))
	if err != nil {
		t.Fatal(err)
	}
	if explain("nas", fmt.Errorf("call: %w", e)) != nil {
		t.Error("a server's own error was taken for a failure of the gateway")
	}
	if got := string(wireError("nas", e).Bytes()); got != `{"code":-32000,"message":"m","data":{"x":1.0},"more":true}` {
		t.Errorf("got %s", got)
	}
}

func TestNotFoundHasTheCodeOfTheEra(t *testing.T) {
	e := asWire(errNotFound("no %s", "x"))
	if got := inEra(e, true).Code; got != wire.CodeInvalidParams {
		t.Errorf("modern: %d", got)
	}
	if got := inEra(e, false).Code; got != wire.CodeResourceNotFound {
		t.Errorf("legacy: %d", got)
	}
	if got := inEra(wire.Errorf(wire.CodeInvalidParams, "an older server's own"), false).Code; got != wire.CodeInvalidParams {
		t.Errorf("legacy, invalid params: %d", got)
	}
}
