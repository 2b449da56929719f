package truenas

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

const (
	keepalive  = 20 * time.Second // between pings; routers forget quiet connections after minutes
	pongTime   = 10 * time.Second
	writeTime  = 10 * time.Second
	maxMessage = 64 << 20
	maxAtOnce  = 8 // TrueNAS delays calls of a connection beyond 10 and refuses them beyond 20
)

// rpc is one WebSocket connection that speaks JSON-RPC 2.0. Its methods may be called at the same time. Close ends its goroutines.
type rpc struct {
	ws   *websocket.Conn
	out  chan *request
	ask  chan struct{} // wants a ping now
	done chan struct{} // closed when the connection is over
	wg   sync.WaitGroup

	mu      sync.Mutex
	last    int64              // guarded by mu
	waiting map[int64]*request // guarded by mu
	err     error              // why it is over; guarded by mu, set before done is closed
}

type request struct {
	raw   []byte
	sent  atomic.Bool // it may have reached the other side
	reply chan *reply // holds one
}

type reply struct {
	ID     *int64          `json:"id"`
	Method string          `json:"method"`
	Result json.RawMessage `json:"result"`
	Error  *rpcError       `json:"error"`
}

// rpcError is an error that TrueNAS answered. It holds no trace: that is not for readers.
type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Data    struct {
		Name   string          `json:"errname"`
		Reason string          `json:"reason"`
		Extra  json.RawMessage `json:"extra"`
	} `json:"data"`
}

func (e *rpcError) Error() string {
	reason := e.Data.Reason
	if reason == "" {
		reason = e.Message
	}
	if e.Data.Name != "" && !strings.Contains(reason, e.Data.Name) {
		reason = "[" + e.Data.Name + "] " + reason
	}
	return strings.TrimSpace(reason)
}

// The errors that mean something to the connection.
const (
	codeBusy     = -32000
	codeNoMethod = -32601
)

// lost is the end of a connection.
type lost struct {
	class string
	why   string
}

func (l *lost) Error() string { return l.why }

func newRPC(ws *websocket.Conn) *rpc {
	ws.SetReadLimit(maxMessage)
	r := &rpc{ws: ws, out: make(chan *request), ask: make(chan struct{}, 1), done: make(chan struct{}), waiting: map[int64]*request{}}
	r.wg.Go(r.read)
	r.wg.Go(r.write)
	r.wg.Go(r.ping)
	return r
}

// end makes the connection one that is over; err says why. Only the first call counts.
func (r *rpc) end(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return
	}
	r.err = err
	close(r.done)
}

// Close ends the connection and waits for its goroutines.
func (r *rpc) Close() {
	r.end(&lost{kit.ClassConnection, "the connection was closed"})
	_ = r.ws.CloseNow()
	r.wg.Wait()
}

func (r *rpc) over() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

func (r *rpc) read() {
	// A connection that is over is not read from any more; this also lets go of the file.
	defer func() { _ = r.ws.CloseNow() }()
	for {
		_, raw, err := r.ws.Read(context.Background()) //nolint:contextcheck // the connection outlives every call; Close ends the read
		if err != nil {
			why := "ended the connection"
			if code := websocket.CloseStatus(err); code >= 0 {
				why = fmt.Sprintf("ended the connection (WebSocket status %d)", code)
			}
			r.end(&lost{kit.ClassConnection, why})
			return
		}
		var m reply
		if err := json.Unmarshal(raw, &m); err != nil {
			r.end(&lost{kit.ClassMalformed, fmt.Sprintf("sent something that is no JSON-RPC (%d bytes)", len(raw))})
			return
		}
		if m.ID == nil {
			continue // a notification, or an error about something that we did not send
		}
		r.mu.Lock()
		req := r.waiting[*m.ID]
		delete(r.waiting, *m.ID)
		r.mu.Unlock()
		if req != nil {
			req.reply <- &m
		}
	}
}

func (r *rpc) write() {
	for {
		select {
		case <-r.done:
			return
		case req := <-r.out:
			req.sent.Store(true)
			// A call's own context must not be used: a write that is broken off ends the connection for all.
			ctx, cancel := context.WithTimeout(context.Background(), writeTime)
			err := r.ws.Write(ctx, websocket.MessageText, req.raw)
			cancel()
			if err != nil {
				r.end(&lost{kit.ClassConnection, "does not take what is sent"})
				_ = r.ws.CloseNow()
				return
			}
		}
	}
}

// ping finds out when the other side is gone without a word.
func (r *rpc) ping() {
	tick := time.NewTicker(keepalive)
	defer tick.Stop()
	for {
		select {
		case <-r.done:
			return
		case <-r.ask:
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(context.Background(), pongTime)
		err := r.ws.Ping(ctx)
		cancel()
		if err != nil {
			r.end(&lost{kit.ClassTimeout, "does not answer any more"})
			_ = r.ws.CloseNow()
			return
		}
	}
}

// suspect has the other side asked whether it is there.
func (r *rpc) suspect() {
	select {
	case r.ask <- struct{}{}:
	default:
	}
}

// call makes one call. Errors are *rpcError, *lost with sent, or that of ctx.
func (r *rpc) call(ctx context.Context, method string, params []any, out any) (sent bool, err error) {
	if params == nil {
		params = []any{}
	}
	req := &request{reply: make(chan *reply, 1)}
	r.mu.Lock()
	r.last++
	id := r.last
	r.waiting[id] = req
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.waiting, id)
		r.mu.Unlock()
	}()
	req.raw, err = json.Marshal(map[string]any{"jsonrpc": "2.0", "id": id, "method": method, "params": params})
	if err != nil {
		return false, fmt.Errorf("%s: %w", method, err)
	}
	select {
	case r.out <- req:
	case <-r.done:
		return false, r.reason()
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	select {
	case m := <-req.reply:
		if m.Error != nil {
			return true, m.Error
		}
		if out == nil {
			return true, nil
		}
		if err := json.Unmarshal(m.Result, out); err != nil {
			return true, &lost{kit.ClassMalformed, fmt.Sprintf("answered %s with something else than its API says: %v", method, err)}
		}
		return true, nil
	case <-r.done:
		return req.sent.Load(), r.reason()
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			r.suspect()
		}
		return req.sent.Load(), context.Cause(ctx)
	}
}

func (r *rpc) reason() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}
