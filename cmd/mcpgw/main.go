// Command mcpgw is a gateway for the Model Context Protocol: one endpoint in front of many MCP servers.
package main

import (
	"context"
	"os"

	"github.com/mcpgw/mcpgw/downstream"
)

func main() {
	downstream.MaybeReaper() // does not return in a process that only looks after a child
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
