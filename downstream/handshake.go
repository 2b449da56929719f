package downstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/downstream/internal/proc"
	"github.com/mcpgw/mcpgw/internal/wire"
)

// messenger is a message session on which nothing has been negotiated yet.
type messenger interface {
	// request sends params as they are and waits for the answer. It is never cancelled towards the server: when ctx ends, the
	// answer is no longer waited for.
	request(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error)
	notify(ctx context.Context, method string, params json.RawMessage) error
}

// era remembers between the sessions with one server how its handshake went, so that the next one need not find out again. The
// zero value knows nothing. Its methods may be called at the same time.
type era struct {
	mu     sync.Mutex
	legacy bool // the server does not know server/discover, so initialize is tried first
}

func (e *era) isLegacy() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.legacy
}

func (e *era) setLegacy(legacy bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.legacy = legacy
}

// discoverError reports that the session broke while server/discover was waited for. Some older servers end when a request comes
// before initialize, so another attempt may go straight to initialize.
type discoverError struct{ err error }

func (e *discoverError) Error() string { return "while server/discover was asked: " + e.err.Error() }
func (e *discoverError) Unwrap() error { return e.err }

// negotiate finds the revision to speak and does the handshake, within ctx (specification 2026-07-28, basic/versioning). The
// error is a *[discoverError], a *wire.Error of the server, or one of this package's types.
func negotiate(ctx context.Context, m messenger, o *opening, cfg *Config, e *era) (*peer, error) {
	switch {
	case cfg.Protocol == Modern:
		p, revision, err := discover(ctx, m, o)
		if err == nil && p == nil {
			err = fmt.Errorf("the server does not speak %s, which protocol asks for; it may speak %s", Modern, revision)
		}
		return p, err
	case cfg.Protocol != "auto" && cfg.Protocol != "":
		return initialize(ctx, m, o, cfg.Protocol)
	case e.isLegacy():
		p, err := initialize(ctx, m, o, Legacy)
		if err == nil {
			return p, nil
		}
		e.setLegacy(false)
		if answered := (*wire.Error)(nil); !errors.As(err, &answered) {
			return nil, err
		}
	}
	return probe(ctx, m, o, cfg, e)
}

// discovered is how server/discover ended: a modern peer, the legacy revision to initialize with, or an error.
type discovered struct {
	peer     *peer
	revision string
	err      error
}

// probe asks server/discover, and does the older handshake if the answer shows a legacy server or if none came within
// Timeouts.Discover.
func probe(ctx context.Context, m messenger, o *opening, cfg *Config, e *era) (*peer, error) {
	asking, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	answer := make(chan discovered, 1)
	wg.Go(func() {
		p, revision, err := discover(asking, m, o)
		answer <- discovered{p, revision, err}
	})
	patience := time.NewTimer(cfg.Timeouts.Discover)
	defer patience.Stop()
	revision := Legacy
	select {
	case a := <-answer:
		if a.revision == "" {
			return a.peer, a.err
		}
		revision = a.revision
		answer <- discovered{} // nothing more comes
	case <-patience.C:
	}
	p, err := initialize(ctx, m, o, revision)
	// A server that was slow to start got both requests. If it has answered the first one by now, and as a modern server does, that
	// decides where initialize failed; and where it did not, the next session will do better.
	stop()
	late := (<-answer).peer
	switch {
	case err == nil:
		e.setLegacy(late == nil)
		return p, nil
	case late != nil:
		return late, nil
	}
	return nil, err
}

// discover asks server/discover. A peer means that the server is modern; a revision, that it is to be initialized with that one.
func discover(ctx context.Context, m messenger, o *opening) (*peer, string, error) {
	raw, err := m.request(ctx, "server/discover", discoverParams(o, Modern))
	if err == nil {
		return parseDiscover(raw)
	}
	if answered, ok := errors.AsType[*wire.Error](err); ok {
		return discoverRefused(answered)
	}
	if lost := (*LostError)(nil); errors.As(err, &lost) && lost.Class == "malformed_response" {
		return nil, Legacy, nil
	}
	return nil, "", &discoverError{err}
}

// discoverParams returns the params of server/discover.
func discoverParams(o *opening, revision string) json.RawMessage {
	return append(appendTriple([]byte(`{"_meta":{`), revision, o.info, o.capabilities), '}', '}')
}

// parseDiscover reads the result of server/discover. A peer means that the server is modern; a revision, that it can be spoken to
// only with initialize and that revision. What is not a result of server/discover means a legacy server too.
func parseDiscover(raw json.RawMessage) (*peer, string, error) {
	var supported []string
	if list := wire.Get(raw, "supportedVersions"); !wire.IsArray(list) || json.Unmarshal(list, &supported) != nil {
		return nil, Legacy, nil
	}
	revision := newest(supported)
	if revision == "" {
		return nil, "", noCommonRevision(supported)
	}
	if revision < Modern {
		return nil, revision, nil
	}
	p := &peer{Revision: revision, TTL: wire.Get(raw, "ttlMs")}
	p.describe(raw)
	p.Scope, _ = wire.GetString(raw, "cacheScope")
	if info := wire.Get(wire.Get(raw, "_meta"), MetaServerInfo); info != nil {
		p.Info = info
	}
	return p, "", nil
}

// discoverRefused says what an error answer to server/discover means. Only errors that the modern revisions define show a modern
// server; everything else, whatever its code, means initialize.
func discoverRefused(e *wire.Error) (*peer, string, error) {
	switch e.Code {
	case wire.CodeUnsupportedProtocol:
		var supported []string
		if list := wire.Get(e.Data, "supported"); !wire.IsArray(list) || json.Unmarshal(list, &supported) != nil {
			return nil, Legacy, nil
		}
		switch revision := newest(supported); {
		case revision == "":
			return nil, "", noCommonRevision(supported)
		case revision < Modern:
			return nil, revision, nil
		}
		return nil, "", fmt.Errorf("the server refused revision %s although it lists it: %w", Modern, e)
	case wire.CodeHeaderMismatch, wire.CodeMissingClientCapability:
		return nil, "", fmt.Errorf("the server refused server/discover: %w", e)
	}
	return nil, Legacy, nil
}

// newest returns the newest revision of the list that we know, or "".
func newest(supported []string) string {
	for _, r := range slices.Backward(Revisions) {
		if slices.Contains(supported, r) {
			return r
		}
	}
	return ""
}

func noCommonRevision(supported []string) error {
	return fmt.Errorf("no protocol revision in common: the server speaks %s, the gateway %s",
		proc.Clean(strings.Join(supported, ", "), 200), strings.Join(Revisions, ", "))
}

// initialize does the older handshake with the given revision.
func initialize(ctx context.Context, m messenger, o *opening, revision string) (*peer, error) {
	raw, err := m.request(ctx, "initialize", initializeParams(o, revision))
	if err != nil {
		return nil, fmt.Errorf("initialize: %w", err)
	}
	p, err := parseInitialize(raw)
	if err != nil {
		return nil, err
	}
	if err := m.notify(ctx, "notifications/initialized", nil); err != nil {
		return nil, fmt.Errorf("notifications/initialized: %w", err)
	}
	return p, nil
}

// initializeParams returns the params of initialize.
func initializeParams(o *opening, revision string) json.RawMessage {
	b := wire.AppendString([]byte(`{"protocolVersion":`), revision)
	capabilities, info := o.capabilities, o.info
	if capabilities == nil {
		capabilities = json.RawMessage("{}")
	}
	if info == nil {
		info = json.RawMessage(`{"name":"mcpgw","version":""}`)
	}
	b = append(append(b, `,"capabilities":`...), capabilities...)
	return append(append(append(b, `,"clientInfo":`...), info...), '}')
}

// parseInitialize reads the result of initialize.
func parseInitialize(raw json.RawMessage) (*peer, error) {
	revision, ok := wire.GetString(raw, "protocolVersion")
	switch {
	case !ok:
		return nil, errors.New("the answer to initialize has no protocolVersion: not an MCP server")
	case revision >= Modern || !slices.Contains(Revisions, revision):
		return nil, fmt.Errorf("the server answered initialize with the revision %q, which has no such handshake or is unknown; the gateway speaks %s",
			proc.Clean(revision, 40), strings.Join(Revisions, ", "))
	}
	p := &peer{Revision: revision}
	p.describe(raw)
	return p, nil
}

// describe reads what the results of initialize and server/discover have in common.
func (p *peer) describe(raw json.RawMessage) {
	p.Capabilities = json.RawMessage("{}")
	if c := wire.Get(raw, "capabilities"); wire.IsObject(c) {
		p.Capabilities = c
	}
	if info := wire.Get(raw, "serverInfo"); wire.IsObject(info) {
		p.Info = info
	}
	p.Instructions, _ = wire.GetString(raw, "instructions")
}
