package random

import (
	"context"
	"fmt"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// answeredHere sends what the gateway answers itself: any valid params will do, and the answer is as the specification wants it.
func (l *lane) answeredHere(ctx context.Context, r *maker) (string, error) {
	var m *message
	if r.chance(60) {
		m = r.request("ping")
	} else {
		m = r.request("logging/setLevel", must("level", text(`"debug"`)))
	}
	all, err := l.through.send(ctx, m.id, m.method, "", m.params(false, ""), nil)
	if err != nil {
		return m.method, err
	}
	last := all[len(all)-1]
	if string(last.Result) != "{}" || string(last.ID) != m.id {
		return m.method, differ("answer", m.id+" {}", fmt.Sprintf("%s %s%s", last.ID, last.Result, last.Error))
	}
	return m.method, nil
}

// sameHandshake compares what a server says of itself with what the client learns, where both speak the same revision.
func (l *lane) sameHandshake(ctx context.Context, r *maker) error {
	m := r.request("server/discover")
	s := l.through
	if !l.newClient {
		m = r.request("initialize", must("protocolVersion", text(`"2025-11-25"`)), must("clientInfo", (*maker).implementation), must("capabilities", func(r *maker) string {
			return r.obj(may("roots", func(r *maker) string { return r.obj(may("listChanged", (*maker).boolean)) }), may("sampling", (*maker).loose), may("experimental", func(r *maker) string { return r.mapOf((*maker).loose) }))
		}))
		old, ok := l.through.(*httpClient)
		if !ok {
			return nil // over stdio there is one handshake, which is over
		}
		fresh := &httpClient{&harness.Client{URL: old.URL}}
		defer fresh.close() //nolint:errcheck // the gateway ends it otherwise
		s = fresh
	}
	all, err := s.send(ctx, m.id, m.method, "", m.params(l.newClient, ""), nil)
	if err != nil {
		return err
	}
	last := all[len(all)-1]
	if last.Error != nil || string(last.ID) != m.id {
		return fmt.Errorf("%s with params %s: %s %s", m.method, m.params(l.newClient, ""), last.ID, last.Error)
	}
	if l.all || l.newClient != l.peer.modern {
		return nil // what many servers, or one of another revision, can do is put together by the gateway
	}
	t, err := parse(string(last.Result))
	if err != nil {
		return err
	}
	info := t.get("serverInfo")
	if l.newClient {
		info = t.get("_meta").get("io.modelcontextprotocol/serverInfo")
	}
	instructions, _ := t.get("instructions").decoded()
	for what, pair := range map[string][2]string{
		"capabilities": {l.peer.capabilities, fmt.Sprint(t.get("capabilities"))}, "serverInfo": {l.peer.info, fmt.Sprint(info)},
		"instructions": {l.peer.instructions, quoted(instructions)},
	} {
		want, err := parse(pair[0])
		if err != nil {
			return err
		}
		if own, ok := want.decoded(); ok {
			*want = tree{raw: quoted(own)}
		}
		if want.String() != pair[1] && !(what == "instructions" && pair[1] == `""`) {
			return differ(what, want.String(), pair[1])
		}
	}
	return nil
}
