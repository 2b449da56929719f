package downstream

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// benchServer answers every call with a text of the size that its tool is named after, as cheaply as a server can.
func benchServer(sse, modern bool) http.Handler {
	texts := map[string]string{}
	for _, size := range []int{1 << 10, 100 << 10} {
		texts[strconv.Itoa(size)] = strings.Repeat(`say \"hello\" and more, `, size/24)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		m, err := wire.Parse(drainRequest(r), 100)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var result string
		switch m.Method {
		case "server/discover":
			if !modern {
				http.NotFound(w, r)
				return
			}
			result = `{"supportedVersions":["2026-07-28"],"capabilities":{}}`
		case "initialize":
			w.Header().Set("Mcp-Session-Id", "s1")
			result = `{"protocolVersion":"2025-11-25","capabilities":{}}`
		case "notifications/initialized":
			w.WriteHeader(http.StatusAccepted)
			return
		default:
			tool, _ := wire.GetString(m.Params, "name")
			result = `{"content":[{"type":"text","text":"` + texts[tool] + `"}]}`
		}
		answer := fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result)
		if sse {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = w.Write(append(append([]byte("event: message\ndata: "), answer...), "\n\n"...))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
		_, _ = w.Write(answer)
	})
}

// BenchmarkHTTPCall is one call over a link, beside a bare RoundTrip that sends and receives the same bytes on the same
// transport and looks at none of them.
func BenchmarkHTTPCall(b *testing.B) {
	for _, size := range []int{1 << 10, 100 << 10} {
		for _, sse := range []bool{false, true} {
			for _, modern := range []bool{false, true} {
				name := fmt.Sprintf("%dKB/%s/%s", size>>10, map[bool]string{false: "json", true: "sse"}[sse], map[bool]string{false: "legacy", true: "modern"}[modern])
				url, _ := serve(b, benchServer(sse, modern))
				h := newTestHTTPOpener(b, httpConfig(url))
				l := openWith(b, h, opening{}).(*httpLink)
				c := toolCall(strconv.Itoa(size), `{"text":"`+strings.Repeat("x", 900)+`"}`, `{"progressToken":1}`)
				b.Run(name+"/bare", func(b *testing.B) {
					params, _ := outgoing(c, l.self, &l.opening, nil)
					body := wire.AppendRequest(nil, json.RawMessage("1"), c.Method, params)
					header := l.headerFor(c)
					b.ReportAllocs()
					for b.Loop() {
						req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url, bytes.NewReader(body))
						if err != nil {
							b.Fatal(err)
						}
						req.Header = header
						resp, err := h.client.transport.RoundTrip(req)
						if err != nil {
							b.Fatal(err)
						}
						buf := bytes.NewBuffer(make([]byte, 0, max(resp.ContentLength, int64(size)+512)+bytes.MinRead))
						if _, err := io.Copy(buf, resp.Body); err != nil {
							b.Fatal(err)
						}
						resp.Body.Close()
					}
				})
				b.Run(name+"/link", func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						if _, err := l.call(b.Context(), c); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}

// BenchmarkHTTPCallParallel is the same with many callers on one link.
func BenchmarkHTTPCallParallel(b *testing.B) {
	for _, sse := range []bool{false, true} {
		b.Run(map[bool]string{false: "json", true: "sse"}[sse], func(b *testing.B) {
			url, _ := serve(b, benchServer(sse, false))
			l := openHTTP(b, httpConfig(url), opening{})
			c := toolCall("1024", `{"text":"x"}`, "")
			b.ReportAllocs()
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := l.call(b.Context(), c); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
