package downstream

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// Stream takes what a server says of its own accord: of one call while that call is in flight (in the order in which the server
// said it, and all of it before the call returns), or of a whole session. Its methods may be called by one goroutine at a time.
type Stream interface {
	// Notify hands on a notification. It must not block for long: the server's next message waits for it.
	Notify(method string, params json.RawMessage)
	// Request asks the client on the server's behalf and returns its answer. The error is a *wire.Error for the server. It may
	// block for as long as a person thinks; ctx ends with the call or session.
	Request(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error)
}

// Client is one legacy client session on whose behalf a server session of its own may be opened.
type Client struct {
	ID           string          // names the session in the pool; contains the principal
	Capabilities json.RawMessage // what the client declared
	Info         json.RawMessage // the client's own clientInfo
	Upcalls      Stream          // takes what the server says outside any call
	Shared       bool            // several clients use it: nothing is guessed about whose a message of the server is
	Lost         func()          // called when the server ended the session of its own accord; must not block; may be nil
}

// Call is one request on its way to a server.
type Call struct {
	Method string
	Params json.RawMessage // with the server's own names in it; nil when absent
	Body   *wire.Object    // Params, where its members are known already; nil where they are not
	Target string          // tool or prompt name or resource URI, which Mcp-Name mirrors; "" for none
	Header http.Header     // the client's Mcp-Param-* headers; nil for none
	Trace  http.Header     // traceparent, tracestate and baggage, for servers over HTTP; nil for none
	Client *Client         // nil for a modern client and for the gateway's own requests
	Safe   bool            // making it twice does no harm
	Modern bool            // the client spoke a modern revision, so Params may carry reserved _meta members
	Stream Stream          // takes what the server sends before the answer; nil refuses requests and drops notifications

	// LogLevel is what a modern server is told of a legacy client's log level, which that client set for its session; nil for nothing.
	LogLevel json.RawMessage
}

// Result is a server's successful answer.
type Result struct {
	Raw    json.RawMessage // the result member, as the server wrote it
	Modern bool            // the server spoke a modern revision
	Asks   bool            // it is no answer yet: the server wants input first (resultType "input_required" of a modern server)
}

// peer is what a handshake learnt about a server.
type peer struct {
	Revision     string          // negotiated
	Capabilities json.RawMessage // "{}" if the server sent none
	Info         json.RawMessage // serverInfo; nil if the server sent none
	Instructions string
	TTL          json.RawMessage // ttlMs of server/discover; nil for legacy
	Scope        string          // cacheScope of server/discover
}

func (p *peer) modern() bool { return p.Revision >= Modern }

// link is one live session with a server over some transport. Once it is done it stays so; the owner opens another one. All
// methods may be called at the same time.
type link interface {
	// peer returns what the handshake learnt. It never changes.
	peer() *peer
	// call sends one request and waits for its answer. While it waits, what the server sends for this call goes to c.Stream. When
	// ctx ends, the server is told (notifications/cancelled, or the closing of the stream) and the context's cause is returned,
	// wrapped in a *LostError if the request may have left. The link has rewritten the reserved _meta members and, where it is
	// shared, the progress token.
	//
	// The error is a *wire.Error that the server answered, or one of this package's error types.
	call(ctx context.Context, c *Call) (json.RawMessage, error)
	// notify sends a notification.
	notify(ctx context.Context, method string, params json.RawMessage) error
	// close ends the session in good order, within ctx, and releases all that it holds.
	close(ctx context.Context)
	// done is closed when the session cannot be used any more; err then says why.
	done() <-chan struct{}
	err() error
}

// opening is what a link is opened with.
type opening struct {
	capabilities json.RawMessage   // declared to a legacy server in initialize; "{}" for none
	info         json.RawMessage   // clientInfo
	upcalls      Stream            // takes what belongs to no call; never nil
	shared       bool              // several clients use it: progress tokens must be minted
	doubt        func()            // called when a stream of the link broke, so that the server may be gone; must not block; may be nil
	late         func(failed bool) // called when an answer came that nobody waits for; must not block; may be nil
	listen       bool              // open the standalone stream (legacy GET) or, on a modern server, subscriptions/listen for list changes
}

// opener opens links to one server over its transport.
type opener interface {
	open(ctx context.Context, o opening) (link, error)
	// close releases what all links share.
	close()
}

// subscriber is a link that can ask its server to report changes of single resources, which come as
// notifications/resources/updated to opening.upcalls.
type subscriber interface {
	// subscribe returns when the server has agreed. The error is a *wire.Error if it refuses.
	subscribe(ctx context.Context, uri string) error
	// unsubscribe takes a subscribe back. It is no error if there was none.
	unsubscribe(ctx context.Context, uri string) error
}
