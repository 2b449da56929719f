package gateway

import (
	"bytes"
	"container/list"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/downstream"
	"github.com/mcpgw/mcpgw/internal/wire"
)

// lastGood keeps the last good results of read-only calls to one downstream, within bounds.
type lastGood struct {
	mu    sync.Mutex // guards what follows
	cfg   CacheFallback
	byKey map[string]*list.Element
	used  *list.List // of *goodResult, the latest first
	bytes int
}

type goodResult struct {
	key string
	res downstream.Result
	at  time.Time
}

func (e *goodResult) size() int { return len(e.key) + len(e.res.Raw) + 256 }

func newLastGood() *lastGood { return &lastGood{byKey: map[string]*list.Element{}, used: list.New()} }

// configure changes the bounds. What no longer fits is dropped.
func (l *lastGood) configure(cfg CacheFallback) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cfg = cfg
	l.shrink()
}

// put keeps a result. It copies it: what a server wrote may be part of a larger buffer.
func (l *lastGood) put(key string, res downstream.Result) {
	e := &goodResult{key: key, res: downstream.Result{Raw: bytes.Clone(res.Raw), Modern: res.Modern}, at: time.Now()}
	l.mu.Lock()
	defer l.mu.Unlock()
	if old := l.byKey[key]; old != nil {
		l.drop(old)
	}
	l.byKey[key] = l.used.PushFront(e)
	l.bytes += e.size()
	l.shrink()
}

// get returns a result and its age.
func (l *lastGood) get(key string) (downstream.Result, time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.byKey[key]
	if at == nil {
		return downstream.Result{}, 0, false
	}
	e, _ := at.Value.(*goodResult)
	age := time.Since(e.at)
	if age > l.cfg.MaxAge {
		l.drop(at)
		return downstream.Result{}, 0, false
	}
	l.used.MoveToFront(at)
	return e.res, age, true
}

// shrink drops what was not used for the longest time. It wants mu held.
func (l *lastGood) shrink() {
	for l.used.Len() > l.cfg.MaxEntries || l.bytes > l.cfg.MaxBytes {
		l.drop(l.used.Back())
	}
}

func (l *lastGood) drop(at *list.Element) {
	e, _ := l.used.Remove(at).(*goodResult)
	delete(l.byKey, e.key)
	l.bytes -= e.size()
}

// goodKey names a request: who asks, for what, with which arguments, however these are written. It is "" for what is not kept.
func goodKey(r *request, method, own string, params *wire.Object) string {
	switch method {
	case "tools/call", "prompts/get", "resources/read":
	default:
		return ""
	}
	if params.Get("inputResponses") != nil || params.Get("requestState") != nil {
		return ""
	}
	args, ok := canonical(params.Get("arguments"))
	if !ok {
		return ""
	}
	return strings.Join([]string{r.principal, method, own, args}, "\x00")
}

// canonical writes a JSON value in one way: members sorted, no spaces, numbers as they are.
func canonical(raw json.RawMessage) (string, bool) {
	if raw == nil {
		return "", true
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return "", false
	}
	b, err := json.Marshal(v)
	return string(b), err == nil
}

// good reports whether a result is worth keeping: an answer, and not an error or a question.
func good(res *downstream.Result) bool {
	if !wire.IsObject(res.Raw) || string(wire.Get(res.Raw, "isError")) == "true" {
		return false
	}
	kind, named := wire.GetString(res.Raw, "resultType")
	return !named || kind == "complete"
}
