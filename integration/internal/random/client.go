package random

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// sender sends one request and returns what came for it, the answer last. asked answers what a server asks on the way.
type sender interface {
	send(ctx context.Context, id, method, name, params string, asked func(harness.Message) string) ([]harness.Message, error)
	close() error
}

// canBeAsked are capabilities without extensions.
const canBeAsked = `{"elicitation":{"form":{}},"sampling":{},"roots":{}}`

// open begins an older client's session.
func open(ctx context.Context, s sender, notify func(method string) error) error {
	all, err := s.send(ctx, "0", "initialize", "", `{"protocolVersion":"2025-11-25","capabilities":`+canBeAsked+`,"clientInfo":{"name":"random","version":"1"}}`, nil)
	if err != nil {
		return err
	}
	if e := all[len(all)-1].Error; e != nil {
		return fmt.Errorf("initialize: %s", e)
	}
	if err := notify("notifications/initialized"); err != nil {
		return err
	}
	_, err = s.send(ctx, "0", "logging/setLevel", "", `{"level":"debug"}`, nil)
	return err
}

// httpClient is a client over HTTP.
type httpClient struct{ *harness.Client }

func newHTTP(ctx context.Context, url string, modern bool) (*httpClient, error) {
	c := &httpClient{&harness.Client{URL: url, Modern: modern}}
	if modern {
		return c, nil
	}
	return c, open(ctx, c, func(method string) error { return c.Notify(ctx, method, "{}") })
}

func (c *httpClient) send(ctx context.Context, id, method, name, params string, asked func(harness.Message) string) ([]harness.Message, error) {
	body := `{"jsonrpc":"2.0","id":` + id + `,"method":"` + method + `","params":` + params + `}`
	var all []harness.Message
	var bad error
	err := c.Stream(ctx, body, method, encodeHeader(name), func(m harness.Message) {
		all = append(all, m)
		if m.Method != "" && m.ID != nil && asked != nil {
			answer := `{"jsonrpc":"2.0","id":` + string(m.ID) + `,"result":` + asked(m) + `}`
			bad = errors.Join(bad, c.Stream(ctx, answer, "", "", func(harness.Message) {}))
		}
	})
	if err = errors.Join(err, bad); err != nil {
		return nil, err
	}
	if len(all) == 0 || all[len(all)-1].Method != "" {
		return nil, errors.New("no answer")
	}
	return all, nil
}

func (c *httpClient) close() error { return c.Close(context.Background()) }

// encodeHeader spells what Mcp-Name mirrors (specification 2026-07-28, basic/transports/streamable-http).
func encodeHeader(s string) string {
	plain := strings.TrimSpace(s) == s && !strings.HasPrefix(s, "=?base64?")
	for _, c := range s {
		plain = plain && c >= ' ' && c < 0x7f
	}
	if plain {
		return s
	}
	return "=?base64?" + base64.StdEncoding.EncodeToString([]byte(s)) + "?="
}

// stdioClient is a client that started the gateway as its command.
type stdioClient struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	log *strings.Builder // what the gateway logged; to be read when it has ended
	mu  sync.Mutex       // guards in
}

func newStdio(ctx context.Context, program, file string, modern bool) (*stdioClient, error) {
	c := &stdioClient{cmd: exec.CommandContext(context.WithoutCancel(ctx), program, "stdio", "--config", file), log: &strings.Builder{}}
	c.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	c.cmd.Stderr = c.log
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s stdio: %w", program, err)
	}
	if modern {
		return c, nil
	}
	return c, open(ctx, c, func(method string) error { return c.write(`{"jsonrpc":"2.0","method":"` + method + `"}`) })
}

func (c *stdioClient) write(msg string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := io.WriteString(c.in, oneLine(msg)+"\n")
	return err
}

func (c *stdioClient) send(ctx context.Context, id, method, _, params string, asked func(harness.Message) string) ([]harness.Message, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.cmd.Process.Kill() }) // so that reading ends
	defer stop()
	if err := c.write(`{"jsonrpc":"2.0","id":` + id + `,"method":"` + method + `","params":` + params + `}`); err != nil {
		return nil, err
	}
	var all []harness.Message
	for {
		line, err := c.out.ReadBytes('\n')
		if err != nil {
			return nil, fmt.Errorf("reading what the gateway says: %w", err)
		}
		var m harness.Message
		if err := json.Unmarshal(line, &m); err != nil {
			return nil, fmt.Errorf("not a message: %w: %.300s", err, line)
		}
		if strings.HasSuffix(m.Method, "/list_changed") {
			continue // catalogues become known at any time
		}
		all = append(all, m)
		switch {
		case m.Method == "":
			return all, nil
		case m.ID != nil && asked != nil:
			if err := c.write(`{"jsonrpc":"2.0","id":` + string(m.ID) + `,"result":` + asked(m) + `}`); err != nil {
				return nil, err
			}
		}
	}
}

func (c *stdioClient) close() error {
	_ = c.in.Close() // it ends by that
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("mcpgw stdio: %w\n%s", err, c.log)
	}
	return nil
}
