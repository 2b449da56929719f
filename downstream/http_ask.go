package downstream

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// asks answers what a legacy server asks on one of its streams.
type asks struct {
	l      *httpLink
	stream Stream          // is asked; nil refuses everything
	ctx    context.Context // ends with the call or session that the stream belongs to
	cancel context.CancelFunc
	slots  chan struct{}  // as many as may be answered at the same time
	wg     sync.WaitGroup // of the asking, not of the delivery of answers, which the link waits for
}

const (
	// maxAsks bounds the requests of a server that are being answered for one stream. Further ones wait, and with them the stream.
	maxAsks = 16
	// postPatience bounds the delivery of one answer or notification to a server.
	postPatience = 10 * time.Second
)

func (l *httpLink) newAsks(ctx context.Context, s Stream) *asks {
	a := &asks{l: l, stream: s, slots: make(chan struct{}, maxAsks)}
	a.ctx, a.cancel = context.WithCancel(ctx)
	return a
}

// end gives up what is not answered yet, and waits for that. Nothing is asked after it.
func (a *asks) end() {
	a.cancel()
	a.wg.Wait()
}

// answer has the server's request m answered in a goroutine. It blocks while too many are.
func (a *asks) answer(m *wire.Message) {
	l := a.l
	if l.modern() {
		l.drop(a.ctx, "a request of a modern server, which may only answer", []byte(m.Method))
		return
	}
	select {
	case a.slots <- struct{}{}:
	case <-a.ctx.Done():
		return
	}
	ctx, cancel := context.WithCancel(a.ctx)
	forget := l.asked.remember(string(m.ID), cancel)
	a.wg.Add(1)
	started := l.spawn(func() {
		defer func() {
			cancel()
			<-a.slots
		}()
		answer := answerTo(ctx, a.stream, m)
		forget()
		a.wg.Done()
		if ctx.Err() != nil {
			return // the server took it back, or the call is over
		}
		// The server may end the call before it has taken note of this answer.
		if err := l.post(context.WithoutCancel(ctx), l.header, answer); err != nil {
			l.log.WarnContext(ctx, "an answer did not reach the server", "method", m.Method, "err", err)
		}
	})
	if !started {
		forget()
		cancel()
		a.wg.Done()
		<-a.slots
	}
}

// answerTo has s answer the request m and returns the response.
func answerTo(ctx context.Context, s Stream, m *wire.Message) []byte {
	var result json.RawMessage
	var err error
	switch {
	case m.Method == "ping":
		result = json.RawMessage("{}")
	case s == nil:
		err = wire.Errorf(wire.CodeMethodNotFound, "mcpgw: %s cannot be asked here: there is no client to ask", m.Method)
	default:
		result, err = s.Request(ctx, m.Method, m.Params)
	}
	if err == nil && result == nil {
		err = errors.New("no result")
	}
	if err != nil {
		rpc, ok := errors.AsType[*wire.Error](err)
		if !ok {
			rpc = wire.Errorf(wire.CodeInternal, "mcpgw: %s could not be answered: %v", m.Method, err)
		}
		return wire.AppendError(nil, m.ID, rpc)
	}
	return wire.AppendResult(make([]byte, 0, len(result)+len(m.ID)+48), m.ID, result)
}

// asked holds the server's requests on a session that are being answered. A server may take one back on another stream.
type asked struct {
	mu     sync.Mutex
	cancel map[string]context.CancelFunc // by id; guarded by mu
}

// remember notes how to give up the request id, until the function returned is called.
func (a *asked) remember(id string, cancel context.CancelFunc) (forget func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cancel == nil {
		a.cancel = map[string]context.CancelFunc{}
	}
	a.cancel[id] = cancel
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.cancel, id)
	}
}

// takenBack gives up the request that the params of notifications/cancelled name.
func (a *asked) takenBack(params json.RawMessage) {
	id := wire.Get(params, "requestId")
	a.mu.Lock()
	cancel := a.cancel[string(id)]
	a.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// post sends a message that is not a request.
func (l *httpLink) post(ctx context.Context, header http.Header, body []byte) error {
	ctx, cancel := context.WithTimeoutCause(ctx, postPatience, context.DeadlineExceeded)
	defer cancel()
	resp, err := l.client.do(ctx, http.MethodPost, header, body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		err := l.client.refused(ctx, resp, nil, l.session != "")
		l.noteLost(err)
		return err
	}
	// 202 has no body; some servers answer 200 with one that means nothing.
	l.client.drain(resp.Body)
	return nil
}
