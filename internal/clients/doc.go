// Package clients knows the configuration files of MCP clients. It reads the servers that are written in them, as entries of gateway.yaml, and it
// writes the entry for the gateway into them.
//
// Reading is suspicious: what a client was told to approve without asking is never taken over, a text that looks like a secret becomes the name of
// an environment variable, and what has no meaning here is told of. Writing changes nothing but the one entry, to the byte.
package clients
