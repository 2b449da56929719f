package downstream

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// BenchmarkMuxCall is one call of the given size over two io.Pipes, whose other end answers without parsing. Of the allocations
// one is the answer's line, which the result shares.
func BenchmarkMuxCall(b *testing.B) {
	for _, size := range []int{1 << 10, 100 << 10} {
		b.Run(strconv.Itoa(size>>10)+"KB", func(b *testing.B) {
			toServer, fromUs := io.Pipe()
			fromServer, toUs := io.Pipe()
			cfg := DefaultConfig()
			m := newMux(func(_ context.Context, msg []byte) error {
				_, err := fromUs.Write(append(msg, '\n'))
				return err
			}, opening{upcalls: newRecorder(b), shared: true}, muxConfig{limits: cfg.Limits})
			m.start(&peer{Revision: Legacy})
			go func() {
				lines := wire.NewLineReader(fromServer, 1<<20)
				for {
					line, err := lines.Next()
					if err != nil {
						m.fail(err)
						return
					}
					m.receive(line)
				}
			}()
			go func() {
				in := bufio.NewReaderSize(toServer, 1<<20)
				tail := []byte(`,"result":{"content":[{"type":"text","text":"` + strings.Repeat("x", size) + `"}]}}` + "\n")
				var out []byte
				for {
					line, err := in.ReadSlice('\n')
					if err != nil {
						return
					}
					id, _, _ := strings.Cut(string(line[len(`{"jsonrpc":"2.0","id":`):][:20]), ",")
					out = append(append(append(out[:0], `{"jsonrpc":"2.0","id":`...), id...), tail...)
					if _, err := toUs.Write(out); err != nil {
						return
					}
				}
			}()
			c := &Call{
				Method: "tools/call", Stream: newRecorder(b), Client: &Client{},
				Params: json.RawMessage(`{"name":"echo","arguments":{"text":"` + strings.Repeat("x", size) + `"},"_meta":{"progressToken":1}}`),
			}
			b.ReportAllocs()
			b.SetBytes(int64(2 * size))
			for b.Loop() {
				if _, err := m.call(b.Context(), c); err != nil {
					b.Fatal(err)
				}
			}
			m.fail(errors.New("over"))
			m.wait()
			_ = toServer.Close()
			_ = fromServer.Close()
		})
	}
}

// BenchmarkStdioCall is a call to a real process, which costs more than the gateway's part.
func BenchmarkStdioCall(b *testing.B) {
	l := openStdio(b, stdioConfig(b, "raw"), opening{shared: true}, nil)
	benchCalls(b, l, "ok")
}

// BenchmarkInProcessCall is a call to a server of the official SDK in the same process, its work included.
func BenchmarkInProcessCall(b *testing.B) {
	for _, revision := range []string{Legacy, Modern} {
		b.Run(revision, func(b *testing.B) {
			cfg := DefaultConfig()
			cfg.Protocol = revision
			l, err := openLink(b, newServerOpener(realServer(), &cfg, slog.New(slog.DiscardHandler), "v1"), opening{shared: true})
			if err != nil {
				b.Fatal(err)
			}
			benchCalls(b, l, "echo")
		})
	}
}

func benchCalls(b *testing.B, l link, tool string) {
	c := toolCall(tool, `{"text":"`+strings.Repeat("x", 1<<10)+`"}`, "")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.call(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
}
