package downstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/mcpgw/mcpgw/downstream/internal/proc"
	"github.com/mcpgw/mcpgw/internal/wire"
)

// receive takes one message that the server sent. The mux owns line from then on: results and params are parts of it. It is
// called by one goroutine at a time, and hands notifications on before it returns. Nothing in line ends the session.
func (m *mux) receive(line []byte) {
	m.heard.Add(1)
	msg, err := wire.Parse(line, m.cfg.limits.Depth)
	if errors.Is(err, wire.ErrBatch) && m.batches() {
		if all, err := wire.Batch(line, m.cfg.limits.Depth); err == nil {
			for _, one := range all {
				m.receive(one)
			}
			return
		}
	}
	if err != nil {
		m.invalid(msg.ID, line, err)
		return
	}
	switch {
	case msg.IsResponse():
		m.response(&msg)
	case msg.IsRequest():
		m.asked(&msg)
	default:
		m.notification(&msg)
	}
}

// batches reports whether the server may send several messages as one array.
func (m *mux) batches() bool {
	p := m.peer()
	return p != nil && p.Revision <= "2025-03-26"
}

// tooLong takes notice of a message that was skipped because of its size.
func (m *mux) tooLong(e *wire.LineTooLongError) {
	m.garbled(recoverID(e.Head, e.Tail), e.Head, e)
}

// invalid takes notice of a line that is not a message. If it is the answer to a call, that call fails, and only that one.
func (m *mux) invalid(id json.RawMessage, line []byte, err error) {
	if id == nil {
		id = recoverID(line, line[max(0, len(line)-64):])
	} else {
		// The line is JSON but no message. A request of the server's with a faulty envelope has an id too, which is not ours.
		wire.Members(line, func(k []byte, _ json.RawMessage) bool {
			if strings.EqualFold(string(k), "method") {
				id = nil
			}
			return id != nil
		})
	}
	m.garbled(id, line, err)
}

func (m *mux) garbled(id json.RawMessage, line []byte, err error) {
	if p := m.take(id); p != nil {
		p.answer <- answer{err: &LostError{Class: "malformed_response", Err: err}}
		return
	}
	if n := m.dropped.garbage.Add(1); often(n) {
		m.log.Warn("line of the server skipped: not a message", "err", err, "line", proc.Clean(string(line[:min(len(line), 200)]), 200), "skipped", n)
	}
}

// often thins out log lines that a server can provoke: it is true for 1 to 10, then for 20, 30, … 100, 200, ….
func often(n int64) bool {
	unit := int64(1)
	for n/unit >= 10 {
		unit *= 10
	}
	return n%unit == 0
}

// drop counts what is thrown away and logs it now and then.
func (m *mux) drop(count *atomic.Int64, reason, method string) {
	if n := count.Add(1); often(n) {
		m.log.Debug("message of the server dropped", "reason", reason, "method", proc.Clean(method, 100), "dropped", n)
	}
}

// take removes and returns the request that id answers, or nil. Our ids are plain integers.
func (m *mux) take(id json.RawMessage) *pending {
	n, err := strconv.ParseInt(string(id), 10, 64)
	if err != nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.calls[n]
	if p != nil {
		delete(m.calls, n)
		if p.own {
			m.own--
		}
	}
	return p
}

// response hands an answer to the caller that waits for it.
func (m *mux) response(msg *wire.Message) {
	p := m.take(msg.ID)
	if p == nil {
		m.drop(&m.dropped.late, "nobody waits for this answer", "")
		if m.o.late != nil {
			m.o.late(msg.Error != nil)
		}
		return
	}
	p.answer <- result(msg)
}

// result reads a valid response.
func result(msg *wire.Message) answer {
	if msg.Error != nil {
		e, err := wire.ParseError(msg.Error)
		if err != nil {
			return answer{err: &LostError{Class: "malformed_response", Err: err}}
		}
		return answer{err: e}
	}
	if !wire.IsObject(msg.Result) {
		return answer{err: &LostError{Class: "malformed_response", Err: &wire.InvalidError{Reason: "result must be an object"}}}
	}
	return answer{result: msg.Result}
}

// notification hands on what the server reports.
func (m *mux) notification(msg *wire.Message) {
	switch msg.Method {
	case "notifications/progress":
		m.progress(msg.Params)
	case "notifications/cancelled":
		m.cancelled(wire.Get(msg.Params, "requestId"))
	case "notifications/subscriptions/acknowledged":
		m.acknowledged(msg.Params)
	case "notifications/message":
		p, several := m.belongsTo()
		switch {
		case several:
			m.drop(&m.dropped.messages, "several clients have calls in flight", msg.Method)
		case p != nil:
			p.tell(msg.Method, msg.Params)
		default:
			m.upcalls.Notify(msg.Method, msg.Params)
		}
	default:
		m.upcalls.Notify(msg.Method, withoutSubscription(msg.Params))
	}
}

// progress hands progress to the call whose token it bears, under the token that the client chose.
func (m *mux) progress(params json.RawMessage) {
	id, err := strconv.ParseInt(string(wire.Get(params, "progressToken")), 10, 64)
	if err != nil {
		id = 0
	}
	m.mu.Lock()
	p := m.calls[id]
	m.mu.Unlock()
	if p == nil {
		m.drop(&m.dropped.progress, "no call in flight has this progress token", "notifications/progress")
		return
	}
	p.mu.Lock()
	token := p.token
	p.mu.Unlock()
	if token == nil {
		m.drop(&m.dropped.progress, "the call wants no progress", "notifications/progress")
		return
	}
	p.tell("notifications/progress", wire.Set(params, "progressToken", token))
}

// belongsTo returns the call that a message without a name on it belongs to: nil if none is in flight. It reports if there are
// several, which may be of different clients. Requests that take nothing, as the gateway's own, are not asked.
func (m *mux) belongsTo() (p *pending, several bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, c := range m.calls {
		if c.stream == nil {
			continue
		}
		n++
		if p == nil || c.id > p.id {
			p = c
		}
	}
	if n > 1 && m.o.shared {
		return nil, true
	}
	return p, false
}

// asked answers what the server asks, in a goroutine: an answer may take a person's time, and a server that does not read must
// not keep us from reading.
func (m *mux) asked(msg *wire.Message) {
	method, params := msg.Method, msg.Params
	always := func(raw json.RawMessage, err error) func(context.Context) (json.RawMessage, error) {
		return func(context.Context) (json.RawMessage, error) { return raw, err }
	}
	nothing := func() {}
	if method == "ping" {
		m.reply(m.ctx, msg.ID, nothing, always(json.RawMessage("{}"), nil))
		return
	}
	p, several := m.belongsTo()
	switch {
	case several:
		m.reply(m.ctx, msg.ID, nothing, always(nil, wire.Errorf(wire.CodeInvalidRequest, "mcpgw: several clients share this session and have "+
			"requests in flight, and %s does not say which of them it is for: set session: per_client for this server", proc.Clean(method, 100))))
	case p == nil:
		m.reply(m.ctx, msg.ID, nothing, func(ctx context.Context) (json.RawMessage, error) {
			return m.o.upcalls.Request(ctx, method, params)
		})
	default:
		ctx, done := p.ask()
		if ctx == nil {
			m.reply(m.ctx, msg.ID, nothing, always(nil, wire.Errorf(wire.CodeInvalidRequest, "mcpgw: the request that %s belongs to is over", proc.Clean(method, 100))))
			return
		}
		m.reply(ctx, msg.ID, done, func(ctx context.Context) (json.RawMessage, error) { return p.stream.Request(ctx, method, params) })
	}
}

// reply runs answer in a goroutine and sends the server what it returns, unless the server has cancelled the request. It calls
// done when answer has returned.
func (m *mux) reply(ctx context.Context, id json.RawMessage, done func(), answer func(context.Context) (json.RawMessage, error)) {
	key := string(id)
	ctx, cancel := context.WithCancelCause(ctx)
	m.mu.Lock()
	_, twice := m.serving[key]
	full := len(m.serving) >= m.cfg.limits.InFlight
	if !twice && !full {
		m.serving[key] = cancel
	}
	m.mu.Unlock()
	if full || twice {
		cancel(nil)
		done()
		m.drop(&m.dropped.requests, "too many requests of the server are being answered, or two with one id", key)
		return
	}
	run := func() {
		defer cancel(nil)
		raw, err := answer(ctx)
		done()
		m.mu.Lock()
		delete(m.serving, key)
		m.mu.Unlock()
		if errors.Is(context.Cause(ctx), errCancelledByServer) {
			return // it does not expect an answer
		}
		if err := m.write(m.ctx, response(id, raw, err)); err != nil {
			m.log.DebugContext(ctx, "the answer to a request of the server could not be sent", "err", err)
		}
	}
	if !m.spawn(run) {
		cancel(nil)
		done()
	}
}

// response returns the answer to a request of the server.
func response(id, raw json.RawMessage, err error) []byte {
	if err == nil {
		return wire.AppendResult(make([]byte, 0, len(id)+len(raw)+64), id, raw)
	}
	var e *wire.Error
	if !errors.As(err, &e) {
		e = wire.Errorf(wire.CodeInternal, "mcpgw: %v", err)
	}
	return wire.AppendError(make([]byte, 0, len(id)+len(e.Message)+len(e.Data)+128), id, e)
}

var errCancelledByServer = errors.New("the server cancelled its request")

// cancelled ends a request of the server's that it no longer wants answered, or a subscription that it ends.
func (m *mux) cancelled(id json.RawMessage) {
	m.mu.Lock()
	cancel := m.serving[string(id)]
	m.mu.Unlock()
	if cancel != nil {
		cancel(errCancelledByServer)
		return
	}
	m.listenCancelled(id)
}

// recoverID returns the id of a response that cannot be parsed, if its beginning or end shows one beyond doubt, else nil. It
// looks only at the outermost object, and wants to see a result or an error but no method there, because the server's requests
// have ids too.
func recoverID(head, tail []byte) json.RawMessage {
	var id json.RawMessage
	answers, asks := false, false
	depth := 0
	for i := 0; i < len(head); i++ {
		switch head[i] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case '"':
			end := stringEnd(head, i)
			if end < 0 {
				i = len(head)
				break
			}
			key := head[i+1 : end]
			i = end
			rest := bytes.TrimLeft(head[end+1:], " \t")
			if depth != 1 || len(rest) == 0 || rest[0] != ':' {
				continue
			}
			switch string(key) {
			case "result", "error":
				answers = true
			case "method":
				asks = true
			case "id":
				if id == nil {
					id = leadingInt(bytes.TrimLeft(rest[1:], " \t"))
				}
			}
		}
	}
	if id == nil {
		if i := bytes.LastIndex(tail, []byte(`"id":`)); i >= 0 {
			rest := bytes.TrimLeft(tail[i+len(`"id":`):], " \t")
			id = leadingInt(rest)
			if end := bytes.TrimSpace(rest[len(id):]); string(end) != "}" {
				id = nil
			}
		}
	}
	if asks || !answers {
		return nil
	}
	return id
}

// stringEnd returns the offset of the quote that ends the string that starts at b[i], or -1.
func stringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

// leadingInt returns the digits that b starts with, or nil.
func leadingInt(b []byte) json.RawMessage {
	n := 0
	for n < len(b) && b[n]-'0' <= 9 {
		n++
	}
	if n == 0 || n == len(b) {
		return nil // the number may go on
	}
	return b[:n]
}
