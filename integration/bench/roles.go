package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// role is what this program is when it is started as one of the processes of the benchmark.
type role struct {
	name    string // sdk, raw, static, proxy or naive
	addr    string
	modern  bool
	tools   int
	prefix  string // of the tools' names
	targets []string
}

func (r role) args() []string {
	return []string{
		"-role", r.name, "-addr", r.addr, fmt.Sprintf("-modern=%t", r.modern), fmt.Sprintf("-tools=%d", r.tools), "-prefix", r.prefix,
		"-targets", strings.Join(r.targets, ","),
	}
}

// serve runs the role until the process is ended.
func (r role) serve(ctx context.Context) error {
	var h http.Handler
	var err error
	switch r.name {
	case "sdk":
		h = sdkServer(r)
	case "raw":
		h = http.HandlerFunc(rawEcho{modern: r.modern}.ServeHTTP)
	case "static":
		h = static(r.tools)
	case "proxy":
		h, err = reverseProxy(r.targets[0])
	case "naive":
		h, err = naive(ctx, r)
	default:
		err = fmt.Errorf("no role %q", r.name)
	}
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/-/allocs", func(w http.ResponseWriter, _ *http.Request) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Fprint(w, m.Mallocs, m.TotalAlloc)
	})
	mux.Handle("/", h)
	s := &http.Server{Addr: r.addr, Handler: mux, ReadHeaderTimeout: time.Minute}
	return s.ListenAndServe()
}

const toolSchema = `{"type":"object","properties":{"path":{"type":"string","description":"Path of the file"},"limit":{"type":"integer","minimum":1,` +
	`"maximum":1000,"default":100,"description":"How many"},"mode":{"type":"string","enum":["read","write","append"]},"filters":{"type":"array","items":` +
	`{"type":"object","properties":{"field":{"type":"string"},"op":{"type":"string"},"value":{}},"required":["field","op"]}}},"required":["path"],` +
	`"additionalProperties":false}`

// sdkServer is an echo server made with the official SDK, with more tools beside echo if wanted.
func sdkServer(r role) http.Handler {
	s := mcp.NewServer(&mcp.Implementation{Name: "bench", Version: "1"}, nil)
	s.AddTool(&mcp.Tool{Name: "echo", InputSchema: json.RawMessage(`{"type":"object"}`)}, func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		var args struct {
			Text string `json:"text"`
		}
		if err := json.Unmarshal(req.Params.Arguments, &args); err != nil {
			return nil, err
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: args.Text}}}, nil
	})
	for i := 1; i < r.tools; i++ {
		s.AddTool(&mcp.Tool{
			Name: fmt.Sprintf("%stool_%04d", r.prefix, i), Title: "A tool", Description: strings.Repeat("Describe what the tool does. ", 8),
			InputSchema: json.RawMessage(toolSchema), Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true},
		}, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return &mcp.CallToolResult{}, nil
		})
	}
	return sdkHandler(s, r.modern)
}

// sdkHandler answers as most servers do today: an event stream in the legacy era, JSON in the modern one.
func sdkHandler(s *mcp.Server, modern bool) http.Handler {
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{Stateless: modern, JSONResponse: modern})
}

// rawEcho is an MCP server that does as little as possible: it looks for a few marks in the body and copies the argument into the
// answer, so that the hop is what takes the time.
type rawEcho struct{ modern bool }

func (e rawEcho) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodDelete {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if r.Method != http.MethodPost {
		http.Error(w, "POST only", http.StatusMethodNotAllowed)
		return
	}
	b := bytes.NewBuffer(make([]byte, 0, max(0, r.ContentLength)+bytes.MinRead))
	if _, err := b.ReadFrom(r.Body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	body := b.Bytes()
	id := between(body, `"id":`, `,`)
	tool := `{"name":"echo","description":"says it again","inputSchema":{"type":"object"}}`
	switch method := string(between(body, `"method":"`, `"`)); method {
	case "tools/call":
		text := between(body, `"text":"`, `"}`)
		e.answer(w, id, `{`, e.resultType(), `"content":[{"type":"text","text":"`, string(text), `"}]}`)
	case "tools/list":
		e.answer(w, id, `{`, e.cacheable(), `"tools":[`, tool, `]}`)
	case "initialize":
		if e.modern {
			http.Error(w, `{"jsonrpc":"2.0","id":null,"error":{"code":-32022,"message":"2026-07-28 only","data":{"supported":["2026-07-28"]}}}`, http.StatusBadRequest)
			return
		}
		w.Header().Set("Mcp-Session-Id", "raw")
		e.answer(w, id, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"raw","version":"1"}}`)
	case "server/discover":
		if !e.modern {
			http.Error(w, "no such method", http.StatusBadRequest)
			return
		}
		e.answer(w, id, `{`, e.cacheable(), `"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"serverInfo":{"name":"raw","version":"1"}}`)
	default:
		if strings.HasPrefix(method, "notifications/") {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		e.write(w, `{"jsonrpc":"2.0","id":`, string(id), `,"error":{"code":-32601,"message":"no such method"}}`)
	}
}

func (e rawEcho) resultType() string {
	if e.modern {
		return `"resultType":"complete",`
	}
	return ""
}

func (e rawEcho) cacheable() string {
	if e.modern {
		return e.resultType() + `"ttlMs":0,"cacheScope":"public",`
	}
	return ""
}

func (e rawEcho) answer(w http.ResponseWriter, id []byte, result ...string) {
	e.write(w, append(append([]string{`{"jsonrpc":"2.0","id":`, string(id), `,"result":`}, result...), `}`)...)
}

func (e rawEcho) write(w http.ResponseWriter, parts ...string) {
	var b bytes.Buffer
	if e.modern {
		w.Header().Set("Content-Type", "application/json")
		b.WriteString(strings.Join(parts, ""))
	} else {
		w.Header().Set("Content-Type", "text/event-stream")
		b.WriteString("event: message\ndata: " + strings.Join(parts, "") + "\n\n")
	}
	_, _ = b.WriteTo(w) // a client that went away is no concern of the benchmark
}

// static answers everything with as many kilobytes: what it costs to move them, and nothing else.
func static(kb int) http.Handler {
	body := []byte(`{"jsonrpc":"2.0","id":1,"result":{"x":"` + strings.Repeat("x", kb<<10) + `"}}`)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body)
	})
}

// between returns what stands between two marks, nil if they are not there.
func between(b []byte, from, to string) []byte {
	_, b, ok := bytes.Cut(b, []byte(from))
	if !ok {
		return nil
	}
	b, _, ok = bytes.Cut(b, []byte(to))
	if !ok {
		return nil
	}
	return b
}

// pooled returns a transport that keeps enough connections for 64 callers, as any hop would be set up to do.
func pooled() *http.Transport {
	return &http.Transport{MaxIdleConns: 512, MaxIdleConnsPerHost: 512, IdleConnTimeout: 90 * time.Second, DisableCompression: true}
}

// reverseProxy is the floor: a hop that understands nothing.
func reverseProxy(target string) (http.Handler, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) }, Transport: pooled()}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Without this net/http closes the request's body at the first flush of an event stream, perhaps before the transport has
		// seen its end; the transport then drops the connection in the middle of the answer (seen at once under load).
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		proxy.ServeHTTP(w, r)
	}), nil
}

// naive is the gateway that the SDK makes easy: a client for each server, and AddTool for each of its tools.
func naive(ctx context.Context, r role) (http.Handler, error) {
	s := mcp.NewServer(&mcp.Implementation{Name: "naive", Version: "1"}, nil)
	for _, target := range r.targets {
		c := mcp.NewClient(&mcp.Implementation{Name: "naive", Version: "1"}, nil)
		session, err := c.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: target, HTTPClient: &http.Client{Transport: pooled()}, DisableStandaloneSSE: true}, nil)
		if err != nil {
			return nil, fmt.Errorf("connecting to %s: %w", target, err)
		}
		for tool, err := range session.Tools(ctx, nil) {
			if err != nil {
				return nil, errors.Join(err, session.Close())
			}
			name := tool.Name
			s.AddTool(tool, func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				return session.CallTool(ctx, &mcp.CallToolParams{Name: name, Arguments: req.Params.Arguments})
			})
		}
	}
	return sdkHandler(s, r.modern), nil
}
