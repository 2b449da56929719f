// Package integration proves the built gateway from outside: real processes, real sockets, and on the wire bytes written by hand
// or the official SDK. Its tests need nothing but Go. The programs below it need more: conformance and clients install Node and npm
// packages, bench wants a quiet machine.
package integration
