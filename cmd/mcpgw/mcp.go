package main

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

// revision is the one that this client speaks: every request stands for itself, so there is no session to open and to lose.
const revision = "2026-07-28"

// rpcError is an error that the gateway, or a server behind it, answered with.
type rpcError struct {
	Code    int             `json:"code"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data,omitempty"`
}

func (e *rpcError) Error() string { return fmt.Sprintf("%s (code %d)", e.Message, e.Code) }

// message is what comes back.
type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *rpcError       `json:"error"`
}

// request asks the endpoint. name is what the header Mcp-Name must say; heard is called with what comes before the answer.
func (r *remote) request(ctx context.Context, method, name string, params map[string]any, heard func(message)) (json.RawMessage, error) {
	meta := map[string]any{
		"io.modelcontextprotocol/protocolVersion":    revision,
		"io.modelcontextprotocol/clientInfo":         map[string]string{"name": "mcpgw", "version": thisBuild().Version},
		"io.modelcontextprotocol/clientCapabilities": map[string]any{},
	}
	if heard != nil {
		meta["progressToken"] = "1"
	}
	params["_meta"] = meta
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.mcp, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for k, v := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": revision, "Mcp-Method": method, "Mcp-Name": name,
	} {
		if v != "" {
			req.Header.Set(k, v)
		}
	}
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, unreachable(r.mcp, err)
	}
	defer func() { _ = resp.Body.Close() }()
	m, err := answer(resp, heard)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, fmt.Errorf("%s: %s: %w", r.mcp, method, err)
	}
	if m.Error != nil {
		return nil, m.Error
	}
	return m.Result, nil
}

// answer reads up to the message that answers the request.
func answer(resp *http.Response, heard func(message)) (*message, error) {
	const most = 64 << 20
	body := io.LimitReader(resp.Body, most)
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return events(body, heard)
	}
	b, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	var m message
	if json.Unmarshal(b, &m) != nil || m.Result == nil && m.Error == nil {
		return nil, fmt.Errorf("HTTP %d: %s", resp.StatusCode, cut(string(b), 300))
	}
	return &m, nil
}

// events reads a stream of events up to the answer.
func events(r io.Reader, heard func(message)) (*message, error) {
	in := bufio.NewReader(r)
	var data []byte
	for {
		line, err := in.ReadBytes('\n')
		line = bytes.TrimRight(line, "\r\n")
		if rest, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			data = append(append(data, bytes.TrimPrefix(rest, []byte(" "))...), '\n')
		}
		if len(line) == 0 && len(data) > 0 {
			var m message
			if err := json.Unmarshal(data, &m); err != nil {
				return nil, fmt.Errorf("an event is no message: %w", err)
			}
			data = data[:0]
			if m.Method == "" {
				return &m, nil
			}
			if heard != nil {
				heard(m)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the stream ended without an answer: whether the call was made is not known")
		}
		if err != nil {
			return nil, err
		}
	}
}

// tool is a tool as the endpoint lists it.
type tool struct {
	Name        string          `json:"name"`
	Title       string          `json:"title,omitempty"`
	Description string          `json:"description,omitempty"`
	InputSchema json.RawMessage `json:"inputSchema"`
	Annotations *annotations    `json:"annotations,omitempty"`
	raw         json.RawMessage
}

// annotations are the hints of a tool. A nil hint was not given.
type annotations struct {
	ReadOnly    *bool `json:"readOnlyHint,omitempty"`
	Destructive *bool `json:"destructiveHint,omitempty"`
	Idempotent  *bool `json:"idempotentHint,omitempty"`
	OpenWorld   *bool `json:"openWorldHint,omitempty"`
}

// tools lists every tool of the endpoint.
func (r *remote) tools(ctx context.Context) ([]tool, error) {
	ctx, cancel := context.WithTimeout(ctx, remotePatience)
	defer cancel()
	var all []tool
	params := map[string]any{}
	for {
		raw, err := r.request(ctx, "tools/list", "", params, nil)
		if err != nil {
			return nil, err
		}
		var page struct {
			Tools      []json.RawMessage `json:"tools"`
			NextCursor string            `json:"nextCursor"`
		}
		if err := json.Unmarshal(raw, &page); err != nil {
			return nil, fmt.Errorf("tools/list: %w", err)
		}
		for _, one := range page.Tools {
			t := tool{raw: one}
			if err := json.Unmarshal(one, &t); err != nil {
				return nil, fmt.Errorf("tools/list: %w", err)
			}
			all = append(all, t)
		}
		if page.NextCursor == "" {
			return all, nil
		}
		params = map[string]any{"cursor": page.NextCursor}
	}
}
