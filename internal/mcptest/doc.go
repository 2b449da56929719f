// Package mcptest gives tests real MCP servers that do what a test wants, also wrong things.
//
//   - [NewServer] is a server made with the official SDK, with tools that echo, wait, fail, ask the client and report, and with resources,
//     templates, prompts and completion. It counts what happens to it, so that tests wait for events and never for time. It is
//     served by [Server.HTTP], [Server.Modern], [Server.SSE] and [Server.Memory].
//   - [Endpoint] is what an HTTP server is reached at. It records requests, answers some of them with faults, forgets sessions,
//     and goes away and comes back at the same address.
//   - [Script] is a server that answers raw bytes, for what the SDK would never say. [Hostile] is one that says the worst.
//   - [Refusing], [Hanging] and [Garbage] are addresses at which there is no server to speak of.
//   - [Command] starts the test's own binary as a server over stdio, with faults of processes; it needs [Main] in TestMain. The same
//     server is the program integration/testserver. [Run] documents its flags.
//   - [Connect] is a client made with the official SDK.
//
// What a test makes here ends with the test.
package mcptest
