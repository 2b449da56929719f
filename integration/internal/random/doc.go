// Package random proves transparency with messages that nobody thought of: it makes requests and answers at random from the types of the
// specification, sends each request to a server once directly and once through the gateway, and compares what the server got and what
// the client got, byte for byte but for the rewrites that docs/transparency.md lists.
package random
