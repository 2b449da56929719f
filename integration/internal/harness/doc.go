// Package harness builds the programs that are proved from outside, runs them as real processes and talks to them over plain
// sockets. It imports nothing of the gateway: what it reads and writes is bytes, so that no type of ours or of an SDK can hide a
// difference.
package harness
