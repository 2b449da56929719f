// Package downstream keeps one MCP server reachable and says what it offers.
//
// A [Server] is one configured server. It opens sessions to it (over stdio, streamable HTTP, legacy HTTP+SSE, or in process), opens
// them again when they break, lists what the server offers into an immutable [Catalog], and carries requests to it as raw JSON.
// What the server says of its own accord returns through [Stream] and [Options]; the package knows nothing of who listens.
package downstream
