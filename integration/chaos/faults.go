package main

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// calls is a fault for tools/call alone.
func calls(f fault) fault {
	return func(x *exchange) bool { return x.method == "tools/call" && f(x) }
}

// firstTime is a fault for the first request with each nonce that pick chooses, so that a repetition of it gets through.
func firstTime(pick func(n int) bool, f fault) fault {
	var mu sync.Mutex
	met := map[string]bool{}
	n := 0
	return calls(func(x *exchange) bool {
		mu.Lock()
		again := met[x.nonce]
		met[x.nonce] = true
		hit := !again && pick(n)
		if !again {
			n++
		}
		mu.Unlock()
		return hit && f(x)
	})
}

// status answers with an HTTP status and headers given as name, value, name, value.
func status(code int, headers ...string) fault {
	return func(x *exchange) bool {
		for i := 0; i+1 < len(headers); i += 2 {
			x.w.Header().Set(headers[i], headers[i+1])
		}
		http.Error(x.w, "chaos: "+strconv.Itoa(code), code)
		return true
	}
}

// resetAfter lets the server work and resets the connection instead of answering.
func resetAfter(x *exchange) bool {
	if resp, err := x.ask(); err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	x.reset()
	return true
}

// resetBefore resets the connection when the request was read; the server never hears of it.
func resetBefore(x *exchange) bool {
	x.reset()
	return true
}

// hang never answers.
func hang(x *exchange) bool {
	<-x.r.Context().Done()
	return true
}

// silence sends the headers of an event stream and nothing else.
func silence(x *exchange) bool {
	x.w.Header().Set("Content-Type", "text/event-stream")
	x.w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(x.w).Flush()
	<-x.r.Context().Done()
	return true
}

// trickle lets the server work and sends its answer a byte at a time.
func trickle(every time.Duration) fault {
	return func(x *exchange) bool {
		resp, err := x.ask()
		if err != nil {
			x.reset()
			return true
		}
		defer resp.Body.Close() //nolint:errcheck // read to its end
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			x.reset()
			return true
		}
		x.header(resp)
		for i := range b {
			_, _ = x.w.Write(b[i : i+1])
			_ = http.NewResponseController(x.w).Flush()
			if !pause(x.r.Context(), every) {
				return true
			}
		}
		return true
	}
}

// garbage lets the server work and answers what is no answer: in turn a page of HTML, broken JSON, and a body that ends too early.
func garbage() fault {
	var mu sync.Mutex
	n := 0
	return func(x *exchange) bool {
		if resp, err := x.ask(); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
		mu.Lock()
		kind := n % 3
		n++
		mu.Unlock()
		switch kind {
		case 0:
			x.w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(x.w, "<html><body>Please log in</body></html>")
		case 1:
			x.w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(x.w, `{"jsonrpc":"2.0","id":`+string(x.id)+`,"result":{"content":[}`)
		default:
			body := `{"jsonrpc":"2.0","id":` + string(x.id) + `,"result":{"content":[{"type":"text","text":"` + strings.Repeat("x", 500)
			x.w.Header().Set("Content-Type", "application/json")
			x.w.Header().Set("Content-Length", strconv.Itoa(2*len(body)))
			_, _ = io.WriteString(x.w, body)
			_ = http.NewResponseController(x.w).Flush()
			panic(http.ErrAbortHandler)
		}
		return true
	}
}

// oneOf is f for every nth request, beginning with the nth.
func oneOf(n int, f fault) fault {
	var mu sync.Mutex
	i := 0
	return func(x *exchange) bool {
		mu.Lock()
		i++
		hit := i%n == 0
		mu.Unlock()
		return hit && f(x)
	}
}

// reset breaks the connection of the request with RST.
func (x *exchange) reset() {
	c, _, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // FIN must do: headers are under way already
	}
	reset(c)
}
