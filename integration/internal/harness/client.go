package harness

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// The newest revision of each era.
const (
	Legacy = "2025-11-25"
	Modern = "2026-07-28"
)

// ModernMeta holds the members of _meta that each modern request must carry, without the braces.
const ModernMeta = `"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"raw","version":"1"},` +
	`"io.modelcontextprotocol/clientCapabilities":{}`

// Message is one JSON-RPC message whose members are the bytes that came.
type Message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

// Client speaks MCP over streamable HTTP with bytes written by hand.
type Client struct {
	URL    string
	Modern bool         // speak 2026-07-28, otherwise 2025-11-25 with a session
	HTTP   *http.Client // nil means http.DefaultClient

	session string
}

// Connect does the legacy handshake and returns the result of initialize. A modern client has none: it asks server/discover.
func (c *Client) Connect(ctx context.Context) (json.RawMessage, error) {
	if c.Modern {
		return c.Request(ctx, "server/discover", "", `{"_meta":{`+ModernMeta+`}}`)
	}
	r, err := c.Request(ctx, "initialize", "", `{"protocolVersion":"`+Legacy+`","capabilities":{},"clientInfo":{"name":"raw","version":"1"}}`)
	if err != nil {
		return nil, err
	}
	return r, c.Notify(ctx, "notifications/initialized", `{}`)
}

// Close ends the legacy session, if there is one.
func (c *Client) Close(ctx context.Context) error {
	if c.session == "" {
		return nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, c.URL, http.NoBody)
	if err != nil {
		return err
	}
	c.header(req, "", "")
	c.session = ""
	resp, err := c.client().Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Session returns the id that the server gave to the legacy session.
func (c *Client) Session() string { return c.session }

// Params returns the params object with the given members (without braces) and, for a modern client, the _meta that it must
// carry. Meta holds further members of _meta, without braces.
func (c *Client) Params(members, meta string) string {
	if c.Modern {
		meta = join(ModernMeta, meta)
	}
	if meta != "" {
		members = join(`"_meta":{`+meta+`}`, members)
	}
	return "{" + members + "}"
}

func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "," + b
}

// Request sends a request with the id 1 and returns its result. An error answer is an error.
func (c *Client) Request(ctx context.Context, method, name, params string) (json.RawMessage, error) {
	all, err := c.Send(ctx, `1`, method, name, params)
	if err != nil {
		return nil, err
	}
	last := all[len(all)-1]
	if last.Error != nil {
		return nil, fmt.Errorf("%s: the answer is an error: %s", method, last.Error)
	}
	return last.Result, nil
}

// Send sends a request and returns every message that came, the last of which is the answer. Name is what Mcp-Name must mirror.
func (c *Client) Send(ctx context.Context, id, method, name, params string) ([]Message, error) {
	body := `{"jsonrpc":"2.0","id":` + id + `,"method":"` + method + `","params":` + params + `}`
	var all []Message
	err := c.Stream(ctx, body, method, name, func(m Message) { all = append(all, m) })
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	if len(all) == 0 || all[len(all)-1].Method != "" {
		return nil, fmt.Errorf("%s: the stream ended without an answer", method)
	}
	return all, nil
}

// Notify sends a notification.
func (c *Client) Notify(ctx context.Context, method, params string) error {
	return c.Stream(ctx, `{"jsonrpc":"2.0","method":"`+method+`","params":`+params+`}`, method, "", func(Message) {})
}

// Stream posts body and calls f with each message of the answer, which is JSON or an event stream, as it comes.
func (c *Client) Stream(ctx context.Context, body, method, name string, f func(Message)) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, strings.NewReader(body))
	if err != nil {
		return err
	}
	c.header(req, method, name)
	resp, err := c.client().Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end already
	if s := resp.Header.Get("Mcp-Session-Id"); s != "" && method == "initialize" {
		c.session = s
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return Events(resp.Body, func(data []byte) error {
			var m Message
			if err := json.Unmarshal(data, &m); err != nil {
				return fmt.Errorf("an event is not a message: %w: %.200s", err, data)
			}
			f(m)
			return nil
		})
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	b = bytes.TrimSpace(b)
	if len(b) == 0 && resp.StatusCode/100 == 2 {
		return nil
	}
	var m Message
	if err := json.Unmarshal(b, &m); err != nil {
		return fmt.Errorf("HTTP %d, not a message: %w: %.300s", resp.StatusCode, err, b)
	}
	f(m)
	return nil
}

func (c *Client) client() *http.Client {
	if c.HTTP != nil {
		return c.HTTP
	}
	return http.DefaultClient
}

func (c *Client) header(req *http.Request, method, name string) {
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	switch {
	case c.Modern:
		req.Header.Set("Mcp-Protocol-Version", Modern)
		req.Header.Set("Mcp-Method", method)
		if name != "" {
			req.Header.Set("Mcp-Name", name)
		}
	case c.session != "":
		req.Header.Set("Mcp-Protocol-Version", Legacy)
		req.Header.Set("Mcp-Session-Id", c.session)
	}
}

// Events calls f with the data of each event of a stream until the stream ends or f fails. Comments and events without data are
// passed over.
func Events(r io.Reader, f func(data []byte) error) error {
	br := bufio.NewReaderSize(r, 64<<10)
	var data []byte
	for {
		line, err := br.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the event stream: %w", err)
		}
		line = bytes.TrimRight(line, "\r\n")
		if v, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			if data != nil {
				data = append(data, '\n')
			}
			data = append(data, bytes.TrimPrefix(v, []byte(" "))...)
		}
		if len(line) == 0 && len(data) > 0 {
			if err := f(data); err != nil {
				return err
			}
			data = nil
		}
	}
}
